//! The header before each packet of a TPACKET_V2 ring.

use crate::sys::FRAME_ADDRESS;

/// TP_STATUS_GSO_TCP: a TCP aggregate (since Linux 5.17; libc has no name for it).
pub(crate) const STATUS_GSO_TCP: u32 = 1 << 8;
/// Octets before the slices [`RingMap::frame`](crate::ring::RingMap::frame) gives.
pub(crate) const SKIPPED: usize = 4;
/// Octets of a slice the header takes.
const LEN: usize = FRAME_ADDRESS - SKIPPED + 12;
const ETHERTYPE_VLAN: u16 = 0x8100;

/// What the kernel says about one packet: `struct tpacket2_hdr` and the used part of `struct sockaddr_ll`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// TP_STATUS_ flags.
    pub status: u32,
    /// Octets of the packet, without a tag that was taken out.
    pub len: u32,
    /// Octets of it in the ring.
    pub snaplen: u32,
    /// Where they begin, counted from the start of the frame.
    pub mac: u16,
    /// Time of day: seconds since 1970, modulo 2³².
    pub sec: u32,
    /// Nanoseconds.
    pub nsec: u32,
    tci: u16,
    tpid: u16,
    /// The ethertype, in host order.
    pub protocol: u16,
    /// PACKET_HOST, PACKET_OUTGOING, ….
    pub pkttype: u8,
}

impl Header {
    /// Reads a frame that has this status; `frame` is what RingMap::frame gave.
    #[inline]
    pub fn read(status: u32, frame: &[u8]) -> Option<Header> {
        let bytes: &[u8; LEN] = frame.first_chunk()?;
        let long = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let short = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Some(Header {
            status,
            len: long(0),
            snaplen: long(4),
            mac: short(8),
            sec: long(12),
            nsec: long(16),
            tci: short(20),
            tpid: short(22),
            protocol: u16::from_be(short(FRAME_ADDRESS - SKIPPED + 2)),
            pkttype: bytes[FRAME_ADDRESS - SKIPPED + 10],
        })
    }

    /// Whether these flags are set.
    #[inline]
    pub fn has(&self, flags: u32) -> bool {
        self.status & flags == flags
    }

    /// The 802.1Q tag the kernel took out, as it was in the packet.
    #[inline]
    pub fn tag(&self) -> Option<[u8; 4]> {
        if !self.has(libc::TP_STATUS_VLAN_VALID) {
            return None;
        }
        let tpid = if self.has(libc::TP_STATUS_VLAN_TPID_VALID) { self.tpid } else { ETHERTYPE_VLAN };
        let ([t0, t1], [t2, t3]) = (tpid.to_be_bytes(), self.tci.to_be_bytes());
        Some([t0, t1, t2, t3])
    }
}

/// Puts `tag` back behind the two addresses of the Ethernet frame of `len` octets at `start`, which then begins 4 octets
/// earlier. Returns the new start. Before a packet of the ring there are 14 octets to spare, and what lies before those
/// is the header, which was read.
#[inline]
pub(crate) fn restore_tag(octets: &mut [u8], start: usize, len: usize, tag: [u8; 4]) -> Option<usize> {
    let new = start.checked_sub(4)?;
    octets.get(start..start + 12.min(len))?;
    octets.copy_within(start..start + 12.min(len), new);
    octets.get_mut(new + 12..new + 16)?.copy_from_slice(&tag);
    Some(new)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_the_c_structs() {
        use std::mem::offset_of;
        let hdr = |offset: usize| offset - SKIPPED;
        assert_eq!(hdr(offset_of!(libc::tpacket2_hdr, tp_len)), 0);
        assert_eq!(hdr(offset_of!(libc::tpacket2_hdr, tp_snaplen)), 4);
        assert_eq!(hdr(offset_of!(libc::tpacket2_hdr, tp_mac)), 8);
        assert_eq!(hdr(offset_of!(libc::tpacket2_hdr, tp_sec)), 12);
        assert_eq!(hdr(offset_of!(libc::tpacket2_hdr, tp_nsec)), 16);
        assert_eq!(hdr(offset_of!(libc::tpacket2_hdr, tp_vlan_tci)), 20);
        assert_eq!(hdr(offset_of!(libc::tpacket2_hdr, tp_vlan_tpid)), 22);
        assert_eq!(offset_of!(libc::sockaddr_ll, sll_protocol), 2);
        assert_eq!(offset_of!(libc::sockaddr_ll, sll_pkttype), 10);
    }

    #[test]
    fn a_tag_goes_behind_the_addresses() {
        let mut octets: Vec<u8> = (0..40).collect();
        assert_eq!(restore_tag(&mut octets, 10, 20, [0x81, 0, 0, 7]), Some(6));
        assert_eq!(octets[6..18], (10..22).collect::<Vec<u8>>());
        assert_eq!(octets[18..24], [0x81, 0, 0, 7, 22, 23]);
        assert_eq!(restore_tag(&mut octets, 3, 20, [0; 4]), None, "no room before it");
        assert_eq!(restore_tag(&mut [0; 8], 4, 20, [0; 4]), None, "no frame");
    }
}
