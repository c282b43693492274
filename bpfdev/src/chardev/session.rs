//! All open files of a mount, and the requests on their way.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, mpsc};

use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::abi::arg::NoMemory;
use bpfdev_core::abi::{Abi, CallerMemory, Op, Request, Response};
use bpfdev_core::backend::{Network, TapError};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Caller, Finished, Task};
use bpfdev_core::time::{Clock, Moment};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::caller::{Attached, CallerNetwork, Memory, Place, Seldom};
use super::file::{File, Share};
use super::helper::{Helpers, Limits, Outbox};
use super::pump::Pump;
use super::request::{Found, Ioctl, Req};
use super::signal::{Owner, Signals};
use super::wire::{self, Channel, Header, IOCTL_32BIT, IOCTL_DIR, IoctlIn, PollIn, ReadIn, WriteIn, opcode};

/// What a session is made of.
#[derive(Clone)]
pub struct Config {
    /// Where taps come from.
    pub network: Arc<dyn Network>,
    /// The clock that packets' arrivals are stamped with too.
    pub clock: Arc<dyn Clock>,
    /// How many helper threads read callers' memory, and as many attach taps.
    pub helpers: Limits,
    /// The most the kernel asks for in one piece of a read(2), bytes: so many whole pages.
    pub max_piece: usize,
    /// Size of a page, bytes.
    pub page: usize,
}

/// A file that was opened.
#[derive(Debug)]
pub struct NewFile {
    /// The dialect of its node.
    pub abi: &'static Abi,
    /// O_WRONLY.
    pub write_only: bool,
    /// Where its readable bytes are shown.
    pub gauge: Option<Box<dyn Gauge>>,
    /// What it keeps others from, until it is released.
    pub claim: Share,
    /// What it takes of a limit, until all of it is closed, which may be a while after its release.
    pub room: Share,
}

/// Shows how many bytes of a file can be read to those who ask the kernel (FIONREAD by Linux's own number). None of it
/// blocks, and it holds from when the file is opened until it is dropped with it.
pub trait Gauge: std::fmt::Debug + Send {
    /// So many bytes.
    fn show(&self, bytes: u64);

    /// A write(2) of the file is about to be answered: the kernel takes its length for the file's.
    fn written(&self);
}

/// What helpers hand back.
enum Outcome {
    /// An argument was fetched and decoded, and an owner found if it names one.
    Parsed(Box<Ioctl>, Result<(Request, Option<Found>), Errno>),
    /// A task has run.
    Ran(Box<Ioctl>, Box<Finished>),
    /// A reply was made and written as far as the kernel does not.
    Made { unique: u64, result: Result<Vec<u8>, Errno> },
    /// A task died, and the tap with it.
    TaskLost { unique: u64, fh: u64 },
}

/// What every file works with.
pub struct Ports {
    /// The kernel.
    pub channel: Channel,
    /// Poll set and timers.
    pub pump: Pump,
    /// Who sends files' signals.
    pub signals: Signals,
    /// Files open now.
    pub files: usize,
    config: Config,
    memory: Helpers<Outcome>,
    tasks: Helpers<Outcome>,
    /// The network namespace helpers are in.
    netns: (u64, u64),
}

impl Ports {
    /// Now.
    pub fn now(&self) -> Moment {
        self.config.clock.now()
    }

    /// A piece of a read(2) of such a size may have been cut by the kernel, not by its caller: as many pages as it takes,
    /// of which the first may begin in the middle.
    pub fn cut_pieces(&self) -> std::ops::RangeInclusive<usize> {
        let max = self.config.max_piece;
        max.saturating_sub(self.config.page) + 1..=max
    }

    /// Answers an ioctl. What the kernel will not copy out is written by a helper first.
    pub fn answer(&self, ioctl: Ioctl, result: Result<Response, Errno>) {
        let unique = ioctl.unique;
        let response = match result {
            Ok(response) => response,
            Err(errno) => return self.channel.fail(unique, errno),
        };
        if !ioctl.replies_by_memory(&response) {
            return match ioctl.call.reply(&response, &ioctl.arg, &mut NoMemory) {
                Ok(bytes) => self.channel.ioctl_done(unique, &bytes),
                Err(errno) => self.channel.fail(unique, errno),
            };
        }
        let lost = Outcome::Made { unique, result: Err(Errno::Io) };
        let uid = ioctl.uid;
        let make = move || Outcome::Made { unique, result: make_reply(&ioctl, &response) };
        if self.memory.run(unique, uid, lost, make).is_err() {
            self.channel.fail(unique, Errno::Busy);
        }
    }

