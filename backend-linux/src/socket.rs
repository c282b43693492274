//! A tap over packet(7) sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Once};
use std::time::Duration;

use bpfdev_core::backend::{
    Arrivals, Batch, Capabilities, Direction, FilterBackend, Inject, Interface, LinkState, Network, Plan,
    Queued, Stats, TapConfig, TapError, Waiter,
};
use bpfdev_core::cbpf::Program;
use bpfdev_core::packet::Way;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::attached::{self, Attached};
use crate::bpf::{CounterMap, Refused, SocketFilter};
use crate::checksum::Checksum;
use crate::filter::ebpf::{Hidden, Target, translate};
use crate::filter::{LinkKind, PlanChoice, rewrite};
use crate::inject::{PacketInjector, Transmitter};
use crate::interface;
use crate::judge::{InKernel, Judge};
use crate::layout::Layout;
use crate::reaper;
use crate::receiver::Receiver;
use crate::sys;
use crate::waiter::SocketWaiter;

const ETH_P_ALL: u16 = libc::ETH_P_ALL as u16;

/// Taps over AF_PACKET sockets, in the network namespace of the thread that attaches.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketSockets {
    /// Where read filters run.
    pub plan: PlanChoice,
    /// What is done with packets whose checksum the kernel has not filled in.
    pub checksum: Checksum,
    /// Octets of the receive ring; `None`: as many as two of the descriptor's buffers full of short packets need.
    pub ring_bytes: Option<usize>,
}

impl Network for PacketSockets {
    fn attach(&self, name: &str, config: &TapConfig) -> Result<Box<dyn FilterBackend>, TapError> {
        Ok(Box::new(PacketSocket::attach(name, config, *self)?))
    }

    fn most_memory(&self, config: &TapConfig) -> usize {
        let layout = Layout::new(usize::MAX, config.bufsize, config.record_overhead);
        self.ring_bytes.map_or(layout, |bytes| layout.with_len(bytes)).len()
    }

    fn attached(&self, name: &str) -> Result<u32, TapError> {
        let socket = open()?;
        let (index, _) = interface::look_up(socket.as_fd(), name)?;
        Ok(attached::count(interface::network(), u32::try_from(index).unwrap_or(0)))
    }
}

/// One attached tap: a receiving packet socket with a TPACKET_V2 ring, and a sending one.
///
/// A packet is lent straight from the ring. Its filter runs in the kernel where [`rewrite`] finds that exact, else the
/// packet is handed on unjudged. Dropping it ends promiscuous mode at once; the sockets are closed on another thread
/// (that takes some 20 ms), or when the last [`Waiter`] is dropped.
#[derive(Debug)]
pub struct PacketSocket {
    receiver: Receiver,
    transmitter: Arc<Transmitter>,
    interface: Interface,
    index: i32,
    kind: LinkKind,
    choice: PlanChoice,
    promiscuous: bool,
    locked: bool,
    /// Packets and losses the kernel has counted so far; it forgets what it has told.
    packets: u64,
    drops: u64,
    /// Since the last flush the kernel has always counted every packet.
    counts_all: bool,
    /// Where the eBPF programs of this tap count, one after the other.
    counters: Option<CounterMap>,
    /// Packets they rejected, as last read.
    rejected: u64,
    /// Packets they are not to see.
    hidden: Hidden,
    /// The way a loopback interface's packets count as.
    loopback_way: Way,
    /// What the direction hides is counted all the same.
    counts_hidden: bool,
    /// Counts as attached, until it is retired.
    attached: Option<Attached>,
}

fn open() -> Result<OwnedFd, TapError> {
    // Protocol 0: nothing is received before it is bound.
    socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).map_err(|errno| match errno {
        Errno::EPERM | Errno::EACCES => TapError::Permission {
            what: "opening a packet socket".to_owned(),
            cure: "needs CAP_NET_RAW in this network namespace",
        },
        errno => TapError::io("opening a packet socket", errno.into()),
    })
}

