//! The accepted differences between targets: a file that `compare --write-baseline` writes and `--baseline` reads.
//!
//! For each case that the targets do not all answer alike it has every target's answers. It knows targets, not machines:
//! it holds for the next kernel too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Part, Step, answer};
use crate::cli::UsageError;
use crate::conformance::report::Schema;

/// [`Schema::name`] of a baseline.
pub const SCHEMA: &str = "bpfdev-baseline";
/// [`Schema::version`] of a baseline.
pub const VERSION: u32 = 1;

/// What was seen at a step of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// What was done, with the names of one machine's interfaces: for the reader.
    pub step: String,
    /// What came.
    pub seen: String,
}

/// An answer, and who gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Names of targets, each once.
    pub targets: BTreeSet<String>,
    /// Step by step.
    pub steps: Vec<Seen>,
}

impl Answer {
    /// Whether it is the same answer, whoever gives it.
    fn same(&self, other: &Answer) -> bool {
        self.steps.iter().map(|step| &step.seen).eq(other.steps.iter().map(|step| &step.seen))
    }

    /// The first step in which it is not as another.
    fn first_unlike(&self, other: &Answer) -> String {
        let seen = |answer: &Answer, at: usize| answer.steps.get(at).map(|step| step.seen.clone());
        let at = (0..self.steps.len()).find(|at| seen(self, *at) != seen(other, *at));
        match at.and_then(|at| self.steps.get(at)) {
            Some(Seen { step, seen }) => format!("{step}: {seen}"),
            None => "nothing more".to_owned(),
        }
    }
}

/// A case with several answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differing {
    /// The case's id.
    pub case: String,
    /// The answers, at least two, in the order in which the targets are.
    pub answers: Vec<Answer>,
}

/// The differences between targets that are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Name and version of this format.
    pub schema: Schema,
    /// By case.
    pub differences: Vec<Differing>,
}

/// The answers of every case, whether they differ or not, by case in the parts' order.
fn answers(parts: &[Part]) -> Vec<Differing> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all: Vec<Differing> = Vec::new();
    for cell in parts.iter().flat_map(|part| &part.report.cells) {
        let Some(steps) = answer(cell) else { continue };
        let seen = |step: Step<'_>| Seen { step: step.step.into(), seen: step.seen.into() };
        let steps = steps.into_iter().map(seen).collect();
        let new = Answer { targets: [cell.target.clone()].into(), steps };
        let place = *places.entry(&cell.case).or_insert_with(|| {
            all.push(Differing { case: cell.case.clone(), answers: Vec::new() });
            all.len() - 1
        });
        let answers = &mut all[place].answers;
        match answers.iter_mut().find(|answer| answer.same(&new)) {
            Some(answer) => {
                answer.targets.insert(cell.target.clone());
            }
            None => answers.push(new),
        }
    }
    all
}

/// The cases that targets, of one machine or of several, answer differently.
pub fn between(parts: &[Part]) -> Vec<Differing> {
    let mut all = answers(parts);
    all.retain(|case| case.answers.len() > 1);
    all
}

impl Baseline {
    /// Accepts these.
    pub fn new(differences: &[Differing]) -> Baseline {
        let schema = Schema { name: SCHEMA.into(), version: VERSION };
        Baseline { schema, differences: differences.to_vec() }
    }

    /// The text of the file.
    ///
    /// # Errors
    /// Those of serde_json; none is known.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`UsageError`]: it is not there, no baseline, or one of another version.
    pub fn read(path: &Path) -> Result<Baseline, UsageError> {
        #[derive(Deserialize)]
        struct Head {
            schema: Schema,
        }
        let wrong = |what: String| UsageError(format!("{}: {what}", path.display()));
        let damaged = |error: serde_json::Error| wrong(format!("this is no baseline: {error}"));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let Head { schema: Schema { name, version } } = serde_json::from_str(&text).map_err(damaged)?;
        if name != SCHEMA || version != VERSION {
            return Err(wrong(format!(
                "this is {name} version {version}; as a baseline this program reads {SCHEMA} version {VERSION}"
            )));
        }
        serde_json::from_str(&text).map_err(damaged)
    }

    /// What differs otherwise than accepted: a line each. `differing` is what [`between`] gives for the same parts.
    pub fn unexpected(&self, parts: &[Part], differing: &[Differing]) -> Vec<String> {
        let accepted: BTreeMap<&str, &Differing> =
            self.differences.iter().map(|case| (&*case.case, case)).collect();
        let mut lines = Vec::new();
        for case in differing {
            match accepted.get(&*case.case) {
                Some(accepted) => lines.extend(not_accepted(case, accepted)),
                None => lines.push(new_difference(case)),
            }
        }
        // and what is accepted, but is no more
        for case in answers(parts).iter().filter(|case| case.answers.len() == 1) {
            let Some(accepted) = accepted.get(&*case.case) else { continue };
            let knows =
                |target: &&String| accepted.answers.iter().any(|known| known.targets.contains(*target));
            let known: BTreeSet<_> = case.answers[0].targets.iter().filter(knows).cloned().collect();
            if !accepted.answers.iter().any(|answer| answer.targets.is_superset(&known)) {
                lines.push(format!(
                    "{}: the baseline has a difference, and there is none any more",
                    case.case
                ));
            }
        }
        lines
    }
}

/// A line for each target that does not answer as accepted.
fn not_accepted(case: &Differing, accepted: &Differing) -> Vec<String> {
    let mut lines = Vec::new();
    for answer in &case.answers {
        for target in &answer.targets {
            let mut known = accepted.answers.iter().filter(|known| known.targets.contains(target)).peekable();
            let Some(first) = known.peek() else {
                lines.push(format!("{}: {target} differs from others and is not in the baseline", case.case));
                continue;
            };
            let (was, is) = (first.first_unlike(answer), answer.first_unlike(first));
            if !known.any(|known| known.same(answer)) {
                lines.push(format!("{}: {target}: {is}; in the baseline: {was}", case.case));
            }
        }
    }
    lines
}

/// The line for a case that the baseline has not.
fn new_difference(case: &Differing) -> String {
    let says = |(at, answer): (usize, &Answer)| {
        let other = &case.answers[if at == 0 { 1 } else { 0 }];
        let targets = answer.targets.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("{targets}: {}", answer.first_unlike(other))
    };
    let said: Vec<_> = case.answers.iter().enumerate().map(says).collect();
    format!("{}: a difference that is not in the baseline: {}", case.case, said.join(" | "))
}
