//! Expressions compiled by libpcap, over one capture file: libpcap's interpreter, ours, and the Linux kernel under each
//! plan let the same packets pass.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bpfdev::expr::{SNAPLEN, compile};
use bpfdev_backend_linux::bpf::{CounterMap, SocketFilter};
use bpfdev_backend_linux::filter::ebpf::{Target, translate};
use bpfdev_backend_linux::filter::{LinkKind, PlanChoice};
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_backend_linux::{PacketSocket, PacketSockets};
use bpfdev_core::abi;
use bpfdev_core::backend::{Direction, FilterBackend, Plan, TapConfig, Visible};
use bpfdev_core::cbpf::{Insn, LINUX_ABI, Program, validate};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::replay::Reader;
use expressions::{EXPRESSIONS, loops};
use frames::frames;

mod expressions;
mod frames;

/// The frames as a capture file, written by libpcap.
fn capture(name: &str, frames: &[Vec<u8>]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("bpfdev-{name}-{}.pcap", std::process::id()));
    let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).unwrap();
    let mut file = dead.savefile(&path).unwrap();
    for frame in frames {
        let header = pcap::PacketHeader {
            ts: libc::timeval { tv_sec: 1_700_000_000, tv_usec: 0 },
            caplen: frame.len() as u32,
            len: frame.len() as u32,
        };
        file.write(&pcap::Packet { header: &header, data: frame });
    }
    file.flush().unwrap();
    path
}

/// The packets of a file, as our reader gives them, which must be as libpcap's does.
fn packets(path: &PathBuf) -> Vec<Vec<u8>> {
    let mut theirs = pcap::Capture::from_file(path).unwrap();
    let mut ours = Reader::open(path).unwrap();
    let mut packets = Vec::new();
    while let Some(record) = ours.next_record().unwrap() {
        assert_eq!(theirs.next_packet().unwrap().data, record.data);
        assert_eq!(record.wirelen as usize, record.data.len());
        packets.push(record.data);
    }
    assert_eq!(theirs.next_packet(), Err(pcap::Error::NoMorePackets));
    packets
}

/// An expression's program and, by packet, what libpcap's interpreter says.
struct Expected {
    expression: &'static str,
    insns: Vec<Insn>,
    passes: Vec<bool>,
}

fn expected(packets: &[Vec<u8>]) -> Vec<Expected> {
    let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).unwrap();
    EXPRESSIONS
        .iter()
        .map(|expression| {
            let theirs = dead.compile(expression, true).unwrap();
            let passes = packets.iter().map(|packet| theirs.filter(packet)).collect();
            let insns = compile(expression, Linktype::EN10MB, SNAPLEN).unwrap();
            Expected { expression, insns, passes }
        })
        .collect()
}

fn program(expected: &Expected) -> Option<Program> {
    let program = validate(&expected.insns, &LINUX_ABI);
    assert_eq!(program.is_err(), loops(expected.expression), "{}: {program:?}", expected.expression);
    program.ok()
}

#[test]
fn libpcaps_interpreter_and_ours_pass_the_same_packets() {
    assert!(EXPRESSIONS.len() >= 60);
    let path = capture("libpcap-interpreter", &frames());
    let packets = packets(&path);
    let mut one_sided = Vec::new();
    for expected in expected(&packets) {
        let Some(program) = program(&expected) else { continue };
        for (packet, passes) in packets.iter().zip(&expected.passes) {
            let snaplen = program.run(packet, packet.len() as u32);
            assert_eq!(
                snaplen,
                if *passes { SNAPLEN } else { 0 },
                "'{}': {packet:02x?}",
                expected.expression
            );
        }
        let passed = expected.passes.iter().filter(|passes| **passes).count();
        println!("'{}': {passed} of {} packets", expected.expression, packets.len());
        if passed == 0 || passed == packets.len() {
            one_sided.push(expected.expression);
        }
    }
    // The empty one passes all. What Linux's metadata would answer is not in a capture file.
    assert_eq!(
        one_sided,
        ["", "outbound", "ifindex 2"],
        "every other expression lets some packets pass and others not"
    );
    std::fs::remove_file(path).unwrap();
}

fn config(filter: Option<Program>) -> TapConfig {
    TapConfig { filter, direction: Direction::In, ..abi::linux::LINUX.tap_config(1 << 20) }
}

fn drain(tap: &mut PacketSocket, mut take: impl FnMut(&[u8], u32, Option<u32>)) {
    let mut batch = tap.try_batch().unwrap();
    while let Some(packet) = batch.next() {
        take(packet.data, packet.wirelen, packet.verdict);
    }
}

