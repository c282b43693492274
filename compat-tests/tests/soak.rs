//! A short soak, and what it prints.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serial_test::serial;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bpfdev-compat");

/// Its last line, and all it has left is removed.
fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{text}{errors}", output.status);
    text.lines().last().unwrap().to_owned()
}

fn left_by(pid: u32) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let ours = format!("bpfdev-soak-{pid}");
    let mut left: Vec<_> = mounts.lines().filter(|line| line.contains(&ours)).map(str::to_owned).collect();
    let dir = std::env::temp_dir().join(&ours);
    left.extend(dir.exists().then(|| dir.display().to_string()));
    left
}

fn count(line: &str, word: &str) -> u64 {
    let before = line.split(word).next().unwrap();
    before.rsplit([' ', '(']).find(|part| !part.is_empty()).unwrap().parse().unwrap()
}

#[test]
#[serial]
fn a_short_soak_holds_with_a_daemon_told_to_end_and_one_killed() {
    let soak = Command::new(PROGRAM)
        .args(["soak", "--minutes", "0.4", "--seed", "5", "--clients", "12"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = soak.id();
    let line = last_line(&soak.wait_with_output().unwrap());
    assert!(line.contains(" seed 5,") && line.ends_with("; 0 wrong"), "{line}");
    for word in [" clients", " killed", " stopped", " opens", " frames sent", " read", " accounts exact"] {
        assert!(count(&line, word) > 0, "{word}: {line}");
    }
    assert_eq!(count(&line, " daemons ended"), 2, "{line}");
    assert_eq!(left_by(pid), Vec::<String>::new());
}

#[test]
#[serial]
fn ctrl_c_ends_a_soak_with_its_figures_and_leaves_nothing() {
    let soak = Command::new(PROGRAM)
        .args(["soak", "--minutes", "60", "--clients", "8"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = soak.id();
    std::thread::sleep(Duration::from_secs(4));
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT).unwrap();
    let line = last_line(&soak.wait_with_output().unwrap());
    assert!(line.starts_with("soak, interrupted: ") && line.ends_with("; 0 wrong"), "{line}");
    assert_eq!(left_by(pid), Vec::<String>::new());
}

#[test]
fn wrong_arguments_are_refused() {
    for arguments in [&["--minutes", "0"][..], &["--minutes", "x"], &["--clients", "0"], &["--rate", "0"]] {
        let output = Command::new(PROGRAM).arg("soak").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
