//! Targets of the suite that are played in a virtual machine: what its script is given, and what becomes of what it leaves.
//! The script is another one here, which runs the program on this machine, on emulated targets that it gives other names.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bpfdev_compat::conformance::report::{Outcome, Report};

/// `$kernel` is what the machine's kernel calls itself, `$extra` goes to the program.
const RUNS_HERE: &str = r#"
while [ $# -gt 0 ]; do
    case $1 in
        -T) shift 2 ;;
        -o) out=$2 && shift 2 ;;
        -f) [ -e "$2" ] || exit 125; shift 2 ;;
        *) break ;;
    esac
done
program=$1 && shift
words=$(printf '%s\n' "$@" | sed -e 's/^\(cuse\|device\):/emulated:/' -e "s|^/out$|$out|")
status=0
# shellcheck disable=SC2086
"$program" $words $extra || status=$?
sed -i -e 's/"emulated:/"device:/' -e "s/\"kernel\": .*/\"kernel\": \"$kernel\",/" "$out/report.json"
exit $status
"#;

/// A directory with a script, and for a report. Gone when it is dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str, script: &str) -> Dir {
        let dir =
            Dir(std::env::temp_dir().join(format!("bpfdev-machine-test-{}-{name}", std::process::id())));
        fs::create_dir_all(&dir.0).unwrap();
        fs::write(dir.script(), format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(dir.script(), fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    fn script(&self) -> PathBuf {
        self.0.join("run")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpfdev-compat"));
        command.arg("run").args(arguments).arg("--out").arg(self.0.join("report"));
        command.env("BPFDEV_VM_RUN", self.script()).output().unwrap()
    }

    fn report(&self) -> Report {
        Report::from_json(&fs::read_to_string(self.0.join("report/report.json")).unwrap()).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn reasons(report: &Report, target: &str) -> Vec<String> {
    let cells = report.cells.iter().filter(|cell| cell.target == target);
    cells
        .map(|cell| match &cell.outcome {
            Outcome::Skipped { reason } => reason.clone(),
            other => panic!("{target} {}: {other:?}", cell.case),
        })
        .collect()
}

#[test]
fn cells_of_the_machine_are_those_of_its_targets() {
    let dir = Dir::new("cells", &format!("kernel=6.1.0-test extra=\n{RUNS_HERE}"));
    let output =
        dir.run(&["--on", "fuse-6.1:netbsd", "emulated:netbsd", "--max-skipped", "0", "--case", "read::*"]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let report = dir.report();
    let names: Vec<_> = report.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["emulated:netbsd", "fuse-6.1:netbsd"]);
    assert!(
        report.targets[1].about.ends_with("in a virtual machine with Linux 6.1.0-test"),
        "{:?}",
        report.targets
    );
    assert!(report.cases.len() > 20 && report.cells.len() == 2 * report.cases.len());
    for case in &report.cases {
        let [here, there] =
            names.as_slice().iter().map(|name| report.cell(&case.id, name).unwrap()).collect::<Vec<_>>()[..]
        else {
            panic!("two targets")
        };
        assert_eq!(here.outcome, there.outcome, "{}", case.id);
        assert_eq!(here.checks.len(), there.checks.len(), "{}", case.id);
    }
    let junit = fs::read_to_string(dir.0.join("report/junit.xml")).unwrap();
    assert!(junit.contains("<testsuite name=\"fuse-6.1:netbsd\""));
}

#[test]
fn a_kind_chooses_all_its_targets_and_a_failure_there_is_one_here() {
    let dir = Dir::new("kind", &format!("kernel=6.1.9 extra='--break errno'\n{RUNS_HERE}"));
    let output = dir.run(&["--on", "fuse-6.1", "--case", "ioctl::gdlt_without_interface"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let report = dir.report();
    assert_eq!((report.targets.len(), report.totals().failed), (7, 7));
    let said = text(&output.stdout);
    assert!(said.contains("FAIL fuse-6.1:openbsd ioctl::gdlt_without_interface: "), "{said}");
}

#[test]
fn another_kernel_than_the_targets_is_skipped_with_its_name() {
    let dir = Dir::new("kernel", &format!("kernel=6.12.3 extra=\n{RUNS_HERE}"));
    let output = dir.run(&["--on", "fuse-6.1:macos", "--case", "read::*", "--max-skipped", "0"]);
    assert_eq!(output.status.code(), Some(1), "--max-skipped 0");
    let said = text(&output.stdout);
    assert!(said.contains("skipped fuse-6.1:macos: the virtual machine's kernel is 6.12.3\n"), "{said}");
    let reasons = reasons(&dir.report(), "fuse-6.1:macos");
    assert!(reasons.iter().all(|reason| reason == "the virtual machine's kernel is 6.12.3"), "{reasons:?}");
}

#[test]
fn without_a_machine_every_cell_is_skipped_with_the_reason_and_counted() {
    let dir = Dir::new("none", "echo 'some words' >&2\necho 'skipped: no such package' >&2\nexit 77");
    for (most, status) in [(&[][..], 0), (&["--max-skipped", "7"], 0), (&["--max-skipped", "6"], 1)] {
        let output = dir.run(&[&["--on", "fuse-6.1"], most].concat());
        assert_eq!(output.status.code(), Some(status), "{most:?}");
        let (report, said) = (dir.report(), text(&output.stdout));
        assert_eq!(report.totals().skipped, 7 * report.cases.len());
        assert!(said.contains("skipped fuse-6.1:linux: no virtual machine: no such package\n"), "{said}");
        assert_eq!(said.lines().last().unwrap(), report.totals().to_string());
        let reasons = reasons(&report, "fuse-6.1:linux");
        assert!(reasons.iter().all(|reason| reason == "no virtual machine: no such package"), "{reasons:?}");
    }
    fs::remove_file(dir.script()).unwrap();
    assert!(dir.run(&["--on", "fuse-6.1:linux"]).status.success());
    assert!(reasons(&dir.report(), "fuse-6.1:linux")[0].contains(&dir.script().display().to_string()));
}

#[test]
fn a_machine_that_leaves_no_report_has_failed() {
    let dir = Dir::new("broken", "echo 'the kernel panics'\necho 'vm/run: it ended' >&2\nexit 125");
    let output = dir.run(&["--on", "fuse-6.1:linux", "--case", "read::zero_bytes"]);
    assert_eq!(output.status.code(), Some(1));
    let outcome = dir.report().cells[0].outcome.clone();
    let Outcome::Failed { seen, .. } = outcome else { panic!("{outcome:?}") };
    assert!(seen.contains("125") && seen.contains("the kernel panics | vm/run: it ended"), "{seen}");
}

#[test]
fn cases_of_the_users_go_there_and_programs_do_not() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/own");
    let dir = Dir::new("user", &format!("kernel=6.1.0 extra=\n{RUNS_HERE}"));
    let of_the_users = ["--cases", cases.to_str().unwrap(), "--program", "true"];
    let output = dir.run(&[&["--on", "fuse-6.1:netbsd", "--case", "*::*"], &of_the_users[..]].concat());
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let report = dir.report();
    let user: Vec<_> = report.cells.iter().filter(|cell| cell.case.starts_with("user::")).collect();
    assert!(user.iter().any(|cell| cell.outcome == Outcome::Passed), "{user:?}");
    let program = &report.cell("program::true", "fuse-6.1:netbsd").unwrap().outcome;
    assert!(matches!(program, Outcome::Skipped { reason } if reason.contains("program")), "{program:?}");
    assert_eq!(report.cells.len(), report.cases.len());
}
