//! A descriptor, its model, and what happens to both.

use bpfdev_core::abi::Abi;
use bpfdev_core::backend::{Interface, LinkState, Visible};
use bpfdev_core::descriptor::{Caller, Descriptor, Interest, Opened};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::packet::{Packet, Way};
use bpfdev_core::time::{Moment, Timestamp};

use super::action::{Action, NAMES, Values};
use super::model::{Model, Tapped, Timer};
use super::readers::Sleeper;
use super::system;

/// Packets are numbered from here: the number is bh_datalen, which no snap length and no buffer cuts.
const FIRST: u32 = 100_000;

/// One of the three interfaces of the world.
pub fn interface(abi: &Abi, which: u8) -> Interface {
    let which = which % 3;
    let (linktype, linktypes) = match which {
        0 => (Linktype::EN10MB, vec![Linktype::EN10MB, Linktype::RAW]),
        1 => (abi.loopback.linktype, vec![abi.loopback.linktype]),
        _ => (Linktype::RAW, vec![Linktype::RAW]),
    };
    Interface {
        name: String::from_utf8(NAMES[usize::from(which)].to_vec()).expect("ASCII"),
        index: 7 + u32::from(which),
        network: 0,
        linktype,
        linktypes,
        loopback: which == 1,
        address: if which == 0 { vec![2, 0, 0, 0, 0, 1] } else { Vec::new() },
    }
}

/// A descriptor beside its model.
pub struct World {
    pub(super) d: Descriptor,
    pub(super) model: Model,
    pub(super) now: u64,
    number: u32,
    pub(super) sleepers: Vec<Sleeper>,
}

impl World {
    /// A descriptor as open(2) leaves it.
    pub fn new(abi: &'static Abi, write_only: bool) -> World {
        let d = Descriptor::new(abi, Opened { write_only, uuid: [7; 16] });
        let mut model = Model::new(system::of(abi.name), d.bufsize());
        if write_only && model.system.write_only_is_writer {
            model.writer = 2;
        }
        World { d, model, now: 1_000_000_000, number: FIRST, sleepers: Vec::new() }
    }

    pub(super) fn moment(&self) -> Moment {
        Moment::from_nanos(self.now)
    }

    /// BIOCSBLEN, BIOCSETIF.
    pub fn set_up(&mut self, bufsize: Option<u32>, interface: Option<u8>) {
        if let Some(size) = bufsize {
            self.named("BIOCSBLEN", |values| values.word = size);
        }
        if let Some(which) = interface {
            self.apply(&Action::Attach(which));
        }
    }

    /// A request by its name.
    pub fn named(&mut self, name: &str, set: impl FnOnce(&mut Values)) {
        self.named_as(name, set, Caller::default());
    }

    /// A request by its name, of this caller.
    pub fn named_as(&mut self, name: &str, set: impl FnOnce(&mut Values), caller: Caller) {
        let rows = self.d.abi().requests;
        let at = rows.iter().position(|row| row.name == name).expect("every dialect has it");
        let mut values = Values {
            word: 0,
            interface: 0,
            time: (0, 0),
            filter: super::action::Filter::None,
            lying_len: None,
            room: None,
            noise: None,
            faults: false,
        };
        set(&mut values);
        self.request(self.d.abi(), at, &values, caller, false);
    }

    pub fn apply(&mut self, action: &Action) {
        match action {
            Action::Packet { way, len, fill, verdict } => {
                let data = (0..*len).map(|i| fill.wrapping_add(i as u8)).collect();
                self.packet(*way, data, *verdict);
            }
            Action::Lost(n) => {
                self.d.count_lost(u64::from(*n));
                let (received, captured, dropped) = &mut self.model.counters;
                (*received, *captured, *dropped) =
                    (*received + u64::from(*n), *captured + u64::from(*n), *dropped + u64::from(*n));
            }
            Action::Rejected(n) => {
                self.d.count_rejected(u64::from(*n));
                self.model.counters.0 += u64::from(*n);
            }
            Action::Advance(nanos) => self.advance(*nanos),
            Action::Ioctl { row, foreign, values, ilp32, root, tap_fails } => {
                self.ioctl(row, foreign.as_ref(), values, (*ilp32, *root, *tap_fails));
            }
            Action::Attach(which) => self.named("BIOCSETIF", |values| values.interface = *which),
            Action::Read { size, nonblocking } => self.read(size.unwrap_or(self.d.bufsize()), *nonblocking),
            Action::Poll { read, write, then_read } => {
                self.poll(Interest { read: *read, write: *write }, *then_read);
            }
            Action::Write { len, fill, up, mtu } => self.write(*len, *fill, *up, *mtu),
            Action::Signal => self.signal(),
            Action::Gone => {
                self.d.interface_gone();
                self.model.revoked |= self.model.link.take().is_some() && self.model.system.revoked;
            }
        }
        self.look_at_sleepers();
        self.check();
    }

