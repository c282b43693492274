//! The header before each packet: `struct bpf_hdr`.

use crate::time::Timestamp;

/// How the time stamp is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// 64-bit seconds, then microseconds in 64 bits (LP64 `struct timeval`).
    Micro64,
    /// 32-bit seconds and microseconds.
    Micro32,
}

impl Stamp {
    /// Bytes it takes.
    pub const fn size(self) -> usize {
        match self {
            Stamp::Micro64 => 16,
            Stamp::Micro32 => 8,
        }
    }
}

/// A record header's layout. After the stamp come caplen and datalen (u32) and hdrlen (u16), in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The time stamp.
    pub stamp: Stamp,
    /// Bytes the system counts for the header when it aligns the network header: its fields (FreeBSD) or its `sizeof` (NetBSD).
    pub counted: usize,
    /// `BPF_ALIGNMENT`: records start at multiples of it.
    pub alignment: usize,
}

/// The largest header any dialect writes, in bytes.
pub const LARGEST: usize = 64;

impl Header {
    /// `BPF_WORDALIGN`.
    pub const fn align(&self, n: usize) -> usize {
        n.next_multiple_of(self.alignment)
    }

    /// `bh_hdrlen`: so long that the network header behind a link header of `link` bytes is aligned.
    pub const fn hdrlen(&self, link: usize) -> usize {
        self.align(link + self.counted) - link
    }

    /// Writes the header into `out`, whose length is `bh_hdrlen`; padding becomes zero.
    pub fn write(&self, out: &mut [u8], timestamp: Timestamp, caplen: u32, datalen: u32) {
        let hdrlen = out.len();
        let mut whole = [0u8; LARGEST];
        let at = self.stamp.size();
        let micros = timestamp.nsec / 1000;
        match self.stamp {
            Stamp::Micro64 => {
                whole[..8].copy_from_slice(&timestamp.sec.to_ne_bytes());
                whole[8..16].copy_from_slice(&u64::from(micros).to_ne_bytes());
            }
            Stamp::Micro32 => {
                // the field is 32 bits wide: seconds past 2038 are cut as that system cuts them
                #[allow(clippy::cast_possible_truncation)]
                whole[..4].copy_from_slice(&(timestamp.sec as u32).to_ne_bytes());
                whole[4..8].copy_from_slice(&micros.to_ne_bytes());
            }
        }
        whole[at..at + 4].copy_from_slice(&caplen.to_ne_bytes());
        whole[at + 4..at + 8].copy_from_slice(&datalen.to_ne_bytes());
        whole[at + 8..at + 10].copy_from_slice(&u16::try_from(hdrlen).unwrap_or(u16::MAX).to_ne_bytes());
        if hdrlen <= LARGEST {
            out.copy_from_slice(&whole[..hdrlen]);
        }
    }

    /// Reads a header: caplen, datalen and hdrlen; `None` when `bytes` is too short for one.
    pub fn read(&self, bytes: &[u8]) -> Option<(Timestamp, u32, u32, usize)> {
        let at = self.stamp.size();
        let word = |i: usize| Some(u32::from_ne_bytes(bytes.get(i..i + 4)?.try_into().ok()?));
        let (sec, micros) = match self.stamp {
            Stamp::Micro64 => (
                i64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?),
                u32::try_from(u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?)).ok()?,
            ),
            Stamp::Micro32 => (i64::from(word(0)?), word(4)?),
        };
        let hdrlen = u16::from_ne_bytes(bytes.get(at + 8..at + 10)?.try_into().ok()?);
        let timestamp = Timestamp { sec, nsec: micros.checked_mul(1000)? };
        Some((timestamp, word(at)?, word(at + 4)?, usize::from(hdrlen)))
    }
}

/// FreeBSD, LP64: 26 bytes of fields.
pub const FREEBSD64: Header = Header { stamp: Stamp::Micro64, counted: 26, alignment: 8 };
/// FreeBSD's `bpf_hdr32`: 18 bytes of fields.
pub const FREEBSD32: Header = Header { stamp: Stamp::Micro32, counted: 18, alignment: 4 };
/// NetBSD, LP64: `sizeof(struct bpf_hdr)`, 32 bytes, is what it counts.
pub const NETBSD64: Header = Header { stamp: Stamp::Micro64, counted: 32, alignment: 8 };

// bh_hdrlen on Ethernet, DLT_NULL and DLT_RAW: abi.json, "bh_hdrlen"
const _: () = {
    assert!(FREEBSD64.hdrlen(14) == 26 && FREEBSD64.hdrlen(4) == 28 && FREEBSD64.hdrlen(0) == 32);
    assert!(FREEBSD32.hdrlen(14) == 18 && FREEBSD32.hdrlen(4) == 20 && FREEBSD32.hdrlen(0) == 20);
    assert!(NETBSD64.hdrlen(14) == 34 && NETBSD64.hdrlen(4) == 36 && NETBSD64.hdrlen(0) == 32);
    assert!(FREEBSD64.stamp.size() + 10 == 26 && FREEBSD32.stamp.size() + 10 == 18);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        for header in [FREEBSD64, FREEBSD32, NETBSD64] {
            let mut out = vec![0xaa; header.hdrlen(14)];
            header.write(&mut out, Timestamp { sec: 1_700_000_000, nsec: 123_456_789 }, 60, 1514);
            let (stamp, caplen, datalen, hdrlen) = header.read(&out).expect("a whole header");
            assert_eq!(stamp, Timestamp { sec: 1_700_000_000, nsec: 123_456_000 }, "microseconds are kept");
            assert_eq!((caplen, datalen, hdrlen), (60, 1514, header.hdrlen(14)));
            let fields = header.stamp.size() + 10;
            assert!(out[fields..].iter().all(|&b| b == 0), "padding is zero");
        }
        assert!(FREEBSD64.read(&[0; 25]).is_none(), "25 bytes hold no header of 26");
    }
}
