//! A loop on a thread of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::session::End;

/// A loop that runs. It is to be stopped before it is dropped.
#[derive(Debug)]
pub struct Running {
    stop: Arc<EventFd>,
    ended: Arc<EventFd>,
    thread: Option<JoinHandle<io::Result<End>>>,
}

/// Says that the loop has ended, however it did.
struct SayEnded(Arc<EventFd>);

impl Drop for SayEnded {
    fn drop(&mut self) {
        let _ = self.0.write(1); // a counter near its limit is readable just the same
    }
}

impl Running {
    /// Starts `serve`, which ends with a write to what it is given.
    ///
    /// # Errors
    /// No descriptor or thread can be had.
    pub fn start(serve: impl FnOnce(&EventFd) -> io::Result<End> + Send + 'static) -> io::Result<Running> {
        let event = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).map(Arc::new);
        let (stop, ended) = (event()?, event()?);
        let (stopped, say_ended) = (stop.clone(), SayEnded(ended.clone()));
        let serve = move || {
            let _say_ended = say_ended;
            let end = serve(&stopped);
            if let Err(error) = &end {
                tracing::error!(%error, "the device cannot be served any longer");
            }
            end
        };
        let thread = Some(thread::Builder::new().name("bpf".into()).spawn(serve)?);
        Ok(Running { stop, ended, thread })
    }

    /// Becomes readable when it has ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// It has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.ended.read().is_ok()
    }

    /// It has not been stopped.
    pub fn is_on(&self) -> bool {
        self.thread.is_some()
    }

    /// Stops it, and waits until it has ended.
    ///
    /// # Errors
    /// What ended it before.
    pub fn stop(&mut self) -> io::Result<End> {
        let _ = self.stop.write(1); // a counter near its limit is readable just the same
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(end)) => end,
            Some(Err(_)) => Err(io::Error::other("the device's thread panicked")),
            None => Ok(End::Stopped),
        }
    }
}
