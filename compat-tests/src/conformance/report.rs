//! The report of a run: what is written as `report.json`.
//!
//! The schema is named and versioned; a reader refuses another version. Cells are in the order of targets, then of cases; each
//! pair is there once.

use serde::{Deserialize, Serialize};

use super::system::System;

/// [`Schema::name`].
pub const SCHEMA: &str = "bpfdev-report";
/// [`Schema::version`]: grows whenever a reader of the version before would be misled.
pub const VERSION: u32 = 1;

/// What a report is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// [`SCHEMA`].
    pub name: String,
    /// [`VERSION`].
    pub version: u32,
}

/// Where and when the cases were run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the operating system, as in uname(1).
    pub os: String,
    /// Its kernel's release.
    pub kernel: String,
    /// The machine's architecture.
    pub arch: String,
    /// When the run began, in UTC: `2026-01-31T12:00:00Z`.
    pub date: String,
    /// Version of bpfdev.
    pub bpfdev: String,
}

/// One implementation of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetInfo {
    /// `KIND:SYSTEM`.
    pub name: String,
    /// What it is, in a few words.
    pub about: String,
    /// The system whose rules it follows.
    pub system: System,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseInfo {
    /// `area::what`.
    pub id: String,
    /// What is so, in a few words.
    pub title: String,
    /// Where it is written.
    pub rule: String,
}

/// One comparison of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was done.
    pub step: String,
    /// What the system's rules say.
    pub expected: String,
    /// What came.
    pub seen: String,
}

/// What a case came to on a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// As expected.
    Passed,
    /// A difference: that of the last check, or what kept it from being played.
    Failed {
        /// What was done.
        step: String,
        /// What the system's rules say.
        expected: String,
        /// What came.
        seen: String,
    },
    /// The target cannot express it.
    Skipped {
        /// Why.
        reason: String,
    },
    /// A difference that is declared.
    Gap {
        /// Why it is so.
        reason: String,
        /// What the system's rules say.
        expected: String,
        /// What came.
        seen: String,
    },
}

/// One case on one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The target's name.
    pub target: String,
    /// The case's id.
    pub case: String,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Every comparison up to the end.
    pub checks: Vec<Check>,
    /// How long it took, milliseconds of real time.
    pub duration_ms: u64,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Name and version of this format.
    pub schema: Schema,
    /// Where and when.
    pub machine: Machine,
    /// The targets, in the order of the matrix's columns.
    pub targets: Vec<TargetInfo>,
    /// The cases, in the order of its rows.
    pub cases: Vec<CaseInfo>,
    /// Its cells.
    pub cells: Vec<Cell>,
}

/// How many cells came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// [`Outcome::Passed`].
    pub passed: usize,
    /// [`Outcome::Failed`].
    pub failed: usize,
    /// [`Outcome::Skipped`].
    pub skipped: usize,
    /// [`Outcome::Gap`].
    pub gaps: usize,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals { passed, failed, skipped, gaps } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped, {gaps} declared gaps")
    }
}

/// A file that is no report this program can read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no JSON, or lacks fields.
    #[error("this is no report: {0}")]
    Json(#[from] serde_json::Error),
    /// It is another schema, or another version.
    #[error("this is {name} version {version}; this program reads {SCHEMA} version {VERSION}")]
    Version {
        /// The file's schema.
        name: String,
        /// The file's version.
        version: u32,
    },
}

impl Report {
    /// The cells' outcomes, counted.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for cell in &self.cells {
            let count = match cell.outcome {
                Outcome::Passed => &mut totals.passed,
                Outcome::Failed { .. } => &mut totals.failed,
                Outcome::Skipped { .. } => &mut totals.skipped,
                Outcome::Gap { .. } => &mut totals.gaps,
            };
            *count += 1;
        }
        totals
    }

    /// One case on one target.
    pub fn cell(&self, case: &str, target: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.case == case && cell.target == target)
    }

    /// The text of `report.json`.
    ///
    /// # Errors
    /// Those of serde_json; none is known.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// Reads the text of a `report.json`.
    ///
    /// # Errors
    /// [`ReadError`]: the schema is looked at before anything else.
    pub fn from_json(text: &str) -> Result<Report, ReadError> {
        #[derive(Deserialize)]
        struct Head {
            schema: Schema,
        }
        let Head { schema: Schema { name, version } } = serde_json::from_str(text)?;
        if name != SCHEMA || version != VERSION {
            return Err(ReadError::Version { name, version });
        }
        Ok(serde_json::from_str(text)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn report() -> Report {
        let gap = Outcome::Gap { reason: "so it is".into(), expected: "1".into(), seen: "2".into() };
        let check = Check { step: "read".into(), expected: "1".into(), seen: "2".into() };
        Report {
            schema: Schema { name: SCHEMA.into(), version: VERSION },
            machine: Machine {
                os: "Linux".into(),
                kernel: "6.18".into(),
                arch: "x86_64".into(),
                date: "2026-01-31T12:00:00Z".into(),
                bpfdev: "0.1.0".into(),
            },
            targets: vec![TargetInfo {
                name: "emulated:linux".into(),
                about: "in this process".into(),
                system: System::Linux,
            }],
            cases: vec![CaseInfo { id: "a::b".into(), title: "t".into(), rule: "r".into() }],
            cells: vec![Cell {
                target: "emulated:linux".into(),
                case: "a::b".into(),
                outcome: gap,
                checks: vec![check],
                duration_ms: 3,
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = report().to_json().unwrap();
        assert!(text.contains("\"outcome\": \"gap\"") && text.contains("\"system\": \"linux\""), "{text}");
        assert_eq!(Report::from_json(&text).unwrap(), report());
        assert_eq!(report().totals().to_string(), "0 passed, 0 failed, 0 skipped, 1 declared gaps");
    }

    #[test]
    fn another_version_is_refused_with_both_named() {
        let text = r#"{"schema": {"name": "bpfdev-report", "version": 2}, "what": "ever"}"#;
        let said = Report::from_json(text).unwrap_err().to_string();
        assert!(said.contains("version 2") && said.contains("version 1"), "{said}");
        assert!(matches!(Report::from_json("{}"), Err(ReadError::Json(_))));
    }
}
