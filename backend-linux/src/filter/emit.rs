//! One copy of a BSD program for one [`View`], instruction by instruction.
//!
//! Each instruction becomes some that leave A, X and M[] as the BSD machine has them, where they are still needed.

use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::skb::AD_RANDOM;
use bpfdev_core::cbpf::{Insn, Rules};

use super::assemble::Code;
use super::flow::{A_REG, Bounds, Facts, Range, Registers, X_REG, executes};
use super::view::{Hole, OFFSET_LIMIT, Piece, Place, View};
use super::{NotExact, Reason};

/// How a register gets its value back after it was used for something else.
#[derive(Clone, Copy)]
enum Saved {
    /// It is not needed.
    Dead,
    /// It can only have been this.
    Known(u32),
    /// From this word of M[].
    Word(u32),
}

/// The copy for `view`.
pub(super) fn emit(insns: &[Insn], facts: &[Facts], rules: &Rules, view: View) -> Result<Code, NotExact> {
    // Labels below insns.len() are the program's own instructions.
    let mut emitter = Emitter { code: Code::with_labels(insns.len()), rules, view };
    for (pc, (insn, facts)) in insns.iter().zip(facts).enumerate() {
        let Some(before) = facts.before else { continue };
        emitter.code.here(pc);
        emitter
            .instruction(pc, *insn, &before, facts.live_out)
            .map_err(|reason| NotExact { pc: Some(pc), reason })?;
    }
    Ok(emitter.code)
}

struct Emitter<'a> {
    code: Code,
    rules: &'a Rules,
    view: View,
}

