//! The interfaces of this machine, as getifaddrs(3) tells of them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bpfdev_core::linktype::Linktype;

use crate::sys::{self, Medium, SocketAddress};

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceInfo {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// The system's index of it; 0 where it has none.
    pub index: u32,
    /// Its network addresses, in the system's order.
    pub addresses: Vec<Address>,
    /// Its link-layer address in the order of transmission; `None` where it has none.
    pub link_address: Option<Vec<u8>>,
    /// Its flags when it was asked.
    pub flags: InterfaceFlags,
    /// The link type that packets have unless another is asked for, where the system tells it of an interface that nothing
    /// is attached to: by its ARPHRD_ number on Linux, by its IFT_ number elsewhere.
    pub linktype: Option<Linktype>,
}

/// A network address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address. A link-local one is without the scope that some systems write into it.
    pub ip: IpAddr,
    /// Length of the network's prefix in bits; `None` where there is no mask, or not one of that kind.
    pub prefix: Option<u8>,
}

/// Some of an interface's IFF_ flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceFlags {
    /// IFF_UP: it is switched on.
    pub up: bool,
    /// IFF_RUNNING: it has what it needs to pass packets, such as a cable.
    pub running: bool,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// IFF_BROADCAST.
    pub broadcast: bool,
    /// IFF_POINTOPOINT.
    pub point_to_point: bool,
}

impl InterfaceFlags {
    fn new(flags: u32) -> InterfaceFlags {
        let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
        InterfaceFlags {
            up: has(libc::IFF_UP),
            running: has(libc::IFF_RUNNING),
            loopback: has(libc::IFF_LOOPBACK),
            broadcast: has(libc::IFF_BROADCAST),
            point_to_point: has(libc::IFF_POINTOPOINT),
        }
    }
}

/// The interfaces of the network that the calling thread is in, by their index, then by name. `loopback` is the link
/// type of loopback interfaces: [`LoopbackFraming::linktype`](bpfdev_core::backend::LoopbackFraming) of the dialect.
///
/// # Errors
/// Those of getifaddrs(3): no memory, or on Linux no netlink socket.
pub fn interfaces(loopback: Linktype) -> io::Result<Vec<InterfaceInfo>> {
    let mut found: BTreeMap<String, InterfaceInfo> = BTreeMap::new();
    for entry in sys::interfaces()? {
        let info = found.entry(entry.name).or_default();
        info.flags = InterfaceFlags::new(entry.flags);
        let Some(address) = entry.address else { continue };
        if let Some(ip) = ip(address.family, &address.bytes) {
            // a mask's own family may say nothing
            let prefix = entry.mask.and_then(|mask| prefix(address.family, &mask));
            info.addresses.push(Address { ip, prefix });
        } else if let Some(link) = sys::link(address.family, &address.bytes) {
            info.index = link.index;
            info.linktype = sys::medium(link.kind).map(|medium| match medium {
                Medium::Linktype(linktype) => linktype,
                Medium::Loopback => loopback,
            });
            let some = !link.address.is_empty() && !info.flags.loopback;
            info.link_address = some.then_some(link.address);
        }
    }
    let mut list: Vec<InterfaceInfo> = Vec::with_capacity(found.len());
    for (name, mut info) in found {
        if info.index == 0 {
            info.index = sys::index_of(&name);
        }
        info.name = name;
        list.push(info);
    }
    // stable: those of equal index stay in the order of their names
    list.sort_by_key(|info| info.index);
    Ok(list)
}

/// The octets of an address of this family: at byte 4 of a `struct sockaddr_in`, at byte 8 of a `struct sockaddr_in6`.
fn octets(family: i32, bytes: &[u8]) -> Option<&[u8]> {
    match family {
        libc::AF_INET => Some(bytes.get(4..bytes.len().min(8)).unwrap_or_default()),
        libc::AF_INET6 => Some(bytes.get(8..bytes.len().min(24)).unwrap_or_default()),
        _ => None,
    }
}

fn ip(family: i32, bytes: &[u8]) -> Option<IpAddr> {
    let octets = octets(family, bytes)?;
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let mut v6 = <[u8; 16]>::try_from(octets).ok()?;
    if v6[0] == 0xfe && v6[1] & 0xc0 == 0x80 {
        // the systems with KAME's stack have the scope here
        v6[2..4].fill(0);
    }
    Some(Ipv6Addr::from(v6).into())
}

/// The length of the prefix that a mask leaves. A BSD's mask ends with its last byte that is not zero.
fn prefix(family: i32, mask: &SocketAddress) -> Option<u8> {
    let octets = octets(family, &mask.bytes)?;
    let ones: u32 = octets.iter().map(|octet| octet.count_ones()).sum();
    let leading = octets
        .iter()
        .position(|&octet| octet != 0xff)
        .map_or(octets.len() * 8, |whole| whole * 8 + octets[whole].leading_ones() as usize);
    (ones as usize == leading).then(|| u8::try_from(leading).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_among_them() {
        let list = interfaces(Linktype::NULL).expect("a list");
        let lo = list.iter().find(|info| info.flags.loopback).expect("lo, lo0");
        assert!(lo.index > 0 && lo.link_address.is_none());
        assert_eq!(lo.linktype, Some(Linktype::NULL));
        assert!(list.is_sorted_by_key(|info| info.index));
        if lo.flags.up {
            let home = Address { ip: Ipv4Addr::LOCALHOST.into(), prefix: Some(8) };
            assert!(lo.addresses.contains(&home), "{lo:?}");
        }
    }

    #[test]
    fn addresses_are_read_where_the_system_has_them() {
        let v4 = [0, 0, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(ip(libc::AF_INET, &v4), Some(Ipv4Addr::new(192, 0, 2, 1).into()));
        assert_eq!(ip(libc::AF_INET, &v4[..7]), None, "cut");
        let mut v6 = [0; 28];
        v6[8..12].copy_from_slice(&[0xfe, 0x80, 0, 3]);
        v6[23] = 1;
        assert_eq!(ip(libc::AF_INET6, &v6), "fe80::1".parse().ok(), "the scope is taken out");
        assert_eq!(ip(1, &v6), None);
    }

    #[test]
    fn a_mask_is_a_prefix_or_nothing() {
        let mask = |family, bytes: &[u8]| prefix(family, &SocketAddress { family: 0, bytes: bytes.to_vec() });
        let inet = |octets: &[u8]| mask(libc::AF_INET, &[&[0; 4], octets].concat());
        assert_eq!(inet(&[255, 255, 255, 0]), Some(24));
        assert_eq!(inet(&[255, 255, 240]), Some(20), "a BSD leaves the zeros out");
        assert_eq!(inet(&[]), Some(0));
        assert_eq!(mask(libc::AF_INET, &[0, 0]), Some(0), "a mask of no bits");
        assert_eq!(inet(&[255, 0, 255, 0]), None);
        assert_eq!(mask(libc::AF_INET6, &[&[0; 8][..], &[255; 16]].concat()), Some(128));
    }
}
