//! `cuse:DIALECT` where this kernel has no CUSE, and `fuse-6.1:DIALECT`: targets in a virtual machine.
//!
//! `compat-tests/vm/run` boots the machine, which runs this same program on targets of its own; the cells of its report become
//! those of the targets here. One machine plays them all. The environment's BPFDEV_VM_RUN names another script to boot it with.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::Context;

use super::Available;
use crate::conformance::report::{CaseInfo, Cell, Outcome, Report, TargetInfo};
use crate::conformance::system::System;
use crate::user::is_program;

/// What boots the machine.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vm/run");
/// Names another one.
const SCRIPT_VARIABLE: &str = "BPFDEV_VM_RUN";
/// The script's status when no machine can be had; its last line says why, behind this word.
const CANNOT: i32 = 77;
const WHY: &str = "skipped: ";
/// How long all of it may take, seconds: some ten times what it takes.
const LIMIT: &str = "1200";
/// Targets that play at once in there: it has one processor, an emulated one.
const AT_ONCE: &str = "3";
/// Lines of what was said that are shown when there is no report.
const LINES: usize = 5;

/// A target that is played elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    kind: &'static str,
    /// What the machine calls this kind.
    there: &'static str,
    /// How the version of its kernel must begin.
    kernel: &'static str,
    system: System,
}

/// Character devices.
pub fn cuse(system: System) -> Available {
    Available::away(Away { kind: "cuse", there: "cuse", kernel: "", system })
}

/// The device through FUSE, under a kernel as old as any that is covered.
pub fn older_fuse(system: System) -> Available {
    Available::away(Away { kind: "fuse-6.1", there: "device", kernel: "6.1.", system })
}

/// What is to be played.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The rows of the report.
    pub rows: &'a [CaseInfo],
    /// The ids that were asked for.
    pub case: &'a str,
    /// Files of the user's cases.
    pub files: &'a [PathBuf],
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// The targets, as they were asked for.
    pub targets: Vec<TargetInfo>,
    /// A cell for each of them and each row.
    pub cells: Vec<Cell>,
    /// Targets that cannot be had here, and why.
    pub missing: Vec<(String, String)>,
}

impl Away {
    /// `KIND:SYSTEM`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.kind, self.system.name())
    }

    fn name_there(&self) -> String {
        format!("{}:{}", self.there, self.system.name())
    }
}

/// What the script came to.
enum Came {
    Back(Box<Report>),
    /// There is no machine.
    Skipped(String),
    /// It went wrong.
    Failed(String),
}

/// Plays all of it in one machine.
///
/// # Errors
/// The script cannot be started, and what it left cannot be read.
pub fn play(away: &[Away], order: Order<'_>) -> anyhow::Result<Played> {
    let mut played = Played::default();
    if away.is_empty() {
        return Ok(played);
    }
    let came = if order.rows.iter().all(|row| is_program(&row.id)) {
        Came::Skipped(NO_PROGRAMS.into())
    } else {
        in_machine(away, order)?
    };
    for target in away {
        let about = match &came {
            Came::Back(report) => about(target, report),
            Came::Skipped(_) | Came::Failed(_) => "the device in a virtual machine".to_owned(),
        };
        let name = target.name();
        if let Err(Outcome::Skipped { reason }) = target.report(&came) {
            played.missing.push((name.clone(), reason));
        }
        let cells = order.rows.iter().map(|row| target.cell(&row.id, &came));
        played.cells.extend(cells);
        played.targets.push(TargetInfo { name, about, system: target.system });
    }
    Ok(played)
}

/// Why a program is not run there.
const NO_PROGRAMS: &str = "a program of yours is not taken into the virtual machine";

fn about(target: &Away, report: &Report) -> String {
    let there = report.targets.iter().find(|info| info.name == target.name_there());
    let about = there.map_or("the device", |info| &info.about);
    format!("{about}, in a virtual machine with Linux {}", report.machine.kernel)
}

