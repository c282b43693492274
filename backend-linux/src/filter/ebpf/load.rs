//! Packet loads: each leaves its value in R0.
//!
//! The frame a BSD program sees has four bytes that the packet does not have (a *hole*), and behind them lies at other
//! offsets:
//!
//! | link | the hole | bytes behind it |
//! | --- | --- | --- |
//! | Ethernet, tag stripped | at 12: the tag | 4 earlier |
//! | loopback | at 0: the family word | 10 later |
//!
//! A load that touches the hole is cut out of the number its bytes and those of the packet make together.

use bpfdev_core::cbpf::code::*;

use super::assemble::Operand;
use super::emit::{Emitter, FAMILY};
use super::insn::*;
use crate::filter::LinkKind;
use crate::filter::flow::Range;
use crate::filter::view::OFFSET_LIMIT;

/// Four bytes of the frame that the packet does not have.
#[derive(Clone, Copy)]
struct Hole {
    at: u32,
    /// Offset in the packet less offset in the frame, modulo 2³², for bytes behind.
    shift: u32,
}

impl Hole {
    const TAG: Hole = Hole { at: 12, shift: 4_u32.wrapping_neg() };
    const FAMILY: Hole = Hole { at: 0, shift: 10 };

    const fn end(self) -> u32 {
        self.at + 4
    }
}

/// Offsets an indirect load may have, both included.
#[derive(Clone, Copy)]
struct Offsets {
    lo: u32,
    hi: u32,
}

