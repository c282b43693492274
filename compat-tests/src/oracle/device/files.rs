//! Descriptors of the served node, and the system calls on them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bpfdev_core::abi::Op;
use bpfdev_core::abi::netbsd::NETBSD;
use bpfdev_core::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::select::{FdSet, select};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::sys::time::{TimeVal, TimeValLike};

use super::super::call::{Answer, Argument, Call, Sets, Trouble};
use super::super::emulated::O_NONBLOCK;
use crate::sys;

/// A system call, ready to be made on any thread.
pub type Prepared = Box<dyn FnOnce() -> Answer + Send>;

/// Open descriptors by name.
pub struct Files {
    mount: PathBuf,
    open: BTreeMap<String, Arc<OwnedFd>>,
}

impl Files {
    /// None are open; nodes are in `mount`.
    pub fn new(mount: &Path) -> Files {
        Files { mount: mount.to_owned(), open: BTreeMap::new() }
    }

    fn get(&self, d: &str) -> Result<Arc<OwnedFd>, Trouble> {
        self.open.get(d).cloned().ok_or_else(|| Trouble::fail(format!("no descriptor is called {d:?}")))
    }

    /// Makes a call ready. open(2) and close(2) are made at once.
    ///
    /// # Errors
    /// [`Trouble`]: no such descriptor, or a call that has no sense here.
    pub fn prepare(&mut self, call: &Call) -> Result<Prepared, Trouble> {
        Ok(match call {
            Call::Open { path, flags, name } => {
                let answer = self.open_device(path, *flags, name)?;
                Box::new(|| answer)
            }
            Call::Close { d } => {
                self.close(d)?;
                Box::new(|| Answer::ok(0))
            }
            Call::Ioctl { d, cmd, arg } => {
                let (fd, cmd, arg) = (self.get(d)?, *cmd, arg.clone());
                Box::new(move || ioctl(&fd, cmd, arg))
            }
            Call::Read { size: 0, .. } => {
                return Err(Trouble::Unasked("Linux answers a read of 0 bytes itself".into()));
            }
            Call::Write { frame, .. } if frame.is_empty() => {
                return Err(Trouble::Unasked("Linux answers a write of 0 bytes itself".into()));
            }
            Call::Read { d, size } => {
                let (fd, size) = (self.get(d)?, *size);
                Box::new(move || {
                    let mut data = vec![0; size];
                    let read = nix::unistd::read(&*fd, &mut data);
                    data.truncate(read.unwrap_or(0));
                    Answer { data, ..returned(read) }
                })
            }
            Call::Write { d, frame } => {
                let (fd, frame) = (self.get(d)?, frame.clone());
                Box::new(move || returned(nix::unistd::write(&*fd, &frame)))
            }
            Call::Poll { d, events, timeout } => {
                let (fd, events, timeout) = (self.get(d)?, *events, *timeout);
                // the numbers of POLLIN, POLLPRI, POLLOUT, POLLRDNORM and POLLRDBAND are the same
                let events = i16::try_from(events).ok().and_then(PollFlags::from_bits);
                let events = events.ok_or_else(|| Trouble::fail("poll events this program does not know"))?;
                Box::new(move || poll_one(&fd, events, timeout))
            }
            Call::Select { d, sets, timeout } => {
                let (fd, sets, timeout) = (self.get(d)?, *sets, *timeout);
                Box::new(move || select_one(&fd, sets, timeout))
            }
            Call::SetFlags { d, flags } => {
                let (fd, flags) = (self.get(d)?, *flags);
                Box::new(move || {
                    let mut set = OFlag::empty();
                    set.set(OFlag::O_NONBLOCK, flags & O_NONBLOCK != 0);
                    returned(fcntl(&*fd, FcntlArg::F_SETFL(set)).map(|_| 0))
                })
            }
            Call::Sleep { time } => {
                let time = *time;
                Box::new(move || {
                    std::thread::sleep(time);
                    Answer::ok(0)
                })
            }
            _ => return Err(Trouble::fail(format!("{call:?} cannot be done in a thread here"))),
        })
    }

