//! The sizes of the nodes' inodes, from which the kernel answers FIONREAD by Linux's own number.
//!
//! For a regular file that ioctl never reaches us: the answer is the size the kernel has of it, less a position that is
//! always 0 here. The kernel takes a size from each reply with attributes, and asks for them when somebody stats the file.
//! So a thread of ours does that whenever a file's readable bytes have changed: soon, not at once, and not more often than
//! the limits below allow. It is one of its own since the loops that answer it must not wait for it.
//!
//! An inode has no name it could be found by, as each LOOKUP makes a new one. So there is one more, `.inode` in the top
//! directory, for that thread alone, which says beforehand what it means by it; the inode is held by it while the file is
//! open, with no right to read (O_PATH). One name for all of them: the kernel keeps what a name meant, and with it the inode,
//! until the name is looked up again, or until memory is short.
//!
//! While it asks, the thread sleeps in our own file system, and not even SIGKILL ends that. So it has a table of descriptors of
//! its own, without the /dev/fuse that is to answer it: when the daemon is killed that one is closed, which ends the mount
//! and everybody's sleep, this thread's too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};

use crate::chardev::schedule::{self, Asking, Due};
use crate::chardev::session::Gauge;
use crate::sys;

/// A file's size is not refreshed again before so long.
const REST: Duration = Duration::from_millis(25);
/// Nor any other file's before so long: 200 a second in all.
const REST_OF_ALL: Duration = Duration::from_millis(5);
/// After a refresh the kernel's number is looked at again, without asking anybody. A write(2) that we have answered makes its
/// length the size when the writer comes to run, and of two replies under way together the kernel drops the later one.
const LOOKS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(2)];

/// A name that only the refreshing thread may look up.
const NAME: &str = ".inode";

/// What that name means.
#[derive(Debug)]
pub struct HiddenName {
    top: PathBuf,
    tid: AtomicI32,
    /// The inode that thread means by it; 0: none.
    wanted: AtomicU64,
    /// The inode that thread looked up last.
    looked_up: AtomicU64,
}

impl HiddenName {
    fn new(top: PathBuf) -> Arc<HiddenName> {
        Arc::new(HiddenName { top, tid: AtomicI32::new(0), wanted: 0.into(), looked_up: 0.into() })
    }

    /// The inode that a name in the top directory means, when it is that thread which looks it up.
    pub fn asks_for(&self, tid: u32, name: &str) -> Option<u64> {
        let ours = self.tid.load(Ordering::SeqCst);
        if ours == 0 || i32::try_from(tid) != Ok(ours) {
            return None;
        }
        let inode = Some(self.wanted.load(Ordering::SeqCst)).filter(|&inode| name == NAME && inode != 0)?;
        self.looked_up.store(inode, Ordering::SeqCst);
        Some(inode)
    }

    fn open(&self, inode: u64) -> nix::Result<OwnedFd> {
        self.looked_up.store(0, Ordering::SeqCst);
        self.wanted.store(inode, Ordering::SeqCst);
        let path = self.top.join(NAME);
        let file = open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?;
        // Something else may be mounted on top of us by now.
        if self.looked_up.load(Ordering::SeqCst) == inode { Ok(file) } else { Err(Errno::ENOENT) }
    }
}

thread_local! {
    /// The inodes that the refreshing thread holds, by their sizes' keys: descriptors of its own table, which are no other
    /// thread's to close.
    static HELD: RefCell<HashMap<u64, OwnedFd>> = RefCell::new(HashMap::new());
}

/// One open file's size.
#[derive(Debug)]
pub struct Size {
    inode: u64,
    /// Another for each: an inode may be opened twice.
    key: u64,
    /// What the inode's attributes say.
    shown: Arc<AtomicU64>,
    name: Arc<HiddenName>,
    /// The file is: the inode is let go.
    closed: AtomicBool,
    /// It is to be refreshed, and that has not begun.
    pending: AtomicBool,
    /// Looks taken since the last refresh.
    looks: AtomicU8,
    rests_until: Mutex<Instant>,
}

impl Size {
    /// Has the kernel ask for the size, if it has changed or is not what the kernel has of it; whether it was so.
    fn refresh(&self, changed: bool) -> nix::Result<bool> {
        HELD.with_borrow_mut(|held| {
            let file = match held.entry(self.key) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.name.open(self.inode)?),
            };
            if !changed && sys::known_size(file.as_fd()).ok() == Some(self.shown.load(Ordering::SeqCst)) {
                return Ok(false);
            }
            fstat(&*file)?;
            Ok(true)
        })
    }

    fn let_go(&self) {
        // An O_PATH descriptor is closed without a word to the file system.
        HELD.with_borrow_mut(|held| held.remove(&self.key));
    }

    fn next_look(&self) -> Option<Instant> {
        let look = LOOKS.get(usize::from(self.looks.fetch_add(1, Ordering::Relaxed)))?;
        Some(Instant::now() + *look)
    }
}

