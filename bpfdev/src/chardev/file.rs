//! One open file: its descriptor, who sleeps in it, and what waits while a helper has its tap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bpfdev_core::abi::{Abi, Request};
use bpfdev_core::backend::TapError;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Drained, Interest, OpenFile, Opened, PendingRead, ReadStep, Step, Task, Wants};
use bpfdev_core::time::Moment;

use super::caller::Attached;
use super::channel::{Asker, Poller, RequestId};
use super::holdings::Holdings;
use super::ports::Ports;
use super::pump::{Feed, Watch};
use super::quota::Part;
use super::request::{Found, Ioctl, Req};
use super::rest::Rests;
use super::session::{Gauge, NewFile};
use super::signal::Owner;
use super::status::FileStatus;
use super::wire::{Header, POLL_SCHEDULE_NOTIFY, PollIn, ReadIn};

/// While packets come that nobody waits for, they are moved in as often as this, for the number of readable bytes.
const TALLY: Duration = Duration::from_millis(100);
/// Or less often: so long for each open file.
const TALLY_EACH: Duration = Duration::from_millis(5);
/// With both buffers full the number hardly changes.
const FULL_PERIODS: u32 = 16;

fn tally_period(files: usize) -> Duration {
    TALLY.max(TALLY_EACH.saturating_mul(u32::try_from(files).unwrap_or(u32::MAX)))
}

/// A tap without a descriptor is asked after so long.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// A reader asleep.
#[derive(Debug)]
struct Sleeper {
    asker: Asker,
    /// The thread that reads.
    tid: u32,
    pending: PendingRead,
    deadline: Option<Moment>,
    /// Bytes the kernel takes in one piece.
    piece: usize,
    /// What it takes of the requests that may wait.
    room: Option<Part>,
}

/// What an open file has that others cannot have meanwhile; dropping it gives that back.
pub type Share = Box<dyn std::fmt::Debug + Send>;

/// How the number of readable bytes is kept right while nobody sleeps on the file and nothing else moves packets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tally {
    /// Not at all.
    Off,
    /// Packets are moved in then, if the file was not used meanwhile.
    At(Moment),
    /// Nothing comes: the next packet is watched for, once.
    Armed,
}

/// One open file.
#[derive(Debug)]
pub struct File {
    pub key: u64,
    /// Who opened it: its limits are what the file counts in, whoever uses it.
    uid: u32,
    /// The thread that used it last.
    pub thread: u32,
    /// The process that opened it; 0 until that is known.
    pub process: u32,
    open: OpenFile,
    sleepers: VecDeque<Sleeper>,
    /// Requests that came while a helper had the tap, and what each takes of the limits.
    queue: VecDeque<(Req<'static>, Vec<Part>)>,
    /// Who sleeps in poll(2), to be notified once.
    polled: Option<Poller>,
    /// Wake-ups passed on so far.
    wakeups: u64,
    /// What is left of buffers larger than one piece.
    rests: Rests,
    feed: Feed,
    tally: Tally,
    /// When the last request came.
    asked: Moment,
    gauge: Option<Box<dyn Gauge>>,
    /// The readable bytes the gauge was told.
    shown: u64,
    /// Who gets a signal at each wake-up, if one is to be sent.
    owner: Option<Arc<Owner>>,
    holdings: Holdings,
    /// The namespace it was attached in.
    pub attached: Attached,
    /// Given back when the file is released.
    _claim: Share,
    /// Given back when all of the file is closed.
    room: Share,
    pub span: tracing::Span,
}

impl File {
    pub fn new(key: u64, opener: &Header, new: NewFile, span: tracing::Span) -> File {
        File {
            key,
            uid: opener.uid,
            thread: opener.pid,
            process: 0,
            holdings: Holdings::default(),
            open: OpenFile::new(new.abi, Opened::new(new.write_only)),
            sleepers: VecDeque::new(),
            queue: VecDeque::new(),
            polled: None,
            wakeups: 0,
            rests: Rests::default(),
            feed: Feed::default(),
            tally: Tally::Off,
            asked: Moment::from_nanos(0),
            gauge: new.gauge,
            shown: 0,
            owner: None,
            attached: Attached::default(),
            _claim: new.claim,
            room: new.room,
            span,
        }
    }

    /// The dialect it speaks.
    pub fn abi(&self) -> &'static Abi {
        self.open.descriptor().abi()
    }

