//! Reads capture files: pcap, and pcapng.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use pcap_file::TsResolution;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader};

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

enum Format {
    Pcap(PcapReader<Box<dyn Read + Send>>),
    /// With the units of time in a second, for each interface.
    PcapNg(PcapNgReader<Box<dyn Read + Send>>, Vec<u128>),
}

/// Reads either format, told apart by its first bytes.
pub struct Reader {
    format: Format,
    linktype: Linktype,
}

fn bad(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// The first block type of a pcapng file.
const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

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
    pub fn new(mut source: Box<dyn Read + Send>) -> io::Result<Reader> {
        let mut magic = [0; 4];
        source.read_exact(&mut magic)?;
        let whole: Box<dyn Read + Send> = Box::new(io::Cursor::new(magic).chain(source));
        if magic == SECTION_HEADER {
            let format = Format::PcapNg(PcapNgReader::new(whole).map_err(bad)?, Vec::new());
            return Ok(Reader { format, linktype: Linktype::EN10MB });
        }
        let reader = PcapReader::new(whole).map_err(bad)?;
        let linktype = Linktype(u32::from(reader.header().datalink));
        Ok(Reader { format: Format::Pcap(reader), linktype: from_file(linktype) })
    }

    /// Link type of the packets: for pcapng that of the interface described last, known once a packet was read.
    pub fn linktype(&self) -> Linktype {
        self.linktype
    }

    /// The next packet; `None` at the end.
    ///
    /// # Errors
    /// Those of read(2); InvalidData for a file that is damaged, or ends in the middle of a packet.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        Ok(self.read()?.map(|record| {
            let captured = u32::try_from(record.data.len()).unwrap_or(u32::MAX);
            Record { wirelen: record.wirelen.max(captured), ..record }
        }))
    }

    fn read(&mut self) -> io::Result<Option<Record>> {
        let linktype = &mut self.linktype;
        match &mut self.format {
            Format::Pcap(reader) => {
                let unit = match reader.header().ts_resolution {
                    TsResolution::MicroSecond => 1000,
                    TsResolution::NanoSecond => 1,
                };
                // Raw: the checked form refuses packets longer than the snap length, which are what that is for.
                let Some(packet) = reader.next_raw_packet() else { return Ok(None) };
                let packet = packet.map_err(bad)?;
                let nanos = u64::from(packet.ts_frac) * unit;
                Ok(Some(Record {
                    timestamp: stamp(Duration::from_secs(packet.ts_sec.into()) + Duration::from_nanos(nanos)),
                    wirelen: packet.orig_len,
                    data: packet.data.into_owned(),
                }))
            }
            Format::PcapNg(reader, units) => loop {
                let Some(block) = reader.next_block() else { return Ok(None) };
                let record = match block.map_err(bad)? {
                    Block::SectionHeader(_) => {
                        units.clear();
                        continue;
                    }
                    Block::InterfaceDescription(interface) => {
                        units.push(units_per_second(&interface));
                        *linktype = from_file(Linktype(u32::from(interface.linktype)));
                        continue;
                    }
                    Block::EnhancedPacket(packet) => Record {
                        timestamp: stamp(since_1970(
                            packet.timestamp,
                            units.get(packet.interface_id as usize),
                        )),
                        wirelen: packet.original_len,
                        data: packet.data.into_owned(),
                    },
                    Block::SimplePacket(packet) => Record {
                        timestamp: Timestamp::default(),
                        wirelen: packet.original_len,
                        data: packet.data.into_owned(),
                    },
                    _ => continue,
                };
                return Ok(Some(record));
            },
        }
    }
}

/// The resolution of an interface's stamps (if_tsresol: a power of ten, or of two with the high bit), microseconds
/// where it does not say.
fn units_per_second(interface: &InterfaceDescriptionBlock<'_>) -> u128 {
    let resolution = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
        _ => None,
    });
    let resolution = resolution.unwrap_or(6);
    let base: u128 = if resolution & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(u32::from(resolution & 0x7f)).unwrap_or(u128::MAX)
}

/// A stamp as the reader gives it, which takes every unit for a nanosecond.
fn since_1970(stamp: Duration, units_per_second: Option<&u128>) -> Duration {
    let units = units_per_second.copied().unwrap_or(1_000_000);
    let nanos = stamp.as_nanos().saturating_mul(1_000_000_000) / units;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// LINKTYPE_RAW in files is 101, DLT_RAW 12; the others here are the same.
fn from_file(linktype: Linktype) -> Linktype {
    if linktype == Linktype(101) { Linktype::RAW } else { linktype }
}

fn stamp(since_1970: Duration) -> Timestamp {
    Timestamp {
        sec: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX),
        nsec: since_1970.subsec_nanos(),
    }
}
