//! Any sequence of packets, requests, reads, polls, writes and time: what must hold for every dialect.
//!
//! Beside the descriptor runs a model of its double buffer, with the layouts of each system as literals (`system.rs`).
//! After every action the counters are those of the model, captured - dropped = delivered + buffered, and what a read
//! gives are the records the model expects: every packet once, in order, to the byte. A request that fails, or that the
//! tap fails, has changed nothing.
//!
//! `PROPTEST_CASES=10000 cargo test -p bpfdev-core --test descriptor_properties` looks longer; another
//! `PROPTEST_RNG_SEED` looks elsewhere.

mod action;
mod answers;
mod arguments;
mod found;
mod model;
mod readers;
mod records;
mod requests;
mod system;
mod tables;
mod world;

use bpfdev_core::abi::{self, Abi};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestError, TestRunner};

use action::{Action, action};
use world::World;

/// Cases of each dialect.
const CASES: u32 = 300;

fn config() -> ProptestConfig {
    // PROPTEST_ variables are in the default
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(4);
    }
    config
}

/// Opened O_WRONLY or not, a buffer size and an interface to begin with, then what happens.
fn history() -> impl Strategy<Value = (bool, Option<u32>, Option<u8>, Vec<Action>)> {
    let sizes = prop::sample::select(vec![32u32, 33, 64, 100, 128, 200, 256, 400, 512, 1000, 4096]);
    (
        prop::bool::weighted(0.1),
        prop::option::weighted(0.9, sizes),
        prop::option::weighted(0.9, 0u8..3),
        prop::collection::vec(action(), 1..80),
    )
}

fn any_history(abi: &'static Abi) {
    let outcome = TestRunner::new(config()).run(&history(), |(write_only, bufsize, interface, actions)| {
        let mut world = World::new(abi, write_only);
        world.set_up(bufsize, interface);
        for action in &actions {
            world.apply(action);
        }
        world.finish();
        Ok(())
    });
    if let Err(TestError::Fail(reason, (write_only, bufsize, interface, actions))) = &outcome {
        let actions: Vec<String> = actions.iter().map(|action| action.describe(abi)).collect();
        let actions = actions.join("\n  ");
        panic!(
            "{}: {reason}\nwrite-only {write_only}, buffer {bufsize:?}, interface {interface:?}\n  {actions}",
            abi.name
        );
    }
    assert!(outcome.is_ok(), "{}: {outcome:?}", abi.name);
}

macro_rules! dialects {
    ($($name:ident)*) => {
        $(mod $name {
            #[test]
            fn any_history_keeps_every_packet_once_and_in_order() {
                super::any_history(super::abi::Abi::by_name(stringify!($name)).expect("a dialect"));
            }
        })*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

dialects! { linux freebsd netbsd netbsd7 openbsd dragonfly macos }

#[test]
fn every_dialect_is_tested() {
    for abi in abi::ALL {
        assert!(TESTED.contains(&abi.name), "{} is not in the list above", abi.name);
        assert_eq!(system::of(abi.name).name, abi.name);
    }
}
