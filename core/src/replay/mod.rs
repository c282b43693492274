//! A capture file as a network: its packets arrive at one interface, at their own pace or as fast as they are read.

mod pcap;
mod pcapng;
mod reader;

use std::io::{self, BufReader};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{
    Arrivals, Batch, Capabilities, Direction, FilterBackend, InProcess, Inject, Interface, LinkState,
    Network, PacketSource, Plan, Queued, Stats, TapConfig, TapError, Waiter,
};
use crate::cbpf::Program;
use crate::packet::{Packet, Way};
use crate::time::{Clock, Moment, Timestamp};

pub use reader::{Reader, Record};

/// How fast a file is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// With the gaps it was recorded with.
    Recorded,
    /// As fast as it is read: nothing is dropped.
    AsRead,
}

/// The interface a file is played on, unless another name is asked for.
pub const INTERFACE: &str = "replay0";

/// A capture file (pcap, or pcapng) as a [`Network`] with one interface. Each tap plays it from its beginning.
pub struct Replay {
    path: PathBuf,
    name: String,
    pace: Pace,
    clock: Arc<dyn Clock>,
}

impl Replay {
    /// A network with the interface [`INTERFACE`], on which `path` is played.
    pub fn new(path: &Path, pace: Pace, clock: Arc<dyn Clock>) -> Replay {
        Replay { path: path.to_owned(), name: INTERFACE.to_owned(), pace, clock }
    }

    /// The same with another interface name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Replay {
        self.name = name.to_owned();
        self
    }
}

impl Network for Replay {
    fn attach(&self, name: &str, config: &TapConfig) -> Result<Box<dyn FilterBackend>, TapError> {
        if name != self.name {
            return Err(TapError::NoSuchInterface(name.to_owned()));
        }
        let what = || format!("reading the capture file {}", self.path.display());
        let file = std::fs::File::open(&self.path).map_err(|error| TapError::io(what(), error))?;
        let mut reader =
            Reader::new(Box::new(BufReader::new(file))).map_err(|error| TapError::io(what(), error))?;
        let next = reader.next_record().map_err(|error| TapError::io(what(), error))?;
        let linktype = reader.linktype();
        Ok(Box::new(ReplayTap {
            interface: Interface {
                name: self.name.clone(),
                index: 1,
                network: 0,
                linktype,
                linktypes: vec![linktype],
                loopback: false,
                address: Vec::new(),
            },
            pace: self.pace,
            clock: Arc::clone(&self.clock),
            started: self.clock.now(),
            first: next.as_ref().map(|record| record.timestamp),
            reader,
            next,
            lent: Record::default(),
            received: 0,
            plan: if config.filter.is_some() { Plan::Process } else { Plan::AcceptAll },
            judge: InProcess::new(config),
            path: self.path.clone(),
            damage: None,
        }))
    }

    /// Each tap reads the file for itself: none knows of another.
    fn attached(&self, name: &str) -> Result<u32, TapError> {
        if name == self.name { Ok(0) } else { Err(TapError::NoSuchInterface(name.to_owned())) }
    }
}

struct ReplayTap {
    interface: Interface,
    pace: Pace,
    clock: Arc<dyn Clock>,
    started: Moment,
    first: Option<Timestamp>,
    reader: Reader,
    next: Option<Record>,
    lent: Record,
    received: u64,
    plan: Plan,
    judge: InProcess,
    path: PathBuf,
    /// Why there is no next packet, where it is not the file's end. Told once the packets before are taken.
    damage: Option<io::Error>,
}

impl ReplayTap {
    /// When a packet stamped so arrives; `None` for one that is there whenever it is asked for.
    fn due(&self, timestamp: Timestamp) -> Option<Moment> {
        let first = self.first.filter(|_| self.pace == Pace::Recorded)?;
        let gap = timestamp.as_nanos().saturating_sub(first.as_nanos()).max(0);
        Some(self.started + Duration::from_nanos(u64::try_from(gap).unwrap_or(u64::MAX)))
    }

    /// What ended the file, if that was not its end.
    fn check(&self) -> Result<(), TapError> {
        match &self.damage {
            Some(error) if self.next.is_none() => {
                let same = io::Error::new(error.kind(), error.to_string());
                Err(TapError::io(format!("reading the capture file {}", self.path.display()), same))
            }
            _ => Ok(()),
        }
    }
}

impl PacketSource for ReplayTap {
    fn next_packet(&mut self) -> Option<Packet<'_>> {
        let (arrival, verdict) = loop {
            let arrival = self.advance()?;
            let verdict = self.judge.verdict(&self.lent.packet(arrival), false);
            if verdict != Some(0) {
                break (arrival, verdict);
            }
        };
        let packet = self.lent.packet(arrival);
        let data = verdict.map_or(packet.data, |n| &packet.data[..packet.data.len().min(n as usize)]);
        Some(Packet { data, verdict, ..packet })
    }

    fn finish(&mut self) {}
}

impl Record {
    fn packet(&self, arrival: Moment) -> Packet<'_> {
        let Record { timestamp, wirelen, data } = self;
        let (timestamp, wirelen) = (*timestamp, *wirelen);
        Packet { timestamp, arrival, way: Way::In, wirelen, data, verdict: None }
    }
}

impl ReplayTap {
    /// Takes the next packet, if it has arrived; when.
    fn advance(&mut self) -> Option<Moment> {
        let now = self.clock.now();
        let arrival = match self.due(self.next.as_ref()?.timestamp) {
            Some(due) if due > now => return None,
            Some(due) => due,
            None => now,
        };
        self.lent = self.next.take()?;
        self.next = match self.reader.next_record() {
            Ok(next) => next,
            Err(error) => {
                self.damage = Some(error);
                None
            }
        };
        self.received += 1;
        Some(arrival)
    }
}

