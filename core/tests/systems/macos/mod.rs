//! Column M of semantics.md: macOS, xnu-11417.

mod extras;
mod header;
mod read;
mod state;
mod write;
