//! Descriptors of this process, over packet sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bpfdev_backend_linux::{MonotonicClock, PacketSockets};
use bpfdev_core::abi::{Abi, Request};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, EmulatedFile};

use super::super::call::{Answer, Call, Trouble};
use super::super::emulated::{Ask, O_NONBLOCK, ioctl, open_access};
use super::super::real::{Descriptors, Prepared};

struct Open {
    file: EmulatedFile,
    access: Access,
}

/// Open descriptors by name.
pub struct Sockets {
    abi: &'static Abi,
    open: BTreeMap<String, Arc<Open>>,
}

impl Sockets {
    /// None are open.
    pub fn new(abi: &'static Abi) -> Sockets {
        Sockets { abi, open: BTreeMap::new() }
    }

    fn get(&self, d: &str) -> Result<Arc<Open>, Trouble> {
        self.open.get(d).cloned().ok_or_else(|| Trouble::fail(format!("no descriptor is called {d:?}")))
    }

    fn open_device(&mut self, path: &str, flags: u32, name: &str) -> Result<Answer, Trouble> {
        if path != "/dev/bpf" {
            return Err(Trouble::Skip(format!("in this process there is no {path}, only /dev/bpf")));
        }
        let access = open_access(flags)?;
        let (network, clock) = (Arc::new(PacketSockets::default()), Arc::new(MonotonicClock));
        let file = EmulatedFile::open(self.abi, access, network, clock);
        if let Err(errno) = file.set_nonblocking(flags & O_NONBLOCK != 0) {
            return Ok(Answer::error(errno.name()));
        }
        self.open.insert(name.to_owned(), Arc::new(Open { file, access }));
        Ok(Answer { fd: true, ..Answer::ok(0) })
    }
}

impl Descriptors for Sockets {
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
                if Arc::strong_count(&self.get(d)?) > 2 {
                    let why = "in this process a descriptor another thread reads from is not closed";
                    return Err(Trouble::Skip(why.into()));
                }
                self.open.remove(d);
                Box::new(|| Answer::ok(0))
            }
            Call::Ioctl { d, cmd, arg } => {
                let (open, abi, cmd, arg) = (self.get(d)?, self.abi, *cmd, arg.clone());
                Box::new(move || {
                    let answer = ioctl(abi, &open.file, cmd, &arg);
                    // the flag of the file, which here is not the descriptor's
                    let told = answer.errno.is_none().then(|| nonblocking(abi, cmd, &arg.bytes)).flatten();
                    match told.map(|on| open.file.set_nonblocking(on)) {
                        Some(Err(errno)) => Answer::error(errno.name()),
                        _ => answer,
                    }
                })
            }
            Call::Read { d, size } => {
                let (open, size) = (self.get(d)?, *size);
                Box::new(move || {
                    if open.access == Access::Write {
                        return Answer::error(Errno::BadF.name());
                    }
                    let mut data = vec![0; size];
                    let read = open.file.read(&mut data);
                    data.truncate(read.unwrap_or(0));
                    Answer { data, ..returned(read) }
                })
            }
            Call::Write { d, frame } => {
                let (open, frame) = (self.get(d)?, frame.clone());
                Box::new(move || returned(open.file.write(&frame)))
            }
            Call::Poll { d, events, timeout } => self.wait(d, Ask::Poll { events: *events }, *timeout)?,
            Call::Select { d, sets, timeout } => self.wait(d, Ask::Select(*sets), *timeout)?,
            Call::SetFlags { d, flags } => {
                let (open, on) = (self.get(d)?, flags & O_NONBLOCK != 0);
                Box::new(move || returned(open.file.set_nonblocking(on).map(|()| 0)))
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

impl Sockets {
    fn wait(&self, d: &str, ask: Ask, timeout: Duration) -> Result<Prepared, Trouble> {
        let open = self.get(d)?;
        Ok(Box::new(move || match open.file.poll(ask.interest(), Some(timeout)) {
            Ok(ready) => ask.answer(ready),
            Err(errno) => Answer::error(errno.name()),
        }))
    }
}

/// What FIONBIO says.
fn nonblocking(abi: &Abi, cmd: u32, arg: &[u8]) -> Option<bool> {
    match abi.decode(cmd)?.parse(arg, &mut bpfdev_core::abi::arg::NoMemory).ok()? {
        Request::FionBio(value) => Some(value != 0),
        _ => None,
    }
}

fn returned(result: Result<usize, Errno>) -> Answer {
    match result {
        Ok(count) => Answer::ok(i64::try_from(count).unwrap_or(i64::MAX)),
        Err(errno) => Answer::error(errno.name()),
    }
}
