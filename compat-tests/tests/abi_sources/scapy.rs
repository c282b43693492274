//! scapy: its constants, and its own `extract_frames` over our buffers, run by python3 as on each BSD it knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bpfdev_core::abi::{Header, Request, Stamp};
use serde_json::Value;

use super::{Otherwise, assert_dlts, assert_requests, buffers, scratch, table};

const REQUIREMENT: &str = include_str!("scapy.txt");
const SYSTEMS: [&str; 4] = ["freebsd", "netbsd", "openbsd", "macos"];
const NEEDED: &str = "python3 and its pip must be installed: apt-get install python3 python3-pip";

fn checksum() -> &'static str {
    REQUIREMENT.split_once("sha256:").unwrap().1.trim()
}

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/abi_sources"))
}

/// scapy's wheel, fetched by pip where it is not there yet. pip and the script verify it.
fn wheel() -> &'static Path {
    static WHEEL: OnceLock<PathBuf> = OnceLock::new();
    WHEEL.get_or_init(|| {
        // another version is another place
        let place = scratch(&format!("scapy-{}", &checksum()[..12]));
        let wheel = || {
            let files = fs::read_dir(&place).unwrap().map(|file| file.unwrap().path());
            files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        };
        wheel().unwrap_or_else(|| {
            let output = Command::new("python3")
                .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(["--only-binary", ":all:", "--require-hashes", "--dest"])
                .arg(&place)
                .arg("--requirement")
                .arg(directory().join("scapy.txt"))
                .output()
                .expect(NEEDED);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "pip cannot fetch scapy from its registry ({NEEDED}): {said}");
            wheel().unwrap_or_else(|| panic!("pip has left no wheel in {}", place.display()))
        })
    })
}

/// What scapy says of itself, and of this buffer, as on `system`.
fn scapy(system: &str, buffer: Option<&Path>) -> Value {
    let output = Command::new("python3")
        .arg("-B")
        .arg(directory().join("scapy_as.py"))
        .args([wheel().as_os_str(), checksum().as_ref(), system.as_ref()])
        .args(buffer)
        .output()
        .expect(NEEDED);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scapy as on {system}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn numbers(of: &Value) -> Vec<(String, u32)> {
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    of.as_object().unwrap().iter().map(|(name, value)| (name.clone(), number(value))).collect()
}

/// It has one list for all systems. arch/bpf/consts.py
const OTHERWISE: &[Otherwise] = &[
    ("netbsd", "BIOCSETIF", Some("OBIOCSETIF"), "an ifreq of 32 bytes is that of NetBSD before 5.0"),
    ("netbsd", "BIOCGSTATS", Some("BIOCGSTATSOLD"), "so is a bpf_stat of 8 bytes"),
    ("netbsd", "BIOCSDLT", None, "118 on NetBSD; scapy uses it on macOS only"),
    ("openbsd", "BIOCSDLT", None, "122 on OpenBSD; scapy uses it on macOS only"),
    ("netbsd", "BIOCSTSTAMP", None, "FreeBSD's; scapy uses it there only"),
    ("openbsd", "BIOCSTSTAMP", None, "likewise"),
    ("macos", "BIOCSTSTAMP", Some("BIOCSPKTHDRV2"), "likewise"),
];

#[test]
fn requests_mean_what_scapy_calls_them() {
    for system in SYSTEMS {
        let requests = numbers(&scapy(system, None)["requests"]);
        assert_eq!(requests.len(), 11, "constants of arch/bpf/consts.py");
        assert_requests("scapy arch/bpf/consts.py", system, &requests, OTHERWISE);
    }
}

#[test]
fn link_types_have_the_numbers_of_scapy() {
    for system in SYSTEMS {
        let dlts = numbers(&scapy(system, None)["dlt"]);
        // which of these names a system's own header has differs
        let least = if system == "openbsd" { 24 } else { 34 };
        let (in_device, in_header) = assert_dlts("scapy data.py", system, &dlts);
        assert!(in_device == 9 && in_header >= least, "{system}: {in_device} and {in_header} compared");
    }
}

/// The header scapy's walker expects: FreeBSD's with nanoseconds, for which it asks.
fn header(system: &str) -> Header {
    let header = table(system).header;
    if system == "freebsd" { header.stamped(Stamp::Nano64) } else { header }
}

#[test]
fn headers_have_the_layout_of_scapy() {
    for system in SYSTEMS {
        let said = scapy(system, None);
        let Header { stamp, alignment, .. } = header(system);
        assert_eq!(said["alignment"], alignment, "{system}: BPF_ALIGNMENT");
        let offsets = [("bh_tstamp", 0), ("bh_caplen", 0), ("bh_datalen", 4), ("bh_hdrlen", 8)];
        for (field, behind_stamp) in offsets {
            let ours = if field == "bh_tstamp" { 0 } else { stamp.size() + behind_stamp };
            assert_eq!(said["offsets"][field], ours, "{system}: {field}");
        }
        let fields = stamp.size() + 10;
        assert_eq!(
            said["sizeof"],
            fields.next_multiple_of(if stamp.size() == 8 { 4 } else { 8 }),
            "{system}"
        );
    }
}

#[test]
fn its_walker_finds_our_frames() {
    for system in SYSTEMS {
        let set_up: &[Request] = if system == "freebsd" { &[Request::STStamp(1)] } else { &[] };
        let abi = table(system);
        for (interface, buffer) in
            [("ethernet", buffers::ethernet(abi, set_up)), ("loopback", buffers::loopback(abi, set_up))]
        {
            let path = scratch("scapy").join(format!("{system}-{interface}"));
            fs::write(&path, &buffer.bytes).unwrap();
            let said = scapy(system, Some(&path));
            let found = said["frames"].as_array().unwrap();
            assert_eq!(found.len(), 10, "{system}: all frames of {interface}");
            for (found, (frame, sec, nsec)) in found.iter().zip(&buffer.frames) {
                let hex: Vec<_> = frame.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(found[0], hex.concat(), "{system}, {interface}");
                let time = *sec as f64 + f64::from(*nsec) / 1e9;
                let off = (found[1].as_f64().unwrap() - time).abs();
                assert!(off < 2e-6, "{system}, {interface}: {} is not {time}", found[1]);
            }
        }
    }
}
