//! Programs as text: what `tcpdump -d`, `-dd` and `-ddd` print, written byte for byte and read back.

use std::fmt::Write;
use std::num::ParseIntError;

use super::Insn;
use super::code::{self, RET_A, is_opcode};
use super::disasm::{IMAGES, Operand, disasm};
use super::skb::ANCILLARY;

/// The three ways a program is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `tcpdump -d`: `(000) ldh      [12]`.
    Listing,
    /// `tcpdump -dd`: `{ 0x28, 0, 0, 0x0000000c },`, initialisers of a C array.
    C,
    /// `tcpdump -ddd`: the number of instructions, then `40 0 0 12`.
    Decimal,
}

/// Why text is not a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct TextError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    #[source]
    pub reason: TextReason,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextReason {
    /// No form starts like this.
    #[error("`{0}` starts no filter program; give the output of tcpdump -d, -dd or -ddd")]
    UnknownForm(String),
    /// A number that does not fit its field, or is none.
    #[error("`{text}` is no {field}; give a number from 0 to {max}")]
    Number {
        /// The text.
        text: String,
        /// The field of the instruction.
        field: &'static str,
        /// Largest number.
        max: u64,
    },
    /// Not the four fields of an instruction.
    #[error("an instruction is four numbers, code jt jf k: here are {0}")]
    Fields(usize),
    /// A C initialiser without its braces.
    #[error("`{0}` is no initialiser; write `{{ code, jt, jf, k }},`")]
    Initialiser(String),
    /// `-ddd`: the first line counts the others.
    #[error("the first line promises {promised} instructions and {found} follow")]
    Count {
        /// The number on the first line.
        promised: usize,
        /// Instructions after it.
        found: usize,
    },
    /// `-d`: the number in parentheses is not the next one.
    #[error("`{found}` stands where ({expected:03}) comes next")]
    Sequence {
        /// The number due.
        expected: usize,
        /// The text there.
        found: String,
    },
    /// `-d`: no instruction is written like this.
    #[error("`{0}` is no instruction; write it as tcpdump -d does")]
    Instruction(String),
    /// `-d`: a jump target that is not within reach after the instruction.
    #[error("`{0}` is no target; jt and jf go forward by at most 256 instructions")]
    Target(String),
}

/// Writes a program in one of the forms, as tcpdump prints it.
pub fn write(insns: &[Insn], form: Form) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = match form {
        Form::Listing => {
            text = disasm(insns);
            Ok(())
        }
        Form::C => insns.iter().try_for_each(|Insn { code, jt, jf, k }| {
            writeln!(text, "{{ {code:#x}, {jt}, {jf}, {k:#010x} }},")
        }),
        Form::Decimal => writeln!(text, "{}", insns.len()).and_then(|()| {
            insns.iter().try_for_each(|Insn { code, jt, jf, k }| writeln!(text, "{code} {jt} {jf} {k}"))
        }),
    };
    text
}

/// Which form a text is in, by its first character. `None`: none of them.
pub fn detect(text: &str) -> Option<Form> {
    match text.trim_start().chars().next()? {
        '(' => Some(Form::Listing),
        '{' => Some(Form::C),
        '0'..='9' => Some(Form::Decimal),
        _ => None,
    }
}

/// Reads a program in whichever form it is; empty lines count for nothing. The program is not yet
/// [validated](super::validate()).
///
/// # Errors
/// The first line that is wrong, and how.
pub fn read(text: &str) -> Result<Vec<Insn>, TextError> {
    match detect(text) {
        Some(form) => read_as(text, form),
        None => {
            let (line, first) = lines(text).next().unwrap_or((1, ""));
            Err(TextError { line, reason: TextReason::UnknownForm(first.to_owned()) })
        }
    }
}

/// Reads a program in the form told; else as [`read`].
///
/// # Errors
/// The first line that is wrong, and how.
pub fn read_as(text: &str, form: Form) -> Result<Vec<Insn>, TextError> {
    match form {
        Form::Listing => read_listing(text),
        Form::C => read_c(text),
        Form::Decimal => read_decimal(text),
    }
}

/// Lines that are not blank, numbered from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty())
}

fn at(line: usize) -> impl Fn(TextReason) -> TextError {
    move |reason| TextError { line, reason }
}

fn parse(text: &str) -> Result<u64, ParseIntError> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
}

fn field<T: TryFrom<u64>>(text: &str, field: &'static str, max: impl Into<u64>) -> Result<T, TextReason> {
    parse(text).ok().and_then(|number| T::try_from(number).ok()).ok_or_else(|| TextReason::Number {
        text: text.to_owned(),
        field,
        max: max.into(),
    })
}

fn insn<'a>(fields: impl Iterator<Item = &'a str>) -> Result<Insn, TextReason> {
    let fields: Vec<&str> = fields.collect();
    let &[code, jt, jf, k] = fields.as_slice() else {
        return Err(TextReason::Fields(fields.len()));
    };
    Ok(Insn::new(
        field(code, "code", u16::MAX)?,
        field(jt, "jt", u8::MAX)?,
        field(jf, "jf", u8::MAX)?,
        field(k, "k", u32::MAX)?,
    ))
}