    /// Moves packets in, and answers whoever sleeps as soon as there is something for it; gives their number as the
    /// descriptor counts them.
    fn drain(&mut self, ports: &mut Ports, now: Moment) -> u64 {
        let before = self.open.descriptor().counters().received;
        loop {
            let asleep = !self.sleepers.is_empty() || self.polled.is_some();
            let drained = self.open.drain_to_wake(asleep, now);
            self.wake(ports, now);
            if drained != Drained::Woken {
                break;
            }
        }
        self.open.descriptor().counters().received.saturating_sub(before)
    }

    /// Applies a request, or has it wait for the helper that has the tap.
    pub fn request(&mut self, req: Req<'_>, ports: &mut Ports, now: Moment) {
        self.asked = now;
        if self.open.is_busy() || !self.queue.is_empty() {
            match self.room_to_wait(&req, ports) {
                Ok(parts) => self.queue.push_back((req.into_owned(), parts)),
                Err(errno) => req.asker().fail(errno),
            }
            return;
        }
        self.apply(req, ports, now);
        self.follow(ports, now);
    }

    /// What a request takes of the limits while it waits.
    fn room_to_wait(&self, req: &Req<'_>, ports: &Ports) -> Result<Vec<Part>, Errno> {
        let mut parts = vec![ports.quotas.waiting.take(self.uid, 1).map_err(|_| Errno::Busy)?];
        if let Req::Write { data, .. } = req {
            parts.push(ports.quotas.memory.take(self.uid, data.len()).map_err(|_| Errno::NoBufs)?);
        }
        Ok(parts)
    }

    /// How it stands now.
    pub fn status(&mut self) -> FileStatus {
        let busy = self.open.is_busy();
        let counters = if busy { self.open.descriptor().counters() } else { self.open.counters() };
        let descriptor = self.open.descriptor();
        let interface = descriptor.interface().map(|interface| (interface.name.clone(), interface.network));
        let (dialect, status) = (descriptor.abi().name, descriptor.status());
        FileStatus {
            fh: self.key,
            thread: self.thread,
            process: self.process,
            uid: self.uid,
            dialect,
            interface,
            plan: self.open.tap().map(|tap| tap.plan().name()),
            status,
            counters,
            memory: self.holdings.bytes(),
            waiting: self.sleepers.len() + self.queue.len(),
        }
    }

    fn apply(&mut self, req: Req<'_>, ports: &mut Ports, now: Moment) {
        match req {
            Req::Read { .. } | Req::Poll { .. } => {
                self.drain(ports, now);
            }
            Req::Write { .. } | Req::Ioctl { .. } => {
                self.open.drain(now);
                self.wake(ports, now);
            }
        }
        match req {
            Req::Read { asker, tid, read } => self.read(asker, tid, read, ports, now),
            Req::Write { asker, data } => match self.open.write(&data, now) {
                Ok(len) => {
                    asker.written(len);
                    if let Some(gauge) = &self.gauge {
                        gauge.written();
                    }
                }
                Err(errno) => asker.fail(errno),
            },
            Req::Poll { asker, poll } => self.poll(&asker, poll, now),
            Req::Ioctl { ioctl, request, found } => {
                tracing::trace!(request = ioctl.call.row.name, "ioctl");
                self.ioctl(ioctl, request, found, ports, now);
            }
        }
        self.wake(ports, now);
    }

    fn ioctl(
        &mut self,
        ioctl: Ioctl,
        request: Request,
        found: Option<Found>,
        ports: &mut Ports,
        now: Moment,
    ) {
        // A locked descriptor refuses it first: asking for the owner, as this very request, says so.
        let request = if matches!(found, Some(Err(_))) { Request::GetOwn } else { request };
        let before = self.open.descriptor().signal();
        let makes_buffers = matches!(request, Request::SBlen(_)) && self.abi().rules.sblen_makes_buffers;
        if let Request::SBlen(size) = request
            && makes_buffers
        {
            let bufsize = size.min(self.abi().rules.bufsize_max) as usize;
            if self.holdings.buffers(&ports.quotas.memory, self.uid, bufsize).is_err() {
                return ports.answer(ioctl, Err(Errno::NoBufs));
            }
        }
        let step = self.open.ioctl(request, ioctl.caller, now);
        if makes_buffers {
            self.holdings.fit(self.open.descriptor().bufsize());
        }
        // before it is answered: a signal that was called off, or is another now, does not come any more
        if let Some(owner) = &self.owner
            && before != self.open.descriptor().signal()
        {
            owner.call_off();
        }
        match step {
            Step::Done(Ok(response)) => match found {
                Some(Err(errno)) => ports.answer(ioctl, Err(errno)),
                Some(Ok(owner)) => {
                    if let Some(before) = std::mem::replace(&mut self.owner, owner) {
                        before.call_off();
                    }
                    ports.answer(ioctl, Ok(response));
                }
                None => ports.answer(ioctl, Ok(response)),
            },
            Step::Done(Err(errno)) => ports.answer(ioctl, Err(errno)),
            Step::Task(task) => self.task(ioctl, task, ports),
        }
    }

