//! A network in this process: interfaces on wires, taps on interfaces. Everything can be tried on it with no privilege.
//!
//! ```
//! use std::sync::Arc;
//! use bpfdev_core::abi::{self, Request, Response};
//! use bpfdev_core::file::{Access, BpfFile, EmulatedFile};
//! use bpfdev_core::loopback::LoopbackNetwork;
//! use bpfdev_core::time::SystemClock;
//!
//! let clock = Arc::new(SystemClock::new());
//! let network = LoopbackNetwork::new(clock.clone());
//! network.add_ethernet("em0", [2, 0, 0, 0, 0, 1], 1);
//! let file = EmulatedFile::open(&abi::freebsd::FREEBSD, Access::ReadWrite, Arc::new(network.clone()), clock);
//! file.ioctl(&Request::SetIf(b"em0".to_vec()))?;
//! file.ioctl(&Request::Immediate(1))?;
//! network.receive("em0", &[0xff; 60]);
//! let mut buf = vec![0; 4096];
//! assert_eq!(file.read(&mut buf)?, 26 + 60, "one record: header and frame");
//! # Ok::<(), bpfdev_core::errno::Errno>(())
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backend::{
    Arrivals, Batch, Capabilities, Direction, FilterBackend, InProcess, Inject, Interface, LinkState,
    Network, PacketSource, Plan, Queued, Stats, TapConfig, TapError, Visible, Waiter,
};
use crate::cbpf::Program;
use crate::linktype::Linktype;
use crate::packet::{Packet, Way};
use crate::time::{Clock, Moment, Timestamp};

/// A network in this process. Clones are the same network.
#[derive(Clone)]
pub struct LoopbackNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    nics: BTreeMap<String, Nic>,
    /// What had arrived for taps whose interface was removed since.
    left: Vec<Queue>,
    last_id: u64,
    last_index: u32,
}

struct Nic {
    interface: Interface,
    link: LinkState,
    wire: u32,
    taps: Vec<Queue>,
}

/// What has arrived for one tap.
struct Queue {
    id: u64,
    promiscuous: bool,
    packets: VecDeque<Stored>,
    limit: usize,
    dropped: u64,
}

struct Stored {
    timestamp: Timestamp,
    arrival: Moment,
    way: Way,
    data: Vec<u8>,
}