    /// Has a task run on a helper.
    ///
    /// # Errors
    /// No helper can be had: the task, ended without doing anything.
    pub fn run_task(
        &self,
        attached: Attached,
        ioctl: Ioctl,
        task: Task,
    ) -> Result<(), Box<(Ioctl, Finished)>> {
        let (unique, fh, uid) = (ioctl.unique, ioctl.fh, ioctl.uid);
        let place = match ioctl.call.row.op {
            Op::SetIf => Place::Thread(ioctl.tid),
            Op::AttachCount => Place::Once(ioctl.tid),
            _ => Place::Before,
        };
        let network = CallerNetwork::new(self.config.network.clone(), self.netns, place, attached);
        // Taken back when it is refused: the tap in it must not be lost.
        let (hand, taken) = mpsc::channel();
        let lost = Outcome::TaskLost { unique, fh };
        let run = move || match taken.recv() {
            Ok((ioctl, task)) => {
                let task: Task = task;
                Outcome::Ran(Box::new(ioctl), Box::new(task.run(&network)))
            }
            Err(_) => Outcome::TaskLost { unique, fh },
        };
        if self.tasks.run(unique, uid, lost, run).is_err() {
            return Err(Box::new((ioctl, task.fail(TapError::NoBuffers("helper threads")))));
        }
        // The helper waits for it, so this cannot fail.
        match hand.send((ioctl, task)) {
            Ok(()) => Ok(()),
            Err(mpsc::SendError((ioctl, task))) => {
                Err(Box::new((ioctl, task.fail(TapError::NoBuffers("helper threads")))))
            }
        }
    }
}

/// Every open file of one mount, driven by one thread.
pub struct Session {
    ports: Ports,
    files: HashMap<u64, File>,
    /// Ioctls whose argument is being fetched: their file knows nothing of them yet.
    fetching: HashSet<u64>,
    outcomes: mpsc::Receiver<Outcome>,
    wake: Arc<EventFd>,
}

