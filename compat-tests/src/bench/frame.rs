//! The frames that are sent, and what a reader does with each.

use serde::{Deserialize, Serialize};

/// IEEE 802's ethertype for local experiments: no protocol of the kernel takes such frames.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
const HEADER: usize = 14;
/// Smallest frame: the header and a time stamp.
pub const SMALLEST: usize = HEADER + 8;

/// The frame of `size` bytes (link header included, checksum not) that is sent again and again.
pub fn frame(size: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(size.max(SMALLEST));
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame.extend_from_slice(&ETHERTYPE);
    frame.extend((HEADER..size.max(SMALLEST)).map(|i| (i % 251) as u8));
    frame
}

/// Writes the time it is sent into a frame, nanoseconds of CLOCK_MONOTONIC.
pub fn stamp(frame: &mut [u8], now: u64) {
    if let Some(room) = frame.get_mut(HEADER..SMALLEST) {
        room.copy_from_slice(&now.to_ne_bytes());
    }
}

/// The time a frame was sent.
pub fn stamped(frame: &[u8]) -> Option<u64> {
    let bytes = frame.get(HEADER..SMALLEST)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

/// What a reader does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Looks at one byte.
    Touch,
    /// Sums all bytes.
    Use,
}

impl Workload {
    /// The word of the table.
    pub const fn name(self) -> &'static str {
        match self {
            Workload::Touch => "touch",
            Workload::Use => "use",
        }
    }
}

/// A reader's work and its proof.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    workload: Workload,
    /// Packets seen.
    pub packets: u64,
    /// Sum of the bytes looked at.
    pub sum: u64,
}

impl Work {
    /// Nothing done yet.
    pub const fn new(workload: Workload) -> Work {
        Work { workload, packets: 0, sum: 0 }
    }

    /// Takes one packet.
    #[inline]
    pub fn packet(&mut self, data: &[u8]) {
        self.packets += 1;
        self.sum += match self.workload {
            Workload::Touch => data.get(HEADER - 1).copied().map_or(0, u64::from),
            Workload::Use => data.iter().copied().map(u64::from).sum(),
        };
    }

    /// Whether the bytes were those of `frame` each time.
    pub fn proves(&self, frame: &[u8]) -> bool {
        let mut once = Work::new(self.workload);
        once.packet(frame);
        self.sum == once.sum * self.packets
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_carries_its_time() {
        let mut bytes = frame(64);
        assert_eq!(bytes.len(), 64);
        stamp(&mut bytes, 0x0102_0304_0506_0708);
        assert_eq!(stamped(&bytes), Some(0x0102_0304_0506_0708));
        assert_eq!(stamped(&bytes[..20]), None);
    }

    #[test]
    fn a_packet_that_is_another_shows_in_the_sum() {
        for workload in [Workload::Touch, Workload::Use] {
            let frame = frame(1514);
            let mut work = Work::new(workload);
            work.packet(&frame);
            work.packet(&frame);
            assert!(work.proves(&frame));
            work.packet(&[0; 1514]);
            assert!(!work.proves(&frame));
        }
    }
}