    fn close(&mut self, d: &str) -> Result<(), Trouble> {
        // a call under way in another thread has the descriptor too
        if Arc::strong_count(&self.get(d)?) > 2 {
            return Err(Trouble::Skip(
                "close(2) of a descriptor another thread reads from does not wait on Linux".into(),
            ));
        }
        self.open.remove(d);
        // The device hears of it after close(2) has returned, but before anything that is asked of it later.
        statvfs(&self.mount).map(drop).map_err(|errno| Trouble::fail(format!("the mount: {errno}")))
    }

    fn open_device(&mut self, path: &str, flags: u32, name: &str) -> Result<Answer, Trouble> {
        let node = path.strip_prefix("/dev/").filter(|node| node.starts_with("bpf") && !node.contains('/'));
        let node = node.ok_or_else(|| Trouble::fail(format!("{path} is no node of this device's")))?;
        let mut mode = match flags & !O_NONBLOCK {
            0 => OFlag::O_RDONLY,
            1 => OFlag::O_WRONLY,
            2 => OFlag::O_RDWR,
            _ => return Err(Trouble::fail(format!("open flags {flags:#x} are not known to this program"))),
        };
        mode.set(OFlag::O_NONBLOCK, flags & O_NONBLOCK != 0);
        Ok(match open(&self.mount.join(node), mode | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(fd) => {
                self.open.insert(name.to_owned(), Arc::new(fd));
                Answer { fd: true, ..Answer::ok(0) }
            }
            Err(errno) => failed(errno),
        })
    }
}

/// The answer of a call that failed so.
pub fn failed(errno: nix::errno::Errno) -> Answer {
    let number = errno as i32;
    Answer::error(Errno::from_linux(number).map_or_else(|| format!("errno {number}"), |e| e.name().into()))
}

fn returned(result: nix::Result<usize>) -> Answer {
    match result {
        Ok(count) => Answer::ok(i64::try_from(count).unwrap_or(i64::MAX)),
        Err(errno) => failed(errno),
    }
}

/// More bytes than the link types of any interface take.
const LIST_MAX: usize = 1 << 16;

fn ioctl(fd: &OwnedFd, cmd: u32, arg: Argument) -> Answer {
    let Argument { mut bytes, mut pointee } = arg;
    let row = NETBSD.decode(cmd);
    let has_pointer = row.is_some_and(|call| call.needs_memory());
    let len = pointee.as_ref().map_or(0, Vec::len);
    if let Some(list) = &mut pointee
        && row.is_some_and(|call| call.row.op == Op::GDltList)
    {
        // the count beside it may promise more room than the recording has
        list.resize(len.max(LIST_MAX), 0);
    }
    let result = sys::ioctl(fd.as_fd(), cmd, &mut bytes, pointee.as_deref_mut(), has_pointer);
    if let Some(pointee) = &mut pointee {
        pointee.truncate(len);
    }
    let answer = match result {
        Ok(()) => Answer::ok(0),
        Err(error) => failed(nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0))),
    };
    Answer { arg: Some(Argument { bytes, pointee }), ..answer }
}

fn poll_one(fd: &OwnedFd, events: PollFlags, timeout: Duration) -> Answer {
    let mut fds = [PollFd::new(fd.as_fd(), events)];
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(count) => {
            let revents = fds[0].revents().map_or(0, |revents| u32::from(revents.bits().cast_unsigned()));
            Answer { revents: Some(revents), ..Answer::ok(i64::from(count)) }
        }
        Err(errno) => failed(errno),
    }
}

fn select_one(fd: &OwnedFd, sets: Sets, timeout: Duration) -> Answer {
    if usize::try_from(fd.as_raw_fd()).is_ok_and(|number| number >= nix::sys::select::FD_SETSIZE) {
        return failed(nix::errno::Errno::EINVAL);
    }
    let (mut read, mut write) = (FdSet::new(), FdSet::new());
    if sets.read {
        read.insert(fd.as_fd());
    }
    if sets.write {
        write.insert(fd.as_fd());
    }
    let mut timeout = TimeVal::milliseconds(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX));
    match select(None, &mut read, &mut write, None, &mut timeout) {
        Ok(count) => {
            let sets = Sets { read: read.contains(fd.as_fd()), write: write.contains(fd.as_fd()) };
            Answer { selected: Some(sets), ..Answer::ok(i64::from(count)) }
        }
        Err(errno) => failed(errno),
    }
}