impl Away {
    /// The report, or what each cell comes to without one.
    fn report<'a>(&self, came: &'a Came) -> Result<&'a Report, Outcome> {
        match came {
            Came::Back(report) if report.machine.kernel.starts_with(self.kernel) => Ok(report),
            Came::Back(report) => Err(Outcome::Skipped {
                reason: format!("the virtual machine's kernel is {}", report.machine.kernel),
            }),
            Came::Skipped(reason) => Err(Outcome::Skipped { reason: reason.clone() }),
            Came::Failed(seen) => Err(Outcome::Failed {
                step: "running the virtual machine".into(),
                expected: "a report".into(),
                seen: seen.clone(),
            }),
        }
    }

    fn cell(&self, case: &str, came: &Came) -> Cell {
        let target = self.name();
        let without = |outcome| Cell {
            target: target.clone(),
            case: case.to_owned(),
            outcome,
            checks: Vec::new(),
            duration_ms: 0,
        };
        match self.report(came) {
            Err(outcome) => without(outcome),
            Ok(_) if is_program(case) => without(Outcome::Skipped { reason: NO_PROGRAMS.into() }),
            Ok(report) => match report.cell(case, &self.name_there()) {
                Some(cell) => Cell { target: target.clone(), ..cell.clone() },
                None => without(Outcome::Failed {
                    step: "running the virtual machine".into(),
                    expected: "a cell of its report".into(),
                    seen: "none".into(),
                }),
            },
        }
    }
}

fn in_machine(away: &[Away], order: Order<'_>) -> anyhow::Result<Came> {
    let script = std::env::var_os(SCRIPT_VARIABLE).unwrap_or_else(|| SCRIPT.into());
    if !Path::new(&script).exists() {
        let what = "is not there: the virtual machine is run from the source tree this program was built in";
        return Ok(Came::Skipped(format!("{} {what}", script.display())));
    }
    let out = Scratch::new()?;
    // It ends with us: an emulated machine that nobody waits for would go on for its whole time.
    #[cfg(target_os = "linux")]
    let mut command = bpfdev::cli::launch::dying_with_us(&script);
    #[cfg(not(target_os = "linux"))]
    let mut command = std::process::Command::new(&script);
    command.args(["-T", LIMIT, "-o"]).arg(&out.0);
    let mut files = Vec::new();
    for file in order.files {
        let file = file.canonicalize().with_context(|| file.display().to_string())?;
        command.arg("-f").arg(&file);
        files.push(file);
    }
    command.arg(std::env::current_exe()?).args(arguments(away, order.case, &files));
    eprintln!("running a virtual machine for {} targets: it takes some minutes", away.len());
    let output = command.output().with_context(|| format!("starting {}", script.display()))?;
    came(&output, &out.0.join("report.json"))
}

/// The command line of this program in the machine.
fn arguments(away: &[Away], case: &str, files: &[PathBuf]) -> Vec<OsString> {
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut arguments = words(&["run", "--out", "/out", "--at-once", AT_ONCE, "--case", case]);
    for file in files {
        arguments.extend([OsStr::new("--cases").into(), file.into()]);
    }
    arguments.push("--on".into());
    arguments.extend(away.iter().map(|target| target.name_there().into()));
    arguments
}

fn came(output: &Output, report: &Path) -> anyhow::Result<Came> {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    if output.status.code() == Some(CANNOT)
        && let Some(why) = lines.last().and_then(|line| line.strip_prefix(WHY))
    {
        return Ok(Came::Skipped(format!("no virtual machine: {why}")));
    }
    if report.exists() {
        let text = std::fs::read_to_string(report).context("the virtual machine's report")?;
        return Ok(Came::Back(Box::new(Report::from_json(&text).context("the virtual machine's report")?)));
    }
    let tail = lines[lines.len().saturating_sub(LINES)..].join(" | ");
    Ok(Came::Failed(format!("none ({}): {tail}", output.status)))
}

/// A directory for what the machine leaves. Dropping it removes it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Scratch> {
        let dir = std::env::temp_dir().join(format!("bpfdev-machine-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("bpfdev-compat: removing {}: {error}", self.0.display());
        }
    }
}
