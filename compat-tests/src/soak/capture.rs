//! Clients that capture: in every way there is to wait, fast and slow, and the descriptor may change hands meanwhile.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bpfdev::DeviceFile;
use bpfdev_core::abi::rules::ImmediateRule;
use bpfdev_core::abi::{Abi, FilterSource, Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{BpfFile, Interest};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use serde::{Deserialize, Serialize};

use super::account::{Account, Order};
use super::board::Phase;
use super::client::{DISTURBANCES, Me, Part, Role, Stop};
use super::{COMMAND, DISTURBED, sys};

/// How a client waits for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Wait {
    /// In read(2), with a time-out.
    Read,
    /// In poll(2).
    Poll,
    /// Not at all: it looks again and again.
    Look,
}

/// What goes with a descriptor that changes hands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Handed {
    abi: String,
    wire: usize,
    wait: Wait,
    /// Milliseconds of rest after each read.
    pace: u64,
    order: Order,
    /// `None`: somebody else reads from it, too.
    account: Option<Account>,
}

/// A descriptor, and what it gave so far.
struct Capture {
    file: DeviceFile,
    state: Handed,
    buf: Vec<u8>,
    /// Nothing is sent any more, and reads do not wait.
    settling: bool,
    until: Instant,
    /// Then the descriptor changes hands.
    pass: Option<Instant>,
}

/// Captures until it is time.
///
/// # Errors
/// Why it ended.
pub fn run(me: &mut Me) -> Result<(), Stop> {
    let abi = me.abi();
    let wire = me.wire();
    let Some(file) = me.open(abi)? else { return Ok(()) };
    let Some(mut capture) = bind(me, file, wire)? else { return Ok(()) };
    capture.go(me)
}

/// Goes on with a descriptor that is the standard input.
///
/// # Errors
/// Why it ended.
pub fn inherited(me: &mut Me, state: Handed) -> Result<(), Stop> {
    let file = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    take_over(me, file, state)
}

/// Goes on with a descriptor that comes through the standard input, a socket.
///
/// # Errors
/// Why it ended.
pub fn received(me: &mut Me) -> Result<(), Stop> {
    let (words, file) = sys::receive(std::io::stdin().as_fd())?;
    let state = serde_json::from_slice(&words).map_err(std::io::Error::from)?;
    take_over(me, File::from(file), state)
}

fn take_over(me: &mut Me, file: File, state: Handed) -> Result<(), Stop> {
    let abi = Abi::by_name(&state.abi).ok_or_else(|| Stop::Wrong(format!("no dialect {}", state.abi)))?;
    let file = DeviceFile::of_open(file, abi);
    let buf = buffer(me, &file)?;
    Capture { file, state, buf, settling: false, until: until(me), pass: None }.go(me)
}

fn until(me: &mut Me) -> Instant {
    // most stay until all are asked for their account
    let millis = if me.rng.once_in(4) { me.rng.below(4000) } else { u32::MAX };
    Instant::now() + Duration::from_millis(millis.into())
}

fn buffer(me: &mut Me, file: &DeviceFile) -> Result<Vec<u8>, Stop> {
    match file.read_buffer() {
        Ok(buf) => Ok(buf),
        Err(errno) => {
            // OpenBSD's file of an interface that is gone
            me.refused("GBlen", file.abi(), errno, &[Errno::BadF])?;
            Err(Stop::Unplugged)
        }
    }
}

/// Sets a descriptor up; `None` when its interface is not there.
fn bind(me: &mut Me, file: DeviceFile, wire: usize) -> Result<Option<Capture>, Stop> {
    let abi = file.abi();
    let disturbed = if wire == DISTURBED { &DISTURBANCES[..] } else { &[] };
    let size = me.rng.pick(&[4096, 8192, 32_768, 131_072, 524_288]);
    me.ask(&file, &Request::SBlen(size), &[])?;
    // OpenBSD's read(2) waits without end for the first packet
    let endless = abi.rules.immediate == ImmediateRule::WaitTimeout;
    let wait = match me.rng.below(3) {
        0 if !endless => Wait::Read,
        2 => Wait::Look,
        _ => Wait::Poll,
    };
    if wait == Wait::Read || me.rng.once_in(2) {
        let usec = i64::from(20_000 + me.rng.below(300_000));
        me.ask(&file, &Request::SRTimeout { sec: 0, usec }, &[])?;
    }
    if me.rng.once_in(2) {
        me.ask(&file, &Request::Immediate(1), &[])?;
    }
    if wait != Wait::Read {
        file.set_nonblocking(true).map_err(|errno| Stop::Wrong(format!("O_NONBLOCK: {errno}")))?;
    }
    let sieve = me.sieve(wire);
    let filter = sieve.program()?.map(|insns| Request::SetF(FilterSource::new(&insns)));
    let filter_last = me.rng.once_in(3);
    if let (Some(filter), false) = (&filter, filter_last) {
        me.ask(&file, filter, &[])?;
    }
    let (attached, mut begun) = me.counted(wire, |me| me.attach(&file, wire))?;
    if !attached {
        return Ok(None);
    }
    if let (Some(filter), true) = (&filter, filter_last) {
        let (set, from_here) = me.counted(wire, |me| me.ask(&file, filter, disturbed))?;
        if set.is_none() {
            return Ok(None);
        }
        begun = from_here;
    }
    if me.rng.once_in(4) {
        // EINVAL without an interface, which this one may have lost by now
        let unplugged = [disturbed, &[Errno::Inval]].concat();
        me.ask(&file, &Request::Promisc, if disturbed.is_empty() { &[] } else { &unplugged })?;
    }
    let pace = me.rng.pick(&[0, 0, 0, 1, 5, 50, 400]);
    let account = Some(me.account(wire, sieve, begun));
    let state = Handed { abi: abi.name.to_owned(), wire, wait, pace, order: Order::default(), account };
    let buf = buffer(me, &file)?;
    let until = until(me);
    let pass = me.rng.once_in(6).then(|| Instant::now() + Duration::from_millis(me.rng.below(3000).into()));
    Ok(Some(Capture { file, state, buf, settling: false, until, pass }))
}

