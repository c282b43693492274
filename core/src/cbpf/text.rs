//! Programs as text: what `tcpdump -d`, `-dd` and `-ddd` print, written byte for byte and read back.

use std::fmt::Write;

use super::Insn;
use super::code::{LDX_W_LEN, RET_A};
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
#[error("line {line}, column {column}: {reason}")]
pub struct TextError {
    /// The line, from 1.
    pub line: usize,
    /// The character in it where the wrong text begins, from 1.
    pub column: usize,
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
    /// `-d`: no instruction has this name.
    #[error("`{0}` is no instruction; write it as tcpdump -d does: `(000) ldh [12]`")]
    Instruction(String),
    /// `-d`: not an operand of this instruction.
    #[error("`{text}` is no operand of {name}; it takes {expected}")]
    Operand {
        /// The text.
        text: String,
        /// The instruction.
        name: String,
        /// The operands it takes.
        expected: String,
    },
    /// `-d`: a conditional jump without its targets, or targets of another instruction.
    #[error("`{text}` stands where {expected} comes next")]
    Targets {
        /// The text.
        text: String,
        /// What is due.
        expected: &'static str,
    },
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
/// The first place that is wrong, and what was expected there.
pub fn read(text: &str) -> Result<Vec<Insn>, TextError> {
    match detect(text) {
        Some(form) => read_as(text, form),
        None => {
            let first = lines(text).next().unwrap_or(Line { number: 1, whole: "", text: "" });
            Err(first.error(Wrong::new(first.text, TextReason::UnknownForm)))
        }
    }
}

/// Reads a program in the form told; else as [`read`].
///
/// # Errors
/// The first place that is wrong, and what was expected there.
pub fn read_as(text: &str, form: Form) -> Result<Vec<Insn>, TextError> {
    match form {
        Form::Listing => lines(text)
            .enumerate()
            .map(|(pc, line)| listed(line.text, pc).map_err(|e| line.error(e)))
            .collect(),
        Form::C => read_c(text),
        Form::Decimal => read_decimal(text),
    }
}

/// A line that is not blank.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// From 1.
    number: usize,
    whole: &'a str,
    /// Without the white space around it.
    text: &'a str,
}

impl Line<'_> {
    fn error(&self, wrong: Wrong<'_>) -> TextError {
        // `wrong.at` is a part of the line: the distance of their beginnings is its offset.
        let offset = (wrong.at.as_ptr() as usize).saturating_sub(self.whole.as_ptr() as usize);
        let before = self.whole.get(..offset).unwrap_or(self.whole);
        TextError { line: self.number, column: before.chars().count() + 1, reason: wrong.reason }
    }
}

/// A part of a line, and what is wrong with it.
struct Wrong<'a> {
    at: &'a str,
    reason: TextReason,
}

impl<'a> Wrong<'a> {
    fn new(at: &'a str, reason: impl FnOnce(String) -> TextReason) -> Self {
        Wrong { at, reason: reason(at.to_owned()) }
    }
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines()
        .enumerate()
        .map(|(index, whole)| Line { number: index + 1, whole, text: whole.trim() })
        .filter(|line| !line.text.is_empty())
}

fn parse(text: &str) -> Option<u64> {
    // `from_str` takes a sign, which no form has here.
    let digits = |text: &str, radix| match text.starts_with('+') {
        true => None,
        false => u64::from_str_radix(text, radix).ok(),
    };
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => digits(hex, 16),
        None => digits(text, 10),
    }
}

fn field<'a, T: TryFrom<u64>>(
    text: &'a str,
    field: &'static str,
    max: impl Into<u64>,
) -> Result<T, Wrong<'a>> {
    parse(text).and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
        let max = max.into();
        Wrong::new(text, |text| TextReason::Number { text, field, max })
    })
}

