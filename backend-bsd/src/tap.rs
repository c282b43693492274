//! A device as a tap: its kernel filters, and hands on what passes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bpfdev_core::abi::hdr::Tail;
use bpfdev_core::abi::rules::{DirectionRule, ImmediateRule, Removal, Unattached, UnattachedPoll};
use bpfdev_core::abi::{Arg, FilterSource, Op, Request, Response, Stamp};
use bpfdev_core::backend::{
    Arrivals, Batch, Capabilities, Direction, FilterBackend, Inject, Interface, LinkState, Plan, Queued,
    Stats, TapError, Waiter,
};
use bpfdev_core::cbpf::{Insn, Program};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::BpfFile;
use bpfdev_core::packet::Way;

use crate::attach::{Attached, Delivery, refused};
use crate::device::DeviceFile;
use crate::errno::io_error;
use crate::inject::DeviceInjector;
use crate::reader::Reader;
use crate::records::Malformed;
use crate::sys;
use crate::waiter::DeviceWaiter;

/// How soon the device is asked whether its interface is still there, on a system that tells nobody of its removal.
const LOOK: Duration = Duration::from_secs(1);

/// A program that accepts every packet whole: what the absence of a filter means, where BIOCSETFNR would flush.
const ACCEPT_ALL: [Insn; 1] = [Insn::stmt(0x06, u32::MAX)];

/// One bpf device, attached to one interface.
///
/// Its filter runs in that system's kernel. A packet is lent straight from the buffer that read(2) has filled; what a
/// dropped [`Batch`] has left is in the next one. Whether a packet was received or sent only some systems tell:
/// OpenBSD since 6.8 and macOS. Elsewhere ([`Capabilities::direction`] is false) it counts as received, or as sent where
/// only those are wanted.
///
/// When its interface is removed, what the device has buffered comes first; but OpenBSD revokes the device, and that is lost.
///
/// Dropping it closes the device, and so ends promiscuous mode, once its [`Inject`] and [`Waiter`] halves are dropped too.
pub struct DeviceTap {
    pub(crate) file: Arc<DeviceFile>,
    pub(crate) interface: Interface,
    pub(crate) reader: Reader,
    /// Asks about the interface, in the network it was attached in.
    pub(crate) control: OwnedFd,
    pub(crate) delivery: Delivery,
    /// Packets of every direction are handed on, whichever are wanted.
    pub(crate) shows_hidden: bool,
    /// There is a filter.
    pub(crate) filtered: bool,
    /// The device can be written, and its link type too.
    pub(crate) writes: bool,
    pub(crate) locked: bool,
    pub(crate) promiscuous: bool,
    pub(crate) counted: Counted,
    /// When it was last seen that the interface is there.
    pub(crate) looked: Instant,
    /// Counts as attached.
    pub(crate) _attached: Attached,
}

/// The device's counters: what they said last, and what they have said in all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    last: [u64; 3],
    total: [u64; 3],
}

impl Counted {
    /// Adds what was counted since the last time. `wide` counters do not wrap; the others have 32 bits.
    fn add(&mut self, now: [u64; 3], wide: bool) {
        for ((total, last), now) in self.total.iter_mut().zip(&mut self.last).zip(now) {
            let grown = if wide { now.saturating_sub(*last) } else { now.wrapping_sub(*last) & 0xffff_ffff };
            *total += grown;
            *last = now;
        }
    }

    /// The device has zeroed them.
    fn zeroed(&mut self) {
        self.last = [0; 3];
    }
}

/// What BIOCSETF and BIOCSETFNR are given; `None` removes the filter.
pub(crate) fn filter_source(program: Option<&Program>) -> FilterSource {
    FilterSource::new(program.map_or(&[], Program::insns))
}

/// The argument for these directions by the dialect's rule; `None` where it has no word for them.
fn direction_value(rule: DirectionRule, direction: Direction) -> Option<u32> {
    let [received, sent] = match direction {
        Direction::None => [0, 0],
        Direction::In => [1, 0],
        Direction::Out => [0, 1],
        Direction::InOut => [1, 1],
    };
    match (rule, direction) {
        (DirectionRule::ShowMask, _) => Some(received | sent << 1),
        (DirectionRule::HideMask, _) => Some(3 & !(received | sent << 1)),
        (DirectionRule::InInoutOut | DirectionRule::SeeSent, Direction::In) => Some(0),
        (DirectionRule::InInoutOut | DirectionRule::SeeSent, Direction::InOut) => Some(1),
        (DirectionRule::InInoutOut, Direction::Out) => Some(2),
        _ => None,
    }
}

