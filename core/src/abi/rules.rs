//! The rules in which the systems differ (semantics.md's columns), beside numbers and layouts.

use std::time::Duration;

use crate::packet::Way;

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

/// Which time-outs are refused with EINVAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimevalCheck {
    /// Negative, microseconds outside a second, or more than this many seconds.
    UpTo(i64),
    /// Negative or microseconds outside a second; more than fits is clamped.
    Clamp,
    /// None: the arithmetic wraps as it did in NetBSD 7.
    None,
}

/// Values of BIOCSDIRECTION (BIOCSSEESENT is the same request).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectionRule {
    /// 0 in, 1 both, 2 out; else EINVAL.
    InInoutOut,
    /// 0 in, anything else both, given back as it was set (NetBSD before 9).
    SeeSent,
}

/// What a read of a descriptor with no interface does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unattached {
    /// ENXIO once nothing is buffered.
    NxIo,
    /// It waits like any other.
    Waits,
}

/// What a removed interface does to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Sleepers wake.
    Wakes,
    /// Sleepers stay asleep.
    Silent,
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
    /// A name without a digit is padded with '0' to 15 characters (NetBSD), so that it matches nothing.
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

/// One system's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// BIOCGBLEN of a fresh descriptor, bytes.
    pub bufsize: u32,
    /// Smallest buffer, bytes.
    pub bufsize_min: u32,
    /// Largest buffer, bytes.
    pub bufsize_max: u32,
    /// BIOCSRTIMEOUT.
    pub timeout: TimeoutRule,
    /// BIOCSDIRECTION.
    pub direction: DirectionRule,
    /// BIOCFEEDBACK's flag is given back as it was set; else as 0 or 1.
    pub feedback: FeedbackRule,
    /// BIOCSETIF's name.
    pub name: NameRule,
    /// Reading with no interface.
    pub unattached: Unattached,
    /// poll(2) with no interface reports everything that was asked for.
    pub unattached_polls_ready: bool,
    /// Removal of the interface.
    pub removal: Removal,
    /// BIOCSETWF drops buffers and zeroes counters.
    pub write_filter_flushes: bool,
    /// bf_len 0 with a pointer that is not null removes the filter; else EINVAL.
    pub empty_filter_ignores_pointer: bool,
    /// A write looks at IFF_UP before anything else; else only when the frame is put out.
    pub down_checked_first: bool,
    /// Ethertype 0 of a written frame becomes the payload's length.
    pub ethertype_zero_is_length: bool,
    /// Writes to a loopback interface.
    pub loopback_write: LoopbackWrite,
    /// The way a loopback interface's packets count as.
    pub loopback_way: Way,
    /// BIOCGDLTLIST copies what fits before ENOMEM.
    pub dlt_list_partial: bool,
    /// BIOCSDLT takes promiscuity up again after the change.
    pub dlt_keeps_promiscuous: bool,
    /// Every request of a 32-bit caller makes the descriptor a 32-bit one; else only those whose layout differs.
    pub any_request_marks_ilp32: bool,
    /// BIOCLOCK does not bind root.
    pub root_ignores_lock: bool,
}
