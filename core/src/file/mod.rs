//! The upper seam: what a client holds after `open("/dev/bpf")`.
//!
//! [`OpenFile`] is a descriptor with its tap, and never blocks: the device's event loop drives it, and so does
//! [`EmulatedFile`], which blocks as a file does. [`BpfFile`] is what both look like to a client; the conformance suite is
//! written against it.

mod emulated;
mod open;
mod task;

use std::time::Duration;

pub use emulated::{Access, EmulatedFile};
pub use open::{Drained, OpenFile, Step, Wants};
pub use task::{Finished, Task};

use crate::abi::{Request, Response};
use crate::errno::Errno;

pub use crate::descriptor::{Caller, Counters, Interest, Opened, PendingRead, ReadStep, Ready, Status};

/// An open bpf file as the client sees it. `&self`: two threads may use one file.
pub trait BpfFile: Sync {
    /// ioctl(2).
    ///
    /// # Errors
    /// The errno of the dialect.
    fn ioctl(&self, request: &Request) -> Result<Response, Errno>;

    /// read(2): one buffer of records. Blocks unless the file is non-blocking.
    ///
    /// # Errors
    /// EINVAL when `buf` is not BIOCGBLEN long, EAGAIN when non-blocking and nothing is there, ENXIO without an interface.
    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno>;

    /// write(2), writev(2): one frame.
    ///
    /// # Errors
    /// Those of semantics.md section 6.
    fn write(&self, frame: &[u8]) -> Result<usize, Errno>;

    /// poll(2): waits until something of `want` is ready; `None` waits for ever.
    ///
    /// # Errors
    /// The errno of the dialect.
    fn poll(&self, want: Interest, timeout: Option<Duration>) -> Result<Ready, Errno>;

    /// fcntl(2), `O_NONBLOCK`.
    ///
    /// # Errors
    /// The system's.
    fn set_nonblocking(&self, on: bool) -> Result<(), Errno>;
}
