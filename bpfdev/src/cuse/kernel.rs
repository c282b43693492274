//! What the kernel asks of the nodes beside the character plane: to open and to close files.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::epoll::EpollFlags;

use super::node::{Access, Node};
use super::wire::{self, MAX_PIECE};
use crate::chardev::channel::{Asker, Channel};
use crate::chardev::nodes::{Device, Minor};
use crate::chardev::quota::Quota;
use crate::chardev::session::{End, FRONT, Front, NewFile, Session};
use crate::chardev::wire::{Header, first_u64, opcode};
use crate::service::seccomp::Role;
use crate::serving::ServeError;
use bpfdev_core::errno::Errno;

/// Beside what is written, a message has headers; the kernel insists on room for both.
const HEADROOM: usize = 64 << 10;

/// The nodes of one dialect in one directory.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    device: Arc<Device>,
    /// Nodes made so far; more come where the last one is taken.
    made: usize,
}

/// A node, and whose it is.
#[derive(Debug)]
struct Served {
    node: Node,
    directory: usize,
    minor: Minor,
}

/// Every node, and the files that are opened by them.
#[derive(Debug)]
pub struct Kernel {
    access: Access,
    directories: Vec<Directory>,
    /// By their keys in the poll set.
    nodes: HashMap<u64, Served>,
    files: Arc<Quota>,
    next_file: u64,
    buffer: Vec<u8>,
}

impl Kernel {
    /// Without nodes; open files count in `files`.
    pub fn new(access: Access, files: Arc<Quota>) -> Kernel {
        Kernel {
            access,
            directories: Vec::new(),
            nodes: HashMap::new(),
            files,
            next_file: 1,
            buffer: vec![0; MAX_PIECE + HEADROOM],
        }
    }

    /// Makes the nodes of `device` in the directory `path`.
    ///
    /// # Errors
    /// What was refused, on what, and the likely cure.
    pub fn add(&mut self, session: &mut Session, path: &Path, device: Arc<Device>) -> Result<(), ServeError> {
        self.directories.push(Directory { path: path.to_owned(), device, made: 0 });
        self.make_nodes(session, self.directories.len() - 1)
    }

    /// Makes those nodes of a directory that its device has and that are not made.
    fn make_nodes(&mut self, session: &mut Session, number: usize) -> Result<(), ServeError> {
        let Some(directory) = self.directories.get_mut(number) else { return Ok(()) };
        for name in directory.device.names().skip(directory.made) {
            let Some(minor) = Minor::parse(&name) else { continue };
            let node = Node::make(&directory.path.join(name), self.access)?;
            directory.made += 1;
            let key = FRONT + self.nodes.len() as u64;
            session
                .pump()
                .watch_always(&**node.channel(), key)
                .map_err(|e| ServeError::new("serve", node.path(), e))?;
            self.nodes.insert(key, Served { node, directory: number, minor });
        }
        Ok(())
    }

    /// Where the nodes are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.nodes.values().map(|served| served.node.path().to_owned()).collect()
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
        let served = self.nodes.get(&key).ok_or(Errno::NxIo)?;
        let number = served.directory;
        let directory = self.directories.get(number).ok_or(Errno::NxIo)?;
        let room = self.files.take(header.uid, 1).map_err(|_| Errno::MFile)?;
        let claim = directory.device.open(served.minor)?;
        let fh = self.next_file;
        self.next_file += 1;
        let write_only = flags & libc::O_ACCMODE.cast_unsigned() == libc::O_WRONLY.cast_unsigned();
        let file = NewFile {
            abi: directory.device.abi,
            write_only,
            gauge: None,
            claim: Box::new(claim),
            room: Box::new(room),
        };
        // Who opens the last node must find the next at once.
        if let Err(error) = self.make_nodes(session, number) {
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
    // A node is made when the one before it is taken.
    fn role(&self) -> Role {
        Role::Nodes
    }

    fn ready(&mut self, session: &mut Session, key: u64, _: EpollFlags) -> io::Result<Option<End>> {
        let Some(channel) = self.nodes.get(&key).map(|served| served.node.channel().clone()) else {
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
