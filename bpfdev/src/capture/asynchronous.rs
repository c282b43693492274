//! Captures under tokio.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::unix::AsyncFd;

use super::{Batch, Capture, Error, sys};

/// A [`Capture`] whose wait is a future. Needs a backend with a descriptor: packet sockets or a device.
#[derive(Debug)]
pub struct AsyncCapture {
    capture: Capture,
    /// A duplicate of the tap's descriptor, registered with tokio.
    ready: AsyncFd<OwnedFd>,
}

impl AsyncCapture {
    /// Makes a capture asynchronous. To be called within a tokio runtime that has I/O and time enabled.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](super::ErrorKind::Unsupported) for a backend without a descriptor; the system's.
    pub fn new(mut capture: Capture) -> Result<AsyncCapture, Error> {
        let what = || "waiting for packets".to_owned();
        let failed = |source: io::Error| Error::Io { what: what(), source };
        let Some(fd) = capture.as_fd() else {
            return Err(Error::Unsupported {
                capability: "waiting on a descriptor",
                backend: capture.backend(),
            });
        };
        // registering would panic without one
        tokio::runtime::Handle::try_current().map_err(|error| failed(io::Error::other(error)))?;
        let fd = fd.try_clone_to_owned().map_err(failed)?;
        let ready = sys::register(fd).map_err(failed)?;
        capture.set_nonblocking(true);
        Ok(AsyncCapture { capture, ready })
    }

    /// The next packets, as [`Capture::next_batch`]; it waits until some are there. Cancel safe: a wait that is dropped
    /// loses nothing.
    ///
    /// # Errors
    /// As [`Capture::next_batch`].
    pub async fn next_batch(&mut self) -> Result<Option<Batch<'_>>, Error> {
        while !self.capture.has_arrivals()? {
            let again = self.capture.look_again();
            let ready = self.ready.readable();
            let guard = match again {
                // an interface that is down does not tell of its removal
                Some(after) => tokio::time::timeout(after, ready).await.ok().transpose(),
                None => ready.await.map(Some),
            };
            let guard = guard.map_err(|source| Error::Io { what: "waiting for packets".into(), source })?;
            if let Some(mut guard) = guard {
                guard.clear_ready();
            }
        }
        self.capture.next_batch()
    }

    /// The capture itself.
    pub fn get_mut(&mut self) -> &mut Capture {
        &mut self.capture
    }

    /// The capture itself, which stays non-blocking until it is told otherwise.
    pub fn into_inner(self) -> Capture {
        self.capture
    }
}

impl AsFd for AsyncCapture {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.ready.get_ref().as_fd()
    }
}
