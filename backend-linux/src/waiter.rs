//! Waiting for the next packet.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bpfdev_core::backend::Waiter;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

use crate::sys::SlowClose;

/// First and longest time between two looks at an interface that is down, in milliseconds. Removal sets an interface
/// down first, and only that wakes a packet socket; being removed some milliseconds later does not.
const LOOK_FIRST: u32 = 10;
const LOOK_LAST: u32 = 1000;

/// How soon somebody must look whether an interface that is down was removed.
#[derive(Debug, Default)]
pub(crate) struct Lookout(AtomicU32);

impl Lookout {
    /// The interface is down: look, twice as late as the last time.
    pub fn down(&self) {
        let last = self.0.load(Ordering::Relaxed);
        self.0.store((last * 2).clamp(LOOK_FIRST, LOOK_LAST), Ordering::Relaxed);
    }

    /// The interface is up: the socket wakes by itself.
    pub fn up(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether the interface was down when it was last looked at.
    pub fn is_down(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// When to look next; `None`: the socket wakes by itself.
    pub fn after(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis.into())),
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// Threads in [`Waiter::wait`].
    threads: u32,
    /// The event is set: they all leave, or the next one does.
    woken: bool,
}

/// Waits on a packet socket and on an event of its own.
#[derive(Debug)]
pub(crate) struct SocketWaiter {
    socket: Arc<SlowClose>,
    event: EventFd,
    lookout: Arc<Lookout>,
    waiting: Mutex<Waiting>,
}

impl SocketWaiter {
    pub fn new(socket: Arc<SlowClose>, lookout: Arc<Lookout>) -> nix::Result<SocketWaiter> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(SocketWaiter { socket, event, lookout, waiting: Mutex::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, timeout: Option<Duration>) {
        let mut fds = [self.socket.as_fd(), self.event.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // A signal ends it early, as any wait may end: who waits looks at what the signal's handler did.
        let _ = ppoll(&mut fds, timeout.map(TimeSpec::from_duration), None);
    }
}

impl Waiter for SocketWaiter {
    fn wait(&self, timeout: Option<Duration>) {
        self.waiting().threads += 1;
        let timeout = match (timeout, self.lookout.after()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.poll(timeout);
        let mut waiting = self.waiting();
        waiting.threads -= 1;
        if waiting.woken && waiting.threads == 0 {
            waiting.woken = false;
            // It is set, so this takes it back and does not wait.
            let _ = self.event.read();
        }
    }

    fn wake(&self) {
        let mut waiting = self.waiting();
        if !waiting.woken {
            // Cannot fail: the counter is 0.
            waiting.woken = self.event.write(1).is_ok();
        }
    }
}
