//! What must be in a descriptor: the double buffer by the letter of semantics.md 4, counters by 7.

use std::collections::VecDeque;

use bpfdev_core::backend::Direction;
use bpfdev_core::cbpf::Program;
use bpfdev_core::packet::Way;

use super::answers::Answers;
use super::records;
use super::system::{Layout, System, Unattached, link_header};

/// A record that must be delivered.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its number, which is its bh_datalen too.
    pub number: u32,
    layout: Layout,
    hdrlen: usize,
    stamp: (u64, u64),
    data: Vec<u8>,
    /// BPF_F_DIR_IN or BPF_F_DIR_OUT (openbsd), 0 or 1 (macOS's extended header).
    way: Way,
    index: u16,
}

/// The select timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    Idle,
    /// Until this many nanoseconds.
    Waiting(u64),
    TimedOut,
}

/// What it is attached to.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub dlt: u32,
    pub loopback: bool,
    pub index: u16,
    pub name: &'static str,
}

/// A buffer: records, and bytes.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    records: VecDeque<Expected>,
    pub bytes: usize,
}

/// What a packet must do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    pub received: u64,
    pub captured: u64,
    pub dropped: u64,
    /// Sleepers are woken.
    pub wakes: bool,
}

/// How a read must begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    Inval,
    NxIo,
    Io,
    Hold,
    Zero,
    Again,
    Wait,
}

/// A packet as the tap gives it.
#[derive(Clone, Debug)]
pub struct Tapped {
    pub number: u32,
    /// Seconds, nanoseconds: the time of day.
    pub stamp: (u64, u32),
    /// Nanoseconds on the clock that never goes back.
    pub arrival: u64,
    pub way: Way,
    pub data: Vec<u8>,
    pub verdict: Option<u32>,
}

/// The descriptor, as the test sees it.
#[derive(Debug)]
pub struct Model {
    pub system: &'static System,
    pub bufsize: usize,
    pub link: Option<Link>,
    pub ilp32: bool,
    /// macOS: BIOCSEXTHDR.
    pub extended: bool,
    /// macOS: BIOCSHEADDROP.
    pub head_drop: bool,
    /// macOS: BIOCSWRITEMAX.
    pub write_max: u32,
    /// BIOCPROMISC, of the interface that is attached.
    pub promiscuous: bool,
    /// FreeBSD: BIOCSETVLANPCP.
    pub vlan_pcp: u32,
    /// FreeBSD: opened O_WRONLY, so many filters before packets are seen.
    pub writer: u8,
    /// macOS: BIOCSNOTSTAMP.
    pub no_stamp: bool,
    /// FreeBSD: BIOCSTSTAMP.
    pub stamp_format: u32,
    /// OpenBSD: BIOCSFILDROP.
    pub drop_mode: u32,
    /// Which ways are wanted: in, out.
    pub wants: (bool, bool),
    pub filter: Option<Program>,
    pub immediate: bool,
    /// OpenBSD: the wait time-out, nanoseconds; `None` is infinite.
    pub wait: Option<u64>,
    /// The read time-out, nanoseconds; 0 waits for ever. `None`: so long that the systems' limits are near.
    pub timeout: Option<u64>,
    /// What was set and is told again.
    pub answers: Answers,
    pub nonblocking: bool,
    pub locked: bool,
    pub timer: Timer,
    /// An interface was attached once.
    pub has_buffers: bool,
    pub store: Buffer,
    pub hold: Option<Buffer>,
    /// Received, captured, dropped since the last reset.
    pub counters: (u64, u64, u64),
    /// Packets delivered since then.
    pub delivered: u64,
    /// Packets lost with their buffer since then.
    lost: u64,
    /// The last packet that was delivered, ever.
    last: u32,
    /// OpenBSD: the file was revoked.
    pub revoked: bool,
}

