//! Reads capture files: pcap, and pcapng. Nothing a file says is believed before it is there: memory is taken as bytes
//! come.

use std::io::{self, BufReader, Read};
use std::path::Path;

use super::pcap::Pcap;
use super::pcapng::PcapNg;
use crate::linktype::Linktype;
use crate::time::Timestamp;

/// One packet of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When it was captured.
    pub timestamp: Timestamp,
    /// Its length on the wire in bytes, at least that of `data`.
    pub wirelen: u32,
    /// The bytes captured.
    pub data: Vec<u8>,
}

/// The longest packet, and the longest block, that is read. libpcap's own limits are below it or the same.
pub(super) const MAX_CAPTURED: u32 = 16 << 20;

enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// Reads either format, told apart by its first bytes.
pub struct Reader {
    source: Source,
    format: Format,
}

pub(super) fn bad(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

impl Reader {
    /// Opens a capture file.
    ///
    /// # Errors
    /// Those of open(2) and read(2); InvalidData for a file that is no capture.
    pub fn open(path: &Path) -> io::Result<Reader> {
        Reader::new(Box::new(BufReader::new(std::fs::File::open(path)?)))
    }

    /// Reads a capture from its beginning.
    ///
    /// # Errors
    /// Those of read(2); InvalidData for what is no capture.
    pub fn new(source: Box<dyn Read + Send>) -> io::Result<Reader> {
        let mut source = Source(source);
        let magic = source.head::<4>()?.ok_or_else(|| bad("the file is empty"))?;
        let format = match Pcap::begin(magic, &mut source)? {
            Some(pcap) => Format::Pcap(pcap),
            None => Format::PcapNg(PcapNg::begin(magic, &mut source)?),
        };
        Ok(Reader { source, format })
    }

    /// Link type of the packets.
    pub fn linktype(&self) -> Linktype {
        match &self.format {
            Format::Pcap(pcap) => pcap.linktype,
            Format::PcapNg(pcapng) => pcapng.linktype(),
        }
    }

    /// The next packet; `None` at the end.
    ///
    /// # Errors
    /// Those of read(2); InvalidData for a file that is damaged or ends in the middle of a packet, or that describes an
    /// interface of another link type. There is nothing to read after an error.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        let record = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.source)?,
            Format::PcapNg(pcapng) => pcapng.next(&mut self.source)?,
        };
        Ok(record.map(|record| {
            let captured = u32::try_from(record.data.len()).unwrap_or(u32::MAX);
            Record { wirelen: record.wirelen.max(captured), ..record }
        }))
    }
}

/// Where the bytes come from.
pub(super) struct Source(Box<dyn Read + Send>);

impl Source {
    /// The next `N` bytes; `None` where the file ends before the first.
    pub fn head<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        let mut there = 0;
        while there < N {
            match self.0.read(&mut bytes[there..]) {
                Ok(0) if there == 0 => return Ok(None),
                Ok(0) => return Err(cut()),
                Ok(n) => there += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(bytes))
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        // Most packets at once; what says it is longer grows as it comes.
        let mut bytes = Vec::with_capacity(len.min(1 << 16));
        (&mut self.0).take(len as u64).read_to_end(&mut bytes)?;
        if bytes.len() < len { Err(cut()) } else { Ok(bytes) }
    }
}

fn cut() -> io::Error {
    bad("the file ends in the middle of a packet")
}

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

impl Order {
    pub fn half(self, bytes: [u8; 2]) -> u16 {
        match self {
            Order::Big => u16::from_be_bytes(bytes),
            Order::Little => u16::from_le_bytes(bytes),
        }
    }

    pub fn word(self, bytes: [u8; 4]) -> u32 {
        match self {
            Order::Big => u32::from_be_bytes(bytes),
            Order::Little => u32::from_le_bytes(bytes),
        }
    }

    /// The words `bytes` begin with; zeros where they are shorter.
    pub fn words<const N: usize>(self, bytes: &[u8]) -> [u32; N] {
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = self.word(*bytes);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pcap_file::DataLink;
    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
    use pcap_file::pcapng::blocks::interface_description::{
        InterfaceDescriptionBlock, InterfaceDescriptionOption,
    };
    use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};

    use super::*;

