//! Capture files, whole and spoiled: what replay reads of them, beside libpcap.
//!
//! Where libpcap gives packets, ours are the same ones: stamps, lengths, bytes. Where it sees damage, ours may end there or
//! read on; where it sees none, ours sees none. What is allowed besides is in [`is_ours_alone`].

use std::io::{Cursor, Write};
use std::os::fd::AsRawFd;

use bpfdev_core::linktype::Linktype;
use bpfdev_core::replay::{Reader, Record};
use bpfdev_core::time::Timestamp;
use nix::sys::memfd::{MFdFlags, memfd_create};
use pcap::Precision;

use super::harness::{Subject, must};
use super::random::Lcg;

/// What a reader makes of a file.
#[derive(Debug, Default)]
pub struct Outcome {
    /// `None`: it is no capture file.
    linktype: Option<Linktype>,
    records: Vec<Record>,
    /// Why there are no more.
    damage: Option<String>,
}

/// Reads a file to its end.
pub type Read = fn(&[u8]) -> Outcome;

/// The project's.
pub fn ours(file: &[u8]) -> Outcome {
    let mut reader = match Reader::new(Box::new(Cursor::new(file.to_vec()))) {
        Ok(reader) => reader,
        Err(error) => return Outcome { damage: Some(error.to_string()), ..Outcome::default() },
    };
    let mut outcome = Outcome { linktype: Some(reader.linktype()), ..Outcome::default() };
    loop {
        match reader.next_record() {
            Ok(Some(record)) => outcome.records.push(record),
            Ok(None) => return outcome,
            Err(error) => {
                outcome.damage = Some(error.to_string());
                return outcome;
            }
        }
    }
}

/// The target.
pub fn subject(read: Read) -> Subject {
    Subject::new("capture", make, move |file| check(read, file))
}

/// libpcap's.
fn theirs(file: &[u8]) -> Result<Outcome, String> {
    let at = |what: &str, error: &dyn std::fmt::Display| format!("a file for libpcap: {what}: {error}");
    let fd = memfd_create(c"capture", MFdFlags::empty()).map_err(|error| at("memfd_create", &error))?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut copy = std::fs::File::from(fd);
    copy.write_all(file).map_err(|error| at("write", &error))?;
    let mut capture = match pcap::Capture::from_file_with_precision(path, Precision::Nano) {
        Ok(capture) => capture,
        Err(error) => return Ok(Outcome { damage: Some(error.to_string()), ..Outcome::default() }),
    };
    let linktype = u32::try_from(capture.get_datalink().0).ok().map(Linktype);
    let mut outcome = Outcome { linktype, ..Outcome::default() };
    let is_pcap = file.first() != Some(&0x0a);
    let unit = if matches!(file, [0xd4, ..] | [_, _, 0xc3, ..]) { 1000 } else { 1 };
    loop {
        match capture.next_packet() {
            Ok(packet) => {
                let stamp = packet.header.ts;
                // libpcap takes both words of pcap for signed, which they are not
                let unsigned = |word: i64| if is_pcap { i128::from(word as u32) } else { word.into() };
                let fraction = unsigned(stamp.tv_usec / unit) * i128::from(unit);
                let nanos = unsigned(stamp.tv_sec) * 1_000_000_000 + fraction;
                let captured = packet.data.len() as u32;
                outcome.records.push(Record {
                    timestamp: Timestamp::from_nanos(nanos),
                    wirelen: packet.header.len.max(captured),
                    data: packet.data.to_vec(),
                });
            }
            Err(pcap::Error::NoMorePackets) => return Ok(outcome),
            Err(error) => {
                outcome.damage = Some(error.to_string());
                return Ok(outcome);
            }
        }
    }
}

