//! Case files of the user's, played on every target they are for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;
use bpfdev_core::abi::{self, Abi};

use super::{DEV, Ends, NO_ENDS, cell, dev, kind, skipped};
use crate::conformance::report::{Cell, Outcome, TargetInfo};
use crate::oracle::call::Trouble;
#[cfg(target_os = "linux")]
use crate::oracle::device;
use crate::oracle::file::{CaseFile, Origin, Recording, SCHEMA, files};
use crate::oracle::pair::Pair;
use crate::oracle::play::{InProcess, Stage, play as play_one};
#[cfg(target_os = "linux")]
use crate::place::Front;

/// One case.
#[derive(Debug)]
pub struct UserCase {
    /// `user::FILE::id`.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// Who answered so, and where that is written.
    pub rule: String,
    origin: Origin,
    /// For each dialect: request numbers differ.
    by_dialect: BTreeMap<&'static str, Recording>,
}

/// Reads these files, and those in these directories.
///
/// # Errors
/// A file that cannot be read, is of another format or version, or has an operation that is not known; two cases with one
/// name.
pub fn load(paths: &[PathBuf]) -> anyhow::Result<Vec<UserCase>> {
    let mut cases: Vec<UserCase> = Vec::new();
    for path in paths {
        for path in files(path)? {
            let file = CaseFile::open(&path)?;
            for case in read(&file)? {
                if let Some(other) = cases.iter().find(|other| other.id == case.id) {
                    bail!("two cases are called {}: {}, {}", case.id, other.rule, case.rule);
                }
                cases.push(case);
            }
        }
    }
    Ok(cases)
}

fn read(file: &CaseFile) -> anyhow::Result<Vec<UserCase>> {
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    let mut cases: Vec<UserCase> = Vec::new();
    for abi in abi::ALL.into_iter().filter(|abi| file.origin.is_for(abi)) {
        for (i, recording) in file.recordings(abi)?.into_iter().enumerate() {
            if let Some(case) = cases.get_mut(i) {
                case.by_dialect.insert(abi.name, recording);
                continue;
            }
            cases.push(UserCase {
                id: format!("user::{name}::{}", recording.id),
                title: recording.about.clone(),
                rule: format!("the answers of {}, {}", file.origin.name(), recording.at),
                origin: file.origin,
                by_dialect: [(abi.name, recording)].into(),
            });
        }
    }
    for case in &cases {
        // a request that one system does not have is skipped there; what no system has is a mistake
        if case.by_dialect.values().all(|recording| recording.what.is_err())
            && let Some(Recording { at, id, what: Err(why), .. }) = case.by_dialect.values().next()
        {
            let (schema, version) = SCHEMA;
            bail!("{at}: case {id}: {why} (which reads {schema} version {version})");
        }
    }
    Ok(cases)
}

/// Plays them all on one target.
pub fn play(cases: &[UserCase], target: &TargetInfo, ends: &Ends) -> Vec<Cell> {
    let (kind, abi) = kind(target);
    let (here, other): (Vec<_>, Vec<_>) =
        cases.iter().partition(|case| abi.is_some_and(|abi| case.origin.is_for(abi)));
    let played = match abi {
        Some(abi) if !here.is_empty() => on_stage(kind, abi, ends, &mut |stage| {
            here.iter().map(|case| one(case, abi, stage, target)).collect::<Vec<_>>()
        }),
        _ => Ok(Ok(Vec::new())),
    };
    let all = |outcome: &Outcome| -> Vec<Cell> {
        here.iter().map(|case| cell(target, case.id.clone(), outcome.clone(), Instant::now())).collect()
    };
    let mut cells = match played {
        Ok(Ok(cells)) => cells,
        Ok(Err(reason)) => all(&skipped(reason)),
        Err(error) => all(&Outcome::Failed {
            step: "preparing the target".into(),
            expected: "a stage".into(),
            seen: format!("{error:#}"),
        }),
    };
    cells.extend(other.into_iter().map(|case| {
        let reason = format!(
            "these are the answers of {}; say \"any\" if they are every system's",
            case.origin.name()
        );
        cell(target, case.id.clone(), skipped(reason), Instant::now())
    }));
    cells.sort_by_key(|cell| cases.iter().position(|case| case.id == cell.case));
    cells
}

fn one(case: &UserCase, abi: &Abi, stage: &mut dyn Stage, target: &TargetInfo) -> Cell {
    let begin = Instant::now();
    let what = case.by_dialect.get(abi.name).map(|recording| &recording.what);
    let outcome = match what {
        None => skipped(format!("it was not read for {}", abi.name)),
        Some(Err(why)) => skipped(why.clone()),
        Some(Ok(what)) => match play_one(what, stage) {
            Ok(()) => Outcome::Passed,
            Err(Trouble::Skip(why) | Trouble::Unasked(why)) => skipped(why),
            Err(Trouble::Fail(what)) => difference(&what),
        },
    };
    cell(target, case.id.clone(), outcome, begin)
}

/// The player's words for a difference, in the report's three parts.
fn difference(text: &str) -> Outcome {
    let parts = text.split_once("recorded ").and_then(|(step, rest)| {
        let (expected, seen) = rest.rsplit_once(", here ")?;
        Some((step.trim_end_matches(": "), expected, seen))
    });
    let (step, expected, seen) = parts.unwrap_or(("playing it", "the recorded answers", text));
    Outcome::Failed { step: step.into(), expected: expected.into(), seen: seen.into() }
}

/// A stage that cannot be had here says why.
pub type Staged<T> = anyhow::Result<Result<T, String>>;

/// Calls `act` with a stage of this kind of target.
///
/// # Errors
/// What the system refuses.
pub fn on_stage<T: Send>(
    kind: &str,
    abi: &'static Abi,
    ends: &Ends,
    act: &mut (dyn FnMut(&mut dyn Stage) -> T + Send),
) -> Staged<T> {
    match (kind, ends.both()) {
        ("emulated", _) => Ok(Ok(act(&mut InProcess(abi)))),
        #[cfg(target_os = "linux")]
        ("packet-socket", _) => device::on_wire(abi, None, act).map(Ok),
        #[cfg(target_os = "linux")]
        ("device", _) => device::with_device(abi, Front::Fuse, None, act).map(Ok),
        #[cfg(target_os = "linux")]
        ("cuse", _) => device::with_device(abi, Front::Cuse, None, act).map(Ok),
        ("native", Some((observe, inject))) => Ok(Ok(act(&mut Pair::new(dev(), abi, observe, inject)?))),
        ("native", None) => Ok(Err(NO_ENDS.into())),
        _ => Ok(Err(format!("this program has no {kind} for nodes as those of {DEV}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_three_parts() {
        let text = "step 3 (ioctl d BIOCGBLEN): value: recorded 32768, here 4096";
        let parts = ("step 3 (ioctl d BIOCGBLEN): value", "32768", "4096");
        let Outcome::Failed { step, expected, seen } = difference(text) else { panic!("{text}") };
        assert_eq!((step.as_str(), expected.as_str(), seen.as_str()), parts);
        let Outcome::Failed { expected, .. } = difference("it waits") else { panic!("it waits") };
        assert_eq!(expected, "the recorded answers");
    }
}
