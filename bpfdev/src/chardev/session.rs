//! All open files of a device, the requests on their way, and the loop that drives both.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, mpsc};

use bpfdev_core::abi::{Abi, Op, Request};
use bpfdev_core::backend::Network;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::Caller;
use bpfdev_core::time::Clock;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::argument::{self, Fetch, Reach};
use super::channel::{Asker, Channel, RequestId};
use super::file::{File, Share};
use super::helper::{Limits, Outbox};
use super::ports::{Outcome, Ports};
use super::process::Process;
use super::pump::Pump;
use super::quota::Quotas;
use super::request::{Found, Ioctl, Req};
use super::seldom::Seldom;
use super::signal::Owner;
use super::status::{Asked, Inquiry, SessionStatus};
use super::wire::{self, Header, IOCTL_32BIT, IOCTL_DIR, IoctlIn, PollIn, ReadIn, WriteIn, opcode};
use crate::service::seccomp::{Guard, Role};

/// Below are the files' numbers; what else is watched has keys from here on.
pub const FRONT: u64 = 1 << 63;
/// The session's own.
const HELPERS: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// The device is gone: somebody unmounted it, or aborted the connection.
    Unmounted,
}

/// What of the loop is the transport's.
pub trait Front {
    /// What it has watched under `key`, from [`FRONT`] on, is ready. An end ends the loop.
    ///
    /// # Errors
    /// What makes it impossible to go on.
    fn ready(&mut self, session: &mut Session, key: u64, events: EpollFlags) -> io::Result<Option<End>>;
}

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
    /// What files, memory and waiting requests count in.
    pub quotas: Quotas,
    /// What system calls threads may make.
    pub guard: Guard,
    /// What helpers are to it.
    pub helper: Role,
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

/// Every open file of one device, driven by one thread.
pub struct Session {
    ports: Ports,
    files: HashMap<u64, File>,
    /// Ioctls whose argument a helper works on: their file knows nothing of them yet.
    fetching: HashSet<RequestId>,
    outcomes: mpsc::Receiver<Outcome>,
    wake: Arc<EventFd>,
    inquiry: Inquiry,
    asked: Asked,
}

