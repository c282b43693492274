//! What a user of the library pulls in: without features neither FUSE, nor a command line, nor a C library.

#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

/// The packages that bpfdev links with these features, by name.
fn packages(features: &str) -> Vec<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "-p", "bpfdev", "-e", "normal", "--no-default-features", "--prefix", "none"]);
    tree.args(["--locked", "--features", features]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let out = tree.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn without_features_the_library_is_small() {
    let bare = packages("");
    for name in ["bpfdev", "bpfdev-core", "bpfdev-backend-bsd", "cfg-if"] {
        assert!(bare.iter().any(|package| package == name), "{name} is part of it: {bare:?}");
    }
    for name in ["fuser", "clap", "pcap", "anyhow", "etherparse", "tracing-subscriber", "serde_json"] {
        assert!(!bare.iter().any(|package| package == name), "{name} is pulled in: {bare:?}");
    }
    let foreign: Vec<_> = bare.iter().filter(|package| package.ends_with("-sys")).collect();
    assert!(foreign.is_empty(), "C libraries: {foreign:?}");
}

#[test]
fn features_add_what_they_say() {
    let daemon = packages("daemon");
    for (name, there) in [("fuser", true), ("clap", true), ("pcap", false)] {
        assert_eq!(daemon.iter().any(|package| package == name), there, "{name} with daemon");
    }
    assert!(packages("expr").iter().any(|package| package == "pcap"));
}
