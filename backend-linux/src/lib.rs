//! Linux packet sockets as a bpfdev filter backend, and the network namespaces they live in.
#![deny(unsafe_code)]
#![cfg(target_os = "linux")]

mod attached;
pub mod bpf;
mod checksum;
mod clock;
pub mod filter;
mod frame;
mod inject;
mod interface;
mod judge;
mod layout;
pub mod netns;
mod reaper;
mod receiver;
mod ring;
pub mod rtnl;
mod socket;
mod sys;
mod waiter;

pub use checksum::{Checksum, UnknownChecksum};
pub use clock::MonotonicClock;
pub use socket::{PacketSocket, PacketSockets};
