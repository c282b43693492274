//! Inode numbers: each LOOKUP of a node gives one of its own, so each open has its own size and its own locks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::chardev::nodes::Minor;

/// Numbers below are the directories'.
const FIRST: u64 = 1 << 8;
/// A 32-bit program's `struct stat` has no room for a larger one (EOVERFLOW).
const LAST: u64 = u32::MAX as u64;

/// What an inode number means.
#[derive(Clone, Debug)]
pub struct Inode {
    /// The device, by its place among the directories.
    pub device: usize,
    /// The node.
    pub minor: Minor,
    /// The size it shows: bytes a read could get, which is what FIONREAD says of it.
    pub size: Arc<AtomicU64>,
    /// Its generation: numbers are used again.
    pub generation: u64,
    /// LOOKUPs the kernel has not taken back yet.
    lookups: u64,
}

/// The inodes the kernel knows.
#[derive(Debug)]
pub struct Inodes {
    known: HashMap<u64, Inode>,
    next: u64,
    generation: u64,
}

impl Inodes {
    /// None.
    pub fn new() -> Inodes {
        Inodes { known: HashMap::new(), next: FIRST, generation: 0 }
    }

    /// A new inode of a node, looked up once. `None`: every number is in use.
    pub fn add(&mut self, device: usize, minor: Minor) -> Option<(u64, Inode)> {
        if self.known.len() as u64 > LAST - FIRST {
            return None;
        }
        let number = loop {
            if self.next > LAST {
                (self.next, self.generation) = (FIRST, self.generation + 1);
            }
            self.next += 1;
            if !self.known.contains_key(&(self.next - 1)) {
                break self.next - 1;
            }
        };
        let inode = Inode { device, minor, size: Arc::default(), generation: self.generation, lookups: 1 };
        self.known.insert(number, inode.clone());
        Some((number, inode))
    }

    /// The inode of this number.
    pub fn get(&self, number: u64) -> Option<&Inode> {
        self.known.get(&number)
    }

    /// The same, looked up once more.
    pub fn look_up(&mut self, number: u64) -> Option<&Inode> {
        let inode = self.known.get_mut(&number)?;
        inode.lookups += 1;
        Some(inode)
    }

    /// FORGET: the kernel takes so many LOOKUPs back.
    pub fn forget(&mut self, number: u64, lookups: u64) {
        if let Some(inode) = self.known.get_mut(&number) {
            inode.lookups = inode.lookups.saturating_sub(lookups);
            if inode.lookups == 0 {
                self.known.remove(&number);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_when_it_was_forgotten() {
        let mut inodes = Inodes::new();
        let (first, _) = inodes.add(0, Minor::Clone).unwrap();
        let (second, _) = inodes.add(3, Minor::Numbered(2)).unwrap();
        assert_ne!(first, second);
        assert!(inodes.look_up(second).is_some());
        inodes.forget(second, 1);
        assert_eq!(inodes.get(second).map(|inode| inode.device), Some(3), "looked up twice, forgotten once");
        inodes.forget(first, 1);
        assert!(inodes.get(first).is_none());
        inodes.next = LAST;
        assert_eq!(inodes.add(0, Minor::Clone).unwrap().0, LAST);
        let (again, inode) = inodes.add(0, Minor::Clone).unwrap();
        assert_eq!((again, inode.generation), (first, 1));
        assert_eq!(inodes.add(0, Minor::Clone).unwrap().0, second + 1, "not one that is in use");
    }
}
