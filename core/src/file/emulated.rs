//! The device in this process: a file that blocks, over any backend.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{BpfFile, OpenFile, Step, Wants};
use crate::abi::{Abi, Request, Response};
use crate::backend::{self, Network, Waiter};
use crate::descriptor::{Caller, Interest, Opened, PendingRead, ReadStep, Ready};
use crate::errno::Errno;
use crate::time::{Clock, Moment};

/// How a file was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// O_RDONLY.
    Read,
    /// O_WRONLY.
    Write,
    /// O_RDWR.
    ReadWrite,
}

/// An open /dev/bpf in this process.
pub struct EmulatedFile {
    network: Arc<dyn Network>,
    clock: Arc<dyn Clock>,
    access: Access,
    inner: Mutex<Inner>,
    /// A task came back.
    idle: Condvar,
}

struct Inner {
    file: OpenFile,
    waiter: Option<Arc<dyn Waiter>>,
    nonblocking: bool,
}

/// While a sleeper waits on a tap, what other threads do to the file is noticed after this long at most.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl EmulatedFile {
    /// Opens the device of dialect `abi`; its interfaces are those of `network`.
    pub fn open(
        abi: &'static Abi,
        access: Access,
        network: Arc<dyn Network>,
        clock: Arc<dyn Clock>,
    ) -> EmulatedFile {
        let inner = Inner {
            file: OpenFile::new(abi, Opened::new(access == Access::Write)),
            waiter: None,
            nonblocking: false,
        };
        EmulatedFile { network, clock, access, inner: Mutex::new(inner), idle: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        while inner.file.is_busy() {
            inner = self.idle.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner
    }

    /// The file after everything that arrived was drained, for a caller that steps through it by itself (simulated time).
    pub fn with<R>(&self, f: impl FnOnce(&mut OpenFile, Moment) -> R) -> R {
        let mut inner = self.lock();
        let now = self.clock.now();
        inner.file.drain(now);
        f(&mut inner.file, now)
    }

    /// ioctl(2) by this caller.
    ///
    /// # Errors
    /// The errno of the dialect.
    pub fn ioctl_as(&self, request: Request, caller: Caller) -> Result<Response, Errno> {
        let mut inner = self.lock();
        let now = self.clock.now();
        inner.file.drain(now);
        let task = match inner.file.ioctl(request, caller, now) {
            Step::Done(result) => return result,
            Step::Task(task) => task,
        };
        drop(inner);
        let finished = task.run(&*self.network);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let result = inner.file.finish(finished, self.clock.now());
        let retired = inner.file.take_retired();
        inner.waiter = inner.file.tap().and_then(|tap| tap.waiter().ok());
        drop(inner);
        self.idle.notify_all();
        drop(retired);
        result
    }

    /// Sleeps until the tap may have packets or `deadline` comes; `packets` came out of it just now.
    fn sleep(&self, inner: MutexGuard<'_, Inner>, packets: u64, now: Moment, deadline: Option<Moment>) {
        let flow = packets > 1 && inner.file.wants() == Wants::Fill;
        let nap = if flow { backend::nap(inner.file.descriptor().bufsize()) } else { None };
        let waiter = inner.waiter.clone().filter(|_| nap.is_none());
        drop(inner);
        let longest = nap.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN);
        let left = deadline.map_or(longest, |deadline| deadline.since(now).min(longest));
        match waiter {
            Some(waiter) => waiter.wait(Some(left)),
            None => std::thread::sleep(left),
        }
    }
}

impl Inner {
    /// Moves packets in for a reader or poller, who has been `asleep`; their number.
    fn drain(&mut self, asleep: bool, now: Moment) -> u64 {
        let before = self.file.descriptor().counters().received;
        self.file.drain_to_wake(asleep, now);
        drop(self.file.take_retired());
        self.file.descriptor().counters().received.saturating_sub(before)
    }
}

impl BpfFile for EmulatedFile {
    fn ioctl(&self, request: &Request) -> Result<Response, Errno> {
        self.ioctl_as(request.clone(), Caller::default())
    }

    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        if self.access == Access::Write {
            return Err(Errno::BadF);
        }
        let mut pending: Option<PendingRead> = None;
        loop {
            let mut inner = self.lock();
            let now = self.clock.now();
            let packets = inner.drain(pending.is_some(), now);
            let nonblocking = inner.nonblocking;
            let pending = pending.get_or_insert_with(|| PendingRead::new(buf.len(), nonblocking));
            match inner.file.read(pending, now) {
                ReadStep::Hold => {
                    let hold = inner.file.hold();
                    let n = hold.len();
                    let Some(room) = buf.get_mut(..n) else { return Err(Errno::Fault) };
                    room.copy_from_slice(hold);
                    inner.file.free_hold();
                    return Ok(n);
                }
                ReadStep::Nothing => return Ok(0),
                ReadStep::Fail(errno) => return Err(errno),
                ReadStep::Wait { deadline } => self.sleep(inner, packets, now, deadline),
            }
        }
    }

    fn write(&self, frame: &[u8]) -> Result<usize, Errno> {
        if self.access == Access::Read {
            return Err(Errno::BadF);
        }
        self.with(|file, now| file.write(frame, now))
    }

    fn poll(&self, want: Interest, timeout: Option<Duration>) -> Result<Ready, Errno> {
        let deadline = timeout.and_then(|timeout| self.clock.now().checked_add(timeout));
        let mut asleep = false;
        loop {
            let mut inner = self.lock();
            let now = self.clock.now();
            let packets = inner.drain(asleep, now);
            let ready = inner.file.poll(want, now);
            let over = timeout.is_some() && deadline.is_none_or(|deadline| deadline <= now);
            if ready != Ready::default() || over {
                return Ok(ready);
            }
            let until = [deadline, inner.file.next_event()].into_iter().flatten().min();
            asleep = true;
            self.sleep(inner, packets, now, until);
        }
    }

    fn set_nonblocking(&self, on: bool) -> Result<(), Errno> {
        self.lock().nonblocking = on;
        Ok(())
    }
}

impl std::fmt::Debug for EmulatedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmulatedFile").field("access", &self.access).finish_non_exhaustive()
    }
}
