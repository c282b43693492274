//! One read(2) buffer, lent record by record.

use std::sync::Arc;

use bpfdev_core::abi::Header;
use bpfdev_core::backend::PacketSource;
use bpfdev_core::packet::{Packet, Way};
use bpfdev_core::time::{Clock, Moment, Timestamp};

use crate::records::{Malformed, record_at};

/// What read(2) has filled, and how far it was handed on.
pub(crate) struct Reader {
    buf: Vec<u8>,
    filled: usize,
    at: usize,
    header: Header,
    /// A loopback interface's packets count as going this way.
    loopback: Option<Way>,
    /// The way of packets whose header does not tell.
    label: Way,
    clock: Arc<dyn Clock>,
    /// When the buffer was filled, by both clocks.
    now: (Moment, Timestamp),
    /// What ended the last buffer too early, until it is told.
    malformed: Option<Malformed>,
}

impl Reader {
    pub fn new(len: usize, header: Header, loopback: Option<Way>, clock: Arc<dyn Clock>) -> Reader {
        Reader {
            buf: vec![0; len],
            filled: 0,
            at: 0,
            header,
            loopback,
            label: Way::In,
            clock,
            now: (Moment::default(), Timestamp::default()),
            malformed: None,
        }
    }

    /// Length of the buffer in bytes.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Everything was handed on.
    pub fn is_empty(&self) -> bool {
        self.at >= self.filled
    }

    /// Later packets whose header does not tell count as going this way.
    pub fn call(&mut self, way: Way) {
        self.label = way;
    }

    /// What is left is not wanted any more.
    pub fn clear(&mut self) {
        (self.filled, self.at, self.malformed) = (0, 0, None);
    }

    /// Fills the buffer by `read`, which gives the number of bytes it has read. What was left of it is gone.
    pub fn fill<E>(
        &mut self,
        header: Header,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        (self.filled, self.at) = (0, 0);
        let n = read(&mut self.buf)?.min(self.buf.len());
        (self.filled, self.header) = (n, header);
        if n > 0 {
            self.now = (self.clock.now(), self.clock.time_of_day());
        }
        Ok(n)
    }

    /// Whether the walk has met a malformed record, or meets one next. The rest of its buffer is dropped, and it is told
    /// once.
    pub fn take_malformed(&mut self) -> Option<Malformed> {
        if let Err(malformed) = record_at(&self.buf[..self.filled], self.at, &self.header) {
            self.stop_at(malformed);
        }
        self.malformed.take()
    }

    fn stop_at(&mut self, malformed: Malformed) {
        (self.filled, self.at) = (0, 0);
        self.malformed = Some(malformed);
    }

    /// The moment of a stamp, by how long ago it was when the buffer was filled.
    fn moment(&self, timestamp: Timestamp) -> Moment {
        let (now, time_of_day) = self.now;
        let ago = time_of_day.as_nanos().saturating_sub(timestamp.as_nanos()).max(0);
        Moment::from_nanos(now.as_nanos().saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX)))
    }
}

impl PacketSource for Reader {
    fn next_packet(&mut self) -> Option<Packet<'_>> {
        let record = match record_at(&self.buf[..self.filled], self.at, &self.header) {
            Ok(record) => record?,
            Err(malformed) => {
                self.stop_at(malformed);
                return None;
            }
        };
        self.at = record.next;
        let data = self.buf.get(record.data)?;
        Some(Packet {
            timestamp: record.timestamp,
            arrival: self.moment(record.timestamp),
            way: self.loopback.or(record.way).unwrap_or(self.label),
            wirelen: record.wirelen,
            data,
            // The kernel's filter has let it pass. It returned what was kept, or, of a packet kept whole, some number
            // that is not less: what is at hand is what it granted. Never 0, which would reject a packet that a small
            // buffer has cut to nothing.
            verdict: Some(u32::try_from(data.len()).unwrap_or(u32::MAX).max(1)),
        })
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi::hdr;
    use bpfdev_core::time::SimulatedClock;

