//! `bpfdev launch`, hidden: the step between fork and exec of our children. A closure run there
//! (`pre_exec`) would be unsafe code; a program that prepares itself and execs is not.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};

use super::sandbox::{Network, Sandbox};

/// Our own program, also where its file has been replaced or cannot be reached by name.
pub const SELF: &str = "/proc/self/exe";

/// `bpfdev launch [--die-with PID] [--sandbox host|own] -- COMMAND…`
#[derive(Debug, clap::Args)]
pub struct LaunchArgs {
    /// Send SIGTERM to the command when its parent, PID, ends
    #[arg(long, value_name = "PID")]
    die_with: Option<u32>,
    /// Give the command a private /dev, and the host's network or one of its own
    #[arg(long)]
    sandbox: Option<Network>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Starts `program` with no signal blocked, whatever is blocked here.
pub fn plain(program: impl Into<OsString>) -> Command {
    ours(&[], program)
}

/// Starts `program` so that it gets SIGTERM when the calling *thread* ends: to be spawned by the main thread.
pub fn dying_with_us(program: impl Into<OsString>) -> Command {
    ours(&["--die-with", &std::process::id().to_string()], program)
}

/// Starts `program` in a [`Sandbox`] of its own; works whatever threads we have.
pub fn sandboxed(network: Network, program: impl Into<OsString>) -> Command {
    ours(&["--sandbox", if network == Network::Host { "host" } else { "own" }], program)
}

fn ours(flags: &[&str], program: impl Into<OsString>) -> Command {
    let mut command = Command::new(SELF);
    command.arg0("bpfdev").arg("launch").args(flags).arg("--").arg(program.into());
    command
}

/// Runs the subcommand: returns only when it fails, with 127 where there is no such command, 126 where it
/// cannot be run, as shells do.
///
/// # Errors
/// A refused sandbox, prctl(2).
pub fn run(args: LaunchArgs) -> anyhow::Result<ExitCode> {
    if let Some(parent) = args.die_with {
        set_pdeathsig(Signal::SIGTERM)?;
        // It may have ended before it could be watched.
        anyhow::ensure!(std::os::unix::process::parent_id() == parent, "process {parent} has ended");
    }
    if let Some(network) = args.sandbox {
        Sandbox::enter(network)?;
    }
    SigSet::empty().thread_set_mask()?;
    let Some((program, rest)) = args.command.split_first() else {
        anyhow::bail!("no command");
    };
    // The link means nothing in a list of processes.
    let name = if program == SELF { OsStr::new("bpfdev") } else { program };
    let error = Command::new(program).arg0(name).args(rest).exec();
    eprintln!("bpfdev: cannot run {}: {error}", program.to_string_lossy());
    Ok(ExitCode::from(if error.kind() == ErrorKind::NotFound { 127 } else { 126 }))
}
