//! What the daemon may do once it has mounted: the fewest capabilities, and no more by running another program.

use std::fmt;

use caps::{CapSet, Capability, CapsHashSet};

/// A capability that can be done without, and what stops working then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum GiveUp {
    /// CAP_SYS_ADMIN: callers in another network namespace than the daemon's cannot attach (EACCES), and the mount stays when it ends, dead, until the next start
    SysAdmin,
    /// CAP_SYS_PTRACE: only processes of the daemon's own user, and with no capability it lacks, can attach (EACCES), or (FUSE) have memory read that a pointer leads to (as if it faulted)
    SysPtrace,
    /// CAP_BPF, which CAP_SYS_ADMIN includes (give up both): filters run as classic BPF, and BIOCGSTATS counts only packets they accept, unless kernel.unprivileged_bpf_disabled is 0
    Bpf,
    /// CAP_NET_ADMIN: packets of more than 2 KiB have a queue no longer than net.core.rmem_max, and more of them are dropped
    NetAdmin,
    /// CAP_KILL: the signals of BIOCSRSIG reach only processes of the daemon's own user
    Kill,
}

impl GiveUp {
    fn capability(self) -> Capability {
        match self {
            GiveUp::SysAdmin => Capability::CAP_SYS_ADMIN,
            GiveUp::SysPtrace => Capability::CAP_SYS_PTRACE,
            GiveUp::Bpf => Capability::CAP_BPF,
            GiveUp::NetAdmin => Capability::CAP_NET_ADMIN,
            GiveUp::Kill => Capability::CAP_KILL,
        }
    }
}

/// Without it nothing can be attached.
const ALWAYS: Capability = Capability::CAP_NET_RAW;

/// All that is kept where nothing is given up.
const KEPT: [Capability; 6] = [
    ALWAYS,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_KILL,
];

/// What it takes to make a node: its group, and where /dev is no devtmpfs its name.
const FOR_NODES: [Capability; 2] = [Capability::CAP_CHOWN, Capability::CAP_MKNOD];

/// A privilege could not be given up.
#[derive(Debug)]
pub struct PrivilegeError(String);

impl fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot give up privileges: {}", self.0)
    }
}

impl std::error::Error for PrivilegeError {}

impl PrivilegeError {
    pub(crate) fn new(error: impl fmt::Display) -> PrivilegeError {
        PrivilegeError(error.to_string())
    }
}

/// Gives up every capability of this thread but those that are needed, and ever getting more by execve(2). Threads made
/// later have no more; so it is to be called before the first.
///
/// # Errors
/// The system refused.
pub fn drop_all_but_needed(given_up: &[GiveUp]) -> Result<(), PrivilegeError> {
    let gone: CapsHashSet = given_up.iter().map(|one| one.capability()).collect();
    keep_only(&KEPT.into_iter().filter(|one| !gone.contains(one)).collect())
}

/// Does the same on a thread that makes nodes and nothing else.
///
/// # Errors
/// The system refused.
pub fn keep_for_nodes() -> Result<(), PrivilegeError> {
    keep_only(&FOR_NODES.into())
}

fn keep_only(keep: &CapsHashSet) -> Result<(), PrivilegeError> {
    let failed = |error: caps::errors::CapsError| PrivilegeError::new(error);
    for one in caps::all().difference(keep) {
        // Without CAP_SETPCAP, or for one that this kernel has not: nothing is gained by it, as no program is run.
        let _ = caps::drop(None, CapSet::Bounding, *one);
    }
    let _ = caps::clear(None, CapSet::Ambient); // a kernel before 4.3 has none
    let had = caps::read(None, CapSet::Permitted).map_err(failed)?;
    let has: CapsHashSet = had.intersection(keep).copied().collect();
    caps::set(None, CapSet::Effective, &has).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &has).map_err(failed)?;
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    nix::sys::prctl::set_no_new_privs().map_err(PrivilegeError::new)?;
    let missing: Vec<_> = keep.difference(&has).map(ToString::to_string).collect();
    if !missing.is_empty() {
        tracing::info!(missing = missing.join(" "), "capabilities that were not there to be kept");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_gone_from_every_set() {
        std::thread::spawn(|| {
            let had = caps::read(None, CapSet::Permitted).unwrap();
            drop_all_but_needed(&[GiveUp::Kill, GiveUp::SysAdmin]).unwrap();
            let has = caps::read(None, CapSet::Permitted).unwrap();
            let left = KEPT.into_iter().filter(|one| {
                had.contains(one) && !matches!(one, Capability::CAP_KILL | Capability::CAP_SYS_ADMIN)
            });
            assert_eq!(has, left.collect());
            assert_eq!(caps::read(None, CapSet::Effective).unwrap(), has);
            assert!(caps::read(None, CapSet::Inheritable).unwrap().is_empty());
            assert!(nix::sys::prctl::get_no_new_privs().unwrap());
        })
        .join()
        .unwrap();
    }
}
