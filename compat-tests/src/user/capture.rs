//! Packets as a program wrote them, and as they were: the comparison.

use std::path::Path;
use std::time::{Duration, Instant};

use bpfdev::capture::Capture;

use crate::oracle::hex;

/// A captured packet, without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its length on the wire, bytes.
    pub wirelen: u32,
    /// What was kept of it.
    pub data: Vec<u8>,
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = hex::encode(&self.data[..self.data.len().min(48)]);
        let rest = if self.data.len() > 48 { "..." } else { "" };
        write!(f, "{} of {} bytes, {shown}{rest}", self.data.len(), self.wirelen)
    }
}

/// The packets of a pcap or pcapng file.
///
/// # Errors
/// It cannot be read, or is damaged; in words.
pub fn savefile(path: &Path) -> Result<Vec<Packet>, String> {
    let mut capture = Capture::replay(path).map_err(|error| error.to_string())?;
    let mut packets = Vec::new();
    while let Some(mut batch) = capture.next_batch().map_err(|error| error.to_string())? {
        while let Some(packet) = batch.next() {
            packets.push(Packet { wirelen: packet.wirelen, data: packet.data.to_vec() });
        }
    }
    Ok(packets)
}

/// So many packets of an interface, or those that come until `longest` has passed.
///
/// # Errors
/// The capture's, in words.
pub fn captured(capture: &mut Capture, count: usize, longest: Duration) -> Result<Vec<Packet>, String> {
    let end = Instant::now() + longest;
    let mut packets = Vec::new();
    capture.set_read_timeout(Some(Duration::from_millis(50)));
    while packets.len() < count && Instant::now() < end {
        let Some(mut batch) = capture.next_batch().map_err(|error| error.to_string())? else { break };
        while let Some(packet) = batch.next() {
            packets.push(Packet { wirelen: packet.wirelen, data: packet.data.to_vec() });
        }
    }
    Ok(packets)
}

/// The first difference: where, what was expected, what was seen.
pub fn compare(expected: &[Packet], seen: &[Packet]) -> Option<(String, String, String)> {
    let different = expected.iter().zip(seen).position(|(expected, seen)| expected != seen);
    if let Some(at) = different {
        return Some((format!("packet {at}"), expected[at].to_string(), seen[at].to_string()));
    }
    let (expected, seen) = (expected.len(), seen.len());
    (expected != seen).then(|| ("number of packets".into(), expected.to_string(), seen.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_told() {
        let packet = |byte| Packet { wirelen: 60, data: vec![byte; 2] };
        let two = [packet(1), packet(2)];
        assert_eq!(compare(&two, &two), None);
        let told = compare(&two, &[packet(1), packet(3)]);
        let words = ("packet 1".into(), "2 of 60 bytes, 0202".into(), "2 of 60 bytes, 0303".into());
        assert_eq!(told, Some(words));
        let told = compare(&two, &two[..1]);
        assert_eq!(told, Some(("number of packets".into(), "2".into(), "1".into())));
    }
}
