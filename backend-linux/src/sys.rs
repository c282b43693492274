//! The system calls nix has no safe function for, one function each, and the mapped receive ring.
//!
//! All the unsafe code of this package.
#![allow(unsafe_code)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// A mapped TPACKET_V2 receive ring, read frame by frame round and round.
///
/// Each frame belongs to the kernel or to us, as its first word (`tp_status`) says: with TP_STATUS_USER set it is ours
/// until we store TP_STATUS_KERNEL; otherwise the kernel writes there at any time, and only the word may be read.
#[derive(Debug)]
pub(crate) struct RingMap {
    base: NonNull<u8>,
    layout: Layout,
    /// The present frame.
    present: Place,
    /// The frame [`AHEAD`] of it, which the processor is told to fetch.
    ahead: Place,
}

/// How many frames ahead the processor is told to fetch one. Frames lie too far apart for it to see by itself which
/// comes next, and each was last written by another CPU.
const AHEAD: u32 = 16;

/// A frame's place in the ring.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its number, below `layout.frames()`.
    frame: u32,
    /// Where it begins: always `layout.offset(frame)`, kept because that divides.
    offset: usize,
    /// Frames of its block that follow it.
    left: u32,
}

impl Place {
    fn new(layout: &Layout, frame: u32) -> Place {
        let frame = frame % layout.frames();
        let left = layout.per_block() - 1 - frame % layout.per_block();
        Place { frame, offset: layout.offset(frame), left }
    }

    /// Goes on to the next frame.
    #[inline]
    fn advance(&mut self, layout: &Layout) {
        self.frame += 1;
        self.offset += layout.frame_size as usize;
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
        } else {
            *self = Place::new(layout, self.frame);
        }
    }
}

// SAFETY: the mapping is owned by this value alone, is of the whole process, and is no thread's in particular.
unsafe impl Send for RingMap {}

impl RingMap {
    /// Maps the ring that [`make_ring`] made on `fd` with this layout.
    pub fn new(fd: BorrowedFd<'_>, layout: Layout) -> io::Result<RingMap> {
        // SAFETY: a new shared mapping, at an address of the kernel's choice, of a packet socket's ring: it aliases no
        // memory of ours. That the length is the ring's own is checked by the kernel (EINVAL).
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                layout.len(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(RingMap { base, layout, present: Place::new(&layout, 0), ahead: Place::new(&layout, AHEAD) })
    }

    /// Number of frames.
    pub fn frames(&self) -> u32 {
        self.layout.frames()
    }

    /// Octets of it.
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// The status word of the frame that begins at `offset`.
    fn status_word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `offset` is `self.offset` or comes from Layout::offset: the start of one of the layout's frames, all
        // of which lie within the mapping of Layout::len() octets (frame_size * per_block <= block_size).
        let word = unsafe { self.base.add(offset) };
        // SAFETY: the frame's first four octets are in the mapping, which lives as long as `self`; they are aligned
        // (a page, plus a multiple of TPACKET_ALIGNMENT); and they are only ever accessed atomically, by the kernel
        // and here: the slices of `frame` do not contain them.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// The present frame's status, if the frame is ours.
    #[inline]
    pub fn status(&self) -> Option<u32> {
        // Acquire: what the kernel wrote before it set the status is seen.
        let status = self.status_word(self.present.offset).load(Ordering::Acquire);
        (status & libc::TP_STATUS_USER != 0).then_some(status)
    }

    /// Whether the frame `ahead` of the present one is ours.
    pub fn is_ours(&self, ahead: u32) -> bool {
        let frame = (u64::from(self.present.frame) + u64::from(ahead)) % u64::from(self.frames());
        let offset = self.layout.offset(frame as u32); // below frames(), a u32
        self.status_word(offset).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// [`RingMap::frame`], to be read only.
    #[inline]
    pub fn octets(&self) -> Option<&[u8]> {
        self.status()?;
        let len = self.layout.frame_size as usize - 4;
        // SAFETY: as in `frame`: inside the mapping.
        let start = unsafe { self.base.add(self.present.offset + 4) };
        // SAFETY: as in `frame`, but shared: neither the kernel nor we write there while `self` is borrowed.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) })
    }

    /// Octets of the present frame behind its status word, if the frame is ours: index 0 is the frame's octet 4.
    #[inline]
    pub fn frame(&mut self) -> Option<&mut [u8]> {
        self.status()?;
        let len = self.layout.frame_size as usize - 4;
        // SAFETY: the present frame is in the mapping, and four octets on is still inside it (frame_size is at least
        // 128, see Layout).
        let start = unsafe { self.base.add(self.present.offset + 4) };
        // SAFETY: the octets are inside the frame and so inside the mapping. The frame is ours, so the kernel does not
        // write there until give_back() stores the status, which needs `self` and so comes after this borrow; no other
        // reference into the mapping exists while `self` is borrowed mutably. The kernel's pages are initialised.
        Some(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// Has the processor fetch the head of the frame at `offset`, and the first octets of its packet.
    #[inline]
    fn prefetch(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
            let address = self.base.as_ptr().wrapping_add(offset);
            // SAFETY: it is a hint: it reads nothing as far as the program goes, and faults at no address.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(address.cast::<i8>()) };
            for line in [64, 128] {
                // SAFETY: as above.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(line).cast::<i8>()) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// Gives the present frame back to the kernel, if it is ours, and goes on to the next.
    #[inline]
    pub fn give_back(&mut self) {
        if self.status().is_none() {
            return;
        }
        // Release: our reads and writes of the frame are over before the kernel may write there.
        self.status_word(self.present.offset).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.present.advance(&self.layout);
        self.ahead.advance(&self.layout);
        self.prefetch(self.ahead.offset);
    }
}

impl Drop for RingMap {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this address and length, and no reference into it outlives
        // `self`. It cannot fail for such a range; if it did, the memory would stay mapped, which is harmless.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.layout.len()) };
    }
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