impl Model {
    pub fn new(system: &'static System, bufsize: usize) -> Model {
        Model {
            system,
            bufsize,
            link: None,
            ilp32: false,
            extended: false,
            head_drop: false,
            write_max: 0,
            promiscuous: false,
            vlan_pcp: 0,
            writer: 0,
            no_stamp: false,
            stamp_format: 0,
            drop_mode: 0,
            wants: (true, true),
            filter: None,
            immediate: false,
            wait: None,
            timeout: Some(0),
            answers: Answers::defaults(system.name),
            nonblocking: false,
            locked: false,
            timer: Timer::Idle,
            has_buffers: false,
            store: Buffer::default(),
            hold: None,
            counters: (0, 0, 0),
            delivered: 0,
            lost: 0,
            last: 0,
            revoked: false,
        }
    }

    pub fn buffered(&self) -> usize {
        self.store.records.len() + self.hold.as_ref().map_or(0, |hold| hold.records.len())
    }

    pub fn bytes(&self) -> usize {
        self.store.bytes + self.hold.as_ref().map_or(0, |hold| hold.bytes)
    }

    /// reset_d.
    pub fn reset(&mut self) {
        self.store = Buffer::default();
        self.hold = None;
        self.counters = (0, 0, 0);
        (self.delivered, self.lost) = (0, 0);
        self.stop_wait();
    }

    /// FreeBSD's bpf_buffer_ioctl_sblen: new buffers, the counters stay.
    pub fn lose_buffers(&mut self) {
        self.lost += self.buffered() as u64;
        self.store = Buffer::default();
        self.hold = None;
    }

    /// semantics.md 4: OpenBSD's wait time-out runs for the packets in the store only.
    fn stop_wait(&mut self) {
        if !self.system.select_timer {
            self.timer = Timer::Idle;
        }
    }

    /// What is stored counts for a read now; `timed_out`: the select timer had run out when it began.
    pub fn store_counts(&self, timed_out: bool) -> bool {
        if self.system.select_timer { self.immediate || timed_out } else { self.timer == Timer::TimedOut }
    }

    /// BIOCSRTIMEOUT: semantics.md 3, "timeout granularity".
    pub fn set_timeout(&mut self, sec: i64, usec: i64) {
        let (tick, up) = self.system.tick;
        let nanos = u64::try_from(sec).ok().filter(|sec| *sec < 1_000_000).map(|sec| sec * 1_000_000_000);
        self.timeout = nanos.zip(u64::try_from(usec).ok()).map(|(nanos, usec)| {
            let nanos = nanos + usec * 1000;
            let ticks = if up { nanos.div_ceil(tick) } else { (nanos / tick).max(u64::from(nanos > 0)) };
            ticks * tick
        });
    }

    /// The moment a sleep that begins `now` ends by itself, where the test knows it.
    pub fn knows_deadline(&self, now: u64) -> Option<Option<u64>> {
        self.timeout.map(|timeout| (timeout > 0).then_some(now + timeout))
    }

    /// semantics.md 5, "readable when".
    pub fn is_readable(&self) -> bool {
        let store_counts = if self.system.select_timer {
            self.immediate || self.timer == Timer::TimedOut
        } else {
            self.wait == Some(0)
        };
        self.hold.is_some() || store_counts && self.store.bytes > 0
    }

    /// The header the next record has.
    pub fn layout(&self) -> Layout {
        let plain = if self.ilp32 { self.system.ilp32 } else { self.system.lp64 };
        match () {
            // abi.json, macOS bh_hdrlen: bpf_hdr_ext
            () if self.extended => Layout { counted: 64, ..plain },
            // abi.json, FreeBSD bh_hdrlen: bpf_xhdr for the formats 1 (ns) and 2 (bintime)
            () if matches!(self.stamp_format & 3, 1 | 2) => Layout { stamp: 16, counted: 26, ..plain },
            () => plain,
        }
    }

    fn stamp(&self, packet: &Tapped) -> (u64, u64) {
        if self.no_stamp || self.stamp_format & 3 == 3 {
            return (0, 0);
        }
        let (sec, nsec) = if self.stamp_format & 0x200 != 0 {
            (packet.arrival / 1_000_000_000, packet.arrival % 1_000_000_000)
        } else {
            (packet.stamp.0, packet.stamp.1.into())
        };
        match self.stamp_format & 3 {
            1 => (sec, nsec),
            2 => (sec, u64::try_from((u128::from(nsec) << 64) / 1_000_000_000).expect("below a second")),
            _ => (sec, nsec / 1000),
        }
    }

