//! The character plane: READ, WRITE, IOCTL, POLL and INTERRUPT of every open file, over /dev/fuse or /dev/cuse alike.
//!
//! One thread reads the requests and drives every descriptor; nothing in it blocks. What may block, the caller's memory
//! and the attaching of taps, is done by helper threads, and the request is answered when they are done.

mod argument;
pub mod caller;
pub mod channel;
mod file;
pub mod helper;
mod holdings;
pub mod nodes;
mod ports;
pub mod process;
pub mod pump;
pub mod quota;
mod request;
mod rest;
pub mod running;
pub mod schedule;
mod seldom;
pub mod session;
pub mod signal;
pub mod status;
pub mod wire;
