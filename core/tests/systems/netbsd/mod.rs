//! Column N of semantics.md: NetBSD 10 and -current, and what is otherwise in `netbsd7`.

mod header;
mod read;
mod state;
mod write;
