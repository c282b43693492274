//! The namespace plane: directories with the nodes in them, served by fuser.
//!
//! The top has the nodes of one dialect, and a directory for each of [`nodes::DIRECTORIES`]; each of these directories is a
//! device of its own. Nothing here blocks or touches a descriptor: a file is opened by giving it a number; the character
//! plane makes the descriptor when the reply to OPEN passes it.

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, Request, TimeOrNow,
};

use bpfdev_core::abi::Abi;

use super::inodes::{Inode, Inodes};
use super::opens::{Opening, Opens};
use super::size::HiddenName;
use crate::chardev::nodes::{self, Device};

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

/// The inode of the top; the directories below have the numbers after it.
const ROOT: u64 = 1;

/// RELEASE is one of the requests that the kernel holds back when there are too many. A node with one opener is busy until
/// it comes, so there may be as many as files.
const MAX_BACKGROUND: u16 = 1024;

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

/// The directories.
#[derive(Debug)]
pub struct Namespace {
    access: Mutex<Access>,
    made: SystemTime,
    /// The top's device first, then those of [`nodes::DIRECTORIES`].
    devices: Vec<Arc<Device>>,
    inodes: Mutex<Inodes>,
    next_file: AtomicU64,
    opens: Arc<Opens>,
    name: Arc<HiddenName>,
}

impl Namespace {
    /// Nodes with these permissions, those of `top` in the top directory, which also has the name of [`super::size`].
    pub fn new(top: &'static Abi, access: Access, opens: Arc<Opens>, name: Arc<HiddenName>) -> Namespace {
        let devices = std::iter::once(top).chain(nodes::DIRECTORIES).map(Device::new).collect();
        Namespace {
            access: Mutex::new(access),
            made: SystemTime::now(),
            devices,
            inodes: Mutex::new(Inodes::new()),
            next_file: AtomicU64::new(1),
            opens,
            name,
        }
    }

    fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inodes(&self) -> MutexGuard<'_, Inodes> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of a directory's device.
    fn directory(&self, ino: INodeNo) -> Option<usize> {
        let place = usize::try_from(ino.0.checked_sub(ROOT)?).ok()?;
        (place < self.devices.len()).then_some(place)
    }

    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        if let Some(place) = self.directory(ino) {
            let below = if place == 0 { nodes::DIRECTORIES.len() } else { 0 };
            return Some(self.directory_attr(ino, u32::try_from(2 + below).unwrap_or(2)));
        }
        self.inodes().get(ino.0).map(|inode| self.node_attr(ino, inode))
    }

    fn directory_attr(&self, ino: INodeNo, nlink: u32) -> FileAttr {
        FileAttr { kind: FileType::Directory, perm: 0o755, gid: 0, nlink, ..self.any_attr(ino) }
    }

    fn node_attr(&self, ino: INodeNo, inode: &Inode) -> FileAttr {
        FileAttr { size: inode.size.load(Ordering::SeqCst), ..self.any_attr(ino) }
    }

    fn any_attr(&self, ino: INodeNo) -> FileAttr {
        let access = *self.access();
        FileAttr {
            ino,
            size: 0,
            blocks: 0,
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
            crtime: self.made,
            kind: FileType::RegularFile,
            perm: access.mode,
            nlink: 1,
            uid: access.uid,
            gid: access.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// The inode a name stands for in a directory: another each time, where it is a node's.
    fn entry(&self, request: &Request, parent: INodeNo, name: &str) -> Result<(FileAttr, Generation), Errno> {
        let place = self.directory(parent).ok_or(Errno::ENOENT)?;
        if place == 0
            && let Some(below) = nodes::DIRECTORIES.iter().position(|abi| abi.name == name)
        {
            let ino = INodeNo(ROOT + 1 + below as u64);
            return Ok((self.directory_attr(ino, 2), Generation(0)));
        }
        if place == 0
            && let Some(number) = self.name.asks_for(request.pid(), name)
        {
            let mut inodes = self.inodes();
            let inode = inodes.look_up(number).ok_or(Errno::ENOENT)?;
            return Ok((self.node_attr(INodeNo(number), inode), Generation(inode.generation)));
        }
        let minor = self.devices.get(place).and_then(|device| device.find(name)).ok_or(Errno::ENOENT)?;
        let (number, inode) = self.inodes().add(place, minor).ok_or(Errno::ENFILE)?;
        Ok((self.node_attr(INodeNo(number), &inode), Generation(inode.generation)))
    }

    /// Opens a node's inode; gives the number of the file.
    fn open_node(&self, uid: u32, ino: INodeNo, flags: OpenFlags) -> Result<u64, Errno> {
        let inode = self.inodes().get(ino.0).cloned().ok_or(Errno::EISDIR)?;
        let device = self.devices.get(inode.device).ok_or(Errno::ENXIO)?;
        let room = self.opens.room(uid).map_err(|_| Errno::EMFILE)?;
        let claim = device.open(inode.minor).map_err(|errno| Errno::from_i32(errno.linux()))?;
        let fh = self.next_file.fetch_add(1, Ordering::Relaxed);
        let write_only = flags.acc_mode() == OpenAccMode::O_WRONLY;
        let opening = Opening { abi: device.abi, write_only, inode: ino.0, size: inode.size, claim, room };
        self.opens.put(fh, opening);
        Ok(fh)
    }
}

impl Filesystem for Namespace {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = |what: &str, nearest| io::Error::other(format!("{what} refused, {nearest} offered"));
        config.set_max_write(MAX_WRITE).map_err(|nearest| refused("max_write", nearest))?;
        config
            .set_max_background(MAX_BACKGROUND)
            .map_err(|nearest| refused("max_background", nearest.into()))?;
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str().ok_or(Errno::ENOENT).and_then(|name| self.entry(request, parent, name)) {
            Ok((attr, generation)) => reply.entry(&TTL, &attr, generation),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.inodes().forget(ino.0, lookups);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
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
        if self.directory(ino).is_some() && (mode.is_some() || uid.is_some() || gid.is_some()) {
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
        match self.attr(ino) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_node(request.uid(), ino, flags) {
            Ok(fh) => reply.opened(FileHandle(fh), OPEN_FLAGS),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(place) = self.directory(ino) else { return reply.error(Errno::ENOTDIR) };
        let directory = |name: &str| (FileType::Directory, name.to_owned());
        let below = nodes::DIRECTORIES.iter().map(|abi| abi.name).filter(|_| place == 0);
        let names = self.devices.get(place).into_iter().flat_map(|device| device.names());
        let nodes = names.map(|name| (FileType::RegularFile, name));
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let entries = [".", ".."].into_iter().chain(below).map(directory).chain(nodes);
        for ((kind, name), next) in entries.zip(1u64..).skip(from) {
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