impl Session {
    /// A session without files, over the kernel's end `channel`.
    ///
    /// # Errors
    /// No descriptor or thread can be had, or /proc is not mounted.
    pub fn new(channel: Channel, config: Config) -> io::Result<Session> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let (outbox, outcomes) = Outbox::new(wake.clone());
        let netns = Namespace::of_this_thread().and_then(|ns| ns.id()).map_err(io::Error::other)?;
        let ports = Ports {
            channel,
            pump: Pump::new()?,
            signals: Signals::default(),
            files: 0,
            memory: Helpers::new("memory", config.helpers, outbox.clone()),
            tasks: Helpers::new("task", config.helpers, outbox),
            config,
            netns,
        };
        Ok(Session { ports, files: HashMap::new(), fetching: HashSet::new(), outcomes, wake })
    }

    /// The kernel's end.
    pub fn channel(&self) -> &Channel {
        &self.ports.channel
    }

    /// Has the kernel's end reported under `key` when it has requests.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn watch_device(&self, key: u64) -> io::Result<()> {
        self.ports.pump.watch_always(&self.ports.channel, key)
    }

    /// Poll set and timers. Files are in it under their numbers.
    pub fn pump(&mut self) -> &mut Pump {
        &mut self.ports.pump
    }

    /// Readable when helpers have handed something back: then [`Session::helpers_done`].
    pub fn helpers_fd(&self) -> Arc<EventFd> {
        self.wake.clone()
    }

    /// Now.
    pub fn now(&self) -> Moment {
        self.ports.now()
    }

    /// Files open now.
    pub fn open_files(&self) -> usize {
        self.files.len()
    }

    /// A file is open, `fh` its number; to be called before the reply to its OPEN leaves.
    pub fn opened(&mut self, fh: u64, header: &Header, new: NewFile) {
        let interface = tracing::field::Empty;
        let abi = new.abi.name;
        let span = tracing::info_span!("file", fh, abi, pid = header.pid, uid = header.uid, interface);
        tracing::debug!(parent: &span, "opened");
        self.files.insert(fh, File::new(fh, new, span));
        self.ports.files = self.files.len();
    }

    /// The file was closed for the last time. `false`: it is not one of ours.
    pub fn released(&mut self, fh: u64) -> bool {
        let Some(file) = self.files.remove(&fh) else { return false };
        self.ports.files = self.files.len();
        tracing::debug!(parent: &file.span, "closed");
        file.release(Errno::BadF, &mut self.ports);
        true
    }

    /// Takes a READ, WRITE, IOCTL, POLL or INTERRUPT.
    pub fn request(&mut self, header: &Header, body: &[u8]) {
        if self.dispatch(header, body).is_none() {
            tracing::error!(?header, "a request of this length is not understood");
            self.ports.channel.fail(header.unique, Errno::Io);
        }
    }

    /// `None`: the body is too short.
    fn dispatch(&mut self, header: &Header, body: &[u8]) -> Option<()> {
        let unique = header.unique;
        match header.opcode {
            opcode::READ => {
                let read = ReadIn::parse(body)?;
                self.apply(read.fh, Req::Read { unique, read });
            }
            opcode::WRITE => {
                let (write, data) = WriteIn::parse(body)?;
                self.apply(write.fh, Req::Write { unique, data: Cow::Borrowed(data) });
            }
            opcode::POLL => {
                let poll = PollIn::parse(body)?;
                self.apply(poll.fh, Req::Poll { unique, poll });
            }
            opcode::IOCTL => {
                let (ioctl, arg) = IoctlIn::parse(body)?;
                self.ioctl(header, ioctl, arg);
            }
            // It has no reply of its own: it ends another request, or comes too late.
            opcode::INTERRUPT => self.interrupt(wire::first_u64(body)?),
            _ => self.ports.channel.fail(unique, Errno::Io),
        }
        Some(())
    }

    fn apply(&mut self, fh: u64, req: Req<'_>) {
        let now = self.ports.now();
        match self.files.get_mut(&fh) {
            Some(file) => {
                let span = file.span.clone();
                let _in_file = span.enter();
                file.request(req, &mut self.ports, now);
            }
            None => {
                let unique = match req {
                    Req::Read { unique, .. } | Req::Write { unique, .. } | Req::Poll { unique, .. } => unique,
                    Req::Ioctl { ioctl, .. } => ioctl.unique,
                };
                self.ports.channel.fail(unique, Errno::BadF);
            }
        }
    }

    fn ioctl(&mut self, header: &Header, ioctl: IoctlIn, arg: &[u8]) {
        let unique = header.unique;
        if ioctl.flags & IOCTL_DIR != 0 {
            return self.ports.channel.fail(unique, Errno::NoTty);
        }
        let Some(file) = self.files.get(&ioctl.fh) else {
            return self.ports.channel.fail(unique, Errno::BadF);
        };
        let call = file.abi().decode_or_refuse(ioctl.cmd);
        let caller = Caller {
            ilp32: ioctl.flags & IOCTL_32BIT != 0,
            ilp32_request: call.is_ilp32(),
            root: header.uid == 0,
            while_locked: Some(call.row.while_locked),
        };
        let ioctl = Ioctl {
            unique,
            fh: ioctl.fh,
            tid: header.pid,
            uid: header.uid,
            call,
            caller,
            address: ioctl.arg,
            arg: arg.to_vec(),
            out_size: ioctl.out_size as usize,
        };
        let copied = call.arg_in() <= ioctl.arg.len();
        let names_owner = matches!(call.row.op, Op::SetOwn | Op::SetPgrp);
        if copied && !call.needs_memory() && !names_owner {
            return match call.parse(&ioctl.arg, &mut NoMemory) {
                Ok(request) => self.apply(ioctl.fh, Req::Ioctl { ioctl, request, found: None }),
                Err(errno) => self.ports.channel.fail(unique, errno),
            };
        }
        if header.pid == 0 {
            static SAID: Seldom = Seldom::new();
            if SAID.may_say() {
                tracing::warn!(
                    request = call.row.name,
                    "the caller is outside the daemon's pid namespace: neither its memory nor its numbers are known"
                );
            }
            return self.ports.channel.fail(unique, Errno::OpNotSupp);
        }
        self.fetch(ioctl);
    }

    /// Has the argument fetched from the caller's memory, or made out whom it means.
    fn fetch(&mut self, mut ioctl: Ioctl) {
        let (unique, uid) = (ioctl.unique, ioctl.uid);
        let lost = Outcome::Made { unique, result: Err(Errno::Io) };
        let fetch = move || {
            let request = fetch_request(&mut ioctl);
            Outcome::Parsed(Box::new(ioctl), request)
        };
        match self.ports.memory.run(unique, uid, lost, fetch) {
            Ok(()) => {
                self.fetching.insert(unique);
            }
            Err(_) => self.ports.channel.fail(unique, Errno::Busy),
        }
    }

    fn interrupt(&mut self, unique: u64) {
        if self.fetching.contains(&unique) {
            // Once a helper uses the caller's memory, the request is answered only after that.
            if self.ports.memory.cancel(unique) {
                self.fetching.remove(&unique);
                self.ports.channel.fail(unique, Errno::Intr);
            }
            return;
        }
        let now = self.ports.now();
        for file in self.files.values_mut() {
            if file.interrupt(unique, &mut self.ports, now) {
                return;
            }
        }
    }

    /// The tap of file `fh` reported something; `error`: not only packets.
    pub fn tap_ready(&mut self, fh: u64, error: bool) {
        let now = self.ports.now();
        if let Some(file) = self.files.get_mut(&fh) {
            file.tap_ready(error, &mut self.ports, now);
        }
    }

    /// Does what is due.
    pub fn timers(&mut self) {
        let now = self.ports.now();
        while let Some(fh) = self.ports.pump.due(now) {
            if let Some(file) = self.files.get_mut(&fh) {
                file.timer(&mut self.ports, now);
            }
        }
    }

    /// Goes on with what helpers have handed back.
    pub fn helpers_done(&mut self) {
        let _ = self.wake.read(); // only resets it; the outcomes are what counts
        while let Ok(outcome) = self.outcomes.try_recv() {
            let now = self.ports.now();
            match outcome {
                Outcome::Parsed(ioctl, request) => {
                    self.fetching.remove(&ioctl.unique);
                    match request {
                        Ok((request, found)) => {
                            self.apply(ioctl.fh, Req::Ioctl { ioctl: *ioctl, request, found });
                        }
                        Err(errno) => self.ports.channel.fail(ioctl.unique, errno),
                    }
                }
                Outcome::Ran(ioctl, finished) => match self.files.get_mut(&ioctl.fh) {
                    Some(file) => file.finished(*ioctl, *finished, &mut self.ports, now),
                    None => self.ports.channel.fail(ioctl.unique, Errno::BadF),
                },
                Outcome::Made { unique, result } => {
                    self.fetching.remove(&unique);
                    match result {
                        Ok(bytes) => self.ports.channel.ioctl_done(unique, &bytes),
                        Err(errno) => self.ports.channel.fail(unique, errno),
                    }
                }
                Outcome::TaskLost { unique, fh } => {
                    tracing::error!(
                        fh,
                        "a helper died with the tap of this file, which is of no use any more"
                    );
                    self.ports.channel.fail(unique, Errno::Io);
                    self.released(fh);
                }
            }
        }
    }

    /// The device goes away: each file is closed, and who sleeps in it learns that as of an interface that is gone.
    pub fn close_all(&mut self) {
        for (_, file) in self.files.drain() {
            file.release(Errno::NxIo, &mut self.ports);
        }
    }
}