    fn read(&mut self, asker: Asker, tid: u32, read: ReadIn, ports: &mut Ports, now: Moment) {
        let piece = read.size as usize;
        if let Some(taken) = usize::try_from(read.offset).ok().filter(|&taken| taken > 0) {
            // The same read(2) goes on: never a new one, which might sleep with bytes in hand.
            let next = self.rests.next(tid, taken, piece);
            let last = next.len() < piece;
            asker.reply(next);
            if last {
                self.rests.forget(tid);
            }
            return;
        }
        self.rests.forget(tid);
        let bufsize = self.open.descriptor().bufsize();
        let len = if ports.cut_pieces().contains(&piece) { piece.max(bufsize) } else { piece };
        let nonblocking = read.flags & libc::O_NONBLOCK.cast_unsigned() != 0;
        let mut sleeper = Sleeper {
            asker,
            tid,
            pending: PendingRead::new(len, nonblocking),
            deadline: None,
            piece,
            room: None,
        };
        if self.step(&mut sleeper, now) {
            return;
        }
        match ports.quotas.waiting.take(self.uid, 1) {
            Ok(part) => {
                sleeper.room = Some(part);
                self.sleepers.push_back(sleeper);
            }
            Err(_) => sleeper.asker.fail(Errno::Busy),
        }
    }

    /// Takes a read on; `true` when it was answered.
    fn step(&mut self, sleeper: &mut Sleeper, now: Moment) -> bool {
        let step = self.open.read(&mut sleeper.pending, now);
        self.take(step, sleeper)
    }

    /// Goes on with a read as its next step says; `true` when it was answered.
    fn take(&mut self, step: ReadStep, sleeper: &mut Sleeper) -> bool {
        match step {
            ReadStep::Hold => {
                let hold = self.open.hold();
                let (first, rest) = hold.split_at(hold.len().min(sleeper.piece));
                // first: with the answer the same read(2) may go on at once
                self.rests.keep(sleeper.tid, first.len(), rest);
                sleeper.asker.reply(first);
                self.open.free_hold();
            }
            ReadStep::Nothing => sleeper.asker.reply(&[]),
            ReadStep::Fail(errno) => sleeper.asker.fail(errno),
            ReadStep::Wait { deadline } => {
                sleeper.deadline = deadline;
                return false;
            }
        }
        true
    }

    fn poll(&mut self, asker: &Asker, poll: PollIn, now: Moment) {
        const READ: u32 = (libc::POLLIN | libc::POLLRDNORM) as u32;
        const WRITE: u32 = (libc::POLLOUT | libc::POLLWRNORM) as u32;
        let want = Interest { read: poll.events & READ != 0, write: poll.events & WRITE != 0 };
        let ready = self.open.poll(want, now);
        if poll.flags & POLL_SCHEDULE_NOTIFY != 0 {
            // Also when it is ready: an edge-triggered epoll wants to hear of the next packet.
            self.polled = Some(asker.poller(poll.kh));
        }
        let mut revents = 0;
        if ready.read {
            revents |= poll.events & READ;
        }
        if ready.write {
            revents |= poll.events & WRITE;
        }
        if ready.hangup {
            revents |= libc::POLLHUP as u32;
        }
        asker.polled(revents);
    }

    fn task(&mut self, ioctl: Ioctl, task: Task, ports: &mut Ports) {
        // The tap goes with the task, and may come back as another.
        ports.pump.leave_tap(&mut self.feed);
        if let Some(config) = task.config() {
            let ring = ports.most_memory(config);
            if self.holdings.ask(&ports.quotas.memory, self.uid, ring, config.bufsize).is_err() {
                let refused = task.fail(TapError::NoBuffers("buffers and a ring within the limit on memory"));
                let result = self.open.finish(refused, ports.now());
                return ports.answer(ioctl, result);
            }
        }
        if let Err(finished) = ports.run_task(self.attached.clone(), ioctl, task) {
            let (ioctl, finished) = *finished;
            self.holdings.settle(None);
            // It has done nothing: the caller hears why.
            let _ = self.open.finish(finished, ports.now());
            ports.answer(ioctl, Err(Errno::Busy));
        }
    }

