//! What the kernel says of an interface, in BSD terms.

use std::io;
use std::os::fd::BorrowedFd;

use bpfdev_core::backend::{Interface, LinkState, TapConfig, TapError};
use bpfdev_core::linktype::Linktype;

use crate::filter::LinkKind;
use crate::netns::Namespace;
use crate::sys;

// Where <linux/if_arp.h> has names that libc lacks.
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_6LOWPAN: u16 = 825;
const ARPHRD_IP6GRE: u16 = 823;

/// Link types of the hardware types whose packets are, on a packet socket, what the link type says. Others (CAN,
/// InfiniBand, netlink, …) carry pseudo-headers or none that a BSD knows.
const LINKTYPES: [(u16, Linktype); 17] = [
    (libc::ARPHRD_ETHER, Linktype::EN10MB),
    (libc::ARPHRD_SLIP, Linktype::RAW),
    (libc::ARPHRD_CSLIP, Linktype::RAW),
    (libc::ARPHRD_PPP, Linktype::RAW),
    (libc::ARPHRD_CISCO, Linktype(104)), // DLT_C_HDLC
    (ARPHRD_RAWIP, Linktype::RAW),
    (libc::ARPHRD_TUNNEL, Linktype::RAW),
    (libc::ARPHRD_TUNNEL6, Linktype::RAW),
    (libc::ARPHRD_FDDI, Linktype::FDDI),
    (libc::ARPHRD_SIT, Linktype::RAW),
    (libc::ARPHRD_IPGRE, Linktype::RAW),
    (libc::ARPHRD_IEEE80211, Linktype::IEEE802_11),
    (libc::ARPHRD_IEEE80211_PRISM, Linktype(119)), // DLT_PRISM_HEADER
    (libc::ARPHRD_IEEE80211_RADIOTAP, Linktype::IEEE802_11_RADIO),
    (ARPHRD_IP6GRE, Linktype::RAW),
    (ARPHRD_6LOWPAN, Linktype::RAW),
    (libc::ARPHRD_NONE, Linktype::RAW),
];

/// What packets of an interface of this hardware type look like.
pub(crate) fn link_kind(hatype: u16, config: &TapConfig) -> Result<(LinkKind, Linktype), TapError> {
    let (kind, linktype) = if hatype == libc::ARPHRD_LOOPBACK {
        (LinkKind::Loopback(config.loopback), config.loopback.linktype)
    } else {
        let linktype = LINKTYPES
            .iter()
            .find_map(|(known, linktype)| (*known == hatype).then_some(*linktype))
            .ok_or(TapError::Unsupported("an interface of this hardware type"))?;
        (if linktype == Linktype::EN10MB { LinkKind::Ethernet } else { LinkKind::Raw }, linktype)
    };
    match config.linktype {
        Some(wanted) if wanted != linktype => Err(TapError::Unsupported("this link type on this interface")),
        _ => Ok((kind, linktype)),
    }
}

/// Finds the interface called `name` in the socket's network namespace: its index and its own name (`name` may be
/// another name of it).
pub(crate) fn look_up(fd: BorrowedFd<'_>, name: &str) -> Result<(i32, String), TapError> {
    let none = || TapError::NoSuchInterface(name.to_owned());
    // The kernel would cut an alias ("eth0:1") at the colon.
    if name.contains([':', '\0', '/']) {
        return Err(none());
    }
    let found = sys::interface_index(fd, name).and_then(|index| Ok((index, sys::interface_name(fd, index)?)));
    found.map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => none(),
        _ => TapError::io(format!("looking up interface {name:?}"), error),
    })
}

/// The calling thread's network namespace, by its inode. Where /proc is not mounted it is 0: nobody can ask for another one
/// there either.
pub(crate) fn network() -> u64 {
    Namespace::of_this_thread().and_then(|namespace| namespace.id()).map_or(0, |(_, inode)| inode)
}

/// The interface a bound socket is on, in the calling thread's network namespace.
pub(crate) fn describe(address: &libc::sockaddr_ll, name: String, linktype: Linktype) -> Interface {
    let len = usize::from(address.sll_halen).min(address.sll_addr.len());
    let loopback = address.sll_hatype == libc::ARPHRD_LOOPBACK;
    Interface {
        name,
        index: u32::try_from(address.sll_ifindex).unwrap_or(0),
        network: network(),
        linktype,
        linktypes: vec![linktype],
        loopback,
        address: if loopback { Vec::new() } else { address.sll_addr[..len].to_vec() },
    }
}

/// The present state of the interface with this index in the socket's network namespace.
pub(crate) fn state(fd: BorrowedFd<'_>, index: i32) -> io::Result<LinkState> {
    // It may have been renamed since.
    let name = sys::interface_name(fd, index)?;
    let up = sys::interface_flags(fd, &name)? & libc::IFF_UP != 0;
    Ok(LinkState { up, mtu: sys::interface_mtu(fd, &name)? })
}
