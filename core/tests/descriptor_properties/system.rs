//! What the test knows of each system: literals from semantics.md and abi.json, nothing imported.

/// A record header's layout: abi.json, `structs` and `bh_hdrlen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the time stamp: 16 (64-bit seconds) or 8.
    pub stamp: usize,
    /// "kernel_header_bytes".
    pub counted: usize,
    /// "alignment".
    pub align: usize,
}

const fn layout(stamp: usize, counted: usize, align: usize) -> Layout {
    Layout { stamp, counted, align }
}

impl Layout {
    /// `bh_hdrlen`: roundup(link + counted, align) - link (abi.json, "formula").
    pub fn hdrlen(self, link: usize) -> usize {
        (link + self.counted).div_ceil(self.align) * self.align - link
    }
}

/// Which requests make a descriptor a 32-bit one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// NetBSD: it is what its last caller was (sys/net/bpf.c, bpf_ioctl: bd_compat32).
    Follows,
    /// Any of a 32-bit process (DIFFERENCES.md, `linux`).
    Any,
    /// Those whose layout is a 32-bit one, unless the lock refuses them (FreeBSD's sys/net/bpf.c, bpfioctl:
    /// bd_compat32).
    Layout,
    /// None: one header for all.
    Never,
}

/// A read without an interface and with nothing buffered: semantics.md 3, "no interface: read".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unattached {
    /// ENXIO after the size check.
    NxIo,
    /// ENXIO before the size check.
    NxIoFirst,
    /// As any other.
    Waits,
}

/// One system.
#[derive(Debug)]
pub struct System {
    pub name: &'static str,
    /// semantics.md 3, "BIOCSBLEN clamp".
    pub bufsize_max: usize,
    /// semantics.md 4, "already at BIOCSBLEN": it makes new buffers, and frees those there are.
    pub size_frees_buffers: bool,
    /// semantics.md 3, "timeout granularity": a tick in nanoseconds, and whether time-outs are rounded up to ticks.
    pub tick: (u64, bool),
    pub lp64: Layout,
    pub ilp32: Layout,
    pub marks: Marks,
    pub unattached: Unattached,
    /// semantics.md 4, "non-blocking, nothing buffered": 0 instead of EWOULDBLOCK.
    pub empty_is_zero: bool,
    /// semantics.md 11: packets on lo0 count as out.
    pub loopback_out: bool,
    /// semantics.md 7: bs_recv counts before the direction test.
    pub counts_before_direction: bool,
    /// semantics.md 8: BIOCSETWF flushes and zeroes.
    pub write_filter_resets: bool,
    /// semantics.md 5: poll reports POLLOUT.
    pub polls_writable: bool,
    /// semantics.md 5: polling starts the select timer; else a packet starts the wait time-out (OpenBSD).
    pub select_timer: bool,
    /// semantics.md 4, step 4: a read keeps one absolute deadline.
    pub one_deadline: bool,
    /// semantics.md 3: root is exempt from BIOCLOCK.
    pub root_ignores_lock: bool,
    /// semantics.md 4: a packet is ignored where the buffer is smaller than its header.
    pub ignores_headless: bool,
    /// semantics.md 1: a descriptor opened O_WRONLY gets no packets until it has a real read filter.
    pub write_only_is_writer: bool,
    /// semantics.md 4: the device is revoked when its interface goes.
    pub revoked: bool,
    /// semantics.md 3: BIOCLOCK's list, by name ("BIOC" left out).
    pub while_locked: &'static [&'static str],
}

