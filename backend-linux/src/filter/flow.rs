//! What is known of a program before it runs: which instructions are reached, between which bounds A, X and M[] are,
//! and which of them are still needed. A jump only goes forward, so one pass down and one up are enough.

use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::{Insn, Rules};

/// A set of registers: bit i is M[i], then A and X.
pub(super) type Registers = u32;
/// The accumulator.
pub(super) const A_REG: Registers = 1 << MEMWORDS;
/// The index register.
pub(super) const X_REG: Registers = 1 << (MEMWORDS + 1);

/// A value lies between two bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub lo: u32,
    pub hi: u32,
}

impl Range {
    const ANY: Range = Range { lo: 0, hi: u32::MAX };

    const fn up_to(hi: u32) -> Range {
        Range { lo: 0, hi }
    }

    const fn only(value: u32) -> Range {
        Range { lo: value, hi: value }
    }

    /// The value, where there can be only one.
    pub fn known(self) -> Option<u32> {
        (self.lo == self.hi).then_some(self.lo)
    }

    fn join(self, other: Range) -> Range {
        Range { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    /// Bounds given in 64 bits; anything, where the machine's 32 bits could wrap.
    fn unless_wrapped(lo: u64, hi: u64) -> Range {
        match (u32::try_from(lo), u32::try_from(hi)) {
            (Ok(lo), Ok(hi)) => Range { lo, hi },
            _ => Range::ANY,
        }
    }
}

/// Bounds of `a op b`.
fn arithmetic(op: u16, a: Range, b: Range) -> Range {
    // All bits up to the highest that either can have.
    let bits = u32::MAX.checked_shr((a.hi | b.hi).leading_zeros()).unwrap_or(0);
    let (a64, b64) = ((u64::from(a.lo), u64::from(a.hi)), (u64::from(b.lo), u64::from(b.hi)));
    match op {
        ADD => Range::unless_wrapped(a64.0 + b64.0, a64.1 + b64.1),
        SUB if a.lo >= b.hi => Range { lo: a.lo - b.hi, hi: a.hi - b.lo },
        MUL => Range::unless_wrapped(a64.0 * b64.0, a64.1 * b64.1),
        DIV if b.lo > 0 => Range { lo: a.lo / b.hi, hi: a.hi / b.lo },
        MOD if a.hi < b.lo => a,
        MOD => Range::up_to(a.hi.min(b.hi.saturating_sub(1))),
        AND => Range::up_to(a.hi.min(b.hi)),
        OR => Range { lo: a.lo.max(b.lo), hi: bits },
        XOR => Range::up_to(bits),
        LSH => match b.known() {
            Some(count) => Range::unless_wrapped(a64.0 << (count & 31), a64.1 << (count & 31)),
            None => Range::ANY,
        },
        RSH => match b.known() {
            Some(count) => Range { lo: a.lo >> (count & 31), hi: a.hi >> (count & 31) },
            None => Range::up_to(a.hi),
        },
        DIV => Range::up_to(a.hi),
        _ => Range::ANY,
    }
}

/// Bounds of all registers at one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub a: Range,
    pub x: Range,
    mem: [Range; MEMWORDS],
}

impl Bounds {
    /// Everything starts as 0. (NetBSD's M[] does not, but no valid program there reads it unstored.)
    const START: Bounds = Bounds { a: Range::only(0), x: Range::only(0), mem: [Range::only(0); MEMWORDS] };

    fn join(&mut self, other: &Bounds) {
        self.a = self.a.join(other.a);
        self.x = self.x.join(other.x);
        for (mine, theirs) in self.mem.iter_mut().zip(other.mem) {
            *mine = mine.join(theirs);
        }
    }

