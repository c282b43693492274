//! The course of a soak: rounds, then a daemon that is told to end and one that is killed, each under load.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bpfdev::DeviceFile;
use bpfdev_core::abi::linux::LINUX;
use bpfdev_core::abi::{FilterSource, Request, Response};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::board::{Board, Phase, Served};
use super::crowd::Crowd;
use super::daemon::{Daemon, Holds};
use super::ground::{Disturbance, Ground};
use super::report::Report;
use super::{NEAR, WIRES};
use crate::fuzz::random::Lcg;

/// Between two looks at everything.
const TICK: Duration = Duration::from_millis(25);
/// A round, at most.
const ROUND: Duration = Duration::from_secs(15);
/// Load before the daemon is ended, and the last.
const LOAD: Duration = Duration::from_secs(3);
/// What the two ends of a daemon and the last round take, with the time in which it gives back what it held.
const ENDS: Duration = Duration::from_secs(20);
/// What was held is given back within this time, or it leaks.
const SOON: Duration = Duration::from_secs(60);
/// An allocator keeps some of what it had, KiB; more than this is a leak.
const MORE_MEMORY: u64 = 4 << 10;

/// A directory that is removed in the end.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        // what is left of it can only be what a daemon has left: that is in the report
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Everything there is.
struct Soak {
    board: Arc<Board>,
    ground: Ground,
    crowd: Crowd,
    daemon: Option<Daemon>,
    /// What a daemon holds that had a client and lost it.
    base: Holds,
    dir: PathBuf,
    log: PathBuf,
    signals: SignalFd,
    rng: Lcg,
    wrong: Vec<String>,
    disturbances: BTreeMap<&'static str, u64>,
    daemons: BTreeMap<&'static str, u64>,
    memory: Option<(u64, u64)>,
    holds: Option<(usize, u64)>,
    interrupted: bool,
    // last: removed when all others are gone
    _place: Place,
}

/// Runs all of it.
///
/// # Errors
/// What the soak itself needs is refused, or the daemon cannot be had.
pub fn run(seed: u64, time: Duration, clients: usize, rate: u32) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let mut mask = SigSet::empty();
    mask.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    mask.thread_block().context("blocking signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).context("taking signals")?;
    let path = std::env::temp_dir().join(format!("bpfdev-soak-{}", std::process::id()));
    std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
    let place = Place(path.clone());
    let board_file = path.join("board");
    let board = Arc::new(Board::make(&board_file, clients).context("making the board")?);
    let ground = Ground::new(&board, seed, rate)?;
    let (dir, log) = (path.join("dev"), path.join("log"));
    let daemon = Daemon::start(&dir, &log)?;
    let rejected_count = begin(&ground, &board, &dir)?;
    let base = settled_holds(&daemon)?;
    let mut soak = Soak {
        crowd: Crowd::new(clients, dir.clone(), board_file, rejected_count),
        board,
        ground,
        daemon: Some(daemon),
        base,
        dir,
        log,
        signals,
        rng: Lcg(seed),
        wrong: Vec::new(),
        disturbances: BTreeMap::new(),
        daemons: BTreeMap::new(),
        memory: None,
        holds: None,
        interrupted: false,
        _place: place,
    };
    let rounds = soak.course(begun + time)?;
    soak.finish()?;
    let sent = (0..WIRES).map(|wire| soak.board.sent(wire)).sum::<Result<u64, _>>()?;
    let mut wrong = soak.wrong;
    wrong.append(&mut soak.crowd.wrong);
    soak.ground.end()?;
    Ok(Report {
        seed,
        time: begun.elapsed(),
        interrupted: soak.interrupted,
        rounds,
        deeds: soak.crowd.deeds,
        figures: std::mem::take(&mut soak.crowd.figures),
        sent,
        disturbances: soak.disturbances,
        daemons: soak.daemons,
        memory: soak.memory,
        holds: soak.holds,
        wrong,
    })
}

