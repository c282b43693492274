//! How many taps of this process are on which interface.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bpfdev_core::backend::Interface;

/// An interface: its network namespace's inode and its index there.
type Key = (u64, u32);

static TAPS: Mutex<Option<HashMap<Key, u32>>> = Mutex::new(None);

fn taps() -> MutexGuard<'static, Option<HashMap<Key, u32>>> {
    TAPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One tap, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Attached(Key);

impl Attached {
    /// Counts a tap on `interface`.
    pub fn new(interface: &Interface) -> Attached {
        let key = (interface.network, interface.index);
        *taps().get_or_insert_default().entry(key).or_default() += 1;
        Attached(key)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(taps) = taps().as_mut()
            && let Some(count) = taps.get_mut(&self.0)
        {
            *count -= 1;
            if *count == 0 {
                taps.remove(&self.0);
            }
        }
    }
}

/// Taps on the interface with this index in this network namespace.
pub(crate) fn count(network: u64, index: u32) -> u32 {
    taps().as_ref().and_then(|taps| taps.get(&(network, index)).copied()).unwrap_or(0)
}
