//! The receiver over a ring in memory, whose kernel is the test.
#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixDatagram;

use bpfdev_core::backend::LoopbackFraming;
use bpfdev_core::cbpf::code::RET_K;
use bpfdev_core::cbpf::{Insn, LINUX_ABI, Program, validate};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::random::Lcg;
use bpfdev_core::random::filter::{frame, program};

use super::*;
use crate::filter::rewrite;
use crate::judge::InKernel;
use crate::ring::tests::LAYOUT;

/// Where the kernel puts an Ethernet frame (`tp_mac`).
const MAC: u16 = 66;
const LOOPBACK: LinkKind =
    LinkKind::Loopback(LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 28 });

/// A `struct tpacket2_hdr` behind its status, `struct sockaddr_ll` and a packet, as a frame has them.
struct Frame {
    len: u32,
    snaplen: u32,
    mac: u16,
    tag: (u16, u16),
    protocol: u16,
    pkttype: u8,
    packet: Vec<u8>,
}

impl Frame {
    fn of(packet: Vec<u8>) -> Frame {
        let len = packet.len() as u32;
        Frame {
            len,
            snaplen: len,
            mac: MAC,
            tag: (0, 0),
            protocol: 0x0800,
            pkttype: libc::PACKET_HOST,
            packet,
        }
    }

    /// From octet 4 on.
    fn octets(&self) -> Vec<u8> {
        let mut octets = vec![0; LAYOUT.frame_size as usize - 4];
        let start = usize::from(self.mac).saturating_sub(4).min(octets.len());
        let room = &mut octets[start..];
        let len = room.len().min(self.packet.len());
        room[..len].copy_from_slice(&self.packet[..len]);
        let mut put = |at: usize, bytes: &[u8]| octets[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.len.to_ne_bytes());
        put(4, &self.snaplen.to_ne_bytes());
        put(8, &self.mac.to_ne_bytes());
        put(12, &1_700_000_000_u32.to_ne_bytes());
        put(16, &5_u32.to_ne_bytes());
        put(20, &self.tag.1.to_ne_bytes());
        put(22, &self.tag.0.to_ne_bytes());
        put(30, &self.protocol.to_be_bytes());
        put(38, &[self.pkttype]);
        octets
    }
}

/// A receiver, and the other end of what larger packets come through.
fn receiver(kind: LinkKind, judge: Judge) -> (Receiver, UnixDatagram) {
    let (ours, kernels) = UnixDatagram::pair().unwrap();
    let receiver = Receiver::over(RingMap::in_memory(LAYOUT), ours.into(), kind, Checksum::Complete, judge);
    (receiver, kernels)
}

/// All that is there, in one batch.
fn packets(receiver: &mut Receiver) -> Vec<(Vec<u8>, u32)> {
    receiver.begin();
    let mut all = Vec::new();
    while let Some(packet) = receiver.next_packet() {
        assert!(packet.timestamp.nsec < 1_000_000_000 && packet.wirelen as usize >= packet.data.len());
        all.push((packet.data.to_vec(), packet.wirelen));
    }
    receiver.finish();
    all
}

#[test]
fn a_ring_is_read_round_and_round() {
    let (mut receiver, _kernels) = receiver(LinkKind::Ethernet, Judge::All);
    let mut number = 0;
    for batch in 0..40_u32 {
        let mut sent = Vec::new();
        for _ in 0..=batch % 4 {
            let packet = vec![number as u8; 60 + number as usize % 1400];
            receiver.ring.receive(number, &Frame::of(packet.clone()).octets(), libc::TP_STATUS_USER);
            sent.push((packet.clone(), packet.len() as u32));
            number += 1;
        }
        assert!(receiver.is_ready());
        assert_eq!(packets(&mut receiver), sent, "batch {batch}");
        assert!(!receiver.is_ready());
    }
}

