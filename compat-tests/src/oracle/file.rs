//! The files of recordings: told apart by content, errors by file and line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bpfdev_core::abi::Abi;
use bpfdev_core::abi::netbsd::{NETBSD, NETBSD7};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::script::{self, Numbers, Step};
use super::trace::{self, Op};

/// One recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// File and line.
    pub at: String,
    /// Its id.
    pub id: String,
    /// What it is about, in words.
    pub about: String,
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
    kind: String,
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
    description: Option<String>,
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

/// The name of the format, and the version of it that this program reads and writes.
pub const SCHEMA: (&str, u32) = ("bpfdev-cases", 1);

/// What may stand before the recordings: around cases (then with `cases`), or as the first of several lines.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Always [`SCHEMA`].
    pub schema: Schema,
    /// The dialect that was recorded, or `any`: played on every one, request numbers by name.
    pub system: String,
    /// Where it was recorded, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_on: Option<String>,
}

/// Name and version of a format.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Schema {
    /// `bpfdev-cases`.
    pub name: String,
    /// Grows whenever a reader of the version before would be misled.
    pub version: u32,
}

/// Whose answers a file has.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// It does not say so: NetBSD's, of whichever version, as the first recordings were.
    Unsaid,
    /// This system's.
    System(&'static Abi),
    /// Every system's.
    Any,
}

impl Origin {
    /// Whether it can be asked of this dialect.
    pub fn is_for(self, abi: &Abi) -> bool {
        match self {
            Origin::Unsaid => [&NETBSD, &NETBSD7].iter().any(|known| known.name == abi.name),
            Origin::System(recorded) => recorded.name == abi.name,
            Origin::Any => true,
        }
    }

    /// The request numbers of a case that is played on `abi`.
    pub fn numbers(self, on: &'static Abi) -> Numbers {
        let of = match self {
            Origin::Unsaid => &NETBSD,
            Origin::System(recorded) => recorded,
            Origin::Any => on,
        };
        Numbers { of, on }
    }

    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Unsaid => "netbsd",
            Origin::System(recorded) => recorded.name,
            Origin::Any => "any system",
        }
    }
}

/// A file of recordings, not yet read for a dialect.
#[derive(Clone, Debug)]
pub struct CaseFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whose answers it has.
    pub origin: Origin,
    text: String,
    /// A list of cases, from this byte on; else lines, the first of which is this one.
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Cases(usize),
    Lines(usize),
}

/// The files of a path: itself, or every .json and .jsonl file in that directory.
///
/// # Errors
/// There is no such path, or nothing in it.
pub fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let listed = fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut files: Vec<PathBuf> =
        listed.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| has_recordings(path)).collect();
    files.sort();
    if files.is_empty() {
        bail!("{}: no .json or .jsonl file in this directory", path.display());
    }
    Ok(files)
}

fn has_recordings(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|end| end == "json" || end == "jsonl")
}

/// Reads the recordings of a NetBSD kernel in a file, or in every .json and .jsonl file of a directory.
///
/// # Errors
/// Names the file, and the line where there is one.
pub fn load(path: &Path) -> anyhow::Result<Vec<Recording>> {
    let mut recordings = Vec::new();
    for path in files(path)? {
        let file = CaseFile::open(&path)?;
        if !file.origin.is_for(&NETBSD) && !file.origin.is_for(&NETBSD7) {
            bail!(
                "{}: recorded on {}, and this plays netbsd and netbsd7",
                path.display(),
                file.origin.name()
            );
        }
        recordings.extend(file.recordings(&NETBSD)?);
    }
    Ok(recordings)
}

