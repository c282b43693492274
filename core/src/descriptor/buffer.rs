//! The double buffer: store, hold, free.

use crate::abi::Header;
use crate::abi::hdr::{LARGEST, Record};

/// A descriptor's buffers; all empty until an interface is attached.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// Packets collect here.
    store: Vec<u8>,
    hold: Option<Vec<u8>>,
    free: Option<Vec<u8>>,
    stored_packets: u64,
    held_packets: u64,
}

impl Buffers {
    /// Has the buffers ready for `size` bytes each.
    pub fn allocate(&mut self, size: usize) {
        if self.store.capacity() < size {
            *self = Buffers {
                store: Vec::with_capacity(size),
                free: Some(Vec::with_capacity(size)),
                ..Buffers::default()
            };
        }
    }

    /// The same; `false` when there is not the memory, and then nothing has changed.
    pub fn try_allocate(&mut self, size: usize) -> bool {
        self.store.capacity() >= size || self.try_renew(size)
    }

    /// New, empty buffers of `size` bytes each; `false` when there is not the memory, and then nothing has changed.
    pub fn try_renew(&mut self, size: usize) -> bool {
        let (mut store, mut free) = (Vec::new(), Vec::new());
        if store.try_reserve_exact(size).is_err() || free.try_reserve_exact(size).is_err() {
            return false;
        }
        *self = Buffers { store, free: Some(free), ..Buffers::default() };
        true
    }

    /// Forgets what is buffered.
    pub fn clear(&mut self) {
        self.store.clear();
        self.stored_packets = 0;
        self.free_hold();
    }

    /// There are buffers.
    pub fn are_allocated(&self) -> bool {
        self.store.capacity() > 0
    }

    /// A buffer is free to become the store.
    pub fn has_free(&self) -> bool {
        self.free.is_some()
    }

    /// Packets in the hold.
    pub fn held_packets(&self) -> u64 {
        self.held_packets
    }

    /// Bytes in the store.
    pub fn stored(&self) -> usize {
        self.store.len()
    }

    /// Bytes in the hold.
    pub fn held(&self) -> usize {
        self.hold.as_ref().map_or(0, Vec::len)
    }

    /// There is a hold buffer for the reader.
    pub fn has_hold(&self) -> bool {
        self.hold.is_some()
    }

    /// What the reader gets.
    pub fn hold(&self) -> &[u8] {
        self.hold.as_deref().unwrap_or(&[])
    }

    /// A reader takes no more than so many bytes of the hold; what is behind them is lost with it.
    pub fn cut_hold(&mut self, len: usize) {
        if let Some(hold) = &mut self.hold {
            hold.truncate(len);
        }
    }

    /// The store becomes the hold, the free buffer the store; false when no buffer is free.
    pub fn rotate(&mut self) -> bool {
        let Some(free) = self.free.take() else { return false };
        self.hold = Some(std::mem::replace(&mut self.store, free));
        self.held_packets = std::mem::take(&mut self.stored_packets);
        true
    }

    /// The reader has taken the hold: it is free again.
    pub fn free_hold(&mut self) {
        if let Some(mut hold) = self.hold.take() {
            hold.clear();
            self.free = Some(hold);
        }
    }

    /// Writes a record at `start`, which fits: gap, header and packet. Both gap and header padding are zero.
    pub fn append(
        &mut self,
        header: &Header,
        start: usize,
        hdrlen: usize,
        record: &Record,
        data: &[u8],
        size: usize,
    ) {
        let store = &mut self.store;
        // a buffer smaller than the header holds the header's beginning, as on NetBSD
        store.resize((start + hdrlen).min(size), 0);
        let room = &mut store[start..];
        if room.len() == hdrlen {
            header.write(room, record);
        } else {
            let mut whole = [0; LARGEST];
            let whole = &mut whole[..hdrlen];
            header.write(whole, record);
            let cut = room.len();
            room.copy_from_slice(&whole[..cut]);
        }
        store.extend_from_slice(data);
        self.stored_packets += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_memory_nothing_changes() {
        let mut buffers = Buffers::default();
        assert!(!buffers.try_renew(isize::MAX as usize));
        assert!(!buffers.are_allocated());
        assert!(buffers.try_renew(100));
        assert!(!buffers.try_renew(isize::MAX as usize) && !buffers.try_allocate(isize::MAX as usize));
        assert!(buffers.are_allocated() && buffers.has_free());
        assert!(buffers.try_allocate(100) && buffers.rotate());
    }
}
