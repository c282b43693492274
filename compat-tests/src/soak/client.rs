//! A client: a process of its own, so that it can be killed, stopped and left behind.
//!
//! Everything it does follows from the seed it is given; only when it does it depends on the machine.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bpfdev::DeviceFile;
use bpfdev_core::abi::{self, Abi, Request, Response};
use bpfdev_core::cbpf::builder::BuildError;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile};
use serde::{Deserialize, Serialize};

use super::account::{Account, Begun, Sent, Sieve, Who};
use super::board::{Board, Phase, Served};
use super::capture::{self, Handed};
use super::{BURST, DISTURBED, WIRES, WITH_WRITERS, misuse, write};
use crate::fuzz::random::Lcg;

/// What a client is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Role {
    /// Captures and gives an account of it.
    Capture,
    /// Goes on with a descriptor that is its standard input.
    Inherited(Box<Handed>),
    /// Goes on with a descriptor that comes through a socket, its standard input.
    Received,
    /// Writes frames.
    Write,
    /// Opens, sets, resets and closes.
    Churn,
    /// Asks for what is not there, with pointers that lead nowhere.
    Misuse,
}

/// What a client is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Where the device is.
    pub dir: PathBuf,
    /// The board's file.
    pub board: PathBuf,
    /// Its place among the clients.
    pub seat: usize,
    /// What everything follows from.
    pub seed: u64,
    /// What it is for.
    pub role: Role,
    /// BIOCGSTATS counts what the filter rejects.
    pub rejected_count: bool,
}

/// Numbers a client tells.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// open(2) that succeeded.
    pub opened: u64,
    /// Requests answered, refusals among them.
    pub requests: u64,
    /// Frames read.
    pub read: u64,
    /// Frames dropped, of accounts that were settled.
    pub dropped: u64,
    /// Frames written.
    pub written: u64,
    /// Accounts that were to be exact, and were.
    pub exact: u64,
    /// Descriptors passed to another process.
    pub passed: u64,
    /// Refusals by their names.
    pub refused: BTreeMap<String, u64>,
    /// What clients got when the daemon ended, by its name.
    pub ended: BTreeMap<String, u64>,
}

impl Figures {
    /// Adds another's.
    pub fn add(&mut self, other: Figures) {
        self.opened += other.opened;
        self.requests += other.requests;
        self.read += other.read;
        self.dropped += other.dropped;
        self.written += other.written;
        self.exact += other.exact;
        self.passed += other.passed;
        for (sum, more) in [(&mut self.refused, other.refused), (&mut self.ended, other.ended)] {
            for (name, count) in more {
                *sum.entry(name).or_default() += count;
            }
        }
    }
}

/// A line that a client says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Word {
    /// It is there: its process. A descriptor's heir says so too.
    Born(u32),
    /// What it did since the last time, once a second at least.
    Did(Figures),
    /// Something that must not be.
    Wrong(String),
}

/// Why a client ends.
#[derive(Debug)]
pub enum Stop {
    /// The daemon is being ended, and said so.
    Gone,
    /// Its interface is gone, as it may.
    Unplugged,
    /// Something that must not be.
    Wrong(String),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        Stop::Wrong(format!("of the soak itself: {error}"))
    }
}

impl From<BuildError> for Stop {
    fn from(error: BuildError) -> Stop {
        Stop::Wrong(format!("of the soak itself: {error}"))
    }
}

/// How often a client is heard.
const BEAT: Duration = Duration::from_secs(1);

/// A client at work.
#[derive(Debug)]
pub struct Me {
    /// What it was told.
    pub part: Part,
    /// What is known to all.
    pub board: Board,
    /// What it does follows from this.
    pub rng: Lcg,
    /// What it did since it said so.
    pub figures: Figures,
    said: Instant,
}

/// Plays the part that `words` tells.
///
/// # Errors
/// It is none, or the board is gone.
pub fn run(words: &str) -> anyhow::Result<ExitCode> {
    let part: Part = serde_json::from_str(words)?;
    let board = Board::open(&part.board)?;
    let rng = Lcg(part.seed);
    let mut me = Me { part, board, rng, figures: Figures::default(), said: Instant::now() };
    me.say(&Word::Born(std::process::id()));
    let role = me.part.role.clone();
    let result = match role {
        Role::Capture => capture::run(&mut me),
        Role::Inherited(handed) => capture::inherited(&mut me, *handed),
        Role::Received => capture::received(&mut me),
        Role::Write => write::run(&mut me),
        Role::Churn => misuse::churn(&mut me),
        Role::Misuse => misuse::run(&mut me),
    };
    me.tell();
    Ok(match result {
        Ok(()) | Err(Stop::Gone | Stop::Unplugged) => ExitCode::SUCCESS,
        Err(Stop::Wrong(what)) => {
            me.say(&Word::Wrong(what));
            ExitCode::FAILURE
        }
    })
}

/// Errors that an interface's removal, moving or being down may mean.
pub const DISTURBANCES: [Errno; 7] =
    [Errno::NxIo, Errno::Io, Errno::BadF, Errno::NetDown, Errno::NoBufs, Errno::MsgSize, Errno::Again];

impl Me {
    /// Says a line. Who nobody listens to ends.
    fn say(&self, word: &Word) {
        let Ok(mut line) = serde_json::to_vec(word) else { return };
        line.push(b'\n');
        // one write(2): a client that is killed does not leave half a line
        if std::io::stdout().lock().write_all(&line).is_err() {
            std::process::exit(1);
        }
    }

    fn tell(&mut self) {
        self.said = Instant::now();
        let figures = std::mem::take(&mut self.figures);
        self.say(&Word::Did(figures));
    }

