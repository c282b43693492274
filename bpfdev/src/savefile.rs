//! Capture files: pcap and pcapng.
//!
//! ```
//! use bpfdev::capture::Capture;
//! use bpfdev::savefile::{Format, SaveFile, Source};
//!
//! # fn copy(from: &std::path::Path, to: impl std::io::Write) -> Result<(), Box<dyn std::error::Error>> {
//! let mut capture = Capture::replay(from)?;
//! let source = Source { interface: "replay0", linktype: capture.linktype(), snaplen: 262_144 };
//! let mut file = SaveFile::new(to, Format::PcapNg, source)?;
//! while let Some(mut batch) = capture.next_batch()? {
//!     while let Some(packet) = batch.next() {
//!         file.write(packet.timestamp, packet.wirelen, packet.data)?;
//!     }
//! }
//! file.flush()?;
//! # Ok(())
//! # }
//! ```

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bpfdev_core::linktype::Linktype;
use bpfdev_core::time::Timestamp;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

/// Which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// libpcap's own, microseconds.
    Pcap,
    /// pcapng, nanoseconds, with the interface's name.
    PcapNg,
}

impl Format {
    /// pcapng for a name that ends in `.pcapng` or `.ntar`, else pcap.
    pub fn of(path: &Path) -> Format {
        match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("pcapng" | "ntar") => Format::PcapNg,
            _ => Format::Pcap,
        }
    }
}

/// A capture file being written.
pub struct SaveFile<W: Write> {
    format: Writer<W>,
    output: Shared<W>,
}

enum Writer<W: Write> {
    Pcap(PcapWriter<Shared<W>>),
    PcapNg(PcapNgWriter<Shared<W>>),
}

/// The output, reached past the crate's writer: that of pcap does not give it back for flushing.
struct Shared<W>(Arc<Mutex<W>>);

impl<W: Write> Write for Shared<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// What is in the file's header.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Name of the interface, in pcapng.
    pub interface: &'a str,
    /// Link type of every packet.
    pub linktype: Linktype,
    /// Longest packet in bytes.
    pub snaplen: u32,
}

fn failed(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

impl<W: Write> SaveFile<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(writer: W, format: Format, source: Source<'_>) -> io::Result<SaveFile<W>> {
        let datalink = DataLink::from(source.linktype.in_file());
        let output = Shared(Arc::new(Mutex::new(writer)));
        let writer = Shared(Arc::clone(&output.0));
        let format = match format {
            Format::Pcap => {
                let header = PcapHeader {
                    snaplen: source.snaplen,
                    datalink,
                    ts_resolution: TsResolution::MicroSecond,
                    endianness: Endianness::native(),
                    ..PcapHeader::default()
                };
                Writer::Pcap(PcapWriter::with_header(writer, header).map_err(failed)?)
            }
            Format::PcapNg => {
                let mut writer = PcapNgWriter::new(writer).map_err(failed)?;
                let interface = InterfaceDescriptionBlock {
                    linktype: datalink,
                    snaplen: source.snaplen,
                    options: vec![
                        InterfaceDescriptionOption::IfName(Cow::Borrowed(source.interface)),
                        // 10^-9 s: the unit that the writer's stamps have.
                        InterfaceDescriptionOption::IfTsResol(9),
                    ],
                };
                writer.write_block(&interface.into_block()).map_err(failed)?;
                Writer::PcapNg(writer)
            }
        };
        Ok(SaveFile { format, output })
    }

    /// Appends one packet; `wirelen` is its length on the wire in bytes. Stamps before 1970 become 1970.
    ///
    /// # Errors
    /// The writer's; `Other` for a packet longer than the snap length of the file's header.
    pub fn write(&mut self, timestamp: Timestamp, wirelen: u32, data: &[u8]) -> io::Result<()> {
        let stamp = Duration::new(u64::try_from(timestamp.sec).unwrap_or(0), timestamp.nsec);
        // No reader takes a packet that was shorter than what was kept of it.
        let wirelen = wirelen.max(u32::try_from(data.len()).unwrap_or(u32::MAX));
        match &mut self.format {
            Writer::Pcap(writer) => writer.write_packet(&PcapPacket::new(stamp, wirelen, data)),
            Writer::PcapNg(writer) => {
                let packet = EnhancedPacketBlock {
                    interface_id: 0,
                    timestamp: stamp,
                    original_len: wirelen,
                    data: Cow::Borrowed(data),
                    options: Vec::new(),
                };
                writer.write_block(&packet.into_block())
            }
        }
        .map(drop)
        .map_err(failed)
    }

    /// Passes on what the writer has buffered.
    ///
    /// # Errors
    /// The writer's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl<W: Write> fmt::Debug for SaveFile<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.format {
            Writer::Pcap(_) => "SaveFile(pcap)",
            Writer::PcapNg(_) => "SaveFile(pcapng)",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use pcap_file::pcap::PcapReader;
    use pcap_file::pcapng::{Block, PcapNgReader};

    const STAMP: Timestamp = Timestamp { sec: 1_700_000_000, nsec: 123_456_789 };

    fn written(format: Format, linktype: Linktype) -> Vec<u8> {
        let mut bytes = Vec::new();
        let source = Source { interface: "veth0", linktype, snaplen: 262_144 };
        let mut file = SaveFile::new(&mut bytes, format, source).unwrap();
        file.write(STAMP, 1514, &[7; 61]).unwrap();
        file.flush().unwrap();
        drop(file);
        bytes
    }

    #[test]
    fn the_suffix_tells_the_format() {
        for (name, format) in
            [("a.pcapng", Format::PcapNg), ("a.pcap", Format::Pcap), ("a", Format::Pcap), ("-", Format::Pcap)]
        {
            assert_eq!(Format::of(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn pcap_reads_back() {
        let bytes = written(Format::Pcap, Linktype::RAW);
        let mut reader = PcapReader::new(&bytes[..]).unwrap();
        assert_eq!(u32::from(reader.header().datalink), 101, "LINKTYPE_RAW in a file");
        let packet = reader.next_packet().unwrap().unwrap();
        assert_eq!((packet.orig_len, &*packet.data), (1514, &[7; 61][..]));
        assert_eq!(packet.timestamp, Duration::new(1_700_000_000, 123_456_000));
    }

    #[test]
    fn pcapng_reads_back() {
        let bytes = written(Format::PcapNg, Linktype::EN10MB);
        let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
        let mut packets = 0;
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(interface) => {
                    assert_eq!(interface.linktype, DataLink::ETHERNET);
                    assert!(interface.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
                }
                Block::EnhancedPacket(packet) => {
                    packets += 1;
                    assert_eq!((packet.original_len, &*packet.data), (1514, &[7; 61][..]));
                    assert_eq!(packet.timestamp, Duration::new(1_700_000_000, 123_456_789));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(packets, 1);
    }
}
