//! The clients as processes: started, heard, killed, stopped, and waited for.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use bpfdev_backend_linux::netns::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::COMMAND;
use super::client::{Figures, Part, Role, Word};
use crate::fuzz::random::Lcg;

/// Who is not heard for so long hangs.
const SILENCE: Duration = Duration::from_secs(120);

/// The role of those who give an account in the end.
const CAPTURE: &str = "capture";

/// What comes from a client's output.
enum Said {
    Word(Word),
    /// A line that is none.
    Noise(String),
    /// Nobody has it open any more.
    End,
}

/// A place for one client after the other.
struct Seat {
    child: Option<Child>,
    /// Processes that say they were born from it.
    born: Vec<u32>,
    /// Its output has not ended: it, or a process it has left its descriptor to, is there.
    open: bool,
    heard: Instant,
    /// Stopped until then.
    stopped: Option<Instant>,
    killed: bool,
    role: &'static str,
    seed: u64,
}

/// What was done to clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deeds {
    /// Started.
    pub started: u64,
    /// Killed.
    pub killed: u64,
    /// Stopped for a while.
    pub stopped: u64,
}

/// All clients.
pub struct Crowd {
    seats: Vec<Seat>,
    /// Without its role and seed.
    part: Part,
    sender: Sender<(usize, Said)>,
    said: Receiver<(usize, Said)>,
    /// What was done to them.
    pub deeds: Deeds,
    /// What they did.
    pub figures: Figures,
    /// What must not be.
    pub wrong: Vec<String>,
}

impl Crowd {
    /// Empty seats, for clients of the device in `dir`.
    pub fn new(seats: usize, dir: PathBuf, board: PathBuf, rejected_count: bool) -> Crowd {
        let (sender, said) = channel();
        let empty = || Seat {
            child: None,
            born: Vec::new(),
            open: false,
            heard: Instant::now(),
            stopped: None,
            killed: false,
            role: "",
            seed: 0,
        };
        Crowd {
            seats: (0..seats).map(|_| empty()).collect(),
            part: Part { dir, board, seat: 0, seed: 0, role: Role::Capture, rejected_count },
            sender,
            said,
            deeds: Deeds::default(),
            figures: Figures::default(),
            wrong: Vec::new(),
        }
    }

