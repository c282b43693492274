//! libpcap's own format: a header, and records one behind the other.

use std::io;

use super::reader::{MAX_CAPTURED, Order, Record, Source, bad};
use crate::linktype::Linktype;
use crate::time::Timestamp;

/// A file past its header.
pub(super) struct Pcap {
    order: Order,
    /// Nanoseconds in a unit of a record's second word.
    unit: u32,
    snaplen: u32,
    pub linktype: Linktype,
}

impl Pcap {
    /// Reads the header behind its first four bytes; `None` when they are another format's.
    pub fn begin(magic: [u8; 4], source: &mut Source) -> io::Result<Option<Pcap>> {
        let (order, unit) = match magic {
            [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, 1000),
            [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, 1000),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, 1),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, 1),
            _ => return Ok(None),
        };
        let header: [u8; 20] = source.head()?.ok_or_else(|| bad("the file ends within its header"))?;
        let [version, _, _, snaplen, linktype] = order.words(&header);
        let (major, minor) = match order {
            Order::Big => (version >> 16, version & 0xffff),
            Order::Little => (version & 0xffff, version >> 16),
        };
        if (major, minor) != (2, 4) {
            return Err(bad(format_args!("a pcap file of version {major}.{minor}; 2.4 is what is read")));
        }
        // Above the link type is how long a frame check sequence the frames have.
        let linktype = Linktype::from_file(linktype & 0x03ff_ffff);
        Ok(Some(Pcap { order, unit, snaplen: limit(snaplen), linktype }))
    }

    /// The next record.
    pub fn next(&self, source: &mut Source) -> io::Result<Option<Record>> {
        let Some(header) = source.head::<16>()? else { return Ok(None) };
        let [seconds, fraction, captured, wirelen] = self.order.words(&header);
        if captured > MAX_CAPTURED {
            return Err(bad(format_args!("a packet of {captured} bytes; the longest is {MAX_CAPTURED}")));
        }
        let mut data = source.bytes(captured as usize)?;
        data.truncate(self.snaplen as usize);
        let nanos = u64::from(fraction) * u64::from(self.unit);
        let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Ok(Some(Record { timestamp: Timestamp::from_nanos(nanos), wirelen, data }))
    }
}

/// A snap length as a file has it: 0 is none.
pub(super) fn limit(snaplen: u32) -> u32 {
    if snaplen == 0 { u32::MAX } else { snaplen }
}
