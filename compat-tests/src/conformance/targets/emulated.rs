//! `emulated:DIALECT`: descriptors over a network in this process, in simulated time.
//!
//! Threads of a case take turns: time moves only when all of them wait, and then to the next deadline or event at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bpfdev_core::abi::{Abi, Request, Response};
use bpfdev_core::backend::{FilterBackend, Network, Visible};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, Caller, EmulatedFile, Interest, PendingRead, ReadStep, Ready};
use bpfdev_core::loopback::LoopbackNetwork;
use bpfdev_core::packet::Way;
use bpfdev_core::time::{Clock, Moment, SimulatedClock};

use crate::conformance::broken::{Break, Broken};
use crate::conformance::stage::{Call, Event, Needs, SharedFile, Stage, Trouble};
use crate::conformance::system::System;

const OBSERVED: &str = "em0";
const FAR: &str = "em1";
const LOOPBACK: &str = "lo0";
const ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FAR_ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Time, and who waits for it.
struct Turns {
    clock: Arc<SimulatedClock>,
    state: Mutex<State>,
    turned: Condvar,
}

struct State {
    world: World,
    /// Threads that do not wait.
    running: usize,
    /// Deadlines of those that wait.
    waiting: BTreeMap<u64, Option<Moment>>,
    next_id: u64,
    /// Grows when the waiting ones are to look again.
    turn: u64,
    events: Vec<(Moment, Event)>,
    stuck: bool,
}

/// The interfaces of one case.
struct World {
    network: LoopbackNetwork,
    far_tap: Option<Box<dyn FilterBackend>>,
}

impl World {
    fn new(abi: &Abi, clock: Arc<SimulatedClock>) -> World {
        let network = LoopbackNetwork::new(clock);
        network.add_ethernet(OBSERVED, ADDRESS, 1);
        network.add_ethernet(FAR, FAR_ADDRESS, 1);
        network.add_loopback(LOOPBACK);
        let far_tap = network.attach(FAR, &abi.tap_config(1 << 16)).ok();
        World { network, far_tap }
    }

    fn happen(&self, abi: &Abi, event: &Event) {
        match event {
            Event::Receive(frame) => drop(self.network.send(FAR, frame, Visible::ToTaps)),
            Event::Up(up) => self.network.set_up(OBSERVED, *up),
            Event::Mtu(mtu) => self.network.set_mtu(OBSERVED, *mtu),
            Event::Remove => self.network.remove(OBSERVED),
            Event::Loopback(payload) => {
                let packet = [&abi.loopback.header(2)[..], &datagram(payload)].concat();
                self.network.send(LOOPBACK, &packet, Visible::ToTaps);
            }
        }
    }
}

/// A UDP datagram of 127.0.0.1 to itself, behind its IPv4 header.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let length = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(28 + payload.len()));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1, 0x12, 0x34, 0x12, 0x34]);
    packet.extend(length(8 + payload.len()));
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

