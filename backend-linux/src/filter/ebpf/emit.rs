//! The program: what comes before it, each instruction, and its two ends.

use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::{Insn as ClassicInsn, Rules};

use super::assemble::{Code, Label, Operand};
use super::insn::{self, *};
use super::jump::jump_targets;
use super::{ACCEPTED, Target};
use crate::filter::LinkKind;
use crate::filter::flow::{Facts, executes};

/// The offset of `len` in `struct __sk_buff`.
pub(super) const LEN_FIELD: i16 = 0;

/// Where the family word of loopback lies in the stack frame. Like M[] at an odd word, where the verifier does not track
/// values.
pub(super) const FAMILY: i16 = -4;
/// Where M[0] lies; the others lie below it.
const MEM: i16 = -12;
/// From one word of M[] to the next.
const MEM_STEP: i16 = -8;

/// BPF_FUNC_get_prandom_u32.
const GET_PRANDOM_U32: i32 = 7;

pub(super) struct Emitter<'a> {
    pub code: Code,
    insns: &'a [ClassicInsn],
    pub facts: &'a [Facts],
    pub rules: &'a Rules,
    pub target: &'a Target,
    pub one_snaplen: bool,
    /// It returns more than one value that ends in the tag.
    pub ambiguous: bool,
    /// Which instructions are reached.
    reached: Vec<bool>,
    /// Which instructions are jumped to.
    pub targets: Vec<bool>,
    /// At this instruction R1 is still A, laundered, and known not to be one of the numbers.
    pub copy: Option<(usize, Vec<u32>)>,
    /// Counts the packet as accepted; R0 is the answer.
    pub accept: Label,
    /// Answers 0.
    pub reject: Label,
}

