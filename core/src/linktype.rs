//! Link types (DLT_), and what the descriptor must know of each.

/// A link-layer header type, by the `DLT_` number of the BSDs' net/dlt.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Linktype(pub u32);

impl Linktype {
    /// 4-byte address family in host order, then the network packet.
    #[doc(alias = "DLT_NULL")]
    pub const NULL: Linktype = Linktype(0);
    /// Ethernet, 14-byte header.
    #[doc(alias = "DLT_EN10MB")]
    pub const EN10MB: Linktype = Linktype(1);
    /// SLIP.
    #[doc(alias = "DLT_SLIP")]
    pub const SLIP: Linktype = Linktype(8);
    /// PPP.
    #[doc(alias = "DLT_PPP")]
    pub const PPP: Linktype = Linktype(9);
    /// FDDI.
    #[doc(alias = "DLT_FDDI")]
    pub const FDDI: Linktype = Linktype(10);
    /// RFC 1483 ATM.
    #[doc(alias = "DLT_ATM_RFC1483")]
    pub const ATM_RFC1483: Linktype = Linktype(11);
    /// 802.11.
    #[doc(alias = "DLT_IEEE802_11")]
    pub const IEEE802_11: Linktype = Linktype(105);
    /// 802.11 behind a radiotap header.
    #[doc(alias = "DLT_IEEE802_11_RADIO")]
    pub const IEEE802_11_RADIO: Linktype = Linktype(127);
    /// IP over IEEE 1394, as macOS has it.
    #[doc(alias = "DLT_APPLE_IP_OVER_IEEE1394")]
    pub const APPLE_IP_OVER_IEEE1394: Linktype = Linktype(138);
    /// macOS's pktap.
    #[doc(alias = "DLT_PKTAP")]
    pub const PKTAP: Linktype = Linktype(258);
    /// The network packet with nothing before it (12 everywhere but on OpenBSD).
    #[doc(alias = "DLT_RAW")]
    pub const RAW: Linktype = Linktype(12);
    /// 4-byte address family in network order (108 in files; OpenBSD's own number is 12).
    #[doc(alias = "DLT_LOOP")]
    pub const LOOP: Linktype = Linktype(108);

    /// The type whose number in a capture file (`LINKTYPE_`) is `number`.
    pub const fn from_file(number: u32) -> Linktype {
        match number {
            100 => Linktype::ATM_RFC1483,
            101 => Linktype::RAW,
            same => Linktype(same),
        }
    }

    /// Its number in a capture file.
    pub const fn in_file(self) -> u32 {
        match self {
            Linktype::ATM_RFC1483 => 100,
            Linktype::RAW => 101,
            Linktype(same) => same,
        }
    }

    /// Length of the link header in bytes where it is fixed.
    pub const fn header_len(self) -> usize {
        match self {
            Linktype::EN10MB => 14,
            Linktype::NULL | Linktype::LOOP => 4,
            _ => 0,
        }
    }
}
