//! Ethernet frames of every kind that the filter expressions tell apart, for tests: `mod frames;`.

use std::collections::HashSet;

/// The network layer and what is above it, by Ethernet type.
type Payload = (u16, Vec<u8>);

const HOST: [[u8; 4]; 5] = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3], [192, 168, 7, 9], [224, 0, 0, 18]];
const HOST6: [[u8; 16]; 3] = [
    [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];

fn ports(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

fn tcp(from: u16, to: u16, flags: u8, data: usize) -> Vec<u8> {
    let mut segment = ports(from, to);
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    segment.extend((0..data).map(|i| i as u8));
    segment
}

fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = ports(from, to);
    datagram.extend((8 + data.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

/// `fragment` is the flags and the offset.
fn ip(proto: u8, hosts: (usize, usize), options: usize, fragment: u16, above: &[u8]) -> Payload {
    let header = 20 + 4 * options;
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + above.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, proto, 0, 0]);
    packet.extend(HOST[hosts.0]);
    packet.extend(HOST[hosts.1]);
    packet.resize(header, 1);
    packet.extend(above);
    (0x0800, packet)
}

fn ip6(next: u8, hosts: (usize, usize), above: &[u8]) -> Payload {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((above.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(HOST6[hosts.0]);
    packet.extend(HOST6[hosts.1]);
    packet.extend(above);
    (0x86dd, packet)
}

fn payloads() -> Vec<Payload> {
    let mut payloads = vec![
        ip(6, (0, 1), 0, 0, &tcp(1234, 7070, 2, 0)),
        ip(6, (1, 0), 0, 0, &tcp(80, 4000, 0x12, 0)),
        ip(6, (0, 3), 0, 0x4000, &tcp(4000, 80, 0x18, 100)),
        ip(6, (2, 1), 3, 0, &tcp(5000, 80, 0x11, 7)),
        ip(6, (3, 3), 0, 0, &tcp(22, 6001, 0x14, 0)),
        ip(6, (3, 0), 0, 0, &tcp(6001, 7, 2, 0)),
        ip(6, (0, 2), 0, 0, &tcp(21, 20, 0x10, 0)),
        ip(6, (0, 1), 0, 0, &tcp(22, 5060, 0x10, 1300)),
        ip(6, (0, 1), 0, 0x2000, &tcp(1, 80, 0x10, 64)),
        ip(6, (0, 1), 0, 8, &[0x50; 40]),
        ip(17, (1, 2), 0, 0, &udp(53, 1024, &[0xff; 4])),
        ip(17, (0, 1), 0, 0, &udp(68, 67, &[0; 240])),
        ip(17, (3, 4), 0, 0, &udp(6081, 6081, &[0, 0, 0x65, 0x58, 0, 0, 5, 0])),
        ip(17, (2, 4), 10, 0x2000, &udp(1500, 1600, &[1; 20])),
        ip(17, (0, 1), 0, 0, &udp(53, 9, &[0; 18])),
        ip(1, (0, 1), 0, 0, &[8, 0, 0, 0, 0, 1, 0, 1]),
        ip(1, (1, 0), 0, 0, &[0, 0, 0, 0, 0, 1, 0, 1]),
        ip(1, (3, 0), 0, 0, &[3, 1, 0, 0, 0, 0, 0, 0]),
        ip(2, (0, 4), 1, 0, &[0x16, 0, 0, 0, 224, 0, 0, 18]),
        ip(47, (0, 1), 0, 0, &[0, 0, 8, 0, 0x45, 0, 0, 20]),
        ip(112, (0, 4), 0, 0, &[0x21; 20]),
        ip(132, (0, 1), 0, 0, &[ports(5060, 9), vec![0; 12]].concat()),
        ip(50, (0, 1), 0, 0, &[7; 40]),
        ip(51, (0, 1), 0, 0, &[&[6, 4, 0, 0], &[0; 20][..], &tcp(1, 2, 2, 0)].concat()),
        ip(4, (0, 1), 0, 0, &ip(6, (1, 2), 0, 0, &tcp(80, 80, 2, 0)).1),
        ip6(6, (0, 1), &tcp(4000, 80, 2, 0)),
        ip6(6, (1, 0), &tcp(7070, 1500, 0x10, 30)),
        ip6(17, (0, 2), &udp(53, 53, &[0; 30])),
        ip6(17, (1, 2), &udp(1024, 5353, &[0xff; 4])),
        ip6(58, (1, 2), &[135, 0, 0, 0, 0, 0, 0, 0]),
        ip6(44, (0, 1), &[&[6, 0, 0, 1, 0, 0, 0, 9], &tcp(1, 80, 2, 0)[..]].concat()),
        ip6(47, (0, 0), &[0; 12]),
        ip6(0, (0, 2), &[&[6, 0, 1, 4, 0, 0, 0, 0], &tcp(80, 80, 2, 0)[..]].concat()),
        ip6(132, (0, 1), &[ports(9, 5060), vec![0; 12]].concat()),
        (0x8035, vec![0, 1, 8, 0, 6, 4, 0, 3]),
        (0x8033, vec![0; 46]),
        (0x809b, vec![0; 30]),
        (0x8863, vec![0x11, 9, 0, 0, 0, 0]),
        (0x8864, vec![0x11, 0, 0, 7, 0, 4, 0xc0, 0x21, 1, 1]),
        (3, vec![0; 60]),
        (7, vec![0; 60]),
        // LLC: IS-IS, spanning tree, AppleTalk by SNAP.
        (30, [&[0xfe, 0xfe, 3, 0x83][..], &[0; 42]].concat()),
        (38, [&[0x42, 0x42, 3, 0][..], &[0; 42]].concat()),
        (30, [&[0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b][..], &[0; 38]].concat()),
    ];
    for (sender, target) in [(0, 1), (3, 0)] {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
        arp.extend(HOST[sender]);
        arp.extend([0; 6]);
        arp.extend(HOST[target]);
        payloads.push((0x0806, arp));
    }
    let (_, inner) = ip(6, (0, 1), 0, 0, &tcp(1234, 80, 2, 10));
    payloads.push((0x8847, [&[0, 0x3e, 0x81, 64][..], &inner].concat()));
    payloads.push((0x8847, [&[0, 0x3e, 0x80, 64, 0, 1, 1, 64][..], &inner].concat()));
    payloads.push((0x8864, [&[0x11, 0, 0, 7, 0, 52, 0, 0x21][..], &inner].concat()));
    payloads
}

const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 18];
const MACS: [([u8; 6], [u8; 6]); 4] = [
    ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]),
    ([0x00, 0x11, 0x22, 0x33, 0x44, 0x55], [2, 0, 0, 0, 0, 1]),
    ([0xff; 6], [0x00, 0x11, 0x22, 0x33, 0x44, 0x55]),
    (GROUP, [2, 0, 0, 1, 0, 1]),
];
/// Tags, outermost first: none, a VLAN, a priority tag, a service tag before a VLAN, two VLANs, a tag that Linux leaves
/// in the frame.
const TAGS: [&[u8]; 6] = [
    &[],
    &[0x81, 0, 0x20, 5],
    &[0x81, 0, 0, 0],
    &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5],
    &[0x81, 0, 0, 5, 0x81, 0, 0, 6],
    &[0x91, 0, 0, 5],
];

