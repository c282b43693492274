//! What the header leaves out of abi.json, and why; and what it has beyond it.

use std::collections::BTreeSet;

use crate::dialect::{Dialect, rows, text};

/// Rows of abi.json that the header of these systems does not offer.
struct LeftOut {
    systems: &'static [&'static str],
    names: &'static [&'static str],
    #[allow(dead_code, reason = "for the reader")]
    why: &'static str,
}

const EVERY: &[&str] = &["freebsd", "netbsd", "openbsd", "dragonfly", "macos"];

const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        systems: &["freebsd"],
        names: &[
            "BIOCGETBUFMODE",
            "BIOCSETBUFMODE",
            "BIOCGETZMAX",
            "BIOCROTZBUF",
            "BIOCSETZBUF",
            "BPF_BUFMODE_BUFFER",
            "BPF_BUFMODE_ZBUF",
            "bpf_zbuf",
            "bpf_zbuf_header",
            "zbuf_max_pages",
        ],
        why: "zero copy: the device touches a caller's memory only during its request",
    },
    LeftOut { systems: &["freebsd"], names: &["BIOCGETIFLIST"], why: "unverified: abi.json has no number" },
    LeftOut {
        systems: &["freebsd"],
        names: &["bpf_hdr32"],
        why: "the kernel's name; a 32-bit program calls it bpf_hdr",
    },
    LeftOut {
        systems: &["openbsd"],
        names: &["bpf_hdr_before_2020_06_18"],
        why: "an older release's; not served",
    },
    LeftOut {
        systems: &["macos"],
        names: &[
            "BIOCSETUP",
            "bpf_setup_args",
            "BIOCGBATCHWRITE",
            "BIOCSBATCHWRITE",
            "BIOCGDVRTIN",
            "BIOCSDVRTIN",
        ],
        why: "refused for want of means: another descriptor's state, several packets a write, the host's input",
    },
    LeftOut {
        systems: &["macos"],
        names: &["BPF_WRITE_LEEWAY", "BPF_WRITE_MAX", "BPF_MAX_DEVICES"],
        why: "of bpf.c, not of the header",
    },
    LeftOut { systems: EVERY, names: &["FIONBIO"], why: "O_NONBLOCK of the file is seen by every read" },
    LeftOut {
        systems: &["freebsd", "netbsd", "openbsd", "dragonfly"],
        names: &["TIOCSPGRP", "TIOCGPGRP"],
        why: "older forms of FIOSETOWN and FIOGETOWN; Linux's are a terminal's",
    },
    LeftOut {
        systems: &["dragonfly", "macos"],
        names: &["SIOCGIFADDR"],
        why: "a socket answers Linux's own",
    },
    LeftOut { systems: EVERY, names: &["ifreq", "timeval"], why: "the C library's" },
    LeftOut { systems: &["netbsd"], names: &["oifreq"], why: "struct bpf_ifreq" },
];

/// The rows of abi.json that this dialect's header leaves out.
pub fn left_out(dialect: Dialect) -> BTreeSet<&'static str> {
    let lists = LEFT_OUT.iter().filter(|row| row.systems.contains(&dialect.system));
    lists.flat_map(|row| row.names).copied().collect()
}

/// Names beyond abi.json: another name for a row of it, or made of such rows.
const FILE_LAYER: &[&str] = &["BIOCFIONREAD", "BIOCFIOASYNC", "BIOCFIOSETOWN", "BIOCFIOGETOWN"];
pub const SEE_SENT: &[(&str, &str)] =
    &[("BIOCGSEESENT", "BIOCGDIRECTION"), ("BIOCSSEESENT", "BIOCSDIRECTION")];
pub const FEEDBACK: &[(&str, &str)] = &[("BIOCFEEDBACK", "BIOCSFEEDBACK")];
const TIME_FORMATS: &[&str] = &[
    "BPF_T_NORMAL",
    "BPF_T_MONOTONIC_FAST",
    "BPF_T_MICROTIME_FAST",
    "BPF_T_NANOTIME_FAST",
    "BPF_T_BINTIME_FAST",
    "BPF_T_MICROTIME_MONOTONIC",
    "BPF_T_NANOTIME_MONOTONIC",
    "BPF_T_BINTIME_MONOTONIC",
    "BPF_T_MICROTIME_MONOTONIC_FAST",
    "BPF_T_NANOTIME_MONOTONIC_FAST",
    "BPF_T_BINTIME_MONOTONIC_FAST",
];

/// Other names a system's header has for some of its requests: the name, and the row of abi.json.
pub fn aliases(dialect: Dialect) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lists: &[&[(&str, &str)]] = match dialect.system {
        "freebsd" => &[SEE_SENT],
        "netbsd" => &[SEE_SENT, FEEDBACK],
        "dragonfly" => &[FEEDBACK],
        _ => &[],
    };
    lists.iter().flat_map(|list| list.iter().copied())
}

/// Every name the header of this dialect may define.
pub fn names(dialect: Dialect) -> BTreeSet<String> {
    let abi = dialect.abi();
    let mut names: BTreeSet<String> = FILE_LAYER.iter().map(|&name| name.into()).collect();
    names.extend(aliases(dialect).map(|(name, _)| name.into()));
    let requests = abi["ioctls"].as_array().expect("ioctls");
    names.extend(requests.iter().map(|row| text(row, "name").into()));
    for key in ["constants", "dlt"] {
        names.extend(rows(&abi, key).map(|(name, _)| name.clone()));
    }
    match dialect.name {
        "freebsd" => names.extend(TIME_FORMATS.iter().map(|&name| name.into())),
        "linux" => {
            names.extend(TIME_FORMATS.iter().map(|&name| name.into()));
            names.extend(OTHER_LINK_TYPES.iter().map(|&name| name.into()));
        }
        _ => {}
    }
    for name in left_out(dialect) {
        names.remove(name);
    }
    names
}

/// Registered, but not in FreeBSD's list; in the dialect linux only.
const OTHER_LINK_TYPES: &[&str] = &[
    "DLT_HDLC",
    "DLT_IEEE802_15_4_WITHFCS",
    "DLT_SERCOS_MONITOR",
    "DLT_OPENVIZSLA",
    "DLT_EBHSCR",
    "DLT_VPP_DISPATCH",
    "DLT_DSA_TAG_BRCM",
    "DLT_DSA_TAG_BRCM_PREPEND",
    "DLT_IEEE802_15_4_TAP",
    "DLT_DSA_TAG_DSA",
    "DLT_DSA_TAG_EDSA",
    "DLT_ELEE",
    "DLT_Z_WAVE_SERIAL",
    "DLT_USB_2_0",
    "DLT_ATSC_ALP",
    "DLT_ETW",
    "DLT_NETANALYZER_NG",
    "DLT_ZBOSS_NCP",
];
