//! What a client does wrong on purpose (pointers that lead nowhere), and descriptors that come through a socket. All unsafe
//! code of the soak.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Addresses that no memory of a process is at: the null page, and the kernel's half.
pub const NOWHERE: [usize; 4] = [0, 8, 0xffff_8000_0000_0000, usize::MAX - 4095];

fn checked(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// ioctl(2) with an argument that is not there.
///
/// # Errors
/// The device's; InvalidInput for an address that is not one of [`NOWHERE`].
pub fn ioctl_nowhere(fd: BorrowedFd<'_>, number: u32, address: usize) -> io::Result<usize> {
    if !NOWHERE.contains(&address) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: nothing of this process is at the address, so nothing of it can be read or written.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), number.into(), address) }.into())
}

/// read(2) into memory that is not there.
///
/// # Errors
/// The device's; InvalidInput for an address that is not one of [`NOWHERE`].
pub fn read_nowhere(fd: BorrowedFd<'_>, address: usize, len: usize) -> io::Result<usize> {
    if !NOWHERE.contains(&address) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let address = std::ptr::without_provenance_mut(address);
    // SAFETY: nothing of this process is at the address, so nothing of it can be written.
    checked(unsafe { libc::read(fd.as_raw_fd(), address, len) } as libc::c_long)
}

/// Receives a message and the descriptor that comes with it.
///
/// # Errors
/// recvmsg(2)'s; InvalidData when there is none with it.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, OwnedFd)> {
    let mut words = vec![0; 1 << 16];
    let mut room = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(&mut words)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), flags)?;
    let fds = message.cmsgs()?.find_map(|with| match with {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let len = message.bytes;
    let fd = fds.ok_or(io::ErrorKind::InvalidData)?;
    words.truncate(len);
    // SAFETY: recvmsg(2) has just made it for us: there was room for one, and it is taken once.
    Ok((words, unsafe { OwnedFd::from_raw_fd(fd) }))
}