impl Emitter<'_> {
    fn instruction(
        &mut self,
        pc: usize,
        insn: Insn,
        before: &Bounds,
        live_out: Registers,
    ) -> Result<(), Reason> {
        let Insn { code, k, .. } = insn;
        match code {
            _ if !executes(code, self.rules) => self.code.reject(),
            LD_W_ABS | LD_H_ABS | LD_B_ABS => {
                // X is changed only where the load is put together.
                self.absolute(code, k, || save(before.x, X_REG, live_out))?;
            }
            LD_W_IND | LD_H_IND | LD_B_IND => self.indirect(code, k, before.x, live_out & X_REG != 0),
            LDX_B_MSH => self.header_length(k, || save(before.a, A_REG, live_out))?,
            LD_W_LEN => self.length(),
            LDX_W_LEN if self.view.hole.is_some() => {
                let saved = save(before.a, A_REG, live_out)?;
                self.keep(saved, ST_MEM);
                self.length();
                self.code.stmt(MISC_TAX, 0);
                self.restore(saved, LD_IMM, LD_MEM);
            }
            LD_RND => self.code.stmt(LD_W_ABS, AD_RANDOM),
            LSH_K | RSH_K => self.code.stmt(code, k & 31),
            JA_K => self.code.goto(pc + 1 + k as usize),
            RET_K => self.code.stmt(RET_K, self.snaplen(k)),
            RET_A => self.return_a(),
            _ if insn.is_conditional() => {
                self.code.branch(code, k, pc + 1 + usize::from(insn.jt), pc + 1 + usize::from(insn.jf));
            }
            _ => self.code.stmt(code, k),
        }
        Ok(())
    }

    fn absolute(
        &mut self,
        code: u16,
        k: u32,
        save_x: impl FnOnce() -> Result<Saved, Reason>,
    ) -> Result<(), Reason> {
        let zero_past_end = self.rules.half_load_past_end_is_zero && code == LD_H_ABS;
        let place = self.view.place(k, width(code));
        if place == Place::Nowhere {
            if zero_past_end {
                self.code.stmt(LD_IMM, 0);
            } else {
                self.code.reject();
            }
            return Ok(());
        }
        let needed = self.view.packet_len_for(k + width(code));
        let checked = (zero_past_end && needed > 0).then(|| {
            let (inside, outside, end) = (self.code.label(), self.code.label(), self.code.label());
            self.code.stmt(LD_W_LEN, 0);
            self.code.branch(JGE_K, needed, inside, outside);
            self.code.here(inside);
            (outside, end)
        });
        match place {
            Place::Pieces(pieces) => {
                let saved = if pieces.len() > 1 { save_x()? } else { Saved::Dead };
                self.put_together(&pieces, saved);
            }
            Place::Packet(at) => self.code.stmt(code, at),
            Place::Nowhere => {}
        }
        if let Some((outside, end)) = checked {
            self.code.goto(end);
            self.code.here(outside);
            self.code.stmt(LD_IMM, 0);
            self.code.here(end);
        }
        Ok(())
    }

    /// A ← the pieces side by side. Uses X where there is more than one.
    fn put_together(&mut self, pieces: &[Piece], x: Saved) {
        let several = pieces.len() > 1;
        if several {
            self.keep(x, STX_MEM);
        }
        let mut to_come: u32 = pieces.iter().map(|piece| piece.width).sum();
        for (number, piece) in pieces.iter().enumerate() {
            for insn in &piece.insns {
                self.code.stmt(insn.code, insn.k);
            }
            to_come -= piece.width;
            if to_come > 0 {
                self.code.stmt(LSH_K, 8 * to_come);
            }
            if number > 0 {
                self.code.stmt(OR_X, 0);
            }
            if to_come > 0 {
                self.code.stmt(MISC_TAX, 0);
            }
        }
        if several {
            self.restore(x, LDX_IMM, LDX_MEM);
        }
    }

    /// `ld [x + k]`. X may be anything, and Linux gives sums from 0x80000000 on other meanings, so it is bounded
    /// first, in A, which the load overwrites anyway.
    fn indirect(&mut self, code: u16, k: u32, x: Range, x_needed: bool) {
        let wraps = self.rules.indirect_wraps.tap;
        let (lo, hi) = (u64::from(x.lo) + u64::from(k), u64::from(x.hi) + u64::from(k));
        const WRAP: u64 = 1 << u32::BITS;
        let (lo, hi) = match (wraps, lo >= WRAP, hi >= WRAP) {
            (true, true, _) => (lo - WRAP, hi - WRAP),
            (true, false, true) => (0, WRAP - 1),
            _ => (lo, hi),
        };
        let limit = u64::from(OFFSET_LIMIT);
        if lo >= limit {
            return self.code.reject();
        }
        // Where bounded, X + k is in A. Without wrapping X is bounded before k is added.
        let bounded = hi >= limit;
        if bounded {
            self.code.stmt(MISC_TXA, 0);
            if !wraps {
                self.code.reject_if(JGT_K, OFFSET_LIMIT - 1 - k);
            }
            if k != 0 && (wraps || self.view.hole.is_some()) {
                self.code.stmt(ADD_K, k);
            }
            if wraps {
                self.code.reject_if(JGE_K, OFFSET_LIMIT);
            }
        }
        let offsets = Range { lo: lo as u32, hi: hi.min(limit - 1) as u32 };
        match self.view.hole {
            Some(hole) => self.around(hole, code, k, offsets, bounded, x_needed),
            None => self.code.stmt(code, k),
        }
    }

    /// `ld [x + k]` with X + k in `offsets`, and in A already if `in_a`: before, behind or in the hole.
    fn around(&mut self, hole: Hole, code: u16, k: u32, offsets: Range, in_a: bool, x_needed: bool) {
        let size = width(code);
        // Largest offset of a load wholly before the hole, and the offsets that meet the hole.
        let before = hole.at.checked_sub(size).filter(|last| offsets.lo <= *last);
        let first_in = (hole.at + 1).saturating_sub(size).max(offsets.lo);
        let in_hole = first_in..hole.end().min(offsets.hi.saturating_add(1)).max(first_in);
        let behind = offsets.hi >= hole.end();
        let shifted = k.wrapping_add(hole.shift);

        let ways = usize::from(before.is_some()) + usize::from(behind) + in_hole.len();
        if ways > 1 && !in_a {
            self.code.stmt(MISC_TXA, 0);
            if k != 0 {
                self.code.stmt(ADD_K, k);
            }
        }
        let end = self.code.label();
        let mut left = ways;
        // Each way but the last is behind its test.
        if behind {
            left -= 1;
            self.way(left, (JGE_K, hole.end()), end, |this| this.code.stmt(code, shifted));
        }
        if before.is_some() {
            left -= 1;
            let from = hole.at + 1 - size;
            // The test is for the other ways: true means the load is not before the hole.
            if left > 0 {
                let (other, this_way) = (self.code.label(), self.code.label());
                self.code.branch(JGE_K, from, other, this_way);
                self.code.here(this_way);
                self.code.stmt(code, k);
                self.code.goto(end);
                self.code.here(other);
            } else {
                self.code.stmt(code, k);
            }
        }
        for offset in in_hole {
            left -= 1;
            let Place::Pieces(pieces) = self.view.place(offset, size) else { continue };
            // X is known here.
            let saved = if x_needed { Saved::Known(offset.wrapping_sub(k)) } else { Saved::Dead };
            self.way(left, (JEQ_K, offset), end, |this| this.put_together(&pieces, saved));
        }
        self.code.here(end);
    }

    /// One of several ways, taken when the test is true; the last (`left` is 0) without one.
    fn way(&mut self, left: usize, test: (u16, u32), end: usize, emit: impl FnOnce(&mut Self)) {
        if left == 0 {
            return emit(self);
        }
        let (taken, next) = (self.code.label(), self.code.label());
        self.code.branch(test.0, test.1, taken, next);
        self.code.here(taken);
        emit(self);
        self.code.goto(end);
        self.code.here(next);
    }

    /// `ldx 4*([k]&0xf)`.
    fn header_length(
        &mut self,
        k: u32,
        save_a: impl FnOnce() -> Result<Saved, Reason>,
    ) -> Result<(), Reason> {
        match self.view.place(k, 1) {
            Place::Nowhere => self.code.reject(),
            Place::Packet(at) => self.code.stmt(LDX_B_MSH, at),
            Place::Pieces(pieces) => {
                let saved = save_a()?;
                self.keep(saved, ST_MEM);
                self.put_together(&pieces, Saved::Dead);
                self.code.stmt(AND_K, 0x0f);
                self.code.stmt(LSH_K, 2);
                self.code.stmt(MISC_TAX, 0);
                self.restore(saved, LD_IMM, LD_MEM);
            }
        }
        Ok(())
    }

    /// A ← the frame's length.
    fn length(&mut self) {
        self.code.stmt(LD_W_LEN, 0);
        if let Some(hole) = self.view.hole {
            self.code.stmt(ADD_K, hole.shift.wrapping_neg());
        }
    }

    /// Bytes that Linux is to keep for a snap length of `k`: a loopback packet's Ethernet header is longer than the
    /// family word. A stripped tag is put back after the kernel's cut, and the frame is cut again: `k` is enough.
    fn snaplen(&self, k: u32) -> u32 {
        match self.view.longer_header() {
            Some(more) if k != 0 => k.saturating_add(more),
            _ => k,
        }
    }

    fn return_a(&mut self) {
        if let Some(more) = self.view.longer_header() {
            let (some, fits, whole, end) =
                (self.code.label(), self.code.label(), self.code.label(), self.code.label());
            self.code.branch(JEQ_K, 0, end, some);
            self.code.here(some);
            self.code.branch(JGT_K, u32::MAX - more, whole, fits);
            self.code.here(whole);
            self.code.stmt(RET_K, u32::MAX);
            self.code.here(fits);
            self.code.stmt(ADD_K, more);
            self.code.here(end);
        }
        self.code.stmt(RET_A, 0);
    }

    fn keep(&mut self, saved: Saved, store: u16) {
        if let Saved::Word(word) = saved {
            self.code.stmt(store, word);
        }
    }

    fn restore(&mut self, saved: Saved, immediate: u16, memory: u16) {
        match saved {
            Saved::Dead => {}
            Saved::Known(value) => self.code.stmt(immediate, value),
            Saved::Word(word) => self.code.stmt(memory, word),
        }
    }
}

/// How to keep a register, whose bounds are `value`, over an instruction.
fn save(value: Range, register: Registers, live_out: Registers) -> Result<Saved, Reason> {
    if live_out & register == 0 {
        return Ok(Saved::Dead);
    }
    if let Some(value) = value.known() {
        return Ok(Saved::Known(value));
    }
    let free = (!live_out).trailing_zeros();
    if (free as usize) < MEMWORDS { Ok(Saved::Word(free)) } else { Err(Reason::NoScratch) }
}

/// Bytes a packet load loads.
fn width(code: u16) -> u32 {
    match size(code) {
        W => 4,
        H => 2,
        _ => 1,
    }
}
