//! Descriptors of a bpf node, and the system calls on them: a served one's on Linux, a BSD's own there.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bpfdev_backend_bsd::errno_of;
use bpfdev_core::abi::rules::Nodes;
use bpfdev_core::abi::{Abi, Op};
use bpfdev_core::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::select::{FdSet, select};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::sys::time::{TimeVal, TimeValLike};

use super::call::{Answer, Argument, Call, Sets, Trouble};
use super::emulated::O_NONBLOCK;
use super::real::{Descriptors, Prepared};
use super::script::pointer_field;
use crate::sys;

/// Open descriptors by name.
pub struct Files {
    abi: &'static Abi,
    dir: PathBuf,
    /// Interfaces by the recordings' name, and by the one they have here.
    names: Vec<(String, String)>,
    open: BTreeMap<String, Arc<OwnedFd>>,
}

impl Files {
    /// None are open; nodes are in `dir`, and speak `abi`.
    pub fn new(dir: &Path, abi: &'static Abi) -> Files {
        Files { abi, dir: dir.to_owned(), names: Vec::new(), open: BTreeMap::new() }
    }

    /// Calls interfaces what they are called here: pairs of the recordings' name and that.
    pub fn with_names(self, names: Vec<(String, String)>) -> Files {
        Files { names, ..self }
    }

    fn get(&self, d: &str) -> Result<Arc<OwnedFd>, Trouble> {
        self.open.get(d).cloned().ok_or_else(|| Trouble::fail(format!("no descriptor is called {d:?}")))
    }

    /// The argument with the interface's name `from` one list replaced by that `to` the other.
    fn rename(&self, cmd: u32, which: Op, arg: &mut Argument, back: bool) {
        if self.abi.decode(cmd).is_none_or(|call| call.row.op != which) {
            return;
        }
        let Some(field) = arg.bytes.get_mut(..16) else { return };
        let named = |name: &str| field.starts_with(name.as_bytes()) && field.get(name.len()) == Some(&0);
        let turned =
            self.names.iter().map(|(theirs, ours)| if back { (ours, theirs) } else { (theirs, ours) });
        if let Some((_, to)) = turned.into_iter().find(|(from, _)| named(from)) {
            field.fill(0);
            let len = to.len().min(15);
            field[..len].copy_from_slice(&to.as_bytes()[..len]);
        }
    }
}

impl Descriptors for Files {
    fn abi(&self) -> &'static Abi {
        self.abi
    }

    fn prepare(&mut self, call: &Call) -> Result<Prepared, Trouble> {
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
                let (fd, cmd, mut arg, abi) = (self.get(d)?, *cmd, arg.clone(), self.abi);
                self.rename(cmd, Op::SetIf, &mut arg, false);
                let names = Files::new(&self.dir, abi).with_names(self.names.clone());
                Box::new(move || {
                    let mut answer = ioctl(abi, &fd, cmd, arg);
                    if let Some(arg) = &mut answer.arg {
                        names.rename(cmd, Op::GetIf, arg, true);
                    }
                    answer
                })
            }
            Call::Read { size: 0, .. } if cfg!(target_os = "linux") => {
                return Err(Trouble::Unasked("Linux answers a read of 0 bytes itself".into()));
            }
            Call::Write { frame, .. } if cfg!(target_os = "linux") && frame.is_empty() => {
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
}

impl Files {
    fn close(&mut self, d: &str) -> Result<(), Trouble> {
        // a call under way in another thread has the descriptor too
        if Arc::strong_count(&self.get(d)?) > 2 {
            return Err(Trouble::Skip(
                "close(2) of a descriptor another thread reads from does not wait on Linux".into(),
            ));
        }
        self.open.remove(d);
        // A served device hears of it after close(2) has returned, but before anything that is asked of it later.
        statvfs(&self.dir)
            .map(drop)
            .map_err(|errno| Trouble::fail(format!("{}: {errno}", self.dir.display())))
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
        let try_node = |node: &str| open(&self.dir.join(node), mode | OFlag::O_CLOEXEC, Mode::empty());
        // where there is no node that clones, programs try the numbered ones
        let numbered = node == "bpf" && matches!(self.abi.rules.nodes, Nodes::OneOpenerEach { .. });
        let opened = if numbered {
            let mut tried = (0..NUMBERED).map(|number| try_node(&format!("bpf{number}")));
            tried
                .find(|result| !matches!(result, Err(nix::errno::Errno::EBUSY)))
                .unwrap_or(Err(nix::errno::Errno::EBUSY))
        } else {
            try_node(node)
        };
        Ok(match opened {
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
    // what bpf(4) never answers has no name of the core's: EIO is anything else, too
    match errno_of(&std::io::Error::from_raw_os_error(number)) {
        Errno::Io if errno != nix::errno::Errno::EIO => Answer::error(format!("{errno:?}")),
        known => Answer::error(known.name()),
    }
}

fn returned(result: nix::Result<usize>) -> Answer {
    match result {
        Ok(count) => Answer::ok(i64::try_from(count).unwrap_or(i64::MAX)),
        Err(errno) => failed(errno),
    }
}

/// More numbered nodes than this no system has.
const NUMBERED: u32 = 256;

/// More bytes than the link types of any interface take.
const LIST_MAX: usize = 1 << 16;

fn ioctl(abi: &Abi, fd: &OwnedFd, cmd: u32, arg: Argument) -> Answer {
    let Argument { mut bytes, mut pointee } = arg;
    let row = abi.decode(cmd);
    let pointer = pointer_field(abi, cmd).or_else(|| pointee.is_some().then_some(8));
    let len = pointee.as_ref().map_or(0, Vec::len);
    if let Some(list) = &mut pointee
        && row.is_some_and(|call| call.row.op == Op::GDltList)
    {
        // the count beside it may promise more room than the recording has
        list.resize(len.max(LIST_MAX), 0);
    }
    let result = sys::ioctl(fd.as_fd(), cmd, &mut bytes, pointee.as_deref_mut(), pointer);
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
