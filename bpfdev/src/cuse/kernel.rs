//! What the kernel asks of the nodes beside the character plane: to open and to close files.

use std::io;
use std::sync::Arc;

use nix::sys::epoll::EpollFlags;

use super::nodes::Nodes;
use super::wire::{self, MAX_PIECE};
use crate::chardev::channel::{Asker, Channel};
use crate::chardev::quota::Quota;
use crate::chardev::session::{End, Front, NewFile, Session};
use crate::chardev::wire::{Header, first_u64, opcode};
use bpfdev_core::errno::Errno;

/// Beside what is written, a message has headers; the kernel insists on room for both.
const HEADROOM: usize = 64 << 10;

/// Every node, and the files that are opened by them.
#[derive(Debug)]
pub struct Kernel {
    nodes: Nodes,
    files: Arc<Quota>,
    next_file: u64,
    buffer: Vec<u8>,
}

impl Kernel {
    /// What is behind these nodes, watched by `session`; open files count in `files`.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn new(nodes: Nodes, session: &mut Session, files: Arc<Quota>) -> io::Result<Kernel> {
        nodes.watch(session, 0)?;
        Ok(Kernel { nodes, files, next_file: 1, buffer: vec![0; MAX_PIECE + HEADROOM] })
    }

    fn message(
        &mut self,
        session: &mut Session,
        key: u64,
        channel: &Arc<Channel>,
        header: &Header,
        body: &[u8],
    ) -> Option<()> {
        match header.opcode {
            opcode::OPEN => {
                let flags = wire::open_flags(body)?;
                let asker = Asker::new(channel, header);
                if let Err(errno) = self.open(session, key, &asker, header, flags) {
                    asker.fail(errno);
                }
            }
            opcode::RELEASE => {
                session.released(first_u64(body)?);
                Asker::new(channel, header).reply(&[]);
            }
            // Nothing of a file is kept back, so there is nothing to be written before it is closed.
            opcode::FLUSH | opcode::FSYNC => Asker::new(channel, header).reply(&[]),
            _ => session.request(channel, header, body),
        }
        Some(())
    }

    fn open(
        &mut self,
        session: &mut Session,
        key: u64,
        asker: &Asker,
        header: &Header,
        flags: u32,
    ) -> Result<(), Errno> {
        let (served, device) = self.nodes.find(key).ok_or(Errno::NxIo)?;
        let directory = served.directory;
        let room = self.files.take(header.uid, 1).map_err(|_| Errno::MFile)?;
        let claim = device.open(served.minor)?;
        let fh = self.next_file;
        self.next_file += 1;
        let write_only = flags & libc::O_ACCMODE.cast_unsigned() == libc::O_WRONLY.cast_unsigned();
        let file = NewFile {
            abi: device.abi,
            write_only,
            gauge: None,
            claim: Box::new(claim),
            room: Box::new(room),
        };
        // Who opens the last node must find the next at once.
        if let Err(error) = self.nodes.more(session, directory) {
            tracing::error!("{error}");
        }
        // The file is there before anybody can use it.
        session.opened(fh, header, file);
        if !asker.reaches(&wire::open_out(fh)) {
            session.released(fh); // who opened it has been killed meanwhile: no RELEASE will come
        }
        Ok(())
    }
}

