//! What read(2) gives, walked with layouts of this suite's own: each system's `struct bpf_hdr` on a 64-bit machine.

use std::ops::Range;

use super::system::{Per, System, per};

/// Where a record header has its fields, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Length of the time stamp, which comes first; `bh_caplen` follows it.
    pub stamp: usize,
    /// `BPF_ALIGNMENT`.
    pub alignment: usize,
    /// Bytes of all fields (`bh_hdrlen` and what some systems have behind it).
    pub fields: usize,
}

/// `struct bpf_hdr` of each system's net/bpf.h.
pub const LAYOUT: Per<Layout> = per(
    Layout { stamp: 16, alignment: 8, fields: 26 },
    Layout { stamp: 16, alignment: 8, fields: 26 },
    Layout { stamp: 8, alignment: 4, fields: 24 },
    Layout { stamp: 16, alignment: 8, fields: 26 },
    Layout { stamp: 8, alignment: 4, fields: 18 },
);

/// One record of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Offset of its header, bytes.
    pub offset: usize,
    /// The time stamp's bytes.
    pub stamp: Vec<u8>,
    /// bh_hdrlen.
    pub hdrlen: usize,
    /// bh_caplen.
    pub caplen: u32,
    /// bh_datalen.
    pub datalen: u32,
    /// The fields behind bh_hdrlen, and the padding before the packet.
    pub rest: Vec<u8>,
    /// The packet.
    pub data: Vec<u8>,
}

impl Record {
    /// The number a frame of [`super::frame`] carries.
    pub fn number(&self) -> Option<u16> {
        self.data.get(14..16).map(|two| u16::from_be_bytes([two[0], two[1]]))
    }
}

/// A buffer that cannot be walked to its end; says where and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

fn number<const N: usize>(buffer: &[u8], at: usize) -> Option<[u8; N]> {
    buffer.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Walks a buffer.
///
/// # Errors
/// [`Malformed`]: a record that is not whole or not where it ought to be.
pub fn walk(buffer: &[u8], layout: Layout) -> Result<Vec<Record>, Malformed> {
    let mut records = Vec::new();
    let mut offset = 0;
    while offset < buffer.len() {
        let header = &buffer[offset..];
        let (Some(caplen), Some(datalen), Some(hdrlen)) = (
            number(header, layout.stamp).map(u32::from_ne_bytes),
            number(header, layout.stamp + 4).map(u32::from_ne_bytes),
            number(header, layout.stamp + 8).map(u16::from_ne_bytes),
        ) else {
            return Err(Malformed(format!("{} bytes at {offset} are no header", header.len())));
        };
        let hdrlen = usize::from(hdrlen);
        let packet = header.get(hdrlen..hdrlen.saturating_add(caplen as usize));
        let Some((packet, rest)) = packet.zip(header.get(layout.stamp + 10..hdrlen)) else {
            return Err(Malformed(format!(
                "the record at {offset} (hdrlen {hdrlen}, caplen {caplen}) is not in a buffer of {} bytes",
                buffer.len()
            )));
        };
        if hdrlen < layout.fields {
            return Err(Malformed(format!("the record at {offset} has hdrlen {hdrlen}")));
        }
        records.push(Record {
            offset,
            stamp: header[..layout.stamp].to_vec(),
            hdrlen,
            caplen,
            datalen,
            rest: rest.to_vec(),
            data: packet.to_vec(),
        });
        offset = (offset + hdrlen + packet.len()).next_multiple_of(layout.alignment);
    }
    Ok(records)
}

/// The bytes between records, which belong to none.
pub fn gaps(records: &[Record]) -> Vec<Range<usize>> {
    let ends = records.iter().map(|record| record.offset + record.hdrlen + record.data.len());
    let starts = records.iter().skip(1).map(|record| record.offset);
    ends.zip(starts).map(|(end, start)| end..start).filter(|gap| !gap.is_empty()).collect()
}

/// The layout of one system.
pub fn layout(system: System) -> Layout {
    LAYOUT.of(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(caplen: u32, hdrlen: u16) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes.extend(caplen.to_ne_bytes());
        bytes.extend(60u32.to_ne_bytes());
        bytes.extend(hdrlen.to_ne_bytes());
        bytes.resize(usize::from(hdrlen), 0);
        bytes
    }

    #[test]
    fn whole_records_are_walked_and_others_refused() {
        let layout = layout(System::FreeBsd);
        let mut buffer = record(3, 26);
        buffer.extend([1, 2, 3]);
        buffer.resize(32, 0);
        buffer.extend(record(0, 26));
        let records = walk(&buffer, layout).expect("two records");
        assert_eq!((records.len(), &records[0].data[..]), (2, &[1, 2, 3][..]));
        assert_eq!(gaps(&records), vec![29..32]);
        for bad in [record(1, 26), record(0, 25), record(u32::MAX, 26), vec![0; 7]] {
            assert!(walk(&bad, layout).is_err(), "{bad:?}");
        }
    }
}
