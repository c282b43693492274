//! Programs that need no traffic: they end by themselves.

use anyhow::Context;

use super::masks::{BY_NAME, Mask, NO_ANY, NO_ANY_NUMBERED, NO_CONNECTION, NO_MECHANISM, masked};
use super::scene::{Scene, lines, same};

/// One program and what it is called with.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Calls that must come to the same, after these masks.
    alike: &'static [&'static [&'static str]],
    masks: &'static [Mask],
    /// Calls that come to something else.
    other: &'static [Other],
}

/// A call that comes to something else on Linux's packet sockets than on any bpf(4): the status and the lines of both.
#[derive(Debug)]
struct Other {
    args: &'static [&'static str],
    ours: &'static [&'static str],
    native: &'static [&'static str],
    /// Why. It is said when they are not these.
    why: &'static str,
}

const NO_MONITOR_MODE: &str = "pcap-bpf.c looks at monitor mode only where <net80211/ieee80211.h> or macOS gives it one; \
                               otherwise it goes on without. pcap-linux.c asks nl80211";

/// The programs that would wait for packets of such an interface are not called with it.
const DOWN: &str =
    "BIOCSETIF takes an interface that is down, on every BSD; a packet socket cannot capture on it";

/// All of them. The interfaces: `c0` is the veth, `c9` one that is down, `nosuch` is none.
pub const PROGRAMS: &[Program] = &[
    Program { name: "findalldevstest", alike: &[&[]], masks: &[NO_ANY, NO_CONNECTION, BY_NAME], other: &[] },
    Program {
        name: "opentest",
        alike: &[
            &[],
            &["-i", "c0"],
            &["-i", "lo"],
            &["-a", "-i", "c0"],
            &["-p", "-i", "c0"],
            &["-a", "-p", "-B", "64", "-i", "c0"],
            &["-a", "-s", "100", "-i", "c0"],
            &["-a", "-s", "0", "-i", "c0"],
            // more than any buffer: bpf(4) clips it, and libpcap goes down to what is given
            &["-B", "9999999", "-i", "c0"],
            &["-i", "nosuch"],
            &["-a", "-i", "nosuch"],
            &["-i", "0123456789abcdef"],
            &["-s", "-1"],
            &["-Z"],
        ],
        masks: &[],
        other: &[
            Other {
                args: &["-I", "-i", "c0"],
                ours: &["exit status: 0", "c0 opened successfully"],
                native: &[
                    "exit status: 1",
                    "stderr: opentest: c0: That device doesn't support monitor mode",
                    "stderr: (That device doesn't support monitor mode)",
                ],
                why: NO_MONITOR_MODE,
            },
            Other {
                args: &["-i", "c9"],
                ours: &["exit status: 0", "c9 opened successfully"],
                native: &["exit status: 1", "stderr: opentest: c9: That device is not up"],
                why: DOWN,
            },
            Other {
                args: &["-i", "any"],
                ours: &[
                    "exit status: 1",
                    "stderr: opentest: any: No such device exists (No such device exists)",
                ],
                native: &["exit status: 0", "any opened successfully"],
                why: "the interface `any` is made by pcap-linux.c; no BSD has it",
            },
        ],
    },
    Program {
        name: "can_set_rfmon_test",
        alike: &[&[], &["c0"], &["lo"], &["nosuch"]],
        masks: &[],
        other: &[],
    },
    Program { name: "reactivatetest", alike: &[&[]], masks: &[], other: &[] },
    Program {
        name: "filtertest",
        alike: &[
            &[],
            &["EN10MB"],
            &["EN10MB", "tcp port 80 and not host 192.0.2.1"],
            &["-O", "EN10MB", "tcp port 80 and not host 192.0.2.1"],
            &["-s", "60", "EN10MB", "ip6"],
            &["-m", "255.255.255.0", "EN10MB", "ip broadcast"],
            &["EN10MB", "ip broadcast"],
            &["-dd", "EN10MB", "vlan 7 and udp"],
            &["-ddd", "EN10MB", "ip[2:2] > 576"],
            &["RAW", "icmp"],
            &["NULL", "udp or icmp6"],
            &["108", "ip"],
            &["IEEE802_11", "type mgt"],
            &["EN10MB", "no such word"],
            &["NOSUCH", "ip"],
        ],
        masks: &[NO_MECHANISM],
        other: &[],
    },
    Program {
        name: "writecaptest",
        alike: &[
            &["-D"],
            &["-L", "-i", "c0"],
            &["-i", "c0"],
            &["-i", "c0", "-w", "f", "-y", "NOSUCH"],
            &["-i", "c0", "-w", "f", "-y", "RAW"],
            &["-i", "nosuch", "-w", "f"],
            &["-i", "99", "-w", "f"],
            &["-i", "c0", "-w", "nosuch/f"],
            &["-s", "x"],
        ],
        masks: &[NO_ANY_NUMBERED, BY_NAME],
        other: &[Other {
            args: &["-L", "-i", "lo"],
            ours: &["exit status: 0", "NULL"],
            native: &["exit status: 0", "EN10MB"],
            why: "a BSD's loopback interface has the link type DLT_NULL, Linux's looks like Ethernet",
        }],
    },
    Program {
        name: "capturetest",
        alike: &[
            &["-i", "nosuch"],
            &["-i", "c0", "-t", "-3"],
            &["-i", "c0", "-t", "x"],
            &["-i", "c0", "icmp", "and", "foo"],
            &["-Z"],
        ],
        masks: &[],
        other: &[],
    },
    Program {
        name: "selpolltest",
        alike: &[&["-sp"], &["-t"], &["-s", "-i", "nosuch"], &["-Z"]],
        masks: &[],
        other: &[],
    },
    Program {
        name: "threadsignaltest",
        alike: &[&["-i", "nosuch"], &["-i", "c0", "foo", "bar"], &["-Z"]],
        masks: &[],
        other: &[],
    },
    Program { name: "nonblocktest", alike: &[&["-i", "nosuch"]], masks: &[], other: &[] },
];

/// Makes all calls of one program; how many.
///
/// # Errors
/// The first that differs.
pub fn check(scene: &Scene<'_>, program: &Program) -> anyhow::Result<usize> {
    for args in program.alike {
        let what = || format!("{} {}", program.name, args.join(" "));
        let both = scene.run(program.name, args).with_context(what)?;
        let [ours, native] = both.map(|finished| masked(lines(&finished), program.masks));
        same(&ours, &native).with_context(what)?;
    }
    for other in program.other {
        let what = || format!("{} {}", program.name, other.args.join(" "));
        let both = scene.run(program.name, other.args).with_context(what)?;
        let [ours, native] = both.map(|finished| lines(&finished));
        let expected = [other.ours, other.native]
            .map(|lines| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        for (said, expected, whose) in
            [(&ours, &expected[0], "ours"), (&native, &expected[1], "the native one")]
        {
            anyhow::ensure!(
                said == expected,
                "{}, {whose}: {}, where {} was expected ({})",
                what(),
                said.join(" | "),
                expected.join(" | "),
                other.why
            );
        }
    }
    Ok(program.alike.len() + program.other.len())
}