impl<'a> Emitter<'a> {
    pub fn new(
        insns: &'a [ClassicInsn],
        facts: &'a [Facts],
        rules: &'a Rules,
        target: &'a Target,
        one_snaplen: bool,
        ambiguous: bool,
    ) -> Emitter<'a> {
        // Labels below insns.len() are the program's own instructions.
        let mut code = Code::with_labels(insns.len());
        let (accept, reject) = (code.label(), code.label());
        let (reached, targets) = (vec![false; insns.len()], jump_targets(insns));
        Emitter {
            code,
            insns,
            facts,
            rules,
            target,
            one_snaplen,
            ambiguous,
            reached,
            targets,
            copy: None,
            accept,
            reject,
        }
    }

    /// The whole program.
    pub fn program(mut self) -> Code {
        if self.prologue() {
            self.reach(0);
        }
        let (insns, facts) = (self.insns, self.facts);
        for (pc, (insn, facts)) in insns.iter().zip(facts).enumerate() {
            if !self.reached.get(pc).copied().unwrap_or(false) {
                continue;
            }
            self.code.here(pc);
            if self.instruction(pc, *insn, facts) {
                self.reach(pc + 1);
            }
        }
        if self.code.wants(self.accept) {
            self.code.here(self.accept);
            self.count(ACCEPTED);
            self.code.push([exit()]);
        }
        if self.code.wants(self.reject) {
            self.code.here(self.reject);
            self.code.push([mov_imm(R0, 0), exit()]);
        }
        self.code
    }

    pub(super) fn reach(&mut self, pc: usize) {
        if let Some(reached) = self.reached.get_mut(pc) {
            *reached = true;
        }
    }

    /// `to` = `from`, as a number of which the verifier knows nothing.
    pub fn launder(&mut self, to: Reg, from: Reg) {
        self.code.push([mov(to, from), alu(XOR, to, UNKNOWN), alu(XOR, to, UNKNOWN)]);
    }

    fn mem(word: u32) -> i16 {
        // Validated to be below 16.
        MEM + MEM_STEP * (word & 15) as i16
    }

    pub(super) fn store_word(&mut self, word: u32, from: Reg) {
        self.launder(R1, from);
        self.code.push([store(FRAME, Self::mem(word), R1)]);
    }

    /// One instruction; whether the next one may follow.
    fn instruction(&mut self, pc: usize, insn: ClassicInsn, facts: &Facts) -> bool {
        let ClassicInsn { code, k, .. } = insn;
        let bounds = facts.before;
        match code {
            _ if !executes(code, self.rules) => return self.rejects(),
            LD_H_ABS if self.rules.half_load_past_end_is_zero => self.half_or_zero(k),
            LD_W_ABS | LD_H_ABS | LD_B_ABS => {
                if !self.absolute(size(code), k) {
                    return self.rejects();
                }
                self.code.push([mov(ACCUMULATOR, R0)]);
            }
            LD_W_IND | LD_H_IND | LD_B_IND => {
                if !self.indirect(size(code), k, bounds.map(|bounds| bounds.x)) {
                    return self.rejects();
                }
                self.code.push([mov(ACCUMULATOR, R0)]);
            }
            LDX_B_MSH => {
                if !self.absolute(B, k) {
                    return self.rejects();
                }
                self.code.push([mov(INDEX, R0), alu_imm(AND, INDEX, 0x0f), alu_imm(LSH, INDEX, 2)]);
            }
            LD_W_LEN => self.length(ACCUMULATOR),
            LDX_W_LEN => self.length(INDEX),
            LD_IMM => self.code.push([mov_imm(ACCUMULATOR, k)]),
            LDX_IMM => self.code.push([mov_imm(INDEX, k)]),
            LD_MEM => self.code.push([insn::load(ACCUMULATOR, FRAME, Self::mem(k))]),
            LDX_MEM => self.code.push([insn::load(INDEX, FRAME, Self::mem(k))]),
            LD_RND => self.code.push([call(GET_PRANDOM_U32), mov(ACCUMULATOR, R0)]),
            ST_MEM => self.store_word(k, ACCUMULATOR),
            STX_MEM => self.store_word(k, INDEX),
            MISC_TAX => self.code.push([mov(INDEX, ACCUMULATOR)]),
            MISC_TXA => self.code.push([mov(ACCUMULATOR, INDEX)]),
            DIV_K | MOD_K if k == 0 => return self.rejects(),
            DIV_X | MOD_X => {
                self.launder(R1, INDEX);
                self.code.branch(JEQ, R1, Operand::Imm(0), self.reject);
                self.code.push([alu(op(code), ACCUMULATOR, INDEX)]);
            }
            LSH_X | RSH_X => {
                self.code.push([mov(R1, INDEX), alu_imm(AND, R1, 31), alu(op(code), ACCUMULATOR, R1)]);
            }
            LSH_K | RSH_K => self.code.push([alu_imm(op(code), ACCUMULATOR, k & 31)]),
            NEG_A => self.code.push([alu_imm(NEG, ACCUMULATOR, 0)]),
            RET_K => return self.return_constant(k),
            RET_A => {
                return match bounds.and_then(|bounds| bounds.a.known()) {
                    Some(value) => self.return_constant(value),
                    None => self.return_a(),
                };
            }
            JA_K => {
                let target = (pc + 1).saturating_add(k as usize);
                if k == 0 {
                    return true;
                }
                self.reach(target);
                self.code.goto(target);
                return false;
            }
            _ if insn.is_conditional() => return self.conditional(pc, insn),
            // What is left is arithmetic.
            _ if src(code) == X => self.code.push([alu(op(code), ACCUMULATOR, INDEX)]),
            _ => self.code.push([alu_imm(op(code), ACCUMULATOR, k)]),
        }
        true
    }

    pub(super) fn rejects(&mut self) -> bool {
        self.code.goto(self.reject);
        false
    }

    /// `to` = the frame's length.
    pub fn length(&mut self, to: Reg) {
        self.code.push([load(to, PACKET, LEN_FIELD)]);
        match self.target.link {
            LinkKind::Ethernet => {
                self.shift(R3);
                self.code.push([alu(SUB, to, R3)]);
            }
            LinkKind::Loopback(_) => self.code.push([alu_imm(SUB, to, 10)]),
            LinkKind::Raw => {}
        }
    }

    /// On Ethernet: `to` = what is to be added to an offset behind the tag, 0 or −4.
    pub fn shift(&mut self, to: Reg) {
        self.code.push([mov(to, UNKNOWN), alu_imm(LSH, to, 2)]);
    }

    /// FreeBSD's and DragonFly's `ldh [k]`, which gives 0 past the end.
    fn half_or_zero(&mut self, k: u32) {
        let (zero, end) = (self.code.label(), self.code.label());
        if let Some(needed) = self.needed_len(k, H) {
            self.length(R1);
            self.code.branch(code::JLT.into(), R1, Operand::Imm(needed), zero);
        }
        if self.absolute(H, k) {
            self.code.push([mov(ACCUMULATOR, R0)]);
            if !self.code.wants(zero) {
                return;
            }
            self.code.goto(end);
        }
        self.code.here(zero);
        self.code.push([mov_imm(ACCUMULATOR, 0)]);
        self.code.here(end);
    }
}
