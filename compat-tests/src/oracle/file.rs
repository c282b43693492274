//! The files of recordings: told apart by content, errors by file and line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::script::{self, Step};
use super::trace::{self, Op};

/// One recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// File and line.
    pub at: String,
    /// Its id.
    pub id: String,
    /// What is recorded, or what of it cannot be played.
    pub what: Result<What, String>,
}

/// What a recording holds.
#[derive(Clone, Debug)]
pub enum What {
    /// A scripted case.
    Case(Vec<Step>),
    /// A sequence of non-blocking operations, with the size of the buffer.
    Trace(u32, Vec<Op>),
    /// A filter program.
    Filter(Filter),
}

/// A filter program with a packet, the kernel's verdict and the result.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    id: Value,
    #[serde(rename = "kind")]
    _kind: String,
    /// Instructions in hexadecimal, little-endian.
    pub prog: String,
    /// The captured bytes in hexadecimal.
    pub pkt: String,
    /// Length on the wire.
    pub wirelen: u32,
    /// bpf_validate's answer: 0 or 1.
    pub valid: u8,
    /// bpf_filter's result; `None` when not valid.
    pub ret: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase<'a> {
    id: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(borrow)]
    steps: Vec<&'a RawValue>,
    /// The results once more, by label.
    #[serde(rename = "observed")]
    _observed: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrace {
    id: Value,
    blen: u32,
    ops: Vec<Value>,
}

/// Reads the recordings of a file, or of every .json and .jsonl file in a directory.
///
/// # Errors
/// Names the file, and the line where there is one.
pub fn load(path: &Path) -> anyhow::Result<Vec<Recording>> {
    if !path.is_dir() {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        return read(path, &text);
    }
    let listed = fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut files: Vec<PathBuf> =
        listed.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| has_recordings(path)).collect();
    files.sort();
    if files.is_empty() {
        bail!("{}: no .json or .jsonl file in this directory", path.display());
    }
    let mut recordings = Vec::new();
    for file in files {
        recordings.extend(load(&file)?);
    }
    Ok(recordings)
}

fn has_recordings(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|end| end == "json" || end == "jsonl")
}

fn read(path: &Path, text: &str) -> anyhow::Result<Vec<Recording>> {
    let recordings = if text.trim_start().starts_with('[') { cases(path, text)? } else { lines(path, text)? };
    if recordings.is_empty() {
        bail!("{}: no recordings in it", path.display());
    }
    Ok(recordings)
}

/// serde_json's message with the line counted in the file, and without its own.
fn wrong(path: &Path, first_line: usize, error: &serde_json::Error) -> anyhow::Error {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let line = first_line + error.line().saturating_sub(1);
    anyhow::anyhow!("{}:{line}: {what}", path.display())
}

/// The line on which `part`, a slice of `text`, begins.
fn line_of(text: &str, part: &str) -> usize {
    let offset = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize).min(text.len());
    1 + text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count()
}

fn cases(path: &Path, text: &str) -> anyhow::Result<Vec<Recording>> {
    let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| wrong(path, 1, &error))?;
    let mut recordings = Vec::new();
    for element in elements {
        let line = line_of(text, element.get());
        let case: RawCase<'_> =
            serde_json::from_str(element.get()).map_err(|error| wrong(path, line, &error))?;
        let steps = case.steps.iter().map(|raw| {
            let value: Value = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
            script::step(&value).map_err(|what| format!("line {}: {what}", line_of(text, raw.get())))
        });
        recordings.push(Recording {
            at: format!("{}:{line}", path.display()),
            id: case.id,
            what: steps.collect::<Result<_, _>>().map(What::Case),
        });
    }
    Ok(recordings)
}

fn lines(path: &Path, text: &str) -> anyhow::Result<Vec<Recording>> {
    let mut recordings = Vec::new();
    for (i, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let line = i + 1;
        let at = format!("{}:{line}", path.display());
        let value: Value = serde_json::from_str(text).map_err(|error| wrong(path, line, &error))?;
        let (id, what) = if value.get("ops").is_some() {
            let trace: RawTrace = serde_json::from_str(text).map_err(|error| wrong(path, line, &error))?;
            let ops = trace.ops.iter().enumerate();
            let ops = ops.map(|(i, op)| trace::op(op).map_err(|what| format!("operation {i}: {what}")));
            (trace.id, ops.collect::<Result<_, _>>().map(|ops| What::Trace(trace.blen, ops)))
        } else if value.get("prog").is_some() {
            let filter: Filter = serde_json::from_str(text).map_err(|error| wrong(path, line, &error))?;
            (filter.id.clone(), Ok(What::Filter(filter)))
        } else {
            bail!("{at}: neither a trace (`ops`) nor a filter program (`prog`), and no list of cases");
        };
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        recordings.push(Recording { at, id, what });
    }
    Ok(recordings)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> anyhow::Result<Vec<Recording>> {
        read(Path::new("some.json"), text)
    }

    #[test]
    fn files_are_told_apart_by_content() {
        let case = read_text("\n[\n {\"id\":\"a\",\n  \"steps\":[]}]").unwrap();
        assert!(case[0].at == "some.json:3" && matches!(case[0].what, Ok(What::Case(_))));
        let trace = read_text("{\"id\":1,\"blen\":64,\"ops\":[[\"flush\"]]}\n").unwrap();
        assert!(trace[0].id == "1" && matches!(trace[0].what, Ok(What::Trace(64, _))));
        let filter = r#"{"id":0,"kind":"k","prog":"","pkt":"","wirelen":0,"valid":0,"ret":null}"#;
        assert!(matches!(read_text(filter).unwrap()[0].what, Ok(What::Filter(_))));
    }

    #[test]
    fn a_bad_file_is_an_error_with_its_line() {
        for (text, says) in [
            ("", "no recordings"),
            ("[]", "no recordings"),
            ("[\n{\"id\":\"a\"}]", "some.json:2: missing field `steps`"),
            ("[\n\n{\"id\":\"a\",\"steps\":[],\"x\":1}]", "some.json:3: unknown field `x`"),
            ("[\n{\"id\"", "some.json:2: EOF"),
            ("{\"id\":1}", "some.json:1: neither"),
            ("{\"id\":1,\"blen\":2,\"ops\":[]}\nnonsense", "some.json:2: expected ident"),
            ("{\"id\":1,\"blen\":-2,\"ops\":[]}", "some.json:1: invalid value"),
            ("\u{0}", "some.json:1: expected value"),
        ] {
            let error = format!("{:#}", read_text(text).unwrap_err());
            assert!(error.contains(says) && !error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_unknown_operation_spoils_its_own_recording_only() {
        let text = "{\"id\":1,\"blen\":64,\"ops\":[[\"jump\"]]}\n{\"id\":2,\"blen\":64,\"ops\":[]}";
        let both = read_text(text).unwrap();
        assert!(both[0].what.as_ref().unwrap_err().contains("\"jump\"") && both[1].what.is_ok());
        let case = read_text("[{\"id\":\"a\",\"steps\":[\n{\"op\":\"jump\"}]}]").unwrap();
        assert!(case[0].what.as_ref().unwrap_err().contains("line 2"));
    }
}
