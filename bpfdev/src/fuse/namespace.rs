//! The namespace plane: a directory with the nodes in it, served by fuser.
//!
//! Nothing here blocks or touches a descriptor: a file is opened by giving it a number; the character plane makes the
//! descriptor when the reply to OPEN passes it.

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, Request, TimeOrNow,
};

use super::names;

/// Largest piece of a read(2) or write(2), bytes: what the kernel takes by default (fs.fuse.max_pages_limit).
pub const MAX_WRITE: u32 = 1 << 20;

/// How a node is opened: reads go past the page cache, nothing has a position, so a blocked read holds no lock that a
/// write on the same descriptor needs; and closing is one message less.
const OPEN_FLAGS: FopenFlags = FopenFlags::FOPEN_DIRECT_IO
    .union(FopenFlags::FOPEN_STREAM)
    .union(FopenFlags::FOPEN_NONSEEKABLE)
    .union(FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES)
    .union(FopenFlags::FOPEN_NOFLUSH);

/// Nothing is cached: each lookup makes its own inode.
const TTL: Duration = Duration::ZERO;

const ROOT: u64 = 1;
/// Every inode from here on is a node; each LOOKUP gives the next, so each open has its own size and locks.
const FIRST_NODE: u64 = 1 << 32;

/// Open files, counted by both planes.
#[derive(Debug)]
pub struct Opens {
    live: AtomicUsize,
    max: usize,
}

impl Opens {
    /// None open, at most `max`.
    pub fn new(max: usize) -> Arc<Opens> {
        Arc::new(Opens { live: AtomicUsize::new(0), max })
    }

    fn take(&self) -> bool {
        let more = |live| (live < self.max).then_some(live + 1);
        self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// One file less: it was released, or could not be opened after all.
    pub fn give_back(&self) {
        let less = |live: usize| Some(live.saturating_sub(1));
        let _ = self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// The room of one open file, from its OPEN until the last of it is closed.
#[derive(Debug)]
pub struct Room(Arc<Opens>);

impl Room {
    /// The room that the file's OPEN took.
    pub fn taken(opens: &Arc<Opens>) -> Room {
        Room(opens.clone())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// Who may open the nodes. chmod(1) and chown(1) on any of them change all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The directory.
#[derive(Debug)]
pub struct Namespace {
    access: Mutex<Access>,
    made: SystemTime,
    next_node: AtomicU64,
    next_file: AtomicU64,
    opens: Arc<Opens>,
}

impl Namespace {
    /// A directory whose nodes have these permissions.
    pub fn new(access: Access, opens: Arc<Opens>) -> Namespace {
        Namespace {
            access: Mutex::new(access),
            made: SystemTime::now(),
            next_node: AtomicU64::new(FIRST_NODE),
            next_file: AtomicU64::new(1),
            opens,
        }
    }

    fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attr(&self, ino: u64) -> FileAttr {
        let access = *self.access();
        let (kind, perm, uid, gid, nlink) = match ino {
            ROOT => (FileType::Directory, 0o755, access.uid, 0, 2),
            _ => (FileType::RegularFile, access.mode, access.uid, access.gid, 1),
        };
        FileAttr {
            ino: INodeNo(ino),
            size: 0,
            blocks: 0,
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
            crtime: self.made,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Namespace {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        match config.set_max_write(MAX_WRITE) {
            Ok(_) => Ok(()),
            Err(nearest) => {
                Err(io::Error::other(format!("max_write of {MAX_WRITE} refused, {nearest} offered")))
            }
        }
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent.0 != ROOT || !name.to_str().is_some_and(names::is_node) {
            return reply.error(Errno::ENOENT);
        }
        let node = self.next_node.fetch_add(1, Ordering::Relaxed);
        reply.entry(&TTL, &self.attr(node), Generation(0));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if ino.0 != ROOT && ino.0 < FIRST_NODE {
            return reply.error(Errno::ENOENT);
        }
        reply.attr(&TTL, &self.attr(ino.0));
    }

    // The kernel has checked that the caller may (default_permissions). A truncation (`>`) changes nothing.
    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if ino.0 == ROOT && (mode.is_some() || uid.is_some() || gid.is_some()) {
            return reply.error(Errno::EPERM);
        }
        {
            let mut access = self.access();
            if let Some(mode) = mode.and_then(|mode| u16::try_from(mode & 0o777).ok()) {
                access.mode = mode;
            }
            access.uid = uid.unwrap_or(access.uid);
            access.gid = gid.unwrap_or(access.gid);
        }
        reply.attr(&TTL, &self.attr(ino.0));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if ino.0 < FIRST_NODE {
            return reply.error(Errno::EISDIR);
        }
        if !self.opens.take() {
            return reply.error(Errno::EMFILE);
        }
        let fh = self.next_file.fetch_add(1, Ordering::Relaxed);
        reply.opened(FileHandle(fh), OPEN_FLAGS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let dots = [".", ".."].into_iter().map(|name| (FileType::Directory, name.to_owned()));
        let nodes = names::all().map(|name| (FileType::RegularFile, name));
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for ((kind, name), next) in dots.chain(nodes).zip(1u64..).skip(from) {
            // The number is a stand-in: an inode is made when the name is looked up.
            if reply.add(INodeNo(next), next, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    // As a devfs: names come from the device, not from those who use it.
    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }
    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }
    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EPERM);
    }
    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }
    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }
    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EPERM);
    }
}
