//! An open descriptor: `struct bpf_d`, without the kernel around it.
//!
//! Packets collect in the *store* buffer. When the next one does not fit, the store becomes the *hold* buffer, the *free*
//! buffer becomes the store, and the reader is woken; read(2) takes the whole hold, which then is free again. With the
//! hold taken and the store full, packets are dropped. Immediate mode and time-outs hand the store over early.
//! Time is an argument: every call that depends on it says when it is.

mod buffer;
mod flags;
mod ioctl;
mod poll;
mod read;
mod status;
mod write;

use std::time::Duration;

use crate::abi::hdr::Record;
use crate::abi::rules::{DirectionRule, ImmediateRule, Removal};
use crate::abi::{Abi, Flag, Header, Stamp};
use crate::backend::{Direction, Interface};
use crate::cbpf::Program;
use crate::errno::Errno;
use crate::packet::Packet;
use crate::time::{Moment, Timestamp};

use buffer::Buffers;
use flags::Flags;
pub use ioctl::{Caller, Effect};
pub use poll::{Interest, Ready};
pub use read::{PendingRead, ReadStep};
pub use status::Status;
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
    promiscuous: bool,
}

/// Where a descriptor stands with its interface.
#[derive(Clone, Debug)]
enum Place {
    /// BIOCSETIF has not been issued, or the interface was removed.
    Nowhere,
    /// Attached.
    On(Attachment),
    /// The interface was removed, and the file is of no use any more.
    Revoked,
}

/// How a descriptor was opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opened {
    /// O_WRONLY.
    pub write_only: bool,
    /// What BIOCGETUUID tells.
    pub uuid: [u8; 16],
}

impl Opened {
    /// With an identity of its own.
    pub fn new(write_only: bool) -> Opened {
        use std::hash::{BuildHasher, RandomState};
        // keys from the system's random numbers, others each time
        let random = || RandomState::new().hash_one(0).to_ne_bytes();
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&random());
        uuid[8..].copy_from_slice(&random());
        // RFC 9562: version 4, variant 1
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Opened { write_only, uuid }
    }
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
    /// OpenBSD's wait time-out; `None` waits for ever. Zero is immediate mode.
    wait_timeout: Option<Duration>,
    /// Read time-out in ticks of the dialect; 0 waits for ever.
    timeout_ticks: u64,
    hdrcmplt: bool,
    /// As it was set; [`Descriptor::direction`] is what it means.
    direction_value: u32,
    /// BIOCSFILDROP's mode.
    filter_drop: u32,
    feedback: u32,
    /// BIOCSTSTAMP's value.
    tstamp: u32,
    vlan_pcp: u32,
    traffic_class: i32,
    /// BIOCSWRITEMAX; 0: the MTU is the limit.
    write_max: u32,
    flags: Flags,
    locked: bool,
    signal: u32,
    owner: i32,
    asynchronous: bool,
    nonblocking: bool,
    read_filter: Option<Program>,
    write_filter: Option<Program>,
    /// bd_writer: so many more filters until packets are seen.
    writer: u8,
    uuid: [u8; 16],
    place: Place,
    counters: Counters,
    timer: Timer,
    wakeups: u64,
}

/// BPF_T_MONOTONIC.
const MONOTONIC: u32 = 0x200;

/// SIGIO's number on Linux and on the BSDs differs; this is Linux's, which the caller's header has.
const SIGIO: u32 = 29;

