//! `bpfdev-compat compare`: the reports of several machines, side by side.
//!
//! What a system's own device answers (`native:X`) must be what this project's device answers under its rules (`device:X`).
//! That two systems differ is in their nature: it is said, and a failure only where a [`baseline`] says
//! which differences there are.

pub mod baseline;
pub mod cli;

use std::collections::HashMap;

use serde::Serialize;

use super::report::{Cell, Outcome, Report};
use baseline::{Baseline, Differing, between};

/// The report of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What the machine is called here: as much of its facts as tells it from the others.
    pub machine: String,
    /// Its report.
    pub report: Report,
}

/// A target of one of the machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// [`Part::machine`].
    pub machine: String,
    /// `KIND:SYSTEM`.
    pub target: String,
}

/// A difference of a case between a system's own device and ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The case's id.
    pub case: String,
    /// The system's own device.
    pub native: Side,
    /// Ours, under its rules.
    pub device: Side,
    /// The first step whose answers differ.
    pub step: String,
    /// The native answer.
    pub native_seen: String,
    /// Our answer.
    pub device_seen: String,
    /// Why it is so, where that is declared; else it has failed.
    pub declared: Option<String>,
}

/// How the cases came out between a system's own device and ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The system's own device.
    pub native: Side,
    /// Ours, under its rules.
    pub device: Side,
    /// Cases with the same answers.
    pub equal: usize,
    /// Cases that differ.
    pub failed: usize,
    /// Cases that one of the two has not played.
    pub skipped: usize,
    /// Cases that differ as declared.
    pub gaps: usize,
}

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Native against device, by pair.
    pub pairs: Vec<Pair>,
    /// Failed and declared differences of those.
    pub differences: Vec<Difference>,
    /// What the baseline did not lead to expect; nothing without a baseline.
    pub unexpected: Vec<String>,
    /// Cases with several answers, whatever the targets.
    pub between: Vec<Differing>,
}

impl Comparison {
    /// Compares the parts; `baseline` says which differences between targets there are.
    pub fn of(parts: &[Part], baseline: Option<&Baseline>) -> Comparison {
        let mut comparison = Comparison { between: between(parts), ..Comparison::default() };
        for (native, device) in couples(parts) {
            comparison.add(native, device);
        }
        if let Some(baseline) = baseline {
            comparison.unexpected = baseline.unexpected(parts, &comparison.between);
        }
        comparison
    }

    fn add(&mut self, (native_part, native): (&Part, &str), (device_part, device): (&Part, &str)) {
        let side = |part: &Part, target: &str| Side { machine: part.machine.clone(), target: target.into() };
        let (native_side, device_side) = (side(native_part, native), side(device_part, device));
        let mut pair =
            Pair { native: native_side, device: device_side, equal: 0, failed: 0, skipped: 0, gaps: 0 };
        let (ours, theirs) = (cells(device_part, device), cells(native_part, native));
        let only_ours = ours.keys().filter(|case| !theirs.contains_key(*case)).count();
        pair.skipped += only_ours;
        for case in &native_part.report.cases {
            let (Some(native), Some(device)) = (theirs.get(&*case.id), ours.get(&*case.id)) else {
                pair.skipped += 1;
                continue;
            };
            let (Some(theirs), Some(ours)) = (answer(native), answer(device)) else {
                pair.skipped += 1;
                continue;
            };
            let Some((step, native_seen, device_seen)) = first_difference(&theirs, &ours) else {
                pair.equal += 1;
                continue;
            };
            let declared = declared(native, device);
            *(if declared.is_some() { &mut pair.gaps } else { &mut pair.failed }) += 1;
            self.differences.push(Difference {
                case: case.id.clone(),
                native: pair.native.clone(),
                device: pair.device.clone(),
                step,
                native_seen,
                device_seen,
                declared,
            });
        }
        self.pairs.push(pair);
    }

    /// How much failed.
    pub fn failed(&self) -> usize {
        self.pairs.iter().map(|pair| pair.failed).sum::<usize>() + self.unexpected.len()
    }

    /// A line for each difference that matters.
    pub fn lines(&self) -> Vec<String> {
        let of = |difference: &Difference| {
            let Difference { case, native, device, step, native_seen, device_seen, declared } = difference;
            let word = if declared.is_some() { "gap" } else { "FAIL" };
            let why = declared.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!(
                "{word} {case}: {step}: {} on {} saw {native_seen}, {} on {} saw {device_seen}{why}",
                native.target, native.machine, device.target, device.machine
            )
        };
        let mut lines: Vec<_> = self.differences.iter().map(of).collect();
        lines.extend(self.unexpected.iter().map(|what| format!("FAIL {what}")));
        lines
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = |of: fn(&Pair) -> usize| self.pairs.iter().map(of).sum::<usize>();
        write!(
            f,
            "{} equal, {} failed, {} skipped, {} declared gaps; {} cases differ between targets",
            sum(|pair| pair.equal),
            self.failed(),
            sum(|pair| pair.skipped),
            sum(|pair| pair.gaps),
            self.between.len(),
        )
    }
}