    /// To be called all the time: says that it lives; what it is to do.
    ///
    /// # Errors
    /// The board's.
    pub fn phase(&mut self) -> Result<Phase, Stop> {
        if self.said.elapsed() >= BEAT {
            self.tell();
        }
        Ok(self.board.phase()?)
    }

    /// Sleeps up to so long, and is heard meanwhile.
    pub fn rest(&mut self, most: Duration) {
        let millis = u32::try_from(most.as_millis()).unwrap_or(1000).clamp(1, 900);
        std::thread::sleep(Duration::from_millis(self.rng.below(millis).into()));
    }

    /// A refusal: one that may be is counted.
    ///
    /// # Errors
    /// [`Stop::Gone`] while the daemon is ended; [`Stop::Wrong`] for one that is not `allowed`.
    pub fn refused(&mut self, what: &str, abi: &Abi, errno: Errno, allowed: &[Errno]) -> Result<(), Stop> {
        const GONE: [Errno; 4] = [Errno::NxIo, Errno::NotConn, Errno::ConnAborted, Errno::NoEnt];
        if GONE.contains(&errno) && self.board.served()? == Served::Ending {
            *self.figures.ended.entry(errno.name().to_owned()).or_default() += 1;
            return Err(Stop::Gone);
        }
        if allowed.contains(&errno) {
            *self.figures.refused.entry(errno.name().to_owned()).or_default() += 1;
            return Ok(());
        }
        Err(Stop::Wrong(format!("{what}, {}: {errno}", abi.name)))
    }

    /// A dialect.
    pub fn abi(&mut self) -> &'static Abi {
        let served = ["linux", "linux", "freebsd", "netbsd", "openbsd", "dragonfly", "macos"];
        let name = self.rng.pick(&served);
        Abi::by_name(name).unwrap_or(&abi::linux::LINUX)
    }

    /// A wire.
    pub fn wire(&mut self) -> usize {
        self.rng.below(WIRES as u32) as usize
    }

    /// Opens a node of this dialect; `None` when all are in use.
    ///
    /// # Errors
    /// Any other refusal.
    pub fn open(&mut self, abi: &'static Abi) -> Result<Option<DeviceFile>, Stop> {
        let dir = if abi.name == "linux" { self.part.dir.clone() } else { self.part.dir.join(abi.name) };
        match DeviceFile::open_in(dir, abi, Access::ReadWrite) {
            Ok(file) => {
                self.figures.opened += 1;
                Ok(Some(file))
            }
            Err(error) => {
                self.refused("open", abi, Errno::from(&error), &[Errno::Busy, Errno::MFile])?;
                Ok(None)
            }
        }
    }

    /// A request; `None` when it was refused as it may be.
    ///
    /// # Errors
    /// Any other refusal.
    pub fn ask(
        &mut self,
        file: &DeviceFile,
        request: &Request,
        allowed: &[Errno],
    ) -> Result<Option<Response>, Stop> {
        self.figures.requests += 1;
        match file.ioctl(request) {
            Ok(response) => Ok(Some(response)),
            Err(errno) => {
                self.refused(&format!("{:?}", request.op()), file.abi(), errno, allowed)?;
                Ok(None)
            }
        }
    }

    /// BIOCSETIF; `false` when the interface is not there, as it may be.
    ///
    /// # Errors
    /// Any other refusal.
    pub fn attach(&mut self, file: &DeviceFile, wire: usize) -> Result<bool, Stop> {
        let allowed = if wire == DISTURBED { &DISTURBANCES[..] } else { &[] };
        let name = super::NEAR[wire].as_bytes().to_vec();
        Ok(self.ask(file, &Request::SetIf(name), allowed)?.is_some())
    }

    /// What a request that begins counting is told to: `begin` issues it.
    ///
    /// # Errors
    /// Those of `begin`, and the board's.
    pub fn counted<R>(
        &mut self,
        wire: usize,
        begin: impl FnOnce(&mut Me) -> Result<R, Stop>,
    ) -> Result<(R, Begun), Stop> {
        // the last of each seat may be on its way
        let written = self.written(wire)?.saturating_sub(self.board.seats() as u64);
        let after = self.board.sent(wire)?.saturating_sub(BURST as u64);
        let result = begin(self)?;
        Ok((result, Begun { after, from: self.board.sent(wire)?, written }))
    }

    /// A filter for this wire.
    pub fn sieve(&mut self, wire: usize) -> Sieve {
        let own = u32::try_from(wire).unwrap_or(0);
        let (who, mask) = match self.rng.below(8) {
            0 => (Who::Everyone, 0),
            1 => (Who::Soak, self.rng.pick(&[0, 1])),
            _ => (Who::Only(own), self.rng.pick(&[0, 1, 3, 7])),
        };
        let value = self.rng.word() & mask;
        Sieve { who, mask, value, snap: self.rng.pick(&[u32::MAX, 2000, 64, 40]) }
    }

    fn written(&self, wire: usize) -> Result<u64, Stop> {
        Ok(if wire == WITH_WRITERS { self.board.written_by_all()? } else { 0 })
    }

    /// What was sent on a wire, now that nothing is.
    ///
    /// # Errors
    /// The board's.
    pub fn sent(&self, wire: usize) -> Result<Sent, Stop> {
        Ok(Sent {
            frames: self.board.sent(wire)?,
            lost: self.board.lost(wire)?,
            written: self.written(wire)?,
        })
    }

    /// An account that begins.
    pub fn account(&self, wire: usize, sieve: Sieve, begun: Begun) -> Account {
        Account::new(u32::try_from(wire).unwrap_or(0), sieve, begun)
    }
}
