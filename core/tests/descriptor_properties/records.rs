//! The records of a buffer, walked with literal offsets: what a client of that system does.

use super::system::Layout;

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The stamp's seconds and what is behind them, as they are.
    pub stamp: (u64, u64),
    pub caplen: usize,
    pub datalen: u32,
    pub hdrlen: usize,
    /// What is between `bh_hdrlen` and the packet.
    pub tail: &'a [u8],
    pub data: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The record at the beginning of `bytes`. A header cut by a small buffer ends with it.
///
/// # Panics
/// When there is no record.
pub fn record(bytes: &[u8], layout: Layout) -> Record<'_> {
    let at = layout.stamp;
    assert!(bytes.len() >= at + 10, "{} bytes hold no header of {}", bytes.len(), at + 10);
    let stamp = match at {
        16 => (u64_at(bytes, 0), u64_at(bytes, 8)),
        _ => (u32_at(bytes, 0).into(), u32_at(bytes, 4).into()),
    };
    let caplen = u32_at(bytes, at) as usize;
    let datalen = u32_at(bytes, at + 4);
    let hdrlen = usize::from(u16::from_ne_bytes([bytes[at + 8], bytes[at + 9]]));
    let end = hdrlen.min(bytes.len());
    assert!(caplen <= bytes.len() - end, "bh_caplen {caplen} leaves the buffer");
    Record { stamp, caplen, datalen, hdrlen, tail: &bytes[at + 10..end], data: &bytes[end..end + caplen] }
}

/// Walks a buffer as clients do, by `bh_hdrlen`, `bh_caplen` and BPF_WORDALIGN alone: `bh_datalen` of each record.
pub fn walk(buffer: &[u8], layout: Layout) -> Vec<u32> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < buffer.len() {
        let record = record(&buffer[at..], layout);
        found.push(record.datalen);
        at += (record.hdrlen + record.caplen).div_ceil(layout.align) * layout.align;
    }
    found
}
