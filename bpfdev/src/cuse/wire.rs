//! The messages of /dev/cuse that the front end itself reads and writes (`include/uapi/linux/fuse.h`).

use crate::chardev::wire::Fields;

/// The most the kernel moves in one READ or WRITE of a device, bytes: 32 pages of 4 KiB.
pub const MAX_PIECE: usize = 128 << 10;

/// The protocol's version that is spoken: major, and the minor from which RETRY is the same for 32-bit callers.
const MAJOR: u32 = 7;
const MINOR_AT_LEAST: u32 = 16;
/// The newest minor that this was written for.
const MINOR: u32 = 38;

/// `struct cuse_init_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitIn {
    /// The kernel's version of the protocol.
    pub major: u32,
    /// The same, the smaller part.
    pub minor: u32,
}

impl InitIn {
    /// Reads the body of a CUSE_INIT.
    pub fn parse(body: &[u8]) -> Option<InitIn> {
        let mut f = Fields(body);
        Some(InitIn { major: f.u32()?, minor: f.u32()? })
    }

    /// This program speaks it.
    pub fn is_spoken(self) -> bool {
        self.major == MAJOR && self.minor >= MINOR_AT_LEAST
    }

    /// The reply, `struct cuse_init_out` and the device's name below /dev: its ioctls are unrestricted, its number is the
    /// kernel's choice.
    pub fn accept(self, name: &str) -> Vec<u8> {
        const UNRESTRICTED_IOCTL: u32 = 1;
        let piece = MAX_PIECE as u32;
        // major, minor, unused, flags, max_read, max_write, dev_major, dev_minor, ten spare ones
        let mut words = [0; 18];
        words[..6].copy_from_slice(&[MAJOR, self.minor.min(MINOR), 0, UNRESTRICTED_IOCTL, piece, piece]);
        let info = [b"DEVNAME=", name.as_bytes(), &[0]].concat();
        words.into_iter().flat_map(u32::to_ne_bytes).chain(info).collect()
    }
}

/// The flags of `struct fuse_open_in`: open(2)'s.
pub fn open_flags(body: &[u8]) -> Option<u32> {
    Fields(body).u32()
}

/// `struct fuse_open_out`: the file's number.
pub fn open_out(fh: u64) -> [u8; 16] {
    let mut body = [0; 16];
    body[..8].copy_from_slice(&fh.to_ne_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_made_with_unrestricted_ioctls_under_its_name() {
        let body: Vec<u8> = [7u32, 38, 0, 1].into_iter().flat_map(u32::to_ne_bytes).collect();
        let init = InitIn::parse(&body).expect("16 bytes");
        assert!(init.is_spoken());
        let reply = init.accept("bpfdev/openbsd/bpf");
        assert_eq!(reply.len(), 72 + "DEVNAME=bpfdev/openbsd/bpf".len() + 1);
        let words: Vec<u32> =
            reply[..72].chunks(4).map(|word| word.try_into().map_or(0, u32::from_ne_bytes)).collect();
        assert_eq!(words[..8], [7, 38, 0, 1, 0x2_0000, 0x2_0000, 0, 0]);
        assert_eq!(reply[72..], *b"DEVNAME=bpfdev/openbsd/bpf\0");
    }

    #[test]
    fn an_unknown_version_is_not_spoken_and_a_newer_one_is_as_the_newest_known() {
        for (major, minor, spoken) in [(7, 15, false), (7, 16, true), (7, 99, true), (8, 0, false)] {
            assert_eq!(InitIn { major, minor }.is_spoken(), spoken, "{major}.{minor}");
        }
        let reply = InitIn { major: 7, minor: 99 }.accept("bpf");
        assert_eq!(reply[4..8], MINOR.to_ne_bytes());
        assert_eq!(InitIn::parse(&[0; 7]), None);
    }

    #[test]
    fn an_open_is_read_and_answered() {
        assert_eq!(open_flags(&[&0x8002u32.to_ne_bytes()[..], &[0; 4]].concat()), Some(0x8002));
        assert_eq!(open_flags(&[0; 3]), None);
        assert_eq!(open_out(0x1234), [&0x1234u64.to_ne_bytes()[..], &[0; 8]].concat()[..]);
    }
}
