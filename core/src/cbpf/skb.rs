//! What Linux's filter machine sees besides the packet's bytes: the SKF_ extensions of `<linux/filter.h>`.

use super::code;
use super::interpret::{load, random};

/// Offsets from here on (loads of any mode) count from the link header.
#[doc(alias = "SKF_LL_OFF")]
pub const LL_OFF: u32 = 0xffe0_0000;
/// Offsets from here on (loads of any mode) count from the network header.
#[doc(alias = "SKF_NET_OFF")]
pub const NET_OFF: u32 = 0xfff0_0000;
/// Absolute loads from here on read ancillary data.
#[doc(alias = "SKF_AD_OFF")]
pub const AD_OFF: u32 = 0xffff_f000;

macro_rules! ancillary {
    ($($name:ident = $offset:literal, $alias:literal, $image:literal, $doc:literal;)*) => {
        $(#[doc = $doc] #[doc(alias = $alias)] pub const $name: u32 = AD_OFF + $offset;)*
        /// Every ancillary offset, with its name in `tcpdump -d`.
        pub static ANCILLARY: [(u32, &str); 16] = [$(($name, $image)),*];
    };
}

ancillary! {
    AD_PROTOCOL = 0, "SKF_AD_PROTOCOL", "proto", "The Ethernet type, in host order.";
    AD_PKTTYPE = 4, "SKF_AD_PKTTYPE", "type", "PACKET_HOST, PACKET_OUTGOING, ….";
    AD_IFINDEX = 8, "SKF_AD_IFINDEX", "ifidx", "The interface's index.";
    AD_NLATTR = 12, "SKF_AD_NLATTR", "nla", "Finds a netlink attribute.";
    AD_NLATTR_NEST = 16, "SKF_AD_NLATTR_NEST", "nlan", "Finds a nested netlink attribute.";
    AD_MARK = 20, "SKF_AD_MARK", "mark", "The firewall mark.";
    AD_QUEUE = 24, "SKF_AD_QUEUE", "queue", "The receive queue.";
    AD_HATYPE = 28, "SKF_AD_HATYPE", "hatype", "The interface's ARPHRD_ type.";
    AD_RXHASH = 32, "SKF_AD_RXHASH", "rxhash", "The flow hash.";
    AD_CPU = 36, "SKF_AD_CPU", "cpu", "The processor that runs the filter.";
    AD_ALU_XOR_X = 40, "SKF_AD_ALU_XOR_X", "xor_x", "`A <- A ^ X`.";
    AD_VLAN_TAG = 44, "SKF_AD_VLAN_TAG", "vlan_tci", "The stripped VLAN tag, 0 without one.";
    AD_VLAN_TAG_PRESENT = 48, "SKF_AD_VLAN_TAG_PRESENT", "vlanp", "1 when a VLAN tag was stripped, else 0.";
    AD_PAY_OFFSET = 52, "SKF_AD_PAY_OFFSET", "poff", "Where the payload starts.";
    AD_RANDOM = 56, "SKF_AD_RANDOM", "random", "A random number.";
    AD_VLAN_TPID = 60, "SKF_AD_VLAN_TPID", "vlan_tpid", "The stripped VLAN tag's Ethernet type, 0 without one.";
}

/// Whether an absolute load at `k` is one of [`ANCILLARY`].
pub fn is_ancillary(k: u32) -> bool {
    ANCILLARY.iter().any(|(offset, _)| *offset == k)
}

/// A VLAN tag that the kernel or the card took out of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VlanTag {
    /// Priority, drop eligible bit and VLAN number.
    pub tci: u16,
    /// Ethernet type of the tag: 0x8100 or 0x88a8.
    pub tpid: u16,
}

/// A packet's fields in the kernel, for a program under [`LINUX`](super::LINUX) rules.
#[doc(alias = "sk_buff")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skb {
    /// Bytes from the packet's start to its network header.
    pub network_header: u32,
    /// Ethernet type, in host order.
    pub protocol: u16,
    /// PACKET_HOST (0), PACKET_OUTGOING (4), ….
    pub pkttype: u8,
    /// The interface's index.
    pub ifindex: u32,
    /// The firewall mark.
    pub mark: u32,
    /// The receive queue.
    pub queue: u16,
    /// ARPHRD_ type: 1 is Ethernet.
    pub hatype: u16,
    /// The flow hash.
    pub rxhash: u32,
    /// The processor that runs the filter.
    pub cpu: u32,
    /// The tag that was stripped, if one was.
    pub vlan: Option<VlanTag>,
}

impl Skb {
    /// An Ethernet packet of which nothing else is known.
    pub const ETHERNET: Skb = Skb {
        network_header: 14,
        protocol: 0,
        pkttype: 0,
        ifindex: 0,
        mark: 0,
        queue: 0,
        hatype: 1,
        rxhash: 0,
        cpu: 0,
        vlan: None,
    };

    /// A load whose offset is outside the packet; `None` rejects the packet.
    pub(super) fn load(&self, code: u16, packet: &[u8], at: u32, a: u32, x: u32) -> Option<u32> {
        if code::class(code) == code::LD && code::mode(code) == code::ABS && at >= AD_OFF {
            return self.ancillary(at, a, x);
        }
        let at = match at {
            NET_OFF.. => self.network_header.checked_add(at - NET_OFF)?,
            LL_OFF.. => at - LL_OFF,
            _ => return None,
        };
        match code::size(code) {
            code::W => load::<4>(packet, at).map(u32::from_be_bytes),
            code::H => load::<2>(packet, at).map(|half| u16::from_be_bytes(half).into()),
            _ => load::<1>(packet, at).map(|[byte]| byte.into()),
        }
    }

    /// The netlink and payload-offset extensions are not modelled: they reject.
    fn ancillary(&self, at: u32, a: u32, x: u32) -> Option<u32> {
        let vlan = self.vlan.unwrap_or_default();
        Some(match at {
            AD_PROTOCOL => self.protocol.into(),
            AD_PKTTYPE => self.pkttype.into(),
            AD_IFINDEX => self.ifindex,
            AD_MARK => self.mark,
            AD_QUEUE => self.queue.into(),
            AD_HATYPE => self.hatype.into(),
            AD_RXHASH => self.rxhash,
            AD_CPU => self.cpu,
            AD_ALU_XOR_X => a ^ x,
            AD_VLAN_TAG => vlan.tci.into(),
            AD_VLAN_TAG_PRESENT => self.vlan.is_some().into(),
            AD_RANDOM => random(),
            AD_VLAN_TPID => vlan.tpid.into(),
            _ => return None,
        })
    }
}

impl Default for Skb {
    fn default() -> Self {
        Self::ETHERNET
    }
}
