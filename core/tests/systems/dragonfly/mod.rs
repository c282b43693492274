//! Column D of semantics.md: DragonFly.

mod read;
mod state;
mod write;