/// Frames, no two alike: every payload plain and tagged, then some with bits changed and their ends cut off.
pub fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let payloads = payloads();
    for (number, (kind, payload)) in payloads.iter().enumerate() {
        for (which, tag) in TAGS.iter().enumerate() {
            let (to, from) = MACS[(number + which) % MACS.len()];
            frames.push([&to[..], &from, tag, &kind.to_be_bytes(), payload].concat());
        }
    }
    // What expressions that calculate want.
    for (to, kind, head) in
        [([2, 0, 0, 1, 0, 0], 3_u16, 0_u32), ([2, 0, 0, 0, 0, 9], 3, 0), ([14, 0, 3, 0, 0, 0], 0x8033, 60)]
    {
        let from = [2, 0, 0, 0, 0, 1];
        frames.push([&to[..], &from, &kind.to_be_bytes(), &head.to_be_bytes(), &[0; 42]].concat());
    }
    let (kind, packet) = ip(6, (2, 1), 0, 0, &tcp(21, 20, 0x10, 0));
    frames.push([&MACS[1].0[..], &MACS[1].1, &kind.to_be_bytes(), &packet].concat());
    let mut state = 7_u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % limit
    };
    for _ in 0..300 {
        let mut frame = frames[below(payloads.len() * TAGS.len())].clone();
        for _ in 0..1 + below(3) {
            // The headers: that is what expressions look at.
            let at = below(frame.len().min(60));
            frame[at] ^= 1 << below(8);
        }
        if below(3) == 0 {
            frame.truncate(20 + below(frame.len()));
        }
        frames.push(frame);
    }
    let mut known = HashSet::new();
    frames.retain(|frame| frame.len() >= 20 && known.insert(frame.clone()));
    frames
}