    /// Which packets are wanted.
    pub fn direction(&self) -> Direction {
        match self.wants {
            _ if self.writer > 0 => Direction::None,
            (false, false) => Direction::None,
            (true, false) => Direction::In,
            (false, true) => Direction::Out,
            (true, true) => Direction::InOut,
        }
    }

    /// semantics.md 1, "O_WRONLY": the second filter that only cuts makes a reader, or any that does more.
    pub fn filter_counts_for_a_writer(&mut self, what: &str) {
        if let Some(filter) = self.filter.as_ref().filter(|_| self.writer > 0) {
            let cuts = what == "SETF" && matches!(filter.insns(), [only] if only.code == 0x06);
            self.writer = if cuts { self.writer - 1 } else { 0 };
        }
    }

    /// The next packet wakes somebody, or starts a timer that will.
    pub fn wakes_on_packet(&self) -> bool {
        match (self.system.select_timer, self.wait) {
            (true, _) => self.immediate || self.timer == Timer::TimedOut,
            (false, None) => false,
            (false, Some(wait)) => wait == 0 || self.timer == Timer::Idle,
        }
    }

    /// Time is `now`: whether the select timer ran out with something there.
    pub fn advance(&mut self, now: u64) -> bool {
        match self.timer {
            Timer::Waiting(at) if at <= now => {
                self.timer = Timer::TimedOut;
                self.store.bytes > 0
            }
            _ => false,
        }
    }

    /// semantics.md 4, "Double buffer rules".
    pub fn catch(&mut self, packet: &Tapped) -> Caught {
        let mut caught = Caught::default();
        let Some(link) = self.link.filter(|_| self.writer == 0) else { return caught };
        let way = match (link.loopback, self.system.loopback_out) {
            (false, _) => packet.way,
            (true, true) => Way::Out,
            (true, false) => Way::In,
        };
        let wanted = if way == Way::In { self.wants.0 } else { self.wants.1 };
        let layout = self.layout();
        let hdrlen = layout.hdrlen(link_header(link.dlt));
        if self.system.ignores_headless && self.bufsize < hdrlen {
            return caught;
        }
        caught.received = u64::from(wanted || self.system.counts_before_direction);
        let snaplen = match (packet.verdict, &self.filter) {
            (Some(verdict), _) => verdict,
            (None, Some(filter)) => filter.run(&packet.data, packet.number),
            (None, None) => u32::MAX,
        };
        if !wanted || snaplen == 0 || self.drop_mode == 2 {
            return caught;
        }
        caught.captured = 1;
        let caplen = packet.data.len().min(snaplen as usize).min(self.bufsize.saturating_sub(hdrlen));
        let total = (hdrlen + caplen).min(self.bufsize);
        let mut start = self.store.bytes.div_ceil(layout.align) * layout.align;
        if start + total > self.bufsize {
            match &self.hold {
                Some(hold) if self.head_drop => caught.dropped = hold.records.len() as u64,
                Some(_) => {
                    caught.dropped = 1;
                    return caught;
                }
                None => {}
            }
            self.hold = Some(std::mem::take(&mut self.store));
            self.stop_wait();
            caught.wakes = true;
            start = 0;
        }
        match (self.system.select_timer, self.wait) {
            (true, _) => caught.wakes |= self.immediate || self.timer == Timer::TimedOut,
            (false, None) => {}
            (false, Some(wait)) => {
                caught.wakes |= wait == 0;
                if self.timer == Timer::Idle {
                    self.timer =
                        if wait == 0 { Timer::TimedOut } else { Timer::Waiting(packet.arrival + wait) };
                }
            }
        }
        self.store.bytes = start + total;
        self.store.records.push_back(Expected {
            number: packet.number,
            layout,
            hdrlen,
            stamp: self.stamp(packet),
            data: packet.data[..caplen].to_vec(),
            way,
            index: link.index,
        });
        caught
    }

