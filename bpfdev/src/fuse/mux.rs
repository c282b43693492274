//! The loop: one thread that reads /dev/fuse, keeps what is the character plane's and passes the rest to fuser.
//!
//! fuser alone would not do: it answers INTERRUPT with ENOSYS, after which the kernel asks nobody any more and a blocked
//! reader cannot even be killed; and it hides the pointer of an ioctl. It sits behind a socket pair and believes that
//! it is /dev/fuse; so its replies pass here too, and an OPEN's registers the file before the kernel sees it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use super::namespace::MAX_WRITE;
use super::opens::Opens;
use super::size::Sizes;
use crate::chardev::session::{NewFile, Session};
use crate::chardev::wire::{self, Header, OUT_HEADER, opcode};

/// Beside what is written, a message has headers; the kernel insists on room for both.
const HEADROOM: usize = 64 << 10;
/// Requests taken in one turn, before taps and timers have theirs.
const REQUESTS_A_TURN: usize = 32;

const DEVICE: u64 = u64::MAX;
const FUSER: u64 = u64::MAX - 1;
const HELPERS: u64 = u64::MAX - 2;
const STOP: u64 = u64::MAX - 3;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// The mount is gone: somebody unmounted it, or aborted the connection.
    Unmounted,
}

/// The loop's state.
pub struct Mux {
    session: Session,
    /// Our end of fuser's socket pair.
    fuser: OwnedFd,
    /// What fuser's end had no room for.
    outgoing: VecDeque<Vec<u8>>,
    opens: Arc<Opens>,
    sizes: Sizes,
    /// OPENs that fuser has: unique, and who opens.
    opening: HashMap<u64, Header>,
    /// Unique of the INIT that fuser has.
    init: Option<u64>,
    /// A write to it ends the loop; the poll set has it.
    _stop: Arc<EventFd>,
    buffer: Vec<u8>,
    /// Bytes the buffer must have: the kernel gives nothing to a smaller one.
    buffer_len: usize,
}

