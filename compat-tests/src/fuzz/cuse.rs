//! Messages of /dev/cuse to a device that is served: the fuzzer is its kernel. It opens a file, sends what an input says, does
//! for an ioctl what RETRY asks for, with a caller's memory of its own, and closes the file.
//!
//! An input is the dialect, then messages: which, the length of its body, the body. What Linux would refuse of an answer
//! (fs/fuse/dev.c, file.c, ioctl.c) must not be in one, and everybody gets exactly one.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bpfdev::cuse::{Daemon, Made};
use bpfdev::serving::ServeOptions;
use bpfdev_core::abi::rules::Nodes;
use bpfdev_core::abi::{self, Abi};
use bpfdev_core::loopback::LoopbackNetwork;
use bpfdev_core::time::SystemClock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::harness::{Input, Subject, must};
use super::random::Lcg;

/// What becomes of an answer on its way. Another than [`Ours`] shows that the check notices.
pub trait Code: Send {
    /// The messages that arrive for it.
    fn arrive(&self, answer: Vec<u8>) -> Vec<Vec<u8>> {
        vec![answer]
    }
}

/// The project's.
#[derive(Debug)]
pub struct Ours;

impl Code for Ours {}

/// The target.
pub fn subject(code: impl Code + 'static) -> Subject {
    // One daemon a dialect, for all inputs: nothing of a file outlives it.
    let kernels: Mutex<HashMap<&str, Kernel>> = Mutex::new(HashMap::new());
    Subject::new("cuse", make, move |input| {
        let mut input = Input::new(input);
        let abi = served()[usize::from(input.byte()) % served().len()];
        let mut kernels = kernels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kernel = kernels.remove(abi.name).map_or_else(|| Kernel::new(abi), Ok)?;
        kernel.file(&code, input)?; // after a failure another one
        kernels.insert(abi.name, kernel);
        Ok(())
    })
}

/// The dialects that have a device.
fn served() -> Vec<&'static Abi> {
    abi::ALL.into_iter().filter(|abi| abi.rules.nodes != Nodes::None).collect()
}

const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const INTERRUPT: u32 = 36;
const IOCTL: u32 = 39;
const POLL: u32 = 40;
/// And FSYNC, FLUSH; GETATTR, CUSE_INIT and one that is none are no requests of a file.
const OPCODES: [u32; 11] = [IOCTL, READ, WRITE, POLL, IOCTL, INTERRUPT, 20, 25, 3, 4096, 0xffff_fff0];
/// A bit of a message's first byte: its body is as the input has it, and so is its length field.
const AS_IT_IS: u8 = 0x80;

/// Where the caller's memory is: so many bytes, each the low byte of its address; elsewhere it faults.
const MEMORY: std::ops::Range<u64> = 0x1000..0x4000;
/// What Linux moves for one ioctl: 32 pages, and 256 parts.
const MOST_BYTES: u64 = 32 * 4096;
const MOST_PARTS: usize = 256;
/// In it an ioctl comes at most so often.
const ROUNDS: usize = 3;
const SOON: Duration = Duration::from_secs(5);

