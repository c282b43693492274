//! One packet as one line, in tcpdump's words (`tcpdump -n`).
//!
//! ```
//! use bpfdev::print;
//! use bpfdev_core::linktype::Linktype;
//!
//! let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
//! let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[8, 6], &arp].concat();
//! assert_eq!(
//!     print::packet(Linktype::EN10MB, &frame, 42),
//!     "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28",
//! );
//! ```

use std::fmt::{self, Write};
use std::net::Ipv4Addr;

use bpfdev_core::linktype::Linktype;
use bpfdev_core::time::Timestamp;
use etherparse::{
    ArpOperation, ArpPacketSlice, Icmpv4Slice, Icmpv6Slice, IpNumber, LaxLinkExtSlice, LaxNetSlice,
    LaxSlicedPacket, TcpSlice, TransportSlice, UdpSlice,
};

/// The time of day of a stamp in UTC: `12:34:56.123456`.
pub fn time_of_day(timestamp: Timestamp) -> String {
    let second = timestamp.sec.rem_euclid(86_400);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{h:02}:{m:02}:{s:02}.{:06}", timestamp.nsec / 1000)
}

/// What the packet is. `data` are the bytes kept, from the link header on; `wirelen` is its length on the wire in
/// bytes. What was cut off or cannot be read is said in brackets, as in `[|tcp]`.
pub fn packet(linktype: Linktype, data: &[u8], wirelen: u32) -> String {
    let mut line = String::new();
    let wirelen = wirelen as usize;
    // Writing to a String does not fail.
    let _ = match linktype {
        Linktype::EN10MB => ethernet(&mut line, data, wirelen),
        Linktype::NULL | Linktype::LOOP => match data.split_at_checked(4) {
            Some((family, rest)) => loopback(&mut line, family, rest, wirelen.saturating_sub(4)),
            None => write!(line, "[|null], length {wirelen}"),
        },
        Linktype::RAW => network_layer(&mut line, data, wirelen),
        Linktype(other) => write!(line, "link type {other}, length {wirelen}"),
    };
    line
}

fn ethernet(out: &mut String, data: &[u8], wirelen: usize) -> fmt::Result {
    let (Ok(sliced), Some(header)) = (LaxSlicedPacket::from_ethernet(data), data.first_chunk::<14>()) else {
        return write!(out, "[|ether], length {wirelen}");
    };
    let mut link = header.len();
    for tag in &sliced.link_exts {
        link += tag.header_len();
        if let LaxLinkExtSlice::Vlan(tag) = tag {
            let (id, priority) = (tag.vlan_identifier().value(), tag.priority_code_point().value());
            write!(out, "vlan {id}, p {priority}, ")?;
        }
    }
    let beyond = wirelen.saturating_sub(link);
    match &sliced.net {
        Some(net) => network(out, net, &sliced, beyond),
        None => {
            let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *header;
            write!(out, "{} > {}, ", Mac([s0, s1, s2, s3, s4, s5]), Mac([d0, d1, d2, d3, d4, d5]))?;
            let kind = sliced.ether_payload().map_or(0, |payload| payload.ether_type.0);
            match kind {
                0x0800 => write!(out, "[|ip]")?,
                0x86dd => write!(out, "[|ip6]")?,
                0x0806 => write!(out, "[|arp]")?,
                // IEEE 802.3: the length of the payload.
                0..=1500 => write!(out, "802.3")?,
                _ => write!(out, "ethertype Unknown ({kind:#06x})")?,
            }
            write!(out, ", length {wirelen}")
        }
    }
}

fn loopback(out: &mut String, family: &[u8], rest: &[u8], wirelen: usize) -> fmt::Result {
    match rest.first().map(|byte| byte >> 4) {
        Some(4 | 6) => network_layer(out, rest, wirelen),
        _ => {
            let family = family.iter().find(|&&byte| byte != 0).copied().unwrap_or(0);
            write!(out, "AF {family}, length {wirelen}")
        }
    }
}

