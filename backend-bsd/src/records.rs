//! What read(2) gives: records, each a header and a packet.

use bpfdev_core::abi::Header;
use bpfdev_core::time::Timestamp;

/// One captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Time of day of its arrival; the device keeps microseconds.
    pub timestamp: Timestamp,
    /// Length on the wire in bytes: `bh_datalen`.
    pub wirelen: u32,
    /// The bytes kept (`bh_caplen` of them), from the link header on.
    pub data: &'a [u8],
}

/// The records of one buffer, `buf` being what read(2) filled.
pub fn records<'a>(buf: &'a [u8], header: &Header) -> Records<'a> {
    Records { rest: buf, header: *header }
}

/// Walks the records of a buffer. It ends before the first record that is not whole: nothing a device says can make
/// it panic or leave the buffer.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    header: Header,
}

impl<'a> Records<'a> {
    /// What has not been walked: empty at the end of a buffer that holds whole records only.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (timestamp, caplen, wirelen, hdrlen) = self.header.read(self.rest)?;
        // A header shorter than its own fields would never get us on.
        if hdrlen < self.header.stamp.size() + 10 {
            return None;
        }
        let end = hdrlen.checked_add(usize::try_from(caplen).ok()?)?;
        let data = self.rest.get(hdrlen..end)?;
        // BPF_WORDALIGN; the last record has no padding behind it.
        let next = end.checked_next_multiple_of(self.header.alignment)?;
        self.rest = self.rest.get(next..).unwrap_or_default();
        Some(Record { timestamp, wirelen, data })
    }
}

impl std::iter::FusedIterator for Records<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi;

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
                assert!(walk.next().is_none() && walk.rest().is_empty());
            }
        }
    }

    #[test]
    fn a_cut_buffer_ends_with_the_last_whole_record() {
        let header = &abi::linux::LINUX.header;
        let buf = buffer(header, &[&[1; 60], &[2; 60]]);
        for len in 0..buf.len() {
            let whole = if len >= 86 { 1 } else { 0 };
            assert_eq!(records(&buf[..len], header).count(), whole, "{len} bytes");
        }
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
