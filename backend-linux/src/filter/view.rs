//! How the frame a BSD program sees lies in the kernel's packet.
//!
//! The two differ by four bytes that the packet does not have: a stripped 802.1Q tag at offset 12, or the family word
//! at the start of a loopback packet. Behind them every byte is moved by a constant.

use bpfdev_core::cbpf::Insn;
use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::skb::{AD_VLAN_TAG, AD_VLAN_TPID};

/// No packet has bytes from here on; below, an offset moved by a few bytes is still a plain one for Linux (from
/// 0x80000000 on they have other meanings).
pub(super) const OFFSET_LIMIT: u32 = 0x7fff_0000;

/// Where the four bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The stripped tag, from the packet's metadata.
    Tag,
    /// These.
    Word([u8; 4]),
}

/// Four bytes that are in the BSD frame and not in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// Their offset in the BSD frame.
    pub at: u32,
    source: Source,
    /// Offset in the packet less offset in the frame, modulo 2³², for bytes behind them. The frame is that much
    /// shorter than the packet.
    pub shift: u32,
}

/// The frame as the packet shows it: the same bytes, or with a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub hole: Option<Hole>,
}

/// Loads a part of a value into A: a load, then shifts and masks by constants. A and nothing else changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub insns: Vec<Insn>,
    /// Width of the part in bytes.
    pub width: u32,
}

/// Where the bytes of a load are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Outside every packet.
    Nowhere,
    /// In the packet, at this offset.
    Packet(u32),
    /// Some of them in the hole: parts to be put together, most significant first.
    Pieces(Vec<Piece>),
}

impl View {
    /// The packet as it is.
    pub const PLAIN: View = View { hole: None };
    /// An Ethernet frame whose 802.1Q or 802.1ad tag was stripped. The kernel strips no tag of a frame without an
    /// Ethernet header, so the first 14 bytes of the packet are there.
    pub const TAG_STRIPPED: View =
        View { hole: Some(Hole { at: 12, source: Source::Tag, shift: 4_u32.wrapping_neg() }) };

    /// A loopback packet, for BSD behind a family word, for Linux behind an Ethernet header.
    pub const fn loopback(word: [u8; 4]) -> View {
        View { hole: Some(Hole { at: 0, source: Source::Word(word), shift: 10 }) }
    }

    /// Where a load of `size` bytes at frame offset `at` finds them.
    pub fn place(self, at: u32, size: u32) -> Place {
        if at >= OFFSET_LIMIT {
            return Place::Nowhere;
        }
        match self.hole {
            Some(hole) if at >= hole.end() => Place::Packet(at.wrapping_add(hole.shift)),
            Some(hole) if at + size > hole.at => Place::Pieces(hole.pieces(at, at + size)),
            _ => Place::Packet(at),
        }
    }

    /// Bytes by which Linux's link header is longer than the BSD's, where it is.
    pub fn longer_header(self) -> Option<u32> {
        self.hole.filter(|hole| hole.at == 0).map(|hole| hole.shift)
    }

    /// Bytes the packet must have for the frame to reach to offset `end`; 0 where it always does.
    pub fn packet_len_for(self, end: u32) -> u32 {
        match self.hole {
            Some(hole) if end > hole.end() => end.wrapping_add(hole.shift),
            Some(hole) if end > hole.at => 0,
            _ => end,
        }
    }
}

impl Hole {
    /// The offset behind it, in the BSD frame.
    pub fn end(self) -> u32 {
        self.at + 4
    }

    fn pieces(self, start: u32, end: u32) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if start < self.at {
            pieces.push(packet_bytes(start, self.at - start));
        }
        let (first, last) = (start.max(self.at) - self.at, end.min(self.end()) - self.at);
        match self.source {
            Source::Word(word) => {
                let bytes = word.iter().take(last as usize).skip(first as usize);
                let value = bytes.fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
                pieces.push(Piece { insns: vec![Insn::stmt(LD_IMM, value)], width: last - first });
            }
            Source::Tag => {
                for (half, offset) in [(0, AD_VLAN_TPID), (2, AD_VLAN_TAG)] {
                    let (first, last) = (first.max(half), last.min(half + 2));
                    if first < last {
                        pieces.push(tag_bytes(offset, first - half, last - half));
                    }
                }
            }
        }
        if end > self.end() {
            let behind = self.end().wrapping_add(self.shift);
            pieces.push(packet_bytes(behind, end - self.end()));
        }
        pieces
    }
}

/// One to three bytes of the packet. Of three, the byte before is loaded with them and masked: it is always there, as
/// three bytes are only wanted next to a hole with more in front of it.
fn packet_bytes(at: u32, width: u32) -> Piece {
    let insns = match width {
        1 => vec![Insn::stmt(LD_B_ABS, at)],
        2 => vec![Insn::stmt(LD_H_ABS, at)],
        _ => vec![Insn::stmt(LD_W_ABS, at - 1), Insn::stmt(AND_K, 0x00ff_ffff)],
    };
    Piece { insns, width }
}

/// Bytes `first..last` of one half of the tag. Linux loads either half as a number of 16 bits.
fn tag_bytes(offset: u32, first: u32, last: u32) -> Piece {
    let mut insns = vec![Insn::stmt(LD_W_ABS, offset)];
    match (first, last) {
        (0, 1) => insns.push(Insn::stmt(RSH_K, 8)),
        (1, 2) => insns.push(Insn::stmt(AND_K, 0xff)),
        _ => {}
    }
    Piece { insns, width: last - first }
}