    /// semantics.md 4, steps 1 to 3.
    pub fn begin_read(&mut self, len: usize, nonblocking: bool) -> Begin {
        let unattached = self.link.is_none();
        if self.revoked {
            return Begin::Io;
        }
        if unattached && self.system.unattached == Unattached::NxIoFirst {
            return Begin::NxIo;
        }
        if len != self.bufsize {
            return Begin::Inval;
        }
        let timed_out = self.timer == Timer::TimedOut;
        if self.system.select_timer {
            self.timer = Timer::Idle;
        }
        let nonblocking = nonblocking || self.nonblocking;
        let early = self.store_counts(timed_out) || nonblocking;
        match () {
            () if self.hold.is_some() || (early && self.store.bytes > 0) => Begin::Hold,
            () if unattached && self.system.unattached == Unattached::NxIo => Begin::NxIo,
            () if !nonblocking => Begin::Wait,
            () if self.system.empty_is_zero => Begin::Zero,
            () => Begin::Again,
        }
    }

    /// A read that asked for `len` bytes was given `bytes`: they must be the hold, or the store where there is none.
    pub fn deliver(&mut self, bytes: &[u8], len: usize) {
        let buffer = self.hold.take().unwrap_or_else(|| {
            self.stop_wait();
            std::mem::take(&mut self.store)
        });
        let whole = buffer.bytes.min(len);
        assert_eq!(bytes.len(), whole, "a read gives what is buffered, to the last captured byte");
        if buffer.bytes > len {
            // the size was changed meanwhile: the buffer is cut
            self.lost += buffer.records.len() as u64;
            return;
        }
        let mut end = 0_usize;
        for expected in &buffer.records {
            let start = end.div_ceil(expected.layout.align) * expected.layout.align;
            assert!(bytes[end..start].iter().all(|&byte| byte == 0), "between records are zeros");
            let record = records::record(&bytes[start..], expected.layout);
            expected.check(&record, self.system);
            assert!(record.datalen > self.last, "packet {} after {}", record.datalen, self.last);
            self.last = record.datalen;
            end = (start + record.hdrlen + record.data.len()).min(bytes.len());
            self.delivered += 1;
        }
        assert_eq!(end, bytes.len(), "nothing is behind the last record");
        if let Some(first) = buffer.records.front()
            && buffer.records.iter().all(|record| record.layout == first.layout)
            && bytes.len() > first.hdrlen
        {
            let numbers: Vec<u32> = buffer.records.iter().map(|record| record.number).collect();
            assert_eq!(records::walk(bytes, first.layout), numbers, "a client's own walk");
        }
    }

    /// captured - dropped = delivered + buffered; received >= captured >= dropped.
    pub fn check_sums(&self) {
        let (received, captured, dropped) = self.counters;
        assert!(received >= captured && captured >= dropped, "{:?}", self.counters);
        let kept = self.delivered + self.lost + self.buffered() as u64;
        assert_eq!(captured - dropped, kept, "captured {captured}, dropped {dropped}, kept {kept}");
    }
}

impl Expected {
    fn check(&self, record: &records::Record<'_>, system: &System) {
        assert_eq!(record.datalen, self.number, "the next packet is {}", self.number);
        assert_eq!(record.hdrlen, self.hdrlen, "bh_hdrlen of packet {}", self.number);
        assert_eq!(record.stamp, self.stamp, "bh_tstamp of packet {}", self.number);
        assert_eq!(record.data, self.data, "bytes of packet {}", self.number);
        let way = |out: u8, inn: u8| if self.way == Way::In { inn } else { out };
        match system.name {
            // abi.json, openbsd bpf_hdr: bh_ifidx at 18, bh_flags at 22, 0x10 in, 0x20 out
            "openbsd" => {
                assert_eq!(record.tail[..2], self.index.to_ne_bytes(), "bh_ifidx");
                assert_eq!(record.tail[4] & 0x30, way(0x20, 0x10), "direction in bh_flags");
            }
            // abi.json, macos bpf_hdr_ext: bh_flags at 19, 0 in, 1 out
            "macos" if self.layout.counted == 64 => {
                assert_eq!(record.tail[1], way(1, 0), "direction in bh_flags");
            }
            _ => assert!(record.tail.iter().all(|&byte| byte == 0), "padding of the header is zero"),
        }
    }
}