    /// A task came back: its request is answered, then those that waited for it.
    pub fn finished(
        &mut self,
        ioctl: Ioctl,
        done: bpfdev_core::file::Finished,
        ports: &mut Ports,
        now: Moment,
    ) {
        let result = self.open.finish(done, now);
        let ring = self.open.tap().map(|tap| tap.memory());
        self.holdings.settle(ring.filter(|_| result.is_ok()));
        self.wake(ports, now);
        if let (Ok(_), Some(interface)) = (&result, self.open.descriptor().interface()) {
            self.span.record("interface", interface.name.as_str());
        }
        let plan = self.open.tap().map(|tap| tap.plan().name());
        tracing::debug!(parent: &self.span, request = ioctl.call.row.name, plan, ?result, "done");
        ports.answer(ioctl, result);
        while !self.open.is_busy() {
            let Some((req, _parts)) = self.queue.pop_front() else { break };
            self.apply(req, ports, now);
        }
        self.follow(ports, now);
    }

    /// The tap's descriptor reported something.
    pub fn tap_ready(&mut self, error: bool, ports: &mut Ports, now: Moment) {
        if self.open.is_busy() {
            return;
        }
        let packets = self.drain(ports, now);
        self.feed.fired(packets, error, now);
        if self.tally == Tally::Armed {
            self.tally = Tally::At(now + tally_period(ports.files));
        }
        self.follow(ports, now);
    }

    /// One of its timers is due.
    pub fn timer(&mut self, ports: &mut Ports, now: Moment) {
        match self.tally {
            _ if self.open.is_busy() => {}
            Tally::At(at) if at <= now => self.count(ports, now),
            _ => {
                let packets = self.drain(ports, now);
                self.feed.woke(packets, now);
            }
        }
        self.follow(ports, now);
    }

    /// Moves packets in for the number of readable bytes alone, and says when that is to be done next.
    fn count(&mut self, ports: &mut Ports, now: Moment) {
        let period = tally_period(ports.files);
        self.tally = Tally::Off;
        if self.watch() != Watch::Nothing || self.open.tap().is_none() {
            return;
        }
        // Who uses the file has it moved in himself, and while he is busy with what he has read, the tap may keep the rest.
        let unused = self.asked + period;
        if unused > now {
            self.tally = Tally::At(unused);
            return;
        }
        let (packets, bytes) = (self.open.descriptor().counters().received, self.open.readable_bytes());
        self.open.drain(now);
        self.wake(ports, now);
        let nothing = self.open.descriptor().counters().received == packets;
        let full = !self.open.descriptor().has_room() && self.open.readable_bytes() == bytes;
        self.tally = match self.open.tap_fd() {
            Some(_) if nothing => Tally::Armed,
            _ if full => Tally::At(now + period * FULL_PERIODS),
            _ => Tally::At(now + period),
        };
    }

    /// A wake-up sends a signal.
    fn signals(&self) -> bool {
        self.owner.is_some() && self.open.descriptor().signal().is_some()
    }

    /// bpf_wakeup: those who sleep are looked at again, if there was one or their time has come.
    fn wake(&mut self, ports: &mut Ports, now: Moment) {
        let woken = self.open.wakeups() != self.wakeups;
        if woken {
            self.wakeups = self.open.wakeups();
            if let (Some(owner), Some((signal, _))) = (&self.owner, self.open.descriptor().signal()) {
                ports.signals.send(owner, signal);
            }
            if let Some(poller) = self.polled.take() {
                poller.notify();
            }
        }
        for _ in 0..self.sleepers.len() {
            let Some(mut sleeper) = self.sleepers.pop_front() else { break };
            let due = sleeper.deadline.is_some_and(|at| at <= now);
            if !(woken || due) || !self.step(&mut sleeper, now) {
                self.sleepers.push_back(sleeper);
            }
        }
    }

    /// What of the tap is watched for those who sleep, or are to be signalled.
    fn watch(&self) -> Watch {
        let reader = !self.sleepers.is_empty();
        let told = self.polled.is_some() || self.signals();
        let flow = Watch::Flow { bufsize: self.open.descriptor().bufsize() };
        match self.open.wants() {
            Wants::NextPacket if reader || told => Watch::NextPacket,
            // A full buffer has been told of already: nothing new before it is read.
            Wants::Fill if reader || (told && !self.open.descriptor().is_readable()) => flow,
            _ if self.open.process_plan() => flow,
            _ => Watch::Nothing,
        }
    }

