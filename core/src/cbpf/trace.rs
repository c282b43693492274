//! A run of the machine, step by step.

use std::fmt;

use super::code::*;
use super::interpret::{Watch, interpret_watched};
use super::{Insn, Program, Rules};

/// What the machine remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// The accumulator.
    pub a: u32,
    /// The index register.
    pub x: u32,
    /// The scratch memory.
    pub mem: [u32; MEMWORDS],
}

/// One instruction executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its number, from 0.
    pub pc: usize,
    /// The instruction.
    pub insn: Insn,
    /// Before it.
    pub before: State,
    /// After it.
    pub after: State,
    /// Where it leads.
    pub next: Next,
}

/// Where an instruction leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// To this instruction.
    Goto(usize),
    /// It returns this snap length, in bytes.
    Return(u32),
    /// It rejects the packet, though it is no return.
    Reject(Why),
}

/// Why an instruction that is no return rejects the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A load outside the bytes captured.
    Outside {
        /// Bytes the packet has.
        captured: usize,
    },
    /// Division by 0.
    ZeroDivisor,
    /// No such word of M[].
    NoMemory,
    /// No such instruction.
    NoInstruction,
    /// It leads behind the last instruction.
    Ended,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Outside { captured } => write!(f, "a load outside the {captured} bytes captured"),
            Why::ZeroDivisor => f.write_str("division by 0"),
            Why::NoMemory => f.write_str("no such word of M[]"),
            Why::NoInstruction => f.write_str("no such instruction"),
            Why::Ended => f.write_str("the program ends without a return"),
        }
    }
}

/// What changed and where it leads: `A = 0x800`, `to (003)`, `accept 262144`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Insn { code, k, .. } = self.insn;
        match self.next {
            Next::Return(0) => return f.write_str("reject"),
            Next::Return(snaplen) => return write!(f, "accept {snaplen} bytes"),
            Next::Reject(why) => return write!(f, "reject: {why}"),
            Next::Goto(_) => {}
        }
        let State { a, x, mem } = self.after;
        match (class(code), self.next) {
            (JMP, Next::Goto(pc)) => write!(f, "to ({pc:03})"),
            (LDX, _) | (MISC, _) if code != MISC_TXA => write!(f, "X = {x:#x}"),
            (ST | STX, _) => {
                write!(f, "M[{k}] = {:#x}", mem.get(k as usize).copied().unwrap_or_default())
            }
            _ => write!(f, "A = {a:#x}"),
        }
    }
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// In the order of execution.
    pub steps: Vec<Step>,
    /// What the program returned, in bytes; 0 rejects the packet.
    pub snaplen: u32,
}

struct Recorder(Vec<(usize, Insn, State)>);

impl Watch for Recorder {
    fn before(&mut self, pc: usize, insn: Insn, a: u32, x: u32, mem: &[u32; MEMWORDS]) {
        self.0.push((pc, insn, State { a, x, mem: *mem }));
    }
}

/// Runs `insns` as [`interpret`](super::interpret()) does, and tells each step.
pub fn trace(insns: &[Insn], packet: &[u8], wirelen: u32, rules: &Rules) -> Trace {
    let mut recorder = Recorder(Vec::new());
    let snaplen = interpret_watched(insns, packet, wirelen, rules, &mut recorder);
    let seen = recorder.0;
    let steps = seen.iter().enumerate().map(|(index, &(pc, insn, before))| match seen.get(index + 1) {
        Some(&(next, _, after)) => Step { pc, insn, before, after, next: Next::Goto(next) },
        // Returning and rejecting change nothing that anybody sees.
        None => Step { pc, insn, before, after: before, next: last(insn, packet, snaplen, rules) },
    });
    Trace { steps: steps.collect(), snaplen }
}

/// Where the last instruction of a run leads.
fn last(insn: Insn, packet: &[u8], snaplen: u32, rules: &Rules) -> Next {
    let Insn { code, k, .. } = insn;
    let known = is_opcode(code) || (rules.random && code == LD_RND);
    let exists = known && (rules.mod_xor || class(code) != ALU || !matches!(op(code), MOD | XOR));
    Next::Reject(match class(code) {
        _ if !exists => Why::NoInstruction,
        RET => return Next::Return(snaplen),
        LD | LDX if matches!(mode(code), ABS | IND | MSH) => Why::Outside { captured: packet.len() },
        LD | LDX if mode(code) == MEM && k as usize >= MEMWORDS => Why::NoMemory,
        ST | STX if k as usize >= MEMWORDS => Why::NoMemory,
        ALU if matches!(op(code), DIV | MOD) => Why::ZeroDivisor,
        _ => Why::Ended,
    })
}

impl Program {
    /// Runs the program on a captured packet as [`run`](Self::run) does, and tells each step.
    pub fn trace(&self, packet: &[u8], wirelen: u32) -> Trace {
        trace(self.insns(), packet, wirelen, self.rules())
    }
}
