//! How a capture is opened.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bpfdev_core::backend::{self, Direction, FilterBackend, Network, Queued, TapConfig};
use bpfdev_core::cbpf::{self, Insn, Program};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::replay::{INTERFACE, Pace, Replay};
use bpfdev_core::time::SystemClock;

use super::{Capture, Error};
use crate::native;

/// How fine a packet's time stamp is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// Microseconds, whatever the backend has.
    Micro,
    /// As fine as the backend has it: nanoseconds on Linux and FreeBSD, else microseconds.
    #[default]
    Nano,
}

/// A filter, in whichever form it is at hand.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Filter {
    /// A valid program.
    Program(Program),
    /// Instructions, validated by this system's rules.
    Insns(Vec<Insn>),
    /// An expression such as `tcp and port 80`, compiled by libpcap for the interface's link type.
    #[cfg(feature = "expr")]
    Expression(String),
}

impl From<Program> for Filter {
    fn from(program: Program) -> Filter {
        Filter::Program(program)
    }
}

impl From<&Program> for Filter {
    fn from(program: &Program) -> Filter {
        Filter::Program(program.clone())
    }
}

impl From<Vec<Insn>> for Filter {
    fn from(insns: Vec<Insn>) -> Filter {
        Filter::Insns(insns)
    }
}

impl From<&[Insn]> for Filter {
    fn from(insns: &[Insn]) -> Filter {
        Filter::Insns(insns.to_vec())
    }
}

#[cfg(feature = "expr")]
impl From<&str> for Filter {
    fn from(expression: &str) -> Filter {
        Filter::Expression(expression.to_owned())
    }
}

impl Filter {
    /// The program for an interface of this link type.
    #[cfg_attr(not(feature = "expr"), allow(unused_variables))] // only an expression needs to be compiled
    pub(super) fn program(&self, linktype: Linktype, snaplen: u32) -> Result<Program, Error> {
        match self {
            Filter::Program(program) => Ok(program.clone()),
            Filter::Insns(insns) => Ok(cbpf::validate(insns, native::ABI.filter)?),
            #[cfg(feature = "expr")]
            Filter::Expression(expression) => {
                let insns = crate::expr::compile(expression, linktype, snaplen)
                    .map_err(|error| Error::Expression(error.to_string()))?;
                Ok(cbpf::validate(&insns, native::ABI.filter)?)
            }
        }
    }
}

/// What a capture is opened with. Each method sets one thing and gives the options on.
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    buffer_len: usize,
    pub(super) immediate: bool,
    pub(super) read_timeout: Option<Duration>,
    pub(super) nonblocking: bool,
    promiscuous: bool,
    direction: Direction,
    pub(super) snaplen: u32,
    pub(super) precision: Precision,
    linktype: Option<Linktype>,
    filter: Option<Filter>,
}

impl Default for Options {
    /// Buffers of 512 KiB, batches rather than single packets, no time-out, both directions, whole packets, no filter.
    fn default() -> Options {
        Options {
            buffer_len: 512 << 10,
            immediate: false,
            read_timeout: None,
            nonblocking: false,
            promiscuous: false,
            direction: Direction::InOut,
            snaplen: u32::MAX,
            precision: Precision::Nano,
            linktype: None,
            filter: None,
        }
    }
}

impl Options {
    /// Size of one buffer, bytes (BIOCSBLEN). The system may give another. On Linux the ring holds the packets of two such
    /// buffers, were all of them short: where the MTU is 1500 it takes 37 times as many bytes, up to 128 MiB; with
    /// [`Options::open_on`] and `native::PacketSockets` its size can be told in bytes.
    pub fn buffer_len(self, bytes: usize) -> Options {
        Options { buffer_len: bytes, ..self }
    }

    /// Each packet is handed on at once; else some are let come together while they flow, for 8 ms at most.
    pub fn immediate(self, on: bool) -> Options {
        Options { immediate: on, ..self }
    }