/// The first client: whether packets that the filter rejects are counted, which takes a filter in the kernel as eBPF or one in
/// the daemon.
fn begin(ground: &Ground, board: &Board, dir: &Path) -> anyhow::Result<bool> {
    let said = |errno: Errno| anyhow::anyhow!("the device's first client: {errno}");
    let file = DeviceFile::open_in(dir, &LINUX, Access::ReadWrite)?;
    let reject = FilterSource::new(&[Insn::stmt(0x06, 0)]);
    file.ioctl(&Request::SetF(reject)).map_err(said)?;
    let set = || file.ioctl(&Request::SetIf(NEAR[0].into()));
    ground.near.enter(set)?.map_err(said)?;
    let before = board.sent(0)?;
    ground.send(true);
    let end = Instant::now() + SOON;
    while board.sent(0)? == before {
        ensure!(Instant::now() < end, "nothing is sent");
        std::thread::sleep(Duration::from_millis(10));
    }
    ground.send(false);
    std::thread::sleep(Duration::from_millis(300));
    match file.ioctl(&Request::GStats).map_err(said)? {
        Response::Stats { recv, .. } => Ok(recv > 0),
        other => bail!("BIOCGSTATS answers {other:?}"),
    }
}

/// What a daemon holds when nothing of it changes any more.
fn settled_holds(daemon: &Daemon) -> anyhow::Result<Holds> {
    let end = Instant::now() + SOON;
    let mut holds = daemon.holds()?;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        let now = daemon.holds()?;
        if (&now.fds, now.threads) != (&holds.fds, holds.threads) {
            since = Instant::now();
        }
        holds = now;
    }
    Ok(holds)
}

