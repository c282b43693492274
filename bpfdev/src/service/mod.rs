//! What makes the daemon a service: how it is watched from outside, and what it gives up.

pub mod control;
pub mod privilege;
pub mod report;
pub mod seccomp;
pub mod syscalls;
