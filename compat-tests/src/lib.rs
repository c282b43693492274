//! Conformance: recorded answers of a BSD kernel, played against ours.

#[cfg(target_os = "linux")]
pub mod bench;
pub mod cli;
#[cfg(target_os = "linux")]
pub mod clients;
pub mod conformance;
#[cfg(target_os = "linux")]
pub mod fuzz;
pub mod oracle;
#[cfg(target_os = "linux")]
pub mod place;
#[cfg(target_os = "linux")]
pub mod soak;
mod sys;
pub mod user;
#[cfg(target_os = "linux")]
mod wire;

pub use sys::signals_by_default;
