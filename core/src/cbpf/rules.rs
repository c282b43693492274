//! What the systems do differently, as data: one row a system.

/// How a validator tells a code from junk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcodes {
    /// Only the 49 of [`OPCODES`](super::code::OPCODES).
    Exact,
    /// By class, and by mode or operation; other bits are not looked at. Junk that passes rejects the packet when
    /// it is reached.
    ByClass,
}

/// What the last instruction must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// Any code of class RET.
    AnyReturn,
    /// Exactly `ret #k` or `ret a`.
    ReturnKOrA,
}

/// Where an indirect load ends up when X + k passes 2³².
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndirectWraps {
    /// On the tap's way (an mbuf chain): true loads at the wrapped offset, false rejects the packet.
    pub tap: bool,
    /// On the way of a contiguous packet, the write filter: likewise.
    pub contiguous: bool,
}

/// One system's rules for a filter: what its validator accepts and what its machine does.
///
/// A row for each system; what all systems do alike is code, not data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The system, for messages.
    pub name: &'static str,
    /// Whether a program without instructions is valid (and then accepts every packet whole).
    pub empty_accepts: bool,
    /// Most instructions.
    pub max_insns: usize,
    /// How codes are told from junk.
    pub opcodes: Opcodes,
    /// What the last instruction must be.
    pub last: Last,
    /// Whether MOD and XOR exist.
    pub mod_xor: bool,
    /// Whether `ld #random` (RND) exists.
    pub random: bool,
    /// Whether MISC codes COP and COPX are refused by name, as kernel-only; else they are junk like others.
    pub refuses_coprocessor: bool,
    /// Whether `M[k]` may be loaded on a path that never stored it (it is 0).
    pub memory_starts_zero: bool,
    /// Whether a constant shift of 32 or more is refused; else it is taken modulo 32.
    pub refuses_wide_shift: bool,
    /// Bytes: the offset k of a packet load must be below this. `None`: any offset.
    pub packet_offset_limit: Option<u32>,
    /// Whether offsets from 0x80000000 on mean something else than packet bytes: Linux's SKF_ extensions.
    #[doc(alias = "SKF_AD_OFF")]
    pub ancillary: bool,
    /// Indirect loads past 2³².
    pub indirect_wraps: IndirectWraps,
    /// Whether `ldh [k]` past the end loads 0 and goes on. Only on the tap's way: the kernel's mbuf path forgets
    /// the error.
    pub half_load_past_end_is_zero: bool,
}

impl Rules {
    const FREEBSD: Rules = Rules {
        name: "FreeBSD",
        empty_accepts: true,
        max_insns: 512,
        opcodes: Opcodes::Exact,
        last: Last::AnyReturn,
        mod_xor: true,
        random: false,
        refuses_coprocessor: false,
        memory_starts_zero: true,
        refuses_wide_shift: false,
        packet_offset_limit: None,
        ancillary: false,
        indirect_wraps: IndirectWraps { tap: true, contiguous: false },
        half_load_past_end_is_zero: true,
    };

    const OPENBSD: Rules = Rules {
        name: "OpenBSD",
        empty_accepts: false,
        opcodes: Opcodes::ByClass,
        mod_xor: false,
        random: true,
        packet_offset_limit: Some(2 << 20),
        indirect_wraps: IndirectWraps { tap: true, contiguous: true },
        half_load_past_end_is_zero: false,
        ..Rules::FREEBSD
    };
}

/// FreeBSD 13 to 15.
pub static FREEBSD: Rules = Rules::FREEBSD;

/// The `linux` dialect of the device: FreeBSD's rules, but a half-word load past the end rejects the packet as
/// every other load does.
pub static LINUX_ABI: Rules =
    Rules { name: "linux dialect", half_load_past_end_is_zero: false, ..Rules::FREEBSD };

/// NetBSD 7 to current.
pub static NETBSD: Rules = Rules {
    name: "NetBSD",
    empty_accepts: false,
    opcodes: Opcodes::ByClass,
    last: Last::ReturnKOrA,
    refuses_coprocessor: true,
    memory_starts_zero: false,
    indirect_wraps: IndirectWraps { tap: false, contiguous: false },
    half_load_past_end_is_zero: false,
    ..Rules::FREEBSD
};

/// OpenBSD 7.3.
pub static OPENBSD: Rules = Rules::OPENBSD;

/// DragonFly, kernel of 2016.
pub static DRAGONFLY: Rules = Rules {
    name: "DragonFly",
    random: false,
    packet_offset_limit: Some(512 << 10),
    indirect_wraps: IndirectWraps { tap: true, contiguous: false },
    half_load_past_end_is_zero: true,
    ..Rules::OPENBSD
};

/// macOS, xnu-11417.
pub static MACOS: Rules =
    Rules { name: "macOS", random: false, packet_offset_limit: Some(512 << 10), ..Rules::OPENBSD };

/// Linux's SO_ATTACH_FILTER.
pub static LINUX: Rules = Rules {
    name: "Linux",
    empty_accepts: false,
    max_insns: 4096,
    last: Last::ReturnKOrA,
    memory_starts_zero: false,
    refuses_wide_shift: true,
    ancillary: true,
    indirect_wraps: IndirectWraps { tap: true, contiguous: true },
    half_load_past_end_is_zero: false,
    ..Rules::FREEBSD
};

/// Every table, one a system, then the device's own dialect.
pub static ALL: [&Rules; 7] = [&FREEBSD, &NETBSD, &OPENBSD, &DRAGONFLY, &MACOS, &LINUX, &LINUX_ABI];
