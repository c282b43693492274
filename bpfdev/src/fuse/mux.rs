//! The loop: one thread that reads /dev/fuse, keeps what is the character plane's and passes the rest to fuser.
//!
//! fuser alone would not do: it answers INTERRUPT with ENOSYS, after which the kernel asks nobody any more and a blocked
//! reader cannot even be killed; and it hides the pointer of an ioctl. It sits behind a socket pair and believes that
//! it is /dev/fuse; so its replies pass here too, and an OPEN's registers the file before the kernel sees it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::sys::epoll::EpollFlags;
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use super::namespace::MAX_WRITE;
use super::opens::Opens;
use super::size::Sizes;
use crate::chardev::channel::Channel;
use crate::chardev::session::{End, FRONT, Front, NewFile, Session};
use crate::chardev::wire::{self, Header, OUT_HEADER, opcode};

/// Beside what is written, a message has headers; the kernel insists on room for both.
const HEADROOM: usize = 64 << 10;
const DEVICE: u64 = FRONT;
const FUSER: u64 = FRONT + 1;

/// The loop, with the session it drives.
pub struct Mux {
    session: Session,
    kernel: Kernel,
}

/// What stands between the kernel and fuser.
struct Kernel {
    channel: Arc<Channel>,
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
    buffer: Vec<u8>,
    /// Bytes the buffer must have: the kernel gives nothing to a smaller one.
    buffer_len: usize,
}

impl Mux {
    /// A loop over `session` and the kernel's end `device`, whose other requests go to `fuser`.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn new(
        mut session: Session,
        device: OwnedFd,
        fuser: OwnedFd,
        opens: Arc<Opens>,
        sizes: Sizes,
    ) -> io::Result<Mux> {
        let channel = Arc::new(Channel::new(device));
        session.pump().watch_always(&*channel, DEVICE)?;
        session.pump().watch_always(&fuser, FUSER)?;
        let buffer = vec![0; MAX_WRITE as usize + HEADROOM];
        let kernel = Kernel {
            channel,
            fuser,
            outgoing: VecDeque::new(),
            opens,
            sizes,
            opening: HashMap::new(),
            init: None,
            buffer_len: buffer.len(),
            buffer,
        };
        Ok(Mux { session, kernel })
    }

    /// Serves until a write to `stop` or until it is unmounted; all files are closed then, and fuser is told that it is over.
    ///
    /// # Errors
    /// What makes it impossible to go on.
    pub fn run(mut self, stop: &EventFd) -> io::Result<End> {
        let end = self.session.run(stop, &mut self.kernel);
        self.kernel.end_fuser();
        end
    }
}

impl Front for Kernel {
    fn ready(&mut self, session: &mut Session, key: u64, events: EpollFlags) -> io::Result<Option<End>> {
        if key == FUSER {
            self.fuser_ready(session, events)?;
            return Ok(None);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let channel = self.channel.clone();
        let there =
            channel.take(&mut buffer, |header, body, message| self.message(session, header, body, message));
        self.buffer = buffer;
        Ok((!there?).then_some(End::Unmounted))
    }
}

impl Kernel {
    fn message(
        &mut self,
        session: &mut Session,
        header: &Header,
        body: &[u8],
        message: &[u8],
    ) -> io::Result<()> {
        match header.opcode {
            opcode::READ | opcode::WRITE | opcode::IOCTL | opcode::POLL | opcode::INTERRUPT => {
                session.request(&self.channel, header, body);
                return Ok(());
            }
            opcode::OPEN => {
                self.opening.insert(header.unique, *header);
            }
            // Ours first: what the file still holds is given up in order, then the kernel hears that it is closed.
            opcode::RELEASE => {
                if let Some(fh) = wire::first_u64(body) {
                    session.released(fh);
                }
            }
            opcode::INIT => self.init = Some(header.unique),
            _ => {}
        }
        self.forward(session, message)
    }

    fn forward(&mut self, session: &mut Session, message: &[u8]) -> io::Result<()> {
        if self.outgoing.is_empty() && self.try_send(message)? {
            return Ok(());
        }
        if self.outgoing.is_empty() {
            session.pump().watch_output(&self.fuser, FUSER, true)?;
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

    fn fuser_ready(&mut self, session: &mut Session, events: EpollFlags) -> io::Result<()> {
        if events.contains(EpollFlags::EPOLLOUT) && !self.outgoing.is_empty() {
            while let Some(message) = self.outgoing.pop_front() {
                if !self.try_send(&message)? {
                    self.outgoing.push_front(message);
                    break;
                }
            }
            if self.outgoing.is_empty() {
                session.pump().watch_output(&self.fuser, FUSER, false)?;
            }
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.replies(session, &mut buffer);
        self.buffer = buffer;
        self.fit_buffer();
        result
    }

    /// Passes fuser's replies on.
    fn replies(&mut self, session: &mut Session, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match recv(self.fuser.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::BrokenPipe, "fuser's thread has ended")),
                Ok(len) => self.reply(session, buffer.get(..len).unwrap_or_default()),
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn reply(&mut self, session: &mut Session, message: &[u8]) {
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
            session.opened(fh, &header, file);
            Some(fh)
        });
        if let Err(error) = self.channel.forward(message) {
            tracing::debug!(unique, %error, "nobody waits for this reply");
            if let Some(fh) = opened {
                session.released(fh);
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
