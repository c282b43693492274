//! What read(2) gives: records, each a header and a packet.

use std::borrow::Borrow;
use std::ops::Range;

use bpfdev_core::abi::Header;
use bpfdev_core::abi::hdr::Tail;
use bpfdev_core::packet::Way;
use bpfdev_core::time::Timestamp;

/// One captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Time of its arrival, as fine as the device keeps it: microseconds, or with BIOCSTSTAMP nanoseconds.
    pub timestamp: Timestamp,
    /// Length on the wire in bytes: `bh_datalen`.
    pub wirelen: u32,
    /// The bytes kept (`bh_caplen` of them), from the link header on.
    pub data: &'a [u8],
    /// Which way it went, where the header tells: OpenBSD since 6.8, macOS's `bpf_hdr_ext`.
    pub way: Option<Way>,
}

/// A record that is not whole, or that contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record at byte {offset} is malformed: {defect}")]
pub struct Malformed {
    /// Where in the buffer it begins, in bytes.
    pub offset: usize,
    /// What is wrong with it.
    pub defect: Defect,
}

/// What is wrong with a record. All numbers are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The buffer ends within the header's fields.
    #[error("{left} bytes are left, its header has {fields}")]
    CutHeader {
        /// From its beginning to the buffer's end.
        left: usize,
        /// The header's fields.
        fields: usize,
    },
    /// `bh_hdrlen` is less than the fields it counts: the walk would not get on.
    #[error("bh_hdrlen is {hdrlen}, less than the {fields} of its fields")]
    ShortHeader {
        /// `bh_hdrlen`.
        hdrlen: usize,
        /// The header's fields.
        fields: usize,
    },
    /// The buffer ends within the packet.
    #[error("bh_hdrlen {hdrlen} and bh_caplen {caplen} lead outside the {left} that are left")]
    CutPacket {
        /// `bh_hdrlen`.
        hdrlen: usize,
        /// `bh_caplen`.
        caplen: u32,
        /// From the record's beginning to the buffer's end.
        left: usize,
    },
    /// More was kept than there was.
    #[error("bh_caplen {caplen} is more than bh_datalen {datalen}")]
    LongerThanWire {
        /// `bh_caplen`.
        caplen: u32,
        /// `bh_datalen`.
        datalen: u32,
    },
}

/// The way the fields behind `bh_hdrlen` tell. `head` is the whole header.
fn way(header: &Header, head: &[u8]) -> Option<Way> {
    let fields = header.stamp.size();
    match header.tail {
        Tail::None => None,
        // bh_flags: BPF_F_DIR_IN, BPF_F_DIR_OUT
        Tail::OpenBsd => match head.get(fields + 14)? & 0x30 {
            0x10 => Some(Way::In),
            0x20 => Some(Way::Out),
            _ => None,
        },
        // bh_flags: BPF_HDR_EXT_FLAGS_DIR_OUT. A record stored before BIOCSEXTHDR has a plain header.
        Tail::Extended if head.len() < header.fields() => None,
        Tail::Extended => Some(if head.get(fields + 11)? & 1 == 0 { Way::In } else { Way::Out }),
    }
}

/// A record found in a buffer. All places are bytes from the buffer's beginning.
#[derive(Debug)]
pub(crate) struct Found {
    pub timestamp: Timestamp,
    pub wirelen: u32,
    pub way: Option<Way>,
    /// Where its packet is: inside the buffer.
    pub data: Range<usize>,
    /// Where the next record begins.
    pub next: usize,
}

/// The record that begins at byte `at` of `buf`; `None` at the end.
pub(crate) fn record_at(buf: &[u8], at: usize, header: &Header) -> Result<Option<Found>, Malformed> {
    let rest = buf.get(at..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(None);
    }
    let malformed = |defect| Malformed { offset: at, defect };
    // The tail is not there on every system that has it now: OpenBSD before 6.8, macOS before BIOCSEXTHDR.
    let fields = header.stamp.size() + 10;
    let left = rest.len();
    let Some((timestamp, caplen, wirelen, hdrlen)) = header.read(rest) else {
        return Err(malformed(Defect::CutHeader { left, fields }));
    };
    if hdrlen < fields {
        return Err(malformed(Defect::ShortHeader { hdrlen, fields }));
    }
    let whole = usize::try_from(caplen).ok().and_then(|caplen| {
        let end = hdrlen.checked_add(caplen)?;
        (end <= left).then_some((rest.get(..hdrlen)?, end))
    });
    let Some((head, end)) = whole else {
        return Err(malformed(Defect::CutPacket { hdrlen, caplen, left }));
    };
    if caplen > wirelen {
        return Err(malformed(Defect::LongerThanWire { caplen, datalen: wirelen }));
    }
    // BPF_WORDALIGN; the last record has no padding behind it.
    let next = at + end.checked_next_multiple_of(header.alignment).unwrap_or(end);
    Ok(Some(Found { timestamp, wirelen, way: way(header, head), data: at + hdrlen..at + end, next }))
}

