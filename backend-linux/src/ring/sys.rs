//! The mapped receive ring.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::layout::Layout;

/// A mapped TPACKET_V2 receive ring, read frame by frame round and round.
///
/// Each frame belongs to the kernel or to us, as its first word (`tp_status`) says: with TP_STATUS_USER set it is ours
/// until we store TP_STATUS_KERNEL; otherwise the kernel writes there at any time, and only the word may be read.
#[derive(Debug)]
pub(crate) struct RingMap {
    base: NonNull<u8>,
    /// The memory is the allocator's, and no kernel writes there.
    #[cfg(test)]
    allocated: bool,
    layout: Layout,
    /// The present frame.
    present: Place,
    /// The frame [`AHEAD`] of it, which the processor is told to fetch.
    ahead: Place,
}

/// How many frames ahead the processor is told to fetch one. Frames lie too far apart for it to see by itself which
/// comes next, and each was last written by another CPU.
const AHEAD: u32 = 16;

/// A frame's place in the ring.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its number, below `layout.frames()`.
    frame: u32,
    /// Where it begins: always `layout.offset(frame)`, kept because that divides.
    offset: usize,
    /// Frames of its block that follow it.
    left: u32,
}

impl Place {
    fn new(layout: &Layout, frame: u32) -> Place {
        let frame = frame % layout.frames();
        let left = layout.per_block() - 1 - frame % layout.per_block();
        Place { frame, offset: layout.offset(frame), left }
    }

    /// Goes on to the next frame.
    #[inline]
    fn advance(&mut self, layout: &Layout) {
        self.frame += 1;
        self.offset += layout.frame_size as usize;
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
        } else {
            *self = Place::new(layout, self.frame);
        }
    }
}

// SAFETY: the mapping is owned by this value alone, is of the whole process, and is no thread's in particular.
unsafe impl Send for RingMap {}

