//! Ctrl-C, SIGTERM and SIGHUP end a capture at once, with its counters.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use bpfdev_core::backend::Waiter;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};

/// Set by the first signal; the second ends the process where it is, should its output be stuck.
pub(super) struct Stop {
    flag: AtomicBool,
    event: EventFd,
    waiter: Mutex<Option<Arc<dyn Waiter>>>,
}

impl Stop {
    /// Takes the signals over. To be called by the only thread: those it starts inherit what is blocked.
    pub fn on_signals() -> anyhow::Result<Arc<Stop>> {
        let mut signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        if !is_ignored(Signal::SIGHUP) {
            signals.add(Signal::SIGHUP);
        }
        signals.thread_block().context("cannot block signals")?;
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).context("cannot make an eventfd")?;
        let stop = Arc::new(Stop { flag: AtomicBool::new(false), event, waiter: Mutex::new(None) });
        let ours = Arc::clone(&stop);
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                while let Ok(signal) = signals.wait() {
                    if ours.is_set() {
                        process::exit(128 + signal as i32);
                    }
                    ours.set();
                }
            })
            .context("cannot start a thread")?;
        Ok(stop)
    }

    fn set(&self) {
        self.flag.store(true, Ordering::SeqCst);
        // Never read, so this cannot wait; it stays readable.
        let _ = self.event.write(1);
        if let Some(waiter) = &*self.waiter.lock().unwrap_or_else(PoisonError::into_inner) {
            waiter.wake();
        }
    }

    /// A signal has come.
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// This waiter is woken too.
    pub fn wakes(&self, waiter: Arc<dyn Waiter>) {
        *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiter);
    }
}

impl AsFd for Stop {
    /// Readable from the first signal on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// As nohup(1) leaves SIGHUP.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as u32 - 1) & 1 == 1)
}
