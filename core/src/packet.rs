//! One packet, lent by the backend that holds it.

use crate::time::{Moment, Timestamp};

/// Which way a packet went, seen from the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Received by the interface.
    In,
    /// Sent by this host through the interface.
    Out,
}

/// A packet as a tap hands it on.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Time of day of its arrival, for the record's header.
    pub timestamp: Timestamp,
    /// The same arrival on the clock that never goes back, for the descriptor's timers.
    pub arrival: Moment,
    /// Received or sent.
    pub way: Way,
    /// Length on the wire in bytes, link header and any 802.1Q tag included; at least `data.len()`.
    pub wirelen: u32,
    /// The bytes at hand, from the link header on.
    pub data: &'a [u8],
    /// What the read filter returned for it where the backend ran the filter (never 0); `None`: not judged yet.
    pub verdict: Option<u32>,
}
