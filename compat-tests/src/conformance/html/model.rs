//! What the page shows: columns, rows, and which cells of a row are alike.

use std::collections::HashMap;

use crate::conformance::compare::{Comparison, Part, Step, steps};
use crate::conformance::report::{CaseInfo, Cell, Outcome, TargetInfo};

/// The kinds of outcome, in the order they are counted: class, word, and plural for the totals.
pub(super) const KINDS: [(&str, &str, &str); 4] = [
    ("p", "passed", "passed"),
    ("f", "failed", "failed"),
    ("s", "skipped", "skipped"),
    ("g", "gap", "declared gaps"),
];

/// Place of an outcome in [`KINDS`].
pub(super) fn kind(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Passed => 0,
        Outcome::Failed { .. } => 1,
        Outcome::Skipped { .. } => 2,
        Outcome::Gap { .. } => 3,
    }
}

/// A column of the matrix.
pub(super) struct Column<'a> {
    pub(super) part: usize,
    pub(super) target: &'a TargetInfo,
    /// What the name says in front of the colon, and after it.
    pub(super) kind: &'a str,
    pub(super) system: &'a str,
    pub(super) cells: HashMap<&'a str, &'a Cell>,
}

/// Cells of a case that came to the same in the same way. Their steps may name the interfaces of other places.
pub(super) struct Group<'a> {
    pub(super) cells: Vec<&'a Cell>,
    /// Places of the columns.
    pub(super) columns: Vec<usize>,
}

impl Group<'_> {
    /// One of them.
    pub(super) fn cell(&self) -> &Cell {
        self.cells[0]
    }

    /// What was done in a step, in the words of each place.
    pub(super) fn step(&self, at: usize) -> String {
        let mut words: Vec<&str> = Vec::new();
        for cell in &self.cells {
            let word = steps(cell).get(at).map_or("", |step| step.step);
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words.join(" / ")
    }
}

/// Whether two cells belong into one group.
pub(super) fn alike(one: &Cell, other: &Cell) -> bool {
    let reason = |cell: &Cell| match &cell.outcome {
        Outcome::Skipped { reason } | Outcome::Gap { reason, .. } => Some(reason.clone()),
        Outcome::Passed | Outcome::Failed { .. } => None,
    };
    let values = |step: Step<'_>| (step.expected.to_owned(), step.seen.to_owned());
    kind(&one.outcome) == kind(&other.outcome)
        && reason(one) == reason(other)
        && steps(one).into_iter().map(values).eq(steps(other).into_iter().map(values))
}

/// A row of the matrix.
pub(super) struct Row<'a> {
    pub(super) case: &'a CaseInfo,
    pub(super) groups: Vec<Group<'a>>,
}

impl Row<'_> {
    /// Whether every target has passed, with the same answers.
    pub(super) fn same(&self) -> bool {
        self.groups.len() <= 1 && self.groups.iter().all(|group| group.cell().outcome == Outcome::Passed)
    }
}

/// All that is shown.
pub(super) struct Page<'a> {
    pub(super) parts: &'a [Part],
    pub(super) comparison: Option<&'a Comparison>,
    pub(super) columns: Vec<Column<'a>>,
    pub(super) rows: Vec<Row<'a>>,
}

impl<'a> Page<'a> {
    pub(super) fn new(parts: &'a [Part], comparison: Option<&'a Comparison>) -> Page<'a> {
        let mut columns: Vec<Column<'_>> = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            for target in &part.report.targets {
                let (kind, system) = target.name.split_once(':').unwrap_or((&target.name, &target.name));
                let cells = part.report.cells.iter().filter(|cell| cell.target == target.name);
                let cells = cells.map(|cell| (&*cell.case, cell)).collect();
                columns.push(Column { part: number, target, kind, system, cells });
            }
        }
        let row = |case: &'a CaseInfo| {
            let mut groups: Vec<Group<'a>> = Vec::new();
            for (at, column) in columns.iter().enumerate() {
                let Some(&cell) = column.cells.get(&*case.id) else { continue };
                match groups.iter_mut().find(|group| alike(group.cell(), cell)) {
                    Some(group) => {
                        group.cells.push(cell);
                        group.columns.push(at);
                    }
                    None => groups.push(Group { cells: vec![cell], columns: vec![at] }),
                }
            }
            // the answer of most comes first
            groups.sort_by_key(|group| std::cmp::Reverse(group.columns.len()));
            Row { case, groups }
        };
        let rows = cases(parts).into_iter().map(row).collect();
        Page { parts, comparison, columns, rows }
    }

    /// Whether something else begins with this column: a machine, or a kind of target.
    pub(super) fn begins(&self, at: usize) -> bool {
        let key = |column: &Column<'a>| (column.part, column.kind);
        at == 0 || key(&self.columns[at]) != key(&self.columns[at - 1])
    }
}

/// The cases of all parts: each once, after what it follows in its own report.
fn cases(parts: &[Part]) -> Vec<&CaseInfo> {
    let mut all: Vec<&CaseInfo> = Vec::new();
    for part in parts {
        let mut next = 0;
        for case in &part.report.cases {
            match all.iter().position(|known| known.id == case.id) {
                Some(at) => next = at + 1,
                None => {
                    all.insert(next, case);
                    next += 1;
                }
            }
        }
    }
    all
}