fn make(rng: &mut Lcg) -> Vec<u8> {
    let dialect = rng.below(served().len() as u32);
    let abi = served()[dialect as usize];
    let mut input = vec![dialect as u8];
    for _ in 0..1 + rng.below(6) {
        let which = rng.below(OPCODES.len() as u32) as u8;
        let mut body = vec![0; 8]; // the file, or the request that is interrupted
        match OPCODES[usize::from(which)] {
            READ => {
                let size = rng.pick(&[32, 4096, 32768, 65536, 131_072, 524_288]);
                body.extend(u64::to_ne_bytes(rng.pick(&[0, 0, 0, 131_072, u64::MAX])));
                body.extend([size, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes));
                body.extend(u32::to_ne_bytes(rng.pick(&[2, 0x802])));
                body.extend([0; 4]);
            }
            WRITE => {
                let data = rng.below(100);
                body.extend([0, 0, data, 0, 0, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes));
                body.extend(rng.bytes(data as usize));
            }
            POLL => body.extend(
                [rng.word(), 0, rng.below(2), rng.word() & 0xff].into_iter().flat_map(u32::to_ne_bytes),
            ),
            IOCTL => {
                let row = &abi.requests[rng.below(abi.requests.len() as u32) as usize];
                let number = super::ioctl::number(row, row.arg.size(), rng.once_in(2));
                let number = if rng.once_in(8) { rng.word() } else { number };
                let argument = MEMORY.start + u64::from(rng.below(0x3000));
                body.extend([rng.pick(&[2, 2, 10]), number].into_iter().flat_map(u32::to_ne_bytes));
                body.extend(
                    rng.pick(&[argument, argument, argument, MEMORY.end - 4, 8, u64::MAX]).to_ne_bytes(),
                );
                body.extend([0; 8]);
            }
            _ => body.extend(rng.bytes(16)),
        }
        let spoilt = rng.once_in(6);
        if spoilt {
            rng.spoil(&mut body);
        }
        body.truncate(255);
        input.extend([which | if spoilt { AS_IT_IS } else { 0 }, body.len() as u8]);
        input.extend(body);
    }
    input
}

/// A request that is not answered.
#[derive(Clone, Debug)]
struct Asked {
    opcode: u32,
    /// Bytes that may be answered at most.
    room: usize,
}

/// The kernel's side of one node.
struct Kernel {
    device: OwnedFd,
    _daemon: Daemon,
    unique: u64,
    asked: HashMap<u64, Asked>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("asked", &self.asked).finish_non_exhaustive()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// What was answered: its error, and what follows.
type Answer = (i32, Vec<u8>);

impl Kernel {
    fn new(abi: &'static Abi) -> Result<Kernel, String> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (device, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|errno| format!("socketpair: {errno}"))?;
        let clock = Arc::new(SystemClock::new());
        let network = Arc::new(LoopbackNetwork::new(clock.clone()));
        let daemon = Made::over(theirs, ServeOptions::new(abi, network, clock)).serve();
        let daemon = daemon.map_err(|error| error.to_string())?;
        Ok(Kernel { device, _daemon: daemon, unique: 0, asked: HashMap::new() })
    }

    /// Sends a message; the request's number. Its caller is outside the daemon's pid namespace, so that no owner of a signal
    /// is ever found.
    fn send(&mut self, opcode: u32, body: &[u8], len: Option<u32>, room: usize) -> Result<u64, String> {
        self.unique += 2;
        let whole = (40 + body.len()) as u32;
        let mut message = [len.unwrap_or(whole), opcode].map(u32::to_ne_bytes).concat();
        message.extend(self.unique.to_ne_bytes());
        message.resize(40, 0);
        message.extend(body);
        nix::unistd::write(&self.device, &message).map_err(|errno| format!("the daemon is gone: {errno}"))?;
        if opcode != INTERRUPT || len.is_some_and(|len| len != whole) {
            self.asked.insert(self.unique, Asked { opcode, room });
        }
        Ok(self.unique)
    }

