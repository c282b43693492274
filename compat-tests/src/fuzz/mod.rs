//! `bpfdev-compat fuzz`: random input for what reads bytes from outside, and random filters.
//!
//! Everything follows from a seed and the corpus. What is found is printed with the seed and, but for filters, with the input
//! in hex, which `--input` takes again, and written to a file, which `--file` does. A target that is fuzzed with bytes is a
//! [`Target`]: it makes inputs from a random number generator, and a check that says what must hold for any bytes.

mod capture;
mod corpus;
mod cuse;
mod filter;
mod fuse;
mod harness;
mod ioctl;
mod records;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
pub(crate) use bpfdev_core::random;
pub use filter::FuzzPlan;
use harness::{Failure, Found, Subject};

use crate::cli::UsageError;

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// Filter plans: random programs and packets, interpreter against kernel
    Filter,
    /// Request numbers and arguments of every dialect, and the caller's memory they name
    Ioctl,
    /// The walk through a buffer of records, in every layout
    Records,
    /// Messages of /dev/fuse
    Fuse,
    /// Messages of /dev/cuse, to a device that is served
    Cuse,
    /// Capture files, ours against libpcap
    Capture,
}

impl Target {
    /// Every target, and the parts of the time each is given.
    const ALL: [(Target, u32); 6] = [
        (Target::Filter, 7),
        (Target::Ioctl, 1),
        (Target::Records, 1),
        (Target::Fuse, 1),
        (Target::Cuse, 1),
        (Target::Capture, 1),
    ];

    fn name(self) -> &'static str {
        match self {
            Target::Filter => "filter",
            Target::Ioctl => "ioctl",
            Target::Records => "records",
            Target::Fuse => "fuse",
            Target::Cuse => "cuse",
            Target::Capture => "capture",
        }
    }

    /// What it does with bytes; `None` for filters, which are not made from bytes.
    fn subject(self) -> Option<Subject> {
        match self {
            Target::Filter => None,
            Target::Ioctl => Some(ioctl::subject(ioctl::Ours)),
            Target::Records => Some(records::subject(records::ours)),
            Target::Fuse => Some(fuse::subject(fuse::Ours)),
            Target::Cuse => Some(cuse::subject(cuse::Ours)),
            Target::Capture => Some(capture::subject(capture::ours)),
        }
    }
}

/// Random input for parsers and filters: what is found is printed with what shows it again
#[derive(Debug, clap::Args)]
pub struct FuzzArgs {
    /// What to fuzz [default: all, filters for two thirds of the time]
    #[arg(value_enum)]
    target: Option<Target>,
    /// Seconds to run for, shared by the targets
    #[arg(long, value_name = "N", default_value_t = 60, conflicts_with = "runs")]
    seconds: u64,
    /// Executions of each target to make instead; of filters, one is one program on one packet
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// First seed, instead of those of the source and then the next numbers
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The one input to try, in hex; not for filters
    #[arg(long, value_name = "HEX", requires = "target", conflicts_with_all = ["runs", "seconds", "seed"])]
    input: Option<String>,
    /// A file with the one input to try; not for filters
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with_all = ["runs", "seconds", "seed", "input"])]
    file: Option<PathBuf>,
    /// Inputs to begin with and to spoil: a directory for each target [default: the source's compat-tests/corpus]
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// What to compare with the interpreter, of filters
    #[arg(long, value_enum, default_value_t = FuzzPlan::All)]
    plan: FuzzPlan,
}

/// How long a target is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    until: Option<Instant>,
    runs: Option<u64>,
}

impl Budget {
    /// So many runs, or else this long from now.
    fn new(runs: Option<u64>, time: Duration) -> Budget {
        Budget { until: runs.is_none().then(|| Instant::now() + time), runs }
    }

    /// After so many runs it is enough.
    fn is_used_up(&self, runs: u64) -> bool {
        self.runs.is_some_and(|enough| runs >= enough)
            || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Runs the subcommand.
///
/// # Errors
/// What was found; or what is missing for the kernel to run filters.
pub fn run(args: &FuzzArgs) -> anyhow::Result<ExitCode> {
    if let Some(hex) = &args.input {
        let input = harness::from_hex(hex);
        return try_again(
            args.target,
            input.ok_or_else(|| UsageError(format!("--input: {hex} is not hex")))?,
        );
    }
    if let Some(file) = &args.file {
        return try_again(
            args.target,
            std::fs::read(file).with_context(|| format!("--file: {}", file.display()))?,
        );
    }
    let directory = args.corpus.clone().unwrap_or_else(corpus::committed);
    let start = Instant::now();
    let chosen: Vec<_> = Target::ALL
        .into_iter()
        .filter(|(target, _)| args.target.is_none_or(|only| only == *target))
        .collect();
    let parts: u32 = chosen.iter().map(|(_, part)| part).sum();
    let mut done = Vec::new();
    for (target, part) in chosen {
        let budget = Budget::new(args.runs, Duration::from_secs(args.seconds) * part / parts);
        let kept = corpus::read(&directory, target.name())?;
        let runs = match target.subject() {
            None => filter::run(&budget, &corpus::seeds(&kept)?, args.seed, args.plan)?,
            Some(subject) => {
                let first = args.seed.unwrap_or(1);
                harness::run(&subject, &kept, &budget, first)
                    .map_err(|failure| anyhow::anyhow!("{failure}{}", failure.keep()))?
            }
        };
        println!("{}: {runs} executions", target.name());
        done.push((target.name(), runs));
    }
    let each: Vec<String> = done.iter().map(|(name, runs)| format!("{name} {runs}")).collect();
    let all: u64 = done.iter().map(|(_, runs)| runs).sum();
    let seconds = start.elapsed().as_secs_f64();
    println!("{}: {all} executions, nothing found, in {seconds:.0} s", each.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// Tries one input.
fn try_again(target: Option<Target>, input: Vec<u8>) -> anyhow::Result<ExitCode> {
    let Some(subject) = target.and_then(Target::subject) else {
        return Err(UsageError("filters are not made from bytes: use --seed".to_owned()).into());
    };
    subject.try_input(&input).map_err(|what| Failure::new(&subject, Found::Given, input, what))?;
    println!("{}: nothing found", subject.name);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_shows_nothing() {
        let mut all = 0;
        for (target, _) in Target::ALL {
            let kept = corpus::read(&corpus::committed(), target.name()).expect("the corpus");
            assert!(!kept.is_empty(), "{}: no corpus", target.name());
            all += kept.iter().map(|entry| entry.bytes.len()).sum::<usize>();
            let Some(subject) = target.subject() else {
                assert!(corpus::seeds(&kept).expect("seeds").contains(&1));
                continue;
            };
            for entry in &kept {
                assert_eq!(subject.try_input(&entry.bytes), Ok(()), "{} {}", target.name(), entry.name);
            }
        }
        assert!(all < 300_000, "{all} bytes");
    }

    #[test]
    fn seeds_are_numbers_with_remarks() {
        let seeds = |text: &str| {
            let bytes = text.as_bytes().to_vec();
            corpus::seeds(&[corpus::Entry { name: "seeds".to_owned(), bytes }])
        };
        assert_eq!(seeds("# two\n3\n\n 5 # a shift\n").expect("two"), [3, 5]);
        assert_eq!(seeds("1\nfive").expect_err("a word").to_string(), "line 2 of seeds is no seed: five");
    }
}
