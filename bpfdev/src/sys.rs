//! What of the daemon no crate wraps safely.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes over a descriptor that this process was started with and whose number it was told (`--ready-fd`). To be called
/// once for a number, before the program opens anything that might get it.
///
/// # Errors
/// EBADF when it is not open; InvalidInput for a negative number and for stdin, stdout and stderr, which are not ours.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the standard streams are not for this"));
    }
    // SAFETY: F_SETFD takes an int; a number that is not open gives EBADF. Threads and children get no copy of it.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and by the contract above nothing in this process owns it: who started us gave it for this.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::inherited;

    #[test]
    fn what_is_not_open_is_refused() {
        assert_eq!(inherited(i32::MAX).err().and_then(|e| e.raw_os_error()), Some(libc::EBADF));
        for number in -1..=2 {
            assert!(inherited(number).is_err(), "{number} is not for this");
        }
    }
}
