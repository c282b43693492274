//! `bpfdev serve` as a child process.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bpfdev_core::abi;
use clap::builder::PossibleValuesParser;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe};

use super::launch;
use super::sandbox::MOUNT;

/// The options of `serve` that `wrap` passes on.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DeviceOptions {
    /// The dialect of the device; linux has FreeBSD's layout and requests
    #[arg(long, value_name = "DIALECT", value_parser = dialects())]
    pub abi: Option<String>,
    /// Where filters run: in the kernel, counted (ebpf) or as classic BPF (cbpf), in the daemon (process), or the first of these that can (auto)
    #[arg(long, value_parser = ["auto", "ebpf", "cbpf", "process"])]
    pub plan: Option<String>,
    /// Whether checksums the kernel left to the hardware are filled in (complete) or not (raw)
    #[arg(long, value_parser = ["complete", "raw"])]
    pub checksum: Option<String>,
    /// Permissions of the device, octal
    #[arg(long)]
    pub mode: Option<String>,
    /// Group of the device
    #[arg(long)]
    pub group: Option<String>,
}

fn dialects() -> PossibleValuesParser {
    PossibleValuesParser::new(abi::ALL.iter().map(|abi| abi.name))
}

impl DeviceOptions {
    /// The same options on a command line of `serve`.
    pub fn arguments(&self) -> Vec<OsString> {
        let options = [
            ("--abi", &self.abi),
            ("--plan", &self.plan),
            ("--checksum", &self.checksum),
            ("--mode", &self.mode),
            ("--group", &self.group),
        ];
        let given = options.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        given.flat_map(|(name, value)| [OsString::from(name), value.into()]).collect()
    }
}

/// A daemon that serves. Dropping it stops it, and it stops by itself when the thread that started it ends.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

/// How long a daemon may take to mount its device, and to end.
const START: Duration = Duration::from_secs(15);
const STOP: Duration = Duration::from_secs(5);

impl Daemon {
    /// Starts `serve` in a [`Sandbox`](super::sandbox::Sandbox) that this process has entered: its /dev/bpf.
    ///
    /// # Errors
    /// Those of [`Daemon::start`].
    pub fn in_sandbox(options: &DeviceOptions) -> anyhow::Result<Daemon> {
        // The host's daemon has the control socket of this mount's name.
        let served =
            ["--front", "fuse", "--mount", MOUNT, "--link", "/dev", "--no-control"].map(OsString::from);
        Daemon::start(served.into_iter().chain(options.arguments()))
    }

    /// Starts `serve` with these arguments and waits until its mount answers. To be called by the main thread:
    /// the daemon ends with the thread that started it. Only a process without other threads that spawn keeps
    /// the ready pipe from leaking into their children.
    ///
    /// # Errors
    /// When the daemon ends first (its own message is on stderr), or is not ready after 15 s.
    pub fn start(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Daemon> {
        let (ready, theirs) = pipe().context("a pipe to the daemon")?;
        fcntl(&ready, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("a pipe to the daemon")?;
        let mut command = launch::dying_with_us(launch::SELF);
        command.arg("serve").args(arguments).arg("--ready-fd").arg(theirs.as_raw_fd().to_string());
        // Its own process group: Ctrl-C is for the command, which may still want to read its counters.
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let mut daemon = Daemon { child: command.spawn().context("cannot start the daemon")? };
        drop(theirs);
        match said(ready)? {
            Said::Ready => Ok(daemon),
            Said::Nothing => match daemon.wait(STOP)? {
                Some(status) => bail!("the daemon could not serve the device ({status})"),
                None => bail!("the daemon closed its ready pipe without a word"),
            },
            Said::NotYet => bail!("the daemon did not say within {} s that it serves", START.as_secs()),
        }
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the daemon ended, if it has.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks the daemon to end, and kills it when it has not after 5 s: then its status is `None`.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn stop(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status));
        }
        // Not reaped yet, so the pid is still the daemon's.
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        if let Some(status) = self.wait(STOP)? {
            return Ok(Some(status));
        }
        tracing::warn!("the daemon did not end within {} s and is killed", STOP.as_secs());
        self.child.kill()?;
        self.child.wait()?;
        Ok(None)
    }

    fn wait(&mut self, at_most: Duration) -> std::io::Result<Option<ExitStatus>> {
        let end = Instant::now() + at_most;
        loop {
            match self.child.try_wait()? {
                None if Instant::now() < end => sleep(Duration::from_millis(5)),
                status => return Ok(status),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!("cannot stop the daemon: {error:#}");
        }
    }
}

/// What came through the ready pipe.
enum Said {
    Ready,
    Nothing,
    NotYet,
}

/// Waits for the byte, the end of the pipe, or [`START`].
fn said(pipe: OwnedFd) -> anyhow::Result<Said> {
    let end = Instant::now() + START;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Ok(Said::NotYet),
            Ok(_) => break,
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the daemon"),
        }
    }
    let read = std::fs::File::from(pipe).read(&mut [0]).context("waiting for the daemon")?;
    Ok(if read == 1 { Said::Ready } else { Said::Nothing })
}