    fn check(&self) {
        let counters = self.d.counters();
        let seen = (counters.received, counters.captured, counters.dropped);
        assert_eq!(seen, self.model.counters, "received, captured, dropped");
        self.model.check_sums();
        assert_eq!(self.d.readable_bytes(), self.model.fionread(), "bytes buffered");
        let has_room = self.model.hold.is_none() || self.model.head_drop;
        assert_eq!(self.d.has_room(), has_room, "a packet would be taken");
        let due = match self.model.timer {
            Timer::Waiting(at) => Some(at),
            Timer::Idle | Timer::TimedOut => None,
        };
        assert_eq!(self.d.next_event().map(Moment::as_nanos), due, "when something is due");
        assert!(due.is_none_or(|at| at > self.now), "what is due has been done");
        assert_eq!(self.d.direction(), self.model.direction(), "which packets the tap must give");
        let promiscuous = self.model.promiscuous && self.model.link.is_some();
        assert_eq!(self.d.is_promiscuous(), promiscuous, "semantics.md 12");
        assert_eq!(self.d.read_filter(), self.model.filter.as_ref(), "the tap's filter");
        let hdrlen = self.model.layout().hdrlen(14);
        assert_eq!(self.d.record_overhead(), hdrlen, "what a packet takes in a tap");
        assert_eq!(self.d.is_readable(), self.model.is_readable(), "readable");
        assert_eq!(self.d.wakes_on_packet(), self.model.wakes_on_packet(), "the next packet is waited for");
        assert_eq!(self.d.vlan_pcp(), self.model.vlan_pcp, "802.1p priority");
    }

    fn advance(&mut self, nanos: u64) {
        self.now += nanos;
        let wakeups = self.d.wakeups();
        self.d.advance(self.moment());
        let wakes = self.model.advance(self.now);
        assert_eq!(self.d.wakeups() != wakeups, wakes, "a timer wakes where something is there");
    }

    pub(super) fn packet(&mut self, way: Way, data: Vec<u8>, verdict: Option<u32>) {
        self.number += 1;
        self.now += 1;
        let stamp = (1_700_000_000 + u64::from(self.number), self.number * 7919 % 1_000_000_000);
        let tapped = Tapped { number: self.number, stamp, arrival: self.now, way, data, verdict };
        let timestamp = Timestamp { sec: stamp.0 as i64, nsec: stamp.1 };
        let wakeups = self.d.wakeups();
        self.d.catch_packet(&Packet {
            timestamp,
            arrival: self.moment(),
            way,
            wirelen: tapped.number,
            data: &tapped.data,
            verdict,
        });
        self.d.advance(self.moment());
        let timer_wakes = self.model.advance(self.now);
        let caught = self.model.catch(&tapped);
        let (received, captured, dropped) = &mut self.model.counters;
        *received += caught.received;
        *captured += caught.captured;
        *dropped += caught.dropped;
        assert_eq!(self.d.wakeups() != wakeups, caught.wakes || timer_wakes, "whether it wakes");
    }

    fn write(&mut self, len: usize, fill: u8, up: bool, mtu: u32) {
        let frame = vec![fill; len];
        let Ok(answer) = self.d.check_write(&frame, LinkState { up, mtu }) else { return };
        let link = self.model.link.expect("semantics.md 6: ENXIO without an interface");
        let Some(sent) = answer else {
            assert_eq!(len, 0, "only an empty write does nothing");
            return;
        };
        let header = system::link_header(link.dlt);
        // semantics.md 6: macOS lets 18 bytes more pass, and any number after BIOCSWRITEMAX
        let more = match self.model.system.name {
            "macos" if self.model.write_max > 0 => usize::MAX / 2,
            "macos" => 18,
            _ => 0,
        };
        assert!(len <= header + mtu as usize + more, "{len} bytes written over an MTU of {mtu}");
        if sent.visible == Visible::ToTaps {
            self.packet(Way::Out, frame, None);
        }
    }

    /// Reads what is left.
    pub fn finish(&mut self) {
        self.sleepers.clear();
        for _ in 0..2 {
            if self.model.buffered() > 0 {
                self.read(self.d.bufsize(), true);
            }
        }
        if !self.model.revoked {
            assert_eq!(self.model.buffered(), 0, "two reads empty both buffers");
        }
        self.check();
    }
}