/// Packets a tap's queue holds at least.
const QUEUE_MIN: usize = 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LoopbackNetwork {
    /// A network without interfaces.
    pub fn new(clock: Arc<dyn Clock>) -> LoopbackNetwork {
        let shared = Shared { clock, state: Mutex::default(), arrived: Condvar::new() };
        LoopbackNetwork { shared: Arc::new(shared) }
    }

    fn add(&self, name: &str, linktype: Linktype, address: &[u8], mtu: u32, wire: u32) {
        let mut state = lock(&self.shared.state);
        state.last_index += 1;
        let interface = Interface {
            name: name.to_owned(),
            index: state.last_index,
            network: 0,
            linktype,
            linktypes: vec![linktype],
            loopback: address.is_empty(),
            address: address.to_vec(),
        };
        let link = LinkState { up: true, mtu };
        state.nics.insert(name.to_owned(), Nic { interface, link, wire, taps: Vec::new() });
    }

    /// Adds an Ethernet interface that is up, MTU 1500, on the wire of this number.
    pub fn add_ethernet(&self, name: &str, address: [u8; 6], wire: u32) {
        self.add(name, Linktype::EN10MB, &address, 1500, wire);
    }

    /// Adds a loopback interface that is up, MTU 33,648; its link type is what the descriptor's dialect says.
    pub fn add_loopback(&self, name: &str) {
        self.add(name, Linktype::NULL, &[], 33_648, u32::MAX);
    }

    /// Takes the interface down or up. Nothing is received while it is down.
    pub fn set_up(&self, name: &str, up: bool) {
        if let Some(nic) = lock(&self.shared.state).nics.get_mut(name) {
            nic.link.up = up;
        }
    }

    /// Whether some tap has the interface in promiscuous mode.
    pub fn is_promiscuous(&self, name: &str) -> bool {
        lock(&self.shared.state).nics.get(name).is_some_and(Nic::is_promiscuous)
    }

    /// Sets the MTU, bytes.
    pub fn set_mtu(&self, name: &str, mtu: u32) {
        if let Some(nic) = lock(&self.shared.state).nics.get_mut(name) {
            nic.link.mtu = mtu;
        }
    }

    /// Removes the interface. What has arrived before is still handed on.
    pub fn remove(&self, name: &str) {
        let mut state = lock(&self.shared.state);
        let taps = state.nics.remove(name).map(|nic| nic.taps).unwrap_or_default();
        state.left.extend(taps.into_iter().filter(|tap| !tap.packets.is_empty()));
        drop(state);
        self.shared.arrived.notify_all();
    }

    /// A frame arrives from the wire. False when no interface of that name is up.
    pub fn receive(&self, name: &str, frame: &[u8]) -> bool {
        let now = (self.shared.clock.now(), self.shared.clock.time_of_day());
        let mut state = lock(&self.shared.state);
        let Some(nic) = state.nics.get_mut(name).filter(|nic| nic.link.up) else { return false };
        nic.receive(frame, now);
        drop(state);
        self.shared.arrived.notify_all();
        true
    }

    /// The host sends a frame through the interface. False when no interface of that name is up; a loopback interface
    /// takes frames also while it is down, as the BSDs' looutput does.
    pub fn send(&self, name: &str, frame: &[u8], visible: Visible) -> bool {
        let now = (self.shared.clock.now(), self.shared.clock.time_of_day());
        let mut state = lock(&self.shared.state);
        let takes = |nic: &&mut Nic| nic.link.up || nic.interface.loopback;
        let Some(nic) = state.nics.get_mut(name).filter(takes) else { return false };
        match visible {
            Visible::ToTaps => nic.tap(Way::Out, frame, now),
            Visible::AsReceived => nic.tap(Way::In, frame, now),
            Visible::SentAndReceived => {
                nic.tap(Way::Out, frame, now);
                nic.tap(Way::In, frame, now);
            }
            Visible::ToNobody => {}
        }
        let wire = nic.wire;
        if !nic.interface.loopback {
            for (_, other) in state.nics.iter_mut().filter(|(other, nic)| *other != name && nic.wire == wire)
            {
                if other.link.up {
                    other.receive(frame, now);
                }
            }
        }
        drop(state);
        self.shared.arrived.notify_all();
        true
    }
}

impl Nic {
    fn is_promiscuous(&self) -> bool {
        self.taps.iter().any(|tap| tap.promiscuous)
    }

    /// From the wire: what is meant for another host is seen in promiscuous mode only.
    fn receive(&mut self, frame: &[u8], now: (Moment, Timestamp)) {
        let group = frame.first().is_some_and(|byte| byte & 1 == 1);
        let mine = frame.get(..6).is_some_and(|to| to == self.interface.address);
        if self.interface.loopback || group || mine || frame.len() < 6 || self.is_promiscuous() {
            self.tap(Way::In, frame, now);
        }
    }

    fn tap(&mut self, way: Way, frame: &[u8], (arrival, timestamp): (Moment, Timestamp)) {
        for tap in &mut self.taps {
            if tap.packets.len() >= tap.limit {
                tap.dropped += 1;
            } else {
                tap.packets.push_back(Stored { timestamp, arrival, way, data: frame.to_vec() });
            }
        }
    }
}

