//! The cases, by what they look at. Their order is that of bpf(4) and of a descriptor's life.

mod attach;
mod direction;
mod filter;
mod ioctls;
mod machine;
mod open;
mod programs;
mod read;
mod readiness;
mod record;
mod state;
mod validate;
mod write;

use super::case::Case;
use super::scene::Stop;

/// Every case.
pub fn all() -> Vec<Case> {
    let areas = [
        open::cases(),
        ioctls::cases(),
        attach::cases(),
        state::cases(),
        read::cases(),
        record::cases(),
        write::cases(),
        filter::cases(),
        validate::cases(),
        machine::cases(),
        direction::cases(),
        readiness::cases(),
    ];
    areas.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;

    #[test]
    fn there_are_many_cases_and_each_has_an_id_a_title_and_a_rule() {
        let cases = all();
        assert!(cases.len() >= 150, "{}", cases.len());
        let ids: BTreeSet<_> = cases.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(ids.len(), cases.len(), "an id is there twice");
        for case in &cases {
            assert!(case.id.contains("::") && !case.title.is_empty() && !case.rule.is_empty(), "{case:?}");
            assert!(!case.title.ends_with('.') && !case.rule.contains("semantics"), "{case:?}");
        }
    }
}
