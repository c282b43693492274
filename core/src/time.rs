//! Time is an argument: the core reads no clock of its own.

use std::ops::Add;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point on a clock that never goes back, in nanoseconds since that clock's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The point `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self + duration`, or `None` past the end of the clock (584 years).
    pub fn checked_add(self, duration: Duration) -> Option<Moment> {
        let nanos = u64::try_from(duration.as_nanos()).ok()?;
        self.0.checked_add(nanos).map(Moment)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    /// Saturates at the end of the clock.
    fn add(self, duration: Duration) -> Moment {
        self.checked_add(duration).unwrap_or(Moment(u64::MAX))
    }
}

/// The time of day a packet is stamped with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub sec: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nsec: u32,
}

impl Timestamp {
    /// The stamp of `time`; times before 1970 become 1970.
    pub fn from_system(time: SystemTime) -> Timestamp {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() }
    }

    /// The stamp so many nanoseconds after 1970, saturating.
    pub fn from_nanos(nanos: i128) -> Timestamp {
        let sec = nanos.div_euclid(1_000_000_000);
        let end = if sec < 0 { i64::MIN } else { i64::MAX };
        // below 10⁹
        let nsec = nanos.rem_euclid(1_000_000_000) as u32;
        Timestamp { sec: i64::try_from(sec).unwrap_or(end), nsec }
    }

    /// Nanoseconds since 1970.
    pub fn as_nanos(self) -> i128 {
        i128::from(self.sec) * 1_000_000_000 + i128::from(self.nsec)
    }
}

/// Where a backend or a file takes the time from.
pub trait Clock: Send + Sync {
    /// Now, on the clock that never goes back.
    fn now(&self) -> Moment;
    /// Now, as the time of day.
    fn time_of_day(&self) -> Timestamp;
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment::default() + self.start.elapsed()
    }

    fn time_of_day(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }
}

/// A clock that moves only when told to: a day of time-outs is tested in a millisecond.
#[derive(Debug, Default)]
pub struct SimulatedClock {
    now: Mutex<Moment>,
}

impl SimulatedClock {
    /// A clock at its start.
    pub fn new() -> SimulatedClock {
        SimulatedClock::default()
    }

    /// Moves to `moment`; a clock never goes back, so an earlier one changes nothing.
    pub fn advance_to(&self, moment: Moment) {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = (*now).max(moment);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Moment {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn time_of_day(&self) -> Timestamp {
        let nanos = self.now().as_nanos();
        Timestamp {
            sec: 1_700_000_000 + i64::try_from(nanos / 1_000_000_000).unwrap_or(0),
            nsec: u32::try_from(nanos % 1_000_000_000).unwrap_or(0),
        }
    }
}