impl Descriptor {
    /// A descriptor as open(2) leaves it.
    pub fn new(abi: &'static Abi, opened: Opened) -> Descriptor {
        Descriptor {
            abi,
            ilp32: false,
            bufsize: abi.rules.bufsize as usize,
            buffers: Buffers::default(),
            immediate: false,
            wait_timeout: None,
            timeout_ticks: 0,
            hdrcmplt: false,
            direction_value: abi.rules.direction_default,
            filter_drop: 0,
            feedback: 0,
            tstamp: 0,
            vlan_pcp: 0,
            traffic_class: 0,
            write_max: 0,
            flags: Flags::default(),
            locked: false,
            signal: SIGIO,
            owner: 0,
            asynchronous: false,
            nonblocking: false,
            read_filter: None,
            write_filter: None,
            writer: if opened.write_only && abi.rules.write_only_is_writer { 2 } else { 0 },
            uuid: opened.uuid,
            place: Place::Nowhere,
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
        self.attachment().map(|attachment| &attachment.interface)
    }

    fn attachment(&self) -> Option<&Attachment> {
        match &self.place {
            Place::On(attachment) => Some(attachment),
            Place::Nowhere | Place::Revoked => None,
        }
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
        if self.writer > 0 { Direction::None } else { self.wanted_direction() }
    }

    /// What BIOCSDIRECTION or its like has chosen.
    fn wanted_direction(&self) -> Direction {
        let shown = match (self.abi.rules.direction, self.direction_value) {
            (DirectionRule::HideMask, hidden) => !hidden & 3,
            (DirectionRule::ShowMask, shown) => shown & 3,
            (_, 0) => 1,
            (DirectionRule::InInoutOut, 2) => 2,
            (DirectionRule::InInoutOut | DirectionRule::SeeSent, _) => 3,
        };
        match shown {
            0 => Direction::None,
            1 => Direction::In,
            2 => Direction::Out,
            _ => Direction::InOut,
        }
    }

    /// How stamps are laid out, as BIOCSTSTAMP has chosen; `None` where they are zero (BPF_T_NONE, BIOCSNOTSTAMP).
    fn stamp(&self) -> Option<Stamp> {
        match self.tstamp & 3 {
            _ if self.flags.is_set(Flag::NoTimestamp) => None,
            0 => Some(self.abi.header_for(self.ilp32).stamp),
            1 => Some(Stamp::Nano64),
            2 => Some(Stamp::Bin64),
            _ => None,
        }
    }

    /// The header of the next record.
    fn header(&self) -> Header {
        match self.abi.extended {
            Some(extended) if self.flags.is_set(Flag::ExtendedHeader) => return extended,
            _ => {}
        }
        let header = *self.abi.header_for(self.ilp32);
        match self.stamp() {
            Some(stamp) if stamp != header.stamp => header.stamped(stamp),
            _ => header,
        }
    }

    /// The time stamp of a packet's record: the time of day, the time since the system was started, or none.
    fn timestamp(&self, packet: &Packet<'_>) -> Timestamp {
        if self.stamp().is_none() {
            Timestamp::default()
        } else if self.tstamp & MONOTONIC == 0 {
            packet.timestamp
        } else {
            let nanos = packet.arrival.as_nanos();
            #[allow(clippy::cast_possible_truncation)] // a rest below 10⁹
            let nsec = (nanos % 1_000_000_000) as u32;
            Timestamp { sec: (nanos / 1_000_000_000).cast_signed(), nsec }
        }
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
        let Some(attachment) = self.attachment() else { return };
        let interface = &attachment.interface;
        let way = if interface.loopback { self.abi.rules.loopback_way } else { packet.way };
        let ifindex = interface.index;
        let link = interface.linktype.header_len();
        if self.writer > 0 {
            return;
        }
        let wanted = self.direction().wants(way);
        if !wanted && !self.abi.rules.counts_hidden {
            return;
        }
        if matches!(self.timer, Timer::Waiting(_)) {
            self.advance(packet.arrival);
        }
        let header = self.header();
        let hdrlen = header.hdrlen(link);
        if self.abi.rules.header_must_fit && self.bufsize < hdrlen {
            return;
        }
        self.counters.received += 1;
        if !wanted {
            return;
        }
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
        let total = (hdrlen + caplen).min(self.bufsize);
        let mut wake = false;
        let mut start = header.align(self.buffers.stored());
        if start + total > self.bufsize {
            if !self.buffers.has_free() && self.flags.is_set(Flag::HeadDrop) {
                self.counters.dropped += self.buffers.held_packets();
                self.buffers.free_hold();
            }
            if !self.buffers.rotate() {
                self.counters.dropped += 1;
                return;
            }
            self.stop_wait();
            wake = true;
            start = 0;
        }
        let record = Record {
            timestamp: self.timestamp(packet),
            caplen: u32::try_from(caplen).unwrap_or(u32::MAX),
            datalen: packet.wirelen,
            way,
            ifindex,
        };
        self.buffers.append(&header, start, hdrlen, &record, &packet.data[..caplen], self.bufsize);
        wake |= match self.abi.rules.immediate {
            ImmediateRule::Flag | ImmediateRule::FirstByte => self.immediate || self.timer == Timer::TimedOut,
            ImmediateRule::WaitTimeout => self.begin_wait(packet.arrival),
        };
        if wake {
            self.wake();
        }
    }

    /// A packet was stored: OpenBSD's wait time-out begins with the first of a buffer. True when it is over at once.
    fn begin_wait(&mut self, now: Moment) -> bool {
        match self.wait_timeout {
            None => false,
            Some(Duration::ZERO) => {
                if self.timer == Timer::Idle {
                    self.timer = Timer::TimedOut;
                }
                true
            }
            Some(timeout) => {
                if self.timer == Timer::Idle {
                    self.timer = Timer::Waiting(now + timeout);
                }
                false
            }
        }
    }

    /// The store is empty again: no packet waits.
    fn stop_wait(&mut self) {
        if self.abi.rules.immediate == ImmediateRule::WaitTimeout {
            self.timer = Timer::Idle;
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

    /// Has the buffers that an interface is attached with.
    ///
    /// # Errors
    /// ENOBUFS when there is not the memory; nothing has changed then.
    pub fn reserve(&mut self) -> Result<(), Errno> {
        if self.buffers.try_allocate(self.bufsize) { Ok(()) } else { Err(Errno::NoBufs) }
    }

    /// The interface is attached: reset_d, and packets count from now on.
    pub fn attach(&mut self, interface: Interface, promiscuous: bool) {
        self.place = Place::On(Attachment { interface, promiscuous });
        self.buffers.allocate(self.bufsize);
        self.reset();
    }

    /// The interface was removed: bpfdetach.
    pub fn interface_gone(&mut self) {
        if self.attachment().is_none() {
            return;
        }
        match self.abi.rules.removal {
            Removal::Silent => self.place = Place::Nowhere,
            Removal::Wakes => {
                self.place = Place::Nowhere;
                self.wake();
            }
            Removal::Revokes => {
                self.place = Place::Revoked;
                self.wake();
            }
        }
    }

    /// Drops what is buffered and zeroes the counters: reset_d.
    fn reset(&mut self) {
        self.buffers.clear();
        self.counters = Counters::default();
        self.stop_wait();
    }

    /// A packet of any length would be taken, by rotating or by dropping the hold if need be.
    pub fn has_room(&self) -> bool {
        !self.buffers.has_hold() || self.flags.is_set(Flag::HeadDrop)
    }

    /// Bytes buffered: FIONREAD.
    pub fn readable_bytes(&self) -> usize {
        let held = if self.abi.rules.fionread_counts_hold { self.buffers.held() } else { 0 };
        self.buffers.stored() + held
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
            // bpf_timed_out; OpenBSD's timer runs only while something is stored
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
        match self.abi.rules.immediate {
            ImmediateRule::Flag | ImmediateRule::FirstByte => self.immediate || self.timer == Timer::TimedOut,
            // the first packet starts the timer, the others only add to it
            ImmediateRule::WaitTimeout => match self.wait_timeout {
                None => false,
                Some(timeout) => timeout.is_zero() || self.timer == Timer::Idle,
            },
        }
    }

    /// The signal each wake-up sends, and to whom: a process (positive) or a process group (negative). `None`: to nobody.
    pub fn signal(&self) -> Option<(u32, i32)> {
        (self.asynchronous && self.signal != 0 && self.owner != 0).then_some((self.signal, self.owner))
    }

    /// 802.1p priority of written frames.
    pub fn vlan_pcp(&self) -> u32 {
        self.vlan_pcp
    }
}