    fn after(mut self, insn: Insn) -> Bounds {
        let word = |k: u32| self.mem.get(k as usize).copied().unwrap_or(Range::ANY);
        match insn.code {
            LD_H_ABS | LD_H_IND => self.a = Range::up_to(0xffff),
            LD_B_ABS | LD_B_IND => self.a = Range::up_to(0xff),
            LD_IMM => self.a = Range::only(insn.k),
            LD_MEM => self.a = word(insn.k),
            LDX_IMM => self.x = Range::only(insn.k),
            LDX_MEM => self.x = word(insn.k),
            LDX_W_LEN => self.x = Range::ANY,
            LDX_B_MSH => self.x = Range::up_to(60),
            ST_MEM | STX_MEM => {
                let value = if insn.code == ST_MEM { self.a } else { self.x };
                if let Some(word) = self.mem.get_mut(insn.k as usize) {
                    *word = value;
                }
            }
            MISC_TAX => self.x = self.a,
            MISC_TXA => self.a = self.x,
            code if class(code) == ALU => {
                let operand = if src(code) == X { self.x } else { Range::only(insn.k) };
                self.a = arithmetic(op(code), self.a, operand);
            }
            code if class(code) == LD => self.a = Range::ANY,
            _ => {}
        }
        self
    }
}

/// What is known at one instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Bounds before it; `None`: it is never reached.
    pub before: Option<Bounds>,
    /// Registers whose value before it is needed.
    pub live_in: Registers,
    /// Registers whose value after it is needed.
    pub live_out: Registers,
}

/// Whether the machine runs this code under these rules; all other codes reject the packet.
pub(super) fn executes(code: u16, rules: &Rules) -> bool {
    match code {
        LD_RND => rules.random,
        MOD_K | MOD_X | XOR_K | XOR_X => rules.mod_xor,
        _ => is_opcode(code),
    }
}

/// The instructions that may come next, from none to two.
fn successors(insn: Insn, pc: usize, rules: &Rules) -> impl Iterator<Item = usize> {
    let next = pc + 1;
    let pair = if !executes(insn.code, rules) || class(insn.code) == RET {
        [None, None]
    } else if insn.is_conditional() {
        [Some(next + usize::from(insn.jt)), Some(next + usize::from(insn.jf))]
    } else if insn.code == JA_K {
        [next.checked_add(insn.k as usize), None]
    } else {
        [Some(next), None]
    };
    pair.into_iter().flatten()
}

/// Registers an instruction reads, and those it overwrites.
fn effects(insn: Insn) -> (Registers, Registers) {
    let word = 1_u32.checked_shl(insn.k).unwrap_or(0) & (A_REG - 1);
    let by_x = if src(insn.code) == X { X_REG } else { 0 };
    match insn.code {
        LD_W_IND | LD_H_IND | LD_B_IND => (X_REG, A_REG),
        LD_MEM => (word, A_REG),
        LDX_MEM => (word, X_REG),
        ST_MEM => (A_REG, word),
        STX_MEM => (X_REG, word),
        RET_A => (A_REG, 0),
        MISC_TAX => (A_REG, X_REG),
        MISC_TXA => (X_REG, A_REG),
        JA_K => (0, 0),
        code => match class(code) {
            LD => (0, A_REG),
            LDX => (0, X_REG),
            ALU => (A_REG | by_x, A_REG),
            JMP => (A_REG | by_x, 0),
            _ => (0, 0),
        },
    }
}

/// The facts of every instruction.
pub(super) fn analyse(insns: &[Insn], rules: &Rules) -> Vec<Facts> {
    let mut facts = vec![Facts { before: None, live_in: 0, live_out: 0 }; insns.len()];
    if let Some(first) = facts.first_mut() {
        first.before = Some(Bounds::START);
    }
    for (pc, insn) in insns.iter().enumerate() {
        let Some(before) = facts.get(pc).and_then(|fact| fact.before) else { continue };
        let after = before.after(*insn);
        for target in successors(*insn, pc, rules) {
            if let Some(fact) = facts.get_mut(target) {
                fact.before.get_or_insert(after).join(&after);
            }
        }
    }
    for (pc, insn) in insns.iter().enumerate().rev() {
        let live = |target| facts.get::<usize>(target).map_or(0, |fact| fact.live_in);
        let live_out = successors(*insn, pc, rules).map(live).fold(0, |all, one| all | one);
        let (uses, defines) = if executes(insn.code, rules) { effects(*insn) } else { (0, 0) };
        if let Some(fact) = facts.get_mut(pc) {
            fact.live_out = live_out;
            fact.live_in = (live_out & !defines) | uses;
        }
    }
    facts
}