impl Soak {
    /// Rounds until it is time, the two ends of a daemon among them; the number of rounds.
    fn course(&mut self, end: Instant) -> anyhow::Result<u64> {
        let mut rounds = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now()).saturating_sub(ENDS);
            if left < LOAD || self.interrupted {
                break;
            }
            self.load(left.min(ROUND))?;
            self.settle()?;
            rounds += 1;
            self.say(rounds);
            if !self.wrong.is_empty() || !self.crowd.wrong.is_empty() {
                // what comes after the first may only follow from it
                return Ok(rounds);
            }
        }
        if !self.interrupted {
            self.end_daemon("SIGTERM")?;
            self.end_daemon("SIGKILL")?;
            self.load(LOAD)?;
            self.settle()?;
            rounds += 1;
        }
        Ok(rounds)
    }

    /// How it goes, for who waits.
    fn say(&self, round: u64) {
        let (figures, (_, memory)) = (&self.crowd.figures, self.memory.unwrap_or_default());
        let exact = figures.exact;
        eprintln!("round {round}: {} read, {exact} accounts exact so far; idle {memory} KiB", figures.read);
    }

    /// Clients and disturbances for so long, or until a signal comes.
    fn load(&mut self, time: Duration) -> anyhow::Result<()> {
        self.board.set_phase(Phase::Run)?;
        self.ground.send(true);
        let end = Instant::now() + time;
        let mut disturbed: Option<(Disturbance, Instant)> = None;
        while Instant::now() < end && !self.interrupted {
            self.crowd.fill(&self.ground.near, &mut self.rng)?;
            self.crowd.look()?;
            if self.rng.once_in(8) {
                self.crowd.harm(&mut self.rng);
            }
            match disturbed {
                Some((what, at)) if at <= Instant::now() => {
                    self.ground.restore(what).with_context(|| format!("after {}", what.name()))?;
                    disturbed = None;
                }
                None if self.rng.once_in(24) => {
                    let what = self.rng.pick(&Disturbance::ALL);
                    self.ground.disturb(what).with_context(|| what.name())?;
                    *self.disturbances.entry(what.name()).or_default() += 1;
                    let millis = 50 + self.rng.below(800);
                    disturbed = Some((what, Instant::now() + Duration::from_millis(millis.into())));
                }
                _ => {}
            }
            if let Some(daemon) = &mut self.daemon
                && let Some(status) = daemon.ended()?
            {
                bail!("the daemon has ended by itself: {status}; {}", self.complaints()?.join("; "));
            }
            self.tick()?;
        }
        if let Some((what, _)) = disturbed {
            self.ground.restore(what)?;
        }
        Ok(())
    }

    /// Waits a little; a signal ends the soak.
    fn tick(&mut self) -> anyhow::Result<()> {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
        if poll(&mut fds, timeout).unwrap_or(0) > 0 {
            let _ = self.signals.read_signal(); // whichever it is
            self.interrupted = true;
        }
        Ok(())
    }

    /// The senders rest, everybody gives an account and goes, and the daemon is looked at.
    fn settle(&mut self) -> anyhow::Result<()> {
        self.ground.send(false);
        // a writer may be stopped, or not have been run, between its look at the board and its write(2): only when the last
        // has ended nothing more comes
        self.board.set_phase(Phase::Rest)?;
        self.crowd.only_captures()?;
        self.ground.arrived()?;
        for wire in 0..WIRES {
            self.board.set_lost(wire, self.ground.lost(wire)?)?;
        }
        self.board.set_phase(Phase::Settle)?;
        self.crowd.leave()?;
        for wire in self.ground.stuck() {
            self.wrong.push(format!("of the soak itself: {wire} could not send"));
        }
        self.look_for_leaks()
    }

    fn look_for_leaks(&mut self) -> anyhow::Result<()> {
        let Some(daemon) = &self.daemon else { return Ok(()) };
        let end = Instant::now() + SOON;
        let holds = loop {
            let holds = daemon.holds()?;
            let sockets = self.ground.packet_sockets()?;
            let promiscuity = self.ground.promiscuity()?;
            let mounts = Daemon::mounts(&self.dir)?;
            let what = if holds.fds.len() > self.base.fds.len() {
                let more = holds.fds.iter().filter(|kind| !self.base.fds.contains(kind)).collect::<Vec<_>>();
                format!("{} descriptors, {} at first: {more:?}", holds.fds.len(), self.base.fds.len())
            } else if holds.threads > self.base.threads {
                format!("{} threads, {} at first", holds.threads, self.base.threads)
            } else if holds.children > 0 {
                format!("{} child processes", holds.children)
            } else if sockets > 0 {
                format!("{sockets} packet sockets")
            } else if promiscuity > 0 {
                format!("{promiscuity} times promiscuous")
            } else if mounts != 1 {
                format!("{mounts} mounts")
            } else {
                break holds;
            };
            if Instant::now() > end {
                self.wrong.push(format!("left over by clients that are gone: {what}"));
                break holds;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let (first, _) = *self.memory.get_or_insert((holds.memory, holds.memory));
        self.memory = Some((first, holds.memory));
        if holds.memory > first + MORE_MEMORY {
            self.wrong.push(format!("idle, the daemon has {} KiB; {first} the first time", holds.memory));
        }
        self.holds = Some((holds.fds.len(), holds.threads));
        let complaints = self.complaints()?;
        self.wrong.extend(complaints);
        Ok(())
    }

    /// What the daemon's log says that must not be.
    fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let log = std::fs::read_to_string(&self.log)?;
        let bad = |line: &&str| line.contains("ERROR") || line.contains("panicked");
        Ok(log.lines().filter(bad).map(|line| format!("the daemon says: {line}")).collect())
    }

    /// Ends the daemon under load, and starts another that must serve at once.
    fn end_daemon(&mut self, how: &'static str) -> anyhow::Result<()> {
        self.load(LOAD)?;
        let Some(daemon) = self.daemon.take() else { return Ok(()) };
        self.board.set_served(Served::Ending)?;
        match how {
            "SIGTERM" => {
                let status = daemon.terminate()?;
                if !status.success() {
                    self.wrong.push(format!("told to end, the daemon ends with {status}"));
                }
                if self.dir.exists() {
                    self.wrong.push("told to end, the daemon leaves the directory it made".to_owned());
                }
            }
            _ => daemon.crash()?,
        }
        *self.daemons.entry(how).or_default() += 1;
        // clients end by themselves: they were told, or are with the next thing they ask for
        self.board.set_phase(Phase::Settle)?;
        self.ground.send(false);
        self.crowd.leave()?;
        let complaints = self.complaints()?;
        self.wrong.extend(complaints);
        let daemon = Daemon::start(&self.dir, &self.log).with_context(|| format!("after {how}"))?;
        begin(&self.ground, &self.board, &self.dir).with_context(|| format!("after {how}"))?;
        if Daemon::mounts(&self.dir)? != 1 {
            self.wrong.push(format!("after {how} and a new daemon: {} mounts", Daemon::mounts(&self.dir)?));
        }
        self.base = settled_holds(&daemon)?;
        self.memory = None;
        self.daemon = Some(daemon);
        self.board.set_served(Served::Yes)?;
        Ok(())
    }

    /// The end: everybody goes, and of the daemon nothing stays.
    fn finish(&mut self) -> anyhow::Result<()> {
        self.settle()?;
        if let Some(daemon) = self.daemon.take() {
            let status = daemon.terminate()?;
            if !status.success() {
                self.wrong.push(format!("in the end the daemon ends with {status}"));
            }
        }
        let complaints = self.complaints()?;
        self.wrong
            .extend(complaints.into_iter().filter(|what| !self.wrong.contains(what)).collect::<Vec<_>>());
        if Daemon::mounts(&self.dir)? != 0 {
            self.wrong.push("the mount is left".to_owned());
        }
        Ok(())
    }
}
