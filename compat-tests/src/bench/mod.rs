//! `bpfdev-compat bench`: what a packet costs, side by side with native libpcap.
//!
//! A sender pinned to one CPU floods a veth pair in a network namespace of its own; one reader after the other, pinned
//! to another CPU, takes what comes in. Each is a process, so that the CPU time the kernel charges to it is all its own.
//! The subjects take turns within a round, and ratios are taken within a round: what a noisy machine does to one it does
//! to its neighbour. A round in which libpcap itself is far from its median is not counted.

mod device;
mod emulated;
pub mod figures;
mod filter;
mod frame;
mod ground;
mod part;
mod plan;
mod reader;
mod report;
mod sender;
mod subject;
mod sys;

use std::process::ExitCode;

use ground::Ground;
use plan::Plan;
use report::Report;

/// Bytes of kernel ring that every subject has.
const RING: usize = 16 << 20;

/// `bpfdev-compat bench [--check] [--json] [--rounds N] [--quick]`
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    other: Option<Other>,
    /// Exit 1 when the backend costs more than 1.5 times libpcap's CPU time, `bpfdev::capture` more than 1.3 times the
    /// backend's, the device more than 6 times libpcap's with 64 bytes, or the device drops packets at 100,000 a second;
    /// takes less than a minute
    #[arg(long)]
    check: bool,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Rounds that count, of each case
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Fewer cases and packets: shows that everything works
    #[arg(long)]
    quick: bool,
}

/// Benches of something else than packets on their way.
#[derive(Clone, Debug, clap::Subcommand)]
enum Other {
    Filter(filter::FilterArgs),
}

/// `bpfdev-compat bench-part JSON`, hidden: a process of the bench.
#[derive(Clone, Debug, clap::Args)]
pub struct PartArgs {
    /// What it does
    part: String,
}

/// Plays a part in a bench.
///
/// # Errors
/// Whatever keeps it from that.
pub fn run_part(args: &PartArgs) -> anyhow::Result<ExitCode> {
    part::run(&args.part)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the bench and prints its table: 1 when a packet is unaccounted for, or a check fails twice.
///
/// # Errors
/// Without root, /dev/fuse or a second CPU; a subject that fails.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    if let Some(Other::Filter(args)) = &args.other {
        return filter::run(args);
    }
    let plan = match (args.check, args.quick) {
        (true, _) => Plan::check(args.rounds),
        (false, true) => Plan::quick(args.rounds),
        (false, false) => Plan::whole(args.rounds),
    };
    let mut ground = Ground::new()?;
    let mut report = ground.run(&plan)?;
    let mut complaints = complaints(&report, args.check);
    if args.check && !complaints.is_empty() {
        eprintln!("once more, because: {}", complaints.join("; "));
        report = ground.run(&plan)?;
        complaints = self::complaints(&report, true);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    for complaint in &complaints {
        eprintln!("bpfdev-compat: {complaint}");
    }
    Ok(ExitCode::from(u8::from(!complaints.is_empty())))
}

fn complaints(report: &Report, check: bool) -> Vec<String> {
    let mut complaints = report.unaccounted();
    if check {
        complaints.extend(report.violations());
    }
    complaints
}
