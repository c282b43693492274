//! A world in this process, in simulated time: blocked calls are jobs, looked at whenever something happens, and time
//! goes from one deadline to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bpfdev_core::abi::CallerMemory;
use bpfdev_core::abi::{Abi, Request};
use bpfdev_core::backend::Visible;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, Caller, EmulatedFile, Interest, PendingRead, ReadStep, Ready};
use bpfdev_core::loopback::LoopbackNetwork;
use bpfdev_core::time::{Clock, Moment, SimulatedClock};

use super::call::{Answer, Argument, Call, Sets, Trouble, World};
use super::host::Host;
use super::mask::OWN_ADDRESS;
use super::script::pointer_field;

/// NetBSD's `O_NONBLOCK`; `O_ACCMODE` is 3 everywhere.
pub const O_NONBLOCK: u32 = 4;
/// POLLIN, POLLRDNORM.
const POLL_READ: u32 = 0x41;
/// POLLOUT, which is POLLWRNORM there.
const POLL_WRITE: u32 = 0x4;

/// The other end of the wire.
const PEER_ADDRESS: [u8; 6] = [0xb2, 0xa0, 0xee, 0xee, 0xee, 0xee];

/// A call that lasts longer than this waits for ever.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// Longest pause between events: how far a recorded time may be off; the recorder's clock has ticks of 10 ms.
const TOLERANCE: Duration = Duration::from_millis(60);

struct Open {
    file: EmulatedFile,
    access: Access,
}

/// What open(2) with these flags asks for.
///
/// # Errors
/// [`Trouble::Fail`] for flags that are not known.
pub fn open_access(flags: u32) -> Result<Access, Trouble> {
    match flags & !O_NONBLOCK {
        0 => Ok(Access::Read),
        1 => Ok(Access::Write),
        2 => Ok(Access::ReadWrite),
        _ => Err(Trouble::fail(format!("open flags {flags:#x} are not known to this program"))),
    }
}

/// A call under way.
struct Job {
    /// `None`: the main thread's.
    thread: Option<u64>,
    started: Moment,
    state: State,
}

enum State {
    Read {
        open: Arc<Open>,
        pending: PendingRead,
        deadline: Option<Moment>,
    },
    Poll {
        open: Arc<Open>,
        ask: Ask,
        until: Moment,
        wakeups: Option<u64>,
    },
    /// close(2) waits for the calls on its file.
    Close {
        open: Arc<Open>,
    },
    Sleep {
        until: Moment,
    },
    Ready(Box<Answer>),
}

/// What a poll or select asks for, and so how it is answered.
#[derive(Clone, Copy)]
pub enum Ask {
    /// poll(2) with these events, NetBSD's numbers.
    Poll {
        /// POLLIN and the like.
        events: u32,
    },
    /// select(2).
    Select(Sets),
}

impl Ask {
    /// What is waited for.
    pub fn interest(self) -> Interest {
        match self {
            Ask::Poll { events } => {
                Interest { read: events & POLL_READ != 0, write: events & POLL_WRITE != 0 }
            }
            Ask::Select(Sets { read, write }) => Interest { read, write },
        }
    }

    /// poll(2)'s answer, or select(2)'s.
    pub fn answer(self, ready: Ready) -> Answer {
        match self {
            Ask::Poll { events } => {
                let mask = if ready.read { POLL_READ } else { 0 } | if ready.write { POLL_WRITE } else { 0 };
                let revents = events & mask;
                Answer { revents: Some(revents), ..Answer::ok(i64::from(revents != 0)) }
            }
            Ask::Select(_) => {
                let sets = Sets { read: ready.read, write: ready.write };
                let count = i64::from(sets.read) + i64::from(sets.write);
                Answer { selected: Some(sets), ..Answer::ok(count) }
            }
        }
    }
}

/// Descriptors of one dialect over a network in this process.
pub struct Emulated {
    abi: &'static Abi,
    clock: Arc<SimulatedClock>,
    network: LoopbackNetwork,
    host: Host,
    files: BTreeMap<String, Arc<Open>>,
    /// O_NONBLOCK by descriptor name.
    nonblocking: BTreeMap<String, bool>,
    /// In order of their beginning.
    jobs: Vec<Job>,
}