impl PacketSocket {
    /// Attaches a tap to the interface called `name` in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`TapError::NoSuchInterface`]; [`TapError::Permission`] without CAP_NET_RAW; [`TapError::Unsupported`] for an
    /// interface whose packets no link type describes, or, with [`PlanChoice::Cbpf`], a filter that cannot be
    /// rewritten; else the system's.
    pub fn attach(name: &str, config: &TapConfig, options: PacketSockets) -> Result<PacketSocket, TapError> {
        let (socket, sender) = (open()?, open()?);
        let (index, name) = interface::look_up(socket.as_fd(), name)?;
        let failed = |what: &'static str| {
            let name = &name;
            move |error: io::Error| match error.raw_os_error() {
                Some(libc::ENODEV | libc::ENXIO) => TapError::NoSuchInterface(name.clone()),
                Some(libc::ENOMEM | libc::ENOBUFS) => TapError::NoBuffers("a receive ring"),
                _ => TapError::io(format!("{what} {name}"), error),
            }
        };

        // Binding the sender tells the hardware type before the receiver must know it.
        sys::bind(sender.as_fd(), &sys::link_address(index, 0))
            .map_err(failed("binding a packet socket to"))?;
        let address = sys::socket_address(sender.as_fd()).map_err(failed("asking the address of"))?;
        let (kind, linktype) = interface::link_kind(address.sll_hatype, config)?;
        let mtu = interface::state(socket.as_fd(), index).map_err(failed("asking the MTU of"))?.mtu;