/// `whole` is where the fields come from.
fn insn<'a>(whole: &'a str, fields: impl Iterator<Item = &'a str>) -> Result<Insn, Wrong<'a>> {
    let fields: Vec<&str> = fields.collect();
    let &[code, jt, jf, k] = fields.as_slice() else {
        return Err(Wrong { at: whole, reason: TextReason::Fields(fields.len()) });
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
    for line in lines(text) {
        // Several on a line are C too; so is a last one without its comma.
        let mut rest = line.text;
        while !rest.is_empty() {
            let (inner, after) = rest
                .strip_prefix('{')
                .and_then(|open| open.split_once('}'))
                .ok_or_else(|| line.error(Wrong::new(rest, TextReason::Initialiser)))?;
            insns.push(insn(rest, inner.split(',').map(str::trim)).map_err(|e| line.error(e))?);
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
    }
    Ok(insns)
}

fn read_decimal(text: &str) -> Result<Vec<Insn>, TextError> {
    let mut lines = lines(text);
    let first = lines.next().unwrap_or(Line { number: 1, whole: "", text: "0" });
    let promised: u32 =
        field(first.text, "number of instructions", u32::MAX).map_err(|wrong| first.error(wrong))?;
    let insns = lines
        .map(|line| insn(line.text, line.text.split_whitespace()).map_err(|wrong| line.error(wrong)))
        .collect::<Result<Vec<_>, _>>()?;
    if insns.len() != promised as usize {
        let reason = TextReason::Count { promised: promised as usize, found: insns.len() };
        return Err(first.error(Wrong { at: first.text, reason }));
    }
    Ok(insns)
}

/// The first word, and the rest behind the white space after it.
fn word_and_rest(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_start())
}

/// One line of a listing.
fn listed(line: &str, pc: usize) -> Result<Insn, Wrong<'_>> {
    let (label, rest) = word_and_rest(line);
    let labelled =
        label.strip_prefix('(').and_then(|label| label.strip_suffix(')')).and_then(|n| n.parse().ok());
    if labelled != Some(pc) {
        return Err(Wrong::new(label, |found| TextReason::Sequence { expected: pc, found }));
    }
    let (name, rest) = word_and_rest(rest);
    // An operand may hold spaces (`[x + 14]`), a jump's targets follow it.
    let (operand, targets) = rest.find("jt ").map_or((rest, ""), |at| rest.split_at(at));
    let (code, k) = operation(name, operand.trim_end(), pc)?;
    let mut insn = Insn::stmt(code, k);
    let due = |at, expected| Wrong::new(at, |text| TextReason::Targets { text, expected });
    match (insn.is_conditional(), targets.strip_prefix("jt ")) {
        (false, None) => {}
        (true, Some(behind)) => {
            let at = behind.find("jf ").ok_or_else(|| due(targets, "`jt 2 jf 5`"))?;
            let (jt, jf) = behind.split_at(at);
            let jf = jf.strip_prefix("jf ").unwrap_or(jf);
            (insn.jt, insn.jf) = (offset(jt.trim(), pc)?, offset(jf.trim(), pc)?);
        }
        (true, None) => return Err(due(line.get(line.len()..).unwrap_or(line), "`jt 2 jf 5`")),
        (false, Some(_)) => return Err(due(targets, "the end of the line")),
    }
    Ok(insn)
}

/// Offset of a conditional jump at `pc` to the instruction numbered `target`.
fn offset(target: &str, pc: usize) -> Result<u8, Wrong<'_>> {
    let offset = target.parse().ok().and_then(|target: usize| target.checked_sub(pc + 1));
    offset.and_then(|offset| offset.try_into().ok()).ok_or_else(|| Wrong::new(target, TextReason::Target))
}

/// Code and k of the instruction called `name` with this operand.
fn operation<'a>(name: &'a str, operand: &'a str, pc: usize) -> Result<(u16, u32), Wrong<'a>> {
    let no_operand = |expected: String| {
        let at = if operand.is_empty() { name } else { operand };
        let (text, name) = (operand.to_owned(), name.to_owned());
        Wrong { at, reason: TextReason::Operand { text, name, expected } }
    };
    match (name, operand) {
        // libpcap has no name for one instruction, which has no k.
        ("unimp", code) if parse(code) == Some(LDX_W_LEN.into()) => return Ok((LDX_W_LEN, 0)),
        ("unimp", _) => return Err(no_operand("0x81 (`ldx #pktlen`)".to_owned())),
        ("ret", "a" | "A") => return Ok((RET_A, 0)),
        _ => {}
    }
    let candidates = IMAGES.iter().filter(|(_, known, _)| *known == name);
    let found = candidates.clone().find_map(|(code, _, form)| Some((*code, constant(*form, operand, pc)?)));
    found.ok_or_else(|| {
        let forms: Vec<&str> = candidates.map(|(.., form)| form.example()).collect();
        match forms.is_empty() {
            true => Wrong::new(name, TextReason::Instruction),
            false => no_operand(forms.join(" or ")),
        }
    })
}

/// k of an instruction at `pc` whose operand is written in this way.
fn constant(form: Operand, operand: &str, pc: usize) -> Option<u32> {
    match form {
        Operand::None => operand.is_empty().then_some(0),
        Operand::X => (operand == "x").then_some(0),
        Operand::Length => (operand == "#pktlen").then_some(0),
        Operand::Hex | Operand::Decimal => word(operand.strip_prefix('#')?),
        Operand::Absolute => {
            let inner = operand.strip_prefix('[')?.strip_suffix(']')?;
            let named = ANCILLARY.iter().find(|(_, name)| *name == inner).map(|(k, _)| *k);
            named.or_else(|| word(inner))
        }
        Operand::Indirect => {
            let inner = operand.strip_prefix('[')?.strip_suffix(']')?;
            word(inner.trim_start().strip_prefix('x')?.trim_start().strip_prefix('+')?)
        }
        Operand::Memory => word(operand.strip_prefix("M[")?.strip_suffix(']')?),
        Operand::HeaderLength => word(operand.strip_prefix("4*([")?.strip_suffix("]&0xf)")?),
        Operand::Target => Some(word(operand)?.wrapping_sub(pc as u32 + 1)),
    }
}

/// A 32-bit word in decimal, signed or not, or in hexadecimal.
fn word(text: &str) -> Option<u32> {
    let text = text.trim();
    match text.strip_prefix('-') {
        Some(_) => text.parse::<i32>().ok().map(|signed| signed as u32),
        None => parse(text)?.try_into().ok(),
    }
}
