//! The CUSE front end: each node is a true character device, which the kernel makes for an open /dev/cuse.
//!
//! [`Daemon::start`] makes the nodes and serves until it is stopped or dropped, the character plane ([`crate::chardev`]) and
//! what is left beside it on one thread. The namespace is /dev itself, so there is no other plane; callers' memory is
//! reached by the kernel (RETRY).

mod kernel;
mod node;
pub mod wire;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use bpfdev_core::abi::Abi;

use crate::chardev::nodes::Device;
use crate::chardev::running::Running;
use crate::chardev::session::{End, Session};
use crate::chardev::status::Inquiry;
use crate::serving::{ServeError, ServeOptions};
use kernel::Kernel;
use node::Access;

/// A served device. Dropping it stops it.
#[derive(Debug)]
pub struct Daemon {
    running: Running,
    nodes: Vec<PathBuf>,
    inquiry: Inquiry,
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

impl Daemon {
    /// Makes the nodes and serves. When it returns, the device can be opened.
    ///
    /// # Errors
    /// What was refused; nothing of it is left then.
    pub fn start(options: &ServeOptions) -> Result<Daemon, ServeError> {
        let failed = |what: &'static str| move |source: io::Error| ServeError::new(what, "/dev/cuse", source);
        let access = Access { mode: options.mode, gid: options.gid };
        let config = options.session(wire::MAX_PIECE);
        let mut kernel = Kernel::new(access, config.quotas.files.clone());
        let mut session = Session::new(config).map_err(failed("serve"))?;
        let inquiry = session.inquiry();
        for (dir, abi) in directories(options) {
            kernel.add(&mut session, &dir, Device::new(abi))?;
        }
        let nodes = kernel.paths();
        let running = Running::start(move |stop| session.run(stop, &mut kernel))
            .map_err(failed("start a thread for"))?;
        tracing::info!(nodes = nodes.len(), abi = options.abi.name, "serving character devices");
        Ok(Daemon { running, nodes, inquiry })
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
