//! A served device, and taps on it.

use std::path::PathBuf;

use bpfdev_backend_bsd::{DeviceTap, Devices};
use bpfdev_core::abi::Abi;
use bpfdev_core::backend::{FilterBackend, TapConfig, TapError};
use bpfdev_core::cbpf::{self, Insn, Program};
use bpfdev_core::packet::Way;

use crate::node::{Device, ETHERTYPE, SOON, Wire};

/// What a system can do, literally.
#[derive(Debug)]
pub struct Facts {
    /// semantics.md 8, BIOCSETFNR.
    pub keeps_queued: bool,
    /// semantics.md 11, "values": sent packets only can be asked for.
    pub sent_only: bool,
    /// semantics.md 11, "values": no packets can be asked for.
    pub none: bool,
    /// semantics.md 11, "direction shown per packet".
    pub shows_way: bool,
    /// semantics.md 3, BIOCLOCK; root is exempt on OpenBSD.
    pub lock_binds_root: bool,
    /// There is BIOCLOCK.
    pub locks: bool,
    /// semantics.md 14, BIOCSTSTAMP.
    pub nanoseconds: bool,
    /// semantics.md 7, bs_capt.
    pub counts_captured: bool,
    /// semantics.md 7, bs_recv counts packets of directions that are not wanted.
    pub counts_hidden: bool,
}

const NOTHING_MORE: Facts = Facts {
    keeps_queued: false,
    sent_only: false,
    none: false,
    shows_way: false,
    lock_binds_root: true,
    locks: true,
    nanoseconds: false,
    counts_captured: false,
    counts_hidden: false,
};

/// A device served in one dialect's directory, and a wire.
pub struct Served {
    pub abi: &'static Abi,
    pub facts: Facts,
    pub device: Device,
    pub wire: Wire,
}

impl Served {
    pub fn start(system: &str) -> Served {
        let facts = match system {
            "freebsd" => Facts { keeps_queued: true, sent_only: true, nanoseconds: true, ..NOTHING_MORE },
            "netbsd" => Facts { sent_only: true, counts_captured: true, ..NOTHING_MORE },
            "openbsd" => Facts {
                sent_only: true,
                none: true,
                shows_way: true,
                lock_binds_root: false,
                counts_hidden: true,
                ..NOTHING_MORE
            },
            "dragonfly" => NOTHING_MORE,
            "macos" => Facts {
                keeps_queued: true,
                sent_only: true,
                none: true,
                shows_way: true,
                locks: false,
                ..NOTHING_MORE
            },
            _ => panic!("{system}"),
        };
        let abi = Abi::by_name(system).unwrap();
        Served { abi, facts, device: Device::start(&[]), wire: Wire::new() }
    }

    /// The directory of this system's nodes.
    pub fn dir(&self) -> PathBuf {
        self.device.dir.join(self.abi.name)
    }

    pub fn devices(&self) -> Devices {
        Devices::new(self.abi).in_dir(self.dir())
    }

    pub fn config(&self) -> TapConfig {
        TapConfig { judged: true, ..self.abi.tap_config(65_536) }
    }

    /// A filter of this system for the tests' frames whose first data byte is `mark`; it keeps `keep` bytes.
    pub fn marked(&self, mark: u8, keep: u32) -> Program {
        let insns = [
            Insn::stmt(0x28, 12), // ldh [12]
            Insn::new(0x15, 0, 3, ETHERTYPE.into()),
            Insn::stmt(0x30, 14), // ldb [14]
            Insn::new(0x15, 0, 1, mark.into()),
            Insn::stmt(0x06, keep),
            Insn::stmt(0x06, 0),
        ];
        cbpf::validate(&insns, self.abi.filter).unwrap()
    }

    pub fn attach(&self, config: &TapConfig) -> Result<DeviceTap, TapError> {
        self.attach_by(&self.devices(), "veth0", config)
    }

    pub fn attach_by(
        &self,
        devices: &Devices,
        name: &str,
        config: &TapConfig,
    ) -> Result<DeviceTap, TapError> {
        self.wire.ns.enter(|| devices.attach_tap(name, config)).unwrap()
    }

    pub fn tap(&self) -> DeviceTap {
        self.attach(&self.config()).unwrap()
    }
}

/// A packet that was lent, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub data: Vec<u8>,
    pub wirelen: u32,
    pub way: Way,
    pub verdict: Option<u32>,
    pub stamp: i128,
    pub arrival: u64,
}

/// The packets of the next batch; empty when there are none.
pub fn batch(tap: &mut DeviceTap) -> Vec<Kept> {
    let mut batch = tap.try_batch().unwrap();
    let mut kept = Vec::new();
    while let Some(packet) = batch.next() {
        kept.push(Kept {
            data: packet.data.to_vec(),
            wirelen: packet.wirelen,
            way: packet.way,
            verdict: packet.verdict,
            stamp: packet.timestamp.as_nanos(),
            arrival: packet.arrival.as_nanos(),
        });
    }
    kept
}

/// So many packets, waited for as a program does.
pub fn packets(tap: &mut DeviceTap, count: usize) -> Vec<Kept> {
    let waiter = tap.waiter().unwrap();
    let end = std::time::Instant::now() + SOON;
    let mut kept = batch(tap);
    while kept.len() < count {
        let left = end.saturating_duration_since(std::time::Instant::now());
        assert!(!left.is_zero(), "{} of {count} packets came", kept.len());
        waiter.wait(Some(left));
        kept.extend(batch(tap));
    }
    kept
}

pub fn data(kept: &[Kept]) -> Vec<Vec<u8>> {
    kept.iter().map(|packet| packet.data.clone()).collect()
}

/// A program of this system that does nothing but return `snaplen`.
pub fn returns(abi: &'static Abi, snaplen: u32) -> Program {
    cbpf::validate(&[Insn::stmt(0x06, snaplen)], abi.filter).unwrap()
}
