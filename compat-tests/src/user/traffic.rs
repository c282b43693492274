//! The traffic a program captures: every kind of frame that programs take apart, each frame another.

/// How often the script is sent.
pub const ROUNDS: u8 = 3;

/// The receiver's Ethernet address and the sender's: nobody's, so that no host answers.
const TO: [u8; 6] = [2, 0, 0, 0, 0, 2];
const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
/// For local experiments (IEEE 802).
const EXPERIMENTAL: u16 = 0x88b5;

const UDP: u8 = 17;
const TCP: u8 = 6;

/// Every frame that is sent, in order.
pub fn frames() -> Vec<Vec<u8>> {
    (0..ROUNDS).flat_map(round).collect()
}

fn round(number: u8) -> Vec<Vec<u8>> {
    let mut mark = number.wrapping_mul(64);
    let mut next = || {
        mark = mark.wrapping_add(1);
        mark
    };
    let mut frames = vec![
        // as short as a frame can be: its type is all it has to tell it from others
        ethernet(EXPERIMENTAL + u16::from(number), &[]),
        arp(next(), 0),
        // padded to the shortest that a real Ethernet passes
        arp(next(), 18),
        ethernet(VLAN, &tagged(7, ARP, &arp(next(), 0)[14..])),
    ];
    for len in [0, 1, 18, 256, 1472] {
        frames.push(ethernet(IPV4, &ipv4(UDP, next(), len)));
    }
    for len in [0, 1, 536, 1460] {
        frames.push(ethernet(IPV4, &ipv4(TCP, next(), len)));
    }
    for len in [0, 100, 1452] {
        frames.push(ethernet(IPV6, &ipv6(UDP, next(), len)));
        frames.push(ethernet(IPV6, &ipv6(TCP, next(), len.min(1440))));
    }
    for (protocol, len) in [(UDP, 64), (TCP, 64), (UDP, 1468)] {
        frames.push(ethernet(VLAN, &tagged(100, IPV4, &ipv4(protocol, next(), len))));
    }
    frames.push(ethernet(VLAN, &tagged(4094, IPV6, &ipv6(UDP, next(), 32))));
    // every length modulo the alignment of any system's records
    for len in 60..76 {
        frames.push(ethernet(EXPERIMENTAL, &filled(next(), len - 14)));
    }
    frames
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&TO[..], &FROM, &kind.to_be_bytes(), payload].concat()
}

/// What follows the type 802.1Q.
fn tagged(vlan: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&vlan.to_be_bytes()[..], &kind.to_be_bytes(), payload].concat()
}

/// So many bytes, of which no two neighbours are alike.
fn filled(mark: u8, len: usize) -> Vec<u8> {
    std::iter::successors(Some(mark), |byte| Some(byte.wrapping_add(7))).take(len).collect()
}

/// A request of 192.0.2.mark for 192.0.2.254 (RFC 5737's addresses are nobody's).
fn arp(mark: u8, padding: usize) -> Vec<u8> {
    let request = [0, 1, 8, 0, 6, 4, 0, 1];
    let payload =
        [&request[..], &FROM, &[192, 0, 2, mark], &[0; 6], &[192, 0, 2, 254], &vec![0; padding]].concat();
    let mut frame = ethernet(ARP, &payload);
    frame[..6].fill(0xff);
    frame
}

fn ipv4(protocol: u8, mark: u8, len: usize) -> Vec<u8> {
    let addresses = [192, 0, 2, mark, 198, 51, 100, 2];
    let segment = segment(protocol, mark, len, &addresses);
    let mut header = vec![0x45, 0, 0, 0, 0, mark, 0x40, 0, 64, protocol, 0, 0];
    header.extend(addresses);
    let total = u16::try_from(header.len() + segment.len()).unwrap_or(u16::MAX);
    header[2..4].copy_from_slice(&total.to_be_bytes());
    let checksum = checksum(&header);
    header[10..12].copy_from_slice(&checksum);
    [header, segment].concat()
}

fn ipv6(protocol: u8, mark: u8, len: usize) -> Vec<u8> {
    // 2001:db8::1:mark and 2001:db8::2 (RFC 3849)
    let mut addresses = [0; 32];
    for (at, last) in [(0, [1, mark]), (16, [0, 2])] {
        addresses[at..at + 4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        addresses[at + 14..at + 16].copy_from_slice(&last);
    }
    let segment = segment(protocol, mark, len, &addresses);
    let payload = u16::try_from(segment.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[0x60, 0, 0, 0][..], &payload, &[protocol, 64], &addresses, &segment].concat()
}

/// A UDP datagram or a TCP segment with `len` bytes of payload.
fn segment(protocol: u8, mark: u8, len: usize, addresses: &[u8]) -> Vec<u8> {
    let ports = [0x30, mark, 0, 9];
    let (mut header, checksum_at) = if protocol == UDP {
        let whole = u16::try_from(8 + len).unwrap_or(u16::MAX).to_be_bytes();
        ([&ports[..], &whole, &[0, 0]].concat(), 6)
    } else {
        // sequence and acknowledgement; 20 bytes of header, ACK and PSH; window
        ([&ports[..], &[0, 0, 1, mark, 0, 0, 2, 0], &[0x50, 0x18, 0x20, 0, 0, 0, 0, 0]].concat(), 16)
    };
    header.extend(filled(mark, len));
    let length = u16::try_from(header.len()).unwrap_or(u16::MAX).to_be_bytes();
    let pseudo = [addresses, &[0, protocol], &length, &header].concat();
    let checksum = checksum(&pseudo);
    header[checksum_at..checksum_at + 2].copy_from_slice(&checksum);
    header
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words =
        bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | two.get(1).map_or(0, |&low| u32::from(low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_differ_and_have_every_size() {
        let frames = frames();
        let mut sorted = frames.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), frames.len(), "two frames are alike");
        let lengths: Vec<_> = frames.iter().map(Vec::len).collect();
        assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&14), Some(&1514)));
        assert!((60..76).all(|len| lengths.contains(&len)));
    }

    #[test]
    fn checksums_are_right() {
        let packet = ipv4(UDP, 1, 3);
        assert_eq!(checksum(&packet[..20]), [0, 0]);
        let pseudo = [&packet[12..20], &[0, UDP, 0, 11], &packet[20..]].concat();
        assert_eq!(checksum(&pseudo), [0, 0]);
    }
}