    /// Takes answers until that of `wanted` is among them.
    fn wait(&mut self, code: &dyn Code, wanted: u64) -> Result<Answer, String> {
        let end = Instant::now() + SOON;
        let mut found = None;
        while found.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            must!(!left.is_zero(), "no answer to {:?}", self.asked.get(&wanted));
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, timeout).map_err(|errno| errno.to_string())?;
            let mut buffer = vec![0; 1 << 20];
            let len = match nix::unistd::read(&self.device, &mut buffer) {
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(format!("the daemon is gone: {errno}")),
                Ok(0) => return Err("the daemon has closed its device".into()),
                Ok(len) => len,
            };
            buffer.truncate(len);
            for answer in code.arrive(buffer) {
                let (unique, answer) = self.take(&answer)?;
                if unique == wanted {
                    found = Some(answer);
                }
            }
        }
        found.ok_or_else(|| "no answer".into())
    }

    /// What Linux checks of a message.
    fn take(&mut self, message: &[u8]) -> Result<(u64, Answer), String> {
        let words = (u32_at(message, 0), u32_at(message, 4), u64_at(message, 8));
        let (Some(len), Some(error), Some(unique)) = words else { return Err("a cut answer".into()) };
        let (error, body) = (error.cast_signed(), &message[16..]);
        must!(len as usize == message.len(), "an answer of {} bytes says {len}", message.len());
        if unique == 0 {
            must!(error == 1 && body.len() == 8, "a notification {error} of {} bytes", body.len());
            return Ok((0, (0, Vec::new())));
        }
        let Some(asked) = self.asked.remove(&unique) else {
            return Err(format!("an answer to {unique}, which nobody has asked or which has one"));
        };
        must!((-511..=0).contains(&error), "{asked:?} fails with {error}");
        must!(error == 0 || body.is_empty(), "{asked:?} fails, with {} bytes", body.len());
        let fits = match asked.opcode {
            OPEN => body.len() == 16,
            READ => body.len() <= asked.room,
            WRITE => body.len() == 8 && u32_at(body, 0).is_some_and(|taken| taken as usize <= asked.room),
            POLL => body.len() == 8,
            IOCTL => body.len() >= 16 && (is_retry(body) || body.len() - 16 <= asked.room),
            RELEASE | 20 | 25 => body.is_empty(),
            _ => false,
        };
        must!(error != 0 || fits, "{asked:?} is answered with {} bytes", body.len());
        Ok((unique, (error, body.to_vec())))
    }

    /// The life of one file.
    fn file(&mut self, code: &dyn Code, mut input: Input<'_>) -> Result<(), String> {
        let open = self.send(OPEN, &[2, 0, 0, 0, 0, 0, 0, 0], None, 0)?;
        let (error, body) = self.wait(code, open)?;
        must!(error == 0, "an open fails with {error}");
        let fh = u64_at(&body, 0).unwrap_or(0);
        while !input.is_empty() {
            let (which, len) = (input.byte(), input.byte());
            let opcode = OPCODES[usize::from(which & !AS_IT_IS) % OPCODES.len()];
            let mut body: Vec<u8> = (0..len).map(|_| input.byte()).collect();
            let named = if opcode == INTERRUPT { self.asked.keys().copied().max().unwrap_or(7) } else { fh };
            let as_it_is = which & AS_IT_IS != 0;
            if !as_it_is && let Some(first) = body.get_mut(..8) {
                first.copy_from_slice(&named.to_ne_bytes());
            }
            let wrong_len = (as_it_is && len % 16 == 5).then_some(u32::from(len));
            let size = u32_at(&body, 16).unwrap_or(0) as usize;
            match opcode {
                IOCTL => self.ioctl(code, body, wrong_len)?,
                _ => drop(self.send(opcode, &body, wrong_len, size)?),
            }
        }
        let body = [&fh.to_ne_bytes()[..], &[0; 16]].concat();
        let release = self.send(RELEASE, &body, None, 0)?;
        let (error, _) = self.wait(code, release)?;
        must!(error == 0, "a release fails with {error}");
        must!(self.asked.is_empty(), "after the last close nobody has answered {:?}", self.asked);
        Ok(())
    }

    /// An ioctl, as often as it is to come again.
    fn ioctl(&mut self, code: &dyn Code, mut body: Vec<u8>, len: Option<u32>) -> Result<(), String> {
        let whole = body.len() >= 32;
        let unrestricted = u32_at(&body, 8).is_some_and(|flags| flags & 2 != 0);
        let argument = u64_at(&body, 16);
        for _ in 0..ROUNDS {
            let room = u32_at(&body, 28).unwrap_or(0) as usize;
            let unique = self.send(IOCTL, &body, len, room)?;
            let (error, answer) = self.wait(code, unique)?;
            must!(error != 0 || whole, "an IOCTL of {} bytes is taken", body.len());
            if error != 0 || !is_retry(&answer) {
                return Ok(());
            }
            must!(unrestricted, "what is restricted is to come again");
            let (Some(inputs), Some(outputs)) = (u32_at(&answer, 8), u32_at(&answer, 12)) else {
                return Ok(());
            };
            let (inputs, parts) = (inputs as usize, inputs as usize + outputs as usize);
            must!(
                parts <= MOST_PARTS && answer.len() == 16 + 16 * parts,
                "{parts} parts in {} bytes",
                answer.len()
            );
            let part = |n: usize| (u64_at(&answer, 16 + 16 * n), u64_at(&answer, 24 + 16 * n));
            let parts: Vec<_> =
                (0..parts).map(part).filter_map(|(address, len)| Some((address?, len?))).collect();
            must!(
                parts.first().is_some_and(|(first, _)| Some(*first) == argument),
                "not the argument: {parts:x?}"
            );
            let (from, to) = parts.split_at(inputs);
            let total =
                |parts: &[(u64, u64)]| parts.iter().fold(0u64, |sum, (_, len)| sum.saturating_add(*len));
            must!(total(from) <= MOST_BYTES && total(to) <= MOST_BYTES, "more than Linux moves: {parts:x?}");
            let mut data = Vec::new();
            for (address, len) in from {
                if !within(*address, *len) {
                    return Ok(()); // EFAULT, of which the daemon hears nothing
                }
                data.extend((*address..*address + *len).map(|at| at as u8));
            }
            body.truncate(24);
            body.extend([data.len() as u32, total(to) as u32].into_iter().flat_map(u32::to_ne_bytes));
            body.extend(data);
        }
        Err(format!("an ioctl is to come more than {ROUNDS} times"))
    }
}

