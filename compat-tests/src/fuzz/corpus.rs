//! The corpus: a directory for each target, a file for each input. `compat-tests/corpus/README.md` says what is in it.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// An input that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file's name.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Where the source keeps it.
pub fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// What `directory` has for `target`, by name; nothing where there is no such directory.
///
/// # Errors
/// What cannot be read.
pub fn read(directory: &Path, target: &str) -> anyhow::Result<Vec<Entry>> {
    let place = directory.join(target);
    if !place.is_dir() {
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    for file in std::fs::read_dir(&place).with_context(|| format!("the corpus {}", place.display()))? {
        let path = file?.path();
        let bytes = std::fs::read(&path).with_context(|| format!("the corpus entry {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        entries.push(Entry { name, bytes });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// The seeds of `entries`: a number a line, behind a # what it is for.
///
/// # Errors
/// A line that has no number.
pub fn seeds(entries: &[Entry]) -> anyhow::Result<Vec<u64>> {
    let mut seeds = Vec::new();
    for Entry { name, bytes } in entries {
        for (number, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
            let word = line.split('#').next().unwrap_or_default().trim();
            if !word.is_empty() {
                let at = || format!("line {} of {name} is no seed: {line}", number + 1);
                seeds.push(word.parse().with_context(at)?);
            }
        }
    }
    Ok(seeds)
}
