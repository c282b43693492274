//! The nodes: which names a system's device has, and who holds those that take one opener.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpfdev_core::abi::rules::Nodes;
use bpfdev_core::abi::{self, Abi};
use bpfdev_core::errno::Errno;

/// The cloning node's name, and what the numbered ones begin with.
const BPF: &str = "bpf";

/// The dialects that can have a directory of their own beside the top, whatever that speaks.
pub static DIRECTORIES: [&Abi; 5] = [
    &abi::freebsd::FREEBSD,
    &abi::netbsd::NETBSD,
    &abi::openbsd::OPENBSD,
    &abi::dragonfly::DRAGONFLY,
    &abi::macos::MACOS,
];

/// One node of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minor {
    /// `bpf`.
    Clone,
    /// `bpf0`, `bpf1`, …
    Numbered(u32),
}

impl Minor {
    /// The node that is called so: there is one way to write each number.
    pub fn parse(name: &str) -> Option<Minor> {
        let number = name.strip_prefix(BPF)?;
        if number.is_empty() {
            return Some(Minor::Clone);
        }
        number.parse().ok().filter(|n: &u32| n.to_string() == number).map(Minor::Numbered)
    }

    /// Its name.
    pub fn name(self) -> String {
        match self {
            Minor::Clone => BPF.to_owned(),
            Minor::Numbered(n) => format!("{BPF}{n}"),
        }
    }
}

/// Whether there is a node that clones, and how many are numbered: at first, and at most.
fn counts(nodes: Nodes) -> (bool, u32, u32) {
    match nodes {
        Nodes::None => (false, 0, 0),
        Nodes::Cloning { numbered: n } | Nodes::CloningAndFixed { fixed: n } => (true, n, n),
        Nodes::OneOpenerEach { at_first, most } => (false, at_first, most),
    }
}

/// Names of nodes: `numbered` of them have a number.
fn names(clone: bool, numbered: u32) -> impl Iterator<Item = String> {
    let clone = clone.then_some(Minor::Clone);
    clone.into_iter().chain((0..numbered).map(Minor::Numbered)).map(Minor::name)
}

/// A device of this dialect gets nodes while it is used.
pub fn grow(abi: &Abi) -> bool {
    let (_, at_first, most) = counts(abi.rules.nodes);
    at_first < most
}

/// Every name that a node of this dialect may ever have.
pub fn every_name(abi: &Abi) -> impl Iterator<Item = String> + use<> {
    let (clone, _, most) = counts(abi.rules.nodes);
    names(clone, most)
}

/// The node a program opens first.
pub fn first_name(abi: &Abi) -> String {
    every_name(abi).next().unwrap_or_default()
}

/// The device of one dialect in one directory.
#[derive(Debug)]
pub struct Device {
    /// What its files speak.
    pub abi: &'static Abi,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Numbered nodes there are now.
    numbered: u32,
    /// Those with an opener, where one is all they take.
    held: HashSet<u32>,
}

