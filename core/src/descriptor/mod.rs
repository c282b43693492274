//! An open descriptor: `struct bpf_d`, without the kernel around it.
//!
//! Packets collect in the *store* buffer. When the next one does not fit, the store becomes the *hold* buffer, the *free*
//! buffer becomes the store, and the reader is woken; read(2) takes the whole hold, which then is free again. With the
//! hold taken and the store full, packets are dropped. Immediate mode and time-outs hand the store over early.
//! Time is an argument: every call that depends on it says when it is.

mod buffer;
mod ioctl;
mod poll;
mod read;
mod write;

use std::time::Duration;

use crate::abi::rules::{DirectionRule, Removal};
use crate::abi::{Abi, Header};
use crate::backend::{Direction, Interface};
use crate::cbpf::Program;
use crate::packet::{Packet, Way};
use crate::time::Moment;

use buffer::Buffers;
pub use ioctl::{Caller, Effect};
pub use poll::{Interest, Ready};
pub use read::{PendingRead, ReadStep};
pub use write::Frame;

/// The select(2) timer: polling starts it where a read time-out is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// Not running (`BPF_IDLE`).
    Idle,
    /// Runs out at this moment (`BPF_WAITING`).
    Waiting(Moment),
    /// Has run out: the next packet, or what is stored, counts as readable (`BPF_TIMED_OUT`).
    TimedOut,
}

/// Packet counters since the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets shown to the filter.
    pub received: u64,
    /// Packets accepted, but without room.
    pub dropped: u64,
    /// Packets accepted, those dropped among them.
    pub captured: u64,
}

/// What a descriptor is attached to.
#[derive(Clone, Debug)]
struct Attachment {
    interface: Interface,
    /// Length of the record header for this link type.
    hdrlen: usize,
    promiscuous: bool,
}

/// One open descriptor.
#[derive(Debug)]
#[doc(alias = "bpf_d")]
pub struct Descriptor {
    abi: &'static Abi,
    ilp32: bool,
    bufsize: usize,
    buffers: Buffers,
    immediate: bool,
    /// Read time-out in ticks of the dialect; 0 waits for ever.
    timeout_ticks: u64,
    hdrcmplt: bool,
    /// As it was set; [`Descriptor::direction`] is what it means.
    direction_value: u32,
    feedback: u32,
    locked: bool,
    signal: u32,
    owner: i32,
    asynchronous: bool,
    nonblocking: bool,
    read_filter: Option<Program>,
    write_filter: Option<Program>,
    attachment: Option<Attachment>,
    counters: Counters,
    timer: Timer,
    wakeups: u64,
}

/// SIGIO's number on Linux and on the BSDs differs; this is Linux's, which the caller's header has.
const SIGIO: u32 = 29;

impl Descriptor {
    /// A descriptor as open(2) leaves it.
    pub fn new(abi: &'static Abi) -> Descriptor {
        Descriptor {
            abi,
            ilp32: false,
            bufsize: abi.rules.bufsize as usize,
            buffers: Buffers::default(),
            immediate: false,
            timeout_ticks: 0,
            hdrcmplt: false,
            direction_value: 1,
            feedback: 0,
            locked: false,
            signal: SIGIO,
            owner: 0,
            asynchronous: false,
            nonblocking: false,
            read_filter: None,
            write_filter: None,
            attachment: None,
            counters: Counters::default(),
            timer: Timer::Idle,
            wakeups: 0,
        }
    }

