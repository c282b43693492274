//! Every recorded filter program of NetBSD's kernel, translated and run in this one by BPF_PROG_TEST_RUN: the recorded
//! result. Needs CAP_BPF and CAP_NET_ADMIN.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod ebpf;

use bpfdev_backend_linux::filter::LinkKind;
use bpfdev_core::cbpf::code::{LD_W_LEN, LDX_W_LEN};
use bpfdev_core::cbpf::{Insn, NETBSD, validate};
use ebpf::Loaded;

/// The text of a field of a line of JSON without nested values.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("\"{name}\":")).unwrap();
    rest.trim_start().trim_start_matches('"').split(['"', ',', '}']).next().unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

/// The recordings are little-endian, wherever this runs.
fn insn(bytes: &[u8]) -> Insn {
    let code = u16::from_le_bytes(bytes[..2].try_into().unwrap());
    Insn::new(code, bytes[2], bytes[3], u32::from_le_bytes(bytes[4..].try_into().unwrap()))
}

#[test]
fn all_recorded_programs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../compat-tests/oracle/netbsd/filter-corpus.jsonl");
    let corpus = std::fs::read_to_string(path).unwrap();
    let (mut run, mut not_whole) = (0, 0);
    for line in corpus.lines().filter(|line| field(line, "valid") == "1") {
        let insns: Vec<Insn> = unhex(field(line, "prog")).chunks(Insn::SIZE).map(insn).collect();
        let packet = unhex(field(line, "pkt"));
        let wirelen: u32 = field(line, "wirelen").parse().unwrap();
        let expected: u32 = field(line, "ret").parse().unwrap();
        let program = validate(&insns, &NETBSD).unwrap();
        let asks_len = insns.iter().any(|insn| matches!(insn.code, LD_W_LEN | LDX_W_LEN));
        if asks_len && wirelen as usize != packet.len() {
            // In the kernel a packet is always whole: there is no length besides that of its bytes.
            not_whole += 1;
            continue;
        }
        for link in [LinkKind::Raw, LinkKind::Ethernet] {
            let loaded = Loaded::new(&program, link);
            let answer = loaded.run(&packet, 0, 0, None);
            assert_eq!(answer, expected, "record {}: {}", field(line, "id"), loaded.listing(&program));
            let counted = loaded.map.read().unwrap();
            assert_eq!((counted.received, counted.accepted), (1, u64::from(expected != 0)));
        }
        run += 1;
    }
    println!(
        "{run} recordings run as recorded; {not_whole} ask the length of a packet cut before the filter"
    );
    assert_eq!((run, not_whole), (1229, 29));
}
