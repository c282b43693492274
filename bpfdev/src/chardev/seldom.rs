//! What clients can provoke again and again is logged once a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A message that is not repeated within a minute, whoever provokes it.
#[derive(Debug)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// One that has not been said.
    pub const fn new() -> Seldom {
        Seldom(Mutex::new(None))
    }

    /// Whether it may be said now; then it counts as said.
    pub fn may_say(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|at| at.elapsed() >= Duration::from_secs(60));
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}

impl Default for Seldom {
    fn default() -> Seldom {
        Seldom::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_said_again_at_once() {
        let seldom = Seldom::new();
        assert_eq!([(); 3].map(|()| seldom.may_say()), [true, false, false]);
    }
}
