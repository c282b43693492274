//! What a case plays on: the interfaces around the descriptors, and time.
//!
//! Every stage has an Ethernet interface that is observed, a wire with a far end, another interface, and a loopback one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile};

use super::system::System;

/// An open file of the target. Threads share it.
pub type SharedFile = Arc<dyn BpfFile + Send + Sync>;

/// What a case wants of its stage before it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The observed interface takes no frames for other stations unless it is promiscuous.
    pub address_filter: bool,
}

/// What happens around the descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame comes from the far end of the wire. It has been seen by the observed interface's taps when this has happened.
    Receive(Vec<u8>),
    /// The observed interface is set up or down.
    Up(bool),
    /// Its MTU is set, bytes.
    Mtu(u32),
    /// It is removed.
    Remove,
    /// The host sends a UDP datagram with this payload to itself, through the loopback interface.
    Loopback(Vec<u8>),
}

/// Why something cannot be done on a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The target has no means to express it; says why.
    Skip(String),
    /// It went wrong; says what.
    Fail(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Trouble::Skip(text) | Trouble::Fail(text)) = self;
        f.write_str(text)
    }
}

/// A call to be made beside others.
pub type Call<'a> = Box<dyn FnOnce() + Send + 'a>;

/// The surroundings of one target's descriptors.
pub trait Stage: Send + Sync {
    /// The system whose rules the descriptors follow.
    fn system(&self) -> System;

    /// Puts everything as a case finds it: interfaces up, MTU 1500, nothing on the wire.
    ///
    /// # Errors
    /// [`Trouble::Skip`] where a need cannot be met.
    fn reset(&self, needs: Needs) -> Result<(), Trouble>;

    /// Opens the device.
    ///
    /// # Errors
    /// open(2)'s.
    fn open(&self, access: Access) -> Result<SharedFile, Errno>;

    /// Returns when every file that was dropped is closed for the device too.
    fn closed(&self) {}

    /// Makes something happen now.
    ///
    /// # Errors
    /// [`Trouble`].
    fn happen(&self, event: &Event) -> Result<(), Trouble>;

    /// Makes something happen after this time, while other calls are under way.
    fn after(&self, delay: Duration, event: Event);

    /// Lets time pass: simulated, or really slept.
    fn sleep(&self, time: Duration);

    /// The time since some moment in the past, on the clock that [`Stage::sleep`] moves.
    fn clock(&self) -> Duration;

    /// Makes calls at the same time, begun in this order; returns when all have ended.
    fn together(&self, calls: Vec<Call<'_>>);

    /// Whether the observed interface is promiscuous.
    ///
    /// # Errors
    /// [`Trouble`].
    fn promiscuous(&self) -> Result<bool, Trouble>;

    /// Frames that came out at the far end since this was last asked; waits until there are `count`, or a short while.
    ///
    /// # Errors
    /// [`Trouble`].
    fn far_end(&self, count: usize) -> Result<Vec<Vec<u8>>, Trouble>;

    /// The observed interface's name.
    fn interface(&self) -> &str;

    /// Its Ethernet address.
    fn address(&self) -> [u8; 6];

    /// Another Ethernet interface that is up and can be attached to.
    fn other_interface(&self) -> &str;

    /// The loopback interface's name.
    fn loopback(&self) -> &str;

    /// The descriptors' user is root.
    fn root(&self) -> bool;

    /// Calls have come to wait for each other and nothing is left that could happen (simulated time only).
    fn is_stuck(&self) -> bool {
        false
    }

    /// How much later than it should something may be noticed.
    fn slack(&self) -> Duration;
}
