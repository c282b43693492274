//! `bpfdev-compat compare`: what it reads, prints and writes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use super::baseline::Baseline;
use super::{Comparison, Part, named, of_kind};
use crate::cli::UsageError;
use crate::conformance::html;
use crate::conformance::report::{Report, Schema};

/// Name of what is written as `comparison.json`.
pub const SCHEMA: &str = "bpfdev-comparison";
/// Its version: grows whenever a reader of the version before would be misled.
pub const VERSION: u32 = 1;

/// Compare the reports of several machines
///
/// For each native:X and device:X in the reports, every case both have played must have got the same answers, or the
/// difference is declared. Differences between targets of other names are counted; with --baseline, those fail that are
/// not in FILE, and those in FILE that are there no more. What failed in a run has failed there, and is not counted
/// again. Prints a line for each failure and each declared gap.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// The report.json of each machine
    #[arg(required = true, value_name = "REPORT")]
    reports: Vec<PathBuf>,
    /// The differences between targets that are accepted
    #[arg(long, value_name = "FILE", conflicts_with = "write_baseline")]
    baseline: Option<PathBuf>,
    /// Write the differences between targets, to be accepted from now on
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
    /// Where index.html and comparison.json go, of all reports together; made if it is missing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The native targets that no report has a device for.
fn alone(parts: &[Part]) -> Vec<String> {
    let device = |system: &str| of_kind(parts, "device:").any(|(_, of)| of == system);
    let natives = of_kind(parts, "native:").filter(|(_, system)| !device(system));
    natives
        .map(|((part, name), system)| {
            format!("{name} on {}: not compared, no report has device:{system}", part.machine)
        })
        .collect()
}

/// A report whose parts do not fit together.
///
/// # Errors
/// What is wrong with it.
fn sound(report: &Report) -> Result<(), String> {
    let mut cells: HashMap<(&str, &str), usize> = HashMap::new();
    for cell in &report.cells {
        *cells.entry((&cell.target, &cell.case)).or_default() += 1;
    }
    let mut pairs = 0;
    for target in &report.targets {
        for case in &report.cases {
            let count = cells.get(&(&*target.name, &*case.id)).copied().unwrap_or(0);
            if count != 1 {
                return Err(format!("it is damaged: {count} cells for {} on {}", case.id, target.name));
            }
            pairs += 1;
        }
    }
    // a pair named twice is found above only where a cell is, too
    if pairs != report.cells.len() {
        let (found, named) = (report.cells.len(), pairs);
        return Err(format!("it is damaged: {found} cells for {named} pairs of a case and a target"));
    }
    Ok(())
}

/// Reads a report.
///
/// # Errors
/// [`UsageError`] with what is wrong with it.
fn read(path: &Path) -> Result<Report, UsageError> {
    let wrong = |what: String| UsageError(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let report = Report::from_json(&text).map_err(|error| wrong(error.to_string()))?;
    sound(&report).map_err(wrong)?;
    Ok(report)
}

/// What is written as `comparison.json`.
#[derive(Serialize)]
struct Written<'a> {
    schema: Schema,
    #[serde(flatten)]
    comparison: &'a Comparison,
    reports: &'a [Part],
}

fn write(dir: &Path, parts: &[Part], comparison: &Comparison) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let schema = Schema { name: SCHEMA.into(), version: VERSION };
    let json = serde_json::to_string_pretty(&Written { schema, comparison, reports: parts })?;
    for (name, text) in [("comparison.json", json), ("index.html", html::merged(parts, comparison))] {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Runs the subcommand.
///
/// # Errors
/// [`UsageError`] for a file that is no report, or no baseline, that this program can read; a file that cannot be
/// written.
pub fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let reports = args.reports.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let parts = named(reports);
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let comparison = Comparison::of(&parts, baseline.as_ref());
    if let Some(path) = &args.write_baseline {
        let text = Baseline::new(&comparison.between).to_json()?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(dir) = &args.out {
        write(dir, &parts, &comparison)?;
    }
    comparison.lines().iter().for_each(|line| println!("{line}"));
    alone(&parts).iter().for_each(|line| println!("{line}"));
    println!("{comparison}");
    Ok(if comparison.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