impl Emulated {
    /// A world as recordings find it; the interfaces of `down` are down.
    pub fn new(abi: &'static Abi, down: &[String]) -> Emulated {
        let clock = Arc::new(SimulatedClock::new());
        let network = LoopbackNetwork::new(clock.clone());
        network.add_ethernet("shmif0", OWN_ADDRESS, 1);
        network.add_ethernet("shmif1", PEER_ADDRESS, 1);
        network.add_loopback("lo0");
        for interface in down {
            network.set_up(interface, false);
        }
        let host = Host::new(network.clone(), down);
        let (files, nonblocking) = (BTreeMap::new(), BTreeMap::new());
        Emulated { abi, clock, network, host, files, nonblocking, jobs: Vec::new() }
    }

    fn open(&self, d: &str) -> Result<Arc<Open>, Trouble> {
        self.files.get(d).cloned().ok_or_else(|| Trouble::fail(format!("no descriptor is called {d:?}")))
    }

    /// Begins a call: those that cannot wait are answered at once.
    fn begin(&mut self, call: &Call) -> Result<State, Trouble> {
        let now = self.clock.now();
        let ready = |answer| Ok(State::Ready(Box::new(answer)));
        match call {
            Call::Open { path, flags, name } => ready(self.open_device(path, *flags, name)?),
            Call::Ioctl { d, cmd, arg } => {
                let open = self.open(d)?;
                let answer = ioctl(self.abi, &open.file, *cmd, arg);
                if let (Some(Request::FionBio(value)), None) = (self.request(*cmd, arg), &answer.errno) {
                    self.nonblocking.insert(d.clone(), value != 0);
                }
                ready(answer)
            }
            Call::Read { d, size } => {
                let open = self.open(d)?;
                if open.access == Access::Write {
                    return ready(Answer::error(Errno::BadF.name()));
                }
                let nonblocking = self.nonblocking.get(d).copied().unwrap_or(false);
                let pending = PendingRead::new(*size, nonblocking);
                Ok(State::Read { open, pending, deadline: None })
            }
            Call::Write { d, frame } => ready(match self.open(d)?.file.write(frame) {
                Ok(len) => Answer::ok(i64::try_from(len).unwrap_or(i64::MAX)),
                Err(errno) => Answer::error(errno.name()),
            }),
            Call::Poll { d, events, timeout } => {
                let ask = Ask::Poll { events: *events };
                Ok(State::Poll { open: self.open(d)?, ask, until: now + *timeout, wakeups: None })
            }
            Call::Select { d, sets, timeout } => {
                let ask = Ask::Select(*sets);
                Ok(State::Poll { open: self.open(d)?, ask, until: now + *timeout, wakeups: None })
            }
            Call::SetFlags { d, flags } => {
                let on = flags & O_NONBLOCK != 0;
                let open = self.open(d)?;
                // NetBSD's fcntl tells the device by FIONBIO
                let told = open.file.ioctl(&Request::FionBio(i32::from(on)));
                self.nonblocking.insert(d.clone(), on);
                ready(told.map_or_else(|errno| Answer::error(errno.name()), |_| Answer::ok(0)))
            }
            Call::Close { d } => {
                let open = self.open(d)?;
                self.files.remove(d);
                self.nonblocking.remove(d);
                Ok(State::Close { open })
            }
            Call::Receive { frame } => {
                // whoever injects it does so from the other end of the wire
                self.network.send("shmif1", frame, Visible::ToTaps);
                ready(Answer::ok(0))
            }
            Call::Sleep { time } => Ok(State::Sleep { until: now + *time }),
            _ => ready(self.host.call(call)?),
        }
    }

    fn open_device(&mut self, path: &str, flags: u32, name: &str) -> Result<Answer, Trouble> {
        if path != "/dev/bpf" {
            return Ok(Answer::error(Errno::NoEnt.name()));
        }
        let access = open_access(flags)?;
        let file = EmulatedFile::open(self.abi, access, Arc::new(self.network.clone()), self.clock.clone());
        self.nonblocking.insert(name.to_owned(), flags & O_NONBLOCK != 0);
        self.files.insert(name.to_owned(), Arc::new(Open { file, access }));
        Ok(Answer { fd: true, ..Answer::ok(0) })
    }