/// Tells a device which packets are wanted.
pub(crate) fn direction_request(file: &DeviceFile, direction: Direction) -> Result<(), TapError> {
    let unsupported = TapError::Unsupported(match direction {
        Direction::In => "seeing received packets only",
        Direction::Out => "seeing sent packets only",
        Direction::InOut => "seeing packets of both directions",
        Direction::None => "seeing no packets",
    });
    let Some(value) = direction_value(file.abi().rules.direction, direction) else { return Err(unsupported) };
    let mut set = file.ioctl(&Request::SDirection(value));
    // An older macOS has only BIOCSSEESENT.
    if set == Err(Errno::Inval) && file.has(Op::SSeeSent) {
        set = match direction {
            Direction::In => file.ioctl(&Request::SSeeSent(0)),
            Direction::InOut => file.ioctl(&Request::SSeeSent(1)),
            Direction::Out | Direction::None => return Err(unsupported),
        };
    }
    set.map(drop).map_err(|errno| TapError::io("choosing the direction", io_error(errno)))
}

impl DeviceTap {
    /// The device, for requests that a tap has no method for, such as BIOCSETWF. What zeroes counters (BIOCFLUSH,
    /// BIOCSETF, BIOCSETIF, BIOCSDLT) is better left alone: [`Stats`] would go wrong.
    pub fn file(&self) -> &DeviceFile {
        &self.file
    }

    /// Length of the read buffer in bytes, which is that of each of the device's: BIOCGBLEN. It may be less than was
    /// asked for.
    pub fn bufsize(&self) -> usize {
        self.reader.len()
    }

    fn gone(&self) -> TapError {
        TapError::Gone(self.interface.name.clone())
    }

    /// The device has answered so.
    fn failed(&self, what: &str, errno: Errno) -> TapError {
        let revoked = self.file.abi().rules.removal == Removal::Revokes;
        match errno {
            Errno::NxIo => self.gone(),
            Errno::Io | Errno::BadF if revoked => self.gone(),
            _ => TapError::io(format!("{what} {}", self.interface.name), io_error(errno)),
        }
    }

    /// Packets whose header does not tell their way count as going this way from now on, those in the device's buffers
    /// among them.
    pub(crate) fn call(&mut self, direction: Direction) {
        self.reader.call(if direction == Direction::Out { Way::Out } else { Way::In });
    }

    /// Record headers tell which way a packet went.
    fn tells_way(&self) -> bool {
        self.file.header().tail != Tail::None
    }

    /// Nobody tells of the interface's removal.
    fn removal_is_silent(&self) -> bool {
        let rules = &self.file.abi().rules;
        rules.removal == Removal::Silent || rules.poll.unattached == UnattachedPoll::Nothing
    }

    /// Reads once, unless something is left. A malformed record that comes next is told.
    fn fill(&mut self) -> Result<(), TapError> {
        if let Some(malformed) = self.reader.take_malformed() {
            return Err(self.malformed(malformed));
        }
        if !self.reader.is_empty() {
            return Ok(());
        }
        let file = self.file.clone();
        let read = loop {
            match self.reader.fill(file.header(), |buf| file.read(buf)) {
                Err(Errno::Intr) => {}
                read => break read,
            }
        };
        match read {
            // OpenBSD's 0 is nothing there, as others' EAGAIN is.
            Ok(0) | Err(Errno::Again) => self.look(),
            Ok(_) => match self.reader.take_malformed() {
                Some(malformed) => Err(self.malformed(malformed)),
                None => Ok(()),
            },
            Err(errno) => Err(self.failed("reading from", errno)),
        }
    }

    fn malformed(&self, malformed: Malformed) -> TapError {
        let what = format!("reading packets of {} from {}", self.interface.name, self.file.path().display());
        TapError::io(what, io::Error::new(io::ErrorKind::InvalidData, malformed))
    }

    /// Nothing is there: is the interface, where reading does not tell?
    fn look(&mut self) -> Result<(), TapError> {
        // A little early, so that who calls each LOOK is not told in the second only.
        if self.file.abi().rules.unattached != Unattached::Waits || self.looked.elapsed() < LOOK / 2 {
            return Ok(());
        }
        self.looked = Instant::now();
        match self.file.ioctl(&Request::GetIf) {
            Err(Errno::Inval) => Err(self.gone()),
            _ => Ok(()),
        }
    }

