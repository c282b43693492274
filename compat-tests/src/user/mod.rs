//! The suite for a user's own code: cases of theirs in the recordings' format, and a program whose captures are compared.

pub mod capture;
pub mod cases;
pub mod program;
pub mod record;
pub mod traffic;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bpfdev_core::abi::Abi;

use crate::conformance::report::{CaseInfo, Cell, Outcome, TargetInfo};

/// What of the user's own is run.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct UserArgs {
    /// Play these cases too: a file, or a directory of .json and .jsonl files, in the format of recorded answers
    /// (compat-tests/oracle/README.md). May be repeated
    #[arg(long, value_name = "PATH", help_heading = "Your own code")]
    cases: Vec<PathBuf>,
    /// Run this program on every device, and compare the packets it writes with those that were sent. It is started by
    /// `sh -c` with BPF_DEVICE (the node to open), BPF_INTERFACE (what to capture from), BPF_COUNT (how many packets there
    /// will be) and BPF_OUTPUT (the pcap or pcapng file to write; standard output will do), and gets SIGINT when all was
    /// sent. May be repeated
    #[arg(long, value_name = "CMD", help_heading = "Your own code")]
    program: Vec<String>,
    /// How long the program may take, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, help_heading = "Your own code",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    ends: Ends,
}

/// Two interfaces of this machine.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Ends {
    /// An interface at one end of a wire (of an epair, of a pair of taps), to capture from
    #[arg(long, value_name = "IF", requires = "inject", help_heading = "Your own code")]
    pub observe: Option<String>,
    /// The interface at the other end, to send from
    #[arg(long, value_name = "IF", requires = "observe", help_heading = "Your own code")]
    pub inject: Option<String>,
}

impl Ends {
    /// Both, where they are said.
    pub fn both(&self) -> Option<(&str, &str)> {
        self.observe.as_deref().zip(self.inject.as_deref())
    }
}

/// The user's cases and programs, ready to be run.
#[derive(Debug)]
pub struct User {
    cases: Vec<cases::UserCase>,
    programs: Vec<String>,
    timeout: Duration,
    ends: Ends,
}

impl UserArgs {
    /// The case files, and directories of them.
    pub fn files(&self) -> &[PathBuf] {
        &self.cases
    }

    /// Reads the case files.
    ///
    /// # Errors
    /// A file that cannot be read, is of another format or version, or has an operation that is not known.
    pub fn load(&self) -> anyhow::Result<User> {
        let cases = cases::load(&self.cases)?;
        let timeout = Duration::from_secs(self.timeout);
        Ok(User { cases, programs: self.program.clone(), timeout, ends: self.ends.clone() })
    }
}

/// What the id of a program's row begins with.
const PROGRAM: &str = "program::";

fn program_id(command: &str) -> String {
    format!("{PROGRAM}{command}")
}

/// Whether this row is a program's.
pub fn is_program(id: &str) -> bool {
    id.starts_with(PROGRAM)
}

impl User {
    /// There is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty() && self.programs.is_empty()
    }

    /// Keeps what has one of these ids.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.cases.retain(|case| wanted(&case.id));
        self.programs.retain(|command| wanted(&program_id(command)));
    }

    /// The report's rows.
    pub fn infos(&self) -> Vec<CaseInfo> {
        let cases = self.cases.iter().map(|case| CaseInfo {
            id: case.id.clone(),
            title: case.title.clone(),
            rule: case.rule.clone(),
        });
        let programs = self.programs.iter().map(|command| CaseInfo {
            id: program_id(command),
            title: "the program writes the packets that were sent".into(),
            rule: "what a packet capture of this project gets of the same traffic".into(),
        });
        cases.chain(programs).collect()
    }

    /// Runs everything on each of these targets: a cell for each pair, targets first. To be called by the main thread when
    /// no other starts processes.
    pub fn play(&self, targets: &[TargetInfo]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for target in targets {
            cells.extend(cases::play(&self.cases, target, &self.ends));
            for command in &self.programs {
                let begin = Instant::now();
                let outcome = program::play(command, target, self.timeout, &self.ends);
                cells.push(cell(target, program_id(command), outcome, begin));
            }
        }
        cells
    }
}

fn cell(target: &TargetInfo, case: String, outcome: Outcome, begin: Instant) -> Cell {
    let duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    Cell { target: target.name.clone(), case, outcome, checks: Vec::new(), duration_ms }
}

/// What kind of target this is, and its dialect.
fn kind(target: &TargetInfo) -> (&str, Option<&'static Abi>) {
    let (kind, system) = target.name.split_once(':').unwrap_or((&target.name, ""));
    (kind, Abi::by_name(system).or_else(|| Abi::by_name(target.system.name())))
}

/// Where a system's own nodes are.
const DEV: &str = "/dev";

fn dev() -> &'static Path {
    Path::new(DEV)
}

fn skipped(reason: impl Into<String>) -> Outcome {
    Outcome::Skipped { reason: reason.into() }
}

/// Why the native target is skipped.
const NO_ENDS: &str = "--observe and --inject do not say which interfaces are the two ends of a wire";
