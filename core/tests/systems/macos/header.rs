//! semantics.md 4, "Header written before each packet", 14 and 18.

use bpfdev_core::abi::{Flag, Request};

use crate::checks::{record, tunnel, value};
use crate::support::*;

fn fd() -> Fd {
    let fd = tunnel().open(&MACOS);
    fd.world.sleep_ns(1_500_123_456);
    fd
}

/// `struct bpf_hdr`, or `struct bpf_hdr_ext` with these flags.
fn expected(stamp: [u64; 2], packet: &[u8], hdrlen: usize, ext_flags: Option<u8>) -> Vec<u8> {
    let len = packet.len() as u64;
    let mut bytes = fields(&[(4, stamp[0]), (4, stamp[1]), (4, len), (4, len), (2, hdrlen as u64)]);
    bytes.resize(hdrlen, 0);
    if let Some(flags) = ext_flags {
        // bh_flags is the byte behind bh_complen
        bytes[19] = flags;
    }
    [bytes, packet.to_vec()].concat()
}

const STAMP: [u64; 2] = [1_700_000_001, 500_123];

#[test]
fn timeval32_caplen_datalen_hdrlen() {
    let loopback = [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat();
    for (interface, packet, hdrlen) in
        [("em0", frame(60), 18), ("lo0", loopback, 20), ("tun0", vec![0x45; 20], 20)]
    {
        let bytes = record(&fd(), interface, &packet);
        assert_eq!(bytes, expected(STAMP, &packet, hdrlen, None), "{interface}");
    }
}

#[test]
fn a_32_bit_caller_has_the_same_records() {
    let fd = fd();
    fd.number32(0x8008_426d, &fields(&[(4, 0), (4, 0)])).unwrap();
    assert_eq!(record(&fd, "em0", &frame(60)), expected(STAMP, &frame(60), 18, None));
}

#[test]
fn the_extended_header_has_64_bytes_and_the_direction() {
    for (interface, packet, hdrlen) in [("em0", frame(60), 66), ("tun0", vec![0x45; 20], 64)] {
        let fd = fd();
        fd.number(0x8004_427c, &word(1)).unwrap();
        let bytes = record(&fd, interface, &packet);
        assert_eq!(bytes, expected(STAMP, &packet, hdrlen, Some(0)), "{interface}: in is 0");
    }
    let fd = fd();
    fd.ok(Request::SetFlag(Flag::ExtendedHeader, 1));
    fd.ok(Request::SHdrCmplt(1));
    fd.ok(set_if("em0"));
    fd.write(&frame(60)).unwrap();
    assert_eq!(fd.read(), Ok(expected(STAMP, &frame(60), 66, Some(1))), "out is 1");
    fd.ok(set_if("lo0"));
    let loopback = [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat();
    fd.write(&loopback).unwrap();
    assert_eq!(fd.read(), Ok(expected(STAMP, &loopback, 64, Some(1))), "lo0's are out");
}

#[test]
fn the_extended_header_takes_effect_with_the_next_packet() {
    let fd = fd();
    fd.ok(set_if("em0"));
    fd.rx(60);
    fd.ok(Request::SetFlag(Flag::ExtendedHeader, 1));
    fd.rx(60);
    let first = expected(STAMP, &frame(60), 18, None);
    let second = expected(STAMP, &frame(60), 66, Some(0));
    assert_eq!(fd.read(), Ok([&first[..], &[0, 0], &second[..]].concat()), "78 bytes, then at 80");
}

#[test]
fn no_time_stamp_is_zero() {
    let fd = fd();
    for (set, on, stamp) in [(1, 1, [0, 0]), (7, 1, [0, 0]), (0, 0, STAMP)] {
        fd.number(0x8004_4291, &word(set)).unwrap();
        assert_eq!(fd.number(0x4004_4290, &[]), Ok(word(on).to_vec()));
        assert_eq!(record(&fd, "em0", &frame(60)), expected(stamp, &frame(60), 18, None), "{set}");
    }
    fd.ok(Request::SetFlag(Flag::NoTimestamp, 1));
    fd.ok(Request::SetFlag(Flag::ExtendedHeader, 1));
    assert_eq!(record(&fd, "em0", &frame(60)), expected([0, 0], &frame(60), 66, Some(0)));
    assert_eq!(value(&fd, Request::GetFlag(Flag::NoTimestamp)), 1);
}

#[test]
fn no_time_stamp_is_each_descriptors_own() {
    let world = World::new();
    let (one, two) = (world.on(&MACOS, "em0"), world.on(&MACOS, "em0"));
    one.ok(Request::SetFlag(Flag::NoTimestamp, 1));
    world.sleep(1);
    world.rx(60);
    assert_eq!(one.read().unwrap()[..8], [0; 8]);
    assert_eq!(two.read().unwrap()[..4], word(1_700_000_000));
}
