//! What the control socket says: one JSON object, which `bpfdev stat` shows.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::chardev::process::Process;
use crate::chardev::quota::Usage;
use crate::chardev::status::{FileStatus, SessionStatus};

/// How a daemon stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The program's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The dialect of the top-level nodes.
    pub dialect: String,
    /// Seconds it has served.
    pub uptime: u64,
    /// Open files, in the order they were opened in.
    pub files: Vec<File>,
    /// What there may be, and is.
    pub limits: Vec<Limit>,
    /// Helper threads.
    pub helpers: Vec<Helpers>,
}

/// One open file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its number, never used again.
    pub file: u64,
    /// The process that used it last, or opened it where the thread that used it has ended; 0 outside the daemon's pid namespace.
    pub pid: u32,
    /// That process's command; none where it has ended.
    pub command: Option<String>,
    /// Who opened it.
    pub uid: u32,
    /// The interface it is attached to.
    pub interface: Option<String>,
    /// Inode of the network namespace that is in.
    pub network: Option<u64>,
    /// The seven flags of netstat(1) -B.
    pub flags: String,
    /// Packets shown to the filter.
    pub received: u64,
    /// Packets accepted, but without room.
    pub dropped: u64,
    /// Packets accepted.
    pub matched: u64,
    /// Bytes in the store buffer.
    pub stored: usize,
    /// Bytes in the hold buffer.
    pub held: usize,
    /// Size of a buffer, bytes.
    pub buffer: usize,
    /// Bytes of its buffers and its ring.
    pub memory: usize,
    /// Where its filter runs.
    pub plan: Option<String>,
    /// The dialect it speaks.
    pub dialect: String,
    /// Requests that wait in it.
    pub waiting: usize,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Of what: `files`, `memory` (bytes), `waiting` (requests).
    pub what: String,
    /// What there is.
    pub used: usize,
    /// What there may be in all.
    pub all: usize,
    /// And for one user other than root.
    pub per_user: usize,
    /// How often more was asked for.
    pub refused: u64,
    /// What each user has.
    pub users: Vec<User>,
}

/// A user's part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// What he has.
    pub used: usize,
}

/// Threads that do one kind of thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helpers {
    /// `memory` (callers' memory) or `task` (attaching).
    pub what: String,
    /// Threads there are.
    pub threads: usize,
    /// Threads that do something.
    pub working: usize,
    /// Jobs that wait.
    pub queued: usize,
    /// Threads there may be.
    pub all: usize,
    /// And that work for one user.
    pub per_user: usize,
    /// Jobs of one user that may wait.
    pub queued_per_user: usize,
    /// Jobs that were refused.
    pub refused: u64,
}

/// What of a report does not change.
#[derive(Clone, Debug)]
pub struct About {
    /// Where the device is mounted.
    pub mount: PathBuf,
    /// The dialect of the top-level nodes.
    pub dialect: &'static str,
    /// Since when it is served.
    pub since: Instant,
}

impl Report {
    /// A report of a session. Reads /proc, so it is not for the loop.
    pub fn new(about: &About, status: SessionStatus) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            mount: about.mount.clone(),
            dialect: about.dialect.to_owned(),
            uptime: about.since.elapsed().as_secs(),
            files: status.files.into_iter().map(File::new).collect(),
            limits: vec![
                Limit::new("files", status.open),
                Limit::new("memory", status.memory),
                Limit::new("waiting", status.waiting),
            ],
            helpers: status
                .helpers
                .into_iter()
                .map(|(what, usage)| Helpers {
                    what: what.to_owned(),
                    threads: usage.threads,
                    working: usage.working,
                    queued: usage.queued,
                    all: usage.limits.threads,
                    per_user: usage.limits.per_uid,
                    queued_per_user: usage.limits.queued_per_uid,
                    refused: usage.refused,
                })
                .collect(),
        }
    }
}

impl File {
    fn new(file: FileStatus) -> File {
        let (pid, command) = process_of(file.thread, file.process);
        let (interface, network) = file.interface.unzip();
        File {
            file: file.fh,
            pid,
            command,
            uid: file.uid,
            interface,
            network,
            flags: file.status.flags(),
            received: file.counters.received,
            dropped: file.counters.dropped,
            matched: file.counters.captured,
            stored: file.status.stored,
            held: file.status.held,
            buffer: file.status.bufsize,
            memory: file.memory,
            plan: file.plan.map(str::to_owned),
            dialect: file.dialect.to_owned(),
            waiting: file.waiting,
        }
    }
}

impl Limit {
    fn new(what: &str, usage: Usage) -> Limit {
        Limit {
            what: what.to_owned(),
            used: usage.used,
            all: usage.limits.all,
            per_user: usage.limits.per_uid,
            refused: usage.refused,
            users: usage.users.into_iter().map(|(uid, used)| User { uid, used }).collect(),
        }
    }
}

/// The process of a thread, or that one where the thread has ended; and its command.
fn process_of(thread: u32, otherwise: u32) -> (u32, Option<String>) {
    let process = i32::try_from(thread).ok().filter(|&tid| tid > 0).and_then(Process::look);
    let pid = process.and_then(|process| u32::try_from(process.tgid).ok()).unwrap_or(otherwise);
    // A command is any bytes but NUL: proc_pid_comm(5).
    let command = fs::read(format!("/proc/{pid}/comm")).ok();
    (pid, command.map(|bytes| String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_shown_as_its_process() {
        let tid = nix::unistd::gettid().as_raw().cast_unsigned();
        let (pid, command) = process_of(tid, 0);
        assert_eq!(pid, std::process::id());
        assert_ne!(tid, pid, "a test runs on a thread of its own");
        assert!(command.as_ref().is_some_and(|command| !command.is_empty()));
        assert_eq!(process_of(0, 0), (0, None));
        assert_eq!(process_of(u32::MAX, pid), (pid, command));
    }
}
