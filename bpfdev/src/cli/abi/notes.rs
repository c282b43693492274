//! What each table is of, and what of it nobody has verified.

use serde::Serialize;

/// What is to be said of a table beside the table.
pub(super) struct Notes {
    /// The system's name in [`bpfdev_core::abi::Abi`].
    system: &'static str,
    /// The version it was read from.
    pub about: &'static str,
    /// What was not read in that system's source.
    pub unverified: &'static [Unverified],
}

/// Something that may be otherwise on the real system.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Unverified {
    /// The requests, headers, limits and rules it is about, by their names in the sheet; "rules" stands for all rules.
    pub of: &'static [&'static str],
    /// What is not known.
    pub what: &'static str,
}

const NONE: Notes = Notes { system: "", about: "", unverified: &[] };

/// The notes to this table.
pub(super) fn of(system: &str) -> &'static Notes {
    NOTES.iter().find(|notes| notes.system == system).unwrap_or(&NONE)
}

impl Notes {
    /// Whether the row, header or rule of this name is in doubt.
    pub fn doubt(&self, kind: &str, name: &str) -> bool {
        self.unverified.iter().any(|doubt| doubt.of.contains(&name) || doubt.of.contains(&kind))
    }
}

const NOTES: &[Notes] = &[
    Notes {
        system: "linux",
        about: "this project's own: FreeBSD's requests and layouts in Linux's encoding, and in FreeBSD's",
        unverified: &[],
    },
    Notes {
        system: "freebsd",
        about: "FreeBSD 13 to main of October 2024",
        unverified: &[
            Unverified {
                of: &["BIOCGETIFLIST"],
                what: "BIOCGETIFLIST of 16-CURRENT is left out: its number and layout were not read",
            },
            Unverified { of: &["read time-out"], what: "that a time-out of more than 10^8 s is refused" },
        ],
    },
    Notes {
        system: "netbsd",
        about: "NetBSD 10 and -current",
        unverified: &[Unverified {
            of: &["loopback packets"],
            what: "that -current counts a loopback packet as sent; 7.99.34 does, by its recordings",
        }],
    },
    Notes { system: "netbsd7", about: "NetBSD 7.99.34, of which there are recordings", unverified: &[] },
    Notes { system: "openbsd", about: "OpenBSD 7.3", unverified: &[] },
    Notes {
        system: "dragonfly",
        about: "DragonFly of 2016, request numbers of later ones; amd64 only",
        unverified: &[Unverified {
            of: &["BIOCGFEEDBACK", "BIOCSFEEDBACK", "feedback"],
            what: "what BIOCSFEEDBACK does (it came after the source that was read): taken to do as FreeBSD's",
        }],
    },
    Notes {
        system: "macos",
        about: "macOS, xnu-11417 of 2025",
        unverified: &[
            Unverified { of: &["loopback write"], what: "that lo0 takes the family from the frame" },
            Unverified {
                of: &["removing a filter"],
                what: "the error for bf_len 0 with a pointer: EINVAL, or ENOMEM",
            },
        ],
    },
    Notes {
        system: "illumos",
        about: "illumos; numbers and sizes by golang.org/x/sys",
        unverified: &[
            Unverified {
                of: &["struct bpf_hdr"],
                what: "the record header: its net/bpf.h was not read, and 20 bytes are assumed to be counted",
            },
            Unverified {
                of: &["rules", "loopback framing"],
                what: "the rules: they are NetBSD's, from which its driver comes",
            },
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi::TABLES;

    #[test]
    fn every_table_has_notes() {
        for abi in TABLES {
            assert!(!of(abi.name).about.is_empty(), "{}", abi.name);
        }
        assert_eq!(NOTES.len(), TABLES.len());
    }
}