fn network_layer(out: &mut String, data: &[u8], wirelen: usize) -> fmt::Result {
    match LaxSlicedPacket::from_ip(data) {
        Ok(sliced) => match &sliced.net {
            Some(net) => network(out, net, &sliced, wirelen),
            None => write!(out, "[|ip], length {wirelen}"),
        },
        Err(_) => write!(out, "[|ip], length {wirelen}"),
    }
}

/// `beyond`: bytes on the wire behind the link header, any padding included.
fn network(out: &mut String, net: &LaxNetSlice, sliced: &LaxSlicedPacket, beyond: usize) -> fmt::Result {
    let (words, from, to, length): (_, &dyn fmt::Display, &dyn fmt::Display, _) = match net {
        LaxNetSlice::Arp(packet) => return arp(out, packet, beyond),
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let headers = header.slice().len() + ip.extensions().auth.as_ref().map_or(0, |h| h.slice().len());
            // An aggregate that the kernel has not split (GSO) may be too long for the field.
            let total = if header.total_len() == 0 { beyond } else { usize::from(header.total_len()) };
            (
                "IP",
                &header.source_addr().clone(),
                &header.destination_addr().clone(),
                total.saturating_sub(headers),
            )
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let total = match header.payload_length() {
                0 => beyond.saturating_sub(40),
                length => usize::from(length),
            };
            let length = total.saturating_sub(ip.extensions().slice().len());
            ("IP6", &header.source_addr().clone(), &header.destination_addr().clone(), length)
        }
    };
    match &sliced.transport {
        Some(TransportSlice::Tcp(segment)) => {
            let (sport, dport) = (segment.source_port(), segment.destination_port());
            write!(out, "{words} {from}.{sport} > {to}.{dport}: ")?;
            tcp(out, segment, length.saturating_sub(segment.header_slice().len()))
        }
        Some(TransportSlice::Udp(datagram)) => {
            write!(
                out,
                "{words} {from}.{} > {to}.{}: ",
                datagram.source_port(),
                datagram.destination_port()
            )?;
            write!(out, "UDP, length {}", udp_length(datagram, length))
        }
        Some(TransportSlice::Icmpv4(message)) => {
            write!(out, "{words} {from} > {to}: ICMP {}, length {length}", icmp(message))
        }
        Some(TransportSlice::Icmpv6(message)) => {
            write!(out, "{words} {from} > {to}: ICMP6, {}, length {length}", icmp6(message))
        }
        None => {
            write!(out, "{words} {from} > {to}: ")?;
            let payload = sliced.ip_payload();
            let protocol = payload.map_or(IpNumber(255), |payload| payload.ip_number);
            match (payload.is_some_and(|payload| payload.fragmented), name(protocol)) {
                (true, Some(name)) => write!(out, "{name} fragment")?,
                (false, Some(name)) => write!(out, "[|{name}]")?,
                (_, None) => write!(out, "ip-proto-{}", protocol.0)?,
            }
            write!(out, ", length {length}")
        }
    }
}

/// The protocols that are read further.
fn name(protocol: IpNumber) -> Option<&'static str> {
    match protocol {
        IpNumber::TCP => Some("tcp"),
        IpNumber::UDP => Some("udp"),
        IpNumber::ICMP => Some("icmp"),
        IpNumber::IPV6_ICMP => Some("icmp6"),
        _ => None,
    }
}

fn udp_length(datagram: &UdpSlice, length: usize) -> usize {
    let whole = if datagram.length() == 0 { length } else { usize::from(datagram.length()) };
    whole.saturating_sub(8)
}

fn tcp(out: &mut String, segment: &TcpSlice, length: usize) -> fmt::Result {
    let flags = [
        (segment.fin(), 'F'),
        (segment.syn(), 'S'),
        (segment.rst(), 'R'),
        (segment.psh(), 'P'),
        (segment.ack(), '.'),
        (segment.urg(), 'U'),
        (segment.ece(), 'E'),
        (segment.cwr(), 'W'),
    ];
    let set: String = flags.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
    write!(out, "Flags [{}]", if set.is_empty() { "none" } else { &set })?;
    let seq = segment.sequence_number();
    if length > 0 {
        // Sequence numbers wrap.
        #[allow(clippy::cast_possible_truncation)]
        let end = seq.wrapping_add(length as u32);
        write!(out, ", seq {seq}:{end}")?;
    } else if segment.syn() || segment.fin() || segment.rst() {
        write!(out, ", seq {seq}")?;
    }
    if segment.ack() {
        write!(out, ", ack {}", segment.acknowledgment_number())?;
    }
    write!(out, ", win {}", segment.window_size())?;
    if segment.urg() {
        write!(out, ", urg {}", segment.urgent_pointer())?;
    }
    write!(out, ", length {length}")
}

