//! The rules in which the systems differ (semantics.md's columns), beside numbers and layouts.

use std::time::Duration;

use crate::errno::Errno;
use crate::linktype::Linktype;
use crate::packet::Way;

/// Which nodes a system's device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// None: the table is there to look things up.
    None,
    /// `bpf`, and so many numbered ones from `bpf0`; each open of any has its own descriptor.
    Cloning {
        /// How many.
        numbered: u32,
    },
    /// `bpf` clones; so many numbered ones have one opener each (EBUSY).
    CloningAndFixed {
        /// How many.
        fixed: u32,
    },
    /// `bpf0`, `bpf1`, …, one opener each (EBUSY); when the last is opened there is one more.
    OneOpenerEach {
        /// How many at first.
        at_first: u32,
        /// How many at most; the last one's successor is ENXIO.
        most: u32,
    },
}

/// How BIOCSRTIMEOUT's value is checked and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutRule {
    /// One clock tick: a time-out is a whole number of these.
    pub tick: Duration,
    /// Rounded up to ticks (FreeBSD) or down (NetBSD); any time but zero is at least one tick.
    pub round_up: bool,
    /// Which values are refused.
    pub check: TimevalCheck,
}

/// Which time-outs are refused; EINVAL unless said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimevalCheck {
    /// Negative, microseconds outside a second, or more than this many seconds.
    UpTo(i64),
    /// Negative or microseconds outside a second; more than fits is clamped.
    Clamp,
    /// Negative or microseconds outside a second; EOVERFLOW for what is no 64-bit number of nanoseconds.
    Nanoseconds,
    /// None: the arithmetic wraps as it did in NetBSD 7.
    None,
}

/// How the directions wanted are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectionRule {
    /// 0 in, 1 both, 2 out; else EINVAL.
    InInoutOut,
    /// 0 in, anything else both, given back as it was set (DragonFly, NetBSD before 9).
    SeeSent,
    /// A mask of what to hide: 1 what came in, 2 what went out; other bits are dropped (OpenBSD).
    HideMask,
    /// A mask of what to show: 1 what came in, 2 what went out; other bits are EINVAL (macOS).
    ShowMask,
}

/// What wakes a reader before a buffer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImmediateRule {
    /// BIOCIMMEDIATE's flag: what is stored counts at once.
    Flag,
    /// The same, and only the first byte of the argument is looked at (macOS).
    FirstByte,
    /// A wait time-out, of which BIOCIMMEDIATE sets zero or none; it begins with a packet (OpenBSD).
    WaitTimeout,
}

/// What a read of a descriptor with no interface does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unattached {
    /// ENXIO once nothing is buffered.
    NxIo,
    /// ENXIO before anything else is looked at.
    NxIoFirst,
    /// It waits like any other.
    Waits,
}

/// What poll(2) says of a descriptor with no interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnattachedPoll {
    /// Everything that was asked for.
    Ready,
    /// The same as with one.
    Same,
    /// Nothing: the event cannot be attached, and poll(2) is silent about it.
    Nothing,
}

/// How poll(2) and select(2) look at a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollRules {
    /// With no interface.
    pub unattached: UnattachedPoll,
    /// It can always be written; else never as far as poll(2) says.
    pub writable: bool,
    /// Polling starts the read time-out, and any request stops it.
    pub starts_timer: bool,
}

/// Which requests decide whether a descriptor's records are those of a 32-bit program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ilp32Rule {
    /// The first of a 32-bit caller whose layout is another than a 64-bit caller's.
    Layout,
    /// The first of a 32-bit caller.
    Any,
    /// The last, by whomever.
    Last,
}

/// What a removed interface does to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Sleepers wake, and find that there is none.
    Wakes,
    /// Sleepers stay asleep.
    Silent,
    /// The file is revoked: a sleeper gets what is buffered or EIO; later EIO, of requests EBADF, and poll(2) says POLLHUP.
    Revokes,
}

/// What BIOCFEEDBACK does with a written frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedbackRule {
    /// Seen once, as received, where the writer's direction is both; else as sent and as received.
    Once,
    /// No tap of the host sees it.
    Hidden,
}

/// How BIOCSETIF looks at the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// As it is.
    AsIs,
    /// In a name without a digit everything but letters becomes '0', up to 15 characters (NetBSD): it hardly matches then.
    NeedsUnit,
}

