//! The virtual machine that has /dev/cuse.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::harness::{self, Case};
use crate::node::client_program;
use crate::program::{BUILT, bpfdev};

/// The status that vm/run ends with where there can be no machine.
const NO_MACHINE: i32 = 77;
/// What runs of this system, beside ours: busybox has less of them.
const TOOLS: [&str; 3] = ["setpriv", "unshare", "mount"];
/// Seconds the cases may take; the processor is emulated.
const LIMIT: &str = "900";

/// This system has it, and lets us.
pub fn has_cuse() -> bool {
    fs::OpenOptions::new().read(true).write(true).open("/dev/cuse").is_ok()
}

/// A copy without the compiler's notes, which are most of a program; itself where they cannot be taken off.
fn slim(program: &Path) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuse");
    fs::create_dir_all(&dir).unwrap();
    let copy = dir.join(program.file_name().unwrap());
    let stripped = Command::new("strip").arg("--strip-debug").arg("-o").args([&copy, program]).status();
    if stripped.is_ok_and(|status| status.success()) { copy } else { program.to_owned() }
}

/// Runs the cases there, with our own program.
pub fn run(cases: &[Case]) -> ExitCode {
    let program = slim(bpfdev());
    let mut machine = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("vm/run"));
    machine.args(["-T", LIMIT]).args(TOOLS.iter().flat_map(|tool| ["-t", tool]));
    for file in [&program, client_program(false), client_program(true)] {
        machine.arg("-f").arg(file);
    }
    machine.arg("-e").arg(format!("{BUILT}={}", program.display()));
    machine.arg(slim(&std::env::current_exe().unwrap())).arg("--exact");
    machine.args(cases.iter().map(|(name, _)| name));
    let mut child = machine.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut last = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        last = line.unwrap();
        eprintln!("{last}");
    }
    let status = child.wait().unwrap();
    match status.code() {
        Some(0) => ExitCode::SUCCESS,
        Some(NO_MACHINE) => harness::ignore(cases, last.trim_start_matches("skipped: ")),
        _ => {
            eprintln!("cuse: the machine's run ended with {status}");
            ExitCode::from(101)
        }
    }
}
