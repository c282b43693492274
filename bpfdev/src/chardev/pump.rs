//! When the taps are drained: on request, on their file descriptors, or on a timer.
//!
//! Every request drains its own tap first, so a tap needs watching only while somebody sleeps. A sleeper whom the next
//! packet would wake has the descriptor watched, once. One who waits for a full buffer has it drained on a short timer
//! while packets flow, which costs a wake-up for hundreds of packets instead of one for each. What nobody waits for
//! stays in the tap; it is moved in a few times a second only, so that the number of readable bytes is right for those who
//! ask the kernel for it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use bpfdev_core::backend::nap;
use bpfdev_core::time::Moment;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::helper::Reaper;

/// A tap whose descriptor reports an error and has no packets is left alone for so long.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// What a file wants of its tap now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing: the next request drains.
    Nothing,
    /// To be told of the next packet at once.
    NextPacket,
    /// To have packets moved into buffers of this size, soon enough that none is lost.
    Flow {
        /// Size of one buffer, bytes.
        bufsize: usize,
    },
}

impl Watch {
    /// How long packets may stay in the tap while they flow; `None`: not at all.
    fn nap(self) -> Option<Duration> {
        match self {
            Watch::Nothing | Watch::NextPacket => None,
            Watch::Flow { bufsize } => nap(bufsize),
        }
    }
}

/// The watching of one file's tap.
#[derive(Debug, Default)]
pub struct Feed {
    /// The tap's descriptor, by number, and our duplicate of it, which the poll set holds.
    tap: Option<(RawFd, OwnedFd)>,
    in_set: bool,
    armed: bool,
    /// Packets flow: drain again then.
    nap: Option<Moment>,
    flowing: bool,
    /// The nap is because of an error that stays.
    faulty: bool,
    /// In the timers under this moment.
    timer: Option<Moment>,
}

impl Feed {
    /// The descriptor reported something; `error`: not only packets. `packets` came out of the tap.
    pub fn fired(&mut self, packets: u64, error: bool, now: Moment) {
        self.armed = false;
        self.flowing = true;
        // Were it watched again at once, an error that stays would keep the loop busy.
        self.faulty = error && packets == 0;
        self.nap = self.faulty.then(|| now + AFTER_ERROR);
    }

    /// A timer went off; if it was the nap's, `packets` came out of the tap.
    pub fn woke(&mut self, packets: u64, now: Moment) {
        if self.nap.is_some_and(|at| at <= now) {
            self.nap = None;
            self.faulty = false;
            self.flowing = packets > 1;
        }
    }
}

/// The poll set and the timers of all files.
#[derive(Debug)]
pub struct Pump {
    epoll: Epoll,
    timers: BTreeSet<(Moment, u64)>,
    reaper: Reaper,
}

