//! A descriptor with its tap, driven from outside: nothing here blocks.

use std::os::fd::BorrowedFd;

use super::task::{Finished, NewTap, Outcome, Task, Work};
use crate::abi::{Abi, Request, Response};
use crate::backend::{FilterBackend, Inject, Plan, TapConfig, TapError, Visible};
use crate::descriptor::{
    Caller, Counters, Descriptor, Effect, Frame, Interest, Opened, PendingRead, ReadStep, Ready,
};
use crate::errno::Errno;
use crate::time::Moment;

/// An attached tap and its sending half.
pub(super) struct Tap {
    pub backend: Box<dyn FilterBackend>,
    injector: Option<Box<dyn Inject>>,
    /// Packets the tap had lost when it was last asked.
    lost: u64,
    /// Packets its filter had rejected then.
    rejected: u64,
    /// 802.1p priority its injector was told.
    vlan_pcp: u32,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("interface", self.backend.interface()).finish_non_exhaustive()
    }
}

/// What a request came to.
#[derive(Debug)]
pub enum Step {
    /// It is answered.
    Done(Result<Response, Errno>),
    /// It needs slow work: run it, then call [`OpenFile::finish`]. Until then the file is busy.
    Task(Task),
}

/// What would wake a sleeper of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// The next packet.
    NextPacket,
    /// A full buffer, or time.
    Fill,
}

/// Why [`OpenFile::drain_to_wake`] came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// The tap has no more packets.
    Empty,
    /// A packet has woken a sleeper: answer it and go on.
    Woken,
    /// A buffer waits for its reader, and the tap keeps the rest for it.
    Full,
}

/// One open of the device node.
#[derive(Debug)]
pub struct OpenFile {
    descriptor: Descriptor,
    tap: Option<Tap>,
    busy: bool,
    /// The reader was woken later than the packet came that woke it, and those behind that one are still in the tap. It
    /// could not take them in time, so they wait for it.
    late: bool,
    /// A written frame that had to be changed.
    scratch: Vec<u8>,
    /// Taps that are done with, and not closed yet.
    retired: Vec<Tap>,
}

