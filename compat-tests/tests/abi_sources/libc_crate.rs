//! The libc crate: its constants and structures for the BSDs, read from its source, since each is compiled on its own
//! system only.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use super::{Otherwise, assert_dlts, assert_requests, sources, table};
use bpfdev_core::abi::{Arg, Encoding};

/// The files that a system's constants come from, and how many requests of bpf(4) are in them, of both widths.
struct Files {
    system: &'static str,
    paths: &'static [&'static str],
    requests: usize,
}

const FILES: [Files; 4] = [
    Files {
        system: "freebsd",
        paths: &[
            "unix/bsd/mod.rs",
            "unix/bsd/freebsdlike/mod.rs",
            "unix/bsd/freebsdlike/freebsd/mod.rs",
            "unix/bsd/freebsdlike/freebsd/x86_64/mod.rs",
            "unix/bsd/freebsdlike/freebsd/x86.rs",
            "new/freebsd/net/dlt.rs",
        ],
        requests: 27,
    },
    Files {
        system: "openbsd",
        paths: &["unix/bsd/mod.rs", "unix/bsd/netbsdlike/mod.rs", "unix/bsd/netbsdlike/openbsd/mod.rs"],
        requests: 15,
    },
    Files {
        system: "dragonfly",
        paths: &["unix/bsd/mod.rs", "unix/bsd/freebsdlike/mod.rs", "unix/bsd/freebsdlike/dragonfly/mod.rs"],
        requests: 23,
    },
    Files {
        system: "macos",
        paths: &[
            "unix/bsd/mod.rs",
            "unix/bsd/apple/mod.rs",
            "unix/bsd/apple/b64/mod.rs",
            "unix/bsd/apple/b32/mod.rs",
            "new/apple/xnu/net/bpf.rs",
        ],
        requests: 26,
    },
];

/// Requests that stand in our tables under another name.
const OTHERWISE: &[Otherwise] = &[
    ("freebsd", "BIOCGSEESENT", Some("BIOCGDIRECTION"), "the older of two names for one request"),
    ("freebsd", "BIOCSSEESENT", Some("BIOCSDIRECTION"), "likewise"),
];

fn source(path: &str) -> String {
    let path: PathBuf = sources::of("libc", sources::workspace()).join("src").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `pub const NAME: TYPE = EXPRESSION;` of a source, as name and expression.
fn constants(text: &str) -> Vec<(String, String)> {
    let one = |line: &str| {
        let (name, rest) = line.trim().strip_prefix("pub const ")?.split_once(':')?;
        let expression = rest.split_once('=')?.1.split_once(';')?.0;
        Some((name.to_owned(), expression.trim().to_owned()))
    };
    text.lines().filter_map(one).collect()
}

/// Bytes of a C type on LP64.
fn size_of(c_type: &str) -> usize {
    match c_type.strip_prefix("crate::").unwrap_or(c_type) {
        "c_uchar" | "u8" => 1,
        "c_ushort" | "u16" => 2,
        "c_uint" | "c_int" | "u32" | "i32" => 4,
        "timeval32" => 8,
        // u32, then a pointer that is not aligned: `repr(packed(4))`, see `macos_packs_its_list`
        "bpf_dltlist" => 12,
        "timeval" => 16,
        pointer if pointer.starts_with("*mut ") => 8,
        other => panic!("size of {other}?"),
    }
}

/// The value of a constant's expression, in the few forms that are there.
fn value(expression: &str) -> Option<u32> {
    if let Some(digits) = expression.strip_prefix("0x") {
        return u32::from_str_radix(digits, 16).ok();
    }
    if let Some((direction, call)) = expression.strip_prefix("_IO").and_then(|rest| rest.split_once("::<")) {
        let (c_type, arguments) = call.split_once(">(")?;
        let (group, number) = arguments.strip_suffix(')')?.split_once(',')?;
        let group = group.strip_prefix('\'')?.bytes().next()?;
        let direction = match direction {
            "R" => 0x4000_0000,
            "W" => 0x8000_0000,
            "WR" => 0xc000_0000,
            _ => return None,
        };
        let size = u32::try_from(size_of(c_type)).ok()?;
        return Some(direction | size << 16 | u32::from(group) << 8 | number.trim().parse::<u32>().ok()?);
    }
    match expression {
        "SIZEOF_LONG" => Some(8), // size_of::<c_long>(), 64-bit
        "size_of::<i32>()" => Some(4),
        number => number.parse().ok(),
    }
}

/// Every constant of a system whose name begins so.
fn all(files: &Files, prefix: &str) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for path in files.paths {
        for (name, expression) in
            constants(&source(path)).into_iter().filter(|(name, _)| name.starts_with(prefix))
        {
            let value = value(&expression).unwrap_or_else(|| panic!("{path}: {name} = {expression}?"));
            found.push((name, value));
        }
    }
    found
}

