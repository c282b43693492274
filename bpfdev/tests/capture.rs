//! The facade on backends that need no privilege.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bpfdev::backend::{Direction, Plan, Visible};
use bpfdev::capture::{Capture, ErrorKind, Options, Precision};
use bpfdev::cbpf::{Insn, code};
use bpfdev::linktype::Linktype;
use bpfdev::loopback::LoopbackNetwork;
use bpfdev::packet::Way;
use bpfdev::savefile::{Format, SaveFile, Source};
use bpfdev::time::{SystemClock, Timestamp};

/// How long anything may take before a test fails.
const BOUND: Duration = Duration::from_secs(5);

fn network() -> LoopbackNetwork {
    let network = LoopbackNetwork::new(Arc::new(SystemClock::new()));
    network.add_ethernet("em0", [2, 0, 0, 0, 0, 1], 1);
    network.add_ethernet("em1", [2, 0, 0, 0, 0, 2], 1);
    network
}

fn open(network: &LoopbackNetwork, options: Options) -> Capture {
    options.open_on(network, "em0").unwrap()
}

/// A broadcast frame of this ethertype, `mark` in the first byte behind the header.
fn frame(ethertype: u16, mark: u8, len: usize) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 2], &ethertype.to_be_bytes(), &[mark]].concat();
    frame.resize(len, 0);
    frame
}

fn only(ethertype: u32, snaplen: u32) -> Vec<Insn> {
    vec![
        Insn::stmt(code::LD_H_ABS, 12),
        Insn::jump(code::JEQ_K, ethertype, 0, 1),
        Insn::stmt(code::RET_K, snaplen),
        Insn::stmt(code::RET_K, 0),
    ]
}

/// Marks and lengths of what is there.
fn seen(capture: &mut Capture) -> Vec<(u8, usize, u32, Way)> {
    let mut seen = Vec::new();
    let mut batch = capture.next_batch().unwrap().unwrap();
    while let Some(packet) = batch.next() {
        seen.push((packet.data[14], packet.data.len(), packet.wirelen, packet.way));
    }
    seen
}

#[test]
fn packets_come_in_order_cut_to_the_snap_length() {
    let network = network();
    let mut capture = open(&network, Capture::options().snaplen(20));
    for mark in 0..3 {
        assert!(network.receive("em0", &frame(0x0800, mark, 60)));
    }
    assert_eq!(seen(&mut capture), [(0, 20, 60, Way::In), (1, 20, 60, Way::In), (2, 20, 60, Way::In)]);
    assert_eq!((capture.linktype(), capture.backend()), (Linktype::EN10MB, "loopback network"));
}

#[test]
fn the_filter_is_in_force_from_the_first_packet_and_can_be_changed() {
    let network = network();
    let mut capture = open(&network, Capture::options().filter(only(0x0806, 30)));
    assert_eq!(capture.plan(), Plan::Process);
    network.receive("em0", &frame(0x0800, 1, 60));
    network.receive("em0", &frame(0x0806, 2, 60));
    assert_eq!(seen(&mut capture), [(2, 30, 60, Way::In)], "cut to what the filter returned");

    network.receive("em0", &frame(0x0806, 3, 60));
    capture.set_filter(only(0x0800, 60)).unwrap();
    network.receive("em0", &frame(0x0800, 4, 60));
    assert_eq!(seen(&mut capture), [(4, 60, 60, Way::In)], "what was queued is gone");

    let error = capture.set_filter(vec![Insn::stmt(code::LD_H_ABS, 12)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Filter, "{error}");
    network.receive("em0", &frame(0x0800, 5, 60));
    assert_eq!(seen(&mut capture).len(), 1, "the old one stays");
    capture.clear_filter().unwrap();
    network.receive("em0", &frame(0x1234, 6, 60));
    assert_eq!(seen(&mut capture).len(), 1);
}

#[test]
fn directions_are_told_apart() {
    let network = network();
    let mut incoming = open(&network, Capture::options().direction(Direction::In));
    let mut both = open(&network, Capture::options());
    let mut sender = both.sender().unwrap();
    thread::spawn(move || sender.send(&frame(0x0800, 1, 60)).unwrap()).join().unwrap();
    network.receive("em0", &frame(0x0800, 2, 60));
    assert_eq!(seen(&mut both), [(1, 60, 60, Way::Out), (2, 60, 60, Way::In)]);
    assert_eq!(seen(&mut incoming), [(2, 60, 60, Way::In)]);
    incoming.set_direction(Direction::Out).unwrap();
    network.send("em0", &frame(0x0800, 3, 60), Visible::ToTaps);
    network.receive("em0", &frame(0x0800, 4, 60));
    assert_eq!(seen(&mut incoming), [(3, 60, 60, Way::Out)]);
}

#[test]
fn a_wait_ends_with_a_packet_with_time_and_by_a_waker() {
    let network = network();
    let mut capture = open(&network, Capture::options().read_timeout(Duration::from_millis(20)));
    assert_eq!(seen(&mut capture), [], "the time-out passed");
    capture.set_nonblocking(true);
    assert_eq!(seen(&mut capture), [], "at once");

    capture.set_nonblocking(false);
    capture.set_read_timeout(None);
    let waker = capture.waker();
    let (say, said) = mpsc::channel();
    thread::spawn(move || {
        say.send(seen(&mut capture).len()).unwrap();
        say.send(seen(&mut capture).len()).unwrap();
    });
    waker.wake();
    assert_eq!(said.recv_timeout(BOUND), Ok(0), "woken, with nothing");
    network.receive("em0", &frame(0x0800, 1, 60));
    assert_eq!(said.recv_timeout(BOUND), Ok(1));
}

#[test]
fn errors_have_kinds_and_name_what_they_are_about() {
    let network = network();
    let error = Capture::options().open_on(&network, "em9").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchInterface);
    assert!(error.to_string().contains("em9"), "{error}");

    let mut capture = open(&network, Capture::options());
    network.receive("em0", &frame(0x0800, 1, 60));
    network.remove("em0");
    assert_eq!(seen(&mut capture).len(), 1, "what came before is handed on");
    let error = capture.next_batch().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error}");

    let error = Capture::replay("/nonexistent.pcap").unwrap_err();
    assert!(error.to_string().contains("/nonexistent.pcap"), "{error}");
}

