//! The validators: one function, and a table of rules for each system.

use super::code::{self, class, miscop, mode, op, src};
use super::rules::{Last, Opcodes};
use super::skb::{AD_OFF, is_ancillary};
use super::{Insn, Program, Rules};

/// A program was refused: which instruction, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", Place(*pc))]
pub struct Reject {
    /// The instruction, from 0, as `tcpdump -d` numbers them. `None`: the program as a whole.
    pub pc: Option<usize>,
    /// The rule it breaks.
    #[source]
    pub reason: Reason,
}

struct Place(Option<usize>);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pc) => write!(f, "instruction ({pc:03}): "),
            None => f.write_str("filter program: "),
        }
    }
}

/// The rule a program breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No instructions, where that is not "accept all".
    #[error("{system} takes no program without instructions; to accept all packets use `ret #-1`")]
    Empty {
        /// Whose rules.
        system: &'static str,
    },
    /// More instructions than the system takes.
    #[error("{len} instructions, {system} takes at most {max}; simplify the expression")]
    TooLong {
        /// Instructions of the program.
        len: usize,
        /// Most instructions.
        max: usize,
        /// Whose rules.
        system: &'static str,
    },
    /// A code that is not an instruction.
    #[error("code {code:#06x} is no instruction on {system}; use one of bpf(4)'s")]
    Opcode {
        /// The code.
        code: u16,
        /// Whose rules.
        system: &'static str,
    },
    /// The last instruction does not return.
    #[error("the last instruction has code {code:#06x}; end the program with `ret #k` or `ret a`")]
    NoReturn {
        /// Its code.
        code: u16,
    },
    /// A jump's target is not an instruction.
    #[error(
        "jump to ({target:03}), but the last instruction is ({last:03}); a jump only goes forward and stays inside"
    )]
    JumpOutOfRange {
        /// Instruction jumped to.
        target: u64,
        /// Last instruction.
        last: usize,
    },
    /// A memory index of 16 or more.
    #[error("M[{k}] does not exist; use M[0] to M[15]")]
    MemoryIndex {
        /// The index.
        k: u32,
    },
    /// A memory word is read that some path to here did not store.
    #[error("M[{k}] is read, but not stored on every path to here; store it first")]
    MemoryNotStored {
        /// The index.
        k: u32,
    },
    /// Division or remainder by the constant 0.
    #[error("division by the constant 0; give it another divisor")]
    ZeroDivisor,
    /// A constant shift of 32 or more.
    #[error("shift by {k}; shift by 0 to 31")]
    WideShift {
        /// Bits.
        k: u32,
    },
    /// A load beyond the largest packet.
    #[error("load at offset {k}, {system} takes offsets below {limit}; no packet is that long")]
    PacketOffset {
        /// Offset, in bytes.
        k: u32,
        /// First offset refused, in bytes.
        limit: u32,
        /// Whose rules.
        system: &'static str,
    },
    /// An absolute load in the range of Linux's ancillary data that names none.
    #[error(
        "load at {k:#x} names no ancillary data; use one of the SKF_AD_ offsets, or an offset below {AD_OFF:#x}"
    )]
    Ancillary {
        /// Offset.
        k: u32,
    },
}

/// Checks a program by one system's rules.
///
/// # Errors
/// The first rule broken. The device answers EINVAL to all of them, and the filter in force stays.
#[doc(alias = "bpf_validate")]
pub fn validate(insns: &[Insn], rules: &'static Rules) -> Result<Program, Reject> {
    let whole = |reason| Reject { pc: None, reason };
    if insns.len() > rules.max_insns {
        return Err(whole(Reason::TooLong { len: insns.len(), max: rules.max_insns, system: rules.name }));
    }
    match insns.last() {
        None if rules.empty_accepts => {}
        None => return Err(whole(Reason::Empty { system: rules.name })),
        Some(last) => {
            let returns = match rules.last {
                Last::AnyReturn => class(last.code) == code::RET,
                Last::ReturnKOrA => matches!(last.code, code::RET_K | code::RET_A),
            };
            if !returns {
                return Err(Reject {
                    pc: Some(insns.len() - 1),
                    reason: Reason::NoReturn { code: last.code },
                });
            }
        }
    }
    for (pc, insn) in insns.iter().enumerate() {
        check_code(insn, rules)
            .and_then(|()| check_operand(insn, rules))
            .and_then(|()| check_jump(insn, pc, insns.len()))
            .map_err(|reason| Reject { pc: Some(pc), reason })?;
    }
    if !rules.memory_starts_zero {
        check_memory(insns)?;
    }
    Ok(Program::validated(insns, rules))
}

