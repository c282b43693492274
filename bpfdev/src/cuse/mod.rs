//! The CUSE front end: each node is a true character device, which the kernel makes for an open /dev/cuse.
//!
//! [`Daemon::start`] makes the nodes and serves until it is stopped or dropped, the character plane ([`crate::chardev`]) and
//! what is left beside it on one thread. The namespace is /dev itself, so there is no other plane; callers' memory is
//! reached by the kernel (RETRY). Nodes are made before there is a client; those that come later (macOS) by a thread of
//! their own (maker.rs), since the loop may open no file.

mod kernel;
mod maker;
mod node;
mod nodes;
pub mod wire;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bpfdev_core::abi::Abi;

use crate::chardev::channel::Channel;
use crate::chardev::nodes::{self as minors, Device};
use crate::chardev::running::Running;
use crate::chardev::session::{End, Session};
use crate::chardev::status::Inquiry;
use crate::service::privilege::PrivilegeError;
use crate::service::seccomp::Role;
use crate::serving::{ServeError, ServeOptions};
use kernel::Kernel;
use maker::Maker;
use node::{Access, Names};
use nodes::Nodes;

/// A served device. Dropping it stops it.
#[derive(Debug)]
pub struct Daemon {
    running: Running,
    nodes: Vec<PathBuf>,
    inquiry: Inquiry,
    /// Removed when it has ended: the loop may remove no file.
    _names: Names,
}

/// The directories of nodes, and what they speak.
fn directories(options: &ServeOptions) -> Vec<(PathBuf, &'static Abi)> {
    let top = options.link.as_ref().unwrap_or(&options.mount).clone();
    let below = options.also.iter().map(|abi| (options.mount.join(abi.name), *abi));
    std::iter::once((top, options.abi)).chain(below).collect()
}

/// Whether it can be served: every node would be below /dev, and /dev/cuse can be opened.
pub fn can_serve(options: &ServeOptions) -> bool {
    let in_dev = |dir: &Path| node::name_of(&dir.join("bpf")).is_some();
    directories(options).iter().all(|(dir, _)| in_dev(dir)) && node::open_cuse().is_ok()
}

/// Nodes that nobody serves yet: who opens one waits. It is the time to give up privileges. Dropping it takes them away.
#[derive(Debug)]
pub struct Made {
    options: ServeOptions,
    nodes: Nodes,
}

impl Made {
    /// Makes the nodes.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn new(options: ServeOptions) -> Result<Made, ServeError> {
        let access = Access { mode: options.mode, gid: options.gid };
        let mut made = Nodes::default();
        let mut grows = false;
        for (dir, abi) in directories(&options) {
            made.add(dir, Device::new(abi), access)?;
            grows |= minors::grow(abi);
        }
        if grows {
            let maker = Maker::start(access, options.guard.clone());
            made.made_by(maker.map_err(failed("start a thread for"))?);
        }
        Ok(Made { options, nodes: made })
    }

    /// One node over an end that is open already. What is at the other end is its kernel: for tests.
    pub fn over(device: OwnedFd, options: ServeOptions) -> Made {
        let nodes = Nodes::with(Channel::new(device), Device::new(options.abi));
        Made { options, nodes }
    }

    /// The directory of the device.
    pub fn dir(&self) -> &Path {
        &self.options.mount
    }

    /// The thread that makes nodes later, if there is one, gives up all but what that takes.
    ///
    /// # Errors
    /// The system refused.
    pub fn narrow(&self) -> Result<(), PrivilegeError> {
        self.nodes.maker().map_or(Ok(()), Maker::narrow)
    }

    /// Serves them.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn serve(self) -> Result<Daemon, ServeError> {
        let Made { options, nodes } = self;
        let config = options.session(wire::MAX_PIECE, Role::Helper);
        let files = config.quotas.files.clone();
        let mut session = Session::new(config).map_err(failed("serve"))?;
        let inquiry = session.inquiry();
        if let Some(maker) = nodes.maker() {
            maker.enter().map_err(failed("restrict a thread for"))?;
        }
        let (names, paths) = (nodes.names(), nodes.paths().map(Path::to_owned).collect::<Vec<_>>());
        let mut kernel = Kernel::new(nodes, &mut session, files).map_err(failed("serve"))?;
        let running = Running::start(move |stop| session.run(stop, &mut kernel))
            .map_err(failed("start a thread for"))?;
        tracing::info!(nodes = paths.len(), abi = options.abi.name, "serving character devices");
        Ok(Daemon { running, nodes: paths, inquiry, _names: names })
    }
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> ServeError {
    move |source| ServeError::new(what, "/dev/cuse", source)
}

impl Daemon {
    /// Makes the nodes and serves. When it returns, the device can be opened.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn start(options: ServeOptions) -> Result<Daemon, ServeError> {
        Made::new(options)?.serve()
    }

    /// Where the nodes were made.
    pub fn nodes(&self) -> &[PathBuf] {
        &self.nodes
    }

    /// Who asks how its files and limits stand.
    pub fn inquiry(&self) -> Inquiry {
        self.inquiry.clone()
    }

    /// Becomes readable when the device is served no longer.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.running.ended()
    }

    /// Ends the thread, and the nodes with it. Files that are still open fail from now on.
    ///
    /// # Errors
    /// What went wrong before.
    pub fn stop(mut self) -> io::Result<End> {
        self.running.stop()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.running.is_on()
            && let Err(error) = self.running.stop()
        {
            tracing::warn!(%error, "the device could not be shut down in order");
        }
    }
}