impl Due for Size {
    fn earliest(&self) -> Instant {
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) -> Option<Instant> {
        // From here on a change is one more refresh: what is told below is at least as new as this.
        let changed = self.pending.swap(false, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            self.let_go();
            return None;
        }
        match self.refresh(changed) {
            Ok(false) => self.next_look(),
            Ok(true) => {
                self.looks.store(0, Ordering::Relaxed);
                *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + REST;
                thread::sleep(REST_OF_ALL);
                self.next_look()
            }
            // For now: there will be descriptors or memory again.
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EINTR) => {
                self.pending.store(true, Ordering::SeqCst);
                Some(Instant::now() + LOOKS[1])
            }
            // The mount is gone.
            Err(error) => {
                tracing::debug!(inode = self.inode, %error, "the size of an inode is not refreshed");
                None
            }
        }
    }
}

/// The end of it that an open file has. Dropping it gives the inode free.
#[derive(Debug)]
pub struct SizeGauge {
    size: Arc<Size>,
    asking: Asking<Size>,
}

impl SizeGauge {
    fn ask(&self) {
        if !self.size.pending.swap(true, Ordering::SeqCst) {
            let _ = self.asking.send(self.size.clone()); // the thread lasts as long as this end
        }
    }
}

impl Gauge for SizeGauge {
    fn show(&self, bytes: u64) {
        self.size.shown.store(bytes, Ordering::SeqCst);
        self.ask();
    }

    fn written(&self) {
        self.ask();
    }
}

impl Drop for SizeGauge {
    fn drop(&mut self) {
        self.size.closed.store(true, Ordering::SeqCst);
        self.ask();
    }
}

/// Where files get their gauges.
#[derive(Debug)]
pub struct Sizes {
    name: Arc<HiddenName>,
    asking: Asking<Size>,
    keys: AtomicU64,
}

impl Sizes {
    /// Starts the thread for the mount at `top`. It ends with this and all gauges.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(top: PathBuf) -> std::io::Result<(Sizes, JoinHandle<()>)> {
        let name = HiddenName::new(top);
        let threads_name = name.clone();
        let begin = move || {
            if let Err(error) = sys::own_descriptors() {
                tracing::warn!(%error, "killed while it refreshes a size, the daemon may leave its clients asleep");
            }
            threads_name.tid.store(nix::unistd::gettid().as_raw(), Ordering::SeqCst);
        };
        let (asking, thread) = schedule::start("sizes", begin)?;
        Ok((Sizes { name, asking, keys: AtomicU64::new(0) }, thread))
    }

    /// The name of the thread.
    pub fn name(&self) -> Arc<HiddenName> {
        self.name.clone()
    }

    /// The gauge of a file that was opened by this inode, whose attributes say `shown`.
    pub fn gauge(&self, inode: u64, shown: Arc<AtomicU64>) -> SizeGauge {
        let size = Arc::new(Size {
            inode,
            key: self.keys.fetch_add(1, Ordering::Relaxed),
            shown,
            name: self.name.clone(),
            closed: false.into(),
            pending: false.into(),
            looks: AtomicU8::new(0),
            rests_until: Mutex::new(Instant::now()),
        });
        SizeGauge { size, asking: self.asking.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_itself_may_look_its_name_up() {
        let name = HiddenName::new("/nowhere".into());
        name.wanted.store(300, Ordering::SeqCst);
        assert_eq!(name.asks_for(0, NAME), None, "before it runs");
        name.tid.store(77, Ordering::SeqCst);
        assert_eq!(name.asks_for(77, NAME), Some(300));
        for (tid, text) in [(78, NAME), (0, NAME), (77, "300"), (77, ".300"), (77, "."), (u32::MAX, NAME)] {
            assert_eq!(name.asks_for(tid, text), None, "{tid} {text}");
        }
        assert_eq!(name.open(301).err(), Some(Errno::ENOENT));
        assert_eq!(name.asks_for(77, NAME), Some(301));
        name.wanted.store(0, Ordering::SeqCst);
        assert_eq!(name.asks_for(77, NAME), None, "it means none yet");
    }
}
