//! Capture files as tcpdump writes them (pcap-savefile(5)), whole or still growing.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};

/// A packet as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Microseconds since 1970.
    pub micros: u64,
    /// Octets it had on the wire.
    pub len: u32,
    /// Those that were captured.
    pub data: Vec<u8>,
}

/// The time of day, as [`Packet::micros`] has it.
///
/// # Errors
/// It is before 1970.
pub fn now() -> anyhow::Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

/// What a file holds so far.
#[derive(Debug)]
pub struct Savefile {
    /// Its link type: 1 is Ethernet, 0 is that of loopback.
    pub link_type: u32,
    /// Whole packets.
    pub packets: Vec<Packet>,
    /// Octets of one that is not whole yet.
    pub rest: usize,
}

/// Of microseconds, in the byte order of the machine that wrote it: this one.
const MAGIC: u32 = 0xa1b2_c3d4;

/// Reads a file, which another program may be writing.
///
/// # Errors
/// There is none, or it is of another format.
pub fn read(path: &Path) -> anyhow::Result<Savefile> {
    let content = fs::read(path).with_context(|| path.display().to_string())?;
    if content.is_empty() {
        return Ok(Savefile { link_type: 0, packets: Vec::new(), rest: 0 });
    }
    let Some((header, mut rest)) = content.split_first_chunk::<24>() else {
        bail!("{}: no capture file: {} octets", path.display(), content.len());
    };
    ensure!(word(header, 0) == Some(MAGIC), "{}: not of microseconds", path.display());
    let mut packets = Vec::new();
    while let Some(packet) = next(&mut rest) {
        packets.push(packet);
    }
    Ok(Savefile { link_type: word(header, 20).unwrap_or_default(), packets, rest: rest.len() })
}

fn word(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

/// The packet that `rest` begins with, if it is all there.
fn next(rest: &mut &[u8]) -> Option<Packet> {
    let (header, after) = rest.split_first_chunk::<16>()?;
    let field = |at| word(header, at);
    let data = after.get(..usize::try_from(field(8)?).ok()?)?;
    *rest = after.get(data.len()..)?;
    let micros = u64::from(field(0)?) * 1_000_000 + u64::from(field(4)?);
    Some(Packet { micros, len: field(12)?, data: data.to_vec() })
}
