//! `bpfdev-compat bench`: every subject runs, and every packet is accounted for. How fast is not asked here.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bpfdev-compat")).arg("bench").args(arguments).output().unwrap()
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[test]
fn every_packet_is_received_or_dropped() {
    let out = bench(&["--quick", "--rounds", "1", "--json"]);
    assert!(out.status.success(), "{}", text(&out));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut subjects = Vec::new();
    for case in report["cases"].as_array().unwrap() {
        for row in case["rows"].as_array().unwrap() {
            let count = |key: &str| row[key].as_u64().unwrap();
            assert!(count("received") > 0, "{row}");
            assert_eq!(count("offered"), count("received") + count("dropped"), "{row}");
            assert!(row["nanos"]["median"].as_f64().unwrap() > 0.0, "{row}");
            subjects.push(row["subject"].as_str().unwrap().to_owned());
        }
    }
    subjects.sort_unstable();
    subjects.dedup();
    assert_eq!(subjects, ["backend", "device", "device-apart", "emulated", "facade", "libpcap"]);
    for row in report["latency"].as_array().unwrap() {
        assert_eq!(row["offered"], row["received"], "one packet a millisecond is never too much: {row}");
        assert!(row["p50"].as_u64() <= row["p99"].as_u64(), "{row}");
    }
}

#[test]
fn wrong_arguments_are_one_line_and_exit_status_2() {
    for arguments in [&["--rounds", "0"][..], &["--rounds", "x"], &["--fast"]] {
        let out = bench(arguments);
        let (status, said) = (out.status.code(), text(&out));
        assert_eq!((status, said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
    }
}
