//! The system calls of a bpf client that the standard library does not have.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::encode::{Encoded, Pointee};

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// ioctl(2) with an argument that [`crate::encode`] made. What the device answers is in it afterwards.
pub(crate) fn ioctl(fd: BorrowedFd<'_>, call: &mut Encoded) -> io::Result<()> {
    if let Some(field) = call.pointer_field() {
        let address = match call.pointee_mut() {
            Pointee::Null => std::ptr::null_mut(),
            // The first page is mapped nowhere.
            Pointee::Unreadable => std::ptr::without_provenance_mut(8),
            Pointee::Words(words) => words.as_mut_ptr(),
        };
        call.put(field, &address.expose_provenance().to_ne_bytes());
    }
    let (number, arg) = call.parts();
    // SAFETY: the device reads and writes at most the bytes of `arg` that the number's size field says, and `Encoded`
    // holds that many, aligned for every field. Its pointer, put there just now, leads to words that live in
    // `call` too: as many as the count beside it says for a list of link types, the only one that is written to;
    // for a program, as many as any system reads before it refuses a longer one. No other reference to either is in
    // use during the call: `call` is borrowed mutably.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number as _, arg.as_mut_ptr()) };
    checked(result).map(drop)
}

/// poll(2) on one descriptor: the events that are there, 0 when `timeout` ran out; `None` waits for ever.
pub(crate) fn poll(fd: BorrowedFd<'_>, events: i16, timeout: Option<Duration>) -> io::Result<i16> {
    let milliseconds = match timeout {
        None => -1,
        // Rounded up: a wait never ends early.
        Some(timeout) => {
            libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        }
    };
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one entry, which is written to only during the call.
    let result = unsafe { libc::poll(&raw mut entry, 1, milliseconds) };
    checked(result)?;
    Ok(entry.revents)
}

/// fcntl(2): sets or clears O_NONBLOCK.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let flags = if on { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    // SAFETY: F_SETFL takes an int and touches no memory.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}