impl OpenFile {
    /// As open(2) leaves it.
    pub fn new(abi: &'static Abi, opened: Opened) -> OpenFile {
        OpenFile {
            descriptor: Descriptor::new(abi, opened),
            tap: None,
            busy: false,
            late: false,
            scratch: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// The descriptor.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// A [`Task`] is out: hold every other request back until [`OpenFile::finish`].
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Moves every packet the tap has into the descriptor. To be called before each request is applied: that makes
    /// draining on demand the same as draining at once.
    pub fn drain(&mut self, now: Moment) {
        self.late = false;
        self.move_in(false, now);
    }

    /// [`OpenFile::drain`] before a read or a poll, and while somebody is `asleep` in one. A sleeper is to be answered as
    /// soon as a packet has woken it, not when the tap is empty: on a BSD it would be reading while the others come. Those
    /// that have come by the time it is woken here, because we did not look earlier, wait in the tap for room instead of
    /// being dropped.
    pub fn drain_to_wake(&mut self, asleep: bool, now: Moment) -> Drained {
        self.move_in(asleep, now)
    }

    fn move_in(&mut self, to_wake: bool, now: Moment) -> Drained {
        let drained = self.move_packets(to_wake);
        match drained {
            Drained::Empty => self.late = false,
            Drained::Woken => self.late = true,
            Drained::Full => {}
        }
        self.descriptor.advance(now);
        drained
    }

    fn move_packets(&mut self, to_wake: bool) -> Drained {
        let Some(tap) = &mut self.tap else { return Drained::Empty };
        let keeps = self.late || tap.backend.capabilities().on_demand;
        let wakeups = self.descriptor.wakeups();
        if keeps && !self.descriptor.has_room() {
            return Drained::Full;
        }
        let mut gone = false;
        // twice: the second look tells whether behind the packets there is news of the interface
        for _ in 0..2 {
            let mut batch = match tap.backend.try_batch() {
                Ok(batch) => batch,
                // anything else the tap says is temporary: the next drain sees what there is
                Err(error) => {
                    gone = matches!(error, TapError::Gone(_));
                    break;
                }
            };
            let mut any = false;
            while let Some(packet) = batch.next() {
                any = true;
                self.descriptor.catch_packet(&packet);
                if to_wake && self.descriptor.wakeups() != wakeups {
                    return Drained::Woken;
                }
                if keeps && !self.descriptor.has_room() {
                    return Drained::Full;
                }
            }
            if !any {
                break;
            }
        }
        if gone {
            self.count_unseen();
            self.retired.extend(self.tap.take());
            self.descriptor.interface_gone();
        }
        Drained::Empty
    }

    /// Applies a request. [`OpenFile::drain`] has been called.
    pub fn ioctl(&mut self, request: Request, caller: Caller, now: Moment) -> Step {
        self.descriptor.advance(now);
        match request {
            Request::Flush => self.count_at_once(now),
            Request::GStats | Request::SetF(_) | Request::SetWf(_) => self.count_unseen(),
            _ => {}
        }
        let effect = match self.descriptor.ioctl(request, caller) {
            Ok(effect) => effect,
            Err(errno) => return Step::Done(Err(errno)),
        };
        match effect {
            Effect::Done(response) => Step::Done(Ok(response)),
            Effect::Flushed => Step::Done(Ok(Response::Done)),
            Effect::Direction(_) if self.tap.is_none() => Step::Done(Ok(Response::Done)),
            Effect::Direction(direction) => self.task(Work::Direction(direction), true),
            Effect::Attach { name } => {
                let config = self.config();
                self.task(Work::Attach { name, config }, false)
            }
            Effect::Count { name } => self.task(Work::Count { name }, false),
            Effect::Linktype(linktype) => {
                let Some(interface) = self.descriptor.interface() else {
                    return Step::Done(Err(Errno::Inval));
                };
                let name = interface.name.clone();
                let config = TapConfig { linktype: Some(linktype), ..self.config() };
                let promiscuous =
                    self.descriptor.is_promiscuous() && self.descriptor.abi().rules.dlt_keeps_promiscuous;
                self.task(Work::Linktype { name, config, promiscuous }, false)
            }
            Effect::ReadFilter { program, queued } => {
                if self.tap.is_none() {
                    self.descriptor.commit_filter(program, queued);
                    return Step::Done(Ok(Response::Done));
                }
                let direction = self.descriptor.direction_after(program.as_ref(), queued);
                self.task(Work::Filter { program, queued, direction }, true)
            }
            Effect::Promiscuous => self.task(Work::Promiscuous, true),
        }
    }

    fn task(&mut self, work: Work, lend_tap: bool) -> Step {
        self.busy = true;
        let tap = if lend_tap { self.tap.take() } else { None };
        Step::Task(Task { work, tap })
    }

    fn config(&self) -> TapConfig {
        TapConfig {
            record_overhead: self.descriptor.record_overhead(),
            filter: self.descriptor.read_filter().cloned(),
            direction: self.descriptor.direction(),
            ..self.descriptor.abi().tap_config(self.descriptor.bufsize())
        }
    }

    /// Ends a request whose task has run.
    ///
    /// # Errors
    /// The errno of the dialect; where attaching failed the old attachment stays as it was.
    pub fn finish(&mut self, done: Finished, now: Moment) -> Result<Response, Errno> {
        self.busy = false;
        if let Some(tap) = done.tap {
            self.tap = Some(tap);
        }
        let new = match done.result.map_err(|error| Errno::from(&error))? {
            Outcome::Done => None,
            Outcome::Tap(tap) => Some(tap),
            Outcome::Count(count) => return Ok(Response::U32(count)),
        };
        match (done.work, new) {
            (Work::Attach { .. }, Some(NewTap(backend))) => {
                let same = self.descriptor.interface().is_some_and(|now| *now == *backend.interface());
                if same {
                    // the attachment stays, and promiscuity with it: only buffers and counters go
                    let mut spare = Tap { backend, injector: None, lost: 0, rejected: 0, vlan_pcp: 0 };
                    spare.backend.retire();
                    self.retired.push(spare);
                    self.count_at_once(now);
                    if let Some(interface) = self.descriptor.interface().cloned() {
                        self.descriptor.attach(interface, self.descriptor.is_promiscuous());
                    }
                    return Ok(Response::Done);
                }
                self.replace(backend, false)?;
            }
            (Work::Linktype { promiscuous, .. }, Some(NewTap(backend))) => {
                self.replace(backend, promiscuous)?;
            }
            (Work::Filter { program, queued, .. }, _) => {
                if queued == crate::backend::Queued::Flush {
                    self.count_at_once(now);
                } else {
                    self.drain(now);
                }
                self.descriptor.commit_filter(program, queued);
            }
            (Work::Promiscuous, _) => self.descriptor.commit_promiscuous(),
            (Work::Direction(_) | Work::Count { .. }, _) => {}
            (Work::Attach { .. } | Work::Linktype { .. }, None) => return Err(Errno::NxIo),
        }
        self.drain(now);
        Ok(Response::Done)
    }

    fn replace(&mut self, backend: Box<dyn FilterBackend>, promiscuous: bool) -> Result<(), Errno> {
        let interface = backend.interface().clone();
        let injector = match backend.injector() {
            Ok(injector) => Some(injector),
            Err(TapError::Unsupported(_)) => None,
            Err(error) => return Err(Errno::from(&error)),
        };
        self.descriptor.reserve()?;
        self.descriptor.attach(interface, promiscuous);
        let before = self.tap.replace(Tap { backend, injector, lost: 0, rejected: 0, vlan_pcp: 0 });
        if let Some(mut before) = before {
            before.backend.retire();
            self.retired.push(before);
        }
        Ok(())
    }

    /// Brings into the counters what never came up from the tap: packets it lost, and those its filter rejected.
    fn count_unseen(&mut self) {
        if let Some(tap) = &mut self.tap
            && let Ok(stats) = tap.backend.stats()
        {
            self.descriptor.count_lost(stats.dropped.saturating_sub(tap.lost));
            tap.lost = stats.dropped;
            self.descriptor.count_rejected(stats.rejected.saturating_sub(tap.rejected));
            tap.rejected = stats.rejected;
        }
    }

    /// Moves in everything that came, and counts what never came up, both as of one moment: counters that begin anew there
    /// count a packet that is delivered later, and those around it that the filter rejects, or none of them. While packets
    /// come without a pause it is a few moments.
    fn count_at_once(&mut self, now: Moment) {
        for _ in 0..8 {
            let rejected = self.tap.as_ref().map(|tap| tap.rejected);
            // what nobody will read need not wait in the tap
            self.late = false;
            self.drain(now);
            self.count_unseen();
            if self.tap.as_ref().map(|tap| tap.rejected) == rejected {
                return;
            }
        }
    }

    /// Takes a read on. [`OpenFile::drain`] has been called.
    pub fn read(&mut self, pending: &mut PendingRead, now: Moment) -> ReadStep {
        self.descriptor.read(pending, now)
    }

    /// A signal came for a sleeping read: how it ends.
    pub fn interrupt_read(&mut self, pending: &PendingRead) -> ReadStep {
        self.descriptor.interrupt_read(pending)
    }

    /// The bytes of a read that ended with [`ReadStep::Hold`].
    pub fn hold(&self) -> &[u8] {
        self.descriptor.hold()
    }

    /// They were handed over.
    pub fn free_hold(&mut self) {
        self.descriptor.free_hold();
    }

    /// write(2): one frame. Gives its length.
    ///
    /// # Errors
    /// Those of semantics.md section 6.
    pub fn write(&mut self, frame: &[u8], now: Moment) -> Result<usize, Errno> {
        self.descriptor.advance(now);
        self.descriptor.check_attached()?;
        let Some(tap) = &mut self.tap else { return Err(Errno::NxIo) };
        let link = tap.backend.link_state().map_err(|error| Errno::from(&error))?;
        let Some(checked) = self.descriptor.check_write(frame, link)? else { return Ok(0) };
        let Some(injector) = &mut tap.injector else { return Err(Errno::OpNotSupp) };
        if tap.vlan_pcp != self.descriptor.vlan_pcp() {
            tap.vlan_pcp = self.descriptor.vlan_pcp();
            // a network without priorities sends all frames alike
            let _ = injector.set_priority(tap.vlan_pcp);
        }
        if let Some(family) = checked.refused_after_tap {
            // NetBSD 7's lo0: every tap sees it behind its family, and then it is refused. A network that refuses
            // before its taps look shows it to none.
            let framed = [&family.to_ne_bytes(), frame].concat();
            let _ = injector.inject(&framed, Visible::ToTaps);
            return Err(Errno::AfNoSupport);
        }
        let bytes = changed(&mut self.scratch, frame, checked, &tap.backend.interface().address);
        injector.inject(bytes, checked.visible).map_err(|error| Errno::from(&error))?;
        Ok(frame.len())
    }

    /// poll(2). [`OpenFile::drain`] has been called.
    pub fn poll(&mut self, want: Interest, now: Moment) -> Ready {
        self.descriptor.poll(want, now)
    }

    /// Moves time on without looking at the tap.
    pub fn advance(&mut self, now: Moment) {
        self.descriptor.advance(now);
    }

    /// When [`OpenFile::advance`] must be called next.
    pub fn next_event(&self) -> Option<Moment> {
        self.descriptor.next_event()
    }

    /// Grows whenever sleeping reads and polls must be looked at again.
    pub fn wakeups(&self) -> u64 {
        self.descriptor.wakeups()
    }

    /// FIONREAD.
    pub fn readable_bytes(&self) -> usize {
        self.descriptor.readable_bytes()
    }

    /// Counters, packets lost in the tap included.
    pub fn counters(&mut self) -> Counters {
        self.count_unseen();
        self.descriptor.counters()
    }

    /// Taps that requests or the interface's removal have ended. Closing one may take milliseconds, so it is for whoever has
    /// the time; nothing else depends on it.
    pub fn take_retired(&mut self) -> Vec<impl Send + use<>> {
        std::mem::take(&mut self.retired)
    }

    /// Polls readable when the tap has packets, or news of its interface.
    pub fn tap_fd(&self) -> Option<BorrowedFd<'_>> {
        self.tap.as_ref().and_then(|tap| tap.backend.as_fd())
    }

    /// The tap, for what concerns only it.
    pub fn tap(&mut self) -> Option<&mut (dyn FilterBackend + 'static)> {
        self.tap.as_mut().map(|tap| tap.backend.as_mut())
    }

    /// What would wake a sleeper.
    pub fn wants(&self) -> Wants {
        if self.descriptor.wakes_on_packet() { Wants::NextPacket } else { Wants::Fill }
    }

    /// The filter runs in this process: packets it rejects take room in the tap's queue until they are drained.
    pub fn process_plan(&self) -> bool {
        self.tap.as_ref().is_some_and(|tap| tap.backend.plan() == Plan::Process)
    }
}

/// The frame as it is sent: Ethernet source and type filled in where the dialect wants it.
fn changed<'a>(scratch: &'a mut Vec<u8>, frame: &'a [u8], checked: Frame, address: &[u8]) -> &'a [u8] {
    if !checked.set_source && !checked.set_length {
        return frame;
    }
    scratch.clear();
    scratch.extend_from_slice(frame);
    // the frame is at least a link header long: check_write saw to it
    if checked.set_source && address.len() == 6 {
        scratch[6..12].copy_from_slice(address);
    }
    if checked.set_length {
        let payload = u16::try_from(frame.len() - 14).unwrap_or(u16::MAX);
        scratch[12..14].copy_from_slice(&payload.to_be_bytes());
    }
    scratch
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::abi::linux::LINUX;
    use crate::loopback::LoopbackNetwork;
    use crate::time::SimulatedClock;

    const BUFSIZE: usize = 512;
    const NOW: Moment = Moment::from_nanos(0);

    /// A file whose buffer holds four of the network's packets, and twenty of them in its tap.
    fn file_with_twenty_packets() -> (OpenFile, PendingRead) {
        let network = LoopbackNetwork::new(Arc::new(SimulatedClock::new()));
        network.add_ethernet("em0", [2, 0, 0, 0, 0, 1], 1);
        let mut file = OpenFile::new(&LINUX, Opened::default());
        for request in [Request::SBlen(512), Request::SetIf(b"em0".to_vec())] {
            if let Step::Task(task) = file.ioctl(request, Caller::default(), NOW) {
                file.finish(task.run(&network), NOW).unwrap();
            }
        }
        let mut read = PendingRead::new(BUFSIZE, false);
        assert_eq!(file.read(&mut read, NOW), ReadStep::Wait { deadline: None });
        for _ in 0..20 {
            assert!(network.receive("em0", &[0xff; 100]));
        }
        (file, read)
    }

    #[test]
    fn a_reader_that_is_woken_late_finds_what_came_meanwhile() {
        let (mut file, mut read) = file_with_twenty_packets();
        let mut asleep = true;
        for buffer in 1..=4 {
            let drained = file.drain_to_wake(asleep, NOW);
            assert_eq!(drained, if asleep { Drained::Woken } else { Drained::Full });
            assert_eq!(file.read(&mut read, NOW), ReadStep::Hold, "buffer {buffer}");
            file.free_hold();
            (read, asleep) = (PendingRead::new(BUFSIZE, false), false);
        }
        assert_eq!(file.drain_to_wake(asleep, NOW), Drained::Empty);
        assert_eq!(file.counters(), Counters { received: 20, dropped: 0, captured: 20 });
    }

    #[test]
    fn what_comes_while_nobody_waits_for_it_is_dropped_when_both_buffers_are_full() {
        let (mut file, _) = file_with_twenty_packets();
        file.drain(NOW);
        assert_eq!(file.counters(), Counters { received: 20, dropped: 12, captured: 20 });
    }
}
