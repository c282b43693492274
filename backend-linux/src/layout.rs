//! How a receive ring is laid out: blocks of frames of one size (packet_mmap.rst of the kernel).

/// TPACKET_ALIGNMENT is 16; whole cache lines are no dearer.
const FRAME_ALIGNMENT: usize = 64;
/// TPACKET2_HDRLEN: `struct tpacket2_hdr` and `struct sockaddr_ll`, in octets.
const HEADER: usize = 52;
/// Payloads above this come by PACKET_COPY_THRESH instead (`lo` with its MTU of 65536, aggregates), in octets.
const PAYLOAD_MAX: usize = 2048;
/// A block in octets: a multiple of every page size, small enough to be found in fragmented memory.
const BLOCK: usize = 64 * 1024;
/// Fewest frames of a ring.
const FRAMES_MIN: usize = 256;
/// Largest ring in octets: it cannot be swapped out.
const RING_MAX: usize = 128 * 1024 * 1024;
/// A short packet, in octets: as many of these as two buffers hold must fit.
const SHORT_PACKET: usize = 60;

/// A ring's blocks and frames; `frame_size` divides no block evenly, the rest of each block is unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Octets of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u32,
    /// Octets of a frame.
    pub frame_size: u32,
}

impl Layout {
    /// The layout for an interface of this MTU, and for two buffers of `bufsize` octets full of short packets whose
    /// records take `record_overhead` octets beside the packet.
    pub fn new(mtu: usize, bufsize: usize, record_overhead: usize) -> Layout {
        // As tpacket_rcv() has it: the payload begins behind the header and 16 octets for the link header, aligned. An
        // Ethernet header then leaves 14 octets before it, room enough to put a tag back, so no PACKET_RESERVE: that
        // would push a short packet out of the cache line it has to itself. Tags in the frame add to its length.
        let payload_at = (HEADER + 16).next_multiple_of(16);
        let frame_size = (payload_at + mtu.min(PAYLOAD_MAX) + 8).next_multiple_of(FRAME_ALIGNMENT);
        let record = (record_overhead.min(BLOCK) + SHORT_PACKET).next_multiple_of(8);
        let frames = (bufsize.saturating_mul(2) / record).max(FRAMES_MIN);
        let blocks = frames.div_ceil(BLOCK / frame_size).min(RING_MAX / BLOCK);
        // All three are far below 4 GiB by the bounds above.
        Layout { block_size: BLOCK as u32, blocks: blocks as u32, frame_size: frame_size as u32 }
    }

    /// As many of its blocks as `bytes` octets hold, at least one.
    pub fn with_len(self, bytes: usize) -> Layout {
        Layout { blocks: (bytes.min(RING_MAX) / BLOCK).max(1) as u32, ..self } // far below 4 GiB
    }

    /// Half as many blocks; `None` when there is only one.
    pub fn halved(self) -> Option<Layout> {
        (self.blocks > 1).then_some(Layout { blocks: self.blocks / 2, ..self })
    }

    /// Frames of a block.
    pub fn per_block(&self) -> u32 {
        self.block_size / self.frame_size
    }

    /// Frames of the ring.
    pub fn frames(&self) -> u32 {
        self.per_block() * self.blocks
    }

    /// Octets of the ring.
    pub fn len(&self) -> usize {
        self.block_size as usize * self.blocks as usize
    }

    /// Where a frame begins in the ring, in octets; the frame's number counts modulo [`frames`](Self::frames).
    #[inline]
    pub fn offset(&self, frame: u32) -> usize {
        let per_block = self.per_block();
        let (block, within) = ((frame / per_block) % self.blocks, frame % per_block);
        block as usize * self.block_size as usize + within as usize * self.frame_size as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_buffers_of_short_packets_fit() {
        for (mtu, bufsize, overhead) in
            [(1500, 4096, 18), (1500, 524_288, 26), (65536, 32768, 18), (68, 0, 0)]
        {
            let layout = Layout::new(mtu, bufsize, overhead);
            let packets = 2 * bufsize / (overhead + 60).next_multiple_of(8);
            assert!(layout.frames() as usize >= packets.max(256), "{layout:?}");
            assert!(layout.frame_size & 15 == 0 && layout.frame_size >= 128, "{layout:?}");
        }
        assert!(Layout::new(1500, usize::MAX, usize::MAX).len() <= RING_MAX);
        assert!(Layout::new(usize::MAX, 1 << 40, 18).len() <= RING_MAX);
    }

    #[test]
    fn every_frame_lies_inside_its_block() {
        let layout = Layout::new(1500, 65536, 18);
        let mut last = None;
        for frame in 0..layout.frames() {
            let start = layout.offset(frame);
            let end = start + layout.frame_size as usize;
            assert!(end <= layout.len() && start / BLOCK == (end - 1) / BLOCK);
            assert!(last.is_none_or(|last| start >= last), "frames do not overlap");
            last = Some(end);
        }
        assert_eq!(layout.offset(layout.frames()), 0, "after the last comes the first");
    }

    #[test]
    fn a_ring_has_the_size_asked_for() {
        let layout = Layout::new(1500, 4096, 18);
        assert_eq!(layout.with_len(16 << 20).len(), 16 << 20);
        assert_eq!(layout.with_len(0).blocks, 1);
        assert_eq!(layout.with_len(usize::MAX).len(), RING_MAX);
    }

    #[test]
    fn a_ring_is_halved_down_to_one_block() {
        let mut layout = Layout::new(1500, 524_288, 18);
        while let Some(half) = layout.halved() {
            layout = half;
        }
        assert_eq!(layout.blocks, 1);
    }
}