/// The records of one buffer, `buf` being what read(2) filled. They begin as `header` says:
/// [`DeviceFile::header`](crate::DeviceFile::header), or a dialect's.
pub fn records(buf: &[u8], header: impl Borrow<Header>) -> Records<'_> {
    Records { buf, at: 0, header: *header.borrow(), malformed: None }
}

/// Walks the records of a buffer. It ends before the first one that is malformed: nothing a device says can make it
/// panic or leave the buffer.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    buf: &'a [u8],
    at: usize,
    header: Header,
    malformed: Option<Malformed>,
}

impl<'a> Records<'a> {
    /// What has not been walked: empty at the end of a buffer that holds whole records only.
    pub fn rest(&self) -> &'a [u8] {
        self.buf.get(self.at..).unwrap_or_default()
    }

    /// Why the walk has ended before the buffer did.
    pub fn malformed(&self) -> Option<Malformed> {
        self.malformed
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        match record_at(self.buf, self.at, &self.header) {
            Ok(found) => {
                let Found { timestamp, wirelen, way, data, next } = found?;
                self.at = next;
                Some(Record { timestamp, wirelen, data: self.buf.get(data)?, way })
            }
            Err(malformed) => {
                self.malformed = Some(malformed);
                None
            }
        }
    }
}

impl std::iter::FusedIterator for Records<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi::{self, Stamp, hdr};

    fn buffer(header: &Header, packets: &[&[u8]]) -> Vec<u8> {
        let mut buf = Vec::new();
        for (i, packet) in packets.iter().enumerate() {
            buf.resize(header.align(buf.len()), 0);
            let mut head = vec![0; header.hdrlen(14)];
            let stamp = Timestamp { sec: 1_700_000_000 + i as i64, nsec: 5_000 };
            let record = bpfdev_core::abi::hdr::Record {
                timestamp: stamp,
                caplen: packet.len() as u32,
                datalen: 1514,
                way: bpfdev_core::packet::Way::In,
                ifindex: 1,
            };
            header.write(&mut head, &record);
            buf.extend(head);
            buf.extend(*packet);
        }
        buf
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        for abi in abi::ALL {
            for header in [&abi.header, &abi.header32] {
                let packets: [&[u8]; 4] = [&[1; 60], &[2; 61], &[], &[3; 1514]];
                let buf = buffer(header, &packets);
                let mut walk = records(&buf, header);
                for (i, packet) in packets.iter().enumerate() {
                    let record = walk.next().expect("a record");
                    assert_eq!((record.data, record.wirelen), (*packet, 1514), "{}", abi.name);
                    assert_eq!(record.timestamp.sec, 1_700_000_000 + i as i64);
                }
                assert!(walk.next().is_none() && walk.rest().is_empty() && walk.malformed().is_none());
            }
        }
    }

    #[test]
    fn a_cut_buffer_ends_with_the_last_whole_record() {
        let header = &abi::linux::LINUX.header;
        let buf = buffer(header, &[&[1; 60], &[2; 60]]);
        for len in 0..buf.len() {
            let mut walk = records(&buf[..len], header);
            assert_eq!(walk.by_ref().count(), if len >= 86 { 1 } else { 0 }, "{len} bytes");
            // a header of 26 bytes and 60 of a packet, then the next one at a multiple of eight
            let whole = matches!(len, 0 | 86..=88);
            assert_eq!(walk.malformed().is_none(), whole, "{len} bytes");
        }
    }

    /// A record header of FreeBSD on LP64, field by field (abi.json, `bpf_hdr`).
    fn freebsd(caplen: u32, datalen: u32, hdrlen: u16) -> Vec<u8> {
        let mut head = Vec::new();
        head.extend(1_700_000_000_i64.to_ne_bytes());
        head.extend(123_456_i64.to_ne_bytes());
        head.extend(caplen.to_ne_bytes());
        head.extend(datalen.to_ne_bytes());
        head.extend(hdrlen.to_ne_bytes());
        head
    }

    #[test]
    fn a_malformed_record_is_told_by_its_place_and_its_fault() {
        let header = &abi::freebsd::FREEBSD.header;
        let good = [freebsd(6, 60, 26), vec![7; 6]].concat();
        assert_eq!(good.len(), 32, "the next record begins here");
        let cases: [(Vec<u8>, Defect, &str); 6] = [
            (
                freebsd(4, 4, 26)[..20].to_vec(),
                Defect::CutHeader { left: 20, fields: 26 },
                "20 bytes are left, its header has 26",
            ),
            (
                freebsd(4, 4, 25),
                Defect::ShortHeader { hdrlen: 25, fields: 26 },
                "bh_hdrlen is 25, less than the 26 of its fields",
            ),
            (freebsd(0, 0, 0), Defect::ShortHeader { hdrlen: 0, fields: 26 }, "bh_hdrlen is 0"),
            (
                [freebsd(5, 60, 26), vec![1; 4]].concat(),
                Defect::CutPacket { hdrlen: 26, caplen: 5, left: 30 },
                "bh_hdrlen 26 and bh_caplen 5 lead outside the 30 that are left",
            ),
            (
                freebsd(u32::MAX, u32::MAX, 26),
                Defect::CutPacket { hdrlen: 26, caplen: u32::MAX, left: 26 },
                "bh_caplen 4294967295",
            ),
            (
                [freebsd(4, 3, 26), vec![1; 4]].concat(),
                Defect::LongerThanWire { caplen: 4, datalen: 3 },
                "bh_caplen 4 is more than bh_datalen 3",
            ),
        ];
        for (bad, defect, text) in cases {
            let buf = [good.clone(), bad].concat();
            let mut walk = records(&buf, header);
            assert_eq!(walk.next().map(|record| (record.data, record.wirelen)), Some((&[7; 6][..], 60)));
            assert_eq!(walk.next(), None, "{defect:?}");
            assert_eq!(walk.malformed(), Some(Malformed { offset: 32, defect }));
            let said = Malformed { offset: 32, defect }.to_string();
            assert!(
                said.starts_with("the record at byte 32 is malformed: ") && said.contains(text),
                "{said}"
            );
        }
    }

    #[test]
    fn finer_stamps_come_whole() {
        let header = &abi::freebsd::FREEBSD.header;
        // bpf_xhdr: nanoseconds, or 2⁻⁶⁴ s, where bpf_hdr has microseconds (semantics.md 14)
        for (stamp, fraction, nsec) in
            [(Stamp::Nano64, 123_456_789, 123_456_789), (Stamp::Bin64, 1 << 63, 500_000_000)]
        {
            let mut buf = freebsd(0, 60, 26);
            buf[8..16].copy_from_slice(&u64::to_ne_bytes(fraction));
            let record = records(&buf, header.stamped(stamp)).next().expect("a record");
            assert_eq!(record.timestamp, Timestamp { sec: 1_700_000_000, nsec });
        }
    }

    #[test]
    fn the_way_is_told_where_the_header_has_it() {
        // bh_flags of OpenBSD is byte 22, of macOS's bpf_hdr_ext byte 19 (abi.json)
        let openbsd = |flags| {
            let mut head = vec![0; 26];
            head[12..16].copy_from_slice(&60u32.to_ne_bytes());
            head[16..18].copy_from_slice(&26u16.to_ne_bytes());
            head[22] = flags;
            records(&head, hdr::OPENBSD).next().map(|record| record.way)
        };
        assert_eq!(openbsd(0x10), Some(Some(Way::In)));
        assert_eq!(openbsd(0x20), Some(Some(Way::Out)));
        assert_eq!(openbsd(0), Some(None));
        let macos = |hdrlen: u16, flags| {
            let mut head = vec![0; 66];
            head[12..16].copy_from_slice(&60u32.to_ne_bytes());
            head[16..18].copy_from_slice(&hdrlen.to_ne_bytes());
            head[19] = flags;
            records(&head, hdr::MACOS_EXTENDED).next().map(|record| record.way)
        };
        assert_eq!(macos(66, 0), Some(Some(Way::In)));
        assert_eq!(macos(66, 1), Some(Some(Way::Out)));
        assert_eq!(macos(18, 1), Some(None), "stored before BIOCSEXTHDR");
        assert_eq!(records(&freebsd(0, 60, 26), hdr::FREEBSD64).next().map(|record| record.way), Some(None));
    }

    #[test]
    fn garbage_is_walked_without_panic_and_to_an_end() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..20_000 {
            let header = if round % 2 == 0 { &abi::freebsd::FREEBSD.header } else { &abi::hdr::FREEBSD32 };
            let mut buf = buffer(header, &[&[1; 20], &[2; 30], &[3; 7]]);
            for _ in 0..=random() % 8 {
                let at = (random() % buf.len() as u64) as usize;
                buf[at] = if random() % 2 == 0 { 0xff } else { random() as u8 };
            }
            let inside = buf.as_ptr_range();
            let mut count = 0;
            for record in records(&buf, header) {
                let range = record.data.as_ptr_range();
                assert!(range.start >= inside.start && range.end <= inside.end);
                count += 1;
            }
            assert!(count <= buf.len() / 18, "every record takes a header at least");
        }
    }
}
