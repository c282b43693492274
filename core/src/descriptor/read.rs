//! read(2): which buffer, and how long to wait for it.

use super::{Descriptor, Timer};
use crate::abi::rules::Unattached;
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
        let timed_out = match pending.state {
            State::Begins => {
                if pending.len != self.bufsize {
                    return ReadStep::Fail(Errno::Inval);
                }
                let timed_out = self.timer == Timer::TimedOut;
                self.timer = Timer::Idle;
                timed_out
            }
            State::Sleeps { timed_out, wakeups, deadline } => {
                if wakeups == self.wakeups {
                    // nobody woke it: a change of mode or a flush meanwhile is not its business
                    return match deadline {
                        Some(at) if at <= now => self.end_of_wait(),
                        _ => ReadStep::Wait { deadline },
                    };
                }
                timed_out
            }
        };
        if self.buffers.has_hold() {
            return ReadStep::Hold;
        }
        let nonblocking = pending.nonblocking || self.nonblocking;
        if self.buffers.stored() > 0 && (self.immediate || nonblocking || timed_out) {
            self.buffers.rotate();
            return ReadStep::Hold;
        }
        if self.attachment.is_none() && self.abi.rules.unattached == Unattached::NxIo {
            return ReadStep::Fail(Errno::NxIo);
        }
        if nonblocking {
            return ReadStep::Fail(Errno::Again);
        }
        // every sleep has the whole time-out, however it began
        let deadline = self.timeout().and_then(|timeout| now.checked_add(timeout));
        pending.state = State::Sleeps { timed_out, wakeups: self.wakeups, deadline };
        ReadStep::Wait { deadline }
    }

    fn end_of_wait(&mut self) -> ReadStep {
        if self.buffers.has_hold() {
            return ReadStep::Hold;
        }
        if self.buffers.stored() == 0 {
            return ReadStep::Nothing;
        }
        self.buffers.rotate();
        ReadStep::Hold
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
