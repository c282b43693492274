//! The system calls nix has no safe function for, one function each.
#![allow(unsafe_code)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use bpfdev_core::cbpf::Insn;
use libc::{c_int, c_void, ifreq, packet_mreq, sockaddr_ll, socklen_t, tpacket_req, tpacket_stats};

use crate::layout::Layout;

/// Octets of `struct tpacket2_hdr`, padded to TPACKET_ALIGNMENT: where the frame's `struct sockaddr_ll` begins.
pub(crate) const FRAME_ADDRESS: usize = 32;
const _: () = assert!(size_of::<libc::tpacket2_hdr>() == FRAME_ADDRESS);
const _: () = assert!(size_of::<Insn>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Insn>() >= align_of::<libc::sock_filter>());

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn length_of<T>() -> socklen_t {
    // The few structs of this file are far below 4 GiB.
    size_of::<T>() as socklen_t
}

/// setsockopt(2) with a plain struct that holds no pointer.
fn set<T: Copy>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is readable for the length given, and the kernel only reads it. The callers are in this file
    // and pass types without pointers (the one with a pointer argues for it there).
    check(unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), length_of::<T>())
    })
    .map(drop)
}

/// setsockopt(2) of an `int`.
pub(crate) fn set_int(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    set(fd, level, name, &value)
}

