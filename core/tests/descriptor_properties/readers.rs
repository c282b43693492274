//! read(2), the readers that sleep in it, and poll(2).

use bpfdev_core::descriptor::{Interest, PendingRead, ReadStep};
use bpfdev_core::errno::Errno;
use bpfdev_core::time::Moment;

use super::model::{Begin, Timer};
use super::world::World;

/// A read that waits.
pub struct Sleeper {
    pending: PendingRead,
    /// The select timer had run out when it began.
    timed_out: bool,
    wakeups: u64,
    deadline: Option<Moment>,
}

impl World {
    pub(super) fn read(&mut self, len: usize, nonblocking: bool) {
        let timed_out = self.model.timer == Timer::TimedOut;
        let mut pending = PendingRead::new(len, nonblocking);
        let step = self.d.read(&mut pending, self.moment());
        let begin = self.model.begin_read(len, nonblocking);
        let waits = matches!(step, ReadStep::Wait { .. });
        let right = match begin {
            Begin::Inval => step == ReadStep::Fail(Errno::Inval),
            Begin::NxIo => step == ReadStep::Fail(Errno::NxIo),
            Begin::Io => step == ReadStep::Fail(Errno::Io),
            Begin::Again => step == ReadStep::Fail(Errno::Again),
            Begin::Hold => step == ReadStep::Hold,
            Begin::Zero => step == ReadStep::Nothing,
            Begin::Wait => waits,
        };
        assert!(right, "{step:?} where {begin:?} is right; {len} of {} bytes", self.model.bufsize);
        match step {
            ReadStep::Hold => self.deliver(len),
            ReadStep::Wait { deadline } => {
                self.sleeps(deadline);
                self.sleepers.push(Sleeper { pending, timed_out, wakeups: self.d.wakeups(), deadline });
            }
            ReadStep::Nothing | ReadStep::Fail(_) => {}
        }
    }

    /// A sleep begins.
    pub(super) fn sleeps(&self, deadline: Option<Moment>) {
        if let Some(known) = self.model.knows_deadline(self.now) {
            assert_eq!(
                deadline.map(Moment::as_nanos),
                known,
                "when the read ends by itself, at {}",
                self.now
            );
        }
        assert!(deadline.is_none_or(|at| at > self.moment()), "a read waits for {deadline:?}");
    }

    pub(super) fn deliver(&mut self, len: usize) {
        // uiomove: a read gets what it asked for at most, the rest goes with the hold
        let bytes = self.d.hold().to_vec();
        assert!(!bytes.is_empty(), "a read that ends with the hold gives something");
        self.d.free_hold();
        self.model.deliver(&bytes, len);
    }

    /// Takes every sleeping read on.
    pub(super) fn look_at_sleepers(&mut self) {
        let mut sleepers = std::mem::take(&mut self.sleepers);
        sleepers.retain_mut(|sleeper| self.look_at(sleeper));
        self.sleepers = sleepers;
        // two readers are enough
        self.sleepers.truncate(2);
    }

    /// Whether it sleeps on.
    pub(super) fn look_at(&mut self, sleeper: &mut Sleeper) -> bool {
        let woken = sleeper.wakeups != self.d.wakeups();
        let due = sleeper.deadline.is_some_and(|deadline| deadline <= self.moment());
        let step = self.d.read(&mut sleeper.pending, self.moment());
        let something = self.model.buffered() > 0;
        let nonblocking = self.model.nonblocking;
        let early = self.model.store_counts(sleeper.timed_out) || nonblocking || self.model.revoked;
        let held = self.model.hold.is_some();
        let unattached = self.model.link.is_none();
        // semantics.md 4: OpenBSD keeps one deadline, the others begin anew
        let one_deadline = self.model.system.one_deadline;
        let right = match step {
            ReadStep::Hold if woken => held || something && (early || one_deadline && due),
            ReadStep::Hold => due && something,
            ReadStep::Nothing if nonblocking && woken => self.model.system.empty_is_zero && !something,
            ReadStep::Nothing => due && !something && (!woken || one_deadline),
            ReadStep::Wait { deadline } if woken => {
                let same = !one_deadline || deadline == sleeper.deadline && !due;
                same && !held && !(early && something)
            }
            ReadStep::Wait { deadline } => !due && deadline == sleeper.deadline,
            ReadStep::Fail(Errno::NxIo) => woken && unattached && !held,
            ReadStep::Fail(Errno::Io) => woken && self.model.revoked && !something,
            ReadStep::Fail(Errno::Again) => woken && nonblocking && !something,
            ReadStep::Fail(_) => false,
        };
        assert!(right, "a sleeper got {step:?}; woken: {woken}, due: {due}, something: {something}");
        match step {
            ReadStep::Hold => {
                self.deliver(sleeper.pending.len());
                false
            }
            ReadStep::Wait { deadline } => {
                if woken && !one_deadline {
                    self.sleeps(deadline);
                }
                (sleeper.wakeups, sleeper.deadline) = (self.d.wakeups(), deadline);
                true
            }
            ReadStep::Nothing | ReadStep::Fail(_) => false,
        }
    }

    /// A signal for the reader that has slept longest.
    pub(super) fn signal(&mut self) {
        if self.sleepers.is_empty() {
            return;
        }
        let sleeper = self.sleepers.remove(0);
        let something = self.model.buffered() > 0;
        match self.d.interrupt_read(&sleeper.pending) {
            // semantics.md 4, "signal": macOS gives what is buffered
            ReadStep::Hold => {
                assert!(something && self.model.system.name == "macos", "a signal ends a read with EINTR");
                self.deliver(sleeper.pending.len());
            }
            step => {
                assert_eq!(step, ReadStep::Fail(Errno::Intr));
                assert!(!something || self.model.system.name != "macos", "what is buffered is given instead");
            }
        }
    }

    pub(super) fn poll(&mut self, want: Interest, then_read: bool) {
        let ready = self.d.poll(want, self.moment());
        assert!(want.read || !ready.read, "nobody asked for reading");
        assert!(want.write || !ready.write, "nobody asked for writing");
        if !self.model.system.polls_writable {
            assert!(!ready.write, "semantics.md 5: never writable");
        }
        assert_eq!(ready.hangup, self.model.revoked, "semantics.md 5: HUP");
        let model = &mut self.model;
        if model.link.is_some() {
            assert_eq!(ready.read, want.read && model.is_readable(), "readable");
        }
        if model.system.select_timer
            && let Some(at) = self.d.next_event()
            && model.timer == Timer::Idle
        {
            assert!(want.read && !ready.read, "what starts the select timer");
            if let Some(known) = model.knows_deadline(self.now) {
                assert_eq!(Some(at.as_nanos()), known, "when the select timer runs out");
            }
            model.timer = Timer::Waiting(at.as_nanos());
        }
        // semantics.md 4, "immediate mode": what OpenBSD stored before it was switched on is ready for poll, not for read
        let model = &self.model;
        let promised = model.system.select_timer || model.hold.is_some() || model.timer == Timer::TimedOut;
        if ready.read && then_read && promised {
            let before = self.sleepers.len();
            self.read(self.d.bufsize(), false);
            assert_eq!(self.sleepers.len(), before, "a read after poll has said so does not wait");
        }
    }
}
