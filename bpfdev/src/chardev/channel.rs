//! The kernel's end, /dev/fuse or /dev/cuse, and the requests that are to be answered there.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bpfdev_core::errno::Errno;

use super::seldom::Seldom;
use super::wire::{self, Header, Part, opcode};

/// Requests taken in one turn, before taps and timers have theirs.
const REQUESTS_A_TURN: usize = 32;

/// The kernel's end. A message is one read(2) or one writev(2); neither blocks.
#[derive(Debug)]
pub struct Channel {
    device: OwnedFd,
    /// Another one for each, whatever becomes of it.
    id: u64,
}

impl Channel {
    /// A channel over an opened, non-blocking device.
    pub fn new(device: OwnedFd) -> Channel {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Channel { device, id: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// The next message, `None` when there is none now.
    ///
    /// # Errors
    /// ENODEV after unmounting, ECONNABORTED after an abort; EINVAL for a buffer below max_write and headers.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        use nix::errno::Errno::{EAGAIN, EINTR, ENOENT};
        loop {
            match nix::unistd::read(&self.device, buffer) {
                Ok(len) => return Ok(Some(len)),
                Err(EAGAIN) => return Ok(None),
                // ENOENT: the request was interrupted before we read it. The queue may hold another.
                Err(EINTR | ENOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Takes the messages that are there, so many at once: header, body, and all of it. `false`: the kernel's end is gone.
    /// One that is not whole is answered ENOSYS.
    ///
    /// # Errors
    /// What `take` says; read(2)'s but for ENODEV and ECONNABORTED.
    pub fn take(
        &self,
        buffer: &mut [u8],
        mut take: impl FnMut(&Header, &[u8], &[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        for _ in 0..REQUESTS_A_TURN {
            let message = match self.receive(buffer) {
                Ok(Some(len)) => buffer.get(..len).unwrap_or_default(),
                Ok(None) => break,
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ECONNABORTED)) => {
                    return Ok(false);
                }
                Err(e) => return Err(e),
            };
            match Header::split(message) {
                Some((header, body)) => take(&header, body, message)?,
                None => {
                    tracing::error!(len = message.len(), "the kernel's message is not whole");
                    if let Some(unique) = wire::unique_of(message) {
                        let _ = self.send(-Errno::NoSys.linux(), unique, [&[], &[]]);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Passes on a whole message made elsewhere.
    ///
    /// # Errors
    /// ENOENT when nobody waits for it any more.
    pub fn forward(&self, message: &[u8]) -> io::Result<()> {
        nix::unistd::write(&self.device, message)?;
        Ok(())
    }

    fn send(&self, error: i32, unique: u64, parts: [&[u8]; 2]) -> nix::Result<()> {
        let header = wire::out_header(parts[0].len() + parts[1].len(), error, unique);
        let slices = [IoSlice::new(&header), IoSlice::new(parts[0]), IoSlice::new(parts[1])];
        nix::sys::uio::writev(&self.device, &slices).map(drop)
    }

    fn say(&self, error: i32, unique: u64, parts: [&[u8]; 2]) {
        if let Err(e) = self.send(error, unique, parts) {
            // ENOENT, ENODEV: the caller or the device is gone, and with it whoever could mind.
            if !matches!(e, nix::errno::Errno::ENOENT | nix::errno::Errno::ENODEV) {
                tracing::error!(unique, error = %e, "the kernel refused a reply");
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// Names a request of any channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    channel: u64,
    unique: u64,
}

impl RequestId {
    /// The one of this number, of no channel.
    pub fn of(unique: u64) -> RequestId {
        RequestId { channel: u64::MAX, unique }
    }
}

/// Where a request is to be answered.
#[derive(Clone, Debug)]
pub struct Asker {
    channel: Arc<Channel>,
    unique: u64,
}

impl Asker {
    /// Who sent the request of this header.
    pub fn new(channel: &Arc<Channel>, header: &Header) -> Asker {
        Asker { channel: channel.clone(), unique: header.unique }
    }

    /// The request's name.
    pub fn id(&self) -> RequestId {
        self.of_the_same(self.unique)
    }

    /// The name of another request of the same channel.
    pub fn of_the_same(&self, unique: u64) -> RequestId {
        RequestId { channel: self.channel.id, unique }
    }

    /// Answers with these bytes, which are written from where they are.
    pub fn reply(&self, bytes: &[u8]) {
        self.channel.say(0, self.unique, [bytes, &[]]);
    }

    /// The same; `false`: nobody waits for it any more.
    pub fn reaches(&self, bytes: &[u8]) -> bool {
        self.channel.send(0, self.unique, [bytes, &[]]).is_ok()
    }

    /// Answers with an error.
    pub fn fail(&self, errno: Errno) {
        self.channel.say(-errno.linux(), self.unique, [&[], &[]]);
    }

    /// Answers a message that is not understood: ENOSYS.
    pub fn not_understood(&self, header: &Header) {
        static SAID: Seldom = Seldom::new();
        if SAID.may_say() {
            tracing::error!(?header, "the kernel's message is not understood");
        }
        // an INTERRUPT is no request, and after ENOSYS the kernel would send no other
        if header.opcode != opcode::INTERRUPT {
            self.fail(Errno::NoSys);
        }
    }

    /// Answers a WRITE: bytes taken.
    pub fn written(&self, len: usize) {
        let mut body = [0; 8];
        body[..4].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
        self.reply(&body);
    }

    /// Answers an IOCTL with its result and these bytes, at most the request's out_size.
    pub fn ioctl_done(&self, result: Result<(), Errno>, bytes: &[u8]) {
        let result = result.map_or_else(|errno| -errno.linux(), |()| 0);
        self.channel.say(0, self.unique, [&wire::ioctl_out(result), bytes]);
    }

    /// Answers an IOCTL: it is to come again, with these parts of its caller's memory.
    pub fn ioctl_retry(&self, input: &[Part], output: &[Part]) {
        self.reply(&wire::ioctl_retry(input, output));
    }

    /// Answers a POLL.
    pub fn polled(&self, revents: u32) {
        let mut body = [0; 8];
        body[..4].copy_from_slice(&revents.to_ne_bytes());
        self.reply(&body);
    }

    /// Who sleeps under the poll handle that a POLL came with.
    pub fn poller(&self, kh: u64) -> Poller {
        Poller { channel: self.channel.clone(), kh }
    }
}

/// Who sleeps in poll(2), to be woken once.
#[derive(Debug)]
pub struct Poller {
    channel: Arc<Channel>,
    kh: u64,
}

impl Poller {
    /// Wakes who sleeps; the kernel then asks again.
    pub fn notify(self) {
        self.channel.say(wire::NOTIFY_POLL, 0, [&self.kh.to_ne_bytes(), &[]]);
    }
}
