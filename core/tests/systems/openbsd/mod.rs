//! Column O of semantics.md: OpenBSD 7.3.

mod header;
mod loopback;
mod poll;
mod read;
mod state;
mod write;