/// A capture file of three packets.
fn file(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("bpfdev-facade-{}-{name}", std::process::id()));
    let source = Source { interface: "em0", linktype: Linktype::EN10MB, snaplen: 262_144 };
    let mut file = SaveFile::new(std::fs::File::create(&path).unwrap(), Format::of(&path), source).unwrap();
    for mark in 0..3 {
        let timestamp = Timestamp { sec: 1_700_000_000, nsec: 123_456_789 };
        let ethertype = if mark == 1 { 0x0806 } else { 0x0800 };
        file.write(timestamp, 1514, &frame(ethertype, mark, 60)).unwrap();
    }
    file.flush().unwrap();
    path
}

#[test]
fn a_capture_file_is_played_to_its_end() {
    let path = file("played.pcapng");
    let mut capture = Capture::options().filter(only(0x0800, u32::MAX)).replay(&path).unwrap();
    let mut marks = Vec::new();
    while let Some(mut batch) = capture.next_batch().unwrap() {
        while let Some(packet) = batch.next() {
            assert_eq!((packet.timestamp.nsec, packet.wirelen), (123_456_789, 1514));
            marks.push(packet.data[14]);
        }
    }
    assert_eq!(marks, [0, 2]);
    let error = capture.sender().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "sending is not supported by the backend replay");

    let mut capture = Capture::options().precision(Precision::Micro).replay(&path).unwrap();
    let mut batch = capture.next_batch().unwrap().unwrap();
    assert_eq!(batch.next().unwrap().timestamp.nsec, 123_456_000);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_damaged_file_is_an_error_behind_its_last_whole_packet() {
    let path = file("damaged.pcap");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    let mut capture = Capture::replay(&path).unwrap();
    let mut packets = 0;
    let start = Instant::now();
    let error = loop {
        assert!(start.elapsed() < BOUND);
        match capture.next_batch() {
            Ok(Some(mut batch)) => {
                while batch.next().is_some() {
                    packets += 1;
                }
            }
            Ok(None) => panic!("the damage was not told"),
            Err(error) => break error,
        }
    };
    assert_eq!(packets, 2);
    assert!(error.to_string().contains("damaged.pcap"), "{error}");
    std::fs::remove_file(path).unwrap();
}

/// Compiles: a capture goes to another thread, a waker is used from many, an error goes anywhere.
#[test]
fn halves_go_to_other_threads() {
    fn sent<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    sent::<Capture>();
    sent::<bpfdev::capture::Sender>();
    shared::<Options>();
    shared::<bpfdev::capture::Waker>();
    shared::<bpfdev::capture::Error>();
    shared::<bpfdev::backend::TapError>();
}