fn skipped(cell: &Cell) -> bool {
    matches!(cell.outcome, Outcome::Skipped { .. })
}

/// The cells of a target, by case.
fn cells<'a>(part: &'a Part, target: &str) -> HashMap<&'a str, &'a Cell> {
    let of_it = part.report.cells.iter().filter(|cell| cell.target == target);
    of_it.map(|cell| (&*cell.case, cell)).collect()
}

/// A target, and whose it is.
type Of<'a> = (&'a Part, &'a str);

/// Every target whose name begins so, with the system it is for.
fn of_kind<'a>(parts: &'a [Part], kind: &'a str) -> impl Iterator<Item = (Of<'a>, &'a str)> {
    parts.iter().flat_map(move |part| {
        let names = part.report.targets.iter().map(|target| &*target.name);
        names.filter_map(move |name| Some(((part, name), name.strip_prefix(kind)?)))
    })
}

/// Every `native:X` with every `device:X`.
fn couples(parts: &[Part]) -> Vec<(Of<'_>, Of<'_>)> {
    let mut couples = Vec::new();
    for (native, system) in of_kind(parts, "native:") {
        let devices = of_kind(parts, "device:").filter(|(_, of)| *of == system);
        couples.extend(devices.map(|(device, _)| (native, device)));
    }
    couples
}

/// One step of a case as it was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step<'a> {
    /// What was done.
    pub step: &'a str,
    /// What the system's rules say.
    pub expected: &'a str,
    /// What came.
    pub seen: &'a str,
}

/// The step of a cell that failed only because its declared gap is there no more: the device did not say it.
const MENDED: &str = "comparing with the declared gaps";

/// Every step of a cell: its checks, and what it failed of if that is none of them.
pub fn steps(cell: &Cell) -> Vec<Step<'_>> {
    let checks = cell.checks.iter();
    let mut steps: Vec<_> = checks
        .map(|check| Step { step: &check.step, expected: &check.expected, seen: &check.seen })
        .collect();
    let end = match &cell.outcome {
        Outcome::Failed { step, expected, seen } => Some(Step { step, expected, seen }),
        Outcome::Gap { expected, seen, .. } => Some(Step { step: "the case", expected, seen }),
        Outcome::Passed | Outcome::Skipped { .. } => None,
    };
    let same = |last: &Step<'_>, end: &Step<'_>| (last.expected, last.seen) == (end.expected, end.seen);
    if let Some(end) = end
        && !steps.last().is_some_and(|last| same(last, &end))
    {
        steps.push(end);
    }
    steps
}

/// What the device said in a cell, step by step; nothing for a skipped one.
///
/// What tells two answers apart is what was seen: the steps of a case are the same everywhere, but name the interfaces
/// of the place.
pub fn answer(cell: &Cell) -> Option<Vec<Step<'_>>> {
    (!skipped(cell)).then(|| steps(cell).into_iter().filter(|step| step.step != MENDED).collect())
}

/// The first step whose answers differ, and both answers.
fn first_difference(one: &[Step<'_>], other: &[Step<'_>]) -> Option<(String, String, String)> {
    let seen = |steps: &[Step<'_>], at: usize| steps.get(at).map(|step| step.seen.to_owned());
    let at = (0..one.len().max(other.len())).find(|at| seen(one, *at) != seen(other, *at))?;
    let step = one.get(at).or(other.get(at)).map_or("", |step| step.step);
    let said = |steps| seen(steps, at).unwrap_or_else(|| "nothing more".to_owned());
    Some((step.to_owned(), said(one), said(other)))
}

/// Why two cells differ: one is a declared gap, and the other is as the rules say.
fn declared(native: &Cell, device: &Cell) -> Option<String> {
    match (&native.outcome, &device.outcome) {
        (Outcome::Passed | Outcome::Gap { .. }, Outcome::Gap { reason, .. })
        | (Outcome::Gap { reason, .. }, Outcome::Passed) => Some(reason.clone()),
        _ => None,
    }
}

/// Names each machine by as few of its facts as tell them apart, and by a number if none does.
pub fn named(reports: Vec<Report>) -> Vec<Part> {
    let facts = |report: &Report| {
        let machine = &report.machine;
        [&machine.os, &machine.kernel, &machine.arch, &machine.date].map(String::clone)
    };
    let facts: Vec<_> = reports.iter().map(facts).collect();
    let names = |count: usize| facts.iter().map(|facts| facts[..count].join(" ")).collect::<Vec<_>>();
    let distinct = |names: &[String]| {
        let mut sorted = names.to_vec();
        sorted.sort();
        sorted.dedup();
        sorted.len() == names.len()
    };
    let mut names = (2..4).map(names).find(|names| distinct(names)).unwrap_or_else(|| names(4));
    for at in 0..names.len() {
        let before = facts[..at].iter().filter(|other| **other == facts[at]).count();
        if before != 0 {
            names[at] = format!("{} #{}", names[at], before + 1);
        }
    }
    let part = |(machine, report)| Part { machine, report };
    names.into_iter().zip(reports).map(part).collect()
}
