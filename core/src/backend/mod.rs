//! The lower seam: one system's packet tap.
//!
//! A backend gives packets in, takes frames out, and runs a filter where the system can. It knows nothing of BSD
//! descriptors: buffers, time-outs, records and counters are [`crate::descriptor`]'s.

mod error;
mod flow;
mod in_process;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::cbpf::Program;
use crate::linktype::Linktype;
use crate::packet::Packet;

pub use error::TapError;
pub use flow::nap;
pub use in_process::InProcess;

/// How a loopback interface's packets are framed: DLT_NULL or DLT_LOOP, and the family numbers of that system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopbackFraming {
    /// `NULL` or `LOOP`.
    pub linktype: Linktype,
    /// The family word is in network order (OpenBSD); else in host order.
    pub network_order: bool,
    /// `AF_INET6` there (`AF_INET` is 2 everywhere).
    pub af_inet6: u32,
}

impl LoopbackFraming {
    /// The four bytes before a network packet of this address family.
    pub fn header(self, family: u32) -> [u8; 4] {
        if self.network_order { family.to_be_bytes() } else { family.to_ne_bytes() }
    }

    /// The ethertype a family word stands for: 0x0800 or 0x86dd, `None` for any other family.
    pub fn ethertype(self, word: [u8; 4]) -> Option<u16> {
        let family = if self.network_order { u32::from_be_bytes(word) } else { u32::from_ne_bytes(word) };
        match family {
            2 => Some(0x0800),
            f if f == self.af_inet6 => Some(0x86dd),
            _ => None,
        }
    }

    /// The family number for an ethertype, `None` for what has no family.
    pub fn family(self, ethertype: u16) -> Option<u32> {
        match ethertype {
            0x0800 => Some(2),
            0x86dd => Some(self.af_inet6),
            _ => None,
        }
    }
}

/// The interface a backend is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name when it was attached, at most 15 bytes.
    pub name: String,
    /// The system's index of it; 0 where there is none.
    pub index: u32,
    /// Which network it belongs to: the inode of its network namespace on Linux; 0 where there is but one.
    pub network: u64,
    /// The link type packets have now.
    pub linktype: Linktype,
    /// Every link type it offers, the default first.
    pub linktypes: Vec<Linktype>,
    /// It is a loopback interface: a packet passes once, and what is sent is also received.
    pub loopback: bool,
    /// Its link-layer address; empty where it has none.
    pub address: Vec<u8>,
}

/// What can change of an interface while it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Up (`IFF_UP`).
    pub up: bool,
    /// Largest network packet in bytes, link header not counted.
    pub mtu: u32,
}

/// What becomes of the packets queued before a filter change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// They are dropped: BIOCSETF.
    Flush,
    /// They stay, as the old filter judged them: BIOCSETFNR.
    Keep,
}

/// Where the read filter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plan {
    /// No filter: every packet is accepted.
    AcceptAll,
    /// In the kernel, translated to eBPF, with what it rejects counted.
    Ebpf,
    /// In the kernel, as a classic BPF program attached to the socket.
    Cbpf,
    /// In the kernel behind a bpf device, as that system runs it.
    Device,
    /// In this process, by the reference interpreter.
    Process,
}

impl Plan {
    /// The word `--plan` and the log use.
    pub const fn name(self) -> &'static str {
        match self {
            Plan::AcceptAll => "accept-all",
            Plan::Ebpf => "ebpf",
            Plan::Cbpf => "cbpf",
            Plan::Device => "device",
            Plan::Process => "process",
        }
    }
}

/// Which packets a descriptor wants, by the way they went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Received only (`BPF_D_IN`).
    In,
    /// Both (`BPF_D_INOUT`).
    #[default]
    InOut,
    /// Sent only (`BPF_D_OUT`).
    Out,
    /// None at all (`BPF_D_NONE`).
    None,
}

impl Direction {
    /// Whether a packet that went this way is wanted.
    pub fn wants(self, way: crate::packet::Way) -> bool {
        use crate::packet::Way;
        match self {
            Direction::InOut => true,
            Direction::None => false,
            Direction::In => way == Way::In,
            Direction::Out => way == Way::Out,
        }
    }
}

/// Packet counters of a backend, all running totals since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets that passed the tap, before the filter; present where it can be known.
    pub received: Option<u64>,
    /// Packets lost for want of room in the backend's own queue (the kernel ring), judged by its filter if it runs one.
    pub dropped: u64,
    /// Packets the backend's own filter rejected, as far as they are counted: all under [`Plan::Ebpf`], none under
    /// [`Plan::Cbpf`].
    pub rejected: u64,
}

