//! A veth pair in a namespace, taps on it, and frames.

use std::thread::sleep;
use std::time::{Duration, Instant};

use bpfdev_backend_linux::filter::PlanChoice;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_backend_linux::{PacketSocket, PacketSockets};
use bpfdev_core::backend::{FilterBackend, LoopbackFraming, TapConfig, TapError, Visible};
use bpfdev_core::cbpf::{self, Insn, Program, code};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::packet::Way;

/// How long anything may take before a test fails.
pub const BOUND: Duration = Duration::from_secs(5);

pub const FREEBSD_LO: LoopbackFraming =
    LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 28 };

/// An experimental ethertype.
pub const ETHERTYPE: u16 = 0x88b5;

/// A namespace with `v0` and `v1`, both up and silent.
pub fn pair() -> Namespace {
    let ns = Namespace::new().unwrap();
    ns.veth_pair("v0", "v1").unwrap();
    ns
}

pub fn config() -> TapConfig {
    TapConfig { record_overhead: 18, loopback: FREEBSD_LO, ..bpfdev_core::abi::linux::LINUX.tap_config(4096) }
}

pub fn tap(ns: &Namespace, name: &str) -> PacketSocket {
    tap_with(ns, name, &config(), PacketSockets::default()).unwrap()
}

pub fn tap_with(
    ns: &Namespace,
    name: &str,
    config: &TapConfig,
    options: PacketSockets,
) -> Result<PacketSocket, TapError> {
    ns.enter(|| PacketSocket::attach(name, config, options)).unwrap()
}

pub fn with_plan(plan: PlanChoice) -> PacketSockets {
    PacketSockets { plan, ..PacketSockets::default() }
}

/// A packet kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub data: Vec<u8>,
    pub wirelen: u32,
    pub way: Way,
    pub verdict: Option<u32>,
}

/// What is there now.
pub fn drain(tap: &mut PacketSocket) -> Vec<Kept> {
    let mut kept = Vec::new();
    let mut batch = tap.try_batch().unwrap();
    while let Some(packet) = batch.next() {
        let (data, wirelen) = (packet.data.to_vec(), packet.wirelen);
        kept.push(Kept { data, wirelen, way: packet.way, verdict: packet.verdict });
    }
    kept
}

/// Collects until `count` packets are there.
pub fn collect(tap: &mut PacketSocket, count: usize) -> Vec<Kept> {
    let mut kept = Vec::new();
    eventually("packets arrive", || {
        kept.extend(drain(tap));
        kept.len() >= count
    });
    assert_eq!(kept.len(), count, "no more than that: {kept:x?}");
    kept
}

pub fn eventually(what: &str, mut happens: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happens() {
        assert!(start.elapsed() < BOUND, "{what}");
        sleep(Duration::from_millis(1));
    }
}

/// A frame from v1 to v0's group, with `mark` in front and `len` octets in all.
pub fn frame(ethertype: u16, mark: u16, len: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(mark.to_be_bytes());
    frame.extend((frame.len()..len).map(|i| i as u8));
    frame
}

/// The same with an 802.1Q tag.
pub fn tagged(tci: u16, ethertype: u16, mark: u16, len: usize) -> Vec<u8> {
    let mut frame = frame(ethertype, mark, len - 4);
    frame.splice(12..12, [0x81, 0].into_iter().chain(tci.to_be_bytes()));
    frame
}

/// Sends from `tap`'s interface.
pub fn send(tap: &PacketSocket, frame: &[u8]) -> Result<(), TapError> {
    tap.injector().unwrap().inject(frame, Visible::ToTaps)
}

pub fn program(insns: &[Insn]) -> Program {
    cbpf::validate(insns, &cbpf::FREEBSD).unwrap()
}

/// Accepts `n` octets of every packet.
pub fn accept(n: u32) -> Program {
    program(&[Insn::stmt(code::RET_K, n)])
}

/// Accepts `n` octets of frames of this ethertype.
pub fn only(ethertype: u16, n: u32) -> Program {
    program(&[
        Insn::stmt(code::LD_H_ABS, 12),
        Insn::jump(code::JEQ_K, ethertype.into(), 0, 1),
        Insn::stmt(code::RET_K, n),
        Insn::stmt(code::RET_K, 0),
    ])
}