impl FilterBackend for ReplayTap {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn interface(&self) -> &Interface {
        &self.interface
    }

    fn link_state(&mut self) -> Result<LinkState, TapError> {
        Ok(LinkState { up: true, mtu: 65_535 })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keep_queued: true,
            counts_received: true,
            nanoseconds: true,
            on_demand: self.pace == Pace::AsRead,
            ..Capabilities::default()
        }
    }

    fn plan(&self) -> Plan {
        self.plan
    }

    fn set_filter(&mut self, program: Option<&Program>, _: Queued) -> Result<Plan, TapError> {
        self.judge.set_filter(program);
        self.plan = if program.is_some() { Plan::Process } else { Plan::AcceptAll };
        Ok(self.plan)
    }

    fn lock_filter(&mut self) -> Result<(), TapError> {
        Err(TapError::Unsupported("locking the filter"))
    }

    fn set_direction(&mut self, direction: Direction) -> Result<(), TapError> {
        self.judge.set_direction(direction);
        Ok(())
    }

    fn set_promiscuous(&mut self, _: bool) -> Result<(), TapError> {
        Ok(())
    }

    fn arrivals(&mut self) -> Result<Arrivals, TapError> {
        self.check()?;
        let Some(next) = &self.next else { return Ok(Arrivals::Ended) };
        let now = self.clock.now();
        let ready = self.due(next.timestamp).is_none_or(|due| due <= now);
        Ok(if ready { Arrivals::Ready } else { Arrivals::NotYet })
    }

    fn try_batch(&mut self) -> Result<Batch<'_>, TapError> {
        self.check()?;
        Ok(Batch::new(self))
    }

    fn injector(&self) -> Result<Box<dyn Inject>, TapError> {
        Err(TapError::Unsupported("sending"))
    }

    fn stats(&mut self) -> Result<Stats, TapError> {
        Ok(Stats { received: Some(self.received), ..Stats::default() })
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn waiter(&self) -> Result<Arc<dyn Waiter>, TapError> {
        Ok(Arc::new(ReplayWaiter))
    }
}

/// Looks again soon: a file's next packet is due by the clock, not by an event.
struct ReplayWaiter;

impl Waiter for ReplayWaiter {
    fn wait(&self, timeout: Option<Duration>) {
        let soon = Duration::from_millis(1);
        std::thread::sleep(timeout.map_or(soon, |timeout| timeout.min(soon)));
    }

    fn wake(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi;
    use crate::abi::Request;
    use crate::file::{Access, BpfFile, EmulatedFile};
    use crate::time::SimulatedClock;
    use pcap_file::pcap::{PcapPacket, PcapWriter};

    /// A file of `count` frames of 60 bytes, 100 ms apart, byte 0 their number.
    fn capture(name: &str, count: u8) -> PathBuf {
        let path = std::env::temp_dir().join(format!("bpfdev-replay-{}-{name}.pcap", std::process::id()));
        let mut writer = PcapWriter::new(std::fs::File::create(&path).expect("a file")).expect("a header");
        for i in 0..count {
            let stamp = Duration::from_millis(1_000_000 + 100 * u64::from(i));
            writer.write_packet(&PcapPacket::new(stamp, 60, &[i; 60])).expect("a packet");
        }
        path
    }

    #[test]
    fn at_its_own_pace_packets_come_when_they_came() {
        let path = capture("pace", 5);
        let clock = Arc::new(SimulatedClock::new());
        let network = Arc::new(Replay::new(&path, Pace::Recorded, clock.clone()));
        let file = EmulatedFile::open(&abi::netbsd::NETBSD, Access::ReadWrite, network, clock.clone());
        file.ioctl(&Request::SetIf(INTERFACE.into())).expect("attaches");
        for (ms, frames) in [(0, 1), (99, 1), (100, 2), (350, 4), (10_000, 5)] {
            clock.advance_to(Moment::from_nanos(ms * 1_000_000));
            let counters = file.with(|file, _| file.counters());
            assert_eq!(counters.received, frames, "after {ms} ms");
        }
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn as_it_is_read_nothing_is_dropped() {
        let path = capture("fast", 250);
        let clock = Arc::new(SimulatedClock::new());
        let network = Arc::new(Replay::new(&path, Pace::AsRead, clock.clone()));
        let file = EmulatedFile::open(&abi::freebsd::FREEBSD, Access::Read, network, clock);
        file.ioctl(&Request::SetIf(INTERFACE.into())).expect("attaches");
        file.set_nonblocking(true).expect("non-blocking");
        let mut buf = vec![0; 4096];
        let mut next = 0;
        while let Ok(n) = file.read(&mut buf) {
            for record in buf[..n].chunks(88) {
                assert_eq!(record[26], next, "in order, none missing");
                next += 1;
            }
        }
        assert_eq!(next, 250);
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn what_is_no_capture_file_is_refused_with_its_name() {
        let clock = Arc::new(SimulatedClock::new());
        let replay = Replay::new(Path::new("/proc/self/status"), Pace::AsRead, clock);
        let config = abi::freebsd::FREEBSD.tap_config(4096);
        let Err(error) = replay.attach(INTERFACE, &config) else { panic!("attached to a text file") };
        assert!(error.to_string().contains("/proc/self/status"), "{error}");
    }
}
