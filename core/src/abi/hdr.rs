//! The header before each packet: `struct bpf_hdr` and its kin.

use crate::packet::Way;
use crate::time::Timestamp;

/// How the time stamp is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// 64-bit seconds, then microseconds in 64 bits (LP64 `struct timeval`).
    Micro64,
    /// 32-bit seconds and microseconds.
    Micro32,
    /// FreeBSD's `struct bpf_ts` as BPF_T_NANOTIME fills it: 64-bit seconds, nanoseconds in 64 bits.
    Nano64,
    /// FreeBSD's `struct bpf_ts` as BPF_T_BINTIME fills it: 64-bit seconds, then 2⁻⁶⁴ seconds.
    Bin64,
}

impl Stamp {
    /// Bytes it takes.
    pub const fn size(self) -> usize {
        match self {
            Stamp::Micro64 | Stamp::Nano64 | Stamp::Bin64 => 16,
            Stamp::Micro32 => 8,
        }
    }

    fn write(self, out: &mut [u8], timestamp: Timestamp) {
        let nanos = timestamp.nsec;
        let fraction = match self {
            Stamp::Micro32 => {
                // the field is 32 bits wide: seconds past 2038 (OpenBSD: 2106) are cut as that system cuts them
                #[allow(clippy::cast_possible_truncation)]
                out[..4].copy_from_slice(&(timestamp.sec as u32).to_ne_bytes());
                out[4..8].copy_from_slice(&(nanos / 1000).to_ne_bytes());
                return;
            }
            Stamp::Micro64 => u64::from(nanos / 1000),
            Stamp::Nano64 => u64::from(nanos),
            Stamp::Bin64 => fraction_of(nanos),
        };
        out[..8].copy_from_slice(&timestamp.sec.to_ne_bytes());
        out[8..16].copy_from_slice(&fraction.to_ne_bytes());
    }

    /// A stamp that is no time (microseconds of more than a second) becomes the end of its second.
    fn read(self, bytes: &[u8]) -> Option<Timestamp> {
        let word = |i: usize| Some(u32::from_ne_bytes(bytes.get(i..i + 4)?.try_into().ok()?));
        let long = |i: usize| Some(u64::from_ne_bytes(bytes.get(i..i + 8)?.try_into().ok()?));
        let (sec, nanos) = match self {
            Stamp::Micro32 => (i64::from(word(0)?), u64::from(word(4)?) * 1000),
            Stamp::Micro64 => (long(0)?.cast_signed(), long(8)?.saturating_mul(1000)),
            Stamp::Nano64 => (long(0)?.cast_signed(), long(8)?),
            // to the nearest: what was written is below by less than one nanosecond
            Stamp::Bin64 => {
                let nanos = (u128::from(long(8)?) * 1_000_000_000 + (1 << 63)) >> 64;
                (long(0)?.cast_signed(), u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        };
        Some(Timestamp { sec, nsec: u32::try_from(nanos).map_or(999_999_999, |nsec| nsec.min(999_999_999)) })
    }
}

/// Nanoseconds in 2⁻⁶⁴ seconds.
fn fraction_of(nanos: u32) -> u64 {
    u64::try_from((u128::from(nanos) << 64) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// What comes behind `bh_hdrlen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing but padding.
    None,
    /// OpenBSD: `bh_ifidx`, `bh_flowid`, `bh_flags` (BPF_F_DIR_IN 0x10, BPF_F_DIR_OUT 0x20), `bh_drops`.
    OpenBsd,
    /// macOS's `struct bpf_hdr_ext`: of its fields this host knows `bh_flags` (0 in, 1 out); the others are zero.
    Extended,
}

impl Tail {
    const fn size(self) -> usize {
        match self {
            Tail::None => 0,
            Tail::OpenBsd => 6,
            Tail::Extended => 46,
        }
    }
}

/// A record header's layout. After the stamp come caplen and datalen (u32) and hdrlen (u16), in host order, then the
/// tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The time stamp.
    pub stamp: Stamp,
    /// Bytes the system counts for the header when it aligns the network header: its fields (FreeBSD) or its `sizeof`
    /// (NetBSD).
    pub counted: usize,
    /// `BPF_ALIGNMENT`: records start at multiples of it.
    pub alignment: usize,
    /// What comes behind these fields.
    pub tail: Tail,
}

/// What a header says of its packet.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// `bh_tstamp`.
    pub timestamp: Timestamp,
    /// `bh_caplen`, bytes.
    pub caplen: u32,
    /// `bh_datalen`, bytes.
    pub datalen: u32,
    /// Which way the packet went.
    pub way: Way,
    /// The interface's index.
    pub ifindex: u32,
}

/// The largest header any dialect writes, in bytes.
pub const LARGEST: usize = 72;

impl Header {
    /// A header without tail.
    const fn plain(stamp: Stamp, counted: usize, alignment: usize) -> Header {
        Header { stamp, counted, alignment, tail: Tail::None }
    }

