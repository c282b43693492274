//! Waiting for the next packet.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bpfdev_core::backend::Waiter;

use crate::device::DeviceFile;
use crate::sys;

#[derive(Debug, Default)]
struct Waiting {
    /// Threads in [`Waiter::wait`].
    threads: u32,
    /// The byte is there: they all leave, or the next one does.
    woken: bool,
}

/// Waits on a device and for a byte of its own.
#[derive(Debug)]
pub(crate) struct DeviceWaiter {
    file: Arc<DeviceFile>,
    /// A pair of sockets: the one pipe that every system's standard library makes non-blocking.
    byte: (UnixStream, UnixStream),
    /// The longest wait, where the device does not tell everything.
    longest: Option<Duration>,
    waiting: Mutex<Waiting>,
}

impl DeviceWaiter {
    pub fn new(file: Arc<DeviceFile>, longest: Option<Duration>) -> io::Result<DeviceWaiter> {
        let byte = UnixStream::pair()?;
        byte.0.set_nonblocking(true)?;
        byte.1.set_nonblocking(true)?;
        Ok(DeviceWaiter { file, byte, longest, waiting: Mutex::default() })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter for DeviceWaiter {
    fn wait(&self, timeout: Option<Duration>) {
        self.waiting().threads += 1;
        let timeout = match (timeout, self.longest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let fds = [(self.file.as_fd(), libc::POLLIN), (self.byte.0.as_fd(), libc::POLLIN)];
        // A signal ends it early, as any wait may end.
        let _ = sys::poll(fds, timeout);
        let mut waiting = self.waiting();
        waiting.threads -= 1;
        if waiting.woken && waiting.threads == 0 {
            // It is there, so this takes it back and does not wait.
            waiting.woken = (&self.byte.0).read(&mut [0]).is_err();
        }
    }

    fn wake(&self) {
        let mut waiting = self.waiting();
        if !waiting.woken {
            // Cannot fail: nothing is on its way.
            waiting.woken = (&self.byte.1).write(&[1]).is_ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    use bpfdev_core::abi::linux::LINUX;
    use bpfdev_core::file::Access;

    /// A file that is never readable: a FIFO without a writer, opened for both so that it opens.
    fn silent() -> (Arc<DeviceFile>, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!(
            "bpfdev-waiter-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
        let file = DeviceFile::open(&path, &LINUX, Access::ReadWrite).expect("opens");
        std::fs::remove_file(&path).expect("removed");
        (Arc::new(file), path)
    }

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn a_wait_ends_by_itself_and_by_being_woken() {
        let (file, _) = silent();
        let waiter = Arc::new(DeviceWaiter::new(file, None).expect("a pair"));
        let began = Instant::now();
        waiter.wait(Some(Duration::from_millis(20)));
        assert!(began.elapsed() >= Duration::from_millis(20));
        for _ in 0..3 {
            let sleepers: Vec<_> = (0..3)
                .map(|_| {
                    let waiter = waiter.clone();
                    std::thread::spawn(move || waiter.wait(None))
                })
                .collect();
            while waiter.waiting().threads < 3 {
                std::thread::yield_now();
            }
            // Once: a second time might come when they have left, and be the next one's.
            waiter.wake();
            let end = Instant::now() + SOON;
            while !sleepers.iter().all(|sleeper| sleeper.is_finished()) {
                assert!(Instant::now() < end, "every wait under way ends");
                std::thread::yield_now();
            }
        }
        waiter.wake();
        waiter.wake();
        waiter.wait(None); // woken beforehand
        let began = Instant::now();
        waiter.wait(Some(Duration::from_millis(20)));
        assert!(began.elapsed() >= Duration::from_millis(20), "twice is once");
    }

    #[test]
    fn where_the_device_does_not_tell_everything_a_wait_has_an_end() {
        let (file, _) = silent();
        let waiter = DeviceWaiter::new(file, Some(Duration::from_millis(10))).expect("a pair");
        waiter.wait(None);
    }
}
