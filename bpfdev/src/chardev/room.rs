//! How many files may be open at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Open files, counted.
#[derive(Debug)]
pub struct Rooms {
    live: AtomicUsize,
    max: usize,
}

impl Rooms {
    /// None open, at most `max`.
    pub fn new(max: usize) -> Arc<Rooms> {
        Arc::new(Rooms { live: AtomicUsize::new(0), max })
    }

    /// Room for one more file; `None`: there is none.
    pub fn take(self: &Arc<Rooms>) -> Option<Room> {
        let more = |live| (live < self.max).then_some(live + 1);
        let taken = self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        taken.then(|| Room(self.clone()))
    }
}

/// The room of one open file, from its OPEN until the last of it is closed.
#[derive(Debug)]
pub struct Room(Arc<Rooms>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}