const FREEBSD_LOCK: [&str; 18] = [
    "GBLEN",
    "FLUSH",
    "GDLT",
    "GDLTLIST",
    "GETIF",
    "GRTIMEOUT",
    "SRTIMEOUT",
    "GSTATS",
    "VERSION",
    "GRSIG",
    "GHDRCMPLT",
    "STSTAMP",
    "FEEDBACK",
    "IMMEDIATE",
    "ROTZBUF",
    "LOCK",
    "FIONREAD",
    "TIOCGPGRP",
];
const NETBSD_LOCK: [&str; 14] = [
    "GBLEN",
    "FLUSH",
    "GDLT",
    "GDLTLIST",
    "GETIF",
    "GRTIMEOUT",
    "SRTIMEOUT",
    "GSTATS",
    "VERSION",
    "GHDRCMPLT",
    "IMMEDIATE",
    "LOCK",
    "FIONREAD",
    "TIOCGPGRP",
];
const OPENBSD_LOCK: [&str; 19] = [
    "GBLEN",
    "FLUSH",
    "GDLT",
    "GDLTLIST",
    "GETIF",
    "GRTIMEOUT",
    "SRTIMEOUT",
    "GSTATS",
    "VERSION",
    "GRSIG",
    "GHDRCMPLT",
    "IMMEDIATE",
    "LOCK",
    "FIONREAD",
    "TIOCGPGRP",
    "GDIRFILT",
    "SWTIMEOUT",
    "GWTIMEOUT",
    "DWTIMEOUT",
];
const DRAGONFLY_LOCK: [&str; 15] = [
    "GBLEN",
    "FLUSH",
    "GDLT",
    "GDLTLIST",
    "GETIF",
    "GRTIMEOUT",
    "SRTIMEOUT",
    "GSTATS",
    "VERSION",
    "GRSIG",
    "GHDRCMPLT",
    "IMMEDIATE",
    "LOCK",
    "FIONREAD",
    "TIOCGPGRP",
];

const FREEBSD: System = System {
    name: "freebsd",
    bufsize_max: 524_288,
    size_frees_buffers: true,
    tick: (1_000_000, true),
    lp64: layout(16, 26, 8),
    ilp32: layout(8, 18, 4),
    marks: Marks::Layout,
    unattached: Unattached::NxIo,
    empty_is_zero: false,
    loopback_out: false,
    counts_before_direction: false,
    write_filter_resets: false,
    polls_writable: true,
    select_timer: true,
    one_deadline: false,
    root_ignores_lock: false,
    ignores_headless: false,
    write_only_is_writer: true,
    revoked: false,
    while_locked: &FREEBSD_LOCK,
};

const NETBSD: System = System {
    name: "netbsd",
    bufsize_max: 1 << 20,
    size_frees_buffers: false,
    tick: (10_000_000, false),
    lp64: layout(16, 32, 8),
    ilp32: layout(8, 20, 4),
    marks: Marks::Follows,
    unattached: Unattached::Waits,
    loopback_out: true,
    write_filter_resets: true,
    write_only_is_writer: false,
    while_locked: &NETBSD_LOCK,
    ..FREEBSD
};

/// Every system, one row a dialect.
pub static SYSTEMS: [System; 7] = [
    // DIFFERENCES.md: what `linux` does otherwise than FreeBSD
    System { name: "linux", marks: Marks::Any, write_only_is_writer: false, ..FREEBSD },
    FREEBSD,
    NETBSD,
    System { name: "netbsd7", ..NETBSD },
    System {
        name: "openbsd",
        tick: (1, false),
        bufsize_max: 2 << 20,
        size_frees_buffers: false,
        lp64: layout(8, 24, 4),
        ilp32: layout(8, 24, 4),
        marks: Marks::Never,
        unattached: Unattached::NxIoFirst,
        empty_is_zero: true,
        loopback_out: true,
        counts_before_direction: true,
        write_filter_resets: true,
        polls_writable: false,
        select_timer: false,
        one_deadline: true,
        root_ignores_lock: true,
        ignores_headless: false,
        write_only_is_writer: false,
        revoked: true,
        while_locked: &OPENBSD_LOCK,
    },
    System {
        name: "dragonfly",
        tick: (10_000_000, false),
        size_frees_buffers: false,
        lp64: layout(16, 32, 8),
        ilp32: layout(16, 32, 8),
        marks: Marks::Never,
        write_filter_resets: true,
        polls_writable: false,
        write_only_is_writer: false,
        while_locked: &DRAGONFLY_LOCK,
        ..FREEBSD
    },
    System {
        name: "macos",
        tick: (10_000_000, true),
        bufsize_max: 32 << 20,
        size_frees_buffers: false,
        lp64: layout(8, 18, 4),
        ilp32: layout(8, 18, 4),
        marks: Marks::Never,
        loopback_out: true,
        ignores_headless: true,
        write_only_is_writer: false,
        while_locked: &[],
        ..FREEBSD
    },
];

/// The row of a dialect.
pub fn of(name: &str) -> &'static System {
    SYSTEMS
        .iter()
        .find(|system| system.name == name)
        .unwrap_or_else(|| panic!("{name}: a row is missing here"))
}

/// Link header of a DLT number: 14 for EN10MB, 4 for NULL and LOOP, none for raw packets.
pub fn link_header(dlt: u32) -> usize {
    match dlt {
        1 => 14,
        0 | 108 => 4,
        _ => 0,
    }
}
