//! eBPF as text, in the notation of the kernel's verifier log.

use std::fmt::{self, Display, Write as _};

use bpfdev_core::cbpf::code::*;

use super::Insn;
use super::insn::{Reg, code as ebpf};

/// The program, an instruction a line, numbered; wide ones count as two, as jumps count them.
pub fn disasm(insns: &[Insn]) -> String {
    let mut text = String::new();
    let mut rest = insns.iter().enumerate();
    while let Some((pc, insn)) = rest.next() {
        let second = if insn.is_wide() { rest.next().map(|(_, insn)| *insn) } else { None };
        let _ = writeln!(text, "({pc:03}) {}", Line { pc, insn: *insn, second });
    }
    text
}

/// A register, `r` for all 64 bits and `w` for the low 32.
struct Name(char, Reg);

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.1.0)
    }
}

struct Line {
    pc: usize,
    insn: Insn,
    second: Option<Insn>,
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Insn { code, off, imm, .. } = self.insn;
        let (dst, src) = (self.insn.dst(), self.insn.src());
        let class = code & 7;
        let (op, mode) = (u16::from(code & 0xf0), u16::from(code & 0xe0));
        let size = match code & 0x18 {
            ebpf::DW => "u64",
            0x10 => "u8",
            0x08 => "u16",
            _ => "u32",
        };
        let by_register = code & 8 != 0;
        let width = if class == ebpf::ALU64 || class == JMP as u8 { 'r' } else { 'w' };
        let name = |reg| Name(width, reg);
        let jump = (class == JMP as u8 || class == ebpf::JMP32).then(|| self.pc as i64 + 1 + i64::from(off));
        if self.insn.is_wide() {
            let offset = self.second.map_or(0, |second| second.imm);
            return write!(f, "{} = map[fd:{imm}] value +{offset}", Name('r', dst));
        }
        match (class, jump) {
            (_, Some(_)) if code == JMP as u8 | ebpf::EXIT => f.write_str("exit"),
            (_, Some(_)) if code == JMP as u8 | ebpf::CALL => write!(f, "call {imm}"),
            (_, Some(to)) if code == (JMP | JA) as u8 => write!(f, "goto {to:03}"),
            (_, Some(to)) => {
                let test = match op {
                    JEQ => "==",
                    JGT => ">",
                    JGE => ">=",
                    JSET => "&",
                    _ if op == ebpf::JNE.into() => "!=",
                    _ if op == ebpf::JLT.into() => "<",
                    _ => "<=",
                };
                write!(f, "if {} {test} ", name(dst))?;
                if by_register { write!(f, "{}", name(src)) } else { write!(f, "{:#x}", imm as u32) }?;
                write!(f, " goto {to:03}")
            }
            (0x00, _) => {
                f.write_str("r0 = ")?;
                match mode {
                    IND => write!(f, "*({size} *)skb[{} + {imm}]", Name('r', src)),
                    _ => write!(f, "*({size} *)skb[{imm}]"),
                }
            }
            (0x01, _) => write!(f, "{} = *({size} *)({} {off:+})", Name('w', dst), Name('r', src)),
            (0x02, _) => write!(f, "*({size} *)({} {off:+}) = {imm:#x}", Name('r', dst)),
            (0x03, _) if code & 0xe0 == ebpf::ATOMIC => {
                write!(f, "lock *({size} *)({} {off:+}) += {}", Name('r', dst), Name('r', src))
            }
            (0x03, _) => write!(f, "*({size} *)({} {off:+}) = {}", Name('r', dst), Name('w', src)),
            _ if op == NEG => write!(f, "{0} = -{0}", name(dst)),
            _ if op == ebpf::END.into() => write!(f, "{0} = be{imm} {0}", name(dst)),
            _ => {
                let sign = match op {
                    ADD => "+=",
                    SUB => "-=",
                    MUL => "*=",
                    DIV => "/=",
                    MOD => "%=",
                    OR => "|=",
                    AND => "&=",
                    XOR => "^=",
                    LSH => "<<=",
                    RSH => ">>=",
                    _ => "=",
                };
                write!(f, "{} {sign} ", name(dst))?;
                if by_register { write!(f, "{}", name(src)) } else { write!(f, "{:#x}", imm as u32) }
            }
        }
    }
}
