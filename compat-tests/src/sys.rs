//! Everything of this package that is unsafe.

use std::io;
#[cfg(target_os = "linux")]
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
#[cfg(target_os = "linux")]
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What is done to a system call's result.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Bytes any BSD request number can ask for (its size field has 13 bits), rounded up.
const ARG_MAX: usize = 8192;

/// ioctl(2) with `arg` copied in and out. At byte `pointer` the argument holds a 64-bit pointer: to `pointee`, or null; it
/// is zero afterwards.
///
/// # Errors
/// The system's; InvalidInput for an argument longer than any request's.
pub fn ioctl(
    fd: BorrowedFd<'_>,
    request: u32,
    arg: &mut [u8],
    pointee: Option<&mut [u8]>,
    pointer: Option<usize>,
) -> io::Result<()> {
    let mut room = [0u64; ARG_MAX / 8];
    let whole = zerocopy::IntoBytes::as_mut_bytes(&mut room[..]);
    let copied = whole.get_mut(..arg.len()).ok_or(io::ErrorKind::InvalidInput)?;
    copied.copy_from_slice(arg);
    if let Some(field) = pointer.and_then(|at| whole.get_mut(at..at + 8)) {
        let address = pointee.map_or(0, |pointee| pointee.as_mut_ptr() as u64);
        field.copy_from_slice(&address.to_ne_bytes());
    }
    // SAFETY: the argument is 8 KiB of our own, aligned for any structure and longer than any size a request number
    // can hold. The only pointer in a request of bpf(4) is null or that of `pointee`, borrowed mutably for the whole
    // call: a filter is only read, and a list of link types is given more room than any interface fills.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, room.as_mut_ptr()) };
    let done = checked(result).map(drop);
    let whole = zerocopy::IntoBytes::as_mut_bytes(&mut room[..]);
    if let Some(field) = pointer.and_then(|at| whole.get_mut(at..at + 8)) {
        field.fill(0);
    }
    arg.copy_from_slice(&whole[..arg.len()]);
    done
}

/// Has a program start with SIGINT, SIGQUIT and SIGHUP meaning what they mean. It inherits them ignored where we run in a
/// script's background or under nohup(1), and a shell cannot take that back.
pub fn signals_by_default(command: &mut Command) {
    let reset = || {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
            // SAFETY: signal(2) with SIG_DFL touches no memory of ours.
            if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec it calls signal(2) only, which is async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(reset) };
}

/// Has this socket's IPv4 packets leave without the DF bit.
///
/// # Errors
/// ENOTSOCK, and for a socket of another family.
#[cfg(target_os = "linux")]
pub fn without_df(socket: BorrowedFd<'_>) -> io::Result<()> {
    let value = libc::IP_PMTUDISC_DONT;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let (level, option) = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
    // SAFETY: the option is one int, which is only read.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), len) };
    checked(set).map(drop)
}

/// A non-blocking packet(7) socket for whole frames on the interface of this index; `protocol` is an ethertype, 0 receives
/// nothing.
///
/// # Errors
/// EPERM without CAP_NET_RAW, ENODEV.
#[cfg(target_os = "linux")]
pub fn packet_socket(index: u32, protocol: u16) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket(2) takes no pointers.
    let fd = checked(unsafe { libc::socket(libc::AF_PACKET, flags, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all of sockaddr_ll are integers, for which zero is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is a whole sockaddr_ll of that length, and is only read.
    checked(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(fd)
}
