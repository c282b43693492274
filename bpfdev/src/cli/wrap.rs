//! `bpfdev wrap -- COMMAND…`: runs a command with a private /dev in which /dev/bpf is served.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitCode, ExitStatus};

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use super::daemon::{Daemon, DeviceOptions};
use super::launch;
use super::probe;
use super::sandbox::{Network, Sandbox};

/// Run a command with a private /dev in which /dev/bpf is served
///
/// As root the command sees the host's interfaces. Without root it runs in user, mount and network namespaces
/// of its own, with lo and the veth pair veth0, veth1. Its exit status is passed on; 128 + the signal's number
/// when a signal ended it, 127 when there is no such command, 126 when it cannot be run.
#[derive(Debug, clap::Args)]
pub struct WrapArgs {
    #[command(flatten)]
    device: DeviceOptions,
    /// Use a network namespace with lo and a veth pair, also as root
    #[arg(long)]
    own_network: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// What is passed on to the command.
const FORWARDED: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs the subcommand.
///
/// # Errors
/// A refused namespace or device, with its cure; a daemon that does not start.
pub fn run(args: WrapArgs) -> anyhow::Result<ExitCode> {
    probe::fuse_device()?;
    let sandbox = Sandbox::enter(if args.own_network { Network::Own } else { Network::Host })?;
    if sandbox.network == Network::Own {
        eprintln!("bpfdev wrap: {}", sandbox.describe());
    }
    let mut daemon = Daemon::in_sandbox(&args.device)?;
    // Blocked only now: until here a signal simply ends us, and the daemon with us.
    let signals = Signals::block().context("cannot block signals")?;
    let (program, rest) = args.command.split_first().context("no command")?;
    let command = launch::plain(program).args(rest).spawn().context("cannot start the command")?;
    let status = supervise(command, &mut daemon, &signals)?;
    daemon.stop()?;
    Ok(exit_code(status))
}

/// Waits for the command, passing signals on to it meanwhile.
fn supervise(mut command: Child, daemon: &mut Daemon, signals: &Signals) -> anyhow::Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(command.id())?);
    let mut serving = true;
    loop {
        if let Some(status) = command.try_wait()? {
            return Ok(status);
        }
        if serving && let Some(status) = daemon.ended()? {
            serving = false;
            eprintln!("bpfdev wrap: the daemon ended ({status}): /dev/bpf is gone");
        }
        if let Some(signal) = signals.next()? {
            // The command has not been waited for, so its pid is still its own.
            kill(pid, signal).with_context(|| format!("cannot pass {signal} on"))?;
        }
    }
}

/// The status a shell would give it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The signals of this process, read one by one instead of handled.
struct Signals(SignalFd);

impl Signals {
    fn block() -> nix::Result<Signals> {
        let mut set = SigSet::from_iter(FORWARDED);
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        Ok(Signals(SignalFd::new(&set)?))
    }

    /// Waits for the next signal; what the command is to get of it.
    fn next(&self) -> anyhow::Result<Option<Signal>> {
        let Some(info) = self.0.read_signal().or_else(|errno| match errno {
            nix::errno::Errno::EINTR => Ok(None),
            other => Err(other),
        })?
        else {
            return Ok(None);
        };
        let signal = Signal::try_from(i32::try_from(info.ssi_signo)?)?;
        // What the terminal sends (SI_KERNEL), it sends to the whole foreground group: the command has it.
        let by_kernel = info.ssi_code > 0;
        Ok((signal != Signal::SIGCHLD && !by_kernel).then_some(signal))
    }
}
