//! pnet_datalink and smoltcp: their files for /dev/bpf, compiled as for each system they know, with that system's name
//! made a feature; their constants, and their own walkers over our buffers.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{Otherwise, assert_requests, buffers, scratch, sources, table};

const SYSTEMS: [&str; 5] = ["freebsd", "netbsd", "openbsd", "macos", "illumos"];

/// The walkers' program of each system.
fn programs() -> &'static HashMap<&'static str, PathBuf> {
    static PROGRAMS: OnceLock<HashMap<&str, PathBuf>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let place = scratch("walkers");
        let ours = sources::walkers().parent().unwrap();
        let pnet = sources::of("pnet_datalink", sources::walkers());
        let smoltcp = sources::of("smoltcp", sources::walkers());
        let theirs = |path: PathBuf| {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(text.contains("target_os = \"openbsd\""), "{}: another file than it was", path.display());
            text.replace("target_os = ", "feature = ")
        };
        let glue = |name: &str| fs::read_to_string(ours.join(name)).unwrap();
        for (name, text) in [
            ("Cargo.toml", glue("Cargo.toml")),
            ("Cargo.lock", glue("Cargo.lock")),
            ("main.rs", glue("main.rs")),
            ("pnet_bpf.rs", theirs(pnet.join("src/bpf.rs")) + &glue("pnet_glue.rs")),
            ("bindings_bpf.rs", theirs(pnet.join("src/bindings/bpf.rs"))),
            // bpf.rs asks for it, and it is about getifaddrs(3)
            (
                "unix_interfaces.rs",
                "pub fn interfaces() -> Vec<crate::NetworkInterface> { Vec::new() }".into(),
            ),
            ("smoltcp_bpf.rs", theirs(smoltcp.join("src/phy/sys/bpf.rs")) + &glue("smoltcp_glue.rs")),
        ] {
            fs::write(place.join(name), text).unwrap();
        }
        SYSTEMS.map(|system| (system, build(&place, system))).into()
    })
}

fn build(place: &Path, system: &str) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--features", system, "--target-dir"])
        .arg(place.join("target"))
        .current_dir(place)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the walkers do not build as for {system}: {said}");
    let program = place.join(format!("walkers-{system}"));
    fs::copy(place.join("target/debug/walkers"), &program).unwrap();
    program
}

