//! How a session stands, for those who watch it. The loop only gathers; who asks waits on a thread of his own.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use bpfdev_core::file::{Counters, Status};
use nix::sys::eventfd::EventFd;

use super::helper;
use super::quota::Usage;

/// One open file.
#[derive(Clone, Debug)]
pub struct FileStatus {
    /// Its number.
    pub fh: u64,
    /// The thread that used it last, in our pid namespace; 0: outside of it.
    pub thread: u32,
    /// The process that opened it; 0: not known.
    pub process: u32,
    /// Who opened it.
    pub uid: u32,
    /// The dialect it speaks.
    pub dialect: &'static str,
    /// The interface it is attached to, and the network that is in.
    pub interface: Option<(String, u64)>,
    /// Where its filter runs; `None`: it has no tap, or a helper has that just now.
    pub plan: Option<&'static str>,
    /// Settings and buffers.
    pub status: Status,
    /// Packets.
    pub counters: Counters,
    /// Bytes of buffers and ring.
    pub memory: usize,
    /// Requests that wait in it.
    pub waiting: usize,
}

/// All of a session.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// Its files, by number.
    pub files: Vec<FileStatus>,
    /// Open files as they are counted.
    pub open: Usage,
    /// Memory, bytes.
    pub memory: Usage,
    /// Waiting requests.
    pub waiting: Usage,
    /// Helper threads, by what they do.
    pub helpers: Vec<(&'static str, helper::Usage)>,
}

/// Asks a session how it stands.
#[derive(Clone, Debug)]
pub struct Inquiry {
    asking: mpsc::Sender<mpsc::Sender<SessionStatus>>,
    wake: Arc<EventFd>,
}

/// The session's end.
pub type Asked = mpsc::Receiver<mpsc::Sender<SessionStatus>>;

impl Inquiry {
    /// An inquiry whose session is woken by `wake`, and what the session hears of it.
    pub fn new(wake: Arc<EventFd>) -> (Inquiry, Asked) {
        let (asking, asked) = mpsc::channel();
        (Inquiry { asking, wake }, asked)
    }

    /// Asks, and waits so long at most. `None`: the session has ended, or is busy that long.
    pub fn ask(&self, patience: Duration) -> Option<SessionStatus> {
        let (answer, answered) = mpsc::channel();
        self.asking.send(answer).ok()?;
        let _ = self.wake.write(1); // a counter near its limit is readable just the same
        answered.recv_timeout(patience).ok()
    }
}
