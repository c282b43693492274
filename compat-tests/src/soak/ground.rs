//! Where it happens: two namespaces with wires between them, who sends on them, and what is done to one of them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bpfdev_backend_linux::netns::Namespace;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use super::board::Board;
use super::frame::Name;
use super::{BURST, DISTURBED, FAR, NEAR, WIRES};
use crate::fuzz::random::Lcg;

/// What is done to the wire that is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// The interface is down for a while.
    Down,
    /// Its MTU is less for a while.
    Mtu,
    /// It has another name for a while.
    Rename,
    /// It is in another namespace for a while.
    Move,
    /// It is removed, and after a while there is a new one.
    Remove,
}

impl Disturbance {
    /// All of them.
    pub const ALL: [Disturbance; 5] =
        [Disturbance::Down, Disturbance::Mtu, Disturbance::Rename, Disturbance::Move, Disturbance::Remove];

    /// A word for the report.
    pub fn name(self) -> &'static str {
        match self {
            Disturbance::Down => "down",
            Disturbance::Mtu => "MTU",
            Disturbance::Rename => "renamed",
            Disturbance::Move => "moved",
            Disturbance::Remove => "removed",
        }
    }
}

const OTHER_NAME: &str = "renamed0";

/// A wire's sender.
struct Sender {
    socket: Mutex<Option<OwnedFd>>,
    /// It may send; it holds the lock while it does.
    may: Mutex<bool>,
    /// Frames the kernel did not take where it should have.
    stuck: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Namespaces, wires, senders. Dropping it ends them.
pub struct Ground {
    /// Where clients are.
    pub near: Namespace,
    far: Namespace,
    /// Where an interface goes when it is moved.
    aside: Namespace,
    senders: Vec<Arc<Sender>>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    over: Arc<AtomicBool>,
}

impl Ground {
    /// Makes everything; the senders rest. `rate`: frames a second, of each.
    ///
    /// # Errors
    /// Without root, or veth.
    pub fn new(board: &Arc<Board>, seed: u64, rate: u32) -> anyhow::Result<Ground> {
        let make = || Namespace::new().context("a soak needs root");
        let (near, far, aside) = (make()?, make()?, make()?);
        let over = Arc::new(AtomicBool::new(false));
        let mut ground = Ground { near, far, aside, senders: Vec::new(), threads: Vec::new(), over };
        for wire in 0..WIRES {
            let socket = Mutex::new(Some(ground.lay(wire)?));
            let sender = Arc::new(Sender { socket, may: Mutex::new(false), stuck: AtomicBool::new(false) });
            ground.senders.push(Arc::clone(&sender));
            let (board, over) = (Arc::clone(board), Arc::clone(&ground.over));
            let rng = Lcg(seed.wrapping_add(wire as u64));
            let serve = move || sending(wire, &sender, &board, rng, rate, &over);
            ground.threads.push(std::thread::Builder::new().name("sender".into()).spawn(serve)?);
        }
        Ok(ground)
    }

    /// Makes a wire, up at both ends; a socket that sends at the far one.
    fn lay(&self, wire: usize) -> anyhow::Result<OwnedFd> {
        let (near, far) = (NEAR[wire], FAR[wire]);
        self.near.veth_pair(near, far)?;
        let mut rtnl = self.near.rtnl()?;
        rtnl.move_to_netns(far, self.far.as_fd())?;
        let mut there = self.far.rtnl()?;
        self.far.silence(&mut there, far)?;
        there.set_up(far)?;
        let index = there.link(far)?.index;
        // a veth carries once both ends have noticed each other
        let end = Instant::now() + Duration::from_secs(30);
        while !(rtnl.link(near)?.running && there.link(far)?.running) {
            ensure!(Instant::now() < end, "the wire {near} carries nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.far.enter(|| crate::sys::packet_socket(index, 0))??)
    }

    /// Has the senders send, or rest: then the last frame has left when this returns.
    pub fn send(&self, on: bool) {
        for sender in &self.senders {
            *lock(&sender.may) = on;
        }
    }

    /// Waits until what was sent and written is with the sockets: a veth hands frames to the softirq of the sender's
    /// processor, which is in time as a rule; on a busy machine ksoftirqd comes when it is its turn.
    ///
    /// # Errors
    /// It does not come, or /proc/net/softnet_stat cannot be read.
    pub fn arrived(&self) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        // processors whose backlog was seen empty since: it is first in, first out
        let mut empty = BTreeSet::new();
        loop {
            let text = std::fs::read_to_string("/proc/net/softnet_stat").context("/proc/net/softnet_stat")?;
            let backlogs: Vec<_> = text.lines().map(|line| line.split_whitespace().nth(11)).collect();
            empty.extend(backlogs.iter().enumerate().filter_map(|(at, len)| {
                let none = len.is_none_or(|len| len.bytes().all(|digit| digit == b'0'));
                none.then_some(at)
            }));
            if empty.len() >= backlogs.len() {
                break;
            }
            ensure!(Instant::now() < end, "the kernel does not come to deliver frames: {text}");
            std::thread::sleep(Duration::from_millis(1));
        }
        // the last one taken from it, and bpf programs that count
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    /// Wires that are not disturbed and whose sender could not send.
    pub fn stuck(&self) -> Vec<&'static str> {
        let stuck = |wire: &usize| self.senders.get(*wire).is_some_and(|s| s.stuck.load(Ordering::Relaxed));
        (0..WIRES).filter(stuck).filter_map(|wire| FAR.get(wire).copied()).collect()
    }

    /// Frames that the kernel took from a sender and did not bring to the other end, by its own count.
    ///
    /// # Errors
    /// /proc/net/dev cannot be read.
    pub fn lost(&self, wire: usize) -> anyhow::Result<u64> {
        let text = self.far.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
        // Inter-| Receive: 8 columns | Transmit: bytes packets errs drop …
        let of = |line: &'_ str| -> Option<u64> {
            let columns = line.trim_start().strip_prefix(FAR[wire])?.strip_prefix(':')?;
            columns.split_whitespace().nth(11)?.parse().ok()
        };
        text.lines().find_map(of).with_context(|| format!("no {} in /proc/net/dev", FAR[wire]))
    }