fn icmp(message: &Icmpv4Slice) -> String {
    let [i0, i1, s0, s1] = message.bytes5to8();
    let (id, seq) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]));
    match (message.type_u8(), message.code_u8()) {
        (0, _) => format!("echo reply, id {id}, seq {seq}"),
        (8, _) => format!("echo request, id {id}, seq {seq}"),
        (3, code) => format!("destination unreachable, code {code}"),
        (5, code) => format!("redirect, code {code}"),
        (11, code) => format!("time exceeded, code {code}"),
        (kind, code) => format!("type {kind}, code {code}"),
    }
}

fn icmp6(message: &Icmpv6Slice) -> String {
    let [i0, i1, s0, s1] = message.bytes5to8();
    let (id, seq) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]));
    match (message.type_u8(), message.code_u8()) {
        (1, code) => format!("destination unreachable, code {code}"),
        (2, _) => "packet too big".to_owned(),
        (3, code) => format!("time exceeded, code {code}"),
        (128, _) => format!("echo request, id {id}, seq {seq}"),
        (129, _) => format!("echo reply, id {id}, seq {seq}"),
        (133, _) => "router solicitation".to_owned(),
        (134, _) => "router advertisement".to_owned(),
        (135, _) => "neighbor solicitation".to_owned(),
        (136, _) => "neighbor advertisement".to_owned(),
        (143, _) => "multicast listener report v2".to_owned(),
        (kind, code) => format!("type {kind}, code {code}"),
    }
}

fn arp(out: &mut String, packet: &ArpPacketSlice, length: usize) -> fmt::Result {
    let v4 = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from);
    let (Ok(sender), Ok(target)) = (v4(packet.sender_protocol_addr()), v4(packet.target_protocol_addr()))
    else {
        return write!(out, "ARP, hardware {}, length {length}", packet.hw_addr_type().0);
    };
    match (packet.operation(), <[u8; 6]>::try_from(packet.sender_hw_addr())) {
        (ArpOperation::REQUEST, _) => write!(out, "ARP, Request who-has {target} tell {sender}")?,
        (ArpOperation::REPLY, Ok(address)) => write!(out, "ARP, Reply {sender} is-at {}", Mac(address))?,
        (operation, _) => write!(out, "ARP, operation {}", operation.0)?,
    }
    write!(out, ", length {length}")
}