fn check(read: Read, file: &[u8]) -> Result<(), String> {
    let ours = read(file);
    let theirs = theirs(file)?;
    let mut linktypes = [ours.linktype, theirs.linktype].into_iter().flatten();
    let known = linktypes.any(|linktype| LINKTYPES.map(Linktype::from_file).contains(&linktype));
    if let (Some(our), Some(their)) = (ours.linktype, theirs.linktype) {
        // of others libpcap has more names
        must!(our == their || !known, "link type {our:?}, and libpcap reads {their:?}");
    }
    let fine = has_too_fine_stamps(file);
    for (number, (our, their)) in ours.records.iter().zip(&theirs.records).enumerate() {
        // libpcap's seconds go round at 2⁶³, and its nanoseconds have no meaning where its product goes round
        let timestamp = match their.timestamp {
            _ if our.timestamp.sec.unsigned_abs() >> 40 != 0 => our.timestamp,
            Timestamp { sec, .. } if fine => Timestamp { sec, ..our.timestamp },
            same => same,
        };
        // of some types libpcap gives headers in this machine's byte order
        let data = if known { &their.data } else { &our.data };
        must!(
            our.data.len() == their.data.len(),
            "packet {number} has {} bytes, and libpcap reads {}",
            our.data.len(),
            their.data.len()
        );
        let right = Record { timestamp, data: data.clone(), ..*their };
        must!(*our == right, "packet {number} is {our:?}, and libpcap reads {their:?}");
    }
    let (our, their) = (ours.records.len(), theirs.records.len());
    if let Some(damage) = ours.damage {
        must!(
            theirs.damage.is_some() || is_ours_alone(&damage, our),
            "after {our} packets \"{damage}\", and libpcap reads {their} to the end"
        );
        must!(
            their <= our || is_ours_alone(&damage, our),
            "after {our} packets \"{damage}\", and libpcap reads {their}"
        );
    } else {
        must!(their <= our, "{our} packets, and libpcap reads {their}");
        must!(their == our || theirs.damage.is_some(), "{our} packets to the end, and libpcap reads {their}");
    }
    Ok(())
}

/// Damage that is none to libpcap: it still reads its own files of before 1997, looks neither at the second length of the first
/// section header nor at the minor version of another, and before the first interface takes another for a block that nobody
/// knows.
fn is_ours_alone(damage: &str, records: usize) -> bool {
    let first = records == 0 && damage.starts_with("a section");
    first || damage.starts_with("a pcap file of version") || damage.starts_with("pcapng of version 1.")
}

/// An if_tsresol (option 9, one byte) below 2⁻³⁴ seconds.
fn has_too_fine_stamps(file: &[u8]) -> bool {
    file.windows(5)
        .any(|option| matches!(option, [0, 9, 0, 1, unit] | [9, 0, 1, 0, unit] if *unit > 0x80 | 34))
}

/// Writes numbers in a file's byte order.
struct Writer {
    big: bool,
    bytes: Vec<u8>,
}

impl Writer {
    fn half(&mut self, half: u16) {
        let bytes = if self.big { half.to_be_bytes() } else { half.to_le_bytes() };
        self.bytes.extend(bytes);
    }

    fn word(&mut self, word: u32) {
        let bytes = if self.big { word.to_be_bytes() } else { word.to_le_bytes() };
        self.bytes.extend(bytes);
    }

    fn long(&mut self, long: u64) {
        let bytes = if self.big { long.to_be_bytes() } else { long.to_le_bytes() };
        self.bytes.extend(bytes);
    }

