//! The oracle: what a BSD kernel was recorded to answer, played against this project's device.
//!
//! [`mod@file`] reads recordings, [`script`] and [`trace`] know their operations, a [`call::World`] answers them: [`emulated`]
//! in this process and simulated time, [`real`] in real time, over any bpf node ([`nodes`]) or on Linux a served one and a veth
//! pair (`device`). compat-tests/oracle/README.md
//! has the formats, and what is not compared.

pub mod answer;
pub mod call;
pub mod corpus;
#[cfg(target_os = "linux")]
pub mod device;
pub mod emulated;
pub mod file;
pub mod hex;
pub mod host;
pub mod mask;
pub mod nodes;
pub mod pair;
pub mod play;
pub mod real;
pub mod script;
pub mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use bpfdev_core::abi::{self, Abi};

#[cfg(target_os = "linux")]
use crate::place::Front;
use file::Recording;
pub use play::Tally;

/// Where recordings are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum On {
    /// In this process, in simulated time
    Emulated,
    /// On a device served over a veth pair, in real time; needs root
    Device,
}

/// Play recorded answers of a BSD kernel against the device: one line for each difference
#[derive(Debug, clap::Args)]
pub struct OracleArgs {
    /// Recordings (cases.json, traces.jsonl, filter-corpus.jsonl, told apart by content), or directories of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where to play them
    #[arg(long, value_enum, default_value = "emulated")]
    on: On,
    /// The dialect that answers; netbsd7 is the version that was recorded
    #[arg(long, value_name = "DIALECT", value_parser = ["netbsd", "netbsd7"], default_value = "netbsd7")]
    abi: String,
    /// How many may be skipped for want of sense before that is a failure
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_skipped: usize,
    /// Where the device runs filters: auto, ebpf, cbpf or process
    #[arg(long, value_parser = ["auto", "ebpf", "cbpf", "process"])]
    plan: Option<String>,
    /// How the device is served [default: fuse]
    #[cfg(target_os = "linux")]
    #[arg(long, value_enum)]
    front: Option<Front>,
}

impl OracleArgs {
    fn abi(&self) -> &'static Abi {
        match self.abi.as_str() {
            "netbsd" => &abi::netbsd::NETBSD,
            _ => &abi::netbsd::NETBSD7,
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// A file that cannot be read or holds no recordings; a device that cannot be served.
pub fn run(args: &OracleArgs) -> anyhow::Result<ExitCode> {
    if args.plan.is_some() && args.on == On::Emulated {
        return Err(crate::cli::UsageError("--plan goes with --on device".into()).into());
    }
    #[cfg(target_os = "linux")]
    if args.front.is_some() && args.on == On::Emulated {
        return Err(crate::cli::UsageError("--front goes with --on device".into()).into());
    }
    let mut recordings: Vec<Recording> = Vec::new();
    for path in &args.paths {
        recordings.extend(file::load(path)?);
    }
    let tally = match args.on {
        On::Emulated => play::emulated(&recordings, args.abi(), &mut |line| println!("{line}")),
        #[cfg(not(target_os = "linux"))]
        On::Device => anyhow::bail!("a device is served on Linux; `run` and `record` ask this system's own"),
        #[cfg(target_os = "linux")]
        On::Device => {
            let front = args.front.unwrap_or(Front::Fuse);
            let say = &mut |line| println!("{line}");
            device::play(&recordings, args.abi(), front, args.plan.as_deref(), say)?
        }
    };
    println!("{tally}");
    let good = tally.failed == 0 && tally.skipped <= args.max_skipped;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