    fn request(&self, cmd: u32, arg: &Argument) -> Option<Request> {
        self.abi.decode(cmd)?.parse(&arg.bytes, &mut Memory::new(arg)).ok()
    }

    /// Takes every job on as far as it goes now.
    fn look(&mut self) {
        let now = self.clock.now();
        let mut changed = true;
        while changed {
            changed = false;
            for i in 0..self.jobs.len() {
                let in_use = |open: &Arc<Open>| {
                    self.jobs.iter().any(|job| match &job.state {
                        State::Read { open: other, .. } | State::Poll { open: other, .. } => {
                            Arc::ptr_eq(open, other)
                        }
                        _ => false,
                    })
                };
                let closing = matches!(&self.jobs[i].state, State::Close { open } if !in_use(open));
                let job = &mut self.jobs[i];
                let Some(mut answer) =
                    (if closing { Some(Answer::ok(0)) } else { go_on(&mut job.state, now) })
                else {
                    continue;
                };
                answer.elapsed = now.since(job.started);
                job.state = State::Ready(Box::new(answer));
                changed = true;
            }
        }
    }

    /// Lets time pass until `limit`, or until `thread` has its answer.
    fn run(&mut self, limit: Moment, thread: Option<u64>) {
        loop {
            self.look();
            let has_answer = |job: &Job| job.thread == thread && matches!(job.state, State::Ready(_));
            if self.jobs.iter().any(has_answer) {
                return;
            }
            let now = self.clock.now();
            let next = self.jobs.iter().filter_map(|job| deadline(&job.state)).filter(|at| *at > now).min();
            match next {
                Some(at) if at <= limit => self.clock.advance_to(at),
                _ => {
                    self.clock.advance_to(limit);
                    return self.look();
                }
            }
        }
    }

    /// The answer of a job that has one.
    fn take(&mut self, thread: Option<u64>) -> Option<Answer> {
        let ready = |job: &Job| job.thread == thread && matches!(job.state, State::Ready(_));
        let found = self.jobs.iter().position(ready)?;
        match self.jobs.remove(found).state {
            State::Ready(answer) => Some(*answer),
            _ => None,
        }
    }

    fn begin_job(&mut self, thread: Option<u64>, call: &Call) -> Result<(), Trouble> {
        if self.jobs.iter().any(|job| job.thread == thread) {
            return Err(Trouble::fail(format!("thread {thread:?} has a call under way")));
        }
        let started = self.clock.now();
        let state = self.begin(call)?;
        self.jobs.push(Job { thread, started, state });
        self.look();
        Ok(())
    }
}

impl World for Emulated {
    fn abi(&self) -> &'static Abi {
        self.abi
    }

    fn call(&mut self, call: &Call) -> Result<Answer, Trouble> {
        self.begin_job(None, call)?;
        // what has its answer needs no time to pass
        self.run(self.clock.now() + FOR_EVER, None);
        self.take(None).ok_or_else(|| Trouble::fail(format!("{call:?} waits for ever here")))
    }

    fn start(&mut self, thread: u64, call: &Call) -> Result<(), Trouble> {
        self.begin_job(Some(thread), call)
    }

    fn wait(&mut self, thread: u64, time: Duration) -> Result<Option<Answer>, Trouble> {
        if !self.jobs.iter().any(|job| job.thread == Some(thread)) {
            return Err(Trouble::fail(format!("there is no thread {thread} to wait for")));
        }
        self.run(self.clock.now() + time, Some(thread));
        Ok(self.take(Some(thread)))
    }

    fn tolerance(&self) -> Duration {
        TOLERANCE
    }
}

/// When a job must be looked at again by itself.
fn deadline(state: &State) -> Option<Moment> {
    match state {
        State::Read { deadline, .. } => *deadline,
        State::Poll { open, until, .. } => {
            let timer = open.file.with(|file, _| file.next_event());
            [Some(*until), timer].into_iter().flatten().min()
        }
        State::Sleep { until } => Some(*until),
        State::Close { .. } | State::Ready(_) => None,
    }
}

