//! How a descriptor stands, for those who watch it from outside: what netstat(1) -B shows on a BSD.

use std::time::Duration;

use super::Descriptor;
use crate::backend::Direction;

/// A descriptor's settings and buffers now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Promiscuous mode was asked for.
    pub promiscuous: bool,
    /// A packet wakes its reader at once.
    pub immediate: bool,
    /// Written frames have their own source address (BIOCSHDRCMPLT).
    pub header_complete: bool,
    /// Wanted directions.
    pub direction: Direction,
    /// Written frames are fed back (BIOCFEEDBACK).
    pub feedback: bool,
    /// Wake-ups send a signal (FIOASYNC).
    pub asynchronous: bool,
    /// BIOCLOCK was issued.
    pub locked: bool,
    /// Bytes in the store buffer.
    pub stored: usize,
    /// Bytes in the hold buffer.
    pub held: usize,
    /// Size of a buffer, bytes.
    pub bufsize: usize,
}

impl Status {
    /// The seven flags of netstat(1) -B, `-` for each that is off: promiscuous, immediate, filled-in headers, sent packets
    /// seen (`s`, or `o` for those alone), feedback, asynchronous, locked.
    pub fn flags(&self) -> String {
        let on = |is: bool, letter: char| if is { letter } else { '-' };
        let direction = match self.direction {
            Direction::In | Direction::None => '-',
            Direction::InOut => 's',
            Direction::Out => 'o',
        };
        [
            on(self.promiscuous, 'p'),
            on(self.immediate, 'i'),
            on(!self.header_complete, 'f'),
            direction,
            on(self.feedback, 'b'),
            on(self.asynchronous, 'a'),
            on(self.locked, 'l'),
        ]
        .iter()
        .collect()
    }
}

impl Descriptor {
    /// How it stands now.
    pub fn status(&self) -> Status {
        Status {
            promiscuous: self.is_promiscuous(),
            immediate: self.immediate || self.wait_timeout == Some(Duration::ZERO),
            header_complete: self.hdrcmplt,
            direction: self.direction(),
            feedback: self.feedback != 0,
            asynchronous: self.asynchronous,
            locked: self.locked,
            stored: self.buffers.stored(),
            held: self.buffers.held(),
            bufsize: self.bufsize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::linux::LINUX;
    use crate::abi::{Request, openbsd::OPENBSD};
    use crate::descriptor::{Caller, Opened};

    #[test]
    fn flags_are_those_of_netstat() {
        let mut descriptor = Descriptor::new(&LINUX, Opened::default());
        assert_eq!(descriptor.status().flags(), "--fs---", "as open(2) leaves it");
        for request in [
            Request::Immediate(1),
            Request::SHdrCmplt(1),
            Request::SDirection(0),
            Request::Feedback(1),
            Request::FioAsync(1),
            Request::Lock,
        ] {
            let said = descriptor.ioctl(request.clone(), Caller::default());
            assert!(said.is_ok(), "{request:?}: {said:?}");
        }
        assert_eq!(descriptor.status().flags(), "-i--bal");
        let openbsd = Descriptor::new(&OPENBSD, Opened::default());
        assert!(!openbsd.status().immediate && openbsd.status().bufsize == 32_768);
    }
}
