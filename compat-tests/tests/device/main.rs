//! The device as its clients meet it: `bpfdev serve` as a child, programs in C and in Rust, real packets on veth pairs in
//! namespaces made for each test.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod capture;
mod dialects;
mod edge;
mod faults;
mod fionread;
mod front;
mod life;
mod limits;
mod look;
mod memory;
mod node;
mod outage;
mod place;
mod privilege;
#[path = "../program/mod.rs"]
mod program;
mod removal;
mod signal;
mod sleep;
mod stat;
mod sys;
mod systems;
mod threats;
mod traffic;
mod unit;