    /// How many ask for every frame, of all interfaces.
    ///
    /// # Errors
    /// rtnetlink's.
    pub fn promiscuity(&self) -> anyhow::Result<u32> {
        Ok(self.near.rtnl()?.list()?.iter().map(|link| link.promiscuity).sum())
    }

    /// Packet sockets in the clients' namespace: the daemon's.
    ///
    /// # Errors
    /// /proc/net/packet cannot be read.
    pub fn packet_sockets(&self) -> anyhow::Result<usize> {
        let text = self.near.enter(|| std::fs::read_to_string("/proc/thread-self/net/packet"))??;
        Ok(text.lines().count().saturating_sub(1))
    }

    /// Begins a disturbance.
    ///
    /// # Errors
    /// rtnetlink's.
    pub fn disturb(&self, what: Disturbance) -> anyhow::Result<()> {
        let name = NEAR[DISTURBED];
        let mut rtnl = self.near.rtnl()?;
        match what {
            Disturbance::Down => rtnl.set_down(name)?,
            Disturbance::Mtu => rtnl.set_mtu(name, 700)?,
            Disturbance::Rename => {
                rtnl.set_down(name)?;
                rtnl.rename(name, OTHER_NAME)?;
                rtnl.set_up(OTHER_NAME)?;
            }
            Disturbance::Move => rtnl.move_to_netns(name, self.aside.as_fd())?,
            Disturbance::Remove => rtnl.delete(name)?,
        }
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// rtnetlink's.
    pub fn restore(&self, what: Disturbance) -> anyhow::Result<()> {
        let name = NEAR[DISTURBED];
        let mut rtnl = self.near.rtnl()?;
        match what {
            Disturbance::Down => rtnl.set_up(name)?,
            Disturbance::Mtu => rtnl.set_mtu(name, 1500)?,
            Disturbance::Rename => {
                rtnl.set_down(OTHER_NAME)?;
                rtnl.rename(OTHER_NAME, name)?;
                rtnl.set_up(name)?;
            }
            Disturbance::Move => {
                self.aside.rtnl()?.move_to_netns(name, self.near.as_fd())?;
                self.near.silence(&mut rtnl, name)?;
                rtnl.set_up(name)?;
            }
            Disturbance::Remove => {
                let socket = self.lay(DISTURBED)?;
                if let Some(sender) = self.senders.get(DISTURBED) {
                    *lock(&sender.socket) = Some(socket);
                }
            }
        }
        Ok(())
    }

    /// Ends the senders.
    ///
    /// # Errors
    /// One has failed.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        }
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Sends on one wire until all is over.
fn sending(
    wire: usize,
    sender: &Sender,
    board: &Board,
    mut rng: Lcg,
    rate: u32,
    over: &AtomicBool,
) -> anyhow::Result<()> {
    let own = u32::try_from(wire)?;
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let burst = if rng.once_in(16) { BURST } else { 1 + rng.below(8) as usize };
        {
            let may = lock(&sender.may);
            if *may {
                board.set_sent(wire, number + burst as u64)?;
                for _ in 0..burst {
                    let frame = Name { sender: own, number }.frame();
                    number += 1;
                    if !transmit(sender, wire, &frame) {
                        sender.stuck.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
        std::thread::sleep(Duration::from_secs(1) * u32::try_from(burst)? / rate.max(1));
    }
    Ok(())
}

/// Sends a frame; `false` when it could not be, on a wire where it can.
fn transmit(sender: &Sender, wire: usize, frame: &[u8]) -> bool {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let socket = lock(&sender.socket);
        let Some(socket) = socket.as_ref() else { return true };
        match send(socket.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) => return true,
            Err(_) if wire == DISTURBED => return true,
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) if Instant::now() < end => {}
            Err(_) => return false,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
