//! BSD programs translated for SO_ATTACH_BPF: every program, with exactly its meaning, and counted before it runs.
//!
//! What differs between the machines is told in [the rewriter for cBPF](super). Here it is solved by eBPF's means:
//!
//! - There is one copy of the program. On Ethernet `-vlan_present` is kept in a register, and the offset of a load
//!   behind the tag is reduced by four times that; only loads that touch the tag branch.
//! - A packet is counted in a map before the program sees it, and again when it is accepted. Packets of a hidden
//!   direction are counted where the BSD counts them.
//! - Unreachable instructions are left out, as the kernel's verifier refuses them.
//!
//! # The verifier
//! It follows both ways of each jump and prunes a way whose state it has seen. Were it to learn anything of A, X or
//! M\[\] it would tell 2²⁵⁰ states apart in a program of 512 instructions, and give up. It learns from comparisons, and
//! from constants it can follow; and what it knows matters as soon as it decides a jump by it. So every comparison is
//! made on a copy that was combined by XOR, twice, with a value the verifier does not know: the same number for the
//! machine, any number for the verifier. M\[\] words are such copies, too, and lie where it does not track them (at
//! odd words of the stack). No jump is ever decided, no value is ever "precise", and the work is linear.
//!
//! Nothing here needs more than CAP_BPF: no arithmetic on pointers, no read of a stack word that was not written.

mod assemble;
mod disasm;
mod emit;
mod entry;
mod insn;
mod jump;
mod load;

pub use disasm::disasm;
pub use insn::{Insn, Reg};

use bpfdev_core::cbpf::Insn as ClassicInsn;
use bpfdev_core::cbpf::code::RET_K;
use bpfdev_core::cbpf::{LINUX_ABI, Program};

use super::flow::analyse;
use super::{LinkKind, returned};
use emit::Emitter;

/// Bytes of the map's one value: [`RECEIVED`] and [`ACCEPTED`], 64 bits each in this machine's byte order.
pub const VALUE_SIZE: u32 = 16;
/// Offset in the value of the number of packets there were before the filter.
pub const RECEIVED: u32 = 0;
/// Offset in the value of the number of packets the filter accepted.
pub const ACCEPTED: u32 = 8;

/// Packets that are hidden from the program by the way they went: they are rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hidden {
    /// Those received. On loopback the one copy there is counts as received.
    pub received: bool,
    /// Those this host sent (PACKET_OUTGOING).
    pub sent: bool,
    /// Whether hidden packets are counted as received ones all the same (OpenBSD).
    pub counted: bool,
}

/// Where a packet's metadata is read: offsets in `struct __sk_buff`; values are as there.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Fields {
    pub pkt_type: i16,
    pub protocol: i16,
    pub vlan_present: i16,
    pub vlan_tci: i16,
    pub vlan_proto: i16,
}

impl Fields {
    /// The fields of `struct __sk_buff`.
    pub const KERNEL: Fields =
        Fields { pkt_type: 4, protocol: 16, vlan_present: 20, vlan_tci: 24, vlan_proto: 28 };
    /// `cb[0]` to `cb[4]`, which BPF_PROG_TEST_RUN sets to anything.
    pub const CONTROL_BLOCK: Fields =
        Fields { pkt_type: 48, protocol: 52, vlan_present: 56, vlan_tci: 60, vlan_proto: 64 };
}

/// Whose packets a program is translated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The interface's kind.
    pub link: LinkKind,
    /// Packets it does not see.
    pub hidden: Hidden,
    /// For tests: metadata from elsewhere.
    #[doc(hidden)]
    pub fields: Fields,
}

impl Target {
    /// All packets of an interface of this kind.
    pub const fn new(link: LinkKind) -> Target {
        Target {
            link,
            hidden: Hidden { received: false, sent: false, counted: false },
            fields: Fields::KERNEL,
        }
    }
}

/// A program for SO_ATTACH_BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    insns: Vec<Insn>,
    /// The snap lengths the BSD program returns as constants, in bytes, ascending, without 0.
    pub snaplens: Vec<u32>,
    /// It also returns values it computes (`ret a`).
    pub computes_snaplen: bool,
    header_excess: u32,
}