    /// Seats clients where there are none, in this namespace.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn fill(&mut self, namespace: &Namespace, rng: &mut Lcg) -> anyhow::Result<()> {
        for at in 0..self.seats.len() {
            let Some(seat) = self.seats.get_mut(at).filter(|seat| !seat.is_taken()) else {
                continue;
            };
            let (role, name) = match rng.below(8) {
                0 => (Role::Write, "write"),
                1 => (Role::Churn, "churn"),
                2 => (Role::Misuse, "misuse"),
                _ => (Role::Capture, CAPTURE),
            };
            let seed = rng.long();
            let part = Part { seat: at, seed, role, ..self.part.clone() };
            let mut command = Command::new("/proc/self/exe");
            command.arg(COMMAND).arg(serde_json::to_string(&part)?);
            // a process group of its own: who is stopped goes on when we die, and Ctrl-C is not for them
            command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
            let mut child = namespace.run(&mut command)?;
            let output = child.stdout.take().context("no pipe")?;
            let sender = self.sender.clone();
            std::thread::Builder::new().name("hearing".into()).spawn(move || hear(at, output, &sender))?;
            *seat = Seat {
                child: Some(child),
                born: Vec::new(),
                open: true,
                heard: Instant::now(),
                stopped: None,
                killed: false,
                role: name,
                seed,
            };
            self.deeds.started += 1;
        }
        Ok(())
    }

    /// Hears what was said, lets who was stopped long enough go on, and sees who has ended.
    ///
    /// # Errors
    /// waitpid(2)'s.
    pub fn look(&mut self) -> anyhow::Result<()> {
        while let Ok((at, said)) = self.said.try_recv() {
            let Some(seat) = self.seats.get_mut(at) else { continue };
            seat.heard = Instant::now();
            let (role, seed) = (seat.role, seat.seed);
            match said {
                Said::Word(Word::Born(pid)) => seat.born.push(pid),
                Said::Word(Word::Did(figures)) => self.figures.add(figures),
                Said::Word(Word::Wrong(what)) => self.wrong.push(format!("{role} {at}, {seed:#x}: {what}")),
                Said::Noise(line) => self.wrong.push(format!("{role} {at}, {seed:#x} says {line:?}")),
                Said::End => seat.open = false,
            }
        }
        let now = Instant::now();
        for (at, seat) in self.seats.iter_mut().enumerate() {
            if seat.stopped.is_some_and(|until| until <= now) {
                seat.stopped = None;
                seat.signal(Signal::SIGCONT);
            }
            if seat.stopped.is_some() {
                seat.heard = now;
            }
            if let Some(child) = &mut seat.child
                && let Some(status) = child.try_wait()?
            {
                seat.child = None;
                let killed = seat.killed && status.signal() == Some(libc::SIGKILL);
                if !killed && !status.success() {
                    self.wrong.push(format!("{} {at}, {:#x}: {status}", seat.role, seat.seed));
                }
            }
            if seat.is_taken() && now.duration_since(seat.heard) > SILENCE {
                self.wrong.push(format!("{} {at}, {:#x} hangs: {}", seat.role, seat.seed, seat.places()));
                seat.kill_all();
            }
        }
        Ok(())
    }

    /// Kills one of them, or stops one for a while.
    pub fn harm(&mut self, rng: &mut Lcg) {
        let at = rng.below(self.seats.len().max(1) as u32) as usize;
        let Some(seat) = self.seats.get_mut(at).filter(|seat| seat.child.is_some()) else { return };
        if rng.once_in(2) {
            // also who is stopped
            seat.killed = true;
            seat.stopped = None;
            seat.signal(Signal::SIGKILL);
            self.deeds.killed += 1;
        } else if seat.stopped.is_none() && !seat.killed {
            seat.signal(Signal::SIGSTOP);
            seat.stopped = Some(Instant::now() + Duration::from_millis((100 + rng.below(4000)).into()));
            self.deeds.stopped += 1;
        }
    }

    /// Lets everybody who is stopped go on.
    pub fn let_go(&mut self) {
        for seat in &mut self.seats {
            if seat.stopped.take().is_some() {
                seat.signal(Signal::SIGCONT);
            }
        }
    }

    /// Waits until nobody is there. Who takes too long is killed, and that is wrong.
    ///
    /// # Errors
    /// waitpid(2)'s.
    pub fn leave(&mut self) -> anyhow::Result<()> {
        self.wait_for(|_| true)
    }

    /// Waits, in the same way, until only those who capture are there.
    ///
    /// # Errors
    /// waitpid(2)'s.
    pub fn only_captures(&mut self) -> anyhow::Result<()> {
        self.wait_for(|seat| seat.role != CAPTURE)
    }

    fn wait_for(&mut self, who: impl Fn(&Seat) -> bool) -> anyhow::Result<()> {
        self.let_go();
        while self.seats.iter().any(|seat| seat.is_taken() && who(seat)) {
            self.look()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        self.look()
    }
}

impl Seat {
    /// A client is there, or who has its descriptor.
    fn is_taken(&self) -> bool {
        self.child.is_some() || self.open
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // until it is waited for, its number is nobody else's
            let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    /// Its processes that are there: numbers are used again, words of a command line are not.
    fn alive(&self) -> impl Iterator<Item = u32> {
        let seed = self.seed.to_string();
        self.born.iter().copied().filter(move |pid| {
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.contains(COMMAND)
                && (words.contains(&seed) || words.contains("Received") || words.contains("Inherited"))
        })
    }

    /// Where its processes are in the kernel.
    fn places(&self) -> String {
        let place = |pid| {
            let at = |what| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
            format!("process {pid} in {} ({})", at("wchan"), at("syscall").trim_end())
        };
        self.alive().map(place).collect::<Vec<_>>().join(", ")
    }

    fn kill_all(&mut self) {
        self.killed = true;
        for pid in self.alive() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        self.open = false;
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for seat in &mut self.seats {
            seat.kill_all();
            if let Some(child) = &mut seat.child {
                // it has ended, or does now
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

fn hear(at: usize, output: std::process::ChildStdout, sender: &Sender<(usize, Said)>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let said = serde_json::from_str(&line).map_or_else(|_| Said::Noise(line), Said::Word);
        if sender.send((at, said)).is_err() {
            return;
        }
    }
    let _ = sender.send((at, Said::End)); // nobody is left who would care
}