fn within(address: u64, len: u64) -> bool {
    address >= MEMORY.start && address.checked_add(len).is_some_and(|end| end <= MEMORY.end)
}

/// struct fuse_ioctl_out: result 0, flags 4 (FUSE_IOCTL_RETRY is 4), in_iovs 8, out_iovs 12.
fn is_retry(body: &[u8]) -> bool {
    u32_at(body, 4).is_some_and(|flags| flags & 4 != 0)
}

#[cfg(test)]
mod tests {
    use super::super::harness::tests::finds;
    use super::*;

    #[test]
    fn an_answer_that_comes_twice_is_found() {
        struct Twice;
        impl Code for Twice {
            fn arrive(&self, answer: Vec<u8>) -> Vec<Vec<u8>> {
                vec![answer.clone(), answer]
            }
        }
        finds(&subject(Twice), "which nobody has asked");
    }

    #[test]
    fn an_answer_that_is_longer_than_its_room_is_found() {
        struct Longer;
        impl Code for Longer {
            fn arrive(&self, mut answer: Vec<u8>) -> Vec<Vec<u8>> {
                // of IOCTLs: their bodies begin with a result and have no flags
                if answer.len() == 36 && answer[4..8] == [0; 4] {
                    answer.push(0);
                    answer[0] += 1;
                }
                vec![answer]
            }
        }
        finds(&subject(Longer), "is answered with 21 bytes");
    }

    #[test]
    fn more_of_the_callers_memory_than_linux_moves_is_found() {
        struct Greedy;
        impl Code for Greedy {
            fn arrive(&self, mut answer: Vec<u8>) -> Vec<Vec<u8>> {
                if answer.len() >= 48 && is_retry(&answer[16..]) {
                    answer[40..48].copy_from_slice(&(1u64 << 20).to_ne_bytes());
                }
                vec![answer]
            }
        }
        finds(&subject(Greedy), "more than Linux moves");
    }
}
