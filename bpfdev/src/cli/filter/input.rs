//! What the subcommands read and write alike.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use bpfdev_core::cbpf::{self, Insn, Program, Rules, text};
use serde::Serialize;

/// The systems, by their word on the command line, in the order of the help text.
pub(super) static SYSTEMS: [(&str, &Rules); 6] = [
    ("freebsd", &cbpf::FREEBSD),
    ("netbsd", &cbpf::NETBSD),
    ("openbsd", &cbpf::OPENBSD),
    ("dragonfly", &cbpf::DRAGONFLY),
    ("macos", &cbpf::MACOS),
    ("linux", &cbpf::LINUX),
];

/// The rules of a system, or of the device's own dialect, which has Linux's name there.
pub(super) fn dialect(word: &str) -> Result<&'static Rules, String> {
    if word == "linux" {
        return Ok(&cbpf::LINUX_ABI);
    }
    let known = SYSTEMS.iter().find(|(name, _)| *name == word);
    known.map(|(_, rules)| *rules).ok_or_else(|| no_such_system(""))
}

/// The words there are, and `more`.
pub(super) fn no_such_system(more: &str) -> String {
    let names: Vec<_> = SYSTEMS.iter().map(|(name, _)| *name).collect();
    format!("no such system; there are {}{more}", names.join(", "))
}

/// Reads a program in any of tcpdump's three forms; `-` is stdin.
///
/// # Errors
/// Those of read(2); where the text is no program, `FILE: line 2, column 7: …`.
pub(super) fn program(file: &Path) -> anyhow::Result<Vec<Insn>> {
    let (name, bytes) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        ("stdin".to_owned(), io::stdin().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (file.display().to_string(), fs::read(file))
    };
    let bytes = bytes.with_context(|| format!("cannot read {name}"))?;
    // A character that is none is shown, and named where it stands, as any other that does not belong.
    text::read(&String::from_utf8_lossy(&bytes)).map_err(|error| anyhow!("{name}: {error}"))
}

/// The same, valid by these rules.
///
/// # Errors
/// As [`program`]; the instruction and the rule that refuses it.
pub(super) fn valid(file: &Path, rules: &'static Rules) -> anyhow::Result<Program> {
    cbpf::validate(&program(file)?, rules).map_err(|reject| anyhow!("{}: {reject}", rules.name))
}

/// Writes to stdout. A reader that has gone away (`| head`) has had what it wants.
///
/// # Errors
/// Those of write(2), but EPIPE.
pub(super) fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// One JSON value and a line end.
///
/// # Errors
/// As [`print`].
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<ExitCode> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// An instruction in JSON.
#[derive(Serialize)]
pub(super) struct JsonInsn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// Instructions for JSON, by the names of the C struct's fields.
pub(super) fn json(insns: &[Insn]) -> Vec<JsonInsn> {
    insns.iter().map(|&Insn { code, jt, jf, k }| JsonInsn { code, jt, jf, k }).collect()
}