fn read_c(text: &str) -> Result<Vec<Insn>, TextError> {
    let mut insns = Vec::new();
    for (number, line) in lines(text) {
        // Several on a line are C too; so is a last one without its comma.
        let mut rest = line;
        while !rest.is_empty() {
            let (inner, after) = rest
                .strip_prefix('{')
                .and_then(|open| open.split_once('}'))
                .ok_or_else(|| at(number)(TextReason::Initialiser(rest.to_owned())))?;
            insns.push(insn(inner.split(',').map(str::trim)).map_err(at(number))?);
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
    }
    Ok(insns)
}

fn read_decimal(text: &str) -> Result<Vec<Insn>, TextError> {
    let mut lines = lines(text);
    let (first, promised) = match lines.next() {
        Some((number, line)) => {
            (number, field::<u32>(line, "number of instructions", u32::MAX).map_err(at(number))? as usize)
        }
        None => (1, 0),
    };
    let insns = lines
        .map(|(number, line)| insn(line.split_whitespace()).map_err(at(number)))
        .collect::<Result<Vec<_>, _>>()?;
    if insns.len() != promised {
        return Err(at(first)(TextReason::Count { promised, found: insns.len() }));
    }
    Ok(insns)
}

fn read_listing(text: &str) -> Result<Vec<Insn>, TextError> {
    lines(text).enumerate().map(|(pc, (number, line))| listed(line, pc).map_err(at(number))).collect()
}

/// One line of a listing.
fn listed(line: &str, pc: usize) -> Result<Insn, TextReason> {
    let unknown = || TextReason::Instruction(line.to_owned());
    let (label, rest) = line.split_once(char::is_whitespace).ok_or_else(unknown)?;
    let labelled =
        label.strip_prefix('(').and_then(|label| label.strip_suffix(')')).and_then(|n| n.parse().ok());
    if labelled != Some(pc) {
        return Err(TextReason::Sequence { expected: pc, found: label.to_owned() });
    }
    let (name, rest) = rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest.trim_start(), ""));
    // An operand may hold spaces (`[x + 14]`), a jump's targets follow it.
    let (operand, targets) = match rest.split_once("jt ") {
        Some((operand, targets)) => (operand.trim(), Some(targets)),
        None => (rest.trim(), None),
    };
    let (code, k) = operation(name, operand, pc).ok_or_else(unknown)?;
    let mut insn = Insn::stmt(code, k);
    match (insn.is_conditional(), targets) {
        (false, None) => {}
        (true, Some(targets)) => {
            let (jt, jf) = targets.split_once("jf ").ok_or_else(unknown)?;
            (insn.jt, insn.jf) = (offset(jt.trim(), pc)?, offset(jf.trim(), pc)?);
        }
        _ => return Err(unknown()),
    }
    Ok(insn)
}

/// Offset of a conditional jump at `pc` to the instruction numbered `target`.
fn offset(target: &str, pc: usize) -> Result<u8, TextReason> {
    let offset = target.parse().ok().and_then(|target: usize| target.checked_sub(pc + 1));
    offset.and_then(|offset| offset.try_into().ok()).ok_or_else(|| TextReason::Target(target.to_owned()))
}

/// Code and k of the instruction called `name` with this operand.
fn operation(name: &str, operand: &str, pc: usize) -> Option<(u16, u32)> {
    match (name, operand) {
        // What libpcap has no name for; k is lost, so only where there is none.
        ("unimp", code) => {
            let code = u16::try_from(parse(code).ok()?).ok()?;
            return (is_opcode(code) && code::mode(code) == code::LEN).then_some((code, 0));
        }
        ("ret", "a" | "A") => return Some((RET_A, 0)),
        _ => {}
    }
    let mut candidates = IMAGES.iter().filter(|(_, known, _)| *known == name);
    candidates.find_map(|(code, _, form)| {
        let k = match form {
            Operand::None => operand.is_empty().then_some(0)?,
            Operand::X => (operand == "x").then_some(0)?,
            Operand::Length => (operand == "#pktlen").then_some(0)?,
            Operand::Hex | Operand::Decimal => word(operand.strip_prefix('#')?)?,
            Operand::Absolute => {
                let inner = operand.strip_prefix('[')?.strip_suffix(']')?;
                let named = ANCILLARY.iter().find(|(_, name)| *name == inner).map(|(k, _)| *k);
                named.or_else(|| word(inner))?
            }
            Operand::Indirect => {
                let inner = operand.strip_prefix('[')?.strip_suffix(']')?;
                word(inner.trim_start().strip_prefix('x')?.trim_start().strip_prefix('+')?)?
            }
            Operand::Memory => word(operand.strip_prefix("M[")?.strip_suffix(']')?)?,
            Operand::HeaderLength => word(operand.strip_prefix("4*([")?.strip_suffix("]&0xf)")?)?,
            Operand::Target => word(operand)?.wrapping_sub(pc as u32 + 1),
        };
        Some((*code, k))
    })
}

/// A 32-bit word in decimal, signed or not, or in hexadecimal.
fn word(text: &str) -> Option<u32> {
    let text = text.trim();
    match text.strip_prefix('-') {
        Some(_) => text.parse::<i32>().ok().map(|signed| signed as u32),
        None => parse(text).ok()?.try_into().ok(),
    }
}
