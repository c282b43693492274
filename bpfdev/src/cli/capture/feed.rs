//! What packets are captured from: a tap in this process, or a bpf node.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bpfdev_backend_bsd::{DeviceFile, records};
use bpfdev_core::abi::{FilterSource, Request, Response};
use bpfdev_core::backend::{Direction, FilterBackend, Network, Queued, Stats, TapConfig, TapError, Waiter};
use bpfdev_core::cbpf::{self, Program, Rules};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::BpfFile;
use bpfdev_core::linktype::Linktype;
use bpfdev_core::packet::Way;
use bpfdev_core::time::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::stop::Stop;

/// A packet that was captured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub timestamp: Timestamp,
    pub wirelen: u32,
    pub data: &'a [u8],
}

/// What a feed is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    /// Bytes of one buffer.
    pub bufsize: usize,
    pub linktype: Option<Linktype>,
    pub direction: Direction,
    pub promiscuous: bool,
    pub immediate: bool,
}

/// What a drain found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// Packets; there may be more.
    Some,
    /// Nothing: time to wait.
    Nothing,
    /// The end of a file.
    End,
    /// The taker has had enough.
    Enough,
}

/// Packets since the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counters {
    /// Before the filter, where that is counted: else those it accepted.
    pub received: u64,
    pub dropped: u64,
}

/// Takes a packet; false: no more.
pub(super) type Take<'a> = dyn FnMut(&Seen<'_>) -> anyhow::Result<bool> + 'a;

pub(super) trait Feed {
    fn interface(&self) -> &str;
    fn linktype(&self) -> Linktype;
    fn linktypes(&self) -> anyhow::Result<Vec<Linktype>>;
    /// The rules its filter must satisfy.
    fn rules(&self) -> &'static Rules;
    /// It is a file: its packets are all there.
    fn is_file(&self) -> bool {
        false
    }
    /// Captures from now on.
    fn start(&mut self, program: Option<Program>) -> anyhow::Result<()>;
    /// Hands on what is there; does not wait.
    fn drain(&mut self, take: &mut Take<'_>) -> anyhow::Result<Drained>;
    /// Waits until packets may be there, or the stop.
    fn wait(&mut self, stop: &Stop) -> anyhow::Result<()>;
    /// The stop has come: hands on what the device still holds.
    fn last(&mut self, _: &mut Take<'_>) -> anyhow::Result<()> {
        Ok(())
    }
    fn counters(&mut self) -> anyhow::Result<Counters>;
}

/// A tap in this process.
pub(super) struct TapFeed {
    tap: Box<dyn FilterBackend>,
    waiter: Arc<dyn Waiter>,
    program: Option<Program>,
    wishes: Wishes,
    file: bool,
    accepted: u64,
    before: Stats,
}

/// A wait is never longer than this, whatever a waiter may have missed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl TapFeed {
    /// Attaches to `interface` of `network`; `file` tells a played file, which has an end.
    pub fn attach(
        network: &dyn Network,
        interface: &str,
        wishes: Wishes,
        file: bool,
        stop: &Stop,
    ) -> anyhow::Result<TapFeed> {
        let abi = &bpfdev_core::abi::linux::LINUX;
        let config = TapConfig {
            direction: wishes.direction,
            linktype: wishes.linktype,
            ..abi.tap_config(wishes.bufsize)
        };
        let tap = network.attach(interface, &config)?;
        let waiter = tap.waiter()?;
        stop.wakes(Arc::clone(&waiter));
        Ok(TapFeed { tap, waiter, program: None, wishes, file, accepted: 0, before: Stats::default() })
    }
}

impl Feed for TapFeed {
    fn interface(&self) -> &str {
        &self.tap.interface().name
    }

    fn linktype(&self) -> Linktype {
        self.tap.interface().linktype
    }

    fn linktypes(&self) -> anyhow::Result<Vec<Linktype>> {
        Ok(self.tap.interface().linktypes.clone())
    }

