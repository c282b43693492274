//! The clock that packets' arrivals are told by.

use bpfdev_core::time::{Clock, Moment, Timestamp};

use crate::sys;

/// This machine's clocks: a [`Moment`] is CLOCK_MONOTONIC in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    fn now(&self) -> Moment {
        let (sec, nsec) = sys::clock(libc::CLOCK_MONOTONIC);
        let nanos = u64::try_from(sec).unwrap_or(0).saturating_mul(1_000_000_000);
        Moment::from_nanos(nanos.saturating_add(u64::from(nsec)))
    }

    fn time_of_day(&self) -> Timestamp {
        let (sec, nsec) = sys::clock(libc::CLOCK_REALTIME);
        Timestamp { sec, nsec }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        let (a, b) = (MonotonicClock.now(), MonotonicClock.now());
        assert!(a > Moment::default() && b >= a);
        assert!(MonotonicClock.time_of_day().sec > 1_600_000_000);
    }
}
