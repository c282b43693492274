//! semantics.md 4, "Header written before each packet", and 14.

use bpfdev_core::abi::Request;

use crate::checks::{record, tunnel};
use crate::support::*;

/// tv_sec, tv_usec, caplen, datalen, hdrlen, ifidx, flowid, flags, drops.
fn expected(packet: &[u8], hdrlen: usize, ifidx: u64, flags: u64) -> Vec<u8> {
    let len = packet.len() as u64;
    let head = [(4, 1_700_000_001), (4, 500_123), (4, len), (4, len), (2, hdrlen as u64)];
    let tail = [(2, ifidx), (2, 0), (1, flags), (1, 0)];
    let mut bytes = [fields(&head), fields(&tail)].concat();
    bytes.resize(hdrlen, 0);
    [bytes, packet.to_vec()].concat()
}

fn fd() -> Fd {
    let fd = tunnel().open(&OPENBSD);
    fd.world.sleep_ns(1_500_123_456);
    fd
}

#[test]
fn stamp_of_32_bits_lengths_interface_and_direction() {
    // em0 is the first interface of its network, lo0 the third, tun0 the fourth
    assert_eq!(record(&fd(), "em0", &frame(60)), expected(&frame(60), 26, 1, 0x10), "Ethernet, in");
    assert_eq!(record(&fd(), "tun0", &[0x45; 20]), expected(&[0x45; 20], 24, 4, 0x10), "raw, in");
    let fd = fd();
    fd.ok(set_if("em0"));
    fd.ok(Request::SHdrCmplt(1));
    fd.write(&frame(60)).unwrap();
    assert_eq!(fd.read().unwrap(), expected(&frame(60), 26, 1, 0x20), "Ethernet, out");
}

#[test]
fn loopback_has_24_bytes_and_is_out() {
    let fd = fd();
    fd.ok(set_if("lo0"));
    let packet = [&[0, 0, 0, 2][..], &[0x45; 20]].concat();
    fd.write(&packet).unwrap();
    assert_eq!(fd.read().unwrap(), expected(&packet, 24, 3, 0x20));
}

#[test]
fn a_32_bit_caller_has_the_same_records() {
    let fd = fd();
    fd.number32(0x800c_426d, &fields(&[(8, 0), (4, 0)])).unwrap();
    assert_eq!(record(&fd, "em0", &frame(60)), expected(&frame(60), 26, 1, 0x10));
}
