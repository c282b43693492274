//! semantics.md 4, "Header written before each packet", and 14.

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;

use crate::checks::{record, tunnel, value};
use crate::support::*;

/// A descriptor in a world whose time is 1700000001.500123456, 1.500123456 s after it began.
fn fd() -> Fd {
    let fd = tunnel().open(&FREEBSD);
    fd.world.sleep_ns(1_500_123_456);
    fd
}

fn expected(stamp: [u64; 2], packet: &[u8], hdrlen: usize) -> Vec<u8> {
    let len = packet.len() as u64;
    let mut bytes = fields(&[(8, stamp[0]), (8, stamp[1]), (4, len), (4, len), (2, hdrlen as u64)]);
    bytes.resize(hdrlen, 0);
    [bytes, packet.to_vec()].concat()
}

#[test]
fn timeval_caplen_datalen_hdrlen() {
    let micro = [1_700_000_001, 500_123];
    assert_eq!(record(&fd(), "em0", &frame(60)), expected(micro, &frame(60), 26), "Ethernet");
    let loopback = [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat();
    assert_eq!(record(&fd(), "lo0", &loopback), expected(micro, &loopback, 28), "4-byte loopback");
    assert_eq!(record(&fd(), "tun0", &[0x45; 20]), expected(micro, &[0x45; 20], 32), "raw");
}

#[test]
fn every_time_stamp_format() {
    // 0.500123456 s in 2^-64 s, rounded down
    let frac = 9_225_649_398_091_139_694;
    let cases = [
        // MICROTIME, NANOTIME, BINTIME, NONE
        (0, [1_700_000_001, 500_123]),
        (1, [1_700_000_001, 500_123_456]),
        (2, [1_700_000_001, frac]),
        (3, [0, 0]),
        // FAST
        (0x100, [1_700_000_001, 500_123]),
        (0x101, [1_700_000_001, 500_123_456]),
        (0x102, [1_700_000_001, frac]),
        // MONOTONIC: since the system was started
        (0x200, [1, 500_123]),
        (0x201, [1, 500_123_456]),
        (0x202, [1, frac]),
        (0x300, [1, 500_123]),
        (0x301, [1, 500_123_456]),
        (0x302, [1, frac]),
    ];
    for (format, stamp) in cases {
        for (interface, packet, hdrlen) in [("em0", frame(60), 26), ("tun0", vec![0x45; 20], 32)] {
            let fd = fd();
            fd.ok(Request::STStamp(format));
            assert_eq!(value(&fd, Request::GTStamp), format);
            let record = record(&fd, interface, &packet);
            assert_eq!(record, expected(stamp, &packet, hdrlen), "{format:#x}: {interface}");
        }
        let fd = fd();
        fd.ok(Request::STStamp(format));
        let packet = [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat();
        assert_eq!(record(&fd, "lo0", &packet), expected(stamp, &packet, 28), "{format:#x}: lo0");
    }
}

#[test]
fn bintime_of_half_and_quarter_seconds() {
    for (ns, frac) in [(500_000_000, 1_u64 << 63), (250_000_000, 1 << 62), (0, 0)] {
        let fd = Fd::new(&FREEBSD);
        fd.world.sleep_ns(ns);
        fd.ok(Request::STStamp(2));
        let bytes = record(&fd, "em0", &frame(60));
        assert_eq!(bytes[8..16], fields(&[(8, frac)]), "{ns} ns");
    }
}

#[test]
fn other_formats_are_einval() {
    let fd = Fd::new(&FREEBSD);
    fd.ok(Request::STStamp(0x201));
    for format in [4, 5, 8, 0x103, 0x203, 0x303, 0x400, 0x1000, 0x1_0000, u32::MAX] {
        assert_eq!(fd.refused(Request::STStamp(format)), Errno::Inval, "{format:#x}");
    }
    assert_eq!(value(&fd, Request::GTStamp), 0x201, "as it was");
}

#[test]
fn a_format_takes_effect_with_the_next_packet() {
    let fd = fd();
    fd.ok(set_if("em0"));
    fd.rx(60);
    fd.ok(Request::STStamp(1));
    fd.rx(60);
    fd.ok(Request::STStamp(3));
    fd.rx(60);
    assert_eq!(fd.stats(), (3, 0), "14: not flushed");
    let bytes = fd.read().unwrap();
    let stamps = [[1_700_000_001, 500_123], [1_700_000_001, 500_123_456], [0, 0]];
    let mut mixed = expected(stamps[0], &frame(60), 26);
    for stamp in &stamps[1..] {
        mixed.extend_from_slice(&[0, 0]);
        mixed.extend_from_slice(&expected(*stamp, &frame(60), 26));
    }
    assert_eq!(bytes, mixed);
}

#[test]
fn one_stamp_for_all_descriptors() {
    let world = World::new();
    let (one, two) = (world.on(&FREEBSD, "em0"), world.on(&FREEBSD, "em0"));
    world.sleep(123);
    world.rx(60);
    world.sleep(10);
    assert_eq!(one.read().unwrap(), two.read().unwrap());
}

#[test]
fn a_32_bit_program_gets_32_bit_records() {
    // 18/20/20 with an alignment of 4, after a request whose layout is a 32-bit one
    for (interface, packet, hdrlen) in
        [("em0", frame(61), 18_usize), ("lo0", vec![2, 0, 0, 0, 0x45], 20), ("tun0", vec![0x45; 21], 20)]
    {
        let fd = fd();
        fd.number32(0x8008_426d, &fields(&[(4, 0), (4, 0)])).unwrap();
        fd.ok(set_if(interface));
        for _ in 0..2 {
            assert!(fd.world.network.receive(interface, &packet));
        }
        let len = packet.len() as u64;
        let mut one = fields(&[(4, 1_700_000_001), (4, 500_123), (4, len), (4, len), (2, hdrlen as u64)]);
        one.resize(hdrlen, 0);
        one.extend_from_slice(&packet);
        let second = one.len().next_multiple_of(4);
        let bytes = fd.read().unwrap();
        assert_eq!((&bytes[..one.len()], &bytes[second..]), (&one[..], &one[..]), "{interface}");
    }
}

#[test]
fn a_32_bit_callers_common_requests_change_nothing() {
    let fd = fd();
    fd.number32(0x8004_4270, &word(0)).unwrap();
    assert_eq!(record(&fd, "em0", &frame(60)).len(), 86);
    // and a refused one does not either
    fd.number32(0x8008_4267, &fields(&[(4, 1), (4, 0)])).unwrap_err();
}

#[test]
fn a_32_bit_program_with_nanoseconds_gets_bpf_xhdr() {
    let fd = fd();
    fd.number32(0x8008_426d, &fields(&[(4, 0), (4, 0)])).unwrap();
    fd.ok(Request::STStamp(1));
    assert_eq!(
        record(&fd, "em0", &frame(60)),
        expected([1_700_000_001, 500_123_456], &frame(60), 26),
        "abi.json: bpf_xhdr in both models"
    );
}