impl Capture {
    fn go(&mut self, me: &mut Me) -> Result<(), Stop> {
        loop {
            if me.phase()? == Phase::Settle {
                return self.settle(me);
            }
            let now = Instant::now();
            if now >= self.until {
                return Ok(());
            }
            if self.pass.is_some_and(|at| at <= now) {
                self.pass = None;
                self.pass_on(me)?;
                // the process ends with its own copy open, or both go on
                if self.state.account.is_some() {
                    return Ok(());
                }
            }
            if me.rng.once_in(400) {
                self.flush(me)?;
            }
            if self.state.wait == Wait::Poll {
                self.file.poll(Interest::READ, Some(Duration::from_millis(100))).or_else(|errno| {
                    me.refused("poll", self.file.abi(), errno, &[Errno::Intr]).map(|()| Default::default())
                })?;
            }
            let read = self.read(me)?;
            match self.state.wait {
                Wait::Look if read == 0 => std::thread::sleep(Duration::from_millis(5)),
                _ => {}
            }
            if self.state.pace > 0 {
                me.rest(Duration::from_millis(self.state.pace));
            }
        }
    }

    /// One read(2); how many bytes it gave.
    fn read(&mut self, me: &mut Me) -> Result<usize, Stop> {
        let read = match self.file.read(&mut self.buf) {
            Ok(read) => read,
            // a client that was stopped within read(2) is told so: what is there is still there
            Err(Errno::Intr) if self.settling => return self.read(me),
            Err(Errno::Again | Errno::Intr) => return Ok(0),
            Err(errno) => {
                let disturbed = if self.state.wire == DISTURBED { &DISTURBANCES[..] } else { &[] };
                me.refused("read", self.file.abi(), errno, disturbed)?;
                // who was told that the interface is down may go on
                return if errno == Errno::NetDown { Ok(0) } else { Err(Stop::Unplugged) };
            }
        };
        let bytes = self.buf.get(..read).unwrap_or_default();
        let wrong = |what| Stop::Wrong(format!("{}, wire {}: {what}", self.state.abi, self.state.wire));
        let found = self.state.order.read(bytes, &self.file.header()).map_err(wrong)?;
        if found.foreign > 0 && self.state.wire != DISTURBED {
            return Err(wrong(format!("{} packets that nobody sent", found.foreign)));
        }
        me.figures.read += found.names.len() as u64;
        if let Some(account) = &mut self.state.account {
            account.take(&found);
        }
        Ok(read)
    }

    /// BIOCFLUSH: counting begins anew.
    fn flush(&mut self, me: &mut Me) -> Result<(), Stop> {
        let disturbed = if self.state.wire == DISTURBED { &DISTURBANCES[..] } else { &[] };
        let (_, begun) = me.counted(self.state.wire, |me| me.ask(&self.file, &Request::Flush, disturbed))?;
        if let Some(account) = &mut self.state.account {
            account.restart(begun);
        }
        Ok(())
    }

    /// The last read and the counters. Nothing is sent any more.
    fn settle(&mut self, me: &mut Me) -> Result<(), Stop> {
        self.file.set_nonblocking(true).map_err(|errno| Stop::Wrong(format!("O_NONBLOCK: {errno}")))?;
        self.settling = true;
        while self.read(me)? > 0 {
            me.phase()?;
        }
        let disturbed = if self.state.wire == DISTURBED { &DISTURBANCES[..] } else { &[] };
        let Some(stats) = me.ask(&self.file, &Request::GStats, disturbed)? else { return Ok(()) };
        if let Response::Stats { drop, .. } = stats {
            me.figures.dropped += drop;
        }
        // an interface that comes up makes the kernel send
        if self.read(me)? > 0 && self.state.wire != DISTURBED {
            return Err(Stop::Wrong(format!("{}: read after it was empty", self.state.abi)));
        }
        if let (Some(account), true) = (&self.state.account, self.state.wire != DISTURBED) {
            let sent = me.sent(self.state.wire)?;
            account.settle(sent, &stats, me.part.rejected_count).map_err(|what| {
                Stop::Wrong(format!("{}, wire {}: {what}", self.state.abi, self.state.wire))
            })?;
            me.figures.exact += 1;
        }
        Ok(())
    }

    /// Gives the descriptor to a new process: this one ends then, or both read from it.
    fn pass_on(&mut self, me: &mut Me) -> Result<(), Stop> {
        me.figures.passed += 1;
        let both = me.rng.once_in(2);
        if both {
            self.state.account = None;
        }
        let inherit = me.rng.once_in(2);
        let role = if inherit { Role::Inherited(Box::new(self.state.clone())) } else { Role::Received };
        let part = Part { seed: me.rng.long(), role, ..me.part.clone() };
        let mut command = Command::new("/proc/self/exe");
        command.arg(COMMAND).arg(serde_json::to_string(&part).map_err(std::io::Error::from)?);
        if inherit {
            command.stdin(Stdio::from(self.file.as_fd().try_clone_to_owned()?)).spawn()?;
            return Ok(());
        }
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(std::io::Error::from)?;
        command.stdin(Stdio::from(theirs)).spawn()?;
        let words = serde_json::to_vec(&self.state).map_err(std::io::Error::from)?;
        let fds = [self.file.as_fd().as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(&words)], &rights, MsgFlags::empty(), None)
            .map_err(std::io::Error::from)?;
        Ok(())
    }
}
