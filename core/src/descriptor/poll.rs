//! poll(2), select(2): readiness, and the timer that polling starts.

use super::{Descriptor, Place, Timer};
use crate::abi::rules::{ImmediateRule, UnattachedPoll};
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
    /// POLLHUP: the file was revoked.
    pub hangup: bool,
}

impl Descriptor {
    /// poll(2) would say that there is something for read(2): bpf_ready.
    pub fn is_readable(&self) -> bool {
        let store_counts = match self.abi.rules.immediate {
            ImmediateRule::Flag | ImmediateRule::FirstByte => self.immediate || self.timer == Timer::TimedOut,
            // whether its time is over or not
            ImmediateRule::WaitTimeout => self.wait_timeout.is_some_and(|timeout| timeout.is_zero()),
        };
        self.buffers.held() > 0 || (self.buffers.stored() > 0 && store_counts)
    }

    /// poll(2). Where nothing can be read and a read time-out is set, it starts the timer.
    pub fn poll(&mut self, want: Interest, now: Moment) -> Ready {
        self.advance(now);
        let rules = self.abi.rules.poll;
        let mut ready = Ready { write: want.write && rules.writable, ..Ready::default() };
        match (&self.place, rules.unattached) {
            (Place::Revoked, _) => return Ready { hangup: true, ..Ready::default() },
            (Place::Nowhere, UnattachedPoll::Ready) => {
                return Ready { read: want.read, write: want.write, hangup: false };
            }
            (Place::Nowhere, UnattachedPoll::Nothing) => return Ready::default(),
            (Place::Nowhere, UnattachedPoll::Same) | (Place::On(_), _) => {}
        }
        if want.read {
            ready.read = self.is_readable();
            if !ready.read
                && rules.starts_timer
                && self.timer == Timer::Idle
                && let Some(deadline) = self.timeout().and_then(|timeout| now.checked_add(timeout))
            {
                self.timer = Timer::Waiting(deadline);
            }
        }
        ready
    }
}
