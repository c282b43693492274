//! The thread that issued a request: its memory, and the network namespace it lives in.
//!
//! It sleeps in the kernel until the request is answered, so its id, memory and namespaces stay what they are exactly
//! that long: whoever uses them must be done before the reply is sent. Both are for helper threads.

use std::io::{IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex, PoisonError};

use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::abi::CallerMemory;
use bpfdev_core::backend::{FilterBackend, Network, TapConfig, TapError};
use bpfdev_core::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

use super::seldom::Seldom;

/// The memory of a thread that sleeps in a request. An access lasts as long as that thread's page fault.
#[derive(Debug)]
pub struct Memory {
    tid: Pid,
}

impl Memory {
    /// The memory of the thread `tid` of our pid namespace; `None` for 0, a caller outside of it.
    pub fn of(tid: u32) -> Option<Memory> {
        let tid = i32::try_from(tid).ok().filter(|&tid| tid > 0)?;
        Some(Memory { tid: Pid::from_raw(tid) })
    }

    fn remote(address: u64, len: usize) -> Result<[RemoteIoVec; 1], Errno> {
        let base = usize::try_from(address).map_err(|_| Errno::Fault)?;
        Ok([RemoteIoVec { base, len }])
    }

    fn outcome(&self, moved: nix::Result<usize>, len: usize) -> Result<(), Errno> {
        match moved {
            Ok(n) if n == len => Ok(()),
            Ok(_) | Err(nix::errno::Errno::EFAULT) => Err(Errno::Fault),
            Err(error) => {
                // EPERM: CAP_SYS_PTRACE is missing, or a security module forbids it (Yama 3).
                static SAID: Seldom = Seldom::new();
                if SAID.may_say() {
                    tracing::warn!(tid = self.tid.as_raw(), %error,
                        "cannot reach the caller's memory; does the daemon have CAP_SYS_PTRACE?");
                }
                Err(Errno::Fault)
            }
        }
    }
}

impl CallerMemory for Memory {
    fn read(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let len = buf.len();
        let remote = Memory::remote(address, len)?;
        self.outcome(process_vm_readv(self.tid, &mut [IoSliceMut::new(buf)], &remote), len)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let remote = Memory::remote(address, bytes.len())?;
        self.outcome(process_vm_writev(self.tid, &[IoSlice::new(bytes)], &remote), bytes.len())
    }
}

/// Where an interface's name is looked up.
#[derive(Clone, Debug)]
pub enum Place {
    /// In the network namespace of the thread that asks; it must still be asleep in its request.
    Thread(u32),
    /// The same, and the file keeps to its own.
    Once(u32),
    /// In the namespace an earlier request of the file came from, if there was one.
    Before,
}

/// The network namespace a file was attached in, shared with the helper that attaches it.
pub type Attached = Arc<Mutex<Option<Arc<Namespace>>>>;

/// The interfaces as one caller sees them.
pub struct CallerNetwork {
    network: Arc<dyn Network>,
    own: (u64, u64),
    place: Place,
    attached: Attached,
}

impl CallerNetwork {
    /// `network`, entered where `place` is. `own` is the namespace helper threads are in already.
    pub fn new(
        network: Arc<dyn Network>,
        own: (u64, u64),
        place: Place,
        attached: Attached,
    ) -> CallerNetwork {
        CallerNetwork { network, own, place, attached }
    }

    fn refused(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> TapError {
        TapError::Io { what: what.into(), source: std::io::Error::other(error) }
    }
}

impl CallerNetwork {
    /// Does `work` where the caller is.
    fn there<R: Send>(
        &self,
        work: impl FnOnce(&dyn Network) -> Result<R, TapError> + Send,
    ) -> Result<R, TapError> {
        const LOOK_UP: &str = "the caller's network namespace";
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = match self.place {
            Place::Before => attached.clone(),
            Place::Thread(tid) | Place::Once(tid) => {
                let tid = i32::try_from(tid).unwrap_or(0);
                if tid == 0 {
                    static SAID: Seldom = Seldom::new();
                    if SAID.may_say() {
                        tracing::warn!(
                            "the caller is outside the daemon's pid namespace: its interfaces are not known"
                        );
                    }
                    return Err(TapError::Unsupported("a caller outside the daemon's pid namespace"));
                }
                let namespace = Namespace::from_pid_tid(tid).map_err(|e| permission(LOOK_UP, e))?;
                let foreign = namespace.id().map_err(|e| CallerNetwork::refused(LOOK_UP, e))? != self.own;
                foreign.then(|| Arc::new(namespace))
            }
        };
        if let Place::Thread(_) = self.place {
            attached.clone_from(&namespace);
        }
        match namespace {
            None => work(&*self.network),
            Some(namespace) => {
                namespace.enter(|| work(&*self.network)).map_err(|e| permission(LOOK_UP, e))?
            }
        }
    }
}

impl Network for CallerNetwork {
    fn attach(&self, name: &str, config: &TapConfig) -> Result<Box<dyn FilterBackend>, TapError> {
        self.there(|network| network.attach(name, config))
    }

    fn most_memory(&self, config: &TapConfig) -> usize {
        self.network.most_memory(config)
    }

    fn attached(&self, name: &str) -> Result<u32, TapError> {
        self.there(|network| network.attached(name))
    }
}

fn permission(what: &str, error: bpfdev_backend_linux::netns::Error) -> TapError {
    match error.errno() {
        Some(nix::errno::Errno::EPERM | nix::errno::Errno::EACCES) => TapError::Permission {
            what: format!("{what}: {error}"),
            cure: "the daemon needs CAP_SYS_ADMIN and CAP_SYS_PTRACE",
        },
        _ => CallerNetwork::refused(what, error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_where_it_is_and_faults_where_it_is_not() {
        let source = *b"sixteen bytes...";
        let mut memory = Memory::of(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
        let mut copy = [0; 16];
        memory.read(source.as_ptr() as u64, &mut copy).unwrap();
        assert_eq!(copy, source);
        assert_eq!(memory.read(8, &mut copy), Err(Errno::Fault));
        assert_eq!(memory.read(u64::MAX, &mut copy), Err(Errno::Fault));
        assert_eq!(memory.write(8, &copy), Err(Errno::Fault));
        assert!(Memory::of(0).is_none(), "a caller outside the pid namespace has no memory we can name");
    }
}