impl Emitter<'_> {
    fn hole(&self) -> Option<Hole> {
        match self.target.link {
            LinkKind::Ethernet => Some(Hole::TAG),
            LinkKind::Loopback(_) => Some(Hole::FAMILY),
            LinkKind::Raw => None,
        }
    }

    /// The frame's length that a load at `k` needs, where a frame may be shorter.
    pub fn needed_len(&self, k: u32, size: u16) -> Option<u32> {
        let end = k.saturating_add(width(size));
        let always = k >= OFFSET_LIMIT || (matches!(self.target.link, LinkKind::Loopback(_)) && end <= 4);
        (!always).then_some(end)
    }

    /// R0 = the number at `k`; false, and nothing is done, where no packet reaches to it. Loses R1 to R5.
    pub fn absolute(&mut self, size: u16, k: u32) -> bool {
        if k >= OFFSET_LIMIT {
            return false;
        }
        match (self.target.link, self.hole()) {
            (LinkKind::Ethernet, Some(tag)) if k >= tag.end() => {
                self.shift(R1);
                self.code.push([load_packet_at(size, R1, k)]);
            }
            (LinkKind::Ethernet, Some(tag)) if k + width(size) > tag.at => {
                let (plain, end) = (self.code.label(), self.code.label());
                self.shift(R1);
                self.code.branch(JEQ, R1, Operand::Imm(0), plain);
                self.absolute_in_hole(tag, size, k);
                self.code.goto(end);
                self.code.here(plain);
                self.code.push([load_packet(size, k)]);
                self.code.here(end);
            }
            (LinkKind::Loopback(_), Some(family)) if k >= family.end() => {
                self.code.push([load_packet(size, k + family.shift)]);
            }
            (LinkKind::Loopback(_), Some(family)) => self.absolute_in_hole(family, size, k),
            _ => self.code.push([load_packet(size, k)]),
        }
        true
    }

    /// R0 = the number at `k`, of which some bytes are in the hole.
    fn absolute_in_hole(&mut self, hole: Hole, size: u16, k: u32) {
        let fields = self.target.fields;
        match (hole.at, size, k) {
            (12, H, 12) => return self.code.push([load(R0, PACKET, fields.vlan_proto), from_be16(R0)]),
            (12, H, 14) => return self.code.push([load(R0, PACKET, fields.vlan_tci)]),
            _ => {}
        }
        let end = k + width(size);
        if let behind @ 1.. = end.saturating_sub(hole.end()) {
            // The four bytes of the packet that end where the load does: the last of them are wanted.
            self.code.push([load_packet(W, end.wrapping_add(hole.shift) - 4)]);
            self.code.push([alu_imm(AND, R0, (1 << (8 * behind)) - 1)]);
            self.hole_word(hole);
            self.code.push([alu64_imm(LSH, R1, 8 * behind), alu64(OR, R0, R1)]);
        } else {
            self.up_to_end(hole, k < hole.at);
            self.code.push([alu64_imm(RSH, R0, 8 * (hole.end() - end))]);
        }
        self.cut(size);
    }

    /// R0 = the hole's word, behind the four bytes before it if they are wanted: always there, as a packet whose tag was
    /// stripped has an Ethernet header.
    fn up_to_end(&mut self, hole: Hole, before: bool) {
        if before {
            self.code.push([load_packet(W, hole.at - 4), alu64_imm(LSH, R0, 32)]);
            self.hole_word(hole);
            self.code.push([alu64(OR, R0, R1)]);
        } else {
            self.hole_word(hole);
            self.code.push([mov(R0, R1)]);
        }
    }

    /// R1 = the hole's four bytes as a number. Loses R2.
    fn hole_word(&mut self, hole: Hole) {
        let fields = self.target.fields;
        if hole.at == 0 {
            return self.code.push([load(R1, FRAME, FAMILY)]);
        }
        self.code.push([
            load(R1, PACKET, fields.vlan_proto),
            from_be16(R1),
            alu_imm(LSH, R1, 16),
            load(R2, PACKET, fields.vlan_tci),
            alu(OR, R1, R2),
        ]);
    }

    /// Leaves the last bytes of R0.
    fn cut(&mut self, size: u16) {
        self.code.push([match size {
            H => alu_imm(AND, R0, 0xffff),
            B => alu_imm(AND, R0, 0xff),
            _ => mov(R0, R0),
        }]);
    }

    /// R0 = the number at X + k, where X is in these bounds; false, and nothing is done, where no packet reaches to it.
    /// Loses R1 to R5.
    pub fn indirect(&mut self, size: u16, k: u32, x: Option<Range>) -> bool {
        const WRAP: u64 = 1 << u32::BITS;
        const LIMIT: u64 = OFFSET_LIMIT as u64;
        let wraps = self.rules.indirect_wraps.tap;
        let (lo, hi) = x.map_or((0, WRAP - 1), |x| (x.lo.into(), x.hi.into()));
        let (lo, hi): (u64, u64) = (lo + u64::from(k), hi + u64::from(k));
        let (lo, hi) = match (wraps, lo >= WRAP, hi >= WRAP) {
            (true, true, _) => (lo - WRAP, hi - WRAP),
            (true, false, true) => (0, WRAP - 1),
            _ => (lo, hi),
        };
        if lo >= LIMIT {
            return false;
        }
        let bounded = hi >= LIMIT;
        let offsets = Offsets { lo: lo as u32, hi: hi.min(LIMIT - 1) as u32 };
        // Without wrapping, X is bounded before k is added.
        if bounded && !wraps {
            self.launder(R2, INDEX);
            self.code.branch(JGT, R2, Operand::Imm(OFFSET_LIMIT - 1 - k), self.reject);
        }
        self.code.push([mov(R1, INDEX)]);
        if k != 0 {
            self.code.push([alu_imm(ADD, R1, k)]);
        }
        if bounded && wraps {
            self.launder(R2, R1);
            self.code.branch(JGE, R2, Operand::Imm(OFFSET_LIMIT), self.reject);
        }
        match self.hole() {
            None => self.code.push([load_packet_at(size, R1, 0)]),
            Some(hole) => self.around(hole, size, k, offsets, bounded && wraps),
        }
        true
    }

    /// R0 = the number at R1 = X + k: before, behind or in the hole. `copied`: R2 is R1, laundered.
    fn around(&mut self, hole: Hole, size: u16, k: u32, offsets: Offsets, copied: bool) {
        let ethernet = self.target.link == LinkKind::Ethernet;
        // The first offset of a load that touches the hole.
        let touches = (hole.at + 1).saturating_sub(width(size));
        let (behind, load, end) = (self.code.label(), self.code.label(), self.code.label());
        if offsets.hi < touches {
            return self.code.push([load_packet_at(size, R1, 0)]);
        }
        if offsets.lo < hole.end() {
            if !copied {
                self.launder(R2, R1);
            }
            if offsets.hi >= hole.end() {
                self.code.branch(JGE, R2, Operand::Imm(hole.end()), behind);
            }
            if ethernet {
                self.shift(R3);
                self.code.branch(JEQ, R3, Operand::Imm(0), load);
            }
            if offsets.lo < touches {
                self.code.branch(code::JLT.into(), R2, Operand::Imm(touches), load);
            }
            let first = touches.max(offsets.lo);
            self.indirect_in_hole(hole, size, k, Offsets { lo: first, hi: offsets.hi.min(hole.end() - 1) });
            if offsets.hi >= hole.end() || self.code.wants(load) {
                self.code.goto(end);
            }
        }
        if offsets.hi >= hole.end() {
            self.code.here(behind);
            if ethernet {
                self.shift(R3);
                self.code.push([alu(ADD, R1, R3)]);
            } else {
                self.code.push([alu_imm(ADD, R1, hole.shift)]);
            }
        }
        if offsets.hi >= hole.end() || self.code.wants(load) {
            self.code.here(load);
            self.code.push([load_packet_at(size, R1, 0)]);
        }
        self.code.here(end);
    }

    /// R0 = the number at R1 = X + k, of which some bytes are in the hole; R2 is R1, laundered.
    fn indirect_in_hole(&mut self, hole: Hole, size: u16, k: u32, offsets: Offsets) {
        let (behind, end) = (self.code.label(), self.code.label());
        // The last offset of a load that ends in the hole.
        let last = hole.end() - width(size);
        let (ends_inside, ends_behind) = (offsets.lo <= last, offsets.hi > last);
        if ends_inside {
            if ends_behind {
                self.code.branch(JGT, R2, Operand::Imm(last), behind);
            }
            self.up_to_end(hole, offsets.lo < hole.at);
            // 8 × (last − offset)
            self.code.push([
                mov_imm(R2, last.wrapping_sub(k)),
                alu(SUB, R2, INDEX),
                alu_imm(LSH, R2, 3),
                alu64(RSH, R0, R2),
            ]);
            self.cut(size);
            if ends_behind {
                self.code.goto(end);
            }
        }
        if ends_behind {
            self.code.here(behind);
            // As in absolute_in_hole().
            let from_end = width(size).wrapping_sub(4).wrapping_add(hole.shift);
            self.code.push([alu_imm(ADD, R1, from_end), load_packet_at(W, R1, 0)]);
            self.hole_word(hole);
            // 8 × (offset − last)
            self.code.push([
                mov(R2, INDEX),
                alu_imm(ADD, R2, k.wrapping_sub(last)),
                alu_imm(LSH, R2, 3),
                alu64(LSH, R1, R2),
                mov_imm(R3, 1),
                alu64(LSH, R3, R2),
                alu64_imm(SUB, R3, 1),
                alu64(AND, R0, R3),
                alu64(OR, R0, R1),
            ]);
            self.cut(size);
        }
        self.code.here(end);
    }
}