/// SO_ATTACH_FILTER: replaces the socket's filter.
pub(crate) fn attach_filter(fd: BorrowedFd<'_>, insns: &[Insn]) -> io::Result<()> {
    let len = u16::try_from(insns.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // The kernel copies `len` instructions out of `filter` during the call and writes nothing there; an Insn is a
    // `struct sock_filter` (asserted above), and the slice outlives the call.
    let program = libc::sock_fprog { len, filter: insns.as_ptr().cast_mut().cast() };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// PACKET_ADD_MEMBERSHIP or PACKET_DROP_MEMBERSHIP of PACKET_MR_PROMISC.
pub(crate) fn set_promiscuous(fd: BorrowedFd<'_>, index: c_int, on: bool) -> io::Result<()> {
    let name = if on { libc::PACKET_ADD_MEMBERSHIP } else { libc::PACKET_DROP_MEMBERSHIP };
    let request = packet_mreq {
        mr_ifindex: index,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(fd, libc::SOL_PACKET, name, &request)
}

/// PACKET_RX_RING of this layout.
pub(crate) fn make_ring(fd: BorrowedFd<'_>, layout: &Layout) -> io::Result<()> {
    let request = tpacket_req {
        tp_block_size: layout.block_size,
        tp_block_nr: layout.blocks,
        tp_frame_size: layout.frame_size,
        tp_frame_nr: layout.frames(),
    };
    set(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
}

/// PACKET_STATISTICS, which the kernel clears: packets since the last call (lost ones included), lost ones.
pub(crate) fn statistics(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut stats = tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = length_of::<tpacket_stats>();
    // SAFETY: `stats` is writable for `len` octets and the kernel writes at most that many.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut len,
        )
    })?;
    Ok((stats.tp_packets, stats.tp_drops))
}

/// A packet socket's address: an interface and an ethertype (host order; 0 for none).
pub(crate) fn link_address(index: c_int, protocol: u16) -> sockaddr_ll {
    sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

/// bind(2) of a packet socket.
pub(crate) fn bind(fd: BorrowedFd<'_>, address: &sockaddr_ll) -> io::Result<()> {
    let len = length_of::<sockaddr_ll>();
    // SAFETY: the address is readable for the length given.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const *address).cast(), len) }).map(drop)
}

/// getsockname(2) of a packet socket. The interface index is -1 once its interface was removed.
pub(crate) fn socket_address(fd: BorrowedFd<'_>) -> io::Result<sockaddr_ll> {
    let mut address = link_address(0, 0);
    let mut len = length_of::<sockaddr_ll>();
    // SAFETY: `address` is writable for `len` octets and the kernel writes at most that many.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len) })?;
    Ok(address)
}

/// sendmsg(2) of the parts as one frame, without waiting.
pub(crate) fn send(fd: BorrowedFd<'_>, parts: [&[u8]; 2], to: Option<&sockaddr_ll>) -> io::Result<usize> {
    let mut vectors =
        parts.map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    // SAFETY: msghdr is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len() as _;
    if let Some(address) = to {
        message.msg_name = (&raw const *address).cast_mut().cast::<c_void>();
        message.msg_namelen = length_of::<sockaddr_ll>();
    }
    // SAFETY: the address, the vectors and what they point at live until the call returns; sendmsg only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Asks for one `struct ifreq` by an interface ioctl; every one used here fills the union of 24 octets at most.
fn interface_ioctl(fd: BorrowedFd<'_>, request: libc::c_ulong, req: &mut ifreq) -> io::Result<()> {
    // SAFETY: the requests passed in this file take a pointer to a `struct ifreq` and write only into it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &raw mut *req) }).map(drop)
}

fn empty_ifreq() -> ifreq {
    // SAFETY: ifreq is plain data: an array of octets and a union whose members are valid when all zero.
    unsafe { std::mem::zeroed() }
}

fn named_ifreq(name: &str) -> io::Result<ifreq> {
    let mut req = empty_ifreq();
    if name.is_empty() || name.len() >= req.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in req.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(req)
}

/// SIOCGIFINDEX in the socket's network namespace: the index of the interface called `name`.
pub(crate) fn interface_index(fd: BorrowedFd<'_>, name: &str) -> io::Result<c_int> {
    let mut req = named_ifreq(name)?;
    interface_ioctl(fd, libc::SIOCGIFINDEX, &mut req)?;
    // SAFETY: the call succeeded, so it has stored this member; every bit pattern is an int.
    Ok(unsafe { req.ifr_ifru.ifru_ifindex })
}

/// SIOCGIFNAME in the socket's network namespace: the present name of an interface.
pub(crate) fn interface_name(fd: BorrowedFd<'_>, index: c_int) -> io::Result<String> {
    let mut req = empty_ifreq();
    req.ifr_ifru.ifru_ifindex = index;
    interface_ioctl(fd, libc::SIOCGIFNAME, &mut req)?;
    let name: Vec<u8> = req.ifr_name.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// SIOCGIFFLAGS: the IFF_ flags, sixteen of them.
pub(crate) fn interface_flags(fd: BorrowedFd<'_>, name: &str) -> io::Result<c_int> {
    let mut req = named_ifreq(name)?;
    interface_ioctl(fd, libc::SIOCGIFFLAGS, &mut req)?;
    // SAFETY: the call succeeded, so it has stored this member; every bit pattern is a short.
    Ok(c_int::from(unsafe { req.ifr_ifru.ifru_flags }))
}

/// SIOCGIFMTU: largest payload in octets.
pub(crate) fn interface_mtu(fd: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let mut req = named_ifreq(name)?;
    interface_ioctl(fd, libc::SIOCGIFMTU, &mut req)?;
    // SAFETY: the call succeeded, so it has stored this member; every bit pattern is an int.
    Ok(u32::try_from(unsafe { req.ifr_ifru.ifru_mtu }).unwrap_or(0))
}

/// MEMBARRIER_CMD_GLOBAL: waits until every CPU has left what it was doing in the kernel under RCU (8 to 24 ms here).
pub(crate) fn membarrier_global() -> io::Result<()> {
    // SAFETY: membarrier(2) takes three integers and touches none of our memory.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A socket whose close(2) takes some 20 ms and is left to the reaper thread.
#[derive(Debug)]
pub(crate) struct SlowClose(ManuallyDrop<OwnedFd>);

impl From<OwnedFd> for SlowClose {
    fn from(fd: OwnedFd) -> SlowClose {
        SlowClose(ManuallyDrop::new(fd))
    }
}

impl AsFd for SlowClose {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for SlowClose {
    fn drop(&mut self) {
        // SAFETY: the value is taken once, here, and `self` is not used afterwards.
        let fd = unsafe { ManuallyDrop::take(&mut self.0) };
        crate::reaper::close(fd);
    }
}