    /// `BPF_WORDALIGN`.
    pub const fn align(&self, n: usize) -> usize {
        n.next_multiple_of(self.alignment)
    }

    /// `bh_hdrlen`: so long that the network header behind a link header of `link` bytes is aligned.
    pub const fn hdrlen(&self, link: usize) -> usize {
        self.align(link + self.counted) - link
    }

    /// Bytes of its fields, without padding.
    pub const fn fields(&self) -> usize {
        self.stamp.size() + 10 + self.tail.size()
    }

    /// The same header with another time stamp: FreeBSD's `struct bpf_xhdr`, whose fields are counted.
    #[must_use]
    pub const fn stamped(self, stamp: Stamp) -> Header {
        Header { stamp, counted: stamp.size() + 10, ..self }
    }

    /// Writes the header into `out`, whose length is `bh_hdrlen`; padding becomes zero.
    pub fn write(&self, out: &mut [u8], record: &Record) {
        let hdrlen = out.len();
        let mut whole = [0u8; LARGEST];
        self.stamp.write(&mut whole, record.timestamp);
        let at = self.stamp.size();
        whole[at..at + 4].copy_from_slice(&record.caplen.to_ne_bytes());
        whole[at + 4..at + 8].copy_from_slice(&record.datalen.to_ne_bytes());
        whole[at + 8..at + 10].copy_from_slice(&u16::try_from(hdrlen).unwrap_or(u16::MAX).to_ne_bytes());
        match self.tail {
            Tail::None => {}
            Tail::OpenBsd => {
                #[allow(clippy::cast_possible_truncation)] // the field's own width
                whole[at + 10..at + 12].copy_from_slice(&(record.ifindex as u16).to_ne_bytes());
                whole[at + 14] = if record.way == Way::In { 0x10 } else { 0x20 };
            }
            Tail::Extended => whole[at + 11] = u8::from(record.way == Way::Out),
        }
        if hdrlen <= LARGEST {
            out.copy_from_slice(&whole[..hdrlen]);
        }
    }