    fn rules(&self) -> &'static Rules {
        &cbpf::LINUX_ABI
    }

    fn is_file(&self) -> bool {
        self.file
    }

    fn start(&mut self, program: Option<Program>) -> anyhow::Result<()> {
        if self.wishes.promiscuous {
            self.tap.set_promiscuous(true)?;
        }
        if !self.file {
            // Without a filter too: what came before goes.
            let plan = self.tap.set_filter(program.as_ref(), Queued::Flush)?;
            tracing::info!(plan = plan.name(), "the filter runs");
        }
        self.before = self.tap.stats()?;
        self.program = program;
        Ok(())
    }

    fn drain(&mut self, take: &mut Take<'_>) -> anyhow::Result<Drained> {
        let loopback = self.tap.interface().loopback;
        let mut batch = match self.tap.try_batch() {
            Err(TapError::Gone(name)) => bail!("interface {name} was removed"),
            batch => batch?,
        };
        let mut any = false;
        while let Some(packet) = batch.next() {
            any = true;
            // A loopback packet passes once and counts as received, as on FreeBSD.
            let way = if loopback { Way::In } else { packet.way };
            if !self.wishes.direction.wants(way) {
                continue;
            }
            let verdict = match (packet.verdict, &self.program) {
                (Some(verdict), _) => verdict,
                (None, Some(program)) => program.run(packet.data, packet.wirelen),
                (None, None) => u32::MAX,
            };
            if verdict == 0 {
                continue;
            }
            self.accepted += 1;
            let data = &packet.data[..packet.data.len().min(verdict as usize)];
            if !take(&Seen { timestamp: packet.timestamp, wirelen: packet.wirelen, data })? {
                return Ok(Drained::Enough);
            }
        }
        Ok(match any {
            true => Drained::Some,
            // A played file lends packets until its end.
            false if self.file => Drained::End,
            false => Drained::Nothing,
        })
    }

    fn wait(&mut self, stop: &Stop) -> anyhow::Result<()> {
        if !stop.is_set() {
            self.waiter.wait(Some(LOOK_AGAIN));
        }
        Ok(())
    }

    fn counters(&mut self) -> anyhow::Result<Counters> {
        let now = self.tap.stats()?;
        let dropped = now.dropped.saturating_sub(self.before.dropped);
        let received = match (now.received, self.before.received) {
            (Some(now), before) => now.saturating_sub(before.unwrap_or(0)),
            (None, _) => self.accepted + dropped,
        };
        Ok(Counters { received, dropped })
    }
}

/// A node that speaks bpf(4).
pub(super) struct DeviceFeed {
    file: DeviceFile,
    interface: String,
    linktype: Linktype,
    wishes: Wishes,
    buf: Vec<u8>,
}

/// In batches (not immediate mode) a packet waits at most so long.
const READ_TIMEOUT_US: i64 = 250_000;

impl DeviceFeed {
    /// Binds the open node to `interface`.
    pub fn attach(file: DeviceFile, interface: &str, wishes: Wishes) -> anyhow::Result<DeviceFeed> {
        let bufsize = u32::try_from(wishes.bufsize).unwrap_or(u32::MAX);
        let mut feed = DeviceFeed {
            file,
            interface: interface.to_owned(),
            linktype: Linktype(0),
            wishes,
            buf: Vec::new(),
        };
        feed.ask("BIOCSBLEN", &Request::SBlen(bufsize))?;
        let answer = feed.file.ioctl(&Request::SetIf(interface.as_bytes().to_vec()));
        answer.with_context(|| format!("BIOCSETIF of {interface} on {}", feed.file.path().display()))?;
        if let Some(linktype) = wishes.linktype {
            feed.ask("BIOCSDLT", &Request::SDlt(linktype.0))?;
        }
        feed.linktype = match feed.ask("BIOCGDLT", &Request::GDlt)? {
            Response::U32(linktype) => Linktype(linktype),
            other => bail!("BIOCGDLT answered {other:?}"),
        };
        feed.file.set_nonblocking(true).context("fcntl(O_NONBLOCK)")?;
        feed.buf = feed.file.read_buffer().context("BIOCGBLEN")?;
        Ok(feed)
    }