impl RingMap {
    /// Maps the ring that [`make_ring`] made on `fd` with this layout.
    pub fn new(fd: BorrowedFd<'_>, layout: Layout) -> io::Result<RingMap> {
        // SAFETY: a new shared mapping, at an address of the kernel's choice, of a packet socket's ring: it aliases no
        // memory of ours. That the length is the ring's own is checked by the kernel (EINVAL).
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                layout.len(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(RingMap::at(base, layout))
    }

    fn at(base: NonNull<u8>, layout: Layout) -> RingMap {
        let (present, ahead) = (Place::new(&layout, 0), Place::new(&layout, AHEAD));
        RingMap {
            base,
            #[cfg(test)]
            allocated: false,
            layout,
            present,
            ahead,
        }
    }

    /// Number of frames.
    pub fn frames(&self) -> u32 {
        self.layout.frames()
    }

    /// Octets of it.
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// The status word of the frame that begins at `offset`.
    fn status_word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `offset` is `self.offset` or comes from Layout::offset: the start of one of the layout's frames, all
        // of which lie within the mapping of Layout::len() octets (frame_size * per_block <= block_size).
        let word = unsafe { self.base.add(offset) };
        // SAFETY: the frame's first four octets are in the mapping, which lives as long as `self`; they are aligned
        // (a page, plus a multiple of TPACKET_ALIGNMENT); and they are only ever accessed atomically, by the kernel
        // and here: the slices of `frame` do not contain them.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// The present frame's status, if the frame is ours.
    #[inline]
    pub fn status(&self) -> Option<u32> {
        // Acquire: what the kernel wrote before it set the status is seen.
        let status = self.status_word(self.present.offset).load(Ordering::Acquire);
        (status & libc::TP_STATUS_USER != 0).then_some(status)
    }

    /// Whether the frame `ahead` of the present one is ours.
    pub fn is_ours(&self, ahead: u32) -> bool {
        let frame = (u64::from(self.present.frame) + u64::from(ahead)) % u64::from(self.frames());
        let offset = self.layout.offset(frame as u32); // below frames(), a u32
        self.status_word(offset).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// [`RingMap::frame`], to be read only.
    #[inline]
    pub fn octets(&self) -> Option<&[u8]> {
        self.status()?;
        let len = self.layout.frame_size as usize - 4;
        // SAFETY: as in `frame`: inside the mapping.
        let start = unsafe { self.base.add(self.present.offset + 4) };
        // SAFETY: as in `frame`, but shared: neither the kernel nor we write there while `self` is borrowed.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) })
    }

    /// Octets of the present frame behind its status word, if the frame is ours: index 0 is the frame's octet 4.
    #[inline]
    pub fn frame(&mut self) -> Option<&mut [u8]> {
        self.status()?;
        let len = self.layout.frame_size as usize - 4;
        // SAFETY: the present frame is in the mapping, and four octets on is still inside it (frame_size is at least
        // 128, see Layout).
        let start = unsafe { self.base.add(self.present.offset + 4) };
        // SAFETY: the octets are inside the frame and so inside the mapping. The frame is ours, so the kernel does not
        // write there until give_back() stores the status, which needs `self` and so comes after this borrow; no other
        // reference into the mapping exists while `self` is borrowed mutably. The kernel's pages are initialised.
        Some(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// Has the processor fetch the head of the frame at `offset`, and the first octets of its packet.
    #[inline]
    fn prefetch(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
            let address = self.base.as_ptr().wrapping_add(offset);
            // SAFETY: it is a hint: it reads nothing as far as the program goes, and faults at no address.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(address.cast::<i8>()) };
            for line in [64, 128] {
                // SAFETY: as above.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(line).cast::<i8>()) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// Gives the present frame back to the kernel, if it is ours, and goes on to the next.
    #[inline]
    pub fn give_back(&mut self) {
        if self.status().is_none() {
            return;
        }
        // Release: our reads and writes of the frame are over before the kernel may write there.
        self.status_word(self.present.offset).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.present.advance(&self.layout);
        self.ahead.advance(&self.layout);
        self.prefetch(self.ahead.offset);
    }
}

impl Drop for RingMap {
    fn drop(&mut self) {
        #[cfg(test)]
        if self.allocated {
            return self.deallocate();
        }
        // SAFETY: the mapping was made by `new` with this address and length, and no reference into it outlives
        // `self`. It cannot fail for such a range; if it did, the memory would stay mapped, which is harmless.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.layout.len()) };
    }
}

/// A ring in memory of ours, whose kernel is the test: what checks memory accesses sees its ends.
#[cfg(test)]
mod in_memory {
    use std::alloc;

    use super::*;

    /// As the kernel's: a page.
    fn memory(layout: &Layout) -> alloc::Layout {
        alloc::Layout::from_size_align(layout.len(), 4096).expect("a layout of whole blocks")
    }

    impl RingMap {
        /// An empty ring, all of it the kernel's.
        pub fn in_memory(layout: Layout) -> RingMap {
            // SAFETY: the size is that of at least one block, so not 0.
            let base = unsafe { alloc::alloc_zeroed(memory(&layout)) };
            let base = NonNull::new(base).expect("memory");
            let mut ring = RingMap::at(base, layout);
            ring.allocated = true;
            ring
        }

        pub(super) fn deallocate(&self) {
            // SAFETY: `base` came from the allocator with this layout, is given back once, by drop(), and no reference into
            // it outlives `self`.
            unsafe { alloc::dealloc(self.base.as_ptr(), memory(&self.layout)) };
        }

        /// What the kernel does: writes the octets behind the status of frame number `frame`, which must be the kernel's,
        /// then the status.
        pub fn receive(&self, frame: u32, octets: &[u8], status: u32) {
            let offset = self.layout.offset(frame % self.frames());
            let word = self.status_word(offset);
            assert_eq!(word.load(Ordering::Acquire), libc::TP_STATUS_KERNEL, "the kernel's frame");
            assert!(octets.len() <= self.layout.frame_size as usize - 4, "no more than a frame");
            // SAFETY: four octets behind the start of a frame are inside it, see `frame`.
            let start = unsafe { self.base.add(offset + 4) };
            // SAFETY: the octets end inside the frame (asserted) and so inside the allocation; the frame is the kernel's
            // (asserted), so `octets` and `frame` have lent no slice of it.
            unsafe { std::ptr::copy_nonoverlapping(octets.as_ptr(), start.as_ptr(), octets.len()) };
            word.store(status, Ordering::Release);
        }
    }
}