    /// pcapng: type, length, body, padding, length.
    fn block(&mut self, kind: u32, body: &[u8]) {
        let len = body.len().next_multiple_of(4);
        self.word(kind);
        self.word(len as u32 + 12);
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len() + len - body.len(), 0);
        self.word(len as u32 + 12);
    }

    fn part(&self) -> Writer {
        Writer { big: self.big, bytes: Vec::new() }
    }

    /// pcapng: code, length, value, padding.
    fn option(&mut self, code: u16, value: &[u8]) {
        self.half(code);
        self.half(value.len() as u16);
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// LINKTYPE_ numbers: NULL, EN10MB, ATM_RFC1483, RAW, LOOP.
const LINKTYPES: [u32; 5] = [0, 1, 100, 101, 108];

fn make(rng: &mut Lcg) -> Vec<u8> {
    let mut file = Writer { big: rng.once_in(2), bytes: Vec::new() };
    let linktype = rng.pick(&LINKTYPES);
    let snaplen = rng.pick(&[0, 60, 96, 65_535, 262_144]);
    if rng.once_in(2) {
        pcap(rng, &mut file, linktype, snaplen);
    } else {
        pcapng(rng, &mut file, linktype, snaplen);
    }
    let mut bytes = file.bytes;
    if rng.below(4) > 0 {
        rng.spoil(&mut bytes);
    }
    bytes
}

/// A packet, and its length on the wire.
fn packet(rng: &mut Lcg) -> (Vec<u8>, u32) {
    let captured = rng.pick(&[0, 1, 14, 60, 61, 62, 96]);
    let more = if rng.once_in(2) { 0 } else { rng.below(1500) };
    (rng.bytes(captured as usize), captured + more)
}

fn pcap(rng: &mut Lcg, file: &mut Writer, linktype: u32, snaplen: u32) {
    let nano = rng.once_in(2);
    file.word(if nano { 0xa1b2_3c4d } else { 0xa1b2_c3d4 });
    file.half(2);
    file.half(4);
    file.long(0);
    file.word(snaplen);
    file.word(linktype);
    for _ in 0..rng.below(5) {
        let (data, wirelen) = packet(rng);
        file.word(rng.word());
        file.word(rng.below(if nano { 1_000_000_000 } else { 1_000_000 }));
        file.word(data.len() as u32);
        file.word(wirelen);
        file.bytes.extend(data);
    }
}

fn pcapng(rng: &mut Lcg, file: &mut Writer, linktype: u32, snaplen: u32) {
    for _ in 0..1 + rng.below(8) / 7 {
        file.big ^= rng.once_in(4);
        section(rng, file, linktype, snaplen);
    }
}

fn section(rng: &mut Lcg, file: &mut Writer, linktype: u32, snaplen: u32) {
    let mut header = file.part();
    header.word(0x1a2b_3c4d);
    header.half(1);
    header.half(0);
    header.long(u64::MAX);
    if rng.once_in(4) {
        header.option(4, b"bpfdev");
        header.option(0, b"");
    }
    file.block(0x0a0d_0d0a, &header.bytes);
    let interfaces = 1 + rng.below(4) / 3;
    for _ in 0..interfaces {
        let mut interface = file.part();
        interface.half(linktype as u16);
        interface.half(0);
        interface.word(snaplen);
        if rng.once_in(2) {
            interface.option(2, b"em0");
        }
        if rng.once_in(2) {
            interface.option(9, &[rng.pick(&[0, 3, 6, 9, 12, 0x80, 0x80 | 10, 0x80 | 20, 0x80 | 40])]);
        }
        if rng.once_in(4) {
            let mut offset = file.part();
            offset.long(rng.pick(&[0, 1, 86_400, u64::MAX - 3599]));
            interface.option(14, &offset.bytes);
        }
        if rng.once_in(2) && interface.bytes.len() > 8 {
            interface.option(0, b"");
        }
        file.block(1, &interface.bytes);
    }
    for _ in 0..rng.below(5) {
        let (data, wirelen) = packet(rng);
        let mut body = file.part();
        let of = rng.below(interfaces);
        match rng.below(6) {
            0 => {
                body.word(wirelen);
                body.bytes.extend(&data);
                body.bytes.truncate(4 + wirelen.min(snaplen) as usize);
                file.block(3, &body.bytes);
            }
            1 => {
                // statistics, names, and what nobody knows
                let kind = rng.pick(&[4, 5, 0x8000_0bad]);
                let len = 4 * rng.below(8) as usize;
                let bytes = rng.bytes(len);
                file.block(kind, &bytes);
            }
            kind => {
                if kind == 2 {
                    body.half(of as u16);
                    body.half(0);
                } else {
                    body.word(of);
                }
                body.word(rng.below(1 << 22));
                body.word(rng.word());
                body.word(data.len() as u32);
                body.word(wirelen);
                body.bytes.extend(&data);
                body.bytes.resize(body.bytes.len().next_multiple_of(4), 0);
                if rng.once_in(4) {
                    body.option(2, &[0; 4]);
                    body.option(0, b"");
                }
                file.block(if kind == 2 { 2 } else { 6 }, &body.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::harness::tests::finds;
    use super::*;

    #[test]
    fn a_reader_that_keeps_padding_is_found() {
        fn padded(file: &[u8]) -> Outcome {
            let mut outcome = ours(file);
            for record in &mut outcome.records {
                record.data.resize(record.data.len().next_multiple_of(4), 0);
            }
            outcome
        }
        finds(&subject(padded), "and libpcap reads");
    }

    #[test]
    fn a_reader_that_stops_without_a_word_is_found() {
        fn silent(file: &[u8]) -> Outcome {
            let mut outcome = ours(file);
            outcome.records.truncate(2);
            outcome.damage = None;
            outcome
        }
        finds(&subject(silent), "and libpcap reads");
    }

    #[test]
    fn a_reader_that_panics_is_found() {
        fn panics(file: &[u8]) -> Outcome {
            let outcome = ours(file);
            assert!(outcome.records.iter().all(|record| record.timestamp.sec >= 0), "a stamp before 1970");
            outcome
        }
        finds(&subject(panics), "panic: a stamp before 1970");
    }
}