    #[test]
    fn stamps_have_the_unit_their_file_says() {
        for (resolution, units) in [(None, 5_000_123), (Some(9), 5_000_123_000), (Some(0x80 | 10), 5 * 1024)]
        {
            let mut writer = PcapNgWriter::new(Vec::new()).expect("a header");
            let interface = InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: 60,
                options: resolution.map(InterfaceDescriptionOption::IfTsResol).into_iter().collect(),
            };
            writer.write_block(&interface.into_block()).expect("an interface");
            let packet = EnhancedPacketBlock {
                interface_id: 0,
                // written as it is, in whatever unit
                timestamp: Duration::from_nanos(units),
                original_len: 1514,
                data: vec![7; 60].into(),
                options: Vec::new(),
            };
            writer.write_block(&packet.into_block()).expect("a packet");
            let mut reader = Reader::new(Box::new(io::Cursor::new(writer.into_inner()))).expect("reads");
            let record = reader.next_record().expect("no error").expect("a packet");
            let nsec = if resolution == Some(0x8a) { 0 } else { 123_000 };
            assert_eq!(record.timestamp, Timestamp { sec: 5, nsec }, "{resolution:?}");
        }
    }

    #[test]
    fn packets_cut_to_the_snap_length_are_read() {
        let header = PcapHeader { snaplen: 60, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(Vec::new(), header).expect("a header");
        let stamp = Duration::new(5, 123_456_000);
        writer.write_packet(&PcapPacket::new(stamp, 1514, &[7; 60])).expect("a packet");
        let mut reader = Reader::new(Box::new(io::Cursor::new(writer.into_writer()))).expect("reads");
        let record = reader.next_record().expect("no error").expect("a packet");
        assert_eq!((record.wirelen, record.data.len()), (1514, 60));
        assert_eq!(record.timestamp, Timestamp { sec: 5, nsec: 123_456_000 });
    }

    /// A little-endian block of pcapng.
    fn block(kind: u32, body: &[&[u8]]) -> Vec<u8> {
        let mut body = body.concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, &body, &len].concat()
    }

    fn section() -> Vec<u8> {
        block(0x0a0d_0d0a, &[&[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0], &[0xff; 8]])
    }

    /// DLT_EN10MB and the like, no snap length, and options without the one that ends them.
    fn interface(linktype: u8, options: &[u8]) -> Vec<u8> {
        block(1, &[&[linktype, 0, 0, 0, 0, 0, 0, 0], options])
    }

    fn read_all(file: &[Vec<u8>]) -> io::Result<Vec<Record>> {
        let mut reader = Reader::new(Box::new(io::Cursor::new(file.concat())))?;
        std::iter::from_fn(|| reader.next_record().transpose()).collect()
    }

    #[test]
    fn packets_of_every_kind_of_block_are_read_without_padding() {
        let stamp = 5_000_123_u32.to_le_bytes();
        let lengths = [5_u32.to_le_bytes(), 7_u32.to_le_bytes()].concat();
        let file = [
            section(),
            // if_tzone, and if_tsoffset of a minute
            interface(1, &[10, 0, 4, 0, 0, 0, 0, 1, 14, 0, 8, 0, 60, 0, 0, 0, 0, 0, 0, 0]),
            block(3, &[&5_u32.to_le_bytes(), b"hello"]),
            block(6, &[&[0; 8], &stamp, &lengths, b"hello"]),
            block(2, &[&[0, 0, 9, 9, 0, 0, 0, 0], &stamp, &lengths, b"hello"]),
            block(5, &[&[1; 20]]),
        ];
        let (simple, stamped) = (Timestamp { sec: 60, nsec: 0 }, Timestamp { sec: 65, nsec: 123_000 });
        let record = |timestamp, wirelen| Record { timestamp, wirelen, data: b"hello".to_vec() };
        let right = [record(simple, 5), record(stamped, 7), record(stamped, 7)];
        assert_eq!(read_all(&file).expect("no damage"), right);
    }

    #[test]
    fn what_would_be_a_wrong_packet_is_an_error() {
        let simple = block(3, &[&5_u32.to_le_bytes(), b"hello"]);
        let of_second = block(6, &[&[1, 0, 0, 0, 0, 0, 0, 0], &[0; 12]]);
        let longer = block(6, &[&[0; 12], &[9, 0, 0, 0, 9, 0, 0, 0], b"hello"]);
        let damaged: [(&[Vec<u8>], &str); 5] = [
            (&[section(), simple.clone(), interface(1, &[])], "interface 0, which is not described"),
            (&[section(), interface(1, &[]), of_second], "interface 1, which is not described"),
            (&[section(), interface(1, &[]), longer], "a packet of 9 bytes in a block with 8"),
            (&[section(), interface(1, &[]), simple, interface(108, &[])], "link type 108 after one of 1"),
            (&[section()], "no interface is described"),
        ];
        for (file, what) in damaged {
            let error = read_all(file).expect_err(what);
            assert!(
                error.kind() == io::ErrorKind::InvalidData && error.to_string().contains(what),
                "{error}"
            );
        }
    }
}
