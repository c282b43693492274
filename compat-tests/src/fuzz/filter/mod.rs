//! Random valid programs on random packets, the interpreter against the kernel.
//!
//! A *run* is one program on one packet. Everything follows from a seed, and a difference prints the seed to see it
//! again.

mod sys;
mod test_run;
mod wire;

use std::fmt;
use std::time::{Duration, Instant};

use bpfdev_core::cbpf::{Program, Rules, disasm, rules, text};

use super::Budget;

/// Which of the kernel's ways to run a filter is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FuzzPlan {
    /// Translated to eBPF: by BPF_PROG_TEST_RUN (all 32 bits of the answer), and on packet sockets
    Ebpf,
    /// Rewritten for classic BPF, on packet sockets
    Cbpf,
    /// Both
    All,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// By BPF_PROG_TEST_RUN.
    test_runs: u64,
    /// On packet sockets, translated.
    ebpf: u64,
    /// On packet sockets, rewritten.
    cbpf: u64,
    /// Of all runs, those of a packet whose tag was stripped.
    tagged: u64,
    /// Of all runs, those that accepted.
    accepted: u64,
    programs: u64,
    /// Programs that classic BPF cannot express, or the socket had no memory for.
    not_exact: u64,
}

impl Tally {
    fn runs(&self) -> u64 {
        self.test_runs + self.ebpf + self.cbpf
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs of {} programs: {} eBPF by test run, {} eBPF and {} cBPF on packet sockets; {} with a stripped tag, \
             {} accepted; {} programs cBPF cannot express",
            self.runs(),
            self.programs,
            self.test_runs,
            self.ebpf,
            self.cbpf,
            self.tagged,
            self.accepted,
            self.not_exact
        )
    }
}

/// The kernel and the interpreter do not agree.
#[derive(Debug, thiserror::Error)]
#[error(
    "seed {seed}: {plan} gives {kernel:#x} where {expected:#x} is right\nrules: {system}\nframe: {frame}\n\
     tag stripped: {tagged}\n{listing}{program}"
)]
struct Difference {
    seed: u64,
    plan: &'static str,
    kernel: u32,
    expected: u32,
    system: &'static str,
    frame: String,
    tagged: bool,
    listing: String,
    program: String,
}

impl Difference {
    fn new(
        seed: u64,
        plan: &'static str,
        program: &Program,
        frame: &[u8],
        tagged: bool,
        [kernel, expected]: [u32; 2],
    ) -> Difference {
        let frame = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let listing = disasm(program.insns());
        let system = program.rules().name;
        let program = text::write(program.insns(), text::Form::Decimal);
        Difference { seed, plan, kernel, expected, system, frame, tagged, listing, program }
    }
}

/// The systems whose programs are tried, the device's own dialect twice.
static SYSTEMS: [&Rules; 7] = [
    &rules::LINUX_ABI,
    &rules::LINUX_ABI,
    &rules::FREEBSD,
    &rules::NETBSD,
    &rules::OPENBSD,
    &rules::DRAGONFLY,
    &rules::MACOS,
];

/// Runs programs until `budget` is used up: those of `seed` and the next ones, or else those of the corpus first. Runs made.
///
/// # Errors
/// The difference found; or what is missing for the kernel to run filters.
pub fn run(budget: &Budget, corpus: &[u64], seed: Option<u64>, plan: FuzzPlan) -> anyhow::Result<u64> {
    let first = seed.unwrap_or(1);
    let committed = if seed.is_some() { &[] } else { corpus };
    let mut wire = wire::Wire::new(plan)?;
    let mut tally = Tally::default();
    let start = Instant::now();
    let mut said = start;
    for seed in committed.iter().copied().chain(first..) {
        if plan != FuzzPlan::Cbpf {
            test_run::round(seed, &mut tally)?;
        }
        wire.round(seed, &mut tally)?;
        if budget.is_used_up(tally.runs()) {
            break;
        }
        if said.elapsed() >= Duration::from_secs(60) {
            said = Instant::now();
            eprintln!("seed {seed}: {tally}");
        }
    }
    println!("filter: {tally}; no difference, in {:.0} s", start.elapsed().as_secs_f64());
    Ok(tally.runs())
}