impl Front for Kernel {
    fn ready(&mut self, session: &mut Session, key: u64, _: EpollFlags) -> io::Result<Option<End>> {
        let Some(channel) = self.nodes.find(key).map(|(served, _)| served.channel.clone()) else {
            return Ok(None);
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let there = channel.take(&mut buffer, |header, body, _| {
            if self.message(session, key, &channel, header, body).is_none() {
                Asker::new(&channel, header).not_understood(header);
            }
            Ok(())
        });
        self.buffer = buffer;
        Ok((!there?).then_some(End::Unmounted))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::OwnedFd;

    use bpfdev_core::abi::linux::LINUX;
    use bpfdev_core::loopback::LoopbackNetwork;
    use bpfdev_core::time::SystemClock;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use nix::unistd::{read, write};

    use super::*;
    use crate::chardev::nodes::Device;
    use crate::chardev::session::FRONT;
    use crate::service::seccomp::Role;
    use crate::serving::ServeOptions;

    const GETATTR: u32 = 3;
    const ENOSYS: i32 = -libc::ENOSYS;

    /// A node whose kernel is the test.
    struct Fake {
        session: Session,
        kernel: Kernel,
        theirs: OwnedFd,
    }

    impl Fake {
        fn new() -> Fake {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
            let clock = Arc::new(SystemClock::new());
            let network = Arc::new(LoopbackNetwork::new(clock.clone()));
            let config = ServeOptions::new(&LINUX, network, clock).session(MAX_PIECE, Role::Helper);
            let files = config.quotas.files.clone();
            let mut session = Session::new(config).unwrap();
            let nodes = Nodes::with(Channel::new(ours), Device::new(&LINUX));
            let kernel = Kernel::new(nodes, &mut session, files).unwrap();
            Fake { session, kernel, theirs }
        }

        /// What comes of these bytes: whether it goes on, and each answer's error, unique and body.
        fn say(&mut self, message: &[u8]) -> Vec<(i32, u64, Vec<u8>)> {
            write(&self.theirs, message).unwrap();
            let end = self.kernel.ready(&mut self.session, FRONT, EpollFlags::EPOLLIN).unwrap();
            assert_eq!(end, None, "it goes on");
            let mut buffer = [0; 4096];
            let mut answers = Vec::new();
            while let Ok(len) = read(&self.theirs, &mut buffer) {
                let word = |at: usize| i32::from_ne_bytes(buffer[at..at + 4].try_into().unwrap());
                let unique = u64::from_ne_bytes(buffer[8..16].try_into().unwrap());
                answers.push((word(4), unique, buffer[16..len].to_vec()));
            }
            answers
        }
    }

    /// struct fuse_in_header and a body.
    fn message(opcode: u32, unique: u64, body: &[u8]) -> Vec<u8> {
        let mut message = (40 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend(opcode.to_ne_bytes());
        message.extend(unique.to_ne_bytes());
        message.resize(40, 0);
        message.extend(body);
        message
    }

    #[test]
    fn what_is_not_understood_is_enosys_and_the_end_of_nothing() {
        let mut fake = Fake::new();
        for (opcode, body) in [
            (GETATTR, &[0; 16][..]),
            (4096, &[]), // CUSE_INIT, a second time
            (u32::MAX, &[7; 100]),
            (opcode::OPEN, &[0; 3]),
            (opcode::RELEASE, &[0; 7]),
            (opcode::READ, &[0; 7]),
            (opcode::WRITE, &[0; 39]),
            (opcode::IOCTL, &[0; 31]),
            (opcode::POLL, &[0; 23]),
        ] {
            assert_eq!(fake.say(&message(opcode, 77, body)), [(ENOSYS, 77, vec![])], "{opcode}");
        }
        // not whole: more or less than it says of itself
        for len in [16, 39, 41, 1000] {
            let mut cut = message(opcode::READ, 78, &[0; 40]);
            cut.resize(len, 0);
            assert_eq!(fake.say(&cut), [(ENOSYS, 78, vec![])], "{len} bytes");
        }
        for nothing in [message(opcode::INTERRUPT, 79, &[0; 3]), vec![0; 15]] {
            assert_eq!(fake.say(&nothing), [], "nobody to answer");
        }
        // a file that is none of ours
        assert_eq!(fake.say(&message(opcode::READ, 80, &[9; 40])), [(-libc::EBADF, 80, vec![])]);
        assert_eq!(fake.say(&message(opcode::OPEN, 81, &[0; 8])), [(0, 81, wire::open_out(1).to_vec())]);
        let released = message(opcode::RELEASE, 82, &[&1u64.to_ne_bytes()[..], &[0; 16]].concat());
        for opcode in [opcode::FLUSH, opcode::FSYNC] {
            assert_eq!(fake.say(&message(opcode, 83, &[0; 24])), [(0, 83, vec![])]);
        }
        assert_eq!(fake.say(&released), [(0, 82, vec![])]);
        assert_eq!(fake.say(&released), [(0, 82, vec![])], "twice: nothing is left to be released");
    }

    #[test]
    fn files_are_as_many_as_their_limit() {
        let mut fake = Fake::new();
        fake.kernel.files =
            Quota::new(crate::chardev::quota::FILES, crate::chardev::quota::Limits { all: 2, per_uid: 1 });
        let open = |unique| message(opcode::OPEN, unique, &[0; 8]);
        let errors: Vec<_> =
            (0..3).flat_map(|unique| fake.say(&open(unique))).map(|(error, ..)| error).collect();
        assert_eq!(errors, [0, 0, -libc::EMFILE], "root's are limited in all alone");
    }
}
