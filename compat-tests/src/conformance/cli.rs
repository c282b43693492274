//! `bpfdev-compat run`: the suite over every target this machine has.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::broken::Break;
use super::case::{Case, matches};
use super::cases;
use super::gaps::GAPS;
use super::html;
use super::junit;
use super::report::{CaseInfo, Cell, Machine, Outcome, Report, SCHEMA, Schema, VERSION};
use super::runner::play_all;
use super::targets::machine::{self, Order};
use super::targets::{Available, Target, Where, here};
use crate::cli::UsageError;

/// Run the conformance suite and write a report
///
/// Each case is one rule of bpf(4), played on every target: descriptors in this process (emulated:DIALECT), the same over
/// packet sockets (packet-socket:DIALECT, root), this project's device through FUSE (device:DIALECT, root), and on a BSD its own
/// (native:SYSTEM, root). Through CUSE (cuse:DIALECT) where this machine's kernel has it, and otherwise, as through FUSE under
/// Linux 6.1 (fuse-6.1:DIALECT), in a virtual machine, which is downloaded (45 MB) and takes some minutes. DIR gets
/// report.json, junit.xml and index.html. A line is printed for each failed cell, and for targets that cannot be had.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Targets, by name or kind (cuse), with `*` for anything; may be repeated, or separated by commas [default: all there are here]
    #[arg(long, value_name = "TARGET", num_args = 1.., value_delimiter = ',')]
    on: Vec<String>,
    /// Fail where more targets cannot be had [default: any number may be]
    #[arg(long, value_name = "N")]
    max_skipped: Option<usize>,
    /// Targets that play at the same time. Most of the time they wait for the kernel
    #[arg(long, value_name = "N", default_value_t = 14, hide = true)]
    at_once: usize,
    /// Where the report goes; made if it is missing
    #[arg(long, value_name = "DIR", default_value = "./bpfdev-report")]
    out: PathBuf,
    /// Play only the cases whose id this is, with `*` for anything
    #[arg(long, value_name = "GLOB", default_value = "*")]
    case: String,
    #[command(flatten)]
    user: crate::user::UserArgs,
    /// List targets and cases, and play none
    #[arg(long)]
    list: bool,
    /// Spoil the emulated targets in this way, to see that the suite notices
    #[arg(long = "break", value_name = "HOW", value_enum, hide = true)]
    broken: Option<Break>,
}

/// Runs the subcommand.
///
/// # Errors
/// [`UsageError`] for targets and cases there are not; a target that cannot be made ready; a report that cannot be
/// written.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let date = SystemTime::now();
    let available = here(args.broken);
    let names: Vec<_> = available.iter().map(|target| target.name.clone()).collect();
    for pattern in &args.on {
        if !available.iter().any(|target| target.is(pattern)) {
            let names = names.join(", ");
            return Err(UsageError(format!("no target {pattern:?} here; there are {names}")).into());
        }
    }
    let cases: Vec<_> = cases::all().into_iter().filter(|case| matches(&args.case, &case.id)).collect();
    let mut user = args.user.load()?;
    user.retain(|id| matches(&args.case, id));
    if cases.is_empty() && user.is_empty() {
        return Err(UsageError(format!("no case {:?}; --list shows them", args.case)).into());
    }
    if args.list {
        names.iter().for_each(|name| println!("{name}"));
        cases.iter().for_each(|case| println!("{}: {} ({})", case.id, case.title, case.rule));
        user.infos().iter().for_each(|case| println!("{}: {} ({})", case.id, case.title, case.rule));
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = |target: &&Available| args.on.is_empty() || args.on.iter().any(|pattern| target.is(pattern));
    std::fs::create_dir_all(&args.out).with_context(|| format!("making {}", args.out.display()))?;
    let cases: Vec<_> = cases.into_iter().map(Arc::new).collect();
    let (mut targets, mut away) = (Vec::new(), Vec::new());
    for target in available.iter().filter(wanted) {
        match &target.at {
            Where::Here(make) => targets.push(make().with_context(|| format!("preparing {}", target.name))?),
            Where::Away(target) => away.push(*target),
        }
    }
    let mut infos: Vec<_> = targets.iter().map(|target| target.info()).collect();
    let mut cells = play_everywhere(&targets, &cases, args.at_once);
    cells.extend(user.play(&infos));
    drop(targets);
    let rows: Vec<_> = cases.iter().map(|case| info(case)).chain(user.infos()).collect();
    let played = machine::play(&away, Order { rows: &rows, case: &args.case, files: args.user.files() })?;
    infos.extend(played.targets);
    cells.extend(played.cells);
    infos.sort_by_key(|info| names.iter().position(|name| *name == info.name));
    cells.sort_by_key(|cell| infos.iter().position(|target| target.name == cell.target));
    let report = Report {
        schema: Schema { name: SCHEMA.into(), version: VERSION },
        machine: machine(date),
        targets: infos,
        cases: rows,
        cells,
    };
    write(&args.out, &report)?;
    for cell in &report.cells {
        if let Outcome::Failed { step, expected, seen } = &cell.outcome {
            println!("FAIL {} {}: {step}: expected {expected}, seen {seen}", cell.target, cell.case);
        }
    }
    for (name, reason) in &played.missing {
        println!("skipped {name}: {reason}");
    }
    let totals = report.totals();
    println!("{totals}");
    let enough = args.max_skipped.is_none_or(|most| played.missing.len() <= most);
    Ok(if totals.failed == 0 && enough { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plays the cases on each target, so many targets at once, which share nothing; cells in the targets' order.
fn play_everywhere(targets: &[Box<dyn Target>], cases: &[Arc<Case>], at_once: usize) -> Vec<Cell> {
    let next = Mutex::new(0..targets.len());
    let played: Vec<Mutex<Vec<Cell>>> = targets.iter().map(|_| Mutex::default()).collect();
    thread::scope(|threads| {
        for _ in 0..at_once.clamp(1, targets.len().max(1)) {
            threads.spawn(|| {
                loop {
                    let number = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(number) = number else { return };
                    let cells = play_all(&*targets[number], cases, GAPS);
                    *played[number].lock().unwrap_or_else(PoisonError::into_inner) = cells;
                }
            });
        }
    });
    let take = |cells: Mutex<Vec<Cell>>| cells.into_inner().unwrap_or_else(PoisonError::into_inner);
    played.into_iter().flat_map(take).collect()
}

fn info(case: &Case) -> CaseInfo {
    CaseInfo { id: case.id.clone(), title: case.title.clone(), rule: case.rule.clone() }
}

fn write(dir: &Path, report: &Report) -> anyhow::Result<()> {
    let page = ("index.html", html::page(report));
    for (name, text) in [("report.json", report.to_json()?), ("junit.xml", junit::xml(report)), page] {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn machine(date: SystemTime) -> Machine {
    let unknown = || "unknown".to_owned();
    let (os, kernel, arch) = match nix::sys::utsname::uname() {
        Ok(name) => {
            let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
            (text(name.sysname()), text(name.release()), text(name.machine()))
        }
        Err(_) => (std::env::consts::OS.to_owned(), unknown(), std::env::consts::ARCH.to_owned()),
    };
    let seconds = date.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Machine { os, kernel, arch, date: utc(seconds), bpfdev: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Seconds since 1970 as ISO 8601.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // the civil calendar in years that begin in March, counted from 0000-03-01
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }
}
