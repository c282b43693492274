//! semantics.md 16: a tag is part of the frame, for the filter and in the record.

use bpfdev_core::abi::{FilterSource, Request};
use bpfdev_core::cbpf::Insn;

use crate::support::*;

#[test]
fn a_tag_is_inline_and_counts() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        // ldh [12] = 0x8100, ldh [14] & 0xfff = 5
        fd.ok(Request::SetF(FilterSource::new(&[
            Insn::stmt(0x28, 12),
            Insn::jump(0x15, 0x8100, 0, 4),
            Insn::stmt(0x28, 14),
            Insn::stmt(0x54, 0xfff),
            Insn::jump(0x15, 5, 0, 1),
            Insn::stmt(6, u32::MAX),
            Insn::stmt(6, 0),
        ])));
        let mut tagged = frame(64);
        tagged[12..18].copy_from_slice(&[0x81, 0x00, 0x60, 0x05, 0x08, 0x00]);
        let mut other = tagged.clone();
        other[15] = 6;
        for frame in [&tagged, &other, &frame(60)] {
            fd.world.rx_frame(frame);
        }
        let record = fd.read().unwrap();
        assert_eq!(record[record.len() - 64..], tagged, "{}", abi.name);
        assert!(!matches!(fd.read(), Ok(bytes) if !bytes.is_empty()), "{}: only that one", abi.name);
    }
}
