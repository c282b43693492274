//! Programs under way: what they said, and how they ended.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything that a program does may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How soon a program ends that is told to.
pub const AT_ONCE: Duration = Duration::from_secs(5);

const LOOK: Duration = Duration::from_millis(5);

/// The command for a message: its own words, without those that lead to it.
fn told(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let from = words.iter().position(|word| *word == "-C").map_or(0, |at| at + 2);
    let words: Vec<_> = words.iter().skip(from).map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// Waits for a child's end, and kills it when it takes longer: then there is no status.
///
/// # Errors
/// It cannot be waited for.
pub fn wait(child: &mut Child, patience: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

/// The lines of both outputs, as they come.
#[derive(Debug, Default)]
struct Said {
    stdout: Vec<String>,
    stderr: Vec<String>,
    /// Outputs that have ended.
    ended: usize,
}

type Shared = Arc<(Mutex<Said>, Condvar)>;

fn lock(shared: &Shared) -> MutexGuard<'_, Said> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program under way. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    said: Shared,
    readers: Vec<JoinHandle<()>>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Finished {
    /// Its status.
    pub status: ExitStatus,
    /// The lines of its standard output.
    pub stdout: Vec<String>,
    /// The lines of its standard error.
    pub stderr: Vec<String>,
}

impl Finished {
    /// The same, if it exited with 0.
    ///
    /// # Errors
    /// The status, and the last it said.
    pub fn success(self) -> anyhow::Result<Finished> {
        if !self.status.success() {
            bail!("{}; it said: {}", self.status, last(&self.stdout, &self.stderr));
        }
        Ok(self)
    }
}

impl Running {
    /// Starts it, without an input.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Running> {
        Running::with_input(command, Stdio::null())
    }

    /// Starts it with an input that ends at [`Running::close_input`], or with this process.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn hold(command: &mut Command) -> anyhow::Result<Running> {
        Running::with_input(command, Stdio::piped())
    }

    fn with_input(command: &mut Command, input: Stdio) -> anyhow::Result<Running> {
        let name = told(command);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        crate::signals_by_default(command);
        let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
        let said = Shared::default();
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(collect(stdout, Arc::clone(&said), |said, line| said.stdout.push(line)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(collect(stderr, Arc::clone(&said), |said, line| said.stderr.push(line)));
        }
        let input = child.stdin.take();
        Ok(Running { name, child, input, said, readers })
    }

    /// Ends its input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Waits for a line of either output that is wanted, and gives it.
    ///
    /// # Errors
    /// It ended, or the time did, without such a line; with what it did say.
    pub fn wait_for_line(&self, wanted: impl Fn(&str) -> bool, patience: Duration) -> anyhow::Result<String> {
        self.wait_until(
            |said| said.stdout.iter().chain(&said.stderr).find(|line| wanted(line)).cloned(),
            patience,
        )
    }

    /// Waits until the lines of standard output are enough.
    ///
    /// # Errors
    /// It ended, or the time did, before they were; with what it did say.
    pub fn wait_for(&self, enough: impl Fn(&[String]) -> bool, patience: Duration) -> anyhow::Result<()> {
        self.wait_until(|said| enough(&said.stdout).then_some(()), patience)
    }

    fn wait_until<T>(&self, found: impl Fn(&Said) -> Option<T>, patience: Duration) -> anyhow::Result<T> {
        let end = Instant::now() + patience;
        let mut said = lock(&self.said);
        loop {
            if let Some(found) = found(&said) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || said.ended == 2 {
                let so = if left.is_zero() { "did not say in time" } else { "ended without saying" };
                bail!("{} {so} what was awaited, but: {}", self.name, last(&said.stdout, &said.stderr));
            }
            said = self
                .said
                .1
                .wait_timeout(said, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(said, _)| said);
        }
    }

    /// Waits until it sleeps: it has not run for a while, whatever it waits for.
    ///
    /// # Errors
    /// It ended, or the time did.
    pub fn wait_asleep(&self, patience: Duration) -> anyhow::Result<()> {
        const A_WHILE: Duration = Duration::from_millis(200);
        let path = format!("/proc/{}/status", self.pid());
        let state = || -> anyhow::Result<(bool, String)> {
            let status = fs::read_to_string(&path).with_context(|| format!("{} has ended", self.name))?;
            let field =
                |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let asleep = field("State:").trim_start().starts_with('S');
            Ok((asleep, format!("{} {}", field("Name:"), field("voluntary_ctxt_switches:"))))
        };
        let end = Instant::now() + patience;
        while Instant::now() < end {
            let before = state()?;
            thread::sleep(A_WHILE);
            if before.0 && state()? == before {
                return Ok(());
            }
        }
        bail!("{} does not come to sleep", self.name)
    }

    /// Lines of standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        lock(&self.said).stdout.clone()
    }

    /// Sends it a signal. One that has ended gets none.
    ///
    /// # Errors
    /// kill(2) refuses.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        // until it is waited for, its pid is nobody else's
        if self.child.try_wait()?.is_none() {
            kill(self.pid(), signal).with_context(|| format!("sending {signal} to {}", self.name))?;
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It does not in this time: it is killed.
    pub fn finish(mut self, patience: Duration) -> anyhow::Result<Finished> {
        let Some(status) = wait(&mut self.child, patience)? else {
            let said = lock(&self.said);
            let last = last(&said.stdout, &said.stderr);
            bail!("{} did not end within {} s; it said: {last}", self.name, patience.as_secs());
        };
        // what it left running may hold its outputs open: they are not waited for forever
        let end = Instant::now() + Duration::from_secs(2);
        while lock(&self.said).ended < self.readers.len() && Instant::now() < end {
            thread::sleep(LOOK);
        }
        let mut said = lock(&self.said);
        let (stdout, stderr) = (std::mem::take(&mut said.stdout), std::mem::take(&mut said.stderr));
        drop(said);
        Ok(Finished { status, stdout, stderr })
    }

    /// Interrupts it as Ctrl-C does, and waits for its end.
    ///
    /// # Errors
    /// Those of [`Running::finish`].
    pub fn interrupt(mut self, patience: Duration) -> anyhow::Result<Finished> {
        self.signal(Signal::SIGINT)?;
        self.finish(patience)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // it has ended, or does now; either way it is reaped
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last that a program said, for a message.
fn last(stdout: &[String], stderr: &[String]) -> String {
    const LINES: usize = 10;
    const LENGTH: usize = 200;
    let tail = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter().skip(lines.len().saturating_sub(LINES));
        lines.map(|line| line.chars().take(LENGTH).collect()).collect()
    };
    [tail(stdout), tail(stderr)].concat().join(" | ")
}

/// Runs a program to its end.
///
/// # Errors
/// Those of [`Running::start`] and [`Running::finish`].
pub fn run(command: &mut Command, patience: Duration) -> anyhow::Result<Finished> {
    Running::start(command)?.finish(patience)
}

fn collect(
    output: impl Read + Send + 'static,
    shared: Shared,
    push: fn(&mut Said, String),
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        // an output that fails has ended
        while lines.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            push(&mut lock(&shared), text);
            shared.1.notify_all();
            line.clear();
        }
        lock(&shared).ended += 1;
        shared.1.notify_all();
    })
}
