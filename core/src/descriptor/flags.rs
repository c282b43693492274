//! The switches of macOS's device.

use crate::abi::Flag;

/// Which are on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags(u16);

impl Flags {
    fn bit(flag: Flag) -> u16 {
        1 << match flag {
            Flag::ExtendedHeader => 0,
            Flag::HeadDrop => 1,
            Flag::NoTimestamp => 2,
            Flag::WantPktap => 3,
            Flag::PktapHeaderV2 => 4,
            Flag::Truncate => 5,
            Flag::HeaderCompression => 6,
            Flag::BatchWrite => 7,
            Flag::DivertIn => 8,
        }
    }

    /// It is on.
    pub fn is_set(self, flag: Flag) -> bool {
        self.0 & Flags::bit(flag) != 0
    }

    /// Switches it.
    pub fn set(&mut self, flag: Flag, on: bool) {
        if on {
            self.0 |= Flags::bit(flag);
        } else {
            self.0 &= !Flags::bit(flag);
        }
    }
}