impl CaseFile {
    /// Reads the file, and what it says of itself.
    ///
    /// # Errors
    /// The file cannot be read, is no JSON, or of another format: both versions are named.
    pub fn open(path: &Path) -> anyhow::Result<CaseFile> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        CaseFile::new(path, text)
    }

    /// Takes the text of the file at `path`.
    ///
    /// # Errors
    /// As [`CaseFile::open`].
    pub fn new(path: &Path, text: String) -> anyhow::Result<CaseFile> {
        #[derive(Deserialize)]
        struct Marked {
            schema: Schema,
        }
        #[derive(Deserialize)]
        struct Whole<'a> {
            schema: Schema,
            system: String,
            #[serde(rename = "recorded_on")]
            _recorded_on: Option<String>,
            #[serde(borrow)]
            cases: &'a RawValue,
        }
        let bare = |body| (Origin::Unsaid, body);
        let mut values = serde_json::Deserializer::from_str(&text).into_iter::<&RawValue>();
        let first = values
            .next()
            .and_then(Result::ok)
            .map(RawValue::get)
            .filter(|_| !text.trim_start().starts_with('['));
        let marked = first.and_then(|first| Some((first, serde_json::from_str::<Marked>(first).ok()?)));
        let (origin, body) = match marked {
            None if text.trim_start().starts_with('[') => bare(Body::Cases(0)),
            None => bare(Body::Lines(0)),
            Some((first, Marked { schema })) => {
                let (name, version) = SCHEMA;
                if schema != (Schema { name: name.into(), version }) {
                    let Schema { name: other, version: found } = schema;
                    bail!(
                        "{}: this is {other} version {found}; this program reads {name} version {version}",
                        path.display()
                    );
                }
                let line = line_of(&text, first);
                let is_whole = serde_json::from_str::<Map<String, Value>>(first)
                    .is_ok_and(|map| map.contains_key("cases"));
                let (system, body) = if is_whole {
                    let whole: Whole<'_> =
                        serde_json::from_str(first).map_err(|error| wrong(path, line, &error))?;
                    debug_assert_eq!(whole.schema, schema);
                    (whole.system, Body::Cases(offset(&text, whole.cases.get())))
                } else {
                    let head: Head =
                        serde_json::from_str(first).map_err(|error| wrong(path, line, &error))?;
                    (head.system, Body::Lines(line))
                };
                let origin = match (system.as_str(), Abi::by_name(&system)) {
                    ("any", _) => Origin::Any,
                    (_, Some(abi)) => Origin::System(abi),
                    _ => {
                        bail!("{}:{line}: the system {system:?} is not known to this program", path.display())
                    }
                };
                (origin, body)
            }
        };
        Ok(CaseFile { path: path.to_owned(), origin, text, body })
    }

    /// The cases as JSON; `None`: the file has lines.
    ///
    /// # Errors
    /// They are no list.
    pub fn cases(&self) -> anyhow::Result<Option<Vec<Value>>> {
        let Body::Cases(from) = self.body else { return Ok(None) };
        let mut values = serde_json::Deserializer::from_str(&self.text[from..]).into_iter::<Vec<Value>>();
        let cases = values.next().transpose().map_err(|error| wrong(&self.path, self.line(from), &error))?;
        Ok(Some(cases.unwrap_or_default()))
    }

    /// The lines behind the head, as JSON.
    ///
    /// # Errors
    /// One is no JSON.
    pub fn lines(&self) -> anyhow::Result<Vec<Value>> {
        let Body::Lines(head) = self.body else { return Ok(Vec::new()) };
        let lines = self.text.lines().enumerate().skip(head).filter(|(_, text)| !text.trim().is_empty());
        lines
            .map(|(i, text)| serde_json::from_str(text).map_err(|error| wrong(&self.path, i + 1, &error)))
            .collect()
    }

    fn line(&self, at: usize) -> usize {
        line_of(&self.text, &self.text[at..])
    }

    /// The recordings, with the request numbers of the dialect they are to be played on.
    ///
    /// # Errors
    /// Names the file and the line.
    pub fn recordings(&self, on: &'static Abi) -> anyhow::Result<Vec<Recording>> {
        let recordings = match self.body {
            Body::Cases(from) => self.read_cases(from, self.origin.numbers(on))?,
            Body::Lines(head) => self.read_lines(head)?,
        };
        if recordings.is_empty() {
            bail!("{}: no recordings in it", self.path.display());
        }
        Ok(recordings)
    }

    fn read_cases(&self, from: usize, numbers: Numbers) -> anyhow::Result<Vec<Recording>> {
        let (path, text) = (&self.path, &self.text);
        let mut lists = serde_json::Deserializer::from_str(&text[from..]).into_iter::<Vec<&RawValue>>();
        let elements = lists.next().transpose().map_err(|error| wrong(path, self.line(from), &error))?;
        // behind a bare list there is nothing; what is behind the list of an object was read with the head
        if from == 0 && !text[lists.byte_offset()..].trim().is_empty() {
            let line = self.line(lists.byte_offset());
            bail!("{}:{line}: trailing characters", path.display());
        }
        let mut recordings = Vec::new();
        for element in elements.unwrap_or_default() {
            let line = line_of(text, element.get());
            let case: RawCase<'_> =
                serde_json::from_str(element.get()).map_err(|error| wrong(path, line, &error))?;
            let steps = case.steps.iter().map(|raw| {
                let value: Value = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
                script::step(&value, numbers)
                    .map_err(|what| format!("line {}: {what}", line_of(text, raw.get())))
            });
            recordings.push(Recording {
                at: format!("{}:{line}", path.display()),
                id: case.id,
                about: case.description.unwrap_or_default(),
                what: steps.collect::<Result<_, _>>().map(What::Case),
            });
        }
        Ok(recordings)
    }

    fn read_lines(&self, head: usize) -> anyhow::Result<Vec<Recording>> {
        let path = &self.path;
        let mut recordings = Vec::new();
        let lines = self.text.lines().enumerate().skip(head);
        for (i, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
            let line = i + 1;
            let at = format!("{}:{line}", path.display());
            let value: Value = serde_json::from_str(text).map_err(|error| wrong(path, line, &error))?;
            let (id, about, what) = if value.get("ops").is_some() {
                let trace: RawTrace =
                    serde_json::from_str(text).map_err(|error| wrong(path, line, &error))?;
                let about = format!("a sequence of {} operations", trace.ops.len());
                let ops = trace.ops.iter().enumerate();
                let ops = ops.map(|(i, op)| trace::op(op).map_err(|what| format!("operation {i}: {what}")));
                (trace.id, about, ops.collect::<Result<_, _>>().map(|ops| What::Trace(trace.blen, ops)))
            } else if value.get("prog").is_some() {
                let filter: Filter = serde_json::from_str(text).map_err(|error| wrong(path, line, &error))?;
                (filter.id.clone(), format!("a filter program ({})", filter.kind), Ok(What::Filter(filter)))
            } else {
                bail!("{at}: neither a trace (`ops`) nor a filter program (`prog`), and no list of cases");
            };
            let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            recordings.push(Recording { at, id, about, what });
        }
        Ok(recordings)
    }
}

