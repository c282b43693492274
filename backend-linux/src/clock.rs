//! The clocks the Linux backend stamps packets with.

use bpfdev_core::time::{Clock, Moment, Timestamp};
use nix::time::{ClockId, clock_gettime};

const NANOS: i64 = 1_000_000_000;

/// The system's clocks: a [`Moment`] is CLOCK_MONOTONIC in nanoseconds, as [`Packet::arrival`] of this backend is.
///
/// [`Packet::arrival`]: bpfdev_core::packet::Packet::arrival
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

/// Nanoseconds of a clock; 0 when the system has no such clock, which Linux always has.
fn nanos(id: ClockId) -> i64 {
    clock_gettime(id).map_or(0, |t| t.tv_sec().saturating_mul(NANOS).saturating_add(t.tv_nsec()))
}

/// CLOCK_MONOTONIC and CLOCK_REALTIME now, in nanoseconds.
pub(crate) fn both() -> (i64, i64) {
    (nanos(ClockId::CLOCK_MONOTONIC), nanos(ClockId::CLOCK_REALTIME))
}

/// CLOCK_MONOTONIC now, in nanoseconds.
pub(crate) fn monotonic() -> i64 {
    nanos(ClockId::CLOCK_MONOTONIC)
}

impl Clock for MonotonicClock {
    fn now(&self) -> Moment {
        Moment::from_nanos(u64::try_from(monotonic()).unwrap_or(0))
    }

    fn time_of_day(&self) -> Timestamp {
        let now = nanos(ClockId::CLOCK_REALTIME);
        Timestamp {
            sec: now.div_euclid(NANOS),
            // Below a thousand million.
            nsec: now.rem_euclid(NANOS) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        let clock = MonotonicClock;
        let (a, b) = (clock.now(), clock.now());
        assert!(a > Moment::default() && b >= a);
        assert!(clock.time_of_day().sec > 1_600_000_000);
    }
}
