//! pcapng: sections of blocks (draft-ietf-opsawg-pcapng). Read are the interfaces and the packets, of either kind and the
//! obsolete one; other blocks are passed over.

use std::io;

use super::pcap::limit;
use super::reader::{MAX_CAPTURED, Order, Record, Source, bad};
use crate::linktype::Linktype;
use crate::time::Timestamp;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const OPT_END: u16 = 0;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

/// What a section says of an interface.
struct Interface {
    snaplen: u32,
    units_per_second: u128,
    /// Seconds to add to every stamp.
    offset: i64,
}

/// A file past its first interface.
pub(super) struct PcapNg {
    order: Order,
    /// Of this section.
    interfaces: Vec<Interface>,
    /// Of the first of all: a file of another as well is not read.
    linktype: Option<Linktype>,
}

impl PcapNg {
    /// Reads to the first interface, behind the first four bytes of the file.
    pub fn begin(magic: [u8; 4], source: &mut Source) -> io::Result<PcapNg> {
        if u32::from_be_bytes(magic) != SECTION_HEADER {
            return Err(bad("no capture file: it begins as neither pcap nor pcapng"));
        }
        let mut file = PcapNg { order: Order::Big, interfaces: Vec::new(), linktype: None };
        file.section(source)?;
        while file.interfaces.is_empty() {
            match file.block(source)? {
                None => return Err(bad("no interface is described")),
                Some((kind, body)) => file.packet(kind, &body)?,
            };
        }
        Ok(file)
    }

    /// Of every packet.
    pub fn linktype(&self) -> Linktype {
        self.linktype.unwrap_or(Linktype::EN10MB)
    }