/// Fetches and decodes an ioctl's argument, and finds the owner it names, on a helper.
fn fetch_request(ioctl: &mut Ioctl) -> Result<(Request, Option<Found>), Errno> {
    let mut memory = Memory::of(ioctl.tid).ok_or(Errno::OpNotSupp)?;
    let wanted = ioctl.call.arg_in();
    if ioctl.arg.len() < wanted {
        // A number that the kernel reads as output only: it copied nothing in.
        ioctl.arg.resize(wanted, 0);
        memory.read(ioctl.address, &mut ioctl.arg)?;
    }
    if ioctl.caller.ilp32 {
        ioctl.call.widen(&mut ioctl.arg);
    }
    let request = ioctl.call.parse(&ioctl.arg, &mut memory)?;
    let owner = match request {
        Request::SetOwn(owner) => Some(owner),
        // a number that cannot be a group's is refused when it is applied
        Request::SetPgrp(group) => group.checked_neg(),
        _ => None,
    };
    Ok((request, owner.map(|owner| Owner::find(ioctl.tid, owner))))
}

/// Makes an ioctl's reply and writes to the caller's memory what the kernel will not, on a helper.
fn make_reply(ioctl: &Ioctl, response: &Response) -> Result<Vec<u8>, Errno> {
    let mut memory = Memory::of(ioctl.tid).ok_or(Errno::OpNotSupp)?;
    let bytes = ioctl.call.reply(response, &ioctl.arg, &mut memory)?;
    if bytes.len() > ioctl.out_size {
        // A number that the kernel reads as input only.
        memory.write(ioctl.address, &bytes)?;
        return Ok(Vec::new());
    }
    Ok(bytes)
}