impl Device {
    /// A device nobody has opened.
    pub fn new(abi: &'static Abi) -> Arc<Device> {
        let (_, numbered, _) = counts(abi.rules.nodes);
        Arc::new(Device { abi, state: Mutex::new(State { numbered, held: HashSet::new() }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of its nodes, those there are now.
    pub fn names(&self) -> impl Iterator<Item = String> + use<> {
        let (clone, ..) = counts(self.abi.rules.nodes);
        names(clone, self.lock().numbered)
    }

    /// The node of this name, if there is one now.
    pub fn find(&self, name: &str) -> Option<Minor> {
        let (clone, ..) = counts(self.abi.rules.nodes);
        Minor::parse(name).filter(|minor| match *minor {
            Minor::Clone => clone,
            Minor::Numbered(n) => n < self.lock().numbered,
        })
    }

    /// Opens a node. Where its opener must be the only one, it is as long as the claim lasts.
    ///
    /// # Errors
    /// EBUSY: it has one.
    pub fn open(self: &Arc<Device>, minor: Minor) -> Result<Option<Claim>, Errno> {
        let Minor::Numbered(number) = minor else { return Ok(None) };
        let most = match self.abi.rules.nodes {
            Nodes::None | Nodes::Cloning { .. } => return Ok(None),
            Nodes::CloningAndFixed { fixed } => fixed,
            Nodes::OneOpenerEach { most, .. } => most,
        };
        let mut state = self.lock();
        if !state.held.insert(number) {
            return Err(Errno::Busy);
        }
        // With the last one taken there is one more: who tries one after the other always finds the next.
        if number + 1 == state.numbered && state.numbered < most {
            state.numbered += 1;
        }
        Ok(Some(Claim { device: self.clone(), number }))
    }
}

/// The right of a node's only opener; dropping it gives the node free.
#[derive(Debug)]
pub struct Claim {
    device: Arc<Device>,
    number: u32,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.device.lock().held.remove(&self.number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(name: &str) -> Arc<Device> {
        Device::new(Abi::by_name(name).unwrap())
    }

    #[test]
    fn a_node_has_one_name() {
        let linux = of("linux");
        assert!(linux.names().all(|name| linux.find(&name).is_some_and(|minor| minor.name() == name)));
        assert_eq!(linux.names().count(), 17);
        for name in ["bpf16", "bpf01", "bpf+1", "bpfdev", "bp", "", "bpf ", "BPF"] {
            assert!(linux.find(name).is_none(), "{name:?}");
        }
    }

    // semantics.md 1, "node(s)"
    #[test]
    fn every_system_has_its_nodes() {
        let names = |name| of(name).names().collect::<Vec<_>>().join(" ");
        assert_eq!(names("freebsd"), "bpf bpf0");
        assert_eq!(names("openbsd"), "bpf bpf0");
        assert_eq!(names("dragonfly"), "bpf bpf0 bpf1 bpf2 bpf3");
        assert_eq!(names("macos"), "bpf0 bpf1 bpf2 bpf3");
        assert_eq!(names("netbsd7"), "bpf");
        assert_eq!(of("netbsd").names().count(), 17);
        assert_eq!(every_name(of("macos").abi).count(), 256);
        assert_eq!((first_name(of("macos").abi), first_name(of("linux").abi)), ("bpf0".into(), "bpf".into()));
        let growing: Vec<_> = abi::ALL.iter().filter(|abi| grow(abi)).map(|abi| abi.name).collect();
        assert_eq!(growing, ["macos"]);
    }

    #[test]
    fn macos_has_a_node_more_when_the_last_is_taken_and_256_at_most() {
        let macos = of("macos");
        let open = |n| macos.open(Minor::Numbered(n)).unwrap();
        let two = open(2);
        assert_eq!(macos.names().count(), 4, "not the last one");
        assert_eq!(macos.open(Minor::Numbered(2)).unwrap_err(), Errno::Busy);
        drop(two);
        drop(open(2));
        drop(open(3));
        assert_eq!(macos.names().count(), 5, "nodes stay");
        let all: Vec<_> = (0..256)
            .map(|n| {
                assert_eq!(macos.find(&format!("bpf{n}")), Some(Minor::Numbered(n)));
                open(n)
            })
            .collect();
        assert_eq!((macos.names().count(), all.len()), (256, 256));
        assert_eq!(macos.find("bpf256"), None);
    }

    #[test]
    fn dragonflys_numbered_nodes_have_one_opener_and_its_cloning_one_any() {
        let dragonfly = of("dragonfly");
        let held = dragonfly.open(Minor::Numbered(3)).unwrap();
        assert!(held.is_some() && dragonfly.open(Minor::Numbered(3)).is_err());
        assert_eq!(dragonfly.names().count(), 5);
        for _ in 0..3 {
            assert!(dragonfly.open(Minor::Clone).unwrap().is_none());
        }
        assert!(of("freebsd").open(Minor::Numbered(0)).unwrap().is_none(), "FreeBSD's bpf0 clones");
    }
}
