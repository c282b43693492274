//! What a recording does, step by step, and what is answered: the seam between recordings and worlds.

use std::net::Ipv4Addr;
use std::time::Duration;

use bpfdev_core::abi::Abi;

/// The argument of an ioctl(2), with what its pointer points at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argument {
    /// The argument itself. A pointer in it (at byte 8) is put in by the world.
    pub bytes: Vec<u8>,
    /// What the pointer points at; `None`: a null pointer, or no pointer at all.
    pub pointee: Option<Vec<u8>>,
}

/// Which sets a select(2) asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sets {
    /// The descriptor is in the read set.
    pub read: bool,
    /// The descriptor is in the write set.
    pub write: bool,
}

/// One thing a program does, or that happens to its interfaces. `flags` and `events` are NetBSD's, a `cmd` is
/// the world's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // system calls and their arguments
pub enum Call {
    Open {
        path: String,
        flags: u32,
        name: String,
    },
    Ioctl {
        d: String,
        cmd: u32,
        arg: Argument,
    },
    Read {
        d: String,
        size: usize,
    },
    Write {
        d: String,
        frame: Vec<u8>,
    },
    Poll {
        d: String,
        events: u32,
        timeout: Duration,
    },
    Select {
        d: String,
        sets: Sets,
        timeout: Duration,
    },
    SetFlags {
        d: String,
        flags: u32,
    },
    Close {
        d: String,
    },
    /// A frame arrives from the wire on the observed interface.
    Receive {
        frame: Vec<u8>,
    },
    Sleep {
        time: Duration,
    },
    /// IFF_UP is set or cleared.
    SetUp {
        interface: String,
        up: bool,
    },
    GetFlags {
        interface: String,
    },
    SetMtu {
        interface: String,
        mtu: u32,
    },
    Destroy {
        interface: String,
    },
    AddAddress {
        interface: String,
        address: Ipv4Addr,
        prefix: u8,
    },
    /// The host sends a UDP datagram.
    Udp {
        to: Ipv4Addr,
        port: u16,
        payload: Vec<u8>,
    },
}

impl Call {
    /// It is made on a descriptor, or makes one.
    pub fn is_of_descriptor(&self) -> bool {
        matches!(
            self,
            Call::Open { .. }
                | Call::Ioctl { .. }
                | Call::Read { .. }
                | Call::Write { .. }
                | Call::Poll { .. }
                | Call::Select { .. }
                | Call::SetFlags { .. }
                | Call::Close { .. }
        )
    }
}

/// What a [`Call`] came to. Only what applies to the call is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The return value; 0 for a new descriptor.
    pub ret: i64,
    /// The return value is a new descriptor.
    pub fd: bool,
    /// errno(2) name of a failure.
    pub errno: Option<String>,
    /// An ioctl's argument afterwards.
    pub arg: Option<Argument>,
    /// The bytes read.
    pub data: Vec<u8>,
    /// poll(2)'s revents.
    pub revents: Option<u32>,
    /// select(2): in the read set, in the write set.
    pub selected: Option<Sets>,
    /// Interface flags; `None` where the host's flags are not NetBSD's.
    pub flags: Option<u32>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Answer {
    /// Success with this return value.
    pub fn ok(ret: i64) -> Answer {
        Answer { ret, ..Answer::default() }
    }

    /// Failure with the error of this name.
    pub fn error(errno: impl Into<String>) -> Answer {
        Answer { ret: -1, errno: Some(errno.into()), ..Answer::default() }
    }
}

/// Why a recording could not be played to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It makes no sense in this world; says why.
    Skip(String),
    /// This one call makes no sense in this world and was not made; what follows it does. Says why.
    Unasked(String),
    /// It went wrong; says how.
    Fail(String),
}

impl Trouble {
    /// A failure.
    pub fn fail(what: impl Into<String>) -> Trouble {
        Trouble::Fail(what.into())
    }
}

/// Where recordings are played: descriptors with two interfaces on one wire, `shmif0` and `shmif1`, and `lo0`.
pub trait World {
    /// The dialect of its descriptors.
    fn abi(&self) -> &'static Abi;

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// [`Trouble`], also when it would wait for ever.
    fn call(&mut self, call: &Call) -> Result<Answer, Trouble>;

    /// Makes a call in a thread of its own.
    ///
    /// # Errors
    /// [`Trouble`].
    fn start(&mut self, thread: u64, call: &Call) -> Result<(), Trouble>;

    /// Waits for a thread's answer; `None` when it is still blocked after `time`.
    ///
    /// # Errors
    /// [`Trouble`], also when there is no such thread.
    fn wait(&mut self, thread: u64, time: Duration) -> Result<Option<Answer>, Trouble>;

    /// How far a measured time may be from the recorded one.
    fn tolerance(&self) -> Duration;
}
