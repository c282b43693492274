//! Filter and direction, in this process.

use super::{Direction, TapConfig};
use crate::cbpf::Program;
use crate::packet::{Packet, Way};

/// Judges packets for a backend whose system does not.
#[derive(Clone, Debug)]
pub struct InProcess {
    filter: Option<Program>,
    direction: Direction,
    loopback_way: Way,
    on: bool,
}

impl InProcess {
    /// As `config` asks for.
    pub fn new(config: &TapConfig) -> InProcess {
        InProcess {
            filter: config.filter.clone(),
            direction: config.direction,
            loopback_way: config.loopback_way,
            on: config.judged,
        }
    }

    /// Another filter.
    pub fn set_filter(&mut self, program: Option<&Program>) {
        self.filter = program.cloned();
    }

    /// Other directions.
    pub fn set_direction(&mut self, direction: Direction) {
        self.direction = direction;
    }

    /// A packet's verdict for [`Packet::verdict`]: `Some(0)` where it is not to be handed on, `None` where that is the
    /// descriptor's business.
    pub fn verdict(&self, packet: &Packet<'_>, loopback: bool) -> Option<u32> {
        let way = if loopback { self.loopback_way } else { packet.way };
        match &self.filter {
            _ if !self.on => None,
            _ if !self.direction.wants(way) => Some(0),
            Some(filter) => Some(filter.run(packet.data, packet.wirelen)),
            None => Some(u32::MAX),
        }
    }
}
