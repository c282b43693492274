//! Filter programs that several cases use, by the codes of net/bpf.h.

use bpfdev_core::cbpf::Insn;

use crate::conformance::frame::ETHERTYPE;

/// `ret #k`: the first k bytes of every packet.
pub fn ret(k: u32) -> Vec<Insn> {
    vec![Insn::stmt(0x06, k)]
}

/// Whole packets of the cases' own ethertype.
pub fn all_of_ethertype() -> Vec<Insn> {
    vec![
        Insn::stmt(0x28, 12),
        Insn::jump(0x15, u32::from(ETHERTYPE), 0, 1),
        Insn::stmt(0x06, u32::MAX),
        Insn::stmt(0x06, 0),
    ]
}

/// The frame of this number, whole.
pub fn only_number(number: u16) -> Vec<Insn> {
    vec![
        Insn::stmt(0x28, 14),
        Insn::jump(0x15, u32::from(number), 0, 1),
        Insn::stmt(0x06, u32::MAX),
        Insn::stmt(0x06, 0),
    ]
}