        let layout = Layout::new(mtu as usize, config.bufsize, config.record_overhead);
        let layout = options.ring_bytes.map_or(layout, |bytes| layout.with_len(bytes));
        let receiver = Receiver::new(socket, layout, config.bufsize, kind, options.checksum, Judge::All)
            .map_err(failed("making a receive ring for"))?;
        let transmitter = Transmitter::new(sender, name.clone(), index, kind);
        let interface = interface::describe(&address, name.clone(), linktype);
        let mut tap = PacketSocket {
            receiver,
            transmitter: Arc::new(transmitter),
            attached: Some(Attached::new(&interface)),
            interface,
            index,
            kind,
            choice: options.plan,
            promiscuous: false,
            locked: false,
            packets: 0,
            drops: 0,
            counts_all: true,
            counters: None,
            rejected: 0,
            hidden: Hidden::default(),
            loopback_way: config.loopback_way,
            counts_hidden: config.counts_hidden,
        };
        tap.hidden = tap.hidden_by(config.direction);
        tap.receiver.directions = config.judged.then_some(config.direction);
        tap.receiver.loopback_way = config.loopback_way;
        let judge = tap.install(config.filter.as_ref())?;
        tap.counts_all = judge.counts_all();
        tap.receiver.judges = crate::judge::Judges::new(judge);
        tap.set_direction(config.direction)?;
        sys::bind(tap.receiver.fd(), &sys::link_address(index, ETH_P_ALL))
            .map_err(failed("binding a packet socket to"))?;
        // On an interface that is down this leaves a pending ENETDOWN; it starts by itself when the interface is up.
        if tap.receiver.pending_error() != 0 {
            tap.receiver.lookout.down();
        }
        Ok(tap)
    }

    /// Puts the filter into the kernel, or takes the old one out; who then judges packets.
    fn install(&mut self, program: Option<&Program>) -> Result<Judge, TapError> {
        // FreeBSD's program without instructions accepts every packet whole.
        let program = program.filter(|program| !program.is_empty());
        if let (Some(program), PlanChoice::Auto | PlanChoice::Ebpf) = (program, self.choice) {
            match self.install_ebpf(program) {
                Ok(filter) => return Ok(Judge::Kernel(filter, program.clone())),
                Err(refused) if self.choice == PlanChoice::Ebpf => {
                    return Err(TapError::io("running the filter as eBPF", io::Error::other(refused)));
                }
                Err(refused) => next_plan(&refused),
            }
        }
        if let (Some(program), PlanChoice::Auto | PlanChoice::Cbpf) = (program, self.choice) {
            let forced = self.choice == PlanChoice::Cbpf;
            match rewrite(program, self.kind) {
                Ok(rewritten) => match sys::attach_filter(self.receiver.fd(), &rewritten.insns) {
                    Ok(()) => return Ok(Judge::Kernel(InKernel::Cbpf(rewritten), program.clone())),
                    Err(error) if forced || self.locked => return Err(attaching(error)),
                    // ENOMEM above net.core.optmem_max; EPERM, EINVAL where a sandbox or the kernel disagrees.
                    Err(error) => tracing::debug!(%error, "the filter runs in this process"),
                },
                Err(_) if forced => return Err(TapError::Unsupported("running this filter in the kernel")),
                Err(error) => tracing::debug!(%error, "the filter runs in this process"),
            }
        }
        match sys::set_int(self.receiver.fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(attaching(error)),
        }
        let judge = if self.receiver.directions.is_some() { Judge::Here } else { Judge::Descriptor };
        Ok(program.map_or(Judge::All, |program| judge(program.clone())))
    }

    /// Translates the filter, loads and attaches it; it counts where those before it did.
    fn install_ebpf(&mut self, program: &Program) -> Result<InKernel, Refused> {
        let counters = match self.counters.take() {
            Some(counters) => counters,
            None => CounterMap::new()?,
        };
        let counters = self.counters.insert(counters);
        let target = Target { hidden: self.hidden, ..Target::new(self.kind) };
        let translated = translate(program, &target)?;
        let mut filter = SocketFilter::load(&translated, counters)?;
        filter.attach(self.receiver.fd())?;
        Ok(InKernel::Ebpf(Arc::new(translated), Arc::new(filter)))
    }

    /// Puts back the filter that was there, after a change that failed half-way.
    fn reinstall(&self) {
        // It was accepted once; should it not be now, every packet is still judged, in this process, as cut ones are by
        // their length alone.
        match self.receiver.judges.present() {
            Judge::Kernel(InKernel::Cbpf(rewritten), _) => {
                let _ = sys::attach_filter(self.receiver.fd(), &rewritten.insns);
            }
            Judge::Kernel(InKernel::Ebpf(_, filter), _) => {
                let _ = filter.attach_again(self.receiver.fd());
            }
            Judge::All | Judge::Descriptor(_) | Judge::Here(_) => {}
        }
    }

    /// What an eBPF program must not see, and so not count, when only this direction is wanted.
    fn hidden_by(&self, direction: Direction) -> Hidden {
        // On loopback there is one copy, which the kernel calls received.
        let received = if self.interface.loopback { self.loopback_way } else { Way::In };
        Hidden {
            received: !direction.wants(received),
            sent: !self.interface.loopback && !direction.wants(Way::Out),
            counted: self.counts_hidden,
        }
    }

    fn gone(&self) -> TapError {
        TapError::Gone(self.interface.name.clone())
    }

    /// The ring is empty: is that all there is to it?
    fn look(&mut self) -> Result<(), TapError> {
        let error = self.receiver.pending_error();
        if error == 0 && !self.receiver.lookout.is_down() {
            return Ok(());
        }
        let address = sys::socket_address(self.receiver.fd())
            .map_err(|error| TapError::io("asking a packet socket's address", error))?;
        if address.sll_ifindex < 0 {
            // So that it is asked, and told, again.
            self.receiver.lookout.down();
            // Nothing comes any more, but a packet may have come since the ring was found empty.
            return if self.receiver.is_ready() { Ok(()) } else { Err(self.gone()) };
        }
        match interface::state(self.receiver.fd(), self.index) {
            Ok(LinkState { up: true, .. }) => self.receiver.lookout.up(),
            _ => self.receiver.lookout.down(),
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), TapError> {
        let (packets, drops) = sys::statistics(self.receiver.fd()).map_err(|error| {
            TapError::io(format!("asking the statistics of {}", self.interface.name), error)
        })?;
        self.packets += u64::from(packets);
        self.drops += u64::from(drops);
        Ok(())
    }
}