/// serde_json's message with the line counted in the file, and without its own.
fn wrong(path: &Path, first_line: usize, error: &serde_json::Error) -> anyhow::Error {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let line = first_line + error.line().saturating_sub(1);
    anyhow::anyhow!("{}:{line}: {what}", path.display())
}

/// Where `part`, a slice of `text`, begins.
fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize).min(text.len())
}

/// The line on which `part`, a slice of `text`, begins.
fn line_of(text: &str, part: &str) -> usize {
    1 + text.as_bytes()[..offset(text, part)].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> anyhow::Result<Vec<Recording>> {
        CaseFile::new(Path::new("some.json"), text.into())?.recordings(&NETBSD)
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
    fn a_head_says_whose_answers_they_are() {
        let cases = "{\"schema\":{\"name\":\"bpfdev-cases\",\"version\":1},\"system\":\"freebsd\",\n\"cases\":[\n{\"id\":\"a\",\"steps\":[]}]}";
        let file = CaseFile::new(Path::new("f"), cases.into()).unwrap();
        assert!(matches!(file.origin, Origin::System(abi) if abi.name == "freebsd"));
        assert_eq!(file.recordings(&NETBSD).unwrap()[0].at, "f:3");
        assert_eq!(file.cases().unwrap().unwrap().len(), 1);
        let lines = "{\"schema\":{\"name\":\"bpfdev-cases\",\"version\":1},\"system\":\"any\"}\n{\"id\":1,\"blen\":64,\"ops\":[]}";
        let file = CaseFile::new(Path::new("f"), lines.into()).unwrap();
        assert!(matches!(file.origin, Origin::Any) && file.cases().unwrap().is_none());
        assert_eq!(
            (file.recordings(&NETBSD).unwrap()[0].at.as_str(), file.lines().unwrap().len()),
            ("f:2", 1)
        );
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
            ("[] x", "some.json:1: trailing"),
            (
                r#"{"schema":{"name":"bpfdev-cases","version":2},"system":"netbsd","cases":[]}"#,
                "this is bpfdev-cases version 2; this program reads bpfdev-cases version 1",
            ),
            (
                r#"{"schema":{"name":"bpfdev-report","version":1},"cells":[]}"#,
                "this is bpfdev-report version 1; this program reads bpfdev-cases version 1",
            ),
            (
                r#"{"schema":{"name":"bpfdev-cases","version":1},"system":"plan9","cases":[]}"#,
                "some.json:1: the system \"plan9\"",
            ),
            (r#"{"schema":{"name":"bpfdev-cases","version":1},"cases":[]}"#, "missing field `system`"),
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