impl Session {
    /// A session without files.
    ///
    /// # Errors
    /// No descriptor or thread can be had, or /proc is not mounted.
    pub fn new(config: Config) -> io::Result<Session> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let (outbox, outcomes) = Outbox::new(wake.clone());
        let ports = Ports::new(config, outbox)?;
        let (inquiry, asked) = Inquiry::new(wake.clone());
        Ok(Session { ports, files: HashMap::new(), fetching: HashSet::new(), outcomes, wake, inquiry, asked })
    }

    /// Poll set and timers. Files are in it under their numbers.
    pub fn pump(&mut self) -> &mut Pump {
        &mut self.ports.pump
    }

    /// Serves until a write to `stop`, or until `front` says that it is over; all files are closed then.
    ///
    /// # Errors
    /// What makes it impossible to go on.
    pub fn run(&mut self, stop: &EventFd, front: &mut dyn Front) -> io::Result<End> {
        let end = self.ports.enter(Role::Loop).and_then(|()| self.serve(stop, front));
        self.close_all();
        end
    }

    fn serve(&mut self, stop: &EventFd, front: &mut dyn Front) -> io::Result<End> {
        self.ports.pump.watch_always(&*self.wake, HELPERS)?;
        self.ports.pump.watch_always(stop, STOP)?;
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let now = self.ports.now();
            let count = self.ports.pump.wait(&mut events, now)?.len();
            for event in events.iter().take(count) {
                match event.data() {
                    HELPERS => self.helpers_done(),
                    STOP => return Ok(End::Stopped),
                    key if key >= FRONT => {
                        if let Some(end) = front.ready(self, key, event.events())? {
                            return Ok(end);
                        }
                    }
                    fh => {
                        let error = event.events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
                        self.tap_ready(fh, error);
                    }
                }
            }
            self.timers();
        }
    }

    /// A file is open, `fh` its number; to be called before the reply to its OPEN leaves.
    pub fn opened(&mut self, fh: u64, header: &Header, new: NewFile) {
        let interface = tracing::field::Empty;
        let abi = new.abi.name;
        let span = tracing::info_span!("file", fh, abi, pid = header.pid, uid = header.uid, interface);
        tracing::debug!(parent: &span, "opened");
        self.files.insert(fh, File::new(fh, header, new, span));
        self.ports.files = self.files.len();
        // A thread may end and leave its file to others: then this is who is shown. No interrupt has this number.
        let id = RequestId::of(fh);
        let tid = i32::try_from(header.pid).unwrap_or(0);
        let look = move || {
            let process = Process::look(tid).and_then(|process| u32::try_from(process.tgid).ok());
            Outcome::Opener { fh, process: process.unwrap_or(0) }
        };
        let _ = self.ports.memory.run(id, header.uid, Outcome::Opener { fh, process: 0 }, look);
    }

    /// The file was closed for the last time. `false`: it is not one of ours.
    pub fn released(&mut self, fh: u64) -> bool {
        let Some(file) = self.files.remove(&fh) else { return false };
        self.ports.files = self.files.len();
        tracing::debug!(parent: &file.span, "closed");
        file.release(Errno::BadF, &mut self.ports);
        true
    }

    /// Takes a READ, WRITE, IOCTL, POLL or INTERRUPT, and answers what is none of these.
    pub fn request(&mut self, channel: &Arc<Channel>, header: &Header, body: &[u8]) {
        let asker = Asker::new(channel, header);
        if self.dispatch(&asker, header, body).is_none() {
            asker.not_understood(header);
        }
    }

    /// `None`: the body is too short, or the message not known.
    fn dispatch(&mut self, asker: &Asker, header: &Header, body: &[u8]) -> Option<()> {
        let asker = asker.clone();
        match header.opcode {
            opcode::READ => {
                let read = ReadIn::parse(body)?;
                self.apply(read.fh, header.pid, Req::Read { asker, tid: header.pid, read });
            }
            opcode::WRITE => {
                let (write, data) = WriteIn::parse(body)?;
                self.apply(write.fh, header.pid, Req::Write { asker, data: Cow::Borrowed(data) });
            }
            opcode::POLL => {
                let poll = PollIn::parse(body)?;
                self.apply(poll.fh, header.pid, Req::Poll { asker, poll });
            }
            opcode::IOCTL => {
                let (ioctl, data) = IoctlIn::parse(body)?;
                self.ioctl(asker, header, ioctl, data);
            }
            // It has no reply of its own: it ends another request, or comes too late.
            opcode::INTERRUPT => self.interrupt(asker.of_the_same(wire::first_u64(body)?)),
            _ => return None,
        }
        Some(())
    }

    fn apply(&mut self, fh: u64, thread: u32, req: Req<'_>) {
        let now = self.ports.now();
        match self.files.get_mut(&fh) {
            Some(file) => {
                file.thread = thread;
                let span = file.span.clone();
                let _in_file = span.enter();
                file.request(req, &mut self.ports, now);
            }
            None => req.asker().fail(Errno::BadF),
        }
    }

    fn ioctl(&mut self, asker: Asker, header: &Header, ioctl: IoctlIn, data: &[u8]) {
        if ioctl.flags & IOCTL_DIR != 0 {
            return asker.fail(Errno::NoTty);
        }
        let Some(file) = self.files.get(&ioctl.fh) else {
            return asker.fail(Errno::BadF);
        };
        let reach = Reach::of(ioctl.flags);
        let call = reach.decode(file.abi(), ioctl.cmd);
        let caller = Caller {
            ilp32: ioctl.flags & IOCTL_32BIT != 0,
            ilp32_request: call.is_ilp32(),
            root: header.uid == 0,
            while_locked: Some(call.row.while_locked),
        };
        let mut ioctl = Ioctl {
            asker,
            fh: ioctl.fh,
            tid: header.pid,
            uid: header.uid,
            call,
            caller,
            reach,
            address: ioctl.arg,
            arg: Vec::new(),
            out_size: ioctl.out_size as usize,
        };
        match argument::fetch(&mut ioctl, data) {
            Ok(Fetch::Done(request)) if !matches!(call.row.op, Op::SetOwn | Op::SetPgrp) => {
                self.apply(ioctl.fh, ioctl.tid, Req::Ioctl { ioctl, request, found: None });
            }
            Ok(Fetch::Done(request)) => self.help(ioctl, Some(request)),
            Ok(Fetch::Helper) => self.help(ioctl, None),
            Ok(Fetch::Retry { input, output }) => ioctl.asker.ioctl_retry(&input, &output),
            Err(errno) => ioctl.asker.fail(errno),
        }
    }

    /// Has a helper fetch the argument from the caller's memory, where it is not here, and make out whom it means.
    fn help(&mut self, mut ioctl: Ioctl, request: Option<Request>) {
        if ioctl.tid == 0 {
            static SAID: Seldom = Seldom::new();
            if SAID.may_say() {
                tracing::warn!(
                    request = ioctl.call.row.name,
                    "the caller is outside the daemon's pid namespace: neither its memory nor its numbers are known"
                );
            }
            return ioctl.asker.fail(Errno::OpNotSupp);
        }
        let (asker, uid) = (ioctl.asker.clone(), ioctl.uid);
        let lost = Outcome::Made { asker: asker.clone(), result: Err(Errno::Io) };
        let fetch = move || {
            let request = request.map_or_else(|| argument::read_memory(&mut ioctl), Ok);
            let parsed = request.map(|request| {
                let found = find_owner(&request, ioctl.tid);
                (request, found)
            });
            Outcome::Parsed(Box::new(ioctl), parsed)
        };
        match self.ports.memory.run(asker.id(), uid, lost, fetch) {
            Ok(()) => {
                self.fetching.insert(asker.id());
            }
            Err(_) => asker.fail(Errno::Busy),
        }
    }

    fn interrupt(&mut self, id: RequestId) {
        if self.fetching.contains(&id) {
            // Once a helper uses the caller's memory, the request is answered only after that.
            if let Some(outcome) = self.ports.memory.cancel(id) {
                self.fetching.remove(&id);
                if let Outcome::Made { asker, .. } = outcome {
                    asker.fail(Errno::Intr);
                }
            }
            return;
        }
        let now = self.ports.now();
        for file in self.files.values_mut() {
            if file.interrupt(id, &mut self.ports, now) {
                return;
            }
        }
    }

    /// The tap of file `fh` reported something; `error`: not only packets.
    fn tap_ready(&mut self, fh: u64, error: bool) {
        let now = self.ports.now();
        if let Some(file) = self.files.get_mut(&fh) {
            file.tap_ready(error, &mut self.ports, now);
        }
    }

    /// Does what is due.
    fn timers(&mut self) {
        let now = self.ports.now();
        while let Some(fh) = self.ports.pump.due(now) {
            if let Some(file) = self.files.get_mut(&fh) {
                file.timer(&mut self.ports, now);
            }
        }
    }

    /// Who asks how the session stands; it is answered where helpers' outcomes are taken.
    pub fn inquiry(&self) -> Inquiry {
        self.inquiry.clone()
    }

    fn status(&mut self) -> SessionStatus {
        let mut files: Vec<_> = self.files.values_mut().map(File::status).collect();
        files.sort_unstable_by_key(|file| file.fh);
        let ports = &self.ports;
        SessionStatus {
            files,
            open: ports.quotas.files.usage(),
            memory: ports.quotas.memory.usage(),
            waiting: ports.quotas.waiting.usage(),
            helpers: vec![("memory", ports.memory.usage()), ("task", ports.tasks.usage())],
        }
    }

    /// Goes on with what helpers have handed back, and tells those who ask how it stands.
    fn helpers_done(&mut self) {
        let _ = self.wake.read(); // only resets it; the outcomes are what counts
        while let Ok(answer) = self.asked.try_recv() {
            let _ = answer.send(self.status()); // it may have lost patience
        }
        while let Ok(outcome) = self.outcomes.try_recv() {
            let now = self.ports.now();
            match outcome {
                Outcome::Parsed(ioctl, request) => {
                    self.fetching.remove(&ioctl.asker.id());
                    match request {
                        Ok((request, found)) => {
                            self.apply(ioctl.fh, ioctl.tid, Req::Ioctl { ioctl: *ioctl, request, found });
                        }
                        Err(errno) => ioctl.asker.fail(errno),
                    }
                }
                Outcome::Ran(ioctl, finished) => match self.files.get_mut(&ioctl.fh) {
                    Some(file) => file.finished(*ioctl, *finished, &mut self.ports, now),
                    None => ioctl.asker.fail(Errno::BadF),
                },
                Outcome::Made { asker, result } => {
                    self.fetching.remove(&asker.id());
                    match result {
                        Ok(bytes) => asker.ioctl_done(Ok(()), &bytes),
                        Err(errno) => asker.fail(errno),
                    }
                }
                Outcome::Opener { fh, process } => {
                    if let Some(file) = self.files.get_mut(&fh) {
                        file.process = process;
                    }
                }
                Outcome::TaskLost { asker, fh } => {
                    tracing::error!(
                        fh,
                        "a helper died with the tap of this file, which is of no use any more"
                    );
                    asker.fail(Errno::Io);
                    self.released(fh);
                }
            }
        }
    }

    /// The device goes away: each file is closed, and who sleeps in it learns that as of an interface that is gone.
    fn close_all(&mut self) {
        for (_, file) in self.files.drain() {
            file.release(Errno::NxIo, &mut self.ports);
        }
    }
}

/// The owner that a request names, if it names one; on a helper.
fn find_owner(request: &Request, tid: u32) -> Option<Found> {
    let owner = match *request {
        Request::SetOwn(owner) => owner,
        // a number that cannot be a group's is refused when it is applied
        Request::SetPgrp(group) => group.checked_neg()?,
        _ => return None,
    };
    Some(Owner::find(tid, owner))
}
