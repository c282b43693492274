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
    all_pass_but(
        "cases.json",
        34,
        &NETBSD,
        &["open-initial", "attached-initial", "read-if-destroy", "write-lo0"],
    );
}

fn oracle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bpfdev-compat")).arg("oracle").args(arguments).output().unwrap()
}

/// How many recordings of this file passed, failed and were skipped on the device, and what was said.
fn on_device(file: &Path, options: &[&str]) -> (Vec<usize>, String) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "the device's tests need root: they mount, and make namespaces"
    );
    let out = oracle(&[&[file.to_str().unwrap(), "--on", "device"], options].concat());
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let last = String::from_utf8_lossy(&out.stdout).lines().last().unwrap_or_default().to_owned();
    let counts: Vec<usize> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(counts.len(), 3, "{said}");
    assert_eq!(out.status.success(), counts[1..] == [0, 0], "{said}");
    (counts, said)
}

/// The ids of the lines that begin with this verdict.
fn ids<'a>(said: &'a str, verdict: &str) -> Vec<&'a str> {
    let lines = said.lines().filter_map(|line| line.strip_prefix(verdict));
    lines.filter_map(|line| line.trim_start().split([' ', ':']).nth(2)).collect()
}

#[test]
#[serial]
fn device_traces() {
    for (abi, plan) in [("netbsd7", "auto"), ("netbsd", "ebpf"), ("netbsd", "process")] {
        let (counts, said) = on_device(&recorded("traces.jsonl"), &["--abi", abi, "--plan", plan]);
        assert_eq!(counts, [189, 0, 0], "{abi} {plan}: {said}");
    }
    // a classic filter in the kernel keeps rejected packets from being counted as received
    let (counts, said) = on_device(&recorded("traces.jsonl"), &["--plan", "cbpf"]);
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
        let (counts, said) = on_device(&recorded("cases.json"), &["--plan", plan]);
        assert_eq!(ids(&said, "FAIL"), [""; 0], "{plan}: {said}");
        // what Linux answers before the device, or instead of it
        assert_eq!(ids(&said, "SKIP"), ["read-size", "close-blocked", "write-errors", "write-lo0"], "{plan}");
        assert_eq!(counts, [30, 0, 4], "{plan}: {said}");
    }
}

fn scenery() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/own/scenery.json")).to_owned()
}

#[test]
fn emulated_scenery() {
    let (tally, lines) = play(&load(&scenery()).unwrap(), &NETBSD7);
    assert_eq!(tally, Tally { passed: 17, failed: 0, skipped: 0 }, "{lines:?}");
}

#[test]
#[serial]
fn device_scenery() {
    let (counts, said) = on_device(&scenery(), &["--abi", "netbsd7"]);
    assert_eq!(counts, [17, 0, 0], "{said}");
}

/// What is put around the device hides no difference: recordings of another kernel's answers fail.
#[test]
#[serial]
fn device_differences() {
    let all: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(recorded("cases.json")).unwrap()).unwrap();
    let other = [
        // still promiscuous, not promiscuous
        ("promisc", "0x8843", "0x8943"),
        ("promisc", "0x8943", "0x8843"),
        // another frame let through
        ("promisc", "021122334455", "ffffffffffff"),
        // a gratuitous request, another target, another sender
        ("arp-self", "\"recv\":0", "\"recv\":1"),
        ("arp-self", "0a090802", "0a090803"),
        ("arp-self", "0a090801", "0a090811"),
        // don't fragment, another TTL, host unreachable, another byte of the payload
        ("loopback-ip", "0000000040110000", "0000400040110000"),
        ("loopback-ip", "00000000ff010000", "0000000040010000"),
        ("loopback-ip", "000001030389ca", "000001030189ca"),
        ("loopback-ip", "68656c6c6f\"", "68656c6c70\""),
        ("open-flags", "ENOENT", "ENXIO"),
    ];
    let mut cases = Vec::new();
    for (i, (id, from, to)) in other.iter().enumerate() {
        let case = all.as_array().unwrap().iter().find(|case| case["id"] == *id).unwrap();
        let mut case = case.clone();
        for step in case["steps"].as_array_mut().unwrap() {
            // only what was answered: what is done stays the same
            if let Some(result) = step.get_mut("result") {
                *result = serde_json::from_str(&result.to_string().replace(from, to)).unwrap();
            }
        }
        case["id"] = format!("{id}-{i}").into();
        cases.push(case);
    }
    let path = std::env::temp_dir().join(format!("bpfdev-oracle-other-{}.json", std::process::id()));
    std::fs::write(&path, serde_json::to_string_pretty(&cases).unwrap()).unwrap();
    let (counts, said) = on_device(&path, &["--abi", "netbsd7"]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(counts, [0, other.len(), 0], "{said}");
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
