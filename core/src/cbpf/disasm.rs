//! The listing of `tcpdump -d`.

use std::fmt::{self, Write};

use super::Insn;
use super::code::*;
use super::skb::ANCILLARY;

/// How an instruction's operand is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// Nothing.
    None,
    /// `x`
    X,
    /// `#0x800`
    Hex,
    /// `#-1`, signed
    Decimal,
    /// `#pktlen`
    Length,
    /// `[12]`, signed, or the name of an ancillary offset
    Absolute,
    /// `[x + 14]`, signed
    Indirect,
    /// `M[3]`, signed
    Memory,
    /// `4*([14]&0xf)`, signed
    HeaderLength,
    /// Number of the instruction jumped to, signed
    Target,
}

impl Operand {
    /// How one looks, for a message.
    pub(super) fn example(self) -> &'static str {
        match self {
            Operand::None => "nothing",
            Operand::X => "`x`",
            Operand::Hex => "`#0x800`",
            Operand::Decimal => "`#96`",
            Operand::Length => "`#pktlen`",
            Operand::Absolute => "`[12]`",
            Operand::Indirect => "`[x + 14]`",
            Operand::Memory => "`M[3]`",
            Operand::HeaderLength => "`4*([14]&0xf)`",
            Operand::Target => "`7`",
        }
    }
}

/// Code, name and operand of each instruction that has a name.
#[rustfmt::skip]
pub(super) static IMAGES: [(u16, &str, Operand); 48] = [
    (LD_W_ABS, "ld", Operand::Absolute), (LD_H_ABS, "ldh", Operand::Absolute), (LD_B_ABS, "ldb", Operand::Absolute),
    (LD_W_IND, "ld", Operand::Indirect), (LD_H_IND, "ldh", Operand::Indirect), (LD_B_IND, "ldb", Operand::Indirect),
    (LD_W_LEN, "ld", Operand::Length), (LD_IMM, "ld", Operand::Hex), (LD_MEM, "ld", Operand::Memory),
    // libpcap has no name for `ldx #pktlen`.
    (LDX_IMM, "ldx", Operand::Hex), (LDX_MEM, "ldx", Operand::Memory), (LDX_B_MSH, "ldxb", Operand::HeaderLength),
    (ST_MEM, "st", Operand::Memory), (STX_MEM, "stx", Operand::Memory),
    (ADD_K, "add", Operand::Decimal), (ADD_X, "add", Operand::X),
    (SUB_K, "sub", Operand::Decimal), (SUB_X, "sub", Operand::X),
    (MUL_K, "mul", Operand::Decimal), (MUL_X, "mul", Operand::X),
    (DIV_K, "div", Operand::Decimal), (DIV_X, "div", Operand::X),
    (MOD_K, "mod", Operand::Decimal), (MOD_X, "mod", Operand::X),
    (AND_K, "and", Operand::Hex), (AND_X, "and", Operand::X),
    (OR_K, "or", Operand::Hex), (OR_X, "or", Operand::X),
    (XOR_K, "xor", Operand::Hex), (XOR_X, "xor", Operand::X),
    (LSH_K, "lsh", Operand::Decimal), (LSH_X, "lsh", Operand::X),
    (RSH_K, "rsh", Operand::Decimal), (RSH_X, "rsh", Operand::X),
    (NEG_A, "neg", Operand::None),
    (JA_K, "ja", Operand::Target),
    (JGT_K, "jgt", Operand::Hex), (JGT_X, "jgt", Operand::X),
    (JGE_K, "jge", Operand::Hex), (JGE_X, "jge", Operand::X),
    (JEQ_K, "jeq", Operand::Hex), (JEQ_X, "jeq", Operand::X),
    (JSET_K, "jset", Operand::Hex), (JSET_X, "jset", Operand::X),
    (RET_K, "ret", Operand::Decimal), (RET_A, "ret", Operand::None),
    (MISC_TAX, "tax", Operand::None), (MISC_TXA, "txa", Operand::None),
];

/// One line of the listing, without a line end: `(000) ldh      [12]`.
#[doc(alias = "bpf_image")]
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// The instruction.
    pub insn: Insn,
    /// Its number, from 0.
    pub pc: usize,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Insn { code, jt, jf, k } = self.insn;
        // C's int, which libpcap prints most operands as.
        let signed = k as i32;
        let next = self.pc + 1;
        let mut operand = String::new();
        let name = match IMAGES.iter().find(|(known, ..)| *known == code) {
            None => {
                write!(operand, "{code:#x}")?;
                "unimp"
            }
            Some((_, name, form)) => {
                match form {
                    Operand::None => {}
                    Operand::X => operand.push('x'),
                    Operand::Hex => write!(operand, "#{k:#x}")?,
                    Operand::Decimal => write!(operand, "#{signed}")?,
                    Operand::Length => operand.push_str("#pktlen"),
                    Operand::Absolute => match ANCILLARY.iter().find(|(offset, _)| *offset == k) {
                        Some((_, name)) => write!(operand, "[{name}]")?,
                        None => write!(operand, "[{signed}]")?,
                    },
                    Operand::Indirect => write!(operand, "[x + {signed}]")?,
                    Operand::Memory => write!(operand, "M[{signed}]")?,
                    Operand::HeaderLength => write!(operand, "4*([{signed}]&0xf)")?,
                    Operand::Target => write!(operand, "{}", (next as i32).wrapping_add(signed))?,
                }
                *name
            }
        };
        write!(f, "({:03}) {name:<8} ", self.pc)?;
        if self.insn.is_conditional() {
            let (jt, jf) = (next + usize::from(jt), next + usize::from(jf));
            write!(f, "{operand:<16} jt {jt}\tjf {jf}")
        } else {
            f.write_str(&operand)
        }
    }
}

/// The listing of a program as `tcpdump -d` prints it, a line for each instruction.
#[doc(alias = "bpf_dump")]
pub fn disasm(insns: &[Insn]) -> String {
    let mut listing = String::new();
    for (pc, insn) in insns.iter().enumerate() {
        listing.push_str(&Image { insn: *insn, pc }.to_string());
        listing.push('\n');
    }
    listing
}
