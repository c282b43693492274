//! Processes as /proc shows them: who they are, in which session and group, and by which numbers callers know them.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use crate::sys;

/// One process or thread, from /proc/PID/status. Numbers are those of the daemon's own namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id: its main thread's.
    pub tgid: i32,
    /// Its numbers in the pid namespaces it is in, ours first, its own last.
    pub pids: Vec<i32>,
    /// Its process group's numbers, in the same.
    pub groups: Vec<i32>,
    /// Its session; 0: one of a pid namespace outside ours.
    pub session: i32,
    /// Real, effective and saved user id.
    pub uids: [u32; 3],
    /// It has CAP_KILL over its own user namespace.
    pub cap_kill: bool,
}

impl Process {
    /// The process or thread of this number; `None`: there is none.
    pub fn look(pid: i32) -> Option<Process> {
        Process::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// Reads proc_pid_status(5).
    fn parse(status: &str) -> Option<Process> {
        fn numbers<T: std::str::FromStr>(text: &str) -> Vec<T> {
            text.split_whitespace().map_while(|number| number.parse().ok()).collect()
        }
        let field = |name: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        const CAP_KILL: u32 = 5;
        let uids: Vec<u32> = numbers(field("Uid")?);
        let capabilities = u64::from_str_radix(field("CapEff")?.trim(), 16).ok()?;
        Some(Process {
            tgid: field("Tgid")?.trim().parse().ok()?,
            pids: numbers(field("NSpid")?),
            groups: numbers(field("NSpgid")?),
            session: numbers(field("NSsid")?).first().copied()?,
            uids: uids.get(..3)?.try_into().ok()?,
            cap_kill: capabilities & (1 << CAP_KILL) != 0,
        })
    }

    /// Every process.
    pub fn all() -> impl Iterator<Item = Process> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(Process::look)
    }

    /// The numbers at the level of a caller's own pid namespace, which is `level` namespaces deep, ours being 1: process and
    /// group. `None`: it is not in so many, or not in that one.
    pub fn seen_from(&self, home: &Home) -> Option<(i32, i32)> {
        let at = home.level.checked_sub(1)?;
        let seen = (*self.pids.get(at)?, *self.groups.get(at)?);
        if at == 0 {
            return Some(seen);
        }
        let mut ns = Namespace::of(self.tgid, "pid")?;
        for _ in home.level..self.pids.len() {
            ns = ns.parent()?;
        }
        (ns == home.namespace).then_some(seen)
    }
}

/// A caller's pid namespace.
#[derive(Debug)]
pub struct Home {
    level: usize,
    namespace: Namespace,
}

impl Home {
    /// That of a process or thread which stays there meanwhile.
    pub fn of(caller: &Process, tid: i32) -> Option<Home> {
        Some(Home { level: caller.pids.len(), namespace: Namespace::of(tid, "pid")? })
    }
}

/// A user or pid namespace, held.
#[derive(Debug)]
pub struct Namespace {
    file: OwnedFd,
    id: (u64, u64),
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Namespace) -> bool {
        self.id == other.id
    }
}

impl Namespace {
    /// The one of this kind that a process is in.
    pub fn of(pid: i32, kind: &str) -> Option<Namespace> {
        Namespace::new(File::open(format!("/proc/{pid}/ns/{kind}")).ok()?)
    }

    fn new(file: File) -> Option<Namespace> {
        let meta = file.metadata().ok()?;
        Some(Namespace { id: (meta.dev(), meta.ino()), file: file.into() })
    }

    fn parent(&self) -> Option<Namespace> {
        Namespace::new(sys::parent_namespace(self.file.as_fd()).ok()?.into())
    }
}

/// Who asked for signals: what it may signal is what is signalled for it.
#[derive(Debug)]
pub struct Setter {
    uids: [u32; 2],
    /// It has CAP_KILL over this user namespace and those below.
    over: Option<Namespace>,
}

impl Setter {
    /// The credentials of a process or thread as they are now.
    pub fn of(caller: &Process, tid: i32) -> Setter {
        let over = if caller.cap_kill { Namespace::of(tid, "user") } else { None };
        Setter { uids: [caller.uids[0], caller.uids[1]], over }
    }

    /// Whether it could kill(2) that process (kernel/signal.c, kill_ok_by_cred). A security module's opinion is not asked.
    pub fn may_signal(&self, target: &Process) -> bool {
        let [real, _, saved] = target.uids;
        if self.uids.iter().any(|&uid| is_known(uid) && (uid == real || uid == saved)) {
            return true;
        }
        let Some(over) = &self.over else { return false };
        let mut ns = Namespace::of(target.tgid, "user");
        while let Some(inner) = ns {
            if inner == *over {
                return true;
            }
            ns = inner.parent();
        }
        false
    }
}

/// Where our user namespace does not know all users, those it does not know have one number in common.
fn is_known(uid: u32) -> bool {
    static ALL_KNOWN: OnceLock<bool> = OnceLock::new();
    const OVERFLOW: u32 = 65534;
    uid != OVERFLOW
        || *ALL_KNOWN.get_or_init(|| {
            fs::read_to_string("/proc/self/uid_map")
                .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh) S 1\nTgid:\t77\nPid:\t78\nUid:\t1000\t0\t1001\t1000\n\
                          NSpid:\t78\t9\nNSpgid:\t70\t1\nNSsid:\t60\t0\nCapEff:\t0000000000000020\n";

    #[test]
    fn a_status_is_read_by_its_fields() {
        let process = Process::parse(STATUS).unwrap();
        assert_eq!((process.tgid, process.session, process.cap_kill), (77, 60, true));
        assert_eq!((process.pids, process.groups), (vec![78, 9], vec![70, 1]));
        assert_eq!(process.uids, [1000, 0, 1001]);
        assert!(Process::parse("Tgid:\t1\n").is_none());
        assert!(Process::look(i32::MAX).is_none());
    }

    #[test]
    fn this_process_is_seen_as_it_is() {
        let pid = std::process::id().cast_signed();
        let this = Process::look(pid).unwrap();
        assert_eq!((this.tgid, this.groups[0]), (pid, nix::unistd::getpgrp().as_raw()));
        assert_eq!(this.session, nix::unistd::getsid(None).unwrap().as_raw());
        assert!(Process::all().any(|process| process.tgid == pid));
        let home = Home::of(&this, pid).unwrap();
        assert_eq!(this.seen_from(&home).unwrap().0, *this.pids.last().unwrap());
        assert!(Setter::of(&this, pid).may_signal(&this));
    }

    #[test]
    fn another_users_process_may_not_be_signalled() {
        let setter = Setter { uids: [1000, 1000], over: None };
        let target = |real, saved| Process { uids: [real, 0, saved], ..Process::parse(STATUS).unwrap() };
        assert!(setter.may_signal(&target(1000, 5)) && setter.may_signal(&target(5, 1000)));
        assert!(!setter.may_signal(&target(0, 0)), "the effective user is not looked at");
    }
}