#[test]
fn requests_mean_what_libc_calls_them() {
    for files in &FILES {
        let requests = all(files, "BIOC");
        assert_eq!(requests.len(), files.requests, "BIOC constants of {}: {requests:x?}", files.system);
        assert_requests("libc", files.system, &requests, OTHERWISE);

        // requests that are not bpf(4)'s alone, where our table has them
        let mut others = 0;
        for name in [
            "FIONREAD",
            "FIONBIO",
            "FIOASYNC",
            "FIOSETOWN",
            "FIOGETOWN",
            "TIOCSPGRP",
            "TIOCGPGRP",
            "SIOCGIFADDR",
        ] {
            if table(files.system).requests.iter().any(|row| row.name == name) {
                let found: Vec<_> = all(files, name).into_iter().filter(|(found, _)| found == name).collect();
                assert_requests("libc", files.system, &found, OTHERWISE);
                others += found.len();
            }
        }
        assert!(others >= 4, "{others} other requests of {}", files.system);
    }
}

#[test]
fn alignment_and_families_are_those_of_libc() {
    let one = |system: &str, name: &str| {
        let files = FILES.iter().find(|files| files.system == system).unwrap();
        let found: Vec<_> = all(files, name).into_iter().filter(|(found, _)| found == name).collect();
        assert_eq!(found.len(), 1, "{name} of {system}: {found:?}");
        found[0].1
    };
    for system in ["freebsd", "dragonfly", "macos"] {
        assert_eq!(table(system).header.alignment, one(system, "BPF_ALIGNMENT") as usize, "{system}");
    }
    for system in ["freebsd", "openbsd", "dragonfly", "macos"] {
        assert_eq!(table(system).loopback.af_inet6, one(system, "AF_INET6"), "{system}");
    }
    let family = |path| constants(&source(path)).into_iter().find(|(name, _)| name == "AF_INET6").unwrap().1;
    assert_eq!(table("netbsd").loopback.af_inet6.to_string(), family("unix/bsd/netbsdlike/mod.rs"));
    assert_eq!(table("illumos").loopback.af_inet6.to_string(), family("unix/solarish/mod.rs"));
}

#[test]
fn link_types_have_the_numbers_of_libc() {
    for (system, count) in [("freebsd", 14), ("macos", 14)] {
        let files = FILES.iter().find(|files| files.system == system).unwrap();
        let dlts = all(files, "DLT_");
        assert_eq!(dlts.len(), count, "{system}: {dlts:?}");
        assert_eq!(
            assert_dlts("libc", system, &dlts),
            (8, 14),
            "{system}: known to the device, and in our header"
        );
    }
}

/// A structure's fields: name, offset, and where it ends.
fn layout(path: &str, name: &str) -> HashMap<String, (usize, usize)> {
    let text = source(path);
    let body =
        text.split_once(&format!("pub struct {name} {{")).unwrap_or_else(|| panic!("{path}: {name}")).1;
    let body = body.split_once('}').unwrap().0;
    let mut end: usize = 0;
    let mut fields = HashMap::new();
    for field in body.split(',').map(str::trim).filter(|field| !field.is_empty()) {
        let (field, c_type) = field.split_once(':').unwrap();
        let (size, c_type) = (size_of(c_type.trim()), c_type.trim());
        let alignment = match c_type.strip_prefix("crate::") {
            Some("timeval") => 8,
            Some("timeval32") => 4,
            _ => size,
        };
        let offset = end.next_multiple_of(alignment);
        end = offset + size;
        fields.insert(field.trim_start_matches("pub ").to_owned(), (offset, size));
    }
    fields.insert("end".into(), (end, 0));
    fields
}

#[test]
fn structures_have_the_layout_of_libc() {
    let freebsdlike = "unix/bsd/freebsdlike/mod.rs";
    for (system, path) in
        [("freebsd", freebsdlike), ("dragonfly", freebsdlike), ("macos", "unix/bsd/apple/b64/mod.rs")]
    {
        let theirs = layout(path, "bpf_hdr");
        let header = table(system).header;
        let stamp = header.stamp.size();
        for (field, ours) in [
            ("bh_tstamp", (0, stamp)),
            ("bh_caplen", (stamp, 4)),
            ("bh_datalen", (stamp + 4, 4)),
            ("bh_hdrlen", (stamp + 8, 2)),
            ("end", (header.fields(), 0)),
        ] {
            assert_eq!(theirs[field], ours, "{system}: {field} in {path}");
        }
    }
    for (name, ours) in [
        ("bpf_program", Arg::Program64),
        ("bpf_stat", Arg::Stats32),
        ("bpf_version", Arg::Version),
        ("bpf_dltlist", Arg::DltList64),
    ] {
        assert_eq!(layout(freebsdlike, name)["end"].0, ours.size(), "{name}");
    }
    let macos = layout("new/apple/xnu/net/bpf.rs", "bpf_program");
    assert_eq!((macos["bf_len"].0, macos["bf_insns"].0, macos["end"].0), (0, 8, 16));
}

#[test]
fn macos_packs_its_list() {
    let text = source("new/apple/xnu/net/bpf.rs");
    let packed = "#[repr(packed(4))]\n    pub struct bpf_dltlist {\n        pub bfl_len: u32,\n        pub bfl_u: __c_anonymous_bfl_u,";
    assert!(text.contains(packed) && text.contains("pub bflu_pad: u64,"), "bpf_dltlist of macOS");
    let row = table("macos").requests.iter().find(|row| row.name == "BIOCGDLTLIST").unwrap();
    assert_eq!((row.arg, row.arg.size()), (Arg::DltListPacked, 12));
    assert_eq!(Encoding::Bsd.number(row.dir, row.group, row.number, row.arg.size()), 0xc00c_4279);
}
