//! The facade and libpcap, by the crate `pcap`, capture the same traffic at the same time: the same packets, byte for byte.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use bpfdev::capture::{Capture, Precision};
use bpfdev_backend_linux::PacketSockets;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::abi::linux::LINUX;
use bpfdev_core::backend::{Inject, Network as _, Visible};
use expressions::{EXPRESSIONS, loops};
use frames::frames;

mod expressions;
mod frames;

/// How long anything may take before the test fails.
const BOUND: Duration = Duration::from_secs(5);

/// Length on the wire, and what was kept.
type Seen = (u32, Vec<u8>);

/// A frame that every filter's end is known by, whatever it lets through: the filters have `or ether proto 0x88b5` behind them.
fn end() -> Vec<u8> {
    let mut frame = vec![0xff; 12];
    frame.extend([0x88, 0xb5]);
    frame.resize(60, 0xee);
    frame
}

fn ours(capture: &mut Capture, end: &[u8]) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let start = Instant::now();
    while seen.last().is_none_or(|(_, data)| data != end) {
        assert!(start.elapsed() < BOUND, "the last frame comes");
        let mut batch = capture.next_batch().unwrap().unwrap();
        while let Some(packet) = batch.next() {
            seen.push((packet.wirelen, packet.data.to_vec()));
        }
    }
    seen
}

fn theirs(capture: &mut pcap::Capture<pcap::Active>, end: &[u8]) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let start = Instant::now();
    while seen.last().is_none_or(|(_, data)| data != end) {
        assert!(start.elapsed() < BOUND, "the last frame comes");
        match capture.next_packet() {
            Ok(packet) => seen.push((packet.header.len, packet.data.to_vec())),
            Err(pcap::Error::TimeoutExpired) => {}
            Err(error) => panic!("{error}"),
        }
    }
    seen
}

#[test]
fn twenty_filters_give_the_packets_that_libpcap_gives() {
    let namespace = Namespace::new().unwrap();
    namespace.veth_pair("v0", "v1").unwrap();
    // Linux takes a VLAN tag off before libpcap's filter runs, so that `ip` lets tagged packets pass there. Ours sees the tag,
    // as on a BSD.
    let tagged = |frame: &[u8]| [[0x81, 0], [0x88, 0xa8], [0x91, 0]].contains(&[frame[12], frame[13]]);
    let fits = |frame: &Vec<u8>| (14..=1514).contains(&frame.len()) && !tagged(frame);
    let frames: Vec<_> = frames().into_iter().filter(fits).step_by(3).collect();
    let direct = |expression: &&&str| {
        !expression.is_empty()
            && !loops(expression)
            && !expression.contains("bound")
            && !expression.contains("ifindex")
    };
    let expressions: Vec<_> = EXPRESSIONS.iter().filter(direct).step_by(3).take(24).collect();
    assert!(expressions.len() >= 20, "{} expressions", expressions.len());
    let work = || {
        let tap = PacketSockets::default().attach("v1", &LINUX.tap_config(4096)).unwrap();
        let mut far: Box<dyn Inject> = tap.injector().unwrap();
        let mut passed = 0;
        for expression in &expressions {
            for snaplen in [2000, 80] {
                let filter = format!("ether proto 0x88b5 or ({expression})");
                let mut theirs_open =
                    pcap::Capture::from_device("v0").unwrap().immediate_mode(true).timeout(100);
                theirs_open = theirs_open.snaplen(i32::try_from(snaplen).unwrap());
                let mut libpcap = theirs_open.open().unwrap();
                libpcap.filter(&filter, true).unwrap();
                let options = Capture::options().immediate(true).snaplen(snaplen).precision(Precision::Micro);
                let options = options.read_timeout(Duration::from_millis(100));
                let mut capture = options.filter(filter.as_str()).open("v0").unwrap();
                let (ours, theirs) = std::thread::scope(|scope| {
                    let theirs = scope.spawn(|| theirs(&mut libpcap, &end()));
                    for (i, frame) in frames.iter().chain([&end()]).enumerate() {
                        far.inject(frame, Visible::ToTaps).unwrap();
                        if i % 8 == 7 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                    (ours(&mut capture, &end()), theirs.join().unwrap())
                });
                let differs = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
                if let Some(at) = differs {
                    panic!(
                        "{expression}, snap length {snaplen}, packet {at}:\n{:x?}\n{:x?}",
                        ours[at], theirs[at]
                    );
                }
                assert_eq!(ours.len(), theirs.len(), "{expression}, snap length {snaplen}");
                passed += ours.len() - 1;
            }
        }
        passed
    };
    let passed = namespace.enter(work).unwrap();
    assert!(passed > 100, "the filters let packets through: {passed}");
}