    fn count(&mut self) -> Result<(), TapError> {
        match self.file.ioctl(&Request::GStats) {
            Ok(Response::Stats { recv, drop, capt }) => {
                self.counted.add([recv, drop, capt], self.counts_captured());
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(errno) => Err(self.failed("asking the statistics of", errno)),
        }
    }

    /// NetBSD's counters have 64 bits, and count what the filter has accepted too.
    fn counts_captured(&self) -> bool {
        self.file.abi().requests.iter().any(|row| row.op == Op::GStats && row.arg == Arg::Stats64)
    }
}

impl FilterBackend for DeviceTap {
    fn name(&self) -> &'static str {
        "bpf device"
    }

    fn interface(&self) -> &Interface {
        &self.interface
    }

    fn link_state(&mut self) -> Result<LinkState, TapError> {
        match sys::interface(self.control.as_fd(), &self.interface.name) {
            Ok((flags, mtu)) => Ok(LinkState { up: flags & libc::IFF_UP.cast_unsigned() != 0, mtu }),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV)) => {
                Err(self.gone())
            }
            Err(error) => Err(TapError::io(format!("asking the state of {}", self.interface.name), error)),
        }
    }

    fn capabilities(&self) -> Capabilities {
        let exempt = self.file.abi().rules.root_ignores_lock && sys::is_root();
        Capabilities {
            promiscuous: true,
            inject: self.writes,
            direction: self.tells_way() && !self.interface.loopback,
            lock_filter: self.file.has(Op::Lock) && !exempt,
            keep_queued: self.file.has(Op::SetFnr),
            counts_received: true,
            nanoseconds: matches!(self.file.header().stamp, Stamp::Nano64 | Stamp::Bin64),
            on_demand: false,
        }
    }

    fn plan(&self) -> Plan {
        if self.filtered { Plan::Device } else { Plan::AcceptAll }
    }

    /// BIOCSETF, or BIOCSETFNR where the system has it: FreeBSD and macOS. The counters of the moment between asking for
    /// them and BIOCSETF, which zeroes them, are lost.
    fn set_filter(&mut self, program: Option<&Program>, queued: Queued) -> Result<Plan, TapError> {
        let program = program.filter(|program| !program.is_empty());
        let set = if self.locked {
            // also where the system lets root
            Err(Errno::Perm)
        } else if queued == Queued::Keep {
            if !self.file.has(Op::SetFnr) {
                return Err(TapError::Unsupported(
                    "changing the filter and keeping what is queued (BIOCSETFNR)",
                ));
            }
            let source = program
                .map_or_else(|| FilterSource::new(&ACCEPT_ALL), |program| filter_source(Some(program)));
            self.file.ioctl(&Request::SetFnr(source))
        } else {
            self.count()?;
            self.file.ioctl(&Request::SetF(filter_source(program))).inspect(|_| {
                self.counted.zeroed();
                self.reader.clear();
            })
        };
        match (set, program) {
            (Ok(_), _) => {
                self.filtered = program.is_some();
                Ok(self.plan())
            }
            (Err(Errno::Inval), Some(program)) => Err(refused(program, self.file.abi(), Errno::Inval)),
            (Err(errno), _) => Err(self.failed("setting the filter of", errno)),
        }
    }

    fn lock_filter(&mut self) -> Result<(), TapError> {
        if !self.file.has(Op::Lock) {
            return Err(TapError::Unsupported("locking the filter (BIOCLOCK)"));
        }
        self.file.ioctl(&Request::Lock).map_err(|errno| self.failed("locking the filter of", errno))?;
        self.locked = true;
        Ok(())
    }

    /// [`TapError::Unsupported`] where the system has no word for it: sent packets only on DragonFly and NetBSD before 9,
    /// none at all there, on FreeBSD and on NetBSD.
    fn set_direction(&mut self, direction: Direction) -> Result<(), TapError> {
        if !self.shows_hidden {
            direction_request(&self.file, direction)?;
        }
        self.call(direction);
        Ok(())
    }

    /// BIOCPROMISC. No system has a request that ends it: [`TapError::Unsupported`].
    fn set_promiscuous(&mut self, on: bool) -> Result<(), TapError> {
        match (on, self.promiscuous) {
            (true, false) => {}
            (false, true) => return Err(TapError::Unsupported("ending promiscuous mode but by closing")),
            (true, true) | (false, false) => return Ok(()),
        }
        match self.file.ioctl(&Request::Promisc) {
            Ok(_) => {
                self.promiscuous = true;
                Ok(())
            }
            // no interface (semantics.md 3)
            Err(Errno::Inval) => Err(self.gone()),
            Err(errno) => Err(self.failed("setting promiscuous mode of", errno)),
        }
    }

    fn arrivals(&mut self) -> Result<Arrivals, TapError> {
        self.fill()?;
        Ok(if self.reader.is_empty() { Arrivals::NotYet } else { Arrivals::Ready })
    }

    /// One read(2), or what the last batch has left. A record that is malformed ends the batch, and the rest of its buffer
    /// is dropped; the next call tells: [`TapError::Io`] with [`Malformed`] in it.
    fn try_batch(&mut self) -> Result<Batch<'_>, TapError> {
        self.fill()?;
        Ok(Batch::new(&mut self.reader))
    }

    /// It sends as [`Visible::ToTaps`](bpfdev_core::backend::Visible) says, and refuses what no tap is to see. It shares
    /// the tap's device, which stays attached while there is one.
    fn injector(&self) -> Result<Box<dyn Inject>, TapError> {
        if !self.writes {
            return Err(TapError::Unsupported("sending (the node cannot be written, or the link type not)"));
        }
        Ok(Box::new(DeviceInjector { file: self.file.clone(), interface: self.interface.name.clone() }))
    }

    /// BIOCGSTATS, which has 32 bits on most systems: right as long as it is asked once in 2³² packets. On OpenBSD packets
    /// count as received whose direction is not wanted. Rejected ones are told on NetBSD only.
    fn stats(&mut self) -> Result<Stats, TapError> {
        self.count()?;
        let [received, dropped, captured] = self.counted.total;
        let rejected = if self.counts_captured() { received.saturating_sub(captured) } else { 0 };
        Ok(Stats { received: Some(received), dropped, rejected })
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    /// On NetBSD and DragonFly, whose devices are silent about removal; and with [`Delivery::Within`], because not every
    /// way of waiting starts the device's timer. A [`Waiter`] does this by itself.
    fn look_again(&self) -> Option<Duration> {
        let removal = self.removal_is_silent().then_some(LOOK);
        match self.delivery {
            Delivery::Immediate => removal,
            Delivery::Within(time) => Some(removal.map_or(time, |removal| removal.min(time))),
        }
    }

    fn waiter(&self) -> Result<Arc<dyn Waiter>, TapError> {
        let removal = self.removal_is_silent().then_some(LOOK);
        // poll(2) starts the read time-out's timer; OpenBSD's wait time-out it does not see.
        let blind = self.file.abi().rules.immediate == ImmediateRule::WaitTimeout;
        let longest = if blind { self.look_again() } else { removal };
        let waiter = DeviceWaiter::new(self.file.clone(), longest)
            .map_err(|error| TapError::io("making a pair of sockets", error))?;
        Ok(Arc::new(waiter))
    }
}

