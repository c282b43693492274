//! Every recorded filter program: the verdict and the result of NetBSD's own kernel.
#![allow(clippy::unwrap_used)]

use bpfdev_core::cbpf::{Insn, NETBSD, validate};
use serde::Deserialize;

#[derive(Deserialize)]
struct Record {
    id: u32,
    prog: String,
    pkt: String,
    wirelen: u32,
    valid: u8,
    ret: Option<u32>,
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
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in corpus.lines() {
        let record: Record = serde_json::from_str(line).unwrap();
        let insns: Vec<Insn> = unhex(&record.prog).chunks(Insn::SIZE).map(insn).collect();
        let packet = unhex(&record.pkt);
        let verdict = validate(&insns, &NETBSD);
        let result = verdict.as_ref().ok().map(|program| program.run(&packet, record.wirelen));
        // The mbuf was contiguous, so both ways are the same.
        let contiguous = verdict.as_ref().ok().map(|program| program.run_contiguous(&packet, record.wirelen));
        if (u8::from(verdict.is_ok()), result, contiguous) != (record.valid, record.ret, record.ret) {
            wrong.push(format!(
                "{}: recorded valid {} ret {:?}, here {verdict:?} ret {result:?}",
                record.id, record.valid, record.ret
            ));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(count, 1490, "recordings");
}