impl Network for LoopbackNetwork {
    fn attach(&self, name: &str, config: &TapConfig) -> Result<Box<dyn FilterBackend>, TapError> {
        let mut state = lock(&self.shared.state);
        state.last_id += 1;
        let id = state.last_id;
        let nic = state.nics.get_mut(name).ok_or_else(|| TapError::NoSuchInterface(name.to_owned()))?;
        let mut interface = nic.interface.clone();
        if interface.loopback {
            interface.linktype = config.loopback.linktype;
            interface.linktypes = vec![interface.linktype];
        }
        nic.taps.push(Queue {
            id,
            promiscuous: false,
            packets: VecDeque::new(),
            limit: (2 * config.bufsize / (config.record_overhead + 14).max(1)).max(QUEUE_MIN),
            dropped: 0,
        });
        let plan = if config.filter.is_some() { Plan::Process } else { Plan::AcceptAll };
        Ok(Box::new(LoopbackTap {
            network: self.clone(),
            interface,
            id,
            plan,
            locked: false,
            lent: None,
            judge: InProcess::new(config),
        }))
    }

    fn attached(&self, name: &str) -> Result<u32, TapError> {
        let state = lock(&self.shared.state);
        let nic = state.nics.get(name).ok_or_else(|| TapError::NoSuchInterface(name.to_owned()))?;
        Ok(u32::try_from(nic.taps.len()).unwrap_or(u32::MAX))
    }
}

/// A tap on an interface of a [`LoopbackNetwork`].
struct LoopbackTap {
    network: LoopbackNetwork,
    interface: Interface,
    id: u64,
    plan: Plan,
    locked: bool,
    lent: Option<Stored>,
    judge: InProcess,
}

impl LoopbackTap {
    fn gone(&self) -> TapError {
        TapError::Gone(self.interface.name.clone())
    }

    /// Works on this tap's queue, and the interface's state.
    fn queue<R>(&self, f: impl FnOnce(&mut Queue, LinkState) -> R) -> Result<R, TapError> {
        let mut state = lock(&self.network.shared.state);
        let nic = state.nics.get_mut(&self.interface.name).ok_or_else(|| self.gone())?;
        let link = nic.link;
        let queue = nic.taps.iter_mut().find(|tap| tap.id == self.id).ok_or_else(|| self.gone())?;
        Ok(f(queue, link))
    }
}

impl LoopbackTap {
    /// The next packet that has arrived.
    fn take(&self) -> Option<Stored> {
        let next = |queue: &mut Queue| queue.packets.pop_front();
        self.queue(|queue, _| next(queue)).or_else(|_| self.left(next)).ok().flatten()
    }

    /// Works on what was left when the interface was removed.
    fn left<R>(&self, f: impl FnOnce(&mut Queue) -> R) -> Result<R, TapError> {
        let mut state = lock(&self.network.shared.state);
        state.left.retain(|queue| !queue.packets.is_empty());
        state.left.iter_mut().find(|queue| queue.id == self.id).map(f).ok_or_else(|| self.gone())
    }
}

impl Stored {
    fn packet(&self) -> Packet<'_> {
        Packet {
            timestamp: self.timestamp,
            arrival: self.arrival,
            way: self.way,
            wirelen: u32::try_from(self.data.len()).unwrap_or(u32::MAX),
            data: &self.data,
            verdict: None,
        }
    }
}

impl PacketSource for LoopbackTap {
    fn next_packet(&mut self) -> Option<Packet<'_>> {
        let verdict = loop {
            self.lent = Some(self.take()?);
            let verdict = self.judge.verdict(&self.lent.as_ref()?.packet(), self.interface.loopback);
            if verdict != Some(0) {
                break verdict;
            }
        };
        let packet = self.lent.as_ref()?.packet();
        let data = verdict.map_or(packet.data, |n| &packet.data[..packet.data.len().min(n as usize)]);
        Some(Packet { data, verdict, ..packet })
    }

    fn finish(&mut self) {
        self.lent = None;
    }
}

