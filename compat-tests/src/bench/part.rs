//! The processes of a bench: each is this program again, told what to do by one argument, and talks in lines of JSON
//! on its standard input and output.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use bpfdev_backend_linux::netns::Namespace;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::frame::Workload;
use super::subject::Subject;
use super::{device, reader, sender};

/// The hidden subcommand.
pub const COMMAND: &str = "bench-part";

/// What a process of the bench does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The CPU it is pinned to.
    pub cpu: usize,
    /// Its part.
    pub role: Role,
}

/// A process's part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Role {
    /// Sends on this interface.
    Send(String),
    /// Captures.
    Read(ReadPart),
    /// Serves the device at this mount point.
    Serve(PathBuf),
}

/// How to capture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReadPart {
    /// With what.
    pub subject: Subject,
    /// On which interface.
    pub interface: String,
    /// What is done with each packet.
    pub workload: Workload,
    /// Length of a frame, bytes.
    pub frame: usize,
    /// How many will come.
    pub packets: u64,
    /// Take the time from sending to reading of each, in immediate mode.
    pub latency: bool,
    /// Where the device may be mounted.
    pub dir: PathBuf,
    /// The CPU of the device's daemon.
    pub daemon_cpu: usize,
}

/// Plays the part that `words` tells.
///
/// # Errors
/// Whatever keeps it from that.
pub fn run(words: &str) -> anyhow::Result<()> {
    let part: Part = serde_json::from_str(words).context("not a part of a bench")?;
    pin(part.cpu)?;
    match part.role {
        Role::Send(interface) => sender::run(&interface),
        Role::Read(read) => reader::run(&read),
        Role::Serve(dir) => device::serve(&dir),
    }
}

/// Pins the calling thread, and those it will start, to a CPU.
fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pinning to CPU {cpu}"))
}

/// CLOCK_MONOTONIC, nanoseconds.
///
/// # Errors
/// None that is known.
pub fn now() -> nix::Result<u64> {
    clock(ClockId::CLOCK_MONOTONIC)
}

/// A clock, nanoseconds.
///
/// # Errors
/// EINVAL when the clock's process is gone.
pub fn clock(id: ClockId) -> nix::Result<u64> {
    let time = id.now()?;
    Ok(u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0))
}

/// Says a line to the parent.
///
/// # Errors
/// The parent is gone.
pub fn tell(what: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Calls `stop` on a thread of its own when the parent closes our standard input, or ends.
pub fn when_told_to_stop(stop: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new()); // an error ends it as well
        stop();
    });
}

/// A part that was started; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    /// Starts a part, in `namespace` or in that of the calling thread, and waits until it says that it is ready.
    ///
    /// # Errors
    /// It could not be started, or ended without being ready; it has said why on stderr.
    pub fn start(part: &Part, namespace: Option<&Namespace>) -> anyhow::Result<Running> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(COMMAND).arg(serde_json::to_string(part)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match namespace {
            Some(namespace) => namespace.run(&mut command)?,
            None => command.spawn()?,
        };
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let running = Running { child, stdin, lines };
        let ready: String = running.hear(Duration::from_secs(20))?.context("no answer")?;
        anyhow::ensure!(ready == "ready", "{ready:?} instead of being ready");
        Ok(running)
    }

    /// Its process.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// The next thing it says; `None` when that takes longer than `within`.
    ///
    /// # Errors
    /// It ended without saying it, or said something else.
    pub fn hear<T: DeserializeOwned>(&self, within: Duration) -> anyhow::Result<Option<T>> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Ok(Some(serde_json::from_str(&line)?)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("a process of the bench has failed"),
        }
    }

    /// Says a line to it.
    ///
    /// # Errors
    /// It has ended.
    pub fn say(&mut self, what: &impl Serialize) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("it was told to stop")?;
        Ok(writeln!(stdin, "{}", serde_json::to_string(what)?)?)
    }

    /// Tells it to come to an end.
    pub fn stop(&mut self) {
        self.stdin = None;
    }

    /// Waits for the end of a part that was told to stop.
    ///
    /// # Errors
    /// waitpid(2)'s.
    pub fn wait(mut self) -> anyhow::Result<()> {
        self.stop();
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
