//! poll(2), select(2): readiness, and the timer that polling starts.

use super::{Descriptor, Timer};
use crate::time::Moment;

/// What a poll asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// POLLIN, POLLRDNORM.
    pub read: bool,
    /// POLLOUT, POLLWRNORM.
    pub write: bool,
}

impl Interest {
    /// POLLIN and POLLOUT.
    pub const BOTH: Interest = Interest { read: true, write: true };
    /// POLLIN.
    pub const READ: Interest = Interest { read: true, write: false };
}

/// What is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A read would not wait.
    pub read: bool,
    /// A write would not wait.
    pub write: bool,
}

impl Descriptor {
    /// Something is there for read(2): bpf_ready.
    pub fn is_readable(&self) -> bool {
        self.buffers.held() > 0
            || (self.buffers.stored() > 0 && (self.immediate || self.timer == Timer::TimedOut))
    }

    /// poll(2). Where nothing can be read and a read time-out is set, it starts the timer.
    pub fn poll(&mut self, want: Interest, now: Moment) -> Ready {
        self.advance(now);
        if self.attachment.is_none() && self.abi.rules.unattached_polls_ready {
            return Ready { read: want.read, write: want.write };
        }
        let mut ready = Ready { read: false, write: want.write };
        if want.read {
            ready.read = self.is_readable();
            if !ready.read
                && self.timer == Timer::Idle
                && let Some(deadline) = self.timeout().and_then(|timeout| now.checked_add(timeout))
            {
                self.timer = Timer::Waiting(deadline);
            }
        }
        ready
    }
}