fn check_code(insn: &Insn, rules: &Rules) -> Result<(), Reason> {
    let code = insn.code;
    let known = match (rules.opcodes, class(code)) {
        (Opcodes::Exact, _) => code::is_opcode(code),
        (Opcodes::ByClass, code::LD | code::LDX) => match mode(code) {
            code::IMM | code::ABS | code::IND | code::MEM | code::LEN | code::MSH => true,
            code::RND => rules.random,
            _ => false,
        },
        (Opcodes::ByClass, code::ALU) => match op(code) {
            code::MOD | code::XOR => rules.mod_xor,
            other => other <= code::NEG,
        },
        (Opcodes::ByClass, code::JMP) => op(code) <= code::JSET,
        (Opcodes::ByClass, code::MISC) => {
            !(rules.refuses_coprocessor && matches!(miscop(code), code::COP | code::COPX))
        }
        (Opcodes::ByClass, _) => true,
    };
    if known { Ok(()) } else { Err(Reason::Opcode { code, system: rules.name }) }
}

fn check_operand(insn: &Insn, rules: &Rules) -> Result<(), Reason> {
    let Insn { code, k, .. } = *insn;
    match (class(code), mode(code), op(code)) {
        (code::ST | code::STX, ..) | (code::LD | code::LDX, code::MEM, _) if k as usize >= code::MEMWORDS => {
            Err(Reason::MemoryIndex { k })
        }
        (code::LD, code::ABS, _) if rules.ancillary && k >= AD_OFF && !is_ancillary(k) => {
            Err(Reason::Ancillary { k })
        }
        (code::LD | code::LDX, code::ABS | code::IND | code::MSH, _) => match rules.packet_offset_limit {
            Some(limit) if k >= limit => Err(Reason::PacketOffset { k, limit, system: rules.name }),
            _ => Ok(()),
        },
        (code::ALU, _, code::DIV | code::MOD) if src(code) == code::K && k == 0 => Err(Reason::ZeroDivisor),
        (code::ALU, _, code::LSH | code::RSH)
            if rules.refuses_wide_shift && src(code) == code::K && k >= u32::BITS =>
        {
            Err(Reason::WideShift { k })
        }
        _ => Ok(()),
    }
}

fn check_jump(insn: &Insn, pc: usize, len: usize) -> Result<(), Reason> {
    let offset = if class(insn.code) != code::JMP {
        return Ok(());
    } else if insn.is_conditional() {
        insn.jt.max(insn.jf).into()
    } else {
        insn.k
    };
    // In 64 bits, where the sum cannot wrap round to look like a jump backwards.
    let target = pc as u64 + 1 + u64::from(offset);
    if target < len as u64 {
        Ok(())
    } else {
        Err(Reason::JumpOutOfRange { target, last: len.saturating_sub(1) })
    }
}

/// Every M[k] read is stored on every path to it. Jumps only go forward (checked before), so one pass is enough:
/// `missing` is the set of words not stored at this instruction, `joins` what jumps bring to later ones. A return
/// hands its set on to the next instruction, which stands in both kernels that have this rule.
fn check_memory(insns: &[Insn]) -> Result<(), Reject> {
    let mut joins = vec![0_u16; insns.len()];
    let mut missing = u16::MAX;
    for (pc, insn) in insns.iter().enumerate() {
        missing |= joins.get(pc).copied().unwrap_or_default();
        let word = 1_u16.checked_shl(insn.k).unwrap_or_default();
        match class(insn.code) {
            code::LD | code::LDX if mode(insn.code) == code::MEM && missing & word != 0 => {
                return Err(Reject { pc: Some(pc), reason: Reason::MemoryNotStored { k: insn.k } });
            }
            code::ST | code::STX => missing &= !word,
            code::JMP => {
                let offsets = if insn.is_conditional() {
                    [usize::from(insn.jt), usize::from(insn.jf)]
                } else {
                    [insn.k as usize; 2]
                };
                for offset in offsets {
                    if let Some(join) = joins.get_mut(pc + 1 + offset) {
                        *join |= missing;
                    }
                }
                missing = 0;
            }
            _ => {}
        }
    }
    Ok(())
}
