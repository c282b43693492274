//! Every node: those made before the device is served, and those that come while it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::maker::Maker;
use super::node::{Access, Names, Node};
use crate::chardev::channel::Channel;
use crate::chardev::nodes::{Device, Minor};
use crate::chardev::session::{FRONT, Session};
use crate::serving::ServeError;

/// The nodes of one dialect in one directory.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    device: Arc<Device>,
    /// Nodes made so far; more come where the last one is taken.
    made: usize,
}

/// A node's channel, and whose it is.
#[derive(Debug)]
pub struct Served {
    /// The kernel's end of it.
    pub channel: Arc<Channel>,
    /// Where it is.
    pub path: PathBuf,
    /// The number of its directory.
    pub directory: usize,
    /// Which of its device's it is.
    pub minor: Minor,
}

/// Every node.
#[derive(Debug, Default)]
pub struct Nodes {
    directories: Vec<Directory>,
    served: Vec<Served>,
    names: Names,
    /// Who makes those that come later.
    maker: Option<Maker>,
}

impl Nodes {
    /// Makes the nodes that `device` has now, in the directory `path`.
    ///
    /// # Errors
    /// What was refused, on what, and the likely cure.
    pub fn add(&mut self, path: PathBuf, device: Arc<Device>, access: Access) -> Result<(), ServeError> {
        self.directories.push(Directory { path, device, made: 0 });
        while let Some(path) = self.missing(self.directories.len() - 1) {
            let node = Node::make(&path, access)?;
            self.keep(self.directories.len() - 1, node);
        }
        Ok(())
    }

    /// Has `maker` make those that come later.
    pub fn made_by(&mut self, maker: Maker) {
        self.maker = Some(maker);
    }

    /// Who does.
    pub fn maker(&self) -> Option<&Maker> {
        self.maker.as_ref()
    }

    /// Makes those nodes of a directory that its device has and that are not made.
    ///
    /// # Errors
    /// What was refused, on what, and the likely cure.
    pub fn more(&mut self, session: &mut Session, directory: usize) -> Result<(), ServeError> {
        while let (Some(path), Some(maker)) = (self.missing(directory), &self.maker) {
            let node = maker.make(&path)?;
            let first = self.served.len();
            self.keep(directory, node);
            self.watch(session, first).map_err(|e| ServeError::new("serve", path, e))?;
        }
        Ok(())
    }

    /// The next node of a directory that is not made.
    fn missing(&self, directory: usize) -> Option<PathBuf> {
        let directory = self.directories.get(directory)?;
        let name = directory.device.names().nth(directory.made)?;
        Some(directory.path.join(name))
    }

    fn keep(&mut self, number: usize, node: Node) {
        let Some(directory) = self.directories.get_mut(number) else { return };
        let minor = node.path.file_name().and_then(|name| Minor::parse(name.to_str()?));
        directory.made += 1;
        self.names.keep(node.name);
        // every name of a device parses
        if let Some(minor) = minor {
            self.served.push(Served { channel: node.channel, path: node.path, directory: number, minor });
        }
    }

    /// Has the session look at the nodes from the `first` on.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub fn watch(&self, session: &mut Session, first: usize) -> io::Result<()> {
        for (at, served) in self.served.iter().enumerate().skip(first) {
            session.pump().watch_always(&*served.channel, FRONT + at as u64)?;
        }
        Ok(())
    }

    /// The node that is watched under this key, and its device.
    pub fn find(&self, key: u64) -> Option<(&Served, &Arc<Device>)> {
        let served = self.served.get(usize::try_from(key.checked_sub(FRONT)?).ok()?)?;
        Some((served, &self.directories.get(served.directory)?.device))
    }

    /// Where they are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.served.iter().map(|served| served.path.as_path())
    }

    /// The names that are to be removed with them.
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// The only node, which is no name: its kernel is whoever has the channel's other end.
    pub fn with(channel: Channel, device: Arc<Device>) -> Nodes {
        let served =
            Served { channel: Arc::new(channel), path: "/dev/bpf".into(), directory: 0, minor: Minor::Clone };
        let directory = Directory { path: "/dev".into(), made: device.names().count(), device };
        Nodes { directories: vec![directory], served: vec![served], ..Nodes::default() }
    }
}
