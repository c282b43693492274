//! The packets of one look.

use bpfdev_core::backend;
use bpfdev_core::packet::Packet;

use super::options::{Options, Precision};

/// Packets that are there now, lent one after the other; dropping it gives them back to the system.
pub struct Batch<'a> {
    source: Option<backend::Batch<'a>>,
    snaplen: usize,
    precision: Precision,
    taken: &'a mut u64,
}

impl<'a> Batch<'a> {
    /// `taken` is raised by each packet.
    pub(super) fn new(
        source: Option<backend::Batch<'a>>,
        options: &Options,
        taken: &'a mut u64,
    ) -> Batch<'a> {
        Batch { source, snaplen: options.snaplen as usize, precision: options.precision, taken }
    }

    /// The next packet; `None` when the batch is read to its end.
    #[allow(clippy::should_implement_trait)] // the packet borrows from the batch: not an Iterator
    #[inline]
    pub fn next(&mut self) -> Option<Packet<'_>> {
        let mut packet = self.source.as_mut()?.next()?;
        *self.taken += 1;
        packet.data = packet.data.get(..self.snaplen).unwrap_or(packet.data);
        if self.precision == Precision::Micro {
            packet.timestamp.nsec -= packet.timestamp.nsec % 1000;
        }
        Some(packet)
    }
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}
