//! Differences that are known. Each must still be there: one that is not any more fails its case.

use super::case::matches;

/// A declared difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Targets it is for; `*` stands for anything.
    pub targets: &'static [&'static str],
    /// Cases it is for; `*` stands for anything.
    pub case: &'static str,
    /// What is seen; anything else is a failure like others.
    pub seen: &'static str,
    /// Why it is so (DIFFERENCES.md has the same).
    pub reason: &'static str,
}

impl Gap {
    /// Whether it is for this case on this target.
    pub fn is_for(&self, target: &str, case: &str) -> bool {
        self.targets.iter().any(|pattern| matches(pattern, target)) && matches(self.case, case)
    }
}

/// Targets over Linux's interfaces whose system feeds frames back.
const ON_WIRE_WITH_FEEDBACK: &[&str] = &[
    "packet-socket:linux",
    "packet-socket:freebsd",
    "packet-socket:dragonfly",
    "device:linux",
    "device:freebsd",
    "device:dragonfly",
    "cuse:linux",
    "cuse:freebsd",
    "cuse:dragonfly",
];

/// Targets whose files are Linux's.
const NODES: &[&str] = &["device:*", "cuse:*"];

/// Every declared difference, by case.
pub const GAPS: &[Gap] = &[
    Gap {
        targets: &["emulated:openbsd", "packet-socket:openbsd", "device:openbsd", "cuse:openbsd"],
        case: "ioctl::drop_without_capture",
        seen: "EOPNOTSUPP",
        reason: "packets would have to be taken away from the host",
    },
    Gap {
        targets: &["cuse:*"],
        case: "filter::unreadable",
        seen: "EFAULT",
        reason: "through CUSE the kernel reads the caller's memory for the daemon, and answers by itself when it cannot",
    },
    Gap {
        targets: NODES,
        case: "read::zero_bytes",
        seen: "0 bytes",
        reason: "Linux's VFS answers a read of no bytes before the file system is asked",
    },
    Gap {
        targets: &["packet-socket:macos", "device:macos", "cuse:macos"],
        case: "write::one_too_many",
        seen: "EMSGSIZE",
        reason: "a packet socket takes no frame longer than the interface's MTU and its link header",
    },
    Gap {
        targets: ON_WIRE_WITH_FEEDBACK,
        case: "write::feedback_received_only",
        seen: "EAGAIN",
        reason: "a packet socket cannot put a frame into an interface's input",
    },
    Gap {
        targets: NODES,
        case: "write::zero_bytes_without_interface",
        seen: "0",
        reason: "Linux's VFS answers a write of no bytes before the file system is asked",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{cases, system::System};

    #[test]
    fn every_gap_is_for_a_case_and_a_target_of_ours() {
        let cases = cases::all();
        let kinds = ["emulated", "packet-socket", "device", "cuse"];
        let names = kinds.map(|kind| System::ALL.map(|system| format!("{kind}:{}", system.name())));
        for gap in GAPS {
            assert!(cases.iter().any(|case| matches(gap.case, &case.id)), "{gap:?}");
            for target in gap.targets {
                assert!(names.as_flattened().iter().any(|name| matches(target, name)), "{gap:?}");
            }
        }
    }
}