    /// How long [`Capture::next_batch`] waits for a packet; `None` waits for ever.
    pub fn read_timeout(self, timeout: impl Into<Option<Duration>>) -> Options {
        Options { read_timeout: timeout.into(), ..self }
    }

    /// [`Capture::next_batch`] returns at once when nothing is there.
    pub fn nonblocking(self, on: bool) -> Options {
        Options { nonblocking: on, ..self }
    }

    /// Frames for other hosts are captured too.
    pub fn promiscuous(self, on: bool) -> Options {
        Options { promiscuous: on, ..self }
    }

    /// Packets that went this way only.
    pub fn direction(self, direction: Direction) -> Options {
        Options { direction, ..self }
    }

    /// The most that is kept of a packet, bytes.
    pub fn snaplen(self, bytes: u32) -> Options {
        Options { snaplen: bytes, ..self }
    }

    /// How fine time stamps are.
    pub fn precision(self, precision: Precision) -> Options {
        Options { precision, ..self }
    }

    /// The link type, where the interface has several.
    pub fn linktype(self, linktype: Linktype) -> Options {
        Options { linktype: Some(linktype), ..self }
    }

    /// The filter: no packet that it rejects is handed on, from the first on.
    pub fn filter(self, filter: impl Into<Filter>) -> Options {
        Options { filter: Some(filter.into()), ..self }
    }

    /// How long packets that flow are let come before the next look.
    pub(super) fn nap(&self) -> Option<Duration> {
        let nap = backend::nap(self.buffer_len).filter(|_| !self.immediate && !self.nonblocking)?;
        Some(self.read_timeout.map_or(nap, |timeout| timeout.min(nap)))
    }

    /// Captures from this machine's interface `name`.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchInterface`](super::ErrorKind::NoSuchInterface),
    /// [`ErrorKind::Permission`](super::ErrorKind::Permission) (on Linux CAP_NET_RAW is wanted, on a BSD a node one may
    /// open), [`ErrorKind::Filter`](super::ErrorKind::Filter), [`ErrorKind::Unsupported`](super::ErrorKind::Unsupported);
    /// else the system's.
    pub fn open(self, name: &str) -> Result<Capture, Error> {
        self.open_on(&native::network(), name)
    }

    /// Captures from the interface `name` of a network: packet sockets with options of their own, a BSD's device, the
    /// loopback network.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_on(self, network: &dyn Network, name: &str) -> Result<Capture, Error> {
        let config = TapConfig {
            direction: self.direction,
            linktype: self.linktype,
            judged: true,
            // expressions are compiled for this system's number of IPv6, so packets of lo are framed with it
            loopback: native::loopback(),
            ..native::ABI.tap_config(self.buffer_len)
        };
        let tap = network.attach(name, &config).map_err(Error::Tap)?;
        self.capture(tap)
    }

    /// Captures from a backend that is attached already; its packets must be judged ([`TapConfig::judged`]).
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn capture(self, mut tap: Box<dyn FilterBackend>) -> Result<Capture, Error> {
        let name = tap.name();
        let failed = |error| Error::of(name, error);
        if self.promiscuous {
            tap.set_promiscuous(true).map_err(failed)?;
        }
        if let Some(filter) = &self.filter {
            let program = filter.program(tap.interface().linktype, self.snaplen)?;
            tap.set_filter(Some(&program), Queued::Flush).map_err(failed)?;
        }
        let waiter = tap.waiter().map_err(failed)?;
        let woken = Arc::new(AtomicBool::new(false));
        Ok(Capture { tap, waiter, woken, options: self, taken: 0 })
    }

    /// Plays a capture file, pcap or pcapng, as fast as it is read.
    ///
    /// # Errors
    /// The file cannot be read, or is no capture file.
    pub fn replay(self, path: impl AsRef<Path>) -> Result<Capture, Error> {
        let clock = Arc::new(SystemClock::new());
        self.open_on(&Replay::new(path.as_ref(), Pace::AsRead, clock), INTERFACE)
    }
}