#[test]
fn a_tag_a_family_word_and_a_copy_are_put_together() {
    let (mut ethernet, kernels) = receiver(LinkKind::Ethernet, Judge::All);
    let tagged = libc::TP_STATUS_USER | libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
    let bare: Vec<u8> = (0..60).collect();
    let frame = Frame { tag: (0x88a8, 7), ..Frame::of(bare.clone()) };
    ethernet.ring.receive(0, &frame.octets(), tagged);
    let whole = [&bare[..12], &[0x88, 0xa8, 0, 7], &bare[12..]].concat();
    assert_eq!(packets(&mut ethernet), [(whole, 64)]);

    let large = vec![3; 9000];
    kernels.send(&large).unwrap();
    let frame = Frame { len: 9000, ..Frame::of(vec![3; 1500]) };
    ethernet.ring.receive(1, &frame.octets(), libc::TP_STATUS_USER | libc::TP_STATUS_COPY);
    assert_eq!(packets(&mut ethernet), [(large, 9000)]);
    assert_eq!((ethernet.cut, ethernet.rejected), (0, 0));

    let (mut loopback, _kernels) = receiver(LOOPBACK, Judge::All);
    loopback.ring.receive(0, &Frame::of(bare.clone()).octets(), libc::TP_STATUS_USER);
    let framed = [&2_u32.to_ne_bytes()[..], &bare[14..]].concat();
    assert_eq!(packets(&mut loopback), [(framed, 50)]);
}

/// Lengths, places and flags that no kernel gives: nothing outside the frame is read, and nothing panics.
#[test]
fn a_header_is_not_believed() {
    let mut rng = Lcg(61);
    let keep = |n: u32| validate(&[Insn::stmt(RET_K, n)], &LINUX_ABI).unwrap();
    let in_kernel = |program: Program, kind: LinkKind| {
        let rewritten = rewrite(&program, kind).unwrap();
        Judge::Kernel(InKernel::Cbpf(rewritten), program)
    };
    let (mut seen, mut lost) = (0, 0);
    for _ in 0..300 {
        let kind = rng.pick(&[LinkKind::Ethernet, LinkKind::Raw, LOOPBACK]);
        let n = rng.pick(&[0, 1, 64, u32::MAX]);
        let judge = match rng.below(5) {
            0 => Judge::All,
            1 => Judge::Descriptor(keep(n)),
            2 => Judge::Here(program(&mut rng, &LINUX_ABI, 20)),
            _ => in_kernel(keep(n), kind),
        };
        let (mut receiver, kernels) = receiver(kind, judge);
        kernels.set_nonblocking(true).unwrap();
        for number in 0..20 {
            let len = rng.below(1500) as usize;
            let honest = Frame::of(frame(&mut rng, len));
            let any = |rng: &mut Lcg, right: u32| match rng.below(4) {
                0 => rng.pick(&[0, 1, 9, 10, 13, 14, 1580, 1596, 1600, 65_535, 70_000, u32::MAX]),
                1 => rng.below(1600),
                _ => right,
            };
            let mac = any(&mut rng, MAC.into()) as u16;
            let hostile = Frame {
                len: any(&mut rng, honest.len),
                snaplen: any(&mut rng, honest.snaplen),
                mac,
                tag: (rng.word() as u16, rng.word() as u16),
                protocol: rng.pick(&[0x0800, 0x86dd, 0x0806, 0]),
                pkttype: rng.below(8) as u8,
                ..honest
            };
            let wild = rng.below(1 << 9);
            let flags = rng.pick(&[0, 0, libc::TP_STATUS_COPY, libc::TP_STATUS_VLAN_VALID, wild]);
            if flags & libc::TP_STATUS_COPY != 0 && rng.once_in(2) {
                kernels.send(&vec![7; rng.below(5000) as usize]).unwrap();
            }
            receiver.ring.receive(number, &hostile.octets(), libc::TP_STATUS_USER | flags);
            receiver.begin();
            match receiver.next_packet() {
                Some(packet) => {
                    assert!(packet.data.len() <= 5000 + 4, "{} bytes", packet.data.len());
                    seen += 1;
                }
                None => lost += 1,
            }
            receiver.finish();
            assert!(!receiver.is_ready(), "the frame is given back whatever is in it");
        }
    }
    assert!(seen > 1000 && lost > 1000, "{seen} {lost}");
}
