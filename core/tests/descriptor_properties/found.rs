//! Histories that once went wrong, as they were found.

use bpfdev_core::abi::Abi;
use bpfdev_core::descriptor::Caller;
use bpfdev_core::packet::Way;

use super::action::{Action, Filter};
use super::world::World;

/// A descriptor with a buffer of this size.
fn world(system: &str, bufsize: u32) -> World {
    let mut world = World::new(Abi::by_name(system).expect("a dialect"), false);
    world.set_up(Some(bufsize), None);
    world
}

fn packet(len: usize) -> Action {
    Action::Packet { way: Way::In, len, fill: 0, verdict: None }
}

const READ: Action = Action::Read { size: None, nonblocking: false };

#[test]
fn what_is_buffered_of_an_interface_that_is_gone_does_not_outgrow_a_smaller_buffer() {
    for system in ["linux", "freebsd", "netbsd7", "dragonfly", "macos"] {
        let mut world = world(system, 128);
        for action in [Action::Attach(0), packet(40), Action::Gone] {
            world.apply(&action);
        }
        world.named("BIOCSBLEN", |values| values.word = 32);
        // more than 32 bytes are buffered
        world.apply(&READ);
        world.finish();
    }
}

#[test]
fn a_sleeping_read_gets_no_more_than_it_asked_for_when_the_buffer_has_grown() {
    for system in ["netbsd", "netbsd7"] {
        let mut world = world(system, 32);
        // semantics.md 3: a read without an interface waits
        world.apply(&READ);
        world.named("BIOCSBLEN", |values| values.word = 100);
        for action in [Action::Attach(0), packet(60), packet(60)] {
            world.apply(&action);
        }
        world.finish();
    }
}

#[test]
fn a_32_bit_request_that_the_lock_refuses_leaves_freebsds_records_64_bit() {
    let mut world = world("freebsd", 128);
    world.apply(&Action::Attach(0));
    world.named("BIOCLOCK", |_| ());
    let caller = Caller { ilp32: true, ilp32_request: true, ..Caller::default() };
    world.named_as("BIOCSETF32", |_| (), caller);
    for action in [packet(20), Action::Read { size: None, nonblocking: true }] {
        world.apply(&action);
    }
    world.finish();
}

#[test]
fn netbsds_records_follow_the_last_caller() {
    let mut world = world("netbsd", 512);
    world.apply(&Action::Attach(0));
    for ilp32 in [true, false, true] {
        world.named_as("BIOCGBLEN", |_| (), Caller { ilp32, ..Caller::default() });
        world.apply(&packet(20));
    }
    world.finish();
}

/// semantics.md 1, "O_WRONLY": no packets until there is a real read filter, the second that only cuts or any other.
#[test]
fn a_writer_of_freebsd_becomes_a_reader_with_its_filter() {
    let histories: [&[Filter]; 3] = [
        &[Filter::Ret(9), Filter::Ret(9)],
        &[Filter::Bit(0, 9)],
        &[Filter::Ret(0), Filter::None, Filter::Bit(1, 5)],
    ];
    for filters in histories {
        let mut world = World::new(Abi::by_name("freebsd").expect("a dialect"), true);
        world.set_up(Some(128), Some(0));
        for filter in filters {
            world.apply(&packet(20));
            world.named("BIOCSETF", |values| values.filter = filter.clone());
        }
        world.apply(&packet(20));
        world.finish();
    }
}