/// What a write to a loopback interface means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopbackWrite {
    /// The family word comes first.
    Family,
    /// EAFNOSUPPORT, after taps saw the frame behind one more family word (NetBSD before 2018).
    Refused,
}

/// A frame that no interface takes, however large its MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Largest {
    /// Length of the longest frame that is taken, bytes.
    pub bytes: usize,
    /// The error for a longer one.
    pub errno: Errno,
    /// Looked at before the MTU is.
    pub before_mtu: bool,
}

/// write(2): the checks, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteRules {
    /// IFF_UP is looked at before anything else; else only when the frame is put out.
    pub up_first: bool,
    /// Link types that can be written, and what counts as link header of each, bytes; others are EIO.
    pub linktypes: &'static [(Linktype, usize)],
    /// The error for a frame shorter than its link header.
    pub short: Errno,
    /// With the header complete, a frame has no header that it could be shorter than, and all of it counts as payload.
    pub complete_has_no_header: bool,
    /// Bytes by which the payload may be longer than the MTU.
    pub leeway: u32,
    /// The longest frame.
    pub largest: Option<Largest>,
    /// The write filter must let the whole frame pass; else anything but 0 will do.
    pub filter_passes_whole: bool,
    /// Ethertype 0 of a written frame becomes the payload's length.
    pub ethertype_zero_is_length: bool,
    /// Writes to a loopback interface.
    pub loopback: LoopbackWrite,
}

/// One system's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The nodes.
    pub nodes: Nodes,
    /// A descriptor opened O_WRONLY sees no packets before it has a read filter (bpf_check_upgrade).
    pub write_only_is_writer: bool,
    /// BIOCGBLEN of a fresh descriptor, bytes.
    pub bufsize: u32,
    /// Smallest buffer, bytes.
    pub bufsize_min: u32,
    /// Largest buffer, bytes.
    pub bufsize_max: u32,
    /// BIOCSBLEN is refused once there are buffers, attached or not.
    pub buffers_fix_bufsize: bool,
    /// BIOCSBLEN makes the buffers, new ones each time; else BIOCSETIF does, once.
    pub sblen_makes_buffers: bool,
    /// BIOCSRTIMEOUT.
    pub timeout: TimeoutRule,
    /// BIOCIMMEDIATE.
    pub immediate: ImmediateRule,
    /// BIOCSDIRECTION and its like.
    pub direction: DirectionRule,
    /// What BIOCGDIRECTION or its like says of a fresh descriptor, which sees everything.
    pub direction_default: u32,
    /// BIOCFEEDBACK; where it is 0 or 1 only, it is given back so.
    pub feedback: FeedbackRule,
    /// BIOCSETIF's name.
    pub name: NameRule,
    /// Reading with no interface.
    pub unattached: Unattached,
    /// A non-blocking read with nothing there returns 0; else EAGAIN.
    pub nothing_reads_zero: bool,
    /// A read has one deadline; else each wake-up gives it the whole time-out again.
    pub one_deadline: bool,
    /// A signal ends a read with what is buffered, if there is something.
    pub signal_gives_buffered: bool,
    /// FIONREAD counts the hold buffer.
    pub fionread_counts_hold: bool,
    /// Packets are not seen by a descriptor whose buffer is smaller than a header; else they have caplen 0.
    pub header_must_fit: bool,
    /// poll(2).
    pub poll: PollRules,
    /// Removal of the interface.
    pub removal: Removal,
    /// BIOCGSTATS counts as received what the direction hides.
    pub counts_hidden: bool,
    /// BIOCSETWF drops buffers and zeroes counters.
    pub write_filter_flushes: bool,
    /// bf_len 0 with a pointer that is not null removes the filter; else EINVAL.
    pub empty_filter_ignores_pointer: bool,
    /// Removing the read filter flushes, by BIOCSETFNR too.
    pub removing_filter_flushes: bool,
    /// write(2).
    pub write: WriteRules,
    /// The way a loopback interface's packets count as.
    pub loopback_way: Way,
    /// BIOCGDLTLIST copies what fits before ENOMEM.
    pub dlt_list_partial: bool,
    /// BIOCSDLT takes promiscuity up again after the change.
    pub dlt_keeps_promiscuous: bool,
    /// 32-bit records.
    pub ilp32: Ilp32Rule,
    /// BIOCLOCK does not bind root.
    pub root_ignores_lock: bool,
}
