//! Transport checksums the kernel left to a network card that is not there (TP_STATUS_CSUMNOTREADY).

/// What is done with packets of this host whose checksum is not filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// It is filled in: a BSD program that checks it (a DHCP client) would drop the packet.
    #[default]
    Complete,
    /// They pass as they are, as on a BSD whose card computes checksums.
    Raw,
}

impl Checksum {
    /// The word `--checksum` uses.
    pub const fn name(self) -> &'static str {
        match self {
            Checksum::Complete => "complete",
            Checksum::Raw => "raw",
        }
    }
}

impl std::str::FromStr for Checksum {
    type Err = UnknownChecksum;

    fn from_str(word: &str) -> Result<Checksum, UnknownChecksum> {
        [Checksum::Complete, Checksum::Raw]
            .into_iter()
            .find(|choice| choice.name() == word)
            .ok_or_else(|| UnknownChecksum(word.to_owned()))
    }
}

/// A word that is no [`Checksum`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no checksum option; use complete or raw")]
pub struct UnknownChecksum(pub String);

const ETHERTYPES_VLAN: [u16; 2] = [0x8100, 0x88a8];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Fills in the checksum of an Ethernet frame that holds TCP or UDP over IP, behind any 802.1Q tags, and whose checksum
/// field holds the sum of the pseudo-header, as a card expects it. Anything else (SCTP, what is inside a tunnel) stays.
pub(crate) fn complete_ethernet(frame: &mut [u8]) -> Option<()> {
    let mut at = 12;
    loop {
        let ethertype = u16::from_be_bytes(*frame.get(at..)?.first_chunk()?);
        at += 2;
        if !ETHERTYPES_VLAN.contains(&ethertype) {
            break;
        }
        at += 2;
    }
    complete_ip(frame.get_mut(at..)?)
}

/// The same for an IP packet.
pub(crate) fn complete_ip(packet: &mut [u8]) -> Option<()> {
    match packet.first()? >> 4 {
        4 => complete_ipv4(packet),
        6 => complete_ipv6(packet),
        _ => None,
    }
}

fn complete_ipv4(packet: &mut [u8]) -> Option<()> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let (start, end) =
        (usize::from(header[0] & 0xf) * 4, usize::from(u16::from_be_bytes([header[2], header[3]])));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let (protocol, addresses) = (header[9], add(0, &header[12..20]));
    if fragment || start < 20 {
        return None;
    }
    complete(packet.get_mut(start..end)?, protocol, addresses)
}

fn complete_ipv6(packet: &mut [u8]) -> Option<()> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let header: &[u8; 40] = packet.first_chunk()?;
    let end = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let (mut next, addresses) = (header[6], add(0, &header[8..40]));
    let mut start = 40;
    while [HOP_BY_HOP, ROUTING, DESTINATION].contains(&next) {
        let extension: &[u8; 2] = packet.get(start..)?.first_chunk()?;
        next = extension[0];
        start += 8 + usize::from(extension[1]) * 8;
    }
    complete(packet.get_mut(start..end)?, next, addresses)
}

fn complete(segment: &mut [u8], protocol: u8, addresses: u64) -> Option<()> {
    let field = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    let len = u32::try_from(segment.len()).ok()?;
    // Summed in the machine's order; the length and the protocol are two words in network order.
    let pseudo = addresses + u64::from(len.to_be()) + u64::from(u32::from(protocol).to_be());
    let stored = u16::from_ne_bytes(*segment.get(field..)?.first_chunk()?);
    // Only then is it unfinished: in a tunnel the outer checksum is done and the inner one is not.
    if stored != fold(pseudo) {
        return None;
    }
    let sum = match !fold(add(0, segment)) {
        0 => 0xffff, // 0 means "no checksum" in UDP; TCP takes either
        sum => sum,
    };
    segment.get_mut(field..field + 2)?.copy_from_slice(&sum.to_ne_bytes());
    Some(())
}