    /// The dialect it speaks.
    pub fn abi(&self) -> &'static Abi {
        self.abi
    }

    /// The interface it is attached to.
    pub fn interface(&self) -> Option<&Interface> {
        self.attachment.as_ref().map(|attachment| &attachment.interface)
    }

    /// Size of a buffer in bytes: what read(2) must ask for.
    pub fn bufsize(&self) -> usize {
        self.bufsize
    }

    /// The read filter; `None` accepts all.
    pub fn read_filter(&self) -> Option<&Program> {
        self.read_filter.as_ref()
    }

    /// Counters since the last reset.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How often readers were woken since open(2). When it grows, sleeping reads and polls must be looked at again.
    pub fn wakeups(&self) -> u64 {
        self.wakeups
    }

    /// Which packets are wanted.
    pub fn direction(&self) -> Direction {
        match (self.abi.rules.direction, self.direction_value) {
            (_, 0) => Direction::In,
            (DirectionRule::InInoutOut, 2) => Direction::Out,
            _ => Direction::InOut,
        }
    }

    fn header(&self) -> &'static Header {
        self.abi.header_for(self.ilp32)
    }

    /// The read time-out; `None` waits for ever.
    fn timeout(&self) -> Option<Duration> {
        let ticks = self.timeout_ticks;
        let tick = self.abi.rules.timeout.tick.as_nanos();
        (ticks > 0).then(|| {
            let nanos = u128::from(ticks).saturating_mul(tick);
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        })
    }

    /// bpf_wakeup: sleeping readers and polls are to be looked at again.
    fn wake(&mut self) {
        self.wakeups = self.wakeups.wrapping_add(1);
    }

    /// Takes in one packet from the tap: catchpacket. Call in order of arrival.
    pub fn catch_packet(&mut self, packet: &Packet<'_>) {
        let Some(attachment) = &self.attachment else { return };
        let way = if attachment.interface.loopback { self.abi.rules.loopback_way } else { packet.way };
        if !self.direction().wants(way) {
            return;
        }
        let hdrlen = attachment.hdrlen;
        if matches!(self.timer, Timer::Waiting(_)) {
            self.advance(packet.arrival);
        }
        self.counters.received += 1;
        let snaplen = match (packet.verdict, &self.read_filter) {
            (Some(verdict), _) => verdict,
            (None, Some(filter)) => filter.run(packet.data, packet.wirelen),
            (None, None) => u32::MAX,
        };
        if snaplen == 0 {
            return;
        }
        self.counters.captured += 1;
        let caplen = (snaplen as usize).min(packet.data.len()).min(self.bufsize.saturating_sub(hdrlen));
        let header = self.header();
        let total = (hdrlen + caplen).min(self.bufsize);
        let mut wake = false;
        let mut start = header.align(self.buffers.store.len());
        if start + total > self.bufsize {
            if !self.buffers.rotate() {
                self.counters.dropped += 1;
                return;
            }
            wake = true;
            start = 0;
        } else if self.immediate || self.timer == Timer::TimedOut {
            wake = true;
        }
        self.buffers.append(header, start, hdrlen, packet, caplen, self.bufsize);
        if wake {
            self.wake();
        }
    }

    /// Adds packets the backend lost for want of room: shown to the filter, accepted, dropped.
    pub fn count_lost(&mut self, packets: u64) {
        self.counters.received += packets;
        self.counters.captured += packets;
        self.counters.dropped += packets;
    }

    /// Adds packets the backend's filter rejected: shown to the filter.
    pub fn count_rejected(&mut self, packets: u64) {
        self.counters.received += packets;
    }

    /// The interface is attached: reset_d, and packets count from now on.
    pub fn attach(&mut self, interface: Interface, promiscuous: bool) {
        let hdrlen = self.header().hdrlen(interface.linktype.header_len());
        self.attachment = Some(Attachment { interface, hdrlen, promiscuous });
        self.buffers.allocate(self.bufsize);
        self.reset();
    }

    /// The interface was removed: bpfdetach.
    pub fn interface_gone(&mut self) {
        if self.attachment.take().is_some() && self.abi.rules.removal == Removal::Wakes {
            self.wake();
        }
    }

    /// Drops what is buffered and zeroes the counters: reset_d.
    fn reset(&mut self) {
        self.buffers.clear();
        self.counters = Counters::default();
    }

    /// A packet of any length would be taken, by rotating if need be.
    pub fn has_room(&self) -> bool {
        !self.buffers.has_hold()
    }

    /// Bytes buffered: FIONREAD.
    pub fn readable_bytes(&self) -> usize {
        self.buffers.stored() + self.buffers.held()
    }

    /// The least a record takes beside its packet, in bytes.
    pub fn record_overhead(&self) -> usize {
        self.header().hdrlen(14)
    }

    /// Moves time on: the select timer may run out.
    pub fn advance(&mut self, now: Moment) {
        if let Timer::Waiting(deadline) = self.timer
            && deadline <= now
        {
            self.timer = Timer::TimedOut;
            if self.buffers.stored() > 0 {
                self.wake();
            }
        }
    }

    /// When [`Descriptor::advance`] must be called next.
    pub fn next_event(&self) -> Option<Moment> {
        match self.timer {
            Timer::Waiting(deadline) => Some(deadline),
            Timer::Idle | Timer::TimedOut => None,
        }
    }

    /// The next packet wakes a sleeper (immediate mode, or the timer has run out); else only a full buffer does.
    pub fn wakes_on_packet(&self) -> bool {
        self.immediate || self.timer == Timer::TimedOut
    }

    /// The way this descriptor counts a packet of a loopback interface as.
    pub fn loopback_way(&self) -> Way {
        self.abi.rules.loopback_way
    }
}
