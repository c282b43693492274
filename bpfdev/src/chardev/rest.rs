//! What is left of buffers that the kernel fetches in pieces: a long read(2) is several READs, one after the other.

/// Threads whose read(2) may be under way so; one that died in the middle leaves its rest behind.
const MOST: usize = 4;

#[derive(Debug)]
struct Rest {
    /// The thread that reads: it can be in one read(2) only.
    tid: u32,
    /// Bytes it has had.
    taken: usize,
    bytes: Vec<u8>,
}

/// The rests of one open file, the latest last.
#[derive(Debug, Default)]
pub struct Rests(Vec<Rest>);

impl Rests {
    /// The thread's read(2) has had so many bytes, and these are left.
    pub fn keep(&mut self, tid: u32, taken: usize, bytes: &[u8]) {
        self.forget(tid);
        if bytes.is_empty() {
            return;
        }
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(Rest { tid, taken, bytes: bytes.to_vec() });
    }

    /// The next piece, of `len` bytes at most, for the thread's read(2) that has had `taken`.
    pub fn next(&self, tid: u32, taken: usize, len: usize) -> &[u8] {
        let Some(rest) = self.0.iter().find(|rest| rest.tid == tid) else { return &[] };
        // where in the rest that is: what came in front of it is no longer there
        let Some(at) = taken.checked_sub(rest.taken) else { return &[] };
        let left = rest.bytes.get(at..).unwrap_or_default();
        left.get(..len).unwrap_or(left)
    }

    /// The thread begins another read(2), or has had all of this one.
    pub fn forget(&mut self, tid: u32) {
        self.0.retain(|rest| rest.tid != tid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_in_pieces_is_whole_for_each_of_its_readers() {
        let mut rests = Rests::default();
        let buffer: Vec<u8> = (0..=255).collect();
        for tid in [7, 8] {
            rests.keep(tid, 100, &buffer[100..]);
        }
        for tid in [7, 8] {
            assert_eq!(rests.next(tid, 100, 100), &buffer[100..200]);
            assert_eq!(rests.next(tid, 200, 100), &buffer[200..]);
            assert_eq!(rests.next(tid, 256, 100), [0; 0], "and then there is no more");
        }
        assert_eq!(rests.next(9, 100, 100), [0; 0], "another has had nothing");
        rests.forget(7);
        assert_eq!(rests.next(7, 100, 100), [0; 0], "a new read(2) begins with nothing");
        assert_eq!(rests.next(8, 100, 1), &buffer[100..101]);
        rests.keep(8, 100, &[]);
        assert_eq!(rests.next(8, 100, 1), [0; 0]);
        (0..100).for_each(|tid| rests.keep(tid, 1, &[1]));
        assert!(rests.0.len() <= MOST && !rests.next(99, 1, 1).is_empty(), "the latest are kept");
    }
}
