//! Emulations broken on purpose, each in one way, to see that the suite notices.

use std::time::Duration;

use bpfdev_core::abi::{Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{BpfFile, Interest, Ready};

use super::records::{gaps, layout, walk};
use super::system::System;

/// What is wrong with an emulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Break {
    /// bh_hdrlen of each record, and so the place of the packet, is one alignment unit too large
    HeaderLength,
    /// The first two records of a buffer change places
    Order,
    /// BIOCGSTATS counts one dropped packet too many
    Counter,
    /// Requests that are EINVAL are ENOTTY
    Errno,
    /// poll(2) finds no buffered packets ready
    Readiness,
    /// Records are padded with bytes that are not zero, the last one too
    Padding,
}

impl Break {
    /// Each of them.
    pub const ALL: [Break; 6] =
        [Break::HeaderLength, Break::Order, Break::Counter, Break::Errno, Break::Readiness, Break::Padding];
}

/// A file with one fault.
pub struct Broken<F> {
    inner: F,
    how: Break,
    system: System,
}

impl<F: BpfFile> Broken<F> {
    /// Breaks a file of this system.
    pub fn new(inner: F, how: Break, system: System) -> Broken<F> {
        Broken { inner, how, system }
    }

    /// What the buffer becomes; at most `room` bytes.
    fn spoil(&self, good: &[u8], room: usize) -> Vec<u8> {
        let layout = layout(self.system);
        let Ok(records) = walk(good, layout) else { return good.to_vec() };
        let mut spoilt = good.to_vec();
        match self.how {
            Break::HeaderLength => {
                spoilt.clear();
                for record in &records {
                    let at = spoilt.len().next_multiple_of(layout.alignment);
                    spoilt.resize(at, 0);
                    let header = &good[record.offset..record.offset + record.hdrlen];
                    spoilt.extend_from_slice(header);
                    let longer = record.hdrlen + layout.alignment;
                    let field = at + layout.stamp + 8;
                    let hdrlen = u16::try_from(longer).unwrap_or(u16::MAX).to_ne_bytes();
                    spoilt[field..field + 2].copy_from_slice(&hdrlen);
                    spoilt.resize(at + longer, 0);
                    spoilt.extend_from_slice(&record.data);
                }
            }
            Break::Order => {
                if let [first, second, rest @ ..] = &records[..] {
                    let end = second.offset + second.hdrlen + second.data.len();
                    let mut swapped = good[second.offset..end].to_vec();
                    swapped.resize(swapped.len().next_multiple_of(layout.alignment), 0);
                    swapped.extend_from_slice(&good[..first.hdrlen + first.data.len()]);
                    if let Some(third) = rest.first() {
                        swapped.resize(third.offset, 0);
                        swapped.extend_from_slice(&good[third.offset..]);
                    }
                    spoilt = swapped;
                }
            }
            Break::Padding => {
                for gap in gaps(&records) {
                    spoilt[gap].fill(0xa5);
                }
                spoilt.resize(spoilt.len().next_multiple_of(layout.alignment), 0xa5);
            }
            Break::Counter | Break::Errno | Break::Readiness => {}
        }
        spoilt.truncate(room);
        spoilt
    }
}

impl<F: BpfFile> BpfFile for Broken<F> {
    fn ioctl(&self, request: &Request) -> Result<Response, Errno> {
        let answer = self.inner.ioctl(request);
        match (self.how, answer) {
            (Break::Errno, Err(Errno::Inval)) => Err(Errno::NoTty),
            (Break::Counter, Ok(Response::Stats { recv, drop, capt })) => {
                Ok(Response::Stats { recv, drop: drop + 1, capt })
            }
            (_, answer) => answer,
        }
    }

    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        let n = self.inner.read(buf)?;
        let spoilt = self.spoil(&buf[..n], buf.len());
        buf[..spoilt.len()].copy_from_slice(&spoilt);
        Ok(spoilt.len())
    }

    fn write(&self, frame: &[u8]) -> Result<usize, Errno> {
        self.inner.write(frame)
    }

    fn poll(&self, want: Interest, timeout: Option<Duration>) -> Result<Ready, Errno> {
        let read = want.read && self.how != Break::Readiness;
        self.inner.poll(Interest { read, ..want }, timeout)
    }

    fn set_nonblocking(&self, on: bool) -> Result<(), Errno> {
        self.inner.set_nonblocking(on)
    }
}
