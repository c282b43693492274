//! Differences that are known. Each must still be there: one that is not any more fails its case.

use super::case::matches;

/// A declared difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Targets it is for; `*` stands for anything.
    pub target: &'static str,
    /// Cases it is for; `*` stands for anything.
    pub case: &'static str,
    /// Why it is so (DIFFERENCES.md has the same).
    pub reason: &'static str,
}

impl Gap {
    /// Whether it is for this case on this target.
    pub fn is_for(&self, target: &str, case: &str) -> bool {
        matches(self.target, target) && matches(self.case, case)
    }
}

/// Every declared difference, by case.
pub const GAPS: &[Gap] = &[];
