//! What one open file takes of the limit on memory: its buffers, and its tap's ring.

use std::sync::Arc;

use super::quota::{Full, Part, Quota};

/// The parts of one file.
#[derive(Debug, Default)]
pub struct Holdings {
    buffers: Option<Part>,
    ring: Option<Part>,
    /// For a tap that is being attached: ring, and buffers.
    asked: Option<(Part, Part)>,
    /// Of taps that are done with and not closed yet.
    leaving: Vec<Part>,
}

impl Holdings {
    /// Takes memory for buffers of `bufsize` bytes that a request makes at once; two there are.
    ///
    /// # Errors
    /// [`Full`].
    pub fn buffers(&mut self, quota: &Arc<Quota>, uid: u32, bufsize: usize) -> Result<(), Full> {
        let wanted = bufsize.saturating_mul(2);
        if self.buffers.as_ref().is_none_or(|before| before.amount() < wanted) {
            self.buffers = Some(quota.take(uid, wanted)?);
        }
        Ok(())
    }

    /// The buffers have that size, and are no larger.
    pub fn fit(&mut self, bufsize: usize) {
        if let Some(buffers) = &mut self.buffers {
            buffers.shrink(bufsize.saturating_mul(2));
        }
    }

    /// Takes memory for a tap that is about to be attached: a ring of at most `ring` bytes, and the file's buffers.
    ///
    /// # Errors
    /// [`Full`].
    pub fn ask(&mut self, quota: &Arc<Quota>, uid: u32, ring: usize, bufsize: usize) -> Result<(), Full> {
        self.asked = Some((quota.take(uid, ring)?, quota.take(uid, bufsize.saturating_mul(2))?));
        Ok(())
    }

    /// The request has ended: with a tap whose ring has so many bytes, or with none.
    pub fn settle(&mut self, ring: Option<usize>) {
        let Some((mut part, buffers)) = self.asked.take() else { return };
        let Some(ring) = ring else { return };
        part.shrink(ring);
        self.leaving.extend(self.ring.replace(part));
        // Buffers only grow.
        if self.buffers.as_ref().is_none_or(|before| before.amount() < buffers.amount()) {
            self.buffers = Some(buffers);
        }
    }

    /// The tap is gone.
    pub fn detached(&mut self) {
        self.leaving.extend(self.ring.take());
    }

    /// What is to be given back when the taps that are done with are closed.
    pub fn leaving(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.leaving)
    }

    /// Bytes, in all.
    pub fn bytes(&self) -> usize {
        self.buffers.iter().chain(&self.ring).map(Part::amount).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::quota::{Limits, MEMORY};
    use super::*;

    #[test]
    fn a_ring_counts_until_its_tap_is_closed() {
        let quota = Quota::new(MEMORY, Limits { all: 1000, per_uid: 1000 });
        let mut file = Holdings::default();
        file.ask(&quota, 1, 500, 100).unwrap();
        assert_eq!(quota.usage().used, 700, "before it is attached");
        file.settle(Some(300));
        assert_eq!((quota.usage().used, file.bytes()), (500, 500));
        assert_eq!(file.ask(&quota, 1, 500, 100), Err(Full), "half of it is not kept");
        assert_eq!(quota.usage().used, 500);
        file.settle(None);
        file.ask(&quota, 1, 200, 50).unwrap();
        file.settle(Some(200));
        assert_eq!(file.bytes(), 400, "the buffers have stayed as large as they were");
        assert_eq!(quota.usage().used, 700, "the old ring is not closed yet");
        drop(file.leaving());
        assert_eq!(quota.usage().used, 400);
        file.detached();
        drop(file.leaving());
        assert_eq!(file.bytes(), 200);
        drop(file);
        assert_eq!(quota.usage().used, 0);
    }
}
