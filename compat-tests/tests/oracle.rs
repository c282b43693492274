//! The recorded answers of a BSD kernel: emulated in this process, and on a served device (root).

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bpfdev_compat::oracle::file::{Recording, load};
use bpfdev_compat::oracle::play::{Tally, emulated};
use bpfdev_core::abi::Abi;
use bpfdev_core::abi::netbsd::{NETBSD, NETBSD7};
use serial_test::serial;

fn recorded(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/netbsd")).join(name)
}

fn play(recordings: &[Recording], abi: &'static Abi) -> (Tally, Vec<String>) {
    let mut lines = Vec::new();
    let tally = emulated(recordings, abi, &mut |line| lines.push(line));
    (tally, lines)
}

/// Everything passes under `abi` but the recordings of these ids.
fn all_pass_but(file: &str, count: usize, abi: &'static Abi, not: &[&str]) {
    let recordings = load(&recorded(file)).unwrap();
    assert_eq!(recordings.len(), count, "{file}");
    let (tally, lines) = play(&recordings, abi);
    let wrong: Vec<_> = lines.iter().filter_map(|line| line.split([' ', ':']).nth(3)).collect();
    assert_eq!(wrong, not, "{file} under {}:\n{}", abi.name, lines.join("\n"));
    assert_eq!(tally, Tally { passed: count - not.len(), failed: not.len(), skipped: 0 });
}

#[test]
fn emulated_filter_programs() {
    all_pass_but("filter-corpus.jsonl", 1490, &NETBSD, &[]);
}

#[test]
fn emulated_traces() {
    for abi in [&NETBSD, &NETBSD7] {
        all_pass_but("traces.jsonl", 189, abi, &[]);
    }
}

#[test]
fn emulated_cases() {
    all_pass_but("cases.json", 34, &NETBSD7, &[]);
    // NetBSD since 9 refuses directions above 2, and sends what is written to lo0
    all_pass_but("cases.json", 34, &NETBSD, &["open-initial", "attached-initial", "write-lo0"]);
}

fn oracle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bpfdev-compat")).arg("oracle").args(arguments).output().unwrap()
}

fn on_device(file: &str, options: &[&str]) -> (Vec<usize>, String) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the device's tests need root: they mount, and make namespaces"
    );
    let out = oracle(&[&[recorded(file).to_str().unwrap(), "--on", "device"], options].concat());
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let last = String::from_utf8_lossy(&out.stdout).lines().last().unwrap_or_default().to_owned();
    let counts: Vec<usize> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(counts.len(), 3, "{said}");
    assert_eq!(out.status.success(), counts[1..] == [0, 0], "{said}");
    (counts, said)
}

#[test]
#[serial]
fn device_traces() {
    for plan in ["auto", "ebpf", "process"] {
        let (counts, said) = on_device("traces.jsonl", &["--plan", plan]);
        assert_eq!(counts, [189, 0, 0], "{plan}: {said}");
    }
    // a classic filter in the kernel keeps rejected packets from being counted as received
    let (counts, said) = on_device("traces.jsonl", &["--plan", "cbpf"]);
    assert!(counts[0] >= 180, "{said}");
    assert!(
        said.lines().filter(|line| line.starts_with("FAIL")).all(|line| line.contains("BIOCGSTATS")),
        "{said}"
    );
}

#[test]
#[serial]
fn device_cases() {
    for plan in ["ebpf", "process"] {
        let (counts, said) = on_device("cases.json", &["--abi", "netbsd7", "--plan", plan]);
        assert_eq!(counts[1], 0, "{plan}: {said}");
        assert!(counts[0] >= 26, "{plan}: {said}");
    }
}

#[test]
fn bad_input_is_one_line_and_no_success() {
    let dir = std::env::temp_dir().join(format!("bpfdev-oracle-input-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let bad = dir.join("bad.jsonl");
    let bad_name = bad.to_str().unwrap();
    for (text, says) in [
        ("nonsense", "bad.jsonl:1: expected"),
        ("{\"id\":1,\"blen\":64,\"ops\":[]}\n{\"id\":1}", "bad.jsonl:2: neither"),
        ("[\n{\"id\":1,\"steps\":[]}]", "bad.jsonl:2: invalid type"),
        ("", "bad.jsonl: no recordings"),
    ] {
        std::fs::write(&bad, text).unwrap();
        let out = oracle(&[bad_name]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(1) && said.lines().count() == 1 && said.contains(says), "{said}");
    }
    // an operation nobody knows spoils its own recording, and the others are played
    std::fs::write(&bad, "{\"id\":7,\"blen\":64,\"ops\":[[\"jump\"]]}\n{\"id\":8,\"blen\":64,\"ops\":[]}")
        .unwrap();
    let out = oracle(&[bad_name]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.contains("\"jump\"") && said.ends_with("1 passed, 1 failed, 0 skipped\n"), "{said}");
    assert_eq!(out.status.code(), Some(1));
    std::fs::remove_dir_all(&dir).unwrap();
    for wrong in [&[][..], &["x", "--on", "moon"], &["x", "--plan", "auto"], &["x", "--abi", "linux"]] {
        let out = oracle(wrong);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(2) && said.lines().count() == 1, "{wrong:?}: {said}");
    }
}