/// Says once why filters do not run as eBPF here.
fn next_plan(refused: &Refused) {
    static SAID: Once = Once::new();
    SAID.call_once(|| tracing::info!(why = %refused.why(), %refused, "filters do not run as eBPF here"));
    tracing::debug!(%refused, "the next plan is tried");
}

fn attaching(error: io::Error) -> TapError {
    match error.raw_os_error() {
        Some(libc::ENOMEM | libc::ENOBUFS) => TapError::NoBuffers("a filter (net.core.optmem_max)"),
        _ => TapError::io("attaching a filter", error),
    }
}

impl FilterBackend for PacketSocket {
    fn name(&self) -> &'static str {
        "packet socket"
    }

    fn interface(&self) -> &Interface {
        &self.interface
    }

    fn link_state(&mut self) -> Result<LinkState, TapError> {
        interface::state(self.receiver.fd(), self.index).map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => self.gone(),
            _ => TapError::io(format!("asking the state of {}", self.interface.name), error),
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            promiscuous: true,
            inject: true,
            direction: !self.interface.loopback,
            lock_filter: true,
            keep_queued: true,
            counts_received: true,
            nanoseconds: true,
            on_demand: false,
        }
    }

    fn plan(&self) -> Plan {
        match self.receiver.judges.present() {
            Judge::All => Plan::AcceptAll,
            Judge::Kernel(InKernel::Cbpf(_), _) => Plan::Cbpf,
            Judge::Kernel(InKernel::Ebpf(..), _) => Plan::Ebpf,
            Judge::Descriptor(_) | Judge::Here(_) => Plan::Process,
        }
    }

    fn set_filter(&mut self, program: Option<&Program>, queued: Queued) -> Result<Plan, TapError> {
        if self.locked {
            return Err(attaching(io::Error::from_raw_os_error(libc::EPERM)));
        }
        let wait = |error| TapError::io("waiting until no CPU runs the old filter", error);
        if self.receiver.judges.in_doubt() {
            if !self.receiver.judges.doubt_is_over() {
                reaper::synchronise().map_err(wait)?;
            }
            self.receiver.judges.end_doubt(self.receiver.visible_end());
        }
        let before = self.receiver.visible_end();
        let kernel_accepted_all = self.receiver.judges.present().kernel_accepts_all();
        let judge = self.install(program)?;
        let counts_all = judge.counts_all();
        if let Judge::Kernel(InKernel::Ebpf(_, old), _) = self.receiver.judges.present() {
            reaper::drop_synchronised(old.clone());
        }
        // For some moments another CPU passes packets by the old filter, or by none. What it passes whole is judged
        // here; what it cuts was judged.
        let doubtful = match (&judge, queued) {
            (Judge::Kernel(_, program), _) if kernel_accepted_all => Some(Judge::Here(program.clone())),
            (Judge::Descriptor(program), Queued::Keep) if !kernel_accepted_all => {
                Some(Judge::Here(program.clone()))
            }
            (Judge::All, Queued::Keep) if !kernel_accepted_all => Some(Judge::All),
            _ => None,
        };
        let doubt = doubtful.map(|judge| (reaper::synchronised(), judge));
        match queued {
            Queued::Keep => {
                self.counts_all &= counts_all;
                self.receiver.judges.change(before, judge, doubt);
            }
            Queued::Flush => {
                // Other CPUs may still run the old program, and what it cuts cannot be judged again.
                if !kernel_accepted_all {
                    reaper::synchronise().map_err(|error| {
                        self.reinstall();
                        wait(error)
                    })?;
                }
                self.receiver.discard();
                self.counts_all = counts_all;
                self.receiver.judges.change(before, judge, doubt);
            }
        }
        Ok(self.plan())
    }

    fn lock_filter(&mut self) -> Result<(), TapError> {
        sys::set_int(self.receiver.fd(), libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1)
            .map_err(|error| TapError::io("locking the filter", error))?;
        self.locked = true;
        Ok(())
    }

    fn set_direction(&mut self, direction: Direction) -> Result<(), TapError> {
        self.receiver.directions = self.receiver.directions.map(|_| direction);
        let hidden = self.hidden_by(direction);
        if hidden != self.hidden && !self.locked {
            self.hidden = hidden;
            if let Judge::Kernel(InKernel::Ebpf(..), program) = self.receiver.judges.present() {
                let program = program.clone();
                self.set_filter(Some(&program), Queued::Keep)?;
            }
        }
        let ignore = self.interface.loopback || (direction == Direction::In && !self.counts_hidden);
        match sys::set_int(self.receiver.fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, ignore.into())
        {
            Ok(()) => Ok(()),
            // Before Linux 4.20: the descriptor, and on loopback the receiver, drops what is not wanted.
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
            Err(error) => Err(TapError::io("choosing the direction", error)),
        }
    }

    fn set_promiscuous(&mut self, on: bool) -> Result<(), TapError> {
        if on == self.promiscuous {
            return Ok(());
        }
        sys::set_promiscuous(self.receiver.fd(), self.index, on).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::ENODEV | libc::ENXIO) => self.gone(),
                _ => TapError::io(format!("setting promiscuous mode of {}", self.interface.name), error),
            }
        })?;
        self.promiscuous = on;
        Ok(())
    }

    fn retire(&mut self) {
        self.attached = None;
        if let Err(error) = self.set_promiscuous(false) {
            tracing::debug!(%error, "ending promiscuous mode");
        }
    }

    fn arrivals(&mut self) -> Result<Arrivals, TapError> {
        if self.receiver.is_ready() {
            return Ok(Arrivals::Ready);
        }
        self.look()?;
        Ok(Arrivals::NotYet)
    }

    fn try_batch(&mut self) -> Result<Batch<'_>, TapError> {
        if !self.receiver.is_ready() {
            self.look()?;
        }
        self.receiver.begin();
        Ok(Batch::new(&mut self.receiver))
    }

    fn injector(&self) -> Result<Box<dyn Inject>, TapError> {
        Ok(Box::new(PacketInjector(self.transmitter.clone())))
    }

    fn stats(&mut self) -> Result<Stats, TapError> {
        self.count()?;
        if let Some(counters) = &self.counters {
            let counted = counters.read().map_err(|refused| {
                TapError::io("reading the filter's counters", io::Error::other(refused))
            })?;
            // A packet on its way is in one of the two only: the difference may be one too large for a moment.
            self.rejected = self.rejected.max(counted.received.saturating_sub(counted.accepted));
        }
        let in_ring = self.packets.saturating_sub(self.receiver.uncounted);
        Ok(Stats {
            received: self.counts_all.then_some(in_ring + self.rejected),
            dropped: self.drops + self.receiver.cut,
            rejected: self.rejected + self.receiver.rejected,
        })
    }

    fn memory(&self) -> usize {
        self.receiver.ring_len()
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.receiver.fd())
    }

    /// While the interface is down: its removal would not wake the socket. A [`Waiter`] does this by itself.
    fn look_again(&self) -> Option<Duration> {
        self.receiver.lookout.after()
    }

    fn waiter(&self) -> Result<Arc<dyn Waiter>, TapError> {
        let waiter = SocketWaiter::new(self.receiver.socket().clone(), self.receiver.lookout.clone())
            .map_err(|errno| TapError::io("making an eventfd", errno.into()))?;
        Ok(Arc::new(waiter))
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        // The socket itself may live a little longer.
        self.retire();
    }
}
