//! This host's error numbers.

use std::io;

use bpfdev_core::errno::Errno;

/// The error of a system call by its name; what bpf(4) never answers is `Io`.
pub fn errno_of(error: &io::Error) -> Errno {
    // Each system has numbers of its own; libc has them all.
    match error.raw_os_error().unwrap_or(libc::EIO) {
        libc::EPERM => Errno::Perm,
        libc::ENOENT => Errno::NoEnt,
        libc::ESRCH => Errno::Srch,
        libc::EINTR => Errno::Intr,
        libc::EIO => Errno::Io,
        libc::ENXIO => Errno::NxIo,
        libc::EBADF => Errno::BadF,
        libc::EAGAIN => Errno::Again,
        libc::ENOMEM => Errno::NoMem,
        libc::EACCES => Errno::Access,
        libc::EFAULT => Errno::Fault,
        libc::EBUSY => Errno::Busy,
        libc::ENODEV => Errno::NoDev,
        libc::EINVAL => Errno::Inval,
        libc::EMFILE => Errno::MFile,
        libc::ENOTTY => Errno::NoTty,
        libc::ERANGE => Errno::Range,
        libc::EOVERFLOW => Errno::Overflow,
        libc::EMSGSIZE => Errno::MsgSize,
        libc::EOPNOTSUPP => Errno::OpNotSupp,
        libc::EAFNOSUPPORT => Errno::AfNoSupport,
        libc::ENETDOWN => Errno::NetDown,
        libc::EALREADY => Errno::Already,
        libc::ECONNABORTED => Errno::ConnAborted,
        libc::ENOBUFS => Errno::NoBufs,
        libc::ENOTCONN => Errno::NotConn,
        libc::ENOSYS => Errno::NoSys,
        _ => Errno::Io,
    }
}

/// The same error for who wants an [`io::Error`]: it holds the [`Errno`], and needs no host's number.
pub(crate) fn io_error(errno: Errno) -> io::Error {
    let kind = match errno {
        Errno::Perm | Errno::Access => io::ErrorKind::PermissionDenied,
        Errno::NoEnt => io::ErrorKind::NotFound,
        Errno::Intr => io::ErrorKind::Interrupted,
        Errno::Again => io::ErrorKind::WouldBlock,
        Errno::NoMem => io::ErrorKind::OutOfMemory,
        Errno::Inval => io::ErrorKind::InvalidInput,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::backend::TapError;

    #[test]
    fn an_error_of_the_device_keeps_its_name() {
        for errno in [Errno::Perm, Errno::Inval, Errno::NoBufs, Errno::NetDown, Errno::Io] {
            assert_eq!(Errno::from(&TapError::io("this", io_error(errno))), errno);
        }
        assert_eq!(io_error(Errno::Perm).kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_number_has_one_name() {
        for (number, errno) in
            [(libc::EINVAL, Errno::Inval), (libc::EAGAIN, Errno::Again), (libc::ENOTEMPTY, Errno::Io)]
        {
            assert_eq!(errno_of(&io::Error::from_raw_os_error(number)), errno);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn on_linux_they_are_the_cores_numbers() {
        for number in 1..=133 {
            if let Some(errno) = Errno::from_linux(number) {
                assert_eq!(errno_of(&io::Error::from_raw_os_error(number)), errno, "{number}");
            }
        }
    }
}
