//! The BSD packet filter device without a kernel: no fd, no clock, no thread of its own.
#![forbid(unsafe_code)]

pub mod abi;
pub mod backend;
pub mod cbpf;
pub mod descriptor;
pub mod errno;
pub mod file;
pub mod linktype;
pub mod loopback;
pub mod packet;
#[cfg(feature = "random")]
pub mod random;
pub mod replay;
pub mod time;
