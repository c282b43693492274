//! BSD programs rewritten for SO_ATTACH_FILTER, with exactly the BSD's meaning.
//!
//! Linux runs nearly the same machine, on a packet that lies nearly the same. The differences, and what is done:
//!
//! - **A stripped VLAN tag.** A received frame's outer tag is metadata; a BSD has it in the frame, at offset 12. Two
//!   copies of the program stand behind a test of `SKF_AD_VLAN_TAG_PRESENT` (never of the tag itself: a priority tag
//!   may be 0). The second sees the frame with the tag: loads of the tag come from the metadata, loads behind it move
//!   by 4, loads across an edge are put together, `len` is 4 more. A tag that is still in the frame (one this host
//!   sent, the inner one of two) is seen where it is.
//! - **Loopback.** A BSD has a family word of 4 bytes where Linux has an Ethernet header of 14: the same, with the word
//!   chosen by the Ethernet type. Packets of other types are not shown.
//! - **Offsets from 0x80000000 on** are ancillary data or header-relative for Linux, outside the packet for a BSD.
//!   Constant ones reject, X is bounded before it is used.
//! - **Codes Linux refuses**: junk that rejects when it is reached, `ret x`, shifts by 32 and more, M\[\] read unstored,
//!   no program at all.
//! - **FreeBSD's `ldh [k]` past the end**, which loads 0: a comparison with the length.
//!
//! `len` of a frame aggregated by GRO or GSO is the aggregate's, as on a BSD with LRO or TSO.
//!
//! The kernel cuts a packet to the snap length *before* the tag is put back, so the frame is to be cut again:
//! [`Rewritten::verdict`] says to how much.

mod assemble;
pub mod ebpf;
mod emit;
mod flow;
mod probe;
mod view;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use bpfdev_core::backend::LoopbackFraming;
use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::skb::AD_VLAN_TAG_PRESENT;
use bpfdev_core::cbpf::{Insn, Program};

pub use probe::{attach, try_attach};

use assemble::Code;
use emit::emit;
use flow::{A_REG, Facts, analyse};
use view::View;

/// Most instructions Linux takes (`BPF_MAXINSNS` of `<linux/filter.h>`).
pub const MAX_INSNS: usize = 4096;

