//! One thread for what takes milliseconds and nobody need wait for: closing packet sockets (20 ms with a ring), and
//! waiting until no CPU runs a replaced filter (8 to 24 ms).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::Builder;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::sys;

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

fn submit(job: Job) {
    static JOBS: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();
    let jobs = JOBS.get_or_init(|| {
        let (sender, receiver) = sync_channel(BACKLOG);
        let thread = Builder::new().name("packet-reaper".into()).spawn(move || run(&receiver));
        thread.is_ok().then_some(sender)
    });
    let refused = match jobs {
        Some(jobs) => jobs.try_send(job).err(),
        None => Some(TrySendError::Disconnected(job)),
    };
    if let Some(TrySendError::Full(job) | TrySendError::Disconnected(job)) = refused {
        perform(job);
    }
}

fn run(jobs: &Receiver<Job>) {
    for job in jobs {
        perform(job);
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
