//! read(2): which buffer, and how long to wait for it.

use super::{Descriptor, Place, Timer};
use crate::abi::rules::{ImmediateRule, Unattached};
use crate::errno::Errno;
use crate::time::Moment;

/// A read(2) under way.
#[derive(Clone, Copy, Debug)]
pub struct PendingRead {
    len: usize,
    nonblocking: bool,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Begins,
    Sleeps {
        /// The select timer had run out when the read began.
        timed_out: bool,
        /// Wake-ups seen so far.
        wakeups: u64,
        deadline: Option<Moment>,
    },
}

impl PendingRead {
    /// A read of `len` bytes; `nonblocking` is the file's O_NONBLOCK at this call.
    pub fn new(len: usize, nonblocking: bool) -> PendingRead {
        PendingRead { len, nonblocking, state: State::Begins }
    }

    /// Bytes asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// How a read goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStep {
    /// It ends with [`Descriptor::hold`], after which [`Descriptor::free_hold`] is to be called.
    Hold,
    /// It ends with 0 bytes: the time-out ran out with nothing there.
    Nothing,
    /// It sleeps until [`Descriptor::wakeups`] grows or the deadline comes; then call again.
    Wait {
        /// When it ends by itself; `None` waits for ever.
        deadline: Option<Moment>,
    },
    /// It ends with an error.
    Fail(Errno),
}

impl Descriptor {
    /// Takes a read on: at its beginning, and again after each wake-up or when its deadline has come.
    pub fn read(&mut self, pending: &mut PendingRead, now: Moment) -> ReadStep {
        let rules = &self.abi.rules;
        let (timed_out, deadline) = match pending.state {
            State::Begins => {
                match (&self.place, rules.unattached) {
                    (Place::Revoked, _) => return ReadStep::Fail(Errno::Io),
                    (Place::Nowhere, Unattached::NxIoFirst) => return ReadStep::Fail(Errno::NxIo),
                    _ => {}
                }
                if pending.len != self.bufsize {
                    return ReadStep::Fail(Errno::Inval);
                }
                let timed_out = self.timer == Timer::TimedOut;
                if rules.poll.starts_timer {
                    self.timer = Timer::Idle;
                }
                (timed_out, self.deadline(now))
            }
            State::Sleeps { timed_out, wakeups, deadline } => {
                if wakeups == self.wakeups {
                    // nobody woke it: a change of mode or a flush meanwhile is not its business
                    return match deadline {
                        Some(at) if at <= now => self.end_of_wait(pending),
                        _ => ReadStep::Wait { deadline },
                    };
                }
                (timed_out, if rules.one_deadline { deadline } else { self.deadline(now) })
            }
        };
        if self.buffers.has_hold() {
            return self.give_hold(pending);
        }
        let nonblocking = pending.nonblocking || self.nonblocking;
        let stored_counts = match rules.immediate {
            ImmediateRule::Flag | ImmediateRule::FirstByte => self.immediate || timed_out,
            ImmediateRule::WaitTimeout => self.timer == Timer::TimedOut,
        };
        let revoked = matches!(self.place, Place::Revoked);
        if self.buffers.stored() > 0 && (stored_counts || nonblocking || revoked) {
            self.rotate();
            return self.give_hold(pending);
        }
        match (&self.place, rules.unattached) {
            (Place::Revoked, _) => return ReadStep::Fail(Errno::Io),
            (Place::Nowhere, Unattached::NxIo | Unattached::NxIoFirst) => {
                return ReadStep::Fail(Errno::NxIo);
            }
            (Place::Nowhere, Unattached::Waits) | (Place::On(_), _) => {}
        }
        if nonblocking {
            return if rules.nothing_reads_zero { ReadStep::Nothing } else { ReadStep::Fail(Errno::Again) };
        }
        if rules.one_deadline && deadline.is_some_and(|at| at <= now) {
            return self.end_of_wait(pending);
        }
        pending.state = State::Sleeps { timed_out, wakeups: self.wakeups, deadline };
        ReadStep::Wait { deadline }
    }

    /// When a sleep that begins now ends by itself.
    fn deadline(&self, now: Moment) -> Option<Moment> {
        self.timeout().and_then(|timeout| now.checked_add(timeout))
    }

    /// A signal came for a sleeping read: how it ends.
    pub fn interrupt_read(&mut self, pending: &PendingRead) -> ReadStep {
        if !self.abi.rules.signal_gives_buffered || self.readable() == 0 {
            return ReadStep::Fail(Errno::Intr);
        }
        if !self.buffers.has_hold() {
            self.rotate();
        }
        self.give_hold(pending)
    }

    /// The read ends with the hold. That may be longer than the read, whose length was checked against another buffer's.
    fn give_hold(&mut self, pending: &PendingRead) -> ReadStep {
        self.buffers.cut_hold(pending.len);
        ReadStep::Hold
    }

    /// Bytes a read could get at most.
    fn readable(&self) -> usize {
        self.buffers.stored() + self.buffers.held()
    }

    /// The store becomes the hold.
    fn rotate(&mut self) {
        self.buffers.rotate();
        self.stop_wait();
    }

    fn end_of_wait(&mut self, pending: &PendingRead) -> ReadStep {
        if !self.buffers.has_hold() {
            if self.buffers.stored() == 0 {
                return ReadStep::Nothing;
            }
            self.rotate();
        }
        self.give_hold(pending)
    }

    /// The bytes a read that ended with [`ReadStep::Hold`] gets.
    pub fn hold(&self) -> &[u8] {
        self.buffers.hold()
    }

    /// The hold was handed over, or lost on the way: it is free again.
    pub fn free_hold(&mut self) {
        self.buffers.free_hold();
    }
}
