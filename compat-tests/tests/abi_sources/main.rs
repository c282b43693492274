//! Our tables against sources that others wrote: the libc crate, pnet_datalink, smoltcp and scapy, as their registries
//! have them. Their constants must mean in our tables what they are called there, and their own record walkers must find
//! the frames in buffers that our device fills.
//!
//! A source that cannot be fetched fails the test. Where a source is wrong, or means another version, that is a row
//! here, with the reason.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use bpfdev_core::abi::{Abi, Encoding, TABLES};

mod buffers;
mod clients;
mod libc_crate;
mod scapy;
mod sources;

/// The table of this name.
fn table(system: &str) -> &'static Abi {
    TABLES.into_iter().find(|abi| abi.name == system).unwrap()
}

/// What a source calls a request otherwise than our table: system, its name, the names it has in the table (none: the
/// system has no such request), why.
type Otherwise = (&'static str, &'static str, Option<&'static str>, &'static str);

/// Asserts that our table knows each number by the name the source gives it (or as that request of a 32-bit caller).
#[track_caller]
fn assert_requests(source: &str, system: &str, requests: &[(String, u32)], otherwise: &[Otherwise]) {
    for (name, value) in requests {
        let ours: Vec<_> = table(system)
            .requests
            .iter()
            .filter(|row| Encoding::Bsd.number(row.dir, row.group, row.number, row.arg.size()) == *value)
            .map(|row| row.name)
            .collect();
        let other = otherwise.iter().find(|(on, of, ..)| (*on, *of) == (system, &**name));
        let agree = match other {
            Some((_, _, expected, _)) => ours == expected.iter().copied().collect::<Vec<_>>(),
            None => ours.iter().any(|row| row == name || row.strip_suffix("32") == Some(name)),
        };
        assert!(agree, "{source}: {name} is {value:#x} on {system}; in our table that is {ours:?}");
    }
}

/// The names and numbers of the system's <net/dlt.h> of ours.
fn our_dlts(system: &str) -> Vec<(String, u32)> {
    let header =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpfdev/include/bpfdev").join(system).join("dlt.h");
    let text = fs::read_to_string(&header).unwrap_or_else(|error| panic!("{}: {error}", header.display()));
    let defined =
        text.lines().filter_map(|line| line.strip_prefix("#define DLT_")?.split_once(char::is_whitespace));
    defined.filter_map(|(name, value)| Some((format!("DLT_{name}"), value.trim().parse().ok()?))).collect()
}

/// Link types that the device's code knows, by name.
const LINKTYPES: &[(&str, bpfdev_core::linktype::Linktype)] = {
    use bpfdev_core::linktype::Linktype;
    &[
        ("DLT_NULL", Linktype::NULL),
        ("DLT_EN10MB", Linktype::EN10MB),
        ("DLT_SLIP", Linktype::SLIP),
        ("DLT_PPP", Linktype::PPP),
        ("DLT_FDDI", Linktype::FDDI),
        ("DLT_ATM_RFC1483", Linktype::ATM_RFC1483),
        ("DLT_IEEE802_11", Linktype::IEEE802_11),
        ("DLT_IEEE802_11_RADIO", Linktype::IEEE802_11_RADIO),
        ("DLT_RAW", Linktype::RAW),
        ("DLT_LOOP", Linktype::LOOP),
    ]
};

/// Asserts that the device and our header have these link types by the same numbers, and gives how many each knew.
#[track_caller]
fn assert_dlts(source: &str, system: &str, dlts: &[(String, u32)]) -> (usize, usize) {
    let header = our_dlts(system);
    let (mut in_device, mut in_header) = (0, 0);
    for (name, number) in dlts {
        if let Some((_, linktype)) = LINKTYPES.iter().find(|(known, _)| known == name) {
            assert_eq!(table(system).dlt(*linktype), *number, "{source}: {name} of {system}");
            in_device += 1;
        }
        if let Some((_, ours)) = header.iter().find(|(known, _)| known == name) {
            assert_eq!(ours, number, "{source}: {name} of {system}, in our header");
            in_header += 1;
        }
    }
    (in_device, in_header)
}

/// A directory of this test's own, beside the other build products.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi_sources").join(name);
    fs::create_dir_all(&path).unwrap();
    path
}