impl Turns {
    /// Waits until `until`, or until something has happened before. False when nothing can happen any more.
    fn wait(&self, abi: &Abi, until: Option<Moment>) -> bool {
        let mut state = lock(&self.state);
        if state.stuck {
            return false;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.waiting.insert(id, until);
        state.running = state.running.saturating_sub(1);
        let turn = state.turn;
        if state.running == 0 {
            self.advance(abi, &mut state);
        }
        while state.turn == turn {
            state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.stuck
    }

    /// A thread has ended: those that wait may be all there are.
    fn ended(&self, abi: &Abi) {
        let mut state = lock(&self.state);
        state.running = state.running.saturating_sub(1);
        if state.running == 0 && !state.waiting.is_empty() {
            self.advance(abi, &mut state);
        }
    }

    /// Everybody waits: goes on to the next thing.
    fn advance(&self, abi: &Abi, state: &mut State) {
        let event = state.events.iter().map(|(at, _)| *at).min();
        let deadline = state.waiting.values().flatten().copied().min();
        match (event, deadline) {
            (Some(event), deadline) if deadline.is_none_or(|deadline| event <= deadline) => {
                self.clock.advance_to(event);
                let events = std::mem::take(&mut state.events);
                let (due, later): (Vec<_>, Vec<_>) = events.into_iter().partition(|(at, _)| *at <= event);
                state.events = later;
                for (_, event) in due {
                    state.world.happen(abi, &event);
                }
            }
            (_, Some(deadline)) => self.clock.advance_to(deadline),
            _ => state.stuck = true,
        }
        state.running = state.waiting.len();
        state.waiting.clear();
        state.turn += 1;
        self.turned.notify_all();
    }
}

/// The stage: one at a time has a case on it.
pub struct Emulated {
    abi: &'static Abi,
    system: System,
    broken: Option<Break>,
    turns: Arc<Turns>,
}

impl Emulated {
    /// A stage for descriptors of the dialect, `broken` on purpose.
    pub fn new(abi: &'static Abi, system: System, broken: Option<Break>) -> Emulated {
        let clock = Arc::new(SimulatedClock::new());
        let state = State {
            world: World::new(abi, clock.clone()),
            running: 1,
            waiting: BTreeMap::new(),
            next_id: 0,
            turn: 0,
            events: Vec::new(),
            stuck: false,
        };
        let turns = Turns { clock, state: Mutex::new(state), turned: Condvar::new() };
        Emulated { abi, system, broken, turns: Arc::new(turns) }
    }
}

impl Stage for Emulated {
    fn system(&self) -> System {
        self.system
    }

    fn reset(&self, _: Needs) -> Result<(), Trouble> {
        let mut state = lock(&self.turns.state);
        state.world = World::new(self.abi, self.turns.clock.clone());
        (state.running, state.stuck) = (1, false);
        state.events.clear();
        Ok(())
    }

    fn open(&self, access: Access) -> Result<SharedFile, Errno> {
        let network = Arc::new(lock(&self.turns.state).world.network.clone());
        let file = EmulatedFile::open(self.abi, access, network, self.turns.clock.clone());
        let file = SimulatedFile {
            abi: self.abi,
            file,
            access,
            nonblocking: Mutex::new(false),
            turns: self.turns.clone(),
        };
        Ok(match self.broken {
            None => Arc::new(file),
            Some(how) => Arc::new(Broken::new(file, how, self.system)),
        })
    }

    fn happen(&self, event: &Event) -> Result<(), Trouble> {
        lock(&self.turns.state).world.happen(self.abi, event);
        Ok(())
    }

    fn after(&self, delay: Duration, event: Event) {
        let at = self.turns.clock.now() + delay;
        lock(&self.turns.state).events.push((at, event));
    }

    fn sleep(&self, time: Duration) {
        let until = self.turns.clock.now() + time;
        while self.turns.clock.now() < until && self.turns.wait(self.abi, Some(until)) {}
    }

    fn clock(&self) -> Duration {
        self.turns.clock.now().since(Moment::default())
    }

    fn together(&self, calls: Vec<Call<'_>>) {
        // the thread that starts them waits outside of simulated time
        lock(&self.turns.state).running += calls.len();
        thread::scope(|threads| {
            for call in calls {
                threads.spawn(move || {
                    call();
                    self.turns.ended(self.abi);
                });
            }
            self.turns.ended(self.abi);
        });
        lock(&self.turns.state).running += 1;
    }

    fn promiscuous(&self) -> Result<bool, Trouble> {
        Ok(lock(&self.turns.state).world.network.is_promiscuous(OBSERVED))
    }

    fn far_end(&self, _: usize) -> Result<Vec<Vec<u8>>, Trouble> {
        let mut frames = Vec::new();
        if let Some(Ok(mut batch)) = lock(&self.turns.state).world.far_tap.as_mut().map(|tap| tap.try_batch())
        {
            while let Some(packet) = batch.next() {
                if packet.way == Way::In {
                    frames.push(packet.data.to_vec());
                }
            }
        }
        Ok(frames)
    }

    fn interface(&self) -> &str {
        OBSERVED
    }

    fn address(&self) -> [u8; 6] {
        ADDRESS
    }

    fn other_interface(&self) -> &str {
        FAR
    }

    fn loopback(&self) -> &str {
        LOOPBACK
    }

    fn root(&self) -> bool {
        false
    }

    fn is_stuck(&self) -> bool {
        lock(&self.turns.state).stuck
    }

    fn slack(&self) -> Duration {
        Duration::ZERO
    }
}

/// A file whose blocking calls wait in simulated time.
struct SimulatedFile {
    abi: &'static Abi,
    file: EmulatedFile,
    access: Access,
    nonblocking: Mutex<bool>,
    turns: Arc<Turns>,
}

impl BpfFile for SimulatedFile {
    fn ioctl(&self, request: &Request) -> Result<Response, Errno> {
        self.file.ioctl_as(request.clone(), Caller::default())
    }

    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        if self.access == Access::Write {
            return Err(Errno::BadF);
        }
        let mut pending = PendingRead::new(buf.len(), *lock(&self.nonblocking));
        loop {
            let step = self.file.with(|file, now| match file.read(&mut pending, now) {
                ReadStep::Hold => {
                    let hold = file.hold();
                    let n = hold.len();
                    let result = buf.get_mut(..n).map(|room| room.copy_from_slice(hold)).ok_or(Errno::Fault);
                    file.free_hold();
                    Ok(result.map(|()| n))
                }
                ReadStep::Nothing => Ok(Ok(0)),
                ReadStep::Fail(errno) => Ok(Err(errno)),
                // a packet may have started a timer of the descriptor's own (OpenBSD)
                ReadStep::Wait { deadline } => Err([deadline, file.next_event()].into_iter().flatten().min()),
            });
            match step {
                Ok(result) => return result,
                // a case that waits for what cannot come is ended; the stage says that it is stuck
                Err(deadline) if !self.turns.wait(self.abi, deadline) => return Err(Errno::Intr),
                Err(_) => {}
            }
        }
    }

    fn write(&self, frame: &[u8]) -> Result<usize, Errno> {
        self.file.write(frame)
    }

    fn poll(&self, want: Interest, timeout: Option<Duration>) -> Result<Ready, Errno> {
        let deadline = timeout.map(|timeout| self.turns.clock.now() + timeout);
        loop {
            let (ready, next, now) =
                self.file.with(|file, now| (file.poll(want, now), file.next_event(), now));
            if ready != Ready::default() || deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(ready);
            }
            let next = next.filter(|next| *next > now);
            let until = [deadline, next].into_iter().flatten().min();
            if !self.turns.wait(self.abi, until) {
                return Err(Errno::Intr);
            }
        }
    }

    fn set_nonblocking(&self, on: bool) -> Result<(), Errno> {
        *lock(&self.nonblocking) = on;
        Ok(())
    }
}