const ETHERTYPE_IP: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Where the user wants the read filter to run: `--plan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PlanChoice {
    /// As eBPF where the kernel lets us, else as classic BPF where that is exact, else in this process.
    #[default]
    Auto,
    /// In the kernel as eBPF, counted; what the kernel refuses is an error.
    Ebpf,
    /// In the kernel as classic BPF; a program that cannot be rewritten exactly is an error.
    Cbpf,
    /// In this process.
    Process,
}

impl PlanChoice {
    /// All, in the order of the help text.
    pub const ALL: [PlanChoice; 4] =
        [PlanChoice::Auto, PlanChoice::Ebpf, PlanChoice::Cbpf, PlanChoice::Process];

    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            PlanChoice::Auto => "auto",
            PlanChoice::Ebpf => "ebpf",
            PlanChoice::Cbpf => "cbpf",
            PlanChoice::Process => "process",
        }
    }
}

impl fmt::Display for PlanChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PlanChoice {
    type Err = UnknownPlan;

    fn from_str(word: &str) -> Result<PlanChoice, UnknownPlan> {
        PlanChoice::ALL
            .into_iter()
            .find(|plan| plan.name() == word)
            .ok_or_else(|| UnknownPlan(word.to_owned()))
    }
}

/// A word that is no [`PlanChoice`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no plan; use auto, ebpf, cbpf or process")]
pub struct UnknownPlan(pub String);

/// What an interface's packets look like to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// An Ethernet header (ARPHRD_ETHER); a received frame's VLAN tag may have been stripped.
    Ethernet,
    /// For a BSD a family word, for Linux an Ethernet header (ARPHRD_LOOPBACK).
    Loopback(LoopbackFraming),
    /// The network packet alone (ARPHRD_NONE).
    Raw,
}

/// A program for SO_ATTACH_FILTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The instructions: 1 to [`MAX_INSNS`], valid under [`LINUX`](bpfdev_core::cbpf::LINUX).
    pub insns: Vec<Insn>,
    /// The snap lengths the program returns as constants, in bytes, ascending, without 0.
    pub snaplens: Vec<u32>,
    /// It also returns values it computes (`ret a`).
    pub computes_snaplen: bool,
    /// Bytes by which the kernel's link header is longer than the BSD's: 10 on loopback, else 0.
    header_excess: u32,
}

impl Rewritten {
    /// What the BSD program returned for a packet that the kernel let through; `u32::MAX` stands for every value that
    /// keeps all of it. The frame is to be cut to it after the tag was put back or the link header exchanged.
    ///
    /// `captured` and `len` are the kernel's two lengths in bytes (`tp_snaplen` and `tp_len`, or what `recv` stored and
    /// what it returned with MSG_TRUNC), where nothing but the filter cut the packet. `tag_restored`: the packet's VLAN
    /// tag was metadata, and is not in these lengths.
    ///
    /// `None`: it cannot be told, as the program returns different values and one may lie among the last four bytes of
    /// a frame whose tag was put back; ask the interpreter.
    pub fn verdict(&self, captured: u32, len: u32, tag_restored: bool) -> Option<u32> {
        if let ([only], false) = (self.snaplens.as_slice(), self.computes_snaplen) {
            return Some(*only);
        }
        if captured < len {
            return Some(captured.saturating_sub(self.header_excess));
        }
        let within = |n: &u32| (len..len.saturating_add(4)).contains(n);
        if tag_restored && (self.computes_snaplen || self.snaplens.iter().any(within)) {
            return None;
        }
        Some(u32::MAX)
    }
}

/// Why a program cannot run in the kernel with exactly its meaning; it can in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", Place(*pc))]
pub struct NotExact {
    /// The instruction of the BSD program, from 0. `None`: the program as a whole.
    pub pc: Option<usize>,
    /// What stands in the way.
    #[source]
    pub reason: Reason,
}

struct Place(Option<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pc) => write!(f, "instruction ({pc:03}) of the filter: "),
            None => f.write_str("filter: "),
        }
    }
}

/// What stands in the way of an exact rewriting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A register must be saved, and every word of M[] is in use.
    #[error("no word of M[] is free to save a register in")]
    NoScratch,
    /// More instructions than Linux takes.
    #[error("{len} instructions for Linux, which takes at most {MAX_INSNS}")]
    TooLong {
        /// Instructions after rewriting.
        len: usize,
    },
}

/// Rewrites a BSD program for the packets of an interface of this kind.
///
/// # Errors
/// [`NotExact`] when the result would differ from the BSD program, or be too long. The kernel may still refuse what is
/// returned for want of `net.core.optmem_max` (ENOMEM).
pub fn rewrite(program: &Program, link: LinkKind) -> Result<Rewritten, NotExact> {
    const ACCEPT_ALL: [Insn; 1] = [Insn::stmt(RET_K, u32::MAX)];
    let insns = if program.is_empty() { &ACCEPT_ALL } else { program.insns() };
    let rules = program.rules();
    let facts = analyse(insns, rules);
    let copy = |view| emit(insns, &facts, rules, view);
    let a_is_needed = facts.first().is_some_and(|fact| fact.live_in & A_REG != 0);

    let code = match link {
        LinkKind::Raw => copy(View::PLAIN)?,
        LinkKind::Ethernet => {
            let (plain, stripped) = (copy(View::PLAIN)?, copy(View::TAG_STRIPPED)?);
            choose(AD_VLAN_TAG_PRESENT, W, &[(0, &plain)], Some(&stripped), a_is_needed)
        }
        LinkKind::Loopback(framing) => {
            let family = |ethertype| framing.family(ethertype).map(|number| framing.header(number));
            let mut copies = Vec::new();
            for ethertype in [ETHERTYPE_IP, ETHERTYPE_IPV6] {
                if let Some(word) = family(ethertype) {
                    copies.push((u32::from(ethertype), copy(View::loopback(word))?));
                }
            }
            let copies: Vec<(u32, &Code)> = copies.iter().map(|(key, code)| (*key, code)).collect();
            choose(12, H, &copies, None, a_is_needed)
        }
    };
    let insns_out = code.assemble();
    if insns_out.len() > MAX_INSNS {
        return Err(NotExact { pc: None, reason: Reason::TooLong { len: insns_out.len() } });
    }
    let (snaplens, computes_snaplen) = returned(insns, &facts);
    let header_excess = if matches!(link, LinkKind::Loopback(_)) { 10 } else { 0 };
    Ok(Rewritten { insns: insns_out, snaplens, computes_snaplen, header_excess })
}

/// The copies behind a test: that of the value the load of `size` at `offset` gives; `other` where it has none, which
/// rejects without one. Copies that are the same are there once.
fn choose(offset: u32, size: u16, copies: &[(u32, &Code)], other: Option<&Code>, a_is_needed: bool) -> Code {
    let mut code = Code::default();
    let mut bodies: Vec<(usize, &Code)> = Vec::new();
    if let (Some(other), true) = (other, copies.iter().all(|(_, copy)| Some(*copy) == other)) {
        return other.clone();
    }
    let mut label_of = |code: &mut Code, body| match bodies.iter().find(|(_, known)| *known == body) {
        Some((label, _)) => *label,
        None => {
            let label = code.label();
            bodies.push((label, body));
            label
        }
    };
    code.stmt(LD | size | ABS, offset);
    for (value, copy) in copies {
        let (taken, next) = (label_of(&mut code, *copy), code.label());
        code.branch(JEQ_K, *value, taken, next);
        code.here(next);
    }
    match other {
        Some(other) => {
            let label = label_of(&mut code, other);
            code.goto(label);
        }
        None => code.reject(),
    }
    for (label, body) in bodies {
        code.here(label);
        if a_is_needed {
            code.stmt(LD_IMM, 0);
        }
        code.append(body);
    }
    code
}

/// The constants a program may return, ascending, without 0; and whether it may return other values.
fn returned(insns: &[Insn], facts: &[Facts]) -> (Vec<u32>, bool) {
    let mut constants = Vec::new();
    let mut computes = false;
    for (insn, facts) in insns.iter().zip(facts) {
        let value = match (facts.before, insn.code) {
            (Some(_), RET_K) => Some(insn.k),
            (Some(before), RET_A) => before.a.known(),
            _ => continue,
        };
        constants.extend(value);
        computes |= value.is_none();
    }
    constants.retain(|value| *value != 0);
    constants.sort_unstable();
    constants.dedup();
    (constants, computes)
}
