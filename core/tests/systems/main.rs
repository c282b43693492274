//! Every row of semantics.md, system by system: what a descriptor answers, over a network in simulated time. Expected
//! values are literals; each test cites its row as (section, row). `every` holds the rows in which the systems agree.
#![allow(clippy::unwrap_used)]

mod checks;
mod dressed;
mod programs;
mod support;

mod every;

mod dragonfly;
mod freebsd;
mod linux;
mod macos;
mod netbsd;
mod openbsd;
