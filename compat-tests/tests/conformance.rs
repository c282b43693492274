//! The conformance suite, over every target of this machine (root), and over emulations that are broken on purpose.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bpfdev_compat::conformance::report::{Outcome, Report};
use serial_test::serial;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bpfdev-compat")).arg("run").args(arguments).output().unwrap()
}

/// The same with a device that has given up these capabilities, by a process that has only those `kept` of its own.
fn run_without(given_up: &[&str], kept: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set={kept}")).arg("--inh-caps=-all");
    command.arg(env!("CARGO_BIN_EXE_bpfdev-compat")).arg("run").args(arguments);
    let options: Vec<_> = given_up.iter().map(|capability| format!("--give-up {capability}")).collect();
    command.env("BPFDEV_COMPAT_SERVE", options.join(" ")).output().unwrap()
}

/// A directory for a report, gone when it is dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        Dir(std::env::temp_dir().join(format!("bpfdev-conformance-report-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn report(&self) -> Report {
        Report::from_json(&std::fs::read_to_string(self.0.join("report.json")).unwrap()).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

/// Runs the suite on these targets: nothing fails, and the report is whole.
fn passes(name: &str, on: &str, targets: usize) -> Report {
    passes_by(name, on, targets, run)
}

fn passes_by(name: &str, on: &str, targets: usize, run: impl FnOnce(&[&str]) -> Output) -> Report {
    let dir = Dir::new(name);
    let output = run(&["--on", on, "--out", dir.path()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{errors}");
    assert!(last_line(&output).contains(" passed, 0 failed, "), "{said}");
    let report = dir.report();
    assert_eq!(report.targets.len(), targets);
    assert!(report.cases.len() >= 150, "{}", report.cases.len());
    assert_eq!(report.cells.len(), report.targets.len() * report.cases.len(), "every cell is there, once");
    for target in &report.targets {
        for case in &report.cases {
            assert!(report.cell(&case.id, &target.name).is_some(), "{} on {}", case.id, target.name);
        }
    }
    assert_eq!(report.totals().to_string(), last_line(&output));
    let junit = std::fs::read_to_string(dir.0.join("junit.xml")).unwrap();
    assert_eq!(junit.matches("<testsuite ").count(), targets);
    assert_eq!(junit.matches("<testcase ").count(), report.cells.len());
    assert_eq!(junit.matches("<failure ").count(), 0);
    report
}

fn root() {
    assert!(nix::unistd::geteuid().is_root(), "this needs root: it mounts, and makes namespaces");
}

#[test]
fn emulated_in_every_dialect() {
    let report = passes("emulated", "emulated:*", 7);
    for cell in report.cells.iter().filter(|cell| matches!(cell.outcome, Outcome::Passed)) {
        assert!(!cell.checks.is_empty(), "{} on {} compares nothing", cell.case, cell.target);
    }
}

/// Everything at once, as a user runs it. What needs CUSE or an older kernel .ci/vm runs.
#[test]
#[serial]
fn every_target_over_this_kernel() {
    root();
    let report = passes("all", "emulated,packet-socket,device", 21);
    // what is skipped is what a system has not: the same on each of its targets
    for case in &report.cases {
        for dialect in ["linux", "freebsd", "netbsd", "netbsd7", "openbsd", "dragonfly", "macos"] {
            let skipped = ["emulated", "packet-socket", "device"].map(|kind| {
                let cell = report.cell(&case.id, &format!("{kind}:{dialect}")).unwrap();
                matches!(cell.outcome, Outcome::Skipped { .. })
            });
            assert!(skipped.iter().all(|is| *is == skipped[0]), "{} in {dialect}: {skipped:?}", case.id);
        }
    }
}

/// What each capability is needed for is another test's (`device/privilege.rs`): for nothing that the suite asks. But for
/// CAP_SYS_ADMIN, without which no client in another network is served, and each stage has its own.
#[test]
#[serial]
fn the_device_without_every_capability_that_can_be_given_up() {
    root();
    let skips = |report: &Report| {
        let skipped = report.cells.iter().filter(|cell| matches!(cell.outcome, Outcome::Skipped { .. }));
        skipped.map(|cell| (cell.target.clone(), cell.case.clone())).collect::<Vec<_>>()
    };
    let given_up = ["net-admin", "kill", "bpf"];
    let first = passes_by("given-up", "device:*", 7, |arguments| run_without(&given_up, "+all", arguments));
    // who has a capability that the daemon has not is not served without CAP_SYS_PTRACE: that is for clients that have none
    let given_up = ["sys-ptrace", "kill", "bpf"];
    let kept = "-all,+net_raw,+net_admin,+sys_admin";
    let second = passes_by("no-ptrace", "device:*", 7, |arguments| run_without(&given_up, kept, arguments));
    assert_eq!(skips(&first), skips(&second), "nothing else is skipped");
}

#[test]
fn a_broken_emulation_turns_the_suite_red() {
    for (how, case) in [
        ("header-length", "record::hdrlen"),
        ("order", "record::order"),
        ("counter", "counters::received"),
        ("errno", "ioctl::gdlt_without_interface"),
        ("readiness", "ready::immediate"),
        ("padding", "record::last_is_not_padded"),
    ] {
        let dir = Dir::new(how);
        let output = run(&["--on", "emulated:*", "--break", how, "--out", dir.path()]);
        assert_eq!(output.status.code(), Some(1), "{how}: {}", last_line(&output));
        let report = dir.report();
        for target in &report.targets {
            let outcome = &report.cell(case, &target.name).unwrap().outcome;
            assert!(
                matches!(outcome, Outcome::Failed { .. }),
                "{how}, {case} on {}: {outcome:?}",
                target.name
            );
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = said.lines().filter(|line| line.starts_with("FAIL ")).count();
        assert_eq!(lines, report.totals().failed, "{how}: one line a failed cell");
        let junit = std::fs::read_to_string(dir.0.join("junit.xml")).unwrap();
        assert_eq!(junit.matches("<failure ").count(), report.totals().failed, "{how}");
    }
}

#[test]
fn wrong_usage_is_one_line_and_status_2() {
    for (arguments, says) in [
        (&["--on", "moon"][..], "emulated:linux"),
        (&["--on", "emulated:plan9"], "emulated:linux"),
        (&["--case", "no::such"], "no::such"),
        (&["--break", "everything", "--on", "emulated:linux"], "padding"),
    ] {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.lines().count() == 1 && said.contains(says), "{arguments:?}: {said}");
        assert!(!Path::new("bpfdev-report").exists(), "{arguments:?} writes nothing");
    }
}

#[test]
fn targets_and_cases_are_chosen() {
    let dir = Dir::new("chosen");
    let on = ["--on", "emulated:netbsd", "emulated:mac*", "--case", "validate::ret_*", "--out", dir.path()];
    let output = run(&on);
    assert!(output.status.success(), "{}", last_line(&output));
    let report = dir.report();
    let names: Vec<_> = report.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["emulated:netbsd", "emulated:macos"]);
    assert!(report.cases.iter().all(|case| case.id.starts_with("validate::ret_")));
    assert_eq!((report.schema.name.as_str(), report.schema.version), ("bpfdev-report", 1));
    assert_eq!(
        (report.machine.os.as_str(), report.machine.bpfdev.as_str()),
        ("Linux", env!("CARGO_PKG_VERSION"))
    );
}
