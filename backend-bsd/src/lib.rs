//! A client of any bpf node: a BSD's own /dev/bpf, or the device of this project on Linux.
//!
//! What is called is one file descriptor; what is said to it is one of the core's ABI tables. So it builds and runs on
//! every Unix host, and cannot rot.
//!
//! ```
//! use bpfdev_backend_bsd::{DeviceFile, records};
//! use bpfdev_core::abi::{Request, linux::LINUX};
//! use bpfdev_core::file::{Access, BpfFile};
//!
//! let file = match DeviceFile::open_any(&LINUX, Access::Read) {
//!     Ok(file) => file,
//!     Err(error) => return Ok(println!("{error}")),
//! };
//! if let Err(errno) = file.ioctl(&Request::SetIf(b"eth0".to_vec())) {
//!     return Ok(println!("{errno}"));
//! }
//! file.ioctl(&Request::Immediate(1))?;
//! file.ioctl(&Request::SRTimeout { sec: 1, usec: 0 })?;
//! let mut buf = file.read_buffer()?;
//! let n = file.read(&mut buf)?;
//! for record in records(&buf[..n], file.header()) {
//!     println!("{} bytes, {} on the wire", record.data.len(), record.wirelen);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attach;
mod clock;
mod device;
mod encode;
mod errno;
mod inject;
mod interfaces;
mod reader;
mod records;
mod sys;
mod tap;
mod waiter;

pub use attach::{Delivery, Devices};
pub use clock::MonotonicClock;
pub use device::{DeviceFile, OpenError};
pub use errno::errno_of;
pub use interfaces::{Address, InterfaceFlags, InterfaceInfo, interfaces};
pub use records::{Defect, Malformed, Record, Records, records};
pub use tap::DeviceTap;
