//! Buffers of records, whole and spoiled, in every layout: the walk of backend-bsd beside one by literal offsets.

use bpfdev::{Record, records};
use bpfdev_core::abi::{self, Header, Stamp};
use bpfdev_core::packet::Way;

use super::harness::{Input, Subject, must};
use super::random::Lcg;

/// Walks a buffer.
pub type Walk = for<'a> fn(&'a [u8], &Header) -> Box<dyn Iterator<Item = Record<'a>> + 'a>;

/// The project's.
pub fn ours<'a>(buf: &'a [u8], header: &Header) -> Box<dyn Iterator<Item = Record<'a>> + 'a> {
    Box::new(records(buf, *header))
}

/// The target.
pub fn subject(walk: Walk) -> Subject {
    Subject::new("records", make, move |input| check(walk, input))
}

/// A layout by abi.json: bytes of the stamp, "kernel_header_bytes", "alignment"; how its second half counts.
#[derive(Clone, Copy)]
struct Layout {
    header: Header,
    stamp: usize,
    counted: usize,
    align: usize,
    /// Units of a second in the stamp; 0 for 2⁶⁴.
    units: u64,
    /// What the header tells of the way.
    way: WayField,
}

/// Where a header tells which way the packet went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WayField {
    Nowhere,
    /// abi.json, OpenBSD's bpf_hdr: bh_flags at 22, 0x10 in, 0x20 out.
    OpenBsd,
    /// abi.json, macOS's bpf_hdr_ext, 64 bytes: bh_flags at 19, 0 in, 1 out.
    Extended,
}

impl WayField {
    /// `head` is the header, to the packet.
    fn of(self, head: &[u8]) -> Option<Way> {
        match self {
            WayField::OpenBsd => match head.get(22)? & 0x30 {
                0x10 => Some(Way::In),
                0x20 => Some(Way::Out),
                _ => None,
            },
            WayField::Extended if head.len() >= 64 => {
                Some(if head[19] & 1 == 0 { Way::In } else { Way::Out })
            }
            WayField::Extended | WayField::Nowhere => None,
        }
    }
}

fn layouts() -> Vec<Layout> {
    let mut all = Vec::new();
    for abi in abi::ALL {
        let (lp64, ilp32) = match abi.name {
            "linux" | "freebsd" => ((16, 26, 8), (8, 18, 4)),
            "netbsd" | "netbsd7" => ((16, 32, 8), (8, 20, 4)),
            "dragonfly" => ((16, 32, 8), (16, 32, 8)),
            "openbsd" => ((8, 24, 4), (8, 24, 4)),
            _ => ((8, 18, 4), (8, 18, 4)),
        };
        let extended = abi.extended.map(|header| (header, (8, 64, 4)));
        for (header, (stamp, counted, align)) in
            [(abi.header, lp64), (abi.header32, ilp32)].into_iter().chain(extended)
        {
            let way = match (abi.name, counted) {
                ("openbsd", _) => WayField::OpenBsd,
                ("macos", 64) => WayField::Extended,
                _ => WayField::Nowhere,
            };
            all.push(Layout { header, stamp, counted, align, units: 1_000_000, way });
        }
    }
    let freebsd = abi::freebsd::FREEBSD.header;
    for (stamp, units) in [(Stamp::Nano64, 1_000_000_000), (Stamp::Bin64, 0)] {
        all.push(Layout {
            header: freebsd.stamped(stamp),
            stamp: 16,
            counted: 26,
            align: 8,
            units,
            way: WayField::Nowhere,
        });
    }
    all
}

fn make(rng: &mut Lcg) -> Vec<u8> {
    let all = layouts();
    let which = rng.below(all.len() as u32) as usize;
    let layout = &all[which];
    let link = rng.pick(&[14, 4, 0]);
    let hdrlen = (link + layout.counted).next_multiple_of(layout.align) - link;
    let mut buf = Vec::new();
    for _ in 0..rng.below(6) {
        buf.resize(buf.len().next_multiple_of(layout.align), 0);
        let caplen = rng.pick(&[0, 1, 2, 3, 5, 14, 60, 100]) + rng.below(4);
        let mut record = Vec::new();
        if layout.stamp == 16 {
            record.extend(u64::from(rng.word()).to_ne_bytes());
            record.extend(u64::from(rng.below(1_000_000)).to_ne_bytes());
        } else {
            record.extend(rng.word().to_ne_bytes());
            record.extend(rng.below(1_000_000).to_ne_bytes());
        }
        record.extend(caplen.to_ne_bytes());
        record.extend((caplen + rng.below(2000)).to_ne_bytes());
        record.extend((hdrlen as u16).to_ne_bytes());
        while record.len() < hdrlen {
            record.push(if rng.once_in(2) { rng.word() as u8 } else { 0 });
        }
        buf.extend(record);
        let data = rng.bytes(caplen as usize);
        buf.extend(data);
    }
    match rng.below(8) {
        0 => {}
        1 => {
            let len = rng.below(200) as usize;
            buf = rng.bytes(len);
        }
        _ => rng.spoil(&mut buf),
    }
    [&[which as u8][..], &buf].concat()
}

/// A record as a client finds it.
struct Found {
    /// Where the packet is.
    packet: std::ops::Range<usize>,
    datalen: u32,
    way: Option<Way>,
    /// Both halves as they are.
    stamp: (u64, u64),
    /// Where the next record begins.
    next: usize,
}

