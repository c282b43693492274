//! PacketSocket on real interfaces, in network namespaces of the tests' own. Needs root.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod attach;
mod dialect;
mod filter;
mod large;
mod link;
mod packets;
mod support;
mod sys;
