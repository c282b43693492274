//! `bpfdev-compat soak`: the device for a long time, with clients that die at random under traffic and with everything going
//! wrong that can.
//!
//! Frames say who sent them and as his how manieth, so that a client can tell what is missing, comes twice or comes late. In
//! each round clients come and go for a while; then the senders rest, and who captures gives an account in which what was
//! sent, read and dropped must add up. Then nobody is there, and the daemon must hold no more than before the first client
//! came. Of the three wires one is never disturbed and nobody writes to it, clients write to the second, and the third's
//! interface goes down, is renamed, moved, removed: there what comes must still be whole, in order and once.

mod account;
mod board;
mod capture;
mod client;
mod crowd;
mod daemon;
mod frame;
mod ground;
mod misuse;
mod report;
mod rounds;
mod sys;
mod write;

use std::process::ExitCode;
use std::time::Duration;

/// The hidden subcommand of a client.
pub const COMMAND: &str = "soak-client";

/// Wires there are.
const WIRES: usize = 3;
/// Where clients listen.
const NEAR: [&str; WIRES] = ["still0", "busy0", "moved0"];
/// Where the senders send.
const FAR: [&str; WIRES] = ["still1", "busy1", "moved1"];
/// The wire that clients write to, and is not disturbed.
const WITH_WRITERS: usize = 1;
/// The wire whose interface is taken away and changed.
const DISTURBED: usize = 2;
/// Frames that are sent at once, at most.
const BURST: usize = 200;

/// The device under clients that come, go, stop and die, interfaces that vanish, and a daemon that is killed: a long run
///
/// Exits with 0 only when every record was whole, in order and came once, all counters added up, and nothing was left
/// over. Ctrl-C ends it early, with the same checks. Its own namespaces, mount and processes are all it touches.
#[derive(Clone, Debug, clap::Args)]
pub struct SoakArgs {
    /// How long, minutes; parts of one are fine
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// What all random choices follow from [default: another each time, printed]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Clients at once
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=500))]
    clients: u16,
    /// Frames a second, on each of the three wires
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.05..=100_000.0).contains(&minutes) => Ok(minutes),
        _ => Err("minutes, from 0.05 on".to_owned()),
    }
}

/// `bpfdev-compat soak-client JSON`, hidden: a client.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientArgs {
    /// What it does
    part: String,
}

/// Plays a client.
///
/// # Errors
/// The part is none.
pub fn run_client(args: &ClientArgs) -> anyhow::Result<ExitCode> {
    client::run(&args.part)
}

/// Runs the soak: 1 when something was wrong.
///
/// # Errors
/// Without root, or /dev/fuse; the machine refuses what the soak itself needs.
pub fn run(args: &SoakArgs) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0) >> 32
    });
    println!("soak: seed {seed}");
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let report = rounds::run(seed, time, args.clients.into(), args.rate)?;
    print!("{report}");
    Ok(ExitCode::from(u8::from(!report.wrong.is_empty())))
}
