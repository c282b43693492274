//! The tables against the list of every system's requests (compat-tests/abi.json).

#![allow(clippy::unwrap_used)]

use bpfdev_core::abi::{self, Abi, Arg, Dir, Encoding, Op, Row};
use bpfdev_core::linktype::Linktype;
use serde_json::Value;

fn list() -> Value {
    serde_json::from_str(include_str!("../../compat-tests/abi.json")).unwrap()
}

/// Systems of the list, and their tables.
fn systems() -> impl Iterator<Item = (&'static str, &'static Abi)> {
    ["freebsd", "netbsd", "openbsd", "dragonfly", "macos", "illumos"].into_iter().map(|name| {
        let table = abi::TABLES.into_iter().find(|abi| abi.name == name).unwrap();
        (name, table)
    })
}

/// Requests of the list that no table has, with the reason: they are unknown to the device, which means EINVAL.
const UNKNOWN: [(&str, &str, &str); 1] = [(
    "freebsd",
    "BIOCGETIFLIST",
    "of FreeBSD 16, whose header was not read: number and layout are a guess (the table is 13 to 15)",
)];

fn number(row: &Row) -> u32 {
    Encoding::Bsd.number(row.dir, row.group, row.number, row.arg.size())
}

fn hex(value: &Value) -> u32 {
    u32::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

#[test]
fn every_request_of_the_list_is_decided() {
    for (os, table) in systems() {
        let rows = list()["os"][os]["ioctls"].as_array().unwrap().clone();
        assert!(rows.len() >= 30, "{os}: {} rows", rows.len());
        for known in rows {
            let name = known["name"].as_str().unwrap();
            if UNKNOWN.iter().any(|(system, request, _)| (*system, *request) == (os, name)) {
                assert!(
                    !table.requests.iter().any(|row| row.name == name),
                    "{os}: {name} is known after all"
                );
                continue;
            }
            let row = |name: &str| table.requests.iter().find(|row| row.name == name);
            let row = row(name).unwrap_or_else(|| panic!("{os}: nobody has decided what becomes of {name}"));
            assert_eq!(number(row), hex(&known["bsd_value"]), "{os}: {name}");
            let dir = match row.dir {
                Dir::Void => "VOID",
                Dir::In => "IN",
                Dir::Out => "OUT",
                Dir::InOut => "INOUT",
            };
            assert_eq!(known["direction"], dir, "{os}: {name}");
            assert_eq!(known["size"].as_u64(), Some(row.arg.size() as u64), "{os}: {name}: size");
            if let Some(allowed) = known["lock_allowed"].as_bool() {
                assert_eq!(row.while_locked, allowed, "{os}: {name}: works after BIOCLOCK");
            }
            if known["bsd_value_ilp32"].is_string() {
                let value = hex(&known["bsd_value_ilp32"]);
                let call = table.decode(value);
                let call = call.unwrap_or_else(|| panic!("{os}: {name} of a 32-bit caller, {value:#x}"));
                assert_eq!(call.row.op, row.op, "{os}: {name} of a 32-bit caller");
                assert_eq!(Some(call.size as u64), known["size_ilp32"].as_u64(), "{os}: {name}");
            }
            if let Op::Refused(errno) = row.op {
                let listed = known["errnos"].as_array().unwrap().iter().any(|known| known == errno.name());
                // BIOCSETUP would take another descriptor's state over: DIFFERENCES.md
                assert!(listed || name == "BIOCSETUP", "{os}: {name} is refused with {errno}");
            }
        }
    }
}

#[test]
fn no_table_has_a_request_that_the_list_has_not() {
    for (os, table) in systems() {
        let rows = list()["os"][os]["ioctls"].as_array().unwrap().clone();
        for row in table.requests {
            let known = rows.iter().any(|known| {
                let value = |key: &str| known[key].is_string() && hex(&known[key]) == number(row);
                value("bsd_value") || value("bsd_value_ilp32")
            });
            // NetBSD's old time-outs and the file layer's requests have 32-bit layouts of their own
            assert!(known, "{os}: {} ({:#x})", row.name, number(row));
        }
    }
}

#[test]
fn header_lengths_are_those_of_the_list() {
    for (os, table) in systems() {
        let list = list();
        let lengths = &list["os"][os]["bh_hdrlen"];
        let key = match os {
            "freebsd" => "bpf_hdr (MICROTIME*, NONE)",
            "netbsd" | "dragonfly" => "amd64",
            "openbsd" => "all archs since bpf.h 1.69 (2020-06-18, 6.8)",
            "macos" => "bpf_hdr",
            _ => "amd64 (assuming SIZEOF_BPF_HDR = 20)",
        };
        let check = |header: abi::Header, key: &str| {
            let examples = &lengths[key]["examples"];
            for (name, link) in [("DLT_EN10MB", 14), ("DLT_NULL/DLT_LOOP", 4), ("DLT_RAW", 0)] {
                if let Some(length) = examples[name].as_u64() {
                    assert_eq!(header.hdrlen(link) as u64, length, "{os}: {key}: {name}");
                }
            }
            assert!(examples["DLT_EN10MB"].is_u64(), "{os}: {key}");
        };
        check(table.header, key);
        if os == "freebsd" {
            check(table.header32, "bpf_hdr32 (descriptor marked 32-bit by a *32 ioctl)");
            check(table.header.stamped(abi::Stamp::Nano64), "bpf_xhdr (NANOTIME*, BINTIME*)");
        }
        if os == "netbsd" {
            check(table.header32, "compat32 descriptor on amd64");
        }
        if let Some(extended) = table.extended {
            check(extended, "bpf_hdr_ext");
        }
    }
}

#[test]
fn buffer_sizes_are_those_of_the_list() {
    for (os, table) in systems() {
        let list = list();
        let sizes = &list["os"][os]["buffer_sizes"];
        let of = |key: &str| sizes[key].as_u64().unwrap();
        let rules = &table.rules;
        assert_eq!(u64::from(rules.bufsize), of("default"), "{os}");
        assert_eq!(u64::from(rules.bufsize_min), of("min"), "{os}");
        assert_eq!(u64::from(rules.bufsize_max), of("max"), "{os}");
    }
}

#[test]
fn link_type_numbers_are_those_of_the_list() {
    for (os, table) in systems() {
        let list = list();
        let dlts = &list["os"][os]["dlt"];
        for (name, linktype) in [
            ("DLT_NULL", Linktype::NULL),
            ("DLT_EN10MB", Linktype::EN10MB),
            ("DLT_RAW", Linktype::RAW),
            ("DLT_LOOP", Linktype::LOOP),
            ("DLT_PPP", Linktype::PPP),
            ("DLT_IEEE802_11_RADIO", Linktype::IEEE802_11_RADIO),
        ] {
            let number = dlts[name].as_u64().map(|number| u32::try_from(number).unwrap());
            assert_eq!(number, Some(table.dlt(linktype)), "{os}: {name}");
            assert_eq!(table.linktype(table.dlt(linktype)), Some(linktype), "{os}: {name}");
        }
    }
}

#[test]
fn a_32_bit_layout_is_smaller_or_the_same() {
    for table in abi::TABLES {
        for row in table.requests.iter().filter(|row| row.name.ends_with("32")) {
            let wide = row.name.trim_end_matches("32");
            let wide = table.requests.iter().find(|row| row.name == wide).unwrap();
            assert!(row.arg.size() < wide.arg.size() && row.op == wide.op, "{}: {}", table.name, row.name);
            assert!(row.arg.is_ilp32() || matches!(row.arg, Arg::Bytes(_)), "{}: {}", table.name, row.name);
        }
    }
}