    fn reader(header: Header) -> Reader {
        let clock = Arc::new(SimulatedClock::new());
        clock.advance_to(Moment::from_nanos(5_000_000_000));
        Reader::new(4096, header, None, clock)
    }

    fn record(header: &Header, data: &[u8], sec: i64) -> Vec<u8> {
        let mut head = vec![0; header.hdrlen(14)];
        let timestamp = Timestamp { sec, nsec: 0 };
        let (caplen, datalen) = (data.len() as u32, 1514);
        header.write(&mut head, &hdr::Record { timestamp, caplen, datalen, way: Way::Out, ifindex: 1 });
        let mut whole = [&head, data].concat();
        whole.resize(header.align(whole.len()), 0);
        whole
    }

    fn fill(reader: &mut Reader, header: Header, bytes: &[u8]) {
        let filled = reader.fill(header, |buf| {
            buf[..bytes.len()].copy_from_slice(bytes);
            Ok::<_, ()>(bytes.len())
        });
        assert_eq!(filled, Ok(bytes.len()));
    }

    #[test]
    fn packets_are_lent_from_the_buffer_with_what_their_header_says() {
        let header = hdr::OPENBSD;
        let mut reader = reader(header);
        let bytes =
            [record(&header, &[1; 60], 1_700_000_003), record(&header, &[2; 99], 1_700_000_009)].concat();
        fill(&mut reader, header, &bytes);
        let inside = reader.buf.as_ptr_range();
        let packet = reader.next_packet().expect("a packet");
        assert_eq!((packet.data, packet.wirelen, packet.verdict), (&[1; 60][..], 1514, Some(60)));
        assert_eq!(packet.way, Way::Out, "bh_flags says so");
        // the clock stands at 5 s, which is 1 700 000 005
        assert_eq!(packet.arrival, Moment::from_nanos(3_000_000_000));
        assert!(inside.contains(&packet.data.as_ptr()), "not copied");
        assert!(!reader.is_empty());
        let packet = reader.next_packet().expect("another");
        assert_eq!((packet.data, packet.verdict), (&[2; 99][..], Some(99)));
        assert_eq!(packet.arrival, Moment::from_nanos(5_000_000_000), "not later than it was read");
        assert!(reader.next_packet().is_none() && reader.is_empty());
        assert_eq!(reader.take_malformed(), None);
    }

    #[test]
    fn a_malformed_record_ends_the_buffer_and_is_told_once() {
        let header = hdr::FREEBSD64;
        let mut reader = reader(header);
        let mut bad = record(&header, &[2; 60], 0);
        bad[24] = 3; // bh_hdrlen
        let bytes = [record(&header, &[1; 62], 0), bad.clone(), record(&header, &[3; 60], 0)].concat();
        fill(&mut reader, header, &bytes);
        assert_eq!(reader.take_malformed(), None, "the first one is whole");
        assert_eq!(reader.next_packet().map(|packet| packet.data.len()), Some(62));
        assert!(reader.next_packet().is_none(), "not a wrong packet");
        assert_eq!(reader.take_malformed().map(|malformed| malformed.offset), Some(88));
        assert!(reader.take_malformed().is_none() && reader.next_packet().is_none());
        fill(&mut reader, header, &bad);
        assert_eq!(reader.take_malformed().map(|malformed| malformed.offset), Some(0), "told at once");
        fill(&mut reader, header, &record(&header, &[4; 60], 0));
        assert_eq!(
            reader.next_packet().map(|packet| packet.data.len()),
            Some(60),
            "the next buffer is another"
        );
    }

    #[test]
    fn a_packet_cut_to_nothing_was_not_rejected() {
        let header = hdr::FREEBSD64;
        let mut reader = reader(header);
        fill(&mut reader, header, &record(&header, &[], 0));
        let packet = reader.next_packet().expect("a packet");
        assert_eq!((packet.data.len(), packet.wirelen, packet.verdict), (0, 1514, Some(1)));
    }
}