impl std::fmt::Debug for DeviceTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceTap")
            .field("file", &self.file)
            .field("interface", &self.interface)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_has_its_own_words_for_directions() {
        use Direction::{In, InOut, None as Nothing, Out};
        // semantics.md 11, values
        for (rule, values) in [
            (DirectionRule::InInoutOut, [Some(0), Some(1), Some(2), None]),
            (DirectionRule::SeeSent, [Some(0), Some(1), None, None]),
            (DirectionRule::HideMask, [Some(2), Some(0), Some(1), Some(3)]),
            (DirectionRule::ShowMask, [Some(1), Some(3), Some(2), Some(0)]),
        ] {
            assert_eq!([In, InOut, Out, Nothing].map(|direction| direction_value(rule, direction)), values);
        }
    }

    #[test]
    fn counters_of_32_bits_run_on() {
        let mut counted = Counted::default();
        counted.add([0xffff_fff0, 0, 0], false);
        counted.add([0x10, 3, 0], false);
        assert_eq!(counted.total, [0x1_0000_0010, 3, 0], "wrapped once");
        counted.zeroed();
        counted.add([5, 1, 0], false);
        assert_eq!(counted.total, [0x1_0000_0015, 4, 0], "zeroed by BIOCSETF");
        let mut counted = Counted::default();
        counted.add([0x1_0000_0001, 2, 3], true);
        assert_eq!(counted.total, [0x1_0000_0001, 2, 3], "NetBSD's have 64 bits");
    }
}
