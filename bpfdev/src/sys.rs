//! What of the daemon no crate wraps safely.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// The descriptor a system call has just made.
fn made(result: libc::c_long) -> io::Result<OwnedFd> {
    let Ok(fd) = RawFd::try_from(result) else { return Err(io::Error::other("no such descriptor")) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: callers pass the result of a system call that makes a descriptor, at once and once, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives the calling thread a table of descriptors of its own with the standard streams alone (close_range(2)). To be called
/// where a thread begins, before it opens anything: what others open and close is not its any more.
///
/// # Errors
/// ENOSYS before Linux 5.9, ENOMEM.
pub(crate) fn own_descriptors() -> io::Result<()> {
    const FIRST: libc::c_uint = libc::STDERR_FILENO.cast_unsigned() + 1;
    // SAFETY: three integers. The table is copied before anything in the copy is closed, so no other thread's descriptors
    // are touched, and by the contract above this thread owns none.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The process of this number: a descriptor that means it and no later one (pidfd_open(2)).
///
/// # Errors
/// ESRCH when there is none; EINVAL for a number below 1; EINVAL or ENOENT for a thread's.
pub(crate) fn process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: two integers; a number no process has is ESRCH. The descriptor is close-on-exec by itself.
    made(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Sends a signal to the process of a descriptor of [`process`]; 0 only asks whether that can be done.
///
/// # Errors
/// ESRCH when the process has ended, EPERM without the right, EINVAL for no signal's number.
pub(crate) fn send_signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed, so it is open; with no siginfo the kernel makes one as kill(2) does.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_info, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The namespace that the user or pid namespace `ns` was made in (`NS_GET_PARENT`, ioctl_nsfs(2)).
///
/// # Errors
/// EPERM when it is not below ours; ENOTTY for what is no namespace.
pub(crate) fn parent_namespace(ns: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const NS_GET_PARENT: u32 = 0xb702;
    // SAFETY: the descriptor is borrowed, so it is open; the request has no argument and makes a descriptor.
    made(unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_PARENT as _) }.into())
}

/// The size of a file as the kernel knows it, without asking the file system (`AT_STATX_DONT_SYNC`).
///
/// # Errors
/// statx(2)'s.
pub(crate) fn known_size(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the descriptor is borrowed, so it is open; the path is an empty string; `stat` is room for one struct statx.
    let result =
        unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_SIZE, stat.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeroes is a value of it, integers only, and statx has filled it in.
    Ok(unsafe { stat.assume_init() }.stx_size)
}

/// Rows and columns of a terminal; `None`: it is none, or says nothing.
pub(crate) fn window_size(terminal: impl AsFd) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is borrowed, so it is open; `size` is room for one struct winsize.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    let (rows, columns) = (usize::from(size.ws_row), usize::from(size.ws_col));
    (result == 0 && rows > 0 && columns > 0).then_some((rows, columns))
}

/// Has the memory of large buffers given back to the system as soon as they are dropped. glibc raises the size from which
/// on it does so to that of the largest that was ever dropped, and what is smaller keeps a heap at its highest.
pub(crate) fn give_back_large_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two integers; which allocations are mapped on their own is nobody's concern but the allocator's, and it takes
    // the number under its own lock. A refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Takes as many open files as this process may have (RLIMIT_NOFILE): each of the device's takes several.
///
/// # Errors
/// setrlimit(2)'s.
pub(crate) fn raise_open_files() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is room for one struct rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is one struct rlimit, which is only read.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_open_is_refused() {
        assert_eq!(inherited(i32::MAX).err().and_then(|e| e.raw_os_error()), Some(libc::EBADF));
        for number in -1..=2 {
            assert!(inherited(number).is_err(), "{number} is not for this");
        }
    }

    #[test]
    fn a_thread_without_the_others_descriptors_leaves_them_alone() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        let number = file.as_raw_fd();
        let seen = std::thread::spawn(move || {
            own_descriptors().unwrap();
            std::fs::read_link(format!("/proc/thread-self/fd/{number}")).is_ok()
        });
        assert!(!seen.join().unwrap());
        assert!(file.metadata().is_ok());
    }

    #[test]
    fn a_process_descriptor_outlives_its_process() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let fd = process(child.id().try_into().unwrap()).unwrap();
        send_signal(fd.as_fd(), 0).unwrap();
        send_signal(fd.as_fd(), libc::SIGKILL).unwrap();
        child.wait().unwrap();
        assert_eq!(send_signal(fd.as_fd(), 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert!(process(-1).is_err());
    }

    #[test]
    fn a_size_is_that_of_the_file() {
        let path = std::env::temp_dir().join(format!("bpfdev-size-{}", std::process::id()));
        std::fs::write(&path, [0; 4321]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(known_size(file.as_fd()).unwrap(), 4321);
        assert!(parent_namespace(file.as_fd()).is_err(), "a file is no namespace");
    }
}