impl FilterBackend for LoopbackTap {
    fn name(&self) -> &'static str {
        "loopback network"
    }

    fn interface(&self) -> &Interface {
        &self.interface
    }

    fn link_state(&mut self) -> Result<LinkState, TapError> {
        self.queue(|_, link| link)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            promiscuous: true,
            inject: true,
            direction: true,
            lock_filter: true,
            keep_queued: true,
            counts_received: false,
            nanoseconds: true,
            on_demand: false,
        }
    }

    fn plan(&self) -> Plan {
        self.plan
    }

    fn set_filter(&mut self, program: Option<&Program>, queued: Queued) -> Result<Plan, TapError> {
        if self.locked {
            return Err(TapError::io("changing a locked filter", std::io::Error::from_raw_os_error(1)));
        }
        if queued == Queued::Flush {
            self.queue(|queue, _| queue.packets.clear())?;
        }
        self.judge.set_filter(program);
        self.plan = if program.is_some() { Plan::Process } else { Plan::AcceptAll };
        Ok(self.plan)
    }

    fn lock_filter(&mut self) -> Result<(), TapError> {
        self.locked = true;
        Ok(())
    }

    fn set_direction(&mut self, direction: Direction) -> Result<(), TapError> {
        self.judge.set_direction(direction);
        Ok(())
    }

    fn set_promiscuous(&mut self, on: bool) -> Result<(), TapError> {
        self.queue(|queue, _| queue.promiscuous = on)
    }

    fn arrivals(&mut self) -> Result<Arrivals, TapError> {
        let some = |queue: &mut Queue| !queue.packets.is_empty();
        let ready = self.queue(|queue, _| some(queue)).or_else(|_| self.left(some))?;
        Ok(if ready { Arrivals::Ready } else { Arrivals::NotYet })
    }

    fn try_batch(&mut self) -> Result<Batch<'_>, TapError> {
        self.queue(|_, _| ()).or_else(|_| self.left(|_| ()))?;
        Ok(Batch::new(self))
    }

    fn injector(&self) -> Result<Box<dyn Inject>, TapError> {
        Ok(Box::new(LoopbackInjector { network: self.network.clone(), name: self.interface.name.clone() }))
    }

    fn stats(&mut self) -> Result<Stats, TapError> {
        self.queue(|queue, _| Stats { dropped: queue.dropped, ..Stats::default() })
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn waiter(&self) -> Result<Arc<dyn Waiter>, TapError> {
        Ok(Arc::new(LoopbackWaiter {
            network: self.network.clone(),
            name: self.interface.name.clone(),
            id: self.id,
        }))
    }
}

impl Drop for LoopbackTap {
    fn drop(&mut self) {
        let id = self.id;
        let mut state = lock(&self.network.shared.state);
        if let Some(nic) = state.nics.get_mut(&self.interface.name) {
            nic.taps.retain(|tap| tap.id != id);
        }
        state.left.retain(|queue| queue.id != id);
    }
}

struct LoopbackInjector {
    network: LoopbackNetwork,
    name: String,
}

impl Inject for LoopbackInjector {
    fn inject(&mut self, frame: &[u8], visible: Visible) -> Result<(), TapError> {
        if self.network.send(&self.name, frame, visible) {
            Ok(())
        } else {
            Err(TapError::Down(self.name.clone()))
        }
    }
}

struct LoopbackWaiter {
    network: LoopbackNetwork,
    name: String,
    id: u64,
}

impl Waiter for LoopbackWaiter {
    fn wait(&self, timeout: Option<Duration>) {
        let state = lock(&self.network.shared.state);
        let something = state
            .nics
            .get(&self.name)
            .is_none_or(|nic| nic.taps.iter().any(|tap| tap.id == self.id && !tap.packets.is_empty()));
        if something {
            return;
        }
        let arrived = &self.network.shared.arrived;
        match timeout {
            Some(timeout) => drop(arrived.wait_timeout(state, timeout)),
            None => drop(arrived.wait(state)),
        }
    }

    fn wake(&self) {
        self.network.shared.arrived.notify_all();
    }
}