    /// The next packet.
    pub fn next(&mut self, source: &mut Source) -> io::Result<Option<Record>> {
        while let Some((kind, body)) = self.block(source)? {
            if let Some(record) = self.packet(kind, &body)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The next block that is no section header: its type and body.
    fn block(&mut self, source: &mut Source) -> io::Result<Option<(u32, Vec<u8>)>> {
        loop {
            let Some(kind) = source.head()? else { return Ok(None) };
            let kind = self.order.word(kind);
            if kind == SECTION_HEADER {
                self.section(source)?;
                continue;
            }
            let len = source.head()?.ok_or_else(|| bad("the file ends within a block"))?;
            let len = self.order.word(len);
            return Ok(Some((kind, self.body(len, 0, source)?)));
        }
    }

    /// Reads a section header behind its type: what follows has its byte order, and interfaces of its own.
    fn section(&mut self, source: &mut Source) -> io::Result<()> {
        let head: [u8; 8] = source.head()?.ok_or_else(|| bad("the file ends within a section header"))?;
        self.order = match head[4..] {
            [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
            [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
            _ => return Err(bad("a section without its byte-order magic")),
        };
        let [len] = self.order.words(&head);
        let body = self.body(len, 4, source)?;
        let version = body.first_chunk::<4>().filter(|_| body.len() >= 12);
        let version = version.ok_or_else(|| bad(format_args!("a section header of {len} bytes")))?;
        let [a, b, c, d] = *version;
        let (major, minor) = (self.order.half([a, b]), self.order.half([c, d]));
        // 1.2 was written by some, and is the same
        if major != 1 || !matches!(minor, 0 | 2) {
            return Err(bad(format_args!("pcapng of version {major}.{minor}; 1.0 is what is read")));
        }
        self.interfaces.clear();
        Ok(())
    }

    /// The rest of a block of `len` bytes, of whose body `read` bytes are already read; without the second length.
    fn body(&self, len: u32, read: u32, source: &mut Source) -> io::Result<Vec<u8>> {
        let rest = len.checked_sub(12 + read).filter(|_| len.is_multiple_of(4) && len <= MAX_CAPTURED);
        let rest = rest.ok_or_else(|| bad(format_args!("a block of {len} bytes")))?;
        let body = source.bytes(rest as usize)?;
        let again = source.head()?.ok_or_else(|| bad("the file ends within a block"))?;
        let again = self.order.word(again);
        if again == len {
            return Ok(body);
        }
        let what = if read == 4 { "a section header" } else { "a block" };
        Err(bad(format_args!("{what} that ends with another length, {again} instead of {len}")))
    }

    /// Takes a block; the packet in it.
    fn packet(&mut self, kind: u32, body: &[u8]) -> io::Result<Option<Record>> {
        match kind {
            INTERFACE_DESCRIPTION => self.interface(body).map(|()| None),
            ENHANCED_PACKET => {
                let [interface, high, low, captured, wirelen] = self.order.words(fixed(body, 20)?);
                let stamp = u64::from(high) << 32 | u64::from(low);
                self.record(interface, stamp, captured, wirelen, &body[20..]).map(Some)
            }
            PACKET => {
                let [_, high, low, captured, wirelen] = self.order.words(fixed(body, 20)?);
                let interface = self.order.half([body[0], body[1]]);
                let stamp = u64::from(high) << 32 | u64::from(low);
                self.record(interface.into(), stamp, captured, wirelen, &body[20..]).map(Some)
            }
            SIMPLE_PACKET => {
                let [wirelen] = self.order.words(fixed(body, 4)?);
                let snaplen = self.interfaces.first().map_or(u32::MAX, |interface| interface.snaplen);
                // without a stamp
                self.record(0, 0, wirelen.min(snaplen), wirelen, &body[4..]).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The packet that `data` begins with; padding and options are behind it.
    fn record(
        &self,
        interface: u32,
        stamp: u64,
        captured: u32,
        wirelen: u32,
        data: &[u8],
    ) -> io::Result<Record> {
        let Some(of) = self.interfaces.get(interface as usize) else {
            return Err(bad(format_args!("a packet of interface {interface}, which is not described")));
        };
        let Some(data) = data.get(..captured as usize) else {
            return Err(bad(format_args!("a packet of {captured} bytes in a block with {}", data.len())));
        };
        let data = &data[..data.len().min(of.snaplen as usize)];
        Ok(Record { timestamp: of.timestamp(stamp), wirelen, data: data.to_vec() })
    }

    fn interface(&mut self, body: &[u8]) -> io::Result<()> {
        let [first, snaplen] = self.order.words(fixed(body, 8)?);
        let linktype = match self.order {
            Order::Big => first >> 16,
            Order::Little => first & 0xffff,
        };
        let linktype = Linktype::from_file(linktype);
        let first = *self.linktype.get_or_insert(linktype);
        if linktype != first {
            return Err(bad(format_args!(
                "an interface of link type {} after one of {}: a capture has one",
                linktype.0, first.0
            )));
        }
        let mut interface = Interface { snaplen: limit(snaplen), units_per_second: 1_000_000, offset: 0 };
        let mut options = &body[8..];
        while let Some((code, value)) = self.option(&mut options)? {
            match (code, value) {
                (OPT_END, _) => break,
                (IF_TSRESOL, [resolution]) => interface.units_per_second = units_per_second(*resolution)?,
                (IF_TSOFFSET, &[a, b, c, d, e, f, g, h]) => {
                    let [first, second] = self.order.words(&[a, b, c, d, e, f, g, h]).map(u64::from);
                    let bits = match self.order {
                        Order::Big => first << 32 | second,
                        Order::Little => second << 32 | first,
                    };
                    interface.offset = bits.cast_signed();
                }
                (IF_TSRESOL | IF_TSOFFSET, _) => {
                    return Err(bad(format_args!("an interface's option {code} of {} bytes", value.len())));
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// The next of a block's options, which may end without the option that ends them.
    fn option<'a>(&self, options: &mut &'a [u8]) -> io::Result<Option<(u16, &'a [u8])>> {
        if options.is_empty() {
            return Ok(None);
        }
        let head: [u8; 4] = *options.first_chunk().ok_or_else(|| bad("half an option"))?;
        let [code, len] = [[head[0], head[1]], [head[2], head[3]]].map(|half| self.order.half(half));
        let len = usize::from(len);
        let value = options.get(4..4 + len).ok_or_else(|| bad(format_args!("an option of {len} bytes")))?;
        *options = options.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        Ok(Some((code, value)))
    }
}

impl Interface {
    fn timestamp(&self, stamp: u64) -> Timestamp {
        let stamp = u128::from(stamp);
        let (seconds, rest) = (stamp / self.units_per_second, stamp % self.units_per_second);
        // `rest` is below 2⁶⁴
        let nanos = rest * 1_000_000_000 / self.units_per_second;
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_add(self.offset);
        Timestamp { sec: seconds, nsec: u32::try_from(nanos).unwrap_or(0) }
    }
}

/// The resolution of an interface's stamps (if_tsresol): a power of ten, or of two with the high bit.
fn units_per_second(resolution: u8) -> io::Result<u128> {
    let base: u128 = if resolution & 0x80 == 0 { 10 } else { 2 };
    let units = base.checked_pow(u32::from(resolution & 0x7f));
    units.ok_or_else(|| bad(format_args!("stamps of {base}^-{} seconds", resolution & 0x7f)))
}

/// `body`, if it has the `len` bytes that every block of its kind has.
fn fixed(body: &[u8], len: usize) -> io::Result<&[u8]> {
    if body.len() >= len {
        Ok(body)
    } else {
        Err(bad(format_args!("a block's body of {} bytes", body.len())))
    }
}
