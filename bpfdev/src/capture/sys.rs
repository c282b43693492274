//! The one unsafe call of an asynchronous capture.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the tokio runtime of this thread, for reading.
///
/// # Errors
/// epoll_ctl(2)'s, or kevent(2)'s.
pub(super) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor must stay open, and the same, until it is deregistered. An OwnedFd is closed only when it is
    // dropped, its number never changes, and the AsyncFd that now owns it deregisters it before it drops it. Nobody takes it
    // out: it is reached by shared reference only.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}