/// The translation has a jump that eBPF cannot express; no program of 512 instructions has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter: {len} instructions of eBPF, too far to jump over")]
pub struct TooLong {
    /// Instructions of eBPF.
    pub len: usize,
}

impl Translated {
    /// The instructions, with a map of one value of [`VALUE_SIZE`] bytes.
    pub fn insns(&self, map: std::os::fd::RawFd) -> Vec<Insn> {
        let mut insns = self.insns.clone();
        for insn in insns.iter_mut().filter(|insn| insn.is_wide()) {
            insn.imm = map;
        }
        insns
    }

    /// What the BSD program returned for a packet that the kernel let through; `u32::MAX` stands for every value that
    /// keeps all of it. The frame is to be cut to it after the tag was put back or the link header exchanged.
    ///
    /// `captured` and `len` are the kernel's two lengths in bytes (`tp_snaplen` and `tp_len`), where nothing but the
    /// filter cut the packet. `tag_restored`: the packet's VLAN tag was metadata, and is not in these lengths.
    ///
    /// `None`: it cannot be told, as the program returns different values from 12 to 16, which end in the tag; the packet is
    /// whole then, and the interpreter can be asked.
    pub fn verdict(&self, captured: u32, len: u32, tag_restored: bool) -> Option<u32> {
        if let ([only], false) = (self.snaplens.as_slice(), self.computes_snaplen) {
            return Some(*only);
        }
        if captured >= len {
            return if tag_restored && self.is_ambiguous() { None } else { Some(u32::MAX) };
        }
        if !tag_restored {
            return Some(captured.saturating_sub(self.header_excess));
        }
        match captured {
            0..12 => Some(captured),
            12 => self.snaplens.iter().find(|n| IN_TAG.contains(n)).copied(),
            _ => Some(captured.saturating_add(4)),
        }
    }

    fn is_ambiguous(&self) -> bool {
        ambiguous(&self.snaplens, self.computes_snaplen)
    }
}

/// Whether a program returns more than one value that ends in the tag.
fn ambiguous(snaplens: &[u32], computes_snaplen: bool) -> bool {
    computes_snaplen || snaplens.iter().filter(|n| IN_TAG.contains(n)).count() > 1
}

/// Snap lengths for which the kernel must keep the 12 bytes before a stripped tag, and nothing behind it.
const IN_TAG: std::ops::RangeInclusive<u32> = 12..=16;

/// A program that goes on with the first one of a program array; without one it rejects.
pub(crate) fn jump_to(array: std::os::fd::RawFd) -> [Insn; 6] {
    /// BPF_FUNC_tail_call.
    const TAIL_CALL: i32 = 12;
    // R1 is the packet.
    let [first, second] = insn::map(insn::R2, array);
    [
        first,
        second,
        insn::mov_imm(insn::R3, 0),
        insn::call(TAIL_CALL),
        insn::mov_imm(insn::R0, 0),
        insn::exit(),
    ]
}

/// Translates a BSD program; `None` accepts every packet whole, and counts it. Offsets have a BSD's meaning: a program
/// under Linux's own rules, with its ancillary data, is for SO_ATTACH_FILTER.
///
/// # Errors
/// [`TooLong`], for no program a BSD takes.
pub fn translate<'a>(
    program: impl Into<Option<&'a Program>>,
    target: &Target,
) -> Result<Translated, TooLong> {
    const ACCEPT_ALL: [ClassicInsn; 1] = [ClassicInsn::stmt(RET_K, u32::MAX)];
    let (insns, rules) = match program.into() {
        Some(program) if !program.is_empty() => (program.insns(), program.rules()),
        _ => (&ACCEPT_ALL[..], &LINUX_ABI),
    };
    let facts = analyse(insns, rules);
    let (snaplens, computes_snaplen) = returned(insns, &facts);
    let one_snaplen = !computes_snaplen && snaplens.len() <= 1;
    let ambiguous = ambiguous(&snaplens, computes_snaplen);
    let code = Emitter::new(insns, &facts, rules, target, one_snaplen, ambiguous).program();
    let header_excess = if matches!(target.link, LinkKind::Loopback(_)) { 10 } else { 0 };
    Ok(Translated { insns: code.assemble()?, snaplens, computes_snaplen, header_excess })
}
