//! The cases, by what they look at. Their order is that of bpf(4) and of a descriptor's life.

mod ioctls;
mod open;
mod programs;

use super::case::Case;

/// Every case.
pub fn all() -> Vec<Case> {
    [open::cases(), ioctls::cases()].into_iter().flatten().collect()
}
