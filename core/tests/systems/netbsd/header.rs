//! semantics.md 4, "Header written before each packet", and 14.

use bpfdev_core::abi::Request;

use crate::checks::{record, tunnel};
use crate::support::*;

fn expected(packet: &[u8], datalen: u64, hdrlen: usize) -> Vec<u8> {
    let caplen = packet.len() as u64;
    let head = [(8, 1_700_000_001), (8, 500_123), (4, caplen), (4, datalen), (2, hdrlen as u64)];
    let mut bytes = fields(&head);
    bytes.resize(hdrlen, 0);
    [bytes, packet.to_vec()].concat()
}

fn fd() -> Fd {
    let fd = tunnel().open(&NETBSD);
    fd.world.sleep_ns(1_500_123_456);
    fd
}

#[test]
fn timeval_caplen_datalen_hdrlen() {
    assert_eq!(record(&fd(), "em0", &frame(60)), expected(&frame(60), 60, 34), "Ethernet");
    let loopback = [&2_u32.to_ne_bytes()[..], &[0x45; 20]].concat();
    assert_eq!(record(&fd(), "lo0", &loopback), expected(&loopback, 24, 36), "4-byte loopback");
    assert_eq!(record(&fd(), "tun0", &[0x45; 20]), expected(&[0x45; 20], 20, 32), "raw");
}

#[test]
fn a_buffer_smaller_than_the_header_has_caplen_0() {
    let fd = fd();
    fd.ok(Request::SBlen(32));
    // 4: bufsize < bh_hdrlen: caplen 0; the buffer holds the header's first 32 bytes
    assert_eq!(record(&fd, "em0", &frame(60)), expected(&[], 60, 34)[..32]);
    assert_eq!(fd.stats(), (1, 0));
}

#[test]
fn a_32_bit_program_gets_32_bit_records() {
    for (interface, packet, hdrlen) in
        [("em0", frame(60), 22_usize), ("lo0", vec![2, 0, 0, 0, 0x45], 20), ("tun0", vec![0x45; 20], 20)]
    {
        let fd = fd();
        // abi.json: a compat32 descriptor; the first request of a 32-bit process tells
        fd.number32(0x8004_4270, &word(0)).unwrap();
        let mut arg = vec![0; 144];
        arg[..interface.len()].copy_from_slice(interface.as_bytes());
        fd.number32(0x8090_426c, &arg).unwrap();
        assert!(fd.world.network.receive(interface, &packet));
        let len = packet.len() as u64;
        let mut bytes = fields(&[(4, 1_700_000_001), (4, 500_123), (4, len), (4, len), (2, hdrlen as u64)]);
        bytes.resize(hdrlen, 0);
        bytes.extend_from_slice(&packet);
        assert_eq!(fd.read(), Ok(bytes), "{interface}");
    }
}