impl Pump {
    /// A pump without files.
    ///
    /// # Errors
    /// No descriptor or thread can be had.
    pub fn new() -> io::Result<Pump> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Pump { epoll, timers: BTreeSet::new(), reaper: Reaper::start()? })
    }

    /// Has `fd`, level-triggered, reported under `key`.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn watch_always(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, key))?)
    }

    /// Has `fd`, which is watched always, reported also when it can be written, or no longer so.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn watch_output(&self, fd: impl AsFd, key: u64, on: bool) -> io::Result<()> {
        let output = if on { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(EpollFlags::EPOLLIN | output, key))?)
    }

    /// Ends [`Pump::watch_always`].
    pub fn forget(&self, fd: impl AsFd) {
        let _ = self.epoll.delete(fd); // it is not in the set: as wanted
    }

    /// Sleeps until something is reported or the first timer is due; gives what was reported.
    ///
    /// # Errors
    /// epoll_wait(2)'s, but for EINTR.
    pub fn wait<'e>(&self, events: &'e mut [EpollEvent], now: Moment) -> io::Result<&'e [EpollEvent]> {
        let timeout = match self.timers.first() {
            None => EpollTimeout::NONE,
            // up to the next millisecond: early would only mean to sleep again
            Some((at, _)) => {
                let left = at.since(now).as_nanos().div_ceil(1_000_000).min(3_600_000);
                EpollTimeout::try_from(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
                    .unwrap_or(EpollTimeout::ZERO)
            }
        };
        match self.epoll.wait(events, timeout) {
            Ok(count) => Ok(events.get(..count).unwrap_or_default()),
            Err(nix::errno::Errno::EINTR) => Ok(&[]),
            Err(error) => Err(error.into()),
        }
    }

    /// A file whose timer is due at `now`, if there is one; it has no timer then.
    pub fn due(&mut self, now: Moment) -> Option<u64> {
        let (at, key) = *self.timers.first()?;
        (at <= now).then(|| {
            self.timers.remove(&(at, key));
            key
        })
    }

    /// Drops `thing` elsewhere: closing a ring takes its time.
    pub fn reap(&self, thing: impl Send + 'static) {
        self.reaper.reap(thing);
    }

    /// Sets up for file `key` what it wants of its tap, `fd`, and its own next `timer`.
    pub fn follow(
        &mut self,
        key: u64,
        feed: &mut Feed,
        fd: Option<BorrowedFd<'_>>,
        watch: Watch,
        timer: Option<Moment>,
        now: Moment,
    ) {
        if feed.tap.as_ref().map(|(raw, _)| *raw) != fd.map(|fd| fd.as_raw_fd()) {
            self.leave_tap(feed);
        }
        if let (Some(fd), false) = (fd, watch == Watch::Nothing) {
            if let Err(error) = self.watch_tap(key, feed, fd, watch, now) {
                tracing::error!(file = key, %error, "cannot watch the tap");
            }
        } else {
            feed.nap = None;
        }
        self.set_timer(key, feed, timer.into_iter().chain(feed.nap).min());
    }

    fn watch_tap(
        &self,
        key: u64,
        feed: &mut Feed,
        fd: BorrowedFd<'_>,
        watch: Watch,
        now: Moment,
    ) -> nix::Result<()> {
        if feed.nap.is_some() {
            if feed.faulty || watch.nap().is_some() {
                return Ok(());
            }
            feed.nap = None; // the next packet matters now
        }
        if let (true, Some(nap)) = (feed.flowing, watch.nap()) {
            feed.nap = Some(now + nap);
            return Ok(());
        }
        if feed.armed {
            return Ok(());
        }
        let (_, own) = match &mut feed.tap {
            Some(tap) => tap,
            none => {
                none.insert((fd.as_raw_fd(), fd.try_clone_to_owned().map_err(|_| nix::errno::Errno::EMFILE)?))
            }
        };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, key);
        if feed.in_set {
            self.epoll.modify(&own, &mut event)?;
        } else {
            self.epoll.add(&own, event)?;
            feed.in_set = true;
        }
        feed.armed = true;
        Ok(())
    }

    /// The tap is another one, or away with a helper: its descriptor leaves the poll set.
    pub fn leave_tap(&self, feed: &mut Feed) {
        if let Some((_, own)) = feed.tap.take() {
            if feed.in_set {
                let _ = self.epoll.delete(&own);
            }
            // It may be the last that holds the ring.
            self.reaper.reap(own);
        }
        feed.in_set = false;
        feed.armed = false;
        feed.flowing = false;
        feed.faulty = false;
        feed.nap = None;
    }

    fn set_timer(&mut self, key: u64, feed: &mut Feed, at: Option<Moment>) {
        if feed.timer == at && at.is_none_or(|at| self.timers.contains(&(at, key))) {
            return;
        }
        if let Some(old) = std::mem::replace(&mut feed.timer, at) {
            self.timers.remove(&(old, key));
        }
        if let Some(at) = at {
            self.timers.insert((at, key));
        }
    }

    /// The file is gone.
    pub fn remove(&mut self, key: u64, feed: &mut Feed) {
        self.leave_tap(feed);
        self.set_timer(key, feed, None);
    }
}
