//! The daemon: `bpfdev serve` as a child, and what it holds.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe};

/// How long it may take to serve, and to end, ms: also on a machine that has much else to do.
const PATIENCE: u16 = 60_000;

/// A daemon that serves. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

/// What it holds: all of it has an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// What its descriptors are, by kind, sorted.
    pub fds: Vec<String>,
    /// Threads.
    pub threads: u64,
    /// Memory of its own, KiB.
    pub memory: u64,
    /// Child processes.
    pub children: usize,
}

impl Daemon {
    /// Starts it at `dir`, with its log appended to `log`, and waits until the device can be opened. To be called by the
    /// main thread: the daemon ends with the thread that started it.
    ///
    /// # Errors
    /// It ends, or does not serve in time.
    pub fn start(dir: &Path, log: &Path) -> anyhow::Result<Daemon> {
        let (ready, theirs) = pipe().context("a pipe to the daemon")?;
        fcntl(&ready, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("a pipe to the daemon")?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["launch", "--die-with", &std::process::id().to_string(), "--", "/proc/self/exe"]);
        command.args([
            "serve",
            "--front",
            "fuse",
            "--no-link",
            "--ready-fd",
            &theirs.as_raw_fd().to_string(),
            "--mount",
        ]);
        let log = fs::OpenOptions::new().create(true).append(true).open(log).context("the daemon's log")?;
        // a process group of its own: Ctrl-C is for the soak, which ends the daemon last
        command.arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let daemon = Daemon { child: command.spawn().context("starting the daemon")? };
        drop(theirs);
        let answered =
            poll(&mut [PollFd::new(ready.as_fd(), PollFlags::POLLIN)], PollTimeout::from(PATIENCE));
        ensure!(answered == Ok(1), "the daemon does not serve within {} s", PATIENCE / 1000);
        let said = fs::File::from(ready).read(&mut [0]).context("the daemon's word")?;
        ensure!(said == 1, "the daemon could not serve the device");
        Ok(daemon)
    }

    fn proc(&self, what: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{what}", self.child.id()))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// waitpid(2)'s.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// What it holds now.
    ///
    /// # Errors
    /// It has ended.
    pub fn holds(&self) -> anyhow::Result<Holds> {
        let mut fds = Vec::new();
        for entry in fs::read_dir(self.proc("fd"))? {
            // one that is closed meanwhile is none
            let Ok(target) = fs::read_link(entry?.path()) else { continue };
            let kind = target.to_string_lossy();
            // sockets and pipes by kind, not by number
            fds.push(kind.split(['[', '(']).next().unwrap_or_default().to_owned());
        }
        fds.sort();
        let status = fs::read_to_string(self.proc("status"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        };
        let mut children = 0;
        for task in fs::read_dir(self.proc("task"))? {
            // a thread that has ended has none
            let list = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            children += list.split_whitespace().count();
        }
        Ok(Holds {
            fds,
            threads: number("Threads:").context("no Threads in /proc/PID/status")?,
            memory: number("RssAnon:").context("no RssAnon in /proc/PID/status")?,
            children,
        })
    }

    /// Mounts at its directory.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn mounts(dir: &Path) -> anyhow::Result<usize> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let at = dir.to_string_lossy();
        Ok(mounts.lines().filter(|line| line.split(' ').nth(1) == Some(&*at)).count())
    }

    /// Sends it SIGTERM, and waits: how it ended.
    ///
    /// # Errors
    /// It does not end.
    pub fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let end = Instant::now() + Duration::from_millis(PATIENCE.into());
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "SIGTERM does not end the daemon");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// It has ended by itself.
    pub fn crash(mut self) -> anyhow::Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "the daemon has ended by itself");
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // it has ended, or does now
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