/// What a backend can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// [`FilterBackend::set_promiscuous`] reaches the hardware.
    pub promiscuous: bool,
    /// Frames can be sent.
    pub inject: bool,
    /// Sent packets are seen and told apart from received ones.
    pub direction: bool,
    /// [`FilterBackend::lock_filter`] is enforced by the system.
    pub lock_filter: bool,
    /// [`Queued::Keep`]: the filter can be changed while what is queued stays.
    pub keep_queued: bool,
    /// [`Stats::received`] can be present.
    pub counts_received: bool,
    /// Time stamps can be finer than a microsecond.
    pub nanoseconds: bool,
    /// Packets are made when they are asked for: one that there is no room for must not be taken.
    pub on_demand: bool,
}

/// What [`FilterBackend::arrivals`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Packets are there for [`FilterBackend::try_batch`], unless its filter rejects them.
    Ready,
    /// None yet.
    NotYet,
    /// None any more: a file has come to its end.
    Ended,
}

/// What a tap is asked for when it is attached; everything is set before the first packet can arrive.
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// Size in bytes of one buffer of the descriptor (BIOCGBLEN): the queue holds at least twice as much, in packets.
    pub bufsize: usize,
    /// Bytes a record takes beside the packet, at least; with `bufsize` this gives the number of packets.
    pub record_overhead: usize,
    /// The read filter; `None` accepts all.
    pub filter: Option<Program>,
    /// Wanted directions.
    pub direction: Direction,
    /// Packets that the direction hides are to be counted all the same: they are handed on, or counted as rejected.
    pub counts_hidden: bool,
    /// Framing of loopback interfaces.
    pub loopback: LoopbackFraming,
    /// The way a loopback interface's packets count as.
    pub loopback_way: crate::packet::Way,
    /// Link type to present, when not the interface's default.
    pub linktype: Option<Linktype>,
    /// Every packet that is handed on has passed filter and direction, and carries its verdict: what the system does not
    /// judge is judged in this process. Else the descriptor does that.
    pub judged: bool,
}

/// Who may see an injected frame on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// Every tap of the interface, the writer's too, as a sent packet.
    ToTaps,
    /// No tap of this host (NetBSD 7 with BIOCSFEEDBACK).
    ToNobody,
    /// Taps see it as a received packet instead of a sent one, where the backend can feed it back (FreeBSD's
    /// BIOCFEEDBACK); else as `ToTaps`.
    AsReceived,
    /// Taps see it as sent, and once more as received where the backend can feed it back; else as `ToTaps`.
    SentAndReceived,
}

/// The sending half of a tap; may live on its own thread.
pub trait Inject: Send {
    /// Sends one whole frame, link header first, without blocking.
    ///
    /// # Errors
    /// The backend's; [`TapError::NoBuffers`] when it would have to wait.
    fn inject(&mut self, frame: &[u8], visible: Visible) -> Result<(), TapError>;

    /// Gives later frames this 802.1p priority (0 to 7), for interfaces that put tags on.
    ///
    /// # Errors
    /// [`TapError::Unsupported`] where there is no such thing.
    fn set_priority(&mut self, _priority: u32) -> Result<(), TapError> {
        Err(TapError::Unsupported("a frame's priority"))
    }
}

/// Waiting for a tap's next packet, apart from the tap so that others may use that meanwhile.
pub trait Waiter: Send + Sync {
    /// Returns when a packet may have arrived, after `timeout`, or early; `None` waits for ever.
    fn wait(&self, timeout: Option<Duration>);
    /// Ends every wait under way.
    fn wake(&self);
}

/// Gives a [`Batch`] its packets.
pub trait PacketSource {
    /// The next packet; what was lent before is given back.
    fn next_packet(&mut self) -> Option<Packet<'_>>;
    /// Gives back what is still lent.
    fn finish(&mut self);
}

/// Packets that are there now, lent one after the other; dropping it gives them back to the system.
pub struct Batch<'a> {
    source: &'a mut dyn PacketSource,
}

impl<'a> Batch<'a> {
    /// A batch over `source`.
    pub fn new(source: &'a mut dyn PacketSource) -> Batch<'a> {
        Batch { source }
    }

    /// The next packet, or `None` when the batch is read to its end.
    #[allow(clippy::should_implement_trait)] // the packet borrows from the batch: not an Iterator
    pub fn next(&mut self) -> Option<Packet<'_>> {
        self.source.next_packet()
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.source.finish();
    }
}