/// An Ethernet address: `02:00:00:00:00:01`.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, VlanId};

    const SRC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const DST: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const A6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    macro_rules! frame {
        ($builder:expr, $payload:expr) => {{
            let mut frame = Vec::new();
            $builder.write(&mut frame, $payload).unwrap();
            frame
        }};
    }

    fn line(frame: &[u8]) -> String {
        packet(Linktype::EN10MB, frame, frame.len() as u32)
    }

    #[test]
    fn each_kind_has_tcpdumps_words() {
        let e = || PacketBuilder::ethernet2(SRC, DST);
        let ip = || e().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        for (frame, expect) in [
            (
                frame!(ip().tcp(40000, 7070, 1, 64240).syn(), b""),
                "IP 10.0.0.1.40000 > 10.0.0.2.7070: Flags [S], seq 1, win 64240, length 0",
            ),
            (
                frame!(ip().tcp(40000, 7070, u32::MAX, 9).psh().ack(7), b"abcd"),
                "IP 10.0.0.1.40000 > 10.0.0.2.7070: Flags [P.], seq 4294967295:3, ack 7, win 9, length 4",
            ),
            (
                frame!(e().ipv6(A6, A6, 64).tcp(1, 2, 3, 4), b""),
                "IP6 fd00::1.1 > fd00::1.2: Flags [none], win 4, length 0",
            ),
            (frame!(ip().udp(53, 1024), &[0; 17]), "IP 10.0.0.1.53 > 10.0.0.2.1024: UDP, length 17"),
            (
                frame!(ip().icmpv4_echo_request(3, 9), &[0; 56]),
                "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 3, seq 9, length 64",
            ),
            (
                frame!(e().ipv6(A6, A6, 255).icmpv6_echo_reply(3, 9), &[0; 8]),
                "IP6 fd00::1 > fd00::1: ICMP6, echo reply, id 3, seq 9, length 16",
            ),
            (
                frame!(
                    e().single_vlan(VlanId::try_new(5).unwrap())
                        .ipv4([1, 1, 1, 1], [2, 2, 2, 2], 1)
                        .udp(1, 2),
                    b"x"
                ),
                "vlan 5, p 0, IP 1.1.1.1.1 > 2.2.2.2.2: UDP, length 1",
            ),
            (
                [&DST[..], &SRC, &[0x80, 0x33], &[0; 46]].concat(),
                "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype Unknown (0x8033), length 60",
            ),
            (
                [&DST[..], &SRC, &[0, 46], &[0; 46]].concat(),
                "02:00:00:00:00:01 > 02:00:00:00:00:02, 802.3, length 60",
            ),
            (vec![0; 5], "[|ether], length 5"),
        ] {
            assert_eq!(line(&frame), expect);
        }
    }

    #[test]
    fn what_was_cut_off_is_said_and_lengths_are_the_packets_own() {
        let whole = frame!(
            PacketBuilder::ethernet2(SRC, DST).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1, 2, 3, 4).ack(1),
            &[0; 1000]
        );
        let wirelen = whole.len() as u32;
        let cut = |len: usize| packet(Linktype::EN10MB, &whole[..len], wirelen);
        assert_eq!(cut(60), "IP 10.0.0.1.1 > 10.0.0.2.2: Flags [.], seq 3:1003, ack 1, win 4, length 1000");
        assert_eq!(cut(40), "IP 10.0.0.1 > 10.0.0.2: [|tcp], length 1020");
        assert_eq!(cut(20), "02:00:00:00:00:01 > 02:00:00:00:00:02, [|ip], length 1054");
        for len in 0..whole.len() {
            assert!(!cut(len).contains('\n'));
        }
    }

    #[test]
    fn every_link_type_has_a_line() {
        let ip = frame!(PacketBuilder::ipv4([127, 0, 0, 1], [127, 0, 0, 1], 64).udp(1, 2), b"abc");
        let expect = "IP 127.0.0.1.1 > 127.0.0.1.2: UDP, length 3";
        assert_eq!(packet(Linktype::RAW, &ip, 31), expect);
        let null = [&2u32.to_ne_bytes()[..], &ip].concat();
        assert_eq!(packet(Linktype::NULL, &null, 35), expect);
        assert_eq!(packet(Linktype::LOOP, &null[..2], 35), "[|null], length 35");
        assert_eq!(packet(Linktype::PPP, &ip, 31), "link type 9, length 31");
    }

    #[test]
    fn garbage_is_printed_without_panic() {
        let mut seed = 1_u32;
        for _ in 0..20_000 {
            let mut random = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 16) as u8
            };
            let len = usize::from(random() % 90);
            let mut data: Vec<u8> = (0..len).map(|_| random()).collect();
            if let Some(kind) = data.get_mut(12..14) {
                kind.copy_from_slice(
                    [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]][usize::from(random() % 4)].as_slice(),
                );
            }
            for linktype in [Linktype::EN10MB, Linktype::NULL, Linktype::RAW] {
                assert!(!packet(linktype, &data, u32::from(random())).contains('\n'));
            }
        }
    }

    #[test]
    fn the_time_of_day_has_microseconds() {
        assert_eq!(time_of_day(Timestamp { sec: 86_400 * 3 + 3661, nsec: 5_999 }), "01:01:01.000005");
    }
}