impl Mux {
    /// A loop over `session`, whose other requests go to `fuser`; a write to `stop` ends it.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn new(
        mut session: Session,
        fuser: OwnedFd,
        opens: Arc<Opens>,
        sizes: Sizes,
        stop: Arc<EventFd>,
    ) -> io::Result<Mux> {
        let helpers = session.helpers_fd();
        session.watch_device(DEVICE)?;
        let pump = session.pump();
        pump.watch_always(&fuser, FUSER)?;
        pump.watch_always(&*helpers, HELPERS)?;
        pump.watch_always(&*stop, STOP)?;
        let buffer = vec![0; MAX_WRITE as usize + HEADROOM];
        Ok(Mux {
            session,
            fuser,
            outgoing: VecDeque::new(),
            opens,
            sizes,
            opening: HashMap::new(),
            init: None,
            _stop: stop,
            buffer_len: buffer.len(),
            buffer,
        })
    }

    /// Serves until it is stopped or unmounted; all files are closed then, and fuser is told that it is over.
    ///
    /// # Errors
    /// What makes it impossible to go on.
    pub fn run(mut self) -> io::Result<End> {
        let end = self.serve();
        self.session.close_all();
        self.end_fuser();
        end
    }

    fn serve(&mut self) -> io::Result<End> {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let now = self.session.now();
            let count = self.session.pump().wait(&mut events, now)?.len();
            for event in events.iter().take(count) {
                match event.data() {
                    DEVICE => {
                        if let Some(end) = self.requests()? {
                            return Ok(end);
                        }
                    }
                    FUSER => self.fuser_ready(event.events())?,
                    HELPERS => self.session.helpers_done(),
                    STOP => return Ok(End::Stopped),
                    fh => {
                        let error = event.events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
                        self.session.tap_ready(fh, error);
                    }
                }
            }
            self.session.timers();
        }
    }

    /// Takes the requests that are there, so many at once.
    fn requests(&mut self) -> io::Result<Option<End>> {
        for _ in 0..REQUESTS_A_TURN {
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = self.session.channel().receive(&mut buffer);
            let result = match received {
                Ok(Some(len)) => self.message(buffer.get(..len).unwrap_or_default()),
                Ok(None) => {
                    self.buffer = buffer;
                    return Ok(None);
                }
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ECONNABORTED)) => {
                    return Ok(Some(End::Unmounted));
                }
                Err(e) => Err(e),
            };
            self.buffer = buffer;
            result?;
            self.fit_buffer();
        }
        Ok(None)
    }

    fn message(&mut self, message: &[u8]) -> io::Result<()> {
        let Some((header, body)) = Header::split(message) else {
            tracing::error!(len = message.len(), "the kernel's message is not whole");
            return Ok(());
        };
        match header.opcode {
            opcode::READ | opcode::WRITE | opcode::IOCTL | opcode::POLL | opcode::INTERRUPT => {
                self.session.request(&header, body);
                return Ok(());
            }
            opcode::OPEN => {
                self.opening.insert(header.unique, header);
            }
            // Ours first: what the file still holds is given up in order, then the kernel hears that it is closed.
            opcode::RELEASE => {
                if let Some(fh) = wire::first_u64(body) {
                    self.session.released(fh);
                }
            }
            opcode::INIT => self.init = Some(header.unique),
            _ => {}
        }
        self.forward(message)
    }

    fn forward(&mut self, message: &[u8]) -> io::Result<()> {
        if self.outgoing.is_empty() && self.try_send(message)? {
            return Ok(());
        }
        if self.outgoing.is_empty() {
            self.session.pump().watch_output(&self.fuser, FUSER, true)?;
        }
        self.outgoing.push_back(message.to_vec());
        Ok(())
    }

    /// `false`: no room now.
    fn try_send(&self, message: &[u8]) -> io::Result<bool> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.fuser.as_raw_fd(), message, flags) {
            Ok(_) => Ok(true),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn fuser_ready(&mut self, events: EpollFlags) -> io::Result<()> {
        if events.contains(EpollFlags::EPOLLOUT) && !self.outgoing.is_empty() {
            while let Some(message) = self.outgoing.pop_front() {
                if !self.try_send(&message)? {
                    self.outgoing.push_front(message);
                    break;
                }
            }
            if self.outgoing.is_empty() {
                self.session.pump().watch_output(&self.fuser, FUSER, false)?;
            }
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.replies(&mut buffer);
        self.buffer = buffer;
        self.fit_buffer();
        result
    }

    /// Passes fuser's replies on.
    fn replies(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match recv(self.fuser.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::BrokenPipe, "fuser's thread has ended")),
                Ok(len) => self.reply(buffer.get(..len).unwrap_or_default()),
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn reply(&mut self, message: &[u8]) {
        let Some((unique, error)) = wire::reply_of(message) else { return };
        if self.init == Some(unique) {
            self.init = None;
            let max_write = wire::init_max_write(message).unwrap_or(MAX_WRITE) as usize;
            self.buffer_len = self.buffer_len.max(max_write + HEADROOM);
        }
        // The file is there before anybody can use it.
        let opened = self.opening.remove(&unique).filter(|_| error == 0).and_then(|header| {
            let fh = wire::first_u64(message.get(OUT_HEADER..)?)?;
            let opening = self.opens.take(fh)?;
            let file = NewFile {
                abi: opening.abi,
                write_only: opening.write_only,
                gauge: Some(Box::new(self.sizes.gauge(opening.inode, opening.size))),
                claim: Box::new(opening.claim),
                room: Box::new(opening.room),
            };
            self.session.opened(fh, &header, file);
            Some(fh)
        });
        if let Err(error) = self.session.channel().forward(message) {
            tracing::debug!(unique, %error, "nobody waits for this reply");
            if let Some(fh) = opened {
                self.session.released(fh);
            }
        }
    }

    fn fit_buffer(&mut self) {
        if self.buffer.len() < self.buffer_len {
            self.buffer.resize(self.buffer_len, 0);
        }
    }

    fn end_fuser(&mut self) {
        // On umount the kernel sends no DESTROY, and without one fuser calls its end an error.
        let _ = self.try_send(&wire::destroy());
        let _ = shutdown(self.fuser.as_raw_fd(), Shutdown::Write);
        // Replies that nobody takes would be a reset to its end of the pair: it ends first, and that ends the reading.
        let patience = nix::sys::time::TimeVal::new(1, 0);
        if nix::sys::socket::setsockopt(&self.fuser, nix::sys::socket::sockopt::ReceiveTimeout, &patience)
            .is_ok()
        {
            let mut buffer = [0; 256];
            while recv(self.fuser.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok_and(|len| len > 0) {}
        }
    }
}