    /// Reads a header: caplen, datalen and hdrlen; `None` when `bytes` is too short for one.
    pub fn read(&self, bytes: &[u8]) -> Option<(Timestamp, u32, u32, usize)> {
        let at = self.stamp.size();
        let word = |i: usize| Some(u32::from_ne_bytes(bytes.get(i..i + 4)?.try_into().ok()?));
        let hdrlen = u16::from_ne_bytes(bytes.get(at + 8..at + 10)?.try_into().ok()?);
        Some((self.stamp.read(bytes)?, word(at)?, word(at + 4)?, usize::from(hdrlen)))
    }
}

/// FreeBSD, LP64: 26 bytes of fields.
pub const FREEBSD64: Header = Header::plain(Stamp::Micro64, 26, 8);
/// FreeBSD's `bpf_hdr32`: 18 bytes of fields.
pub const FREEBSD32: Header = Header::plain(Stamp::Micro32, 18, 4);
/// NetBSD and DragonFly, LP64: `sizeof(struct bpf_hdr)`, 32 bytes, is what they count.
pub const NETBSD64: Header = Header::plain(Stamp::Micro64, 32, 8);
/// NetBSD's `bpf_hdr32`, by its `sizeof` too.
pub const NETBSD32: Header = Header::plain(Stamp::Micro32, 20, 4);
/// OpenBSD since 6.8, on every machine.
pub const OPENBSD: Header = Header { stamp: Stamp::Micro32, counted: 24, alignment: 4, tail: Tail::OpenBsd };
/// macOS, on every machine.
pub const MACOS: Header = Header::plain(Stamp::Micro32, 18, 4);
/// macOS's `bpf_hdr_ext`, after BIOCSEXTHDR.
pub const MACOS_EXTENDED: Header =
    Header { stamp: Stamp::Micro32, counted: 64, alignment: 4, tail: Tail::Extended };
/// illumos, assuming that it counts `sizeof(struct bpf_hdr)` (abi.json has it as unverified).
pub const ILLUMOS: Header = Header::plain(Stamp::Micro32, 20, 4);

// bh_hdrlen on Ethernet, DLT_NULL and DLT_RAW: abi.json, "bh_hdrlen"
const _: () = {
    const fn are(header: Header, ethernet: usize, loopback: usize, raw: usize) -> bool {
        header.hdrlen(14) == ethernet && header.hdrlen(4) == loopback && header.hdrlen(0) == raw
    }
    assert!(are(FREEBSD64, 26, 28, 32) && are(FREEBSD32, 18, 20, 20));
    assert!(are(FREEBSD64.stamped(Stamp::Nano64), 26, 28, 32));
    assert!(are(NETBSD64, 34, 36, 32) && are(NETBSD32, 22, 20, 20));
    assert!(are(OPENBSD, 26, 24, 24));
    assert!(are(MACOS, 18, 20, 20) && are(MACOS_EXTENDED, 66, 64, 64));
    assert!(FREEBSD64.fields() == 26 && FREEBSD32.fields() == 18 && OPENBSD.fields() == 24);
    assert!(MACOS_EXTENDED.fields() == 64);
    assert!(MACOS_EXTENDED.hdrlen(14) <= LARGEST);
};

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Header; 8] =
        [FREEBSD64, FREEBSD32, NETBSD64, NETBSD32, OPENBSD, MACOS, MACOS_EXTENDED, ILLUMOS];

    fn record(way: Way) -> Record {
        let timestamp = Timestamp { sec: 1_700_000_000, nsec: 123_456_789 };
        Record { timestamp, caplen: 60, datalen: 1514, way, ifindex: 3 }
    }

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        for header in ALL {
            let mut out = vec![0xaa; header.hdrlen(14)];
            header.write(&mut out, &record(Way::In));
            let (stamp, caplen, datalen, hdrlen) = header.read(&out).expect("a whole header");
            assert_eq!(stamp, Timestamp { sec: 1_700_000_000, nsec: 123_456_000 }, "microseconds are kept");
            assert_eq!((caplen, datalen, hdrlen), (60, 1514, header.hdrlen(14)));
            assert!(out[header.fields().min(out.len())..].iter().all(|&b| b == 0), "padding is zero");
        }
        assert!(FREEBSD64.read(&[0; 25]).is_none(), "25 bytes hold no header of 26");
    }

    #[test]
    fn finer_stamps_keep_nanoseconds() {
        for stamp in [Stamp::Nano64, Stamp::Bin64] {
            for nsec in [0, 1, 123_456_789, 999_999_999] {
                let header = FREEBSD64.stamped(stamp);
                let timestamp = Timestamp { sec: 1_700_000_000, nsec };
                let mut out = vec![0xaa; header.hdrlen(14)];
                header.write(&mut out, &Record { timestamp, ..record(Way::In) });
                assert_eq!(header.read(&out).expect("a whole header").0, timestamp, "{stamp:?}");
            }
        }
        // half a second is 2⁶³ of 2⁻⁶⁴
        assert_eq!(fraction_of(500_000_000), 1 << 63);
    }

    #[test]
    fn the_way_is_where_that_system_has_it() {
        for (way, openbsd, macos) in [(Way::In, 0x10, 0), (Way::Out, 0x20, 1)] {
            let mut out = vec![0; OPENBSD.hdrlen(14)];
            OPENBSD.write(&mut out, &record(way));
            assert_eq!(out[22], openbsd, "bh_flags of OpenBSD");
            assert_eq!(out[18..20], 3u16.to_ne_bytes(), "bh_ifidx");
            let mut out = vec![0; MACOS_EXTENDED.hdrlen(14)];
            MACOS_EXTENDED.write(&mut out, &record(way));
            assert_eq!(out[19], macos, "bh_flags of macOS");
        }
    }
}