/// Adds octets to a ones'-complement sum, in the machine's byte order (RFC 1071, section 2).
fn add(sum: u64, octets: &[u8]) -> u64 {
    let mut words = octets.chunks_exact(4);
    let mut sum = words
        .by_ref()
        .fold(sum, |sum, word| sum + u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]])));
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(words.remainder()) {
        *to = *from;
    }
    sum += u64::from(u32::from_ne_bytes(last));
    sum
}

/// The 16-bit ones'-complement sum.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16 // at most 0xffff here
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The plain way: 16-bit words in network order.
    fn plain_sum(octets: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for pair in octets.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// An IP packet of this protocol whose checksum field holds the pseudo-header's sum, and its pseudo-header.
    fn unfinished(version: u8, protocol: u8, payload: usize) -> (Vec<u8>, Vec<u8>, usize) {
        let header = if protocol == TCP { 20 } else { 8 };
        let len = header + payload;
        let mut packet = vec![0; if version == 4 { 20 } else { 40 }];
        packet[0] = version << 4 | 5;
        let addresses = if version == 4 {
            packet[2..4].copy_from_slice(&(20 + len as u16).to_be_bytes());
            packet[9] = protocol;
            12
        } else {
            packet[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            packet[6] = protocol;
            8
        };
        for (i, octet) in packet[addresses..].iter_mut().enumerate() {
            *octet = 0xa0 ^ (i as u8).wrapping_mul(37);
        }
        let mut pseudo = packet[addresses..].to_vec();
        pseudo.extend((len as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, protocol]);
        let start = packet.len();
        packet.extend((0..len).map(|i| (i * 7 + 3) as u8));
        let field = start + if protocol == TCP { 16 } else { 6 };
        packet[field..field + 2].copy_from_slice(&plain_sum(&pseudo).to_be_bytes());
        (packet, pseudo, start)
    }

    #[test]
    fn the_receiver_finds_the_sum_right() {
        for (version, protocol, payload) in
            [(4, UDP, 0), (4, UDP, 301), (4, TCP, 1460), (6, UDP, 3), (6, TCP, 0), (6, TCP, 999)]
        {
            let (mut packet, mut pseudo, start) = unfinished(version, protocol, payload);
            packet.extend([0; 6]); // padding of a short frame counts for nothing
            let end = packet.len() - 6;
            complete_ip(&mut packet).unwrap();
            pseudo.extend(&packet[start..end]);
            assert_eq!(plain_sum(&pseudo), 0xffff, "IPv{version}, protocol {protocol}, {payload} octets");
        }
    }

    #[test]
    fn tags_are_passed_over() {
        for tags in [&[][..], &[0x81, 0, 0, 1], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2]] {
            let (packet, ..) = unfinished(4, UDP, 10);
            let mut frame = vec![0; 12];
            frame.extend(tags);
            frame.extend([8, 0]);
            frame.extend(&packet);
            complete_ethernet(&mut frame).unwrap();
            assert!(!frame.ends_with(&packet));
        }
    }

    #[test]
    fn what_is_finished_or_unknown_stays() {
        let (packet, ..) = unfinished(4, UDP, 10);
        let mut done = packet.clone();
        complete_ip(&mut done).unwrap();
        let mut fragment = packet.clone();
        fragment[6] = 0x20;
        let mut other = packet.clone();
        other[9] = 132;
        let short = packet[..25].to_vec();
        for (name, packet) in [("finished", done), ("fragment", fragment), ("SCTP", other), ("short", short)]
        {
            let mut after = packet.clone();
            assert_eq!(complete_ip(&mut after), None, "{name}");
            assert_eq!(after, packet, "{name}");
        }
        for len in 0..packet.len() {
            complete_ip(&mut packet[..len].to_vec());
            complete_ethernet(&mut packet[..len].to_vec());
        }
    }
}
