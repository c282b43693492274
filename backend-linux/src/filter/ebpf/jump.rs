//! Conditional jumps, and returns.

use bpfdev_core::cbpf::Insn as ClassicInsn;
use bpfdev_core::cbpf::code::*;

use super::IN_TAG;
use super::assemble::Operand;
use super::emit::Emitter;
use super::insn::*;
use crate::filter::LinkKind;

impl Emitter<'_> {
    pub(super) fn conditional(&mut self, pc: usize, insn: ClassicInsn) -> bool {
        let next = pc + 1;
        let (taken, other) = (next + usize::from(insn.jt), next + usize::from(insn.jf));
        let always = match (op(insn.code), src(insn.code), insn.k) {
            _ if taken == other => Some(true),
            (JGE, K, 0) => Some(true),
            (JGT, K, u32::MAX) | (JSET, K, 0) => Some(false),
            _ => None,
        };
        if let Some(always) = always {
            let target = if always { taken } else { other };
            if target != next {
                self.reach(target);
                self.code.goto(target);
            }
            return target == next;
        }
        // The verifier could decide no comparison of this copy but those with the numbers it was compared with.
        let unequal = match self.copy.take() {
            Some((at, unequal)) if at == pc && insn.code == JEQ_K && !unequal.contains(&insn.k) => unequal,
            _ => {
                self.launder(R1, ACCUMULATOR);
                Vec::new()
            }
        };
        if insn.code == JEQ_K && other == next && !self.targets.get(next).copied().unwrap_or(true) {
            self.copy = Some((next, [unequal, vec![insn.k]].concat()));
        }
        let operand = if src(insn.code) == X {
            self.launder(R2, INDEX);
            Operand::Reg(R2)
        } else {
            Operand::Imm(insn.k)
        };
        let opposite = match op(insn.code) {
            JGT => Some(code::JLE.into()),
            JGE => Some(code::JLT.into()),
            JEQ => Some(code::JNE.into()),
            _ => None,
        };
        match opposite {
            Some(opposite) if taken == next => self.branch_to(opposite, operand, other),
            _ => {
                self.branch_to(op(insn.code), operand, taken);
                if other != next {
                    self.reach(other);
                    self.code.goto(other);
                }
            }
        }
        // The target next to it may be either.
        taken == next || other == next
    }

    fn branch_to(&mut self, op: u16, operand: Operand, target: usize) {
        self.reach(target);
        self.code.branch(op, R1, operand, target);
    }

    /// Whether what the kernel keeps of a packet depends on its tag.
    fn cuts_by_tag(&self) -> bool {
        self.target.link == LinkKind::Ethernet && !self.one_snaplen
    }

    pub(super) fn return_constant(&mut self, n: u32) -> bool {
        if n == 0 {
            return self.rejects();
        }
        let n = if matches!(self.target.link, LinkKind::Loopback(_)) { n.saturating_add(10) } else { n };
        self.code.push([mov_imm(R0, n)]);
        if self.cuts_by_tag() && n >= *IN_TAG.start() {
            self.shift(R1);
            if n > *IN_TAG.end() {
                self.code.push([alu(ADD, R0, R1)]);
            } else {
                self.code.branch(JEQ, R1, Operand::Imm(0), self.accept);
                self.keep_before_tag();
            }
        }
        self.code.goto(self.accept);
        false
    }

    /// R0 = what the kernel is to keep where the BSD's packet ends in the tag.
    fn keep_before_tag(&mut self) {
        // Where it cannot be told later which of several values it was, the interpreter decides, and needs all of it.
        let keep = if self.ambiguous { u32::MAX } else { *IN_TAG.start() };
        self.code.push([mov_imm(R0, keep)]);
    }

    pub(super) fn return_a(&mut self) -> bool {
        self.code.push([mov(R0, ACCUMULATOR)]);
        self.launder(R2, ACCUMULATOR);
        self.code.branch(JEQ, R2, Operand::Imm(0), self.reject);
        match self.target.link {
            LinkKind::Loopback(_) => {
                let (whole, end) = (self.code.label(), self.code.label());
                self.code.branch(JGT, R2, Operand::Imm(u32::MAX - 10), whole);
                self.code.push([alu_imm(ADD, R0, 10)]);
                self.code.goto(end);
                self.code.here(whole);
                self.code.push([mov_imm(R0, u32::MAX)]);
                self.code.here(end);
            }
            LinkKind::Ethernet => {
                self.shift(R1);
                self.code.branch(JEQ, R1, Operand::Imm(0), self.accept);
                self.code.branch(code::JLT.into(), R2, Operand::Imm(*IN_TAG.start()), self.accept);
                self.code.push([alu_imm(SUB, R0, 4)]);
                self.code.branch(JGT, R2, Operand::Imm(*IN_TAG.end()), self.accept);
                self.keep_before_tag();
            }
            LinkKind::Raw => {}
        }
        self.code.goto(self.accept);
        false
    }
}

/// Which instructions some jump has as its target, other than the next one when the test is false.
pub(super) fn jump_targets(insns: &[ClassicInsn]) -> Vec<bool> {
    let mut targets = vec![false; insns.len()];
    for (pc, insn) in insns.iter().enumerate() {
        let offsets = match insn.code {
            JA_K => [insn.k as usize, 0],
            _ if insn.is_conditional() => [insn.jt.into(), insn.jf.into()],
            _ => continue,
        };
        for (way, offset) in offsets.into_iter().enumerate() {
            let target = targets.get_mut((pc + 1).saturating_add(offset));
            if let Some(target) = target
                && (offset > 0 || way == 0)
            {
                *target = true;
            }
        }
    }
    targets
}
