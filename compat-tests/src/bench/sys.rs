//! The system calls of the bench that no crate wraps safely. All its unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A packet socket on `interface` that receives frames of an ethertype; none when it is 0.
///
/// # Errors
/// No such interface; EPERM without CAP_NET_RAW.
pub fn packet_socket(interface: &str, protocol: u16) -> io::Result<OwnedFd> {
    let index = if_nametoindex(interface)?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is readable for the length given, and bind(2) only reads it.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(socket)
}

/// Sends frames.
#[derive(Debug)]
pub struct PacketSender(OwnedFd);

/// Frames of one sendmmsg(2).
pub const AT_ONCE: usize = 64;

impl PacketSender {
    /// Sends on `interface`, and receives nothing.
    ///
    /// # Errors
    /// Those of [`packet_socket`].
    pub fn open(interface: &str) -> io::Result<PacketSender> {
        packet_socket(interface, 0).map(PacketSender)
    }

    /// Sends `frame` so many times, at most [`AT_ONCE`]; how many the kernel took, at least one.
    ///
    /// # Errors
    /// The kernel took none.
    pub fn send(&self, frame: &[u8], count: usize) -> io::Result<usize> {
        let mut vector = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
        // SAFETY: mmsghdr is plain data, for which all zeroes is a valid value.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = &raw mut vector;
        message.msg_hdr.msg_iovlen = 1;
        let mut messages = [message; AT_ONCE];
        let count = count.min(AT_ONCE) as libc::c_uint;
        // SAFETY: `count` messages are there, and what they point at, the vector and the frame, outlives the call. It
        // writes only the messages' msg_len.
        let sent = unsafe { libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        usize::try_from(check(sent)?).map_err(io::Error::other)
    }
}

/// An open device, asked with the numbers of our header.
#[derive(Debug)]
pub struct Bpf<'a>(pub &'a File);

/// `struct bpf_stat`.
#[repr(C)]
struct Stat {
    recv: u32,
    drop: u32,
}

const BIOCSBLEN: libc::c_ulong = nix::request_code_readwrite!(b'B', 102, 4);
const BIOCSETIF: libc::c_ulong = nix::request_code_write!(b'B', 108, size_of::<libc::ifreq>());
const BIOCSRTIMEOUT: libc::c_ulong = nix::request_code_write!(b'B', 109, size_of::<libc::timeval>());
const BIOCGSTATS: libc::c_ulong = nix::request_code_read!(b'B', 111, size_of::<Stat>());
const BIOCIMMEDIATE: libc::c_ulong = nix::request_code_write!(b'B', 112, 4);

impl Bpf<'_> {
    /// An ioctl whose argument is a `T`, which holds no pointer.
    fn ioctl<T>(&self, request: libc::c_ulong, argument: &mut T) -> io::Result<()> {
        // SAFETY: the requests of this file are passed with an argument of the size that is part of their number, which
        // the kernel reads and writes at most; every bit pattern is valid for the types used.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), request as _, &raw mut *argument) }).map(drop)
    }

    /// BIOCSBLEN, bytes.
    ///
    /// # Errors
    /// The device's.
    pub fn set_buffer_length(&self, mut length: u32) -> io::Result<()> {
        self.ioctl(BIOCSBLEN, &mut length)
    }

    /// BIOCSRTIMEOUT.
    ///
    /// # Errors
    /// The device's.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let mut timeval = libc::timeval {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).map_err(io::Error::other)?,
            tv_usec: timeout.subsec_micros().into(),
        };
        self.ioctl(BIOCSRTIMEOUT, &mut timeval)
    }

    /// BIOCIMMEDIATE.
    ///
    /// # Errors
    /// The device's.
    pub fn set_immediate(&self, on: bool) -> io::Result<()> {
        self.ioctl(BIOCIMMEDIATE, &mut u32::from(on))
    }

    /// BIOCSETIF.
    ///
    /// # Errors
    /// The device's.
    pub fn set_interface(&self, name: &str) -> io::Result<()> {
        // SAFETY: ifreq is plain data, for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        self.ioctl(BIOCSETIF, &mut request)
    }

    /// BIOCGSTATS: packets dropped.
    ///
    /// # Errors
    /// The device's.
    pub fn dropped(&self) -> io::Result<u32> {
        let mut stat = Stat { recv: 0, drop: 0 };
        self.ioctl(BIOCGSTATS, &mut stat)?;
        Ok(stat.drop)
    }
}
