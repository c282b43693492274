//! The receive ring of a packet socket (TPACKET_V2), walked frame by frame.

mod sys;

pub(crate) use sys::RingMap;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::layout::Layout;

    /// Two blocks of two frames, with a rest behind each.
    pub const LAYOUT: Layout = Layout { block_size: 4096, blocks: 2, frame_size: 1600 };

    #[test]
    fn frames_go_round_and_belong_to_one_side() {
        let mut ring = RingMap::in_memory(LAYOUT);
        assert_eq!(ring.frames(), 4);
        assert!(ring.status().is_none() && ring.frame().is_none() && ring.octets().is_none());
        ring.give_back();
        for number in 0..50_u32 {
            let octets = [number as u8; 1596];
            ring.receive(number, &octets, libc::TP_STATUS_USER);
            assert_eq!((ring.is_ours(0), ring.is_ours(1), ring.is_ours(4)), (true, false, true), "{number}");
            assert_eq!(ring.octets().expect("ours"), octets);
            ring.frame().expect("ours").fill(0xff);
            ring.give_back();
            assert!(ring.status().is_none(), "{number}");
        }
    }

    #[test]
    fn what_lies_behind_a_frame_of_the_kernels_is_not_ours_yet() {
        let mut ring = RingMap::in_memory(LAYOUT);
        ring.receive(1, &[1], libc::TP_STATUS_USER);
        assert!(ring.status().is_none() && ring.is_ours(1));
        ring.receive(0, &[2], libc::TP_STATUS_USER | libc::TP_STATUS_LOSING);
        for first in [2, 1] {
            assert_eq!(ring.octets().expect("ours")[0], first);
            ring.give_back();
        }
        assert!(ring.status().is_none());
    }
}