/// All packets, sent over a veth pair whose other end has a tap with the program.
fn kernel_passes_the_same(choice: PlanChoice, plan: Plan) {
    let path = capture(&format!("libpcap-{choice}"), &frames());
    let packets = packets(&path);
    let number: HashMap<&[u8], usize> =
        packets.iter().enumerate().map(|(i, packet)| (&**packet, i)).collect();
    let namespace = Namespace::new().unwrap();
    namespace.veth_pair("veth0", "veth1").unwrap();
    let attach = |name: &str, filter: Option<Program>| {
        let options = PacketSockets { plan: choice, ..PacketSockets::default() };
        namespace.enter(|| PacketSocket::attach(name, &config(filter), options)).unwrap().unwrap()
    };
    let mut injector = attach("veth0", None).injector().unwrap();
    // The kernel hands a packet first to the socket that was bound last: what the witness has seen, the filter has
    // judged.
    let mut witness = attach("veth1", None);
    let (mut programs, mut passed) = (0, 0);
    for expected in expected(&packets) {
        let Some(program) = program(&expected) else { continue };
        let what = expected.expression;
        let mut tap = attach("veth1", Some(program));
        assert_eq!(tap.plan(), plan, "'{what}'");
        let mut seen = vec![false; packets.len()];
        let mut witnessed = 0;
        for (sent, packet) in packets.iter().enumerate() {
            injector.inject(packet, Visible::ToTaps).unwrap();
            // No more than the ring holds.
            if sent % 64 == 63 || sent + 1 == packets.len() {
                let start = Instant::now();
                while witnessed <= sent {
                    drain(&mut witness, |data, _, _| witnessed += usize::from(number.contains_key(data)));
                    assert!(
                        start.elapsed() < Duration::from_secs(5),
                        "'{what}': {witnessed} of {} arrive",
                        sent + 1
                    );
                }
                drain(&mut tap, |data, wirelen, verdict| {
                    // Something else may be on the wire, though nobody here sends it.
                    let Some(number) = number.get(data) else { return };
                    assert!(!seen[*number], "'{what}': {data:02x?} comes twice");
                    assert_eq!(wirelen as usize, data.len());
                    assert!(
                        verdict.is_none_or(|snaplen| snaplen as usize >= data.len()),
                        "'{what}': {verdict:?}"
                    );
                    seen[*number] = true;
                });
            }
        }
        for (number, packet) in packets.iter().enumerate() {
            assert_eq!(seen[number], expected.passes[number], "'{what}' under {choice}: {packet:02x?}");
        }
        programs += 1;
        passed += seen.iter().filter(|seen| **seen).count();
    }
    println!("{choice}: {programs} programs, {} packets each, {passed} passed", packets.len());
    assert!(programs >= 60);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_kernel_passes_the_same_packets_by_the_ebpf_plan() {
    kernel_passes_the_same(PlanChoice::Ebpf, Plan::Ebpf);
}

#[test]
fn the_kernel_passes_the_same_packets_by_the_cbpf_plan() {
    kernel_passes_the_same(PlanChoice::Cbpf, Plan::Cbpf);
}

/// The eBPF program, run by the kernel at our request: the frames as a card without VLAN offloading hands them on.
#[test]
fn the_kernel_passes_the_same_packets_by_the_translation() {
    let packets = frames();
    let mut programs = 0;
    for expected in expected(&packets) {
        let Some(program) = program(&expected) else { continue };
        let translated = translate(&program, &Target::new(LinkKind::Ethernet)).unwrap();
        let map = CounterMap::new().expect("bpf(2) needs CAP_BPF");
        let filter = SocketFilter::load(&translated, &map)
            .unwrap_or_else(|e| panic!("'{}': {e}", expected.expression));
        for (packet, passes) in packets.iter().zip(&expected.passes) {
            let (snaplen, _) = filter.test_run(packet, [0; 5], 1).unwrap();
            assert_eq!(snaplen > 0, *passes, "'{}': {packet:02x?}", expected.expression);
        }
        let passed = expected.passes.iter().filter(|passes| **passes).count() as u64;
        let counters = map.read().unwrap();
        let all = packets.len() as u64;
        assert_eq!((counters.received, counters.accepted), (all, passed), "'{}'", expected.expression);
        programs += 1;
    }
    println!("ebpf: {programs} programs, {} packets each", packets.len());
    assert!(programs >= 60);
}
