//! `bpfdev-compat clients` with wrong arguments and without what it builds with; the compatibility headers.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bpfdev-compat");

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_name_that_is_no_clients_is_refused_with_those_there_are() {
    for arguments in [&["nosuch"][..], &["--require", "nosuch"]] {
        let output = Command::new(PROGRAM).arg("clients").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for word in ["no client is called nosuch", "tcpdump", "arp-scan"] {
            assert!(said.contains(word), "{said}");
        }
    }
}

#[test]
fn every_client_is_listed_with_its_version_and_change() {
    let output = Command::new(PROGRAM).args(["clients", "--list"]).output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = lines.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let expected =
        ["tcpdump", "libpcap-testprogs", "scapy", "isc-dhcp", "pnet_datalink", "smoltcp", "arp-scan"];
    assert_eq!(names, expected);
    assert!(lines.lines().all(|line| line.contains("change: ")), "{lines}");
}

#[test]
fn one_that_cannot_be_built_is_skipped_with_its_reason_and_never_passed() {
    let cache = tempdir("cache");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        // there is no compiler, nor anything else
        command.env("BPFDEV_CLIENTS_CACHE", &cache).env("PATH", "/nonexistent");
        command.arg("clients").args(arguments).output().unwrap()
    };
    let cases: [(&[&str], i32, &str); 4] = [
        (&["tcpdump"], 0, "0 passed, 0 failed, 1 skipped"),
        (&["tcpdump", "--max-skipped", "1"], 0, "0 passed, 0 failed, 1 skipped"),
        (&["tcpdump", "--max-skipped", "0"], 1, "0 passed, 0 failed, 1 skipped"),
        (&["tcpdump", "--require", "tcpdump"], 1, "0 passed, 1 failed, 1 skipped"),
    ];
    for (arguments, code, last) in cases {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!((output.status.code(), last_line(&output).as_str()), (Some(code), last), "{said}");
        assert!(said.contains("skipped tcpdump: libpcap cannot be built here: "), "{said}");
        assert!(said.contains(" is missing"), "{said}");
    }
    std::fs::remove_dir_all(&cache).unwrap();
}

fn tempdir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("bpfdev-clients-test-{name}-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    dir
}

/// Compiles a source of these includes.
fn compiles(dir: &Path, includes: &[&str]) {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpfdev/include");
    let source = dir.join("source.c");
    let lines: String = includes.iter().map(|header| format!("#include <{header}>\n")).collect();
    std::fs::write(&source, format!("{lines}int of_this_file;\n")).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"]).arg(&include);
    let output = cc.arg("-I").arg(include.join("compat")).arg(&source).output().unwrap();
    assert!(output.status.success(), "{includes:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_compatibility_headers_compile_alone_and_together_in_any_order() {
    const COMPAT: [&str; 7] = [
        "net/ethertypes.h",
        "net/if_arp.h",
        "net/if_dl.h",
        "net/if_types.h",
        "sys/ioccom.h",
        "sys/kern/time.h",
        "sys/sockio.h",
    ];
    let dir = tempdir("headers");
    for header in COMPAT {
        compiles(&dir, &[header]);
        compiles(&dir, &[header, header, "net/bpf.h"]);
        compiles(&dir, &["net/bpf.h", header]);
    }
    let mut all: Vec<_> = COMPAT.into_iter().chain(["net/bpf.h", "net/if.h", "ifaddrs.h"]).collect();
    for _ in 0..all.len() {
        all.rotate_left(1);
        compiles(&dir, &all);
        let reversed: Vec<_> = all.iter().rev().copied().collect();
        compiles(&dir, &reversed);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