    /// Has the pump do what the file wants now, and the gauge show what can be read.
    fn follow(&mut self, ports: &mut Ports, now: Moment) {
        for tap in self.open.take_retired() {
            ports.pump.reap(tap);
        }
        if self.open.is_busy() {
            return; // the tap is away, and finishing it comes back here
        }
        if self.open.tap().is_none() {
            self.holdings.detached();
        }
        // Behind the taps: they count until they are closed.
        let leaving = self.holdings.leaving();
        if !leaving.is_empty() {
            ports.pump.reap(leaving);
        }
        let bytes = self.open.readable_bytes() as u64;
        if let (Some(gauge), true) = (&self.gauge, bytes != self.shown) {
            self.shown = bytes;
            gauge.show(bytes);
        }
        let mut watch = self.watch();
        // Nobody is told of anything else than packets while the tap is watched for their number alone.
        let watched = watch != Watch::Nothing;
        if watch == Watch::Nothing && self.gauge.is_some() && self.open.tap().is_some() {
            let next = now + tally_period(ports.files);
            match self.tally {
                Tally::Armed => watch = Watch::NextPacket,
                Tally::At(at) if at <= next || self.asked < now => {}
                // used after a long time of being full
                Tally::Off | Tally::At(_) => self.tally = Tally::At(next),
            }
        } else if self.tally == Tally::Armed {
            self.tally = Tally::Off;
        }
        let deadline = self.sleepers.iter().filter_map(|sleeper| sleeper.deadline).min();
        let tally = if let Tally::At(at) = self.tally { Some(at) } else { None };
        let mut timer = deadline.into_iter().chain(self.open.next_event()).chain(tally).min();
        if watched {
            // A tap without a descriptor (a replay, the loopback network) can only be asked again and again.
            let silent = self.open.tap_fd().is_none();
            let again =
                self.open.tap().and_then(|tap| if silent { Some(ASK_AGAIN) } else { tap.look_again() });
            timer = timer.into_iter().chain(again.map(|after| now + after)).min();
        }
        ports.pump.follow(self.key, &mut self.feed, self.open.tap_fd(), watch, timer, now);
    }

    /// A signal came for a request: a read that sleeps or waits here ends. `false`: the request is not here.
    pub fn interrupt(&mut self, id: RequestId, ports: &mut Ports, now: Moment) -> bool {
        let asleep = |file: &File| file.sleepers.iter().position(|sleeper| sleeper.asker.id() == id);
        let queued = self.queue.iter().position(|(req, _)| req.asker().id() == id);
        if let Some(at) = queued {
            // all but a read wait as for a BSD's lock: no signal ends that, but the task that the file is busy with does, soon
            let reads = |(req, _): &(Req<'_>, _)| matches!(req, Req::Read { .. });
            if self.queue.get(at).is_some_and(reads)
                && let Some((req, _)) = self.queue.remove(at)
            {
                req.asker().fail(Errno::Intr);
            }
        } else if asleep(self).is_some() {
            // What came before the signal counts, and may be what it waits for.
            if !self.open.is_busy() {
                self.drain(ports, now);
            }
            if let Some(mut sleeper) = asleep(self).and_then(|at| self.sleepers.remove(at)) {
                let step = self.open.interrupt_read(&sleeper.pending);
                self.take(step, &mut sleeper);
            }
        } else {
            return false;
        }
        self.follow(ports, now);
        true
    }

    /// It ends, closed for the last time or with the device: whatever still waits gets `errno`, and the tap is closed
    /// elsewhere.
    pub fn release(mut self, errno: Errno, ports: &mut Ports) {
        if let Some(owner) = &self.owner {
            owner.call_off();
        }
        let sleepers = self.sleepers.iter().map(|sleeper| &sleeper.asker);
        let queued = self.queue.iter().map(|(req, _)| req.asker());
        sleepers.chain(queued).for_each(|asker| asker.fail(errno));
        ports.pump.remove(self.key, &mut self.feed);
        if let Some(tap) = self.open.tap() {
            tap.retire();
        }
        // Until it is closed it counts as open: a client that opens and closes in a loop waits for itself.
        ports.pump.reap((self.open, self.holdings, self.room));
    }
}
