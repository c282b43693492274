//! The names of the nodes. All of them clone: each open has a descriptor of its own.

/// The cloning node's name on every BSD.
pub const CLONE: &str = "bpf";

/// Numbered nodes, for programs that try `/dev/bpf0`, `/dev/bpf1`, … until one is not busy.
const NUMBERED: u32 = 16;

/// Every name.
pub fn all() -> impl Iterator<Item = String> {
    std::iter::once(CLONE.to_owned()).chain((0..NUMBERED).map(|n| format!("{CLONE}{n}")))
}

/// Whether this name is a node's: one way to write each number.
pub fn is_node(name: &str) -> bool {
    let Some(number) = name.strip_prefix(CLONE) else { return false };
    number.is_empty() || number.parse::<u32>().is_ok_and(|n| n < NUMBERED && n.to_string() == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_name() {
        assert!(all().all(|name| is_node(&name)));
        assert_eq!(all().count(), 17);
        for name in ["bpf16", "bpf01", "bpf+1", "bpfdev", "bp", "", "bpf ", "BPF"] {
            assert!(!is_node(name), "{name:?}");
        }
    }
}
