//! Conformance: recorded answers of a BSD kernel, played against ours.

#[cfg(target_os = "linux")]
pub mod bench;
#[cfg(target_os = "linux")]
pub mod cli;
#[cfg(target_os = "linux")]
pub mod fuzz;
#[cfg(target_os = "linux")]
pub mod oracle;
#[cfg(target_os = "linux")]
mod sys;