/// What the walkers' program of a system prints; `buffer` is its stdin.
fn printed(system: &str, what: &str, buffer: &[u8]) -> String {
    let path = scratch("walkers").join(format!("{system}-{what}"));
    fs::write(&path, buffer).unwrap();
    let program = &programs()[system];
    let output = Command::new(program).arg(what).stdin(File::open(&path).unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what} on {system}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn constants(system: &str, what: &str) -> Vec<(String, u32)> {
    let printed = printed(system, what, &[]);
    let one = |line: &str| {
        let (name, value) = line.split_once(" 0x").unwrap();
        (name.to_owned(), u32::from_str_radix(value, 16).unwrap())
    };
    printed.lines().map(one).collect()
}

fn split(constants: Vec<(String, u32)>) -> (Vec<(String, u32)>, HashMap<String, usize>) {
    let (requests, rest): (Vec<_>, Vec<_>) =
        constants.into_iter().partition(|(name, _)| name.starts_with("BIOC"));
    (requests, rest.into_iter().map(|(name, value)| (name, value as usize)).collect())
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// src/bindings/bpf.rs of pnet_datalink.
const PNET_OTHERWISE: &[Otherwise] = &[
    ("netbsd", "BIOCSETIF", Some("OBIOCSETIF"), "an ifreq of 32 bytes is that of NetBSD before 5.0"),
    (
        "netbsd",
        "BIOCSRTIMEOUT",
        Some("BIOCSORTIMEOUT"),
        "109 is that of NetBSD before 6.0; pnet does not use it",
    ),
    ("netbsd", "BIOCFEEDBACK", Some("BIOCSFEEDBACK"), "two names for one request"),
    ("illumos", "BIOCSRTIMEOUT", None, "122 there, by golang.org/x/sys; pnet does not use it"),
    (
        "illumos",
        "BIOCFEEDBACK",
        None,
        "FreeBSD's; illumos has none, and pnet's capture on its loopback fails",
    ),
];

#[test]
fn requests_mean_what_pnet_datalink_calls_them() {
    for (system, count) in SYSTEMS.into_iter().zip([8, 8, 7, 7, 8]) {
        let (requests, rest) = split(constants(system, "pnet-constants"));
        assert_eq!(requests.len(), count, "requests in src/bindings/bpf.rs for {system}");
        assert_requests("pnet_datalink src/bindings/bpf.rs", system, &requests, PNET_OTHERWISE);
        assert_eq!(rest["DLT_NULL"], 0);
    }
}

#[test]
fn headers_have_the_layout_of_pnet_datalink() {
    // illumos is left out: pnet takes FreeBSD's layout and an alignment of 8 there, golang.org/x/sys has
    // BPF_ALIGNMENT 4 and 32-bit time stamps
    for system in ["freebsd", "netbsd", "openbsd", "macos"] {
        let (_, said) = split(constants(system, "pnet-constants"));
        let header = table(system).header;
        let stamp = header.stamp.size();
        for (field, ours) in [
            ("BPF_ALIGNMENT", header.alignment),
            ("bh_caplen", stamp),
            ("bh_datalen", stamp + 4),
            ("bh_hdrlen", stamp + 8),
            ("sizeof", (stamp + 10).next_multiple_of(if stamp == 8 { 4 } else { 8 })),
        ] {
            assert_eq!(said[field], ours, "{system}: {field}");
        }
    }
}

#[test]
fn the_walker_of_pnet_datalink_finds_our_frames() {
    for system in ["freebsd", "netbsd", "openbsd", "macos"] {
        for buffer in [buffers::ethernet(table(system), &[]), buffers::loopback(table(system), &[])] {
            let printed = printed(system, "pnet-walk", &buffer.bytes);
            let frames: Vec<_> = buffer.frames.iter().map(|(frame, ..)| hex(frame)).collect();
            assert_eq!(printed.lines().collect::<Vec<_>>(), frames, "{system}");
        }
    }
}

/// src/phy/sys/bpf.rs of smoltcp.
const SMOLTCP_OTHERWISE: &[Otherwise] =
    &[("netbsd", "BIOCSETIF", Some("OBIOCSETIF"), "an ifreq of 32 bytes is that of NetBSD before 5.0")];

#[test]
fn requests_mean_what_smoltcp_calls_them() {
    for system in ["freebsd", "netbsd", "openbsd", "macos"] {
        let (requests, _) = split(constants(system, "smoltcp-constants"));
        assert_eq!(requests.len(), 3, "requests in src/phy/sys/bpf.rs");
        assert_requests("smoltcp src/phy/sys/bpf.rs", system, &requests, SMOLTCP_OTHERWISE);
    }
}

#[test]
fn smoltcp_finds_our_first_frame() {
    // It skips a header of fixed length. On NetBSD it takes the 18 bytes of a 32-bit machine, where the system puts 34
    // on amd64 (abi.json, netbsd bh_hdrlen): what it takes for a frame begins with the last 16 bytes of the header.
    for (system, hdrlen, too_early) in
        [("freebsd", 26, 0), ("openbsd", 26, 0), ("macos", 18, 0), ("netbsd", 18, 16)]
    {
        let (_, said) = split(constants(system, "smoltcp-constants"));
        assert_eq!(said["BPF_HDRLEN"], hdrlen, "{system}");
        assert_eq!(table(system).header.hdrlen(14), hdrlen + too_early, "{system}");
        let buffer = buffers::ethernet(table(system), &[]);
        let printed = printed(system, "smoltcp-first", &buffer.bytes);
        let frame = hex(&buffer.frames[0].0);
        assert_eq!(printed[2 * too_early..][..frame.len()], frame, "{system}");
    }
}
