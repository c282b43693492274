//! What must hold while packets flow: nothing is lost, repeated or cut.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serial_test::serial;

use crate::node::{Device, Wire, frame};
use crate::sys::{Insn, frames, number};

const BUFFER: u32 = 524_288;

#[test]
#[serial]
fn switching_immediate_mode_loses_and_repeats_nothing() {
    // records of 96 bytes: all of them fit into the two buffers, however late the reader is
    const COUNT: u32 = 10_000;
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = device.open();
    bpf.u32(number::SBLEN, BUFFER);
    wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    bpf.ioctl(number::SRTIMEOUT, [0i64, 50_000]).unwrap();
    let over = AtomicBool::new(false);
    let mut next = 0;
    std::thread::scope(|s| {
        let sender = s.spawn(|| {
            for n in 0..COUNT {
                let mut frame = frame(64, 0);
                frame[14..18].copy_from_slice(&n.to_be_bytes());
                wire.send(&frame);
                if n % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let switch = s.spawn(|| {
            let mut switched = 0;
            while !over.load(Ordering::Relaxed) {
                bpf.u32(number::IMMEDIATE, switched % 2);
                switched += 1;
                std::thread::sleep(Duration::from_micros(200));
            }
            switched
        });
        loop {
            let sent = sender.is_finished();
            let records = frames(&bpf.read_len(BUFFER as usize).unwrap());
            if sent && records.is_empty() {
                break; // a time-out with nothing
            }
            for frame in records {
                let n = u32::from_be_bytes(frame[14..18].try_into().unwrap());
                assert_eq!(n, next, "the next one, once");
                next += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(switch.join().unwrap() > 10, "it was switched meanwhile");
    });
    assert_eq!(next, COUNT);
    assert_eq!(bpf.stats(), [COUNT, 0]);
}

#[test]
#[serial]
fn a_tcp_aggregate_arrives_whole() {
    const SENT: usize = 4 << 20;
    let (device, wire) = (Device::start(&[]), Wire::new());
    let far = bpfdev_backend_linux::netns::Namespace::new().unwrap();
    let mut rtnl = wire.ns.rtnl().unwrap();
    rtnl.move_to_netns("veth1", far.as_fd()).unwrap();
    far.rtnl().unwrap().set_up("veth1").unwrap();
    rtnl.add_address("veth0", "10.9.0.1".parse().unwrap(), 24).unwrap();
    far.rtnl().unwrap().add_address("veth1", "10.9.0.2".parse().unwrap(), 24).unwrap();
    let bpf = device.open();
    bpf.u32(number::SBLEN, BUFFER);
    wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    bpf.ioctl(number::SRTIMEOUT, [0i64, 200_000]).unwrap();

    let listener = wire.ns.enter(|| TcpListener::bind("10.9.0.1:7070").unwrap()).unwrap();
    let mut sender = far.enter(|| TcpStream::connect("10.9.0.1:7070").unwrap()).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let (mut largest, mut cut) = (0, 0);
    std::thread::scope(|s| {
        s.spawn(move || sender.write_all(&vec![7; SENT]).unwrap());
        s.spawn(move || assert_eq!(receiver.read_to_end(&mut Vec::new()).unwrap(), SENT));
        loop {
            let records = frames(&bpf.read_len(BUFFER as usize).unwrap());
            if records.is_empty() {
                break; // a time-out with nothing: the transfer is over
            }
            for frame in records.iter().filter(|frame| frame[12..14] == [8, 0]) {
                let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
                // aggregates of 64 KiB and more say 0
                cut += usize::from(total != 0 && frame.len() < 14 + total);
                largest = largest.max(frame.len());
            }
        }
    });
    assert!(largest > 10_000, "segments come aggregated: the largest frame has {largest} bytes");
    assert_eq!(cut, 0, "frames shorter than their IP header says");
}

/// Frames numbered from 0 on, one each tenth of a millisecond; `begun` is told how many were sent.
fn send_numbered(wire: &Wire, count: u32, begun: &AtomicU32) {
    for n in 0..count {
        let due = Instant::now() + Duration::from_micros(100);
        let mut frame = frame(64, 0);
        frame[14..18].copy_from_slice(&n.to_be_bytes());
        wire.send(&frame);
        begun.store(n + 1, Ordering::SeqCst);
        while Instant::now() < due {
            std::hint::spin_loop();
        }
    }
}

#[test]
#[serial]
fn counters_and_packets_begin_anew_at_one_moment() {
    const COUNT: u32 = 300;
    // accepts frames whose number is a multiple of 8
    let filter =
        [Insn(0x20, 0, 0, 14), Insn(0x54, 0, 0, 7), Insn(0x15, 0, 1, 0), Insn(6, 0, 0, 60), Insn(6, 0, 0, 0)];
    let (device, wire) = (Device::start(&["--plan", "ebpf"]), Wire::new());
    for request in ["BIOCSETF", "BIOCFLUSH", "BIOCSETIF"] {
        let bpf = device.open();
        bpf.u32(number::SBLEN, BUFFER);
        bpf.set_filter(&filter).unwrap();
        wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
        bpf.set_nonblocking(true);
        for round in 0..20 {
            let sent = AtomicU32::new(0);
            std::thread::scope(|s| {
                s.spawn(|| send_numbered(&wire, COUNT, &sent));
                while sent.load(Ordering::SeqCst) < 50 {
                    std::hint::spin_loop();
                }
                match request {
                    "BIOCSETF" => bpf.set_filter(&filter).unwrap(),
                    "BIOCFLUSH" => bpf.ioctl_at(number::FLUSH, 0).unwrap(),
                    _ => wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap(),
                }
            });
            let mut records = Vec::new();
            while let Ok(read) = bpf.read_len(BUFFER as usize) {
                records.extend(frames(&read));
            }
            let numbers: Vec<_> =
                records.iter().map(|frame| u32::from_be_bytes(frame[14..18].try_into().unwrap())).collect();
            let first = numbers.first().copied().unwrap_or(COUNT);
            assert_eq!(numbers, (first..COUNT).step_by(8).collect::<Vec<_>>(), "{request}, {round}");
            let [received, dropped] = bpf.stats();
            assert_eq!(dropped, 0, "{request}, {round}");
            // up to seven may have been rejected before the first that is accepted
            let sent = COUNT - first..=COUNT - first + 7;
            assert!(
                numbers.is_empty() || sent.contains(&received),
                "{request}, {round}: {received} of {sent:?}"
            );
        }
    }
}