/// One system's packet tap, attached to one interface. Object-safe: packet socket, /dev/bpf, replay, loopback.
pub trait FilterBackend: Send {
    /// What kind of backend it is, for messages: `packet socket`, `replay`.
    fn name(&self) -> &'static str;

    /// The interface.
    fn interface(&self) -> &Interface;

    /// Its present state.
    ///
    /// # Errors
    /// [`TapError::Gone`] when the interface was removed.
    fn link_state(&mut self) -> Result<LinkState, TapError>;

    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;

    /// Where the filter runs now.
    fn plan(&self) -> Plan;

    /// Replaces the read filter; `None` accepts all. With [`Queued::Flush`] no packet the old filter let through comes
    /// out afterwards. May take some milliseconds.
    ///
    /// # Errors
    /// The filter could not be set; the old one stays.
    fn set_filter(&mut self, program: Option<&Program>, queued: Queued) -> Result<Plan, TapError>;

    /// Makes every later filter change fail with EPERM (SO_LOCK_FILTER), irrevocably.
    ///
    /// # Errors
    /// [`TapError::Unsupported`] where the system has no such lock.
    fn lock_filter(&mut self) -> Result<(), TapError>;

    /// Tells which packets are wanted. A backend may still hand on others: the descriptor checks each. May take some
    /// milliseconds.
    ///
    /// # Errors
    /// The system's.
    fn set_direction(&mut self, direction: Direction) -> Result<(), TapError>;

    /// Sees every frame on the wire, or only what is meant for this host; a count of one for this tap, however often asked.
    ///
    /// # Errors
    /// The system's.
    fn set_promiscuous(&mut self, on: bool) -> Result<(), TapError>;

    /// Nobody uses it any more, though closing it may come later: it is promiscuous no longer, and not counted as attached.
    fn retire(&mut self) {
        // it is gone, or it was not promiscuous: as wanted
        let _ = self.set_promiscuous(false);
    }

    /// Whether packets are there. Never blocks.
    ///
    /// # Errors
    /// As [`FilterBackend::try_batch`].
    fn arrivals(&mut self) -> Result<Arrivals, TapError>;

    /// The packets that are there; empty when there are none. Never blocks.
    ///
    /// # Errors
    /// [`TapError::Gone`] once the interface was removed and every packet before that was handed on.
    fn try_batch(&mut self) -> Result<Batch<'_>, TapError>;

    /// A sending half.
    ///
    /// # Errors
    /// [`TapError::Unsupported`] where nothing can be sent.
    fn injector(&self) -> Result<Box<dyn Inject>, TapError>;

    /// Counters.
    ///
    /// # Errors
    /// The system's.
    fn stats(&mut self) -> Result<Stats, TapError>;

    /// Bytes of the system's memory that its queue takes.
    fn memory(&self) -> usize {
        0
    }

    /// A descriptor that polls readable when packets are there, or when an event such as removal must be looked at.
    /// `None`: replay, loopback.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;

    /// How soon [`FilterBackend::try_batch`] should be called though [`FilterBackend::as_fd`] is silent (an interface
    /// that is down tells nobody of its removal). `None`: the descriptor tells everything.
    fn look_again(&self) -> Option<Duration> {
        None
    }

    /// Something to wait on for the next packet.
    ///
    /// # Errors
    /// The system's, when a file descriptor cannot be had.
    fn waiter(&self) -> Result<std::sync::Arc<dyn Waiter>, TapError>;
}

/// Where taps come from: the interfaces one can attach to.
pub trait Network: Send + Sync {
    /// Attaches a tap to the interface called `name`.
    ///
    /// # Errors
    /// [`TapError::NoSuchInterface`], [`TapError::Permission`], or the system's.
    fn attach(&self, name: &str, config: &TapConfig) -> Result<Box<dyn FilterBackend>, TapError>;

    /// The most that [`FilterBackend::memory`] of a tap attached so can be.
    fn most_memory(&self, _config: &TapConfig) -> usize {
        0
    }

    /// How many of this network's taps are attached to the interface called `name`.
    ///
    /// # Errors
    /// [`TapError::NoSuchInterface`], or the system's.
    fn attached(&self, name: &str) -> Result<u32, TapError>;
}
