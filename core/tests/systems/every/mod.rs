//! Rows in which the systems agree: one test, run over every dialect.

mod buffer;
mod counters;
mod filter;
mod promiscuous;
mod read;
mod readiness;
mod state;
mod vlan;
mod write;