/// The record at `at`.
fn record_at(buf: &[u8], at: usize, layout: &Layout) -> Option<Found> {
    let word = |i: usize| Some(u32::from_ne_bytes(*buf.get(at + i..)?.first_chunk()?));
    let long = |i: usize| Some(u64::from_ne_bytes(*buf.get(at + i..)?.first_chunk()?));
    let stamp = match layout.stamp {
        16 => (long(0)?, long(8)?),
        _ => (word(0)?.into(), word(4)?.into()),
    };
    let (caplen, datalen) = (word(layout.stamp)? as usize, word(layout.stamp + 4)?);
    let hdrlen = usize::from(u16::from_ne_bytes(*buf.get(at + layout.stamp + 8..)?.first_chunk()?));
    // a header is at least as long as what was just read of it
    let start = at + Some(hdrlen).filter(|hdrlen| *hdrlen >= layout.stamp + 10)?;
    let end = start.checked_add(caplen).filter(|end| *end <= buf.len())?;
    // nothing more can have been kept than there was
    if caplen > datalen as usize {
        return None;
    }
    let next = at + (hdrlen + caplen).next_multiple_of(layout.align);
    let way = layout.way.of(&buf[at..start.min(buf.len())]);
    Some(Found { packet: start..end, datalen, way, stamp, next })
}

fn check(walk: Walk, input: &[u8]) -> Result<(), String> {
    let mut input = Input::new(input);
    let all = layouts();
    let layout = &all[usize::from(input.byte()) % all.len()];
    let buf = input.rest();
    let mut found = walk(buf, &layout.header);
    let (mut at, mut number) = (0, 0);
    while let Some(Found { packet, datalen, way, stamp, next }) = record_at(buf, at, layout) {
        let Some(record) = found.next() else { return Err(format!("record {number} at {at} is not found")) };
        let start = (record.data.as_ptr() as usize).wrapping_sub(buf.as_ptr() as usize);
        let place = start..start.wrapping_add(record.data.len());
        must!(place == packet, "packet {number} is at {place:?} of {}, not at {packet:?}", buf.len());
        must!(record.wirelen == datalen, "bh_datalen {} of packet {number}, not {datalen}", record.wirelen);
        must!(record.way == way, "packet {number} went {:?}, not {way:?}", record.way);
        let nsec = u64::from(record.timestamp.nsec);
        must!(nsec < 1_000_000_000, "packet {number} is stamped {:?}", record.timestamp);
        let sec = record.timestamp.sec.cast_unsigned();
        let same = if layout.stamp == 16 { sec == stamp.0 } else { sec as u32 == stamp.0 as u32 };
        must!(same, "packet {number} is stamped {sec} s, not {}", stamp.0);
        let exact = match layout.units {
            0 => (u128::from(stamp.1) * 1_000_000_000) >> 64,
            units => u128::from(stamp.1) * u128::from(1_000_000_000 / units),
        };
        if exact < 1_000_000_000 {
            // 2⁻⁶⁴ seconds are rounded
            let off = exact.abs_diff(u128::from(nsec));
            must!(
                off == 0 || layout.units == 0 && off == 1,
                "packet {number} is stamped {nsec} ns, not {exact}"
            );
        }
        (at, number) = (next, number + 1);
    }
    must!(found.next().is_none(), "after {number} records there is another at {at} of {}", buf.len());
    let mut ours = records(buf, layout.header);
    let walked = ours.by_ref().count();
    let malformed = ours.malformed().map(|malformed| malformed.offset);
    must!(malformed == (at < buf.len()).then_some(at), "the walk of {walked} ended at {at}: {malformed:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::harness::tests::finds;
    use super::*;

    /// Records as a careless program walks them: `step` gives the packet's place and the next record's.
    fn careless<'a>(
        buf: &'a [u8],
        header: &Header,
        step: impl Fn(usize, usize, usize) -> (usize, usize) + 'a,
    ) -> Box<dyn Iterator<Item = Record<'a>> + 'a> {
        let (header, mut at) = (*header, 0);
        Box::new(std::iter::from_fn(move || {
            let (timestamp, caplen, wirelen, hdrlen) = header.read(buf.get(at..)?)?;
            let (end, next) = step(hdrlen, caplen as usize, header.alignment);
            let data = buf.get(at + hdrlen..at + end)?;
            at += next;
            Some(Record { timestamp, wirelen, data, way: None })
        }))
    }

    #[test]
    fn a_walk_without_alignment_is_found() {
        fn walk<'a>(buf: &'a [u8], header: &Header) -> Box<dyn Iterator<Item = Record<'a>> + 'a> {
            careless(buf, header, |hdrlen, caplen, _| (hdrlen + caplen, hdrlen + caplen))
        }
        finds(&subject(walk), "record");
    }

    #[test]
    fn a_walk_that_does_not_get_on_is_found() {
        fn walk<'a>(buf: &'a [u8], header: &Header) -> Box<dyn Iterator<Item = Record<'a>> + 'a> {
            careless(buf, header, |hdrlen, caplen, align| {
                (hdrlen + caplen, (hdrlen + caplen).next_multiple_of(align))
            })
        }
        // bh_hdrlen 0 and bh_caplen 0: the same record for ever
        finds(&subject(walk), "there is another");
    }

    #[test]
    fn a_walk_that_panics_is_found() {
        fn walk<'a>(buf: &'a [u8], header: &Header) -> Box<dyn Iterator<Item = Record<'a>> + 'a> {
            let whole = records(buf, *header).inspect(|record| {
                assert!(record.wirelen < 0x7fff_ffff, "a length nobody expects");
            });
            Box::new(whole)
        }
        finds(&subject(walk), "panic: a length nobody expects");
    }
}
