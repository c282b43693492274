//! Threads for what takes milliseconds and nobody need wait for: closing packet sockets (20 ms with a ring), and
//! waiting until no CPU runs a replaced filter (8 to 24 ms).
//!
//! All of it is waiting for the kernel's next RCU grace period, which ends for all that wait at once: so many threads
//! get through so many times as much. One alone falls behind a client that opens, binds and closes in a loop, as
//! libpcap's pcap_findalldevs(3) does once an address.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::sys;

/// Threads at most; they are made when there is work.
const THREADS: usize = 8;
/// A thread that had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(5);
/// Jobs that may wait. Who brings one more does it himself: a client that opens and closes in a loop is slowed down and
/// cannot use up the file descriptors.
const BACKLOG: usize = 64;

enum Job {
    Close(OwnedFd),
    Synchronise(Arc<AtomicBool>),
    DropSynchronised(Box<dyn Send>),
}

/// Closes `fd`, some time later on another thread where that can be.
pub(crate) fn close(fd: OwnedFd) {
    submit(Job::Close(fd));
}

/// Sets the flag when every CPU has left the receive paths it is in now, so that none still runs a filter that was
/// replaced before the call. The flag stays unset where the system has no way to wait.
pub(crate) fn synchronised() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    submit(Job::Synchronise(flag.clone()));
    flag
}

/// Drops `thing` when every CPU has left the receive paths it is in now: a program that was replaced may still run.
pub(crate) fn drop_synchronised(thing: impl Send + 'static) {
    submit(Job::DropSynchronised(Box::new(thing)));
}

/// Waits until every CPU has left the receive paths it is in now: 8 to 24 ms on an idle machine.
pub(crate) fn synchronise() -> io::Result<()> {
    // Refused by some seccomp profiles, and on kernels with nohz_full. Closing any packet socket waits the same
    // (synchronize_net() in packet_release()), and it must be this thread that closes it.
    sys::membarrier_global().or_else(|_| {
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
            .map(drop)
            .map_err(io::Error::from)
    })
}

/// Jobs that wait, and who is there to do them.
#[derive(Default)]
struct Pool {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { queue: VecDeque::new(), threads: 0, idle: 0 });
static MORE: Condvar = Condvar::new();

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn submit(job: Job) {
    let mut pool = pool();
    if pool.idle <= pool.queue.len() && pool.threads < THREADS {
        // Without a further thread those there are do it, or this one.
        let made = Builder::new().name("packet-reaper".into()).spawn(run).is_ok();
        pool.threads += usize::from(made);
    }
    if pool.threads == 0 || pool.queue.len() >= BACKLOG {
        drop(pool);
        return perform(job);
    }
    pool.queue.push_back(job);
    drop(pool);
    MORE.notify_one();
}

/// A thread's whole life.
fn run() {
    let mut pool = pool();
    loop {
        while let Some(job) = pool.queue.pop_front() {
            drop(pool);
            perform(job);
            pool = self::pool();
        }
        pool.idle += 1;
        let (after, waited) = MORE.wait_timeout(pool, IDLE).unwrap_or_else(PoisonError::into_inner);
        pool = after;
        pool.idle -= 1;
        if waited.timed_out() && pool.queue.is_empty() {
            pool.threads -= 1;
            return;
        }
    }
}

fn perform(job: Job) {
    match job {
        Job::Close(fd) => drop(fd),
        Job::DropSynchronised(thing) => {
            // Without a way to wait the program may have rejected a packet too many.
            let _ = synchronise();
            drop(thing);
        }
        Job::Synchronise(flag) => match synchronise() {
            Ok(()) => flag.store(true, Ordering::Release),
            // Correct all the same, only dearer: packets go on being judged in this process as well.
            Err(error) => tracing::warn!(%error, "no way to wait for the kernel's filter change"),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Says when it is dropped, and stays until it may go.
    struct Slow {
        begun: Sender<()>,
        release: Receiver<()>,
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.begun.send(());
            let _ = self.release.recv();
        }
    }

    #[test]
    fn what_takes_long_does_not_hold_up_the_rest() {
        let (begun, begins) = channel();
        let mut releases = Vec::new();
        for _ in 0..4 {
            let (go, release) = channel();
            drop_synchronised(Slow { begun: begun.clone(), release });
            releases.push(go);
        }
        for _ in 0..4 {
            begins.recv_timeout(Duration::from_secs(5)).unwrap();
        }
        drop(releases);
    }
}