/// Takes a job on: its answer, or nothing while it waits.
fn go_on(state: &mut State, now: Moment) -> Option<Answer> {
    match state {
        State::Ready(_) | State::Close { .. } => None,
        State::Sleep { until } => (*until <= now).then(|| Answer::ok(0)),
        State::Read { open, pending, deadline, .. } => {
            open.file.with(|file, now| match file.read(pending, now) {
                ReadStep::Hold => {
                    let data = file.hold().to_vec();
                    file.free_hold();
                    Some(Answer {
                        ret: i64::try_from(data.len()).unwrap_or(i64::MAX),
                        data,
                        ..Answer::default()
                    })
                }
                ReadStep::Nothing => Some(Answer::ok(0)),
                ReadStep::Fail(errno) => Some(Answer::error(errno.name())),
                ReadStep::Wait { deadline: at } => {
                    *deadline = at;
                    None
                }
            })
        }
        State::Poll { open, ask, until, wakeups } => open.file.with(|file, now| {
            let first = wakeups.is_none();
            // asleep, it looks again when it is woken, and not when its time has come
            if first || *wakeups != Some(file.wakeups()) {
                let ready = file.poll(ask.interest(), now);
                *wakeups = Some(file.wakeups());
                if ready != Ready::default() {
                    return Some(ask.answer(ready));
                }
            }
            (*until <= now).then(|| ask.answer(Ready::default()))
        }),
    }
}

/// Where a pointer of the caller's leads.
const POINTEE: u64 = 0x1000;

/// The memory of a caller: what its argument's pointer points at, and nothing else.
struct Memory {
    pointee: Vec<u8>,
}

impl Memory {
    fn new(arg: &Argument) -> Memory {
        Memory { pointee: arg.pointee.clone().unwrap_or_default() }
    }

    fn at(&mut self, address: u64, len: usize) -> Result<&mut [u8], Errno> {
        let start = address.checked_sub(POINTEE).and_then(|start| usize::try_from(start).ok());
        let range = start.and_then(|start| Some(start..start.checked_add(len)?));
        range.and_then(|range| self.pointee.get_mut(range)).ok_or(Errno::Fault)
    }
}

impl CallerMemory for Memory {
    fn read(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        buf.copy_from_slice(self.at(address, buf.len())?);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.at(address, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }
}

/// ioctl(2) as the kernel front end does it: number, argument, request, reply.
pub fn ioctl(abi: &Abi, file: &EmulatedFile, cmd: u32, arg: &Argument) -> Answer {
    let mut bytes = arg.bytes.clone();
    let at = pointer_field(abi, cmd).unwrap_or(8);
    if let (Some(_), Some(pointer)) = (&arg.pointee, bytes.get_mut(at..at + 8)) {
        pointer.copy_from_slice(&POINTEE.to_ne_bytes());
    }
    let mut memory = Memory::new(arg);
    let result = answer(abi, file, cmd, &mut bytes, &mut memory);
    let pointee = arg.pointee.as_ref().map(|_| memory.pointee);
    let arg = Some(Argument { bytes, pointee });
    match result {
        Ok(()) => Answer { arg, ..Answer::ok(0) },
        Err(errno) => Answer { arg, ..Answer::error(errno.name()) },
    }
}

fn answer(
    abi: &Abi,
    file: &EmulatedFile,
    cmd: u32,
    bytes: &mut [u8],
    memory: &mut Memory,
) -> Result<(), Errno> {
    let call = abi.decode(cmd).ok_or(Errno::Inval)?;
    let arg = bytes.get(..call.arg_in()).ok_or(Errno::Fault)?.to_vec();
    let request = call.parse(&arg, memory)?;
    let caller = Caller { root: true, while_locked: Some(call.row.while_locked), ..Caller::default() };
    let response = file.ioctl_as(request, caller)?;
    let out = call.reply(&response, &arg, memory)?;
    bytes.get_mut(..out.len()).ok_or(Errno::Fault)?.copy_from_slice(&out);
    Ok(())
}
