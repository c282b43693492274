//! Column F of semantics.md: FreeBSD 13 to 15.

mod header;
mod loopback;
mod options;
mod readiness;
mod state;
mod write;
