//! What all processes of a soak know of each other: numbers in a file, each written by one of them.
//!
//! Reading and writing 8 bytes of a page cache page is one step for whoever looks on, and needs no shared mapping.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::WIRES;

/// What clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// What their role says.
    Run,
    /// Nothing is sent any more: who does anything but capture ends.
    Rest,
    /// Read what is left, give an account of it, and end.
    Settle,
}

/// The daemon, as its clients may find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It answers.
    Yes,
    /// It is being ended, or was.
    Ending,
}

const PHASE: u64 = 0;
const SERVED: u64 = 1;
/// Frames a wire's sender has begun to send, by wire.
const SENT: u64 = 2;
/// Frames lost between the ends of a wire, by wire.
const LOST: u64 = SENT + WIRES as u64;
/// Frames each seat has begun to write.
const WRITTEN: u64 = LOST + WIRES as u64;

/// The file.
#[derive(Debug)]
pub struct Board {
    file: File,
    seats: usize,
}

impl Board {
    /// Makes it, all zeros: running, and nothing sent.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn make(path: &Path, seats: usize) -> io::Result<Board> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.set_len((WRITTEN + seats as u64) * 8)?;
        Ok(Board { file, seats })
    }

    /// Opens it.
    ///
    /// # Errors
    /// It is not there.
    pub fn open(path: &Path) -> io::Result<Board> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let numbers = file.metadata()?.len() / 8;
        let seats = usize::try_from(numbers.saturating_sub(WRITTEN)).map_err(io::Error::other)?;
        Ok(Board { file, seats })
    }

    fn get(&self, at: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at * 8)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn set(&self, at: u64, value: u64) -> io::Result<()> {
        self.file.write_all_at(&value.to_ne_bytes(), at * 8)
    }

    /// What clients are to do now.
    ///
    /// # Errors
    /// The file's, as of all that follow.
    pub fn phase(&self) -> io::Result<Phase> {
        Ok(match self.get(PHASE)? {
            0 => Phase::Run,
            1 => Phase::Rest,
            _ => Phase::Settle,
        })
    }

    /// Tells clients what to do.
    ///
    /// # Errors
    /// The file's.
    pub fn set_phase(&self, phase: Phase) -> io::Result<()> {
        self.set(PHASE, phase as u64)
    }

    /// Whether the daemon is there.
    ///
    /// # Errors
    /// The file's.
    pub fn served(&self) -> io::Result<Served> {
        Ok(if self.get(SERVED)? == 0 { Served::Yes } else { Served::Ending })
    }

    /// Tells clients what they may find.
    ///
    /// # Errors
    /// The file's.
    pub fn set_served(&self, served: Served) -> io::Result<()> {
        self.set(SERVED, u64::from(served == Served::Ending))
    }

    /// Frames begun to be sent on a wire; what is lower than this was sent, but for the last few.
    ///
    /// # Errors
    /// The file's.
    pub fn sent(&self, wire: usize) -> io::Result<u64> {
        self.get(SENT + wire as u64)
    }

    /// For the sender of a wire, before it sends.
    ///
    /// # Errors
    /// The file's.
    pub fn set_sent(&self, wire: usize, frames: u64) -> io::Result<()> {
        self.set(SENT + wire as u64, frames)
    }

    /// Frames that the kernel took and the other end of the wire did not get.
    ///
    /// # Errors
    /// The file's.
    pub fn lost(&self, wire: usize) -> io::Result<u64> {
        self.get(LOST + wire as u64)
    }

    /// For who has asked the kernel.
    ///
    /// # Errors
    /// The file's.
    pub fn set_lost(&self, wire: usize, frames: u64) -> io::Result<()> {
        self.set(LOST + wire as u64, frames)
    }

    /// Frames begun to be written from a seat.
    ///
    /// # Errors
    /// The file's.
    pub fn written(&self, seat: usize) -> io::Result<u64> {
        self.get(WRITTEN + seat as u64)
    }

    /// For the client of a seat, before it writes.
    ///
    /// # Errors
    /// The file's.
    pub fn set_written(&self, seat: usize, frames: u64) -> io::Result<()> {
        self.set(WRITTEN + seat as u64, frames)
    }

    /// Frames begun to be written from all seats.
    ///
    /// # Errors
    /// The file's.
    pub fn written_by_all(&self) -> io::Result<u64> {
        (0..self.seats).map(|seat| self.written(seat)).sum()
    }

    /// How many seats there are.
    pub fn seats(&self) -> usize {
        self.seats
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_to_their_places() {
        let path = std::env::temp_dir().join(format!("bpfdev-board-{}", std::process::id()));
        let board = Board::make(&path, 3).unwrap();
        let other = Board::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((other.seats(), other.phase().unwrap()), (3, Phase::Run));
        for wire in 0..WIRES {
            board.set_sent(wire, 10 + wire as u64).unwrap();
            board.set_lost(wire, 20 + wire as u64).unwrap();
        }
        for seat in 0..3 {
            board.set_written(seat, 1 << seat).unwrap();
        }
        board.set_served(Served::Ending).unwrap();
        assert_eq!((other.phase().unwrap(), other.served().unwrap()), (Phase::Run, Served::Ending));
        for phase in [Phase::Rest, Phase::Settle, Phase::Run, Phase::Settle] {
            board.set_phase(phase).unwrap();
            assert_eq!(other.phase().unwrap(), phase);
        }
        assert_eq!((other.sent(WIRES - 1).unwrap(), other.lost(0).unwrap()), (9 + WIRES as u64, 20));
        assert_eq!((other.written(2).unwrap(), other.written_by_all().unwrap()), (4, 7));
    }
}