    fn ask(&self, name: &'static str, request: &Request) -> anyhow::Result<Response> {
        self.file.ioctl(request).with_context(|| format!("{name} on {}", self.file.path().display()))
    }
}

impl Feed for DeviceFeed {
    fn interface(&self) -> &str {
        &self.interface
    }

    fn linktype(&self) -> Linktype {
        self.linktype
    }

    fn linktypes(&self) -> anyhow::Result<Vec<Linktype>> {
        let Response::DltList { count: Some(count), .. } =
            self.ask("BIOCGDLTLIST", &Request::GDltList(None))?
        else {
            bail!("BIOCGDLTLIST told no count");
        };
        match self.ask("BIOCGDLTLIST", &Request::GDltList(Some(count)))? {
            Response::DltList { list, error: None, .. } => Ok(list.into_iter().map(Linktype).collect()),
            other => bail!("BIOCGDLTLIST answered {other:?}"),
        }
    }

    fn rules(&self) -> &'static Rules {
        self.file.abi().filter
    }

    fn start(&mut self, program: Option<Program>) -> anyhow::Result<()> {
        let direction = match self.wishes.direction {
            Direction::In => 0,
            Direction::InOut => 1,
            Direction::Out => 2,
            // the dialect cannot say it, and neither can --direction
            Direction::None => bail!("no dialect takes the direction none here"),
        };
        if self.wishes.direction != Direction::InOut {
            self.ask("BIOCSDIRECTION", &Request::SDirection(direction))?;
        }
        if self.wishes.promiscuous {
            self.ask("BIOCPROMISC", &Request::Promisc)?;
        }
        if self.wishes.immediate {
            self.ask("BIOCIMMEDIATE", &Request::Immediate(1))?;
        } else {
            self.ask("BIOCSRTIMEOUT", &Request::SRTimeout { sec: 0, usec: READ_TIMEOUT_US })?;
        }
        // Last: it drops what came before, and zeroes the counters.
        let source = match &program {
            Some(program) => FilterSource::new(program.insns()),
            None => FilterSource::new(&[]),
        };
        self.ask("BIOCSETF", &Request::SetF(source)).map(drop)
    }

    fn drain(&mut self, take: &mut Take<'_>) -> anyhow::Result<Drained> {
        let n = match self.file.read(&mut self.buf) {
            Ok(0) | Err(Errno::Again | Errno::Intr) => return Ok(Drained::Nothing),
            Err(Errno::NxIo) => bail!("interface {} was removed", self.interface),
            result => result.with_context(|| format!("read of {}", self.file.path().display()))?,
        };
        let whole = self.buf.get(..n).unwrap_or_default();
        let mut walk = records(whole, self.file.header());
        for record in walk.by_ref() {
            let seen = Seen { timestamp: record.timestamp, wirelen: record.wirelen, data: record.data };
            if !take(&seen)? {
                return Ok(Drained::Enough);
            }
        }
        let rest = walk.rest().len();
        anyhow::ensure!(rest == 0, "the last {rest} bytes of a read are no record of this dialect (--abi)");
        Ok(Drained::Some)
    }

    fn wait(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let mut fds = [self.file.as_fd(), stop.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("poll"),
        }
    }

    fn last(&mut self, take: &mut Take<'_>) -> anyhow::Result<()> {
        self.ask("BIOCIMMEDIATE", &Request::Immediate(1))?;
        // The hold and the store buffer.
        for _ in 0..2 {
            if self.drain(take)? != Drained::Some {
                break;
            }
        }
        Ok(())
    }

    fn counters(&mut self) -> anyhow::Result<Counters> {
        match self.ask("BIOCGSTATS", &Request::GStats)? {
            Response::Stats { recv, drop, .. } => Ok(Counters { received: recv, dropped: drop }),
            other => bail!("BIOCGSTATS answered {other:?}"),
        }
    }
}
