//! The device as true character devices (`serve --front cuse`), as its clients meet it.
//!
//! A harness of its own: where /dev/cuse can be opened the cases run here, elsewhere all of them in one virtual machine that
//! has it (vm/run). Where that cannot be had either they are ignored, and the reason is said.

#![allow(clippy::unwrap_used, missing_docs)]

#[cfg(target_os = "linux")]
mod argument;
#[cfg(target_os = "linux")]
mod harness;
#[cfg(target_os = "linux")]
mod life;
// The helpers of the other device tests, of which these use a part.
#[cfg(target_os = "linux")]
#[allow(dead_code)]
#[path = "../device/look.rs"]
mod look;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
#[allow(dead_code)]
#[path = "../device/node.rs"]
mod node;
#[cfg(target_os = "linux")]
mod nodes;
#[cfg(target_os = "linux")]
mod privilege;
#[cfg(target_os = "linux")]
#[path = "../program/mod.rs"]
mod program;
#[cfg(target_os = "linux")]
mod read;
#[cfg(target_os = "linux")]
mod sleep;
#[cfg(target_os = "linux")]
#[allow(dead_code)]
#[path = "../device/sys.rs"]
mod sys;
#[cfg(target_os = "linux")]
#[allow(dead_code)]
#[path = "../device/systems.rs"]
mod systems;
#[cfg(target_os = "linux")]
mod write;

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: CUSE is Linux's");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let cases = harness::chosen(harness::cases![
        nodes: are_character_devices_with_a_mode_and_a_group,
            are_dev_bpf_and_its_numbers_by_default,
            are_opened_by_members_of_the_group_and_nobody_else,
            of_several_dialects_are_served_at_once,
            of_macos_come_as_the_last_is_taken,
            are_refused_where_a_name_is_taken,
            are_made_where_dev_is_no_devtmpfs;
        argument: behind_a_pointer_is_read,
            behind_a_pointer_is_written,
            at_a_bad_address_is_efault,
            that_ends_in_a_page_that_is_not_there_is_efault_and_changes_nothing,
            of_a_bsds_number_in_every_dialect,
            of_a_32_bit_caller,
            in_a_page_that_never_comes_stalls_its_caller_alone,
            of_a_caller_outside_the_pid_namespace_is_taken_but_not_its_network;
        sleep: ends_with_a_signal_as_eintr_whether_to_be_restarted_or_not,
            ends_with_the_readers_death,
            ends_with_packets_for_poll_select_and_epoll,
            in_a_level_triggered_epoll_is_woken_again_and_again,
            not_at_all_without_a_packet_when_nonblocking,
            goes_on_and_its_owner_is_signalled,
            is_told_of_the_readable_bytes_exactly;
        read: of_512_kib_is_one_hold_buffer,
            that_fills_the_first_piece_exactly_ends_there,
            of_a_wrong_length_is_einval_where_that_can_be_told,
            by_two_threads_at_once_mixes_nothing;
        write: is_one_frame_whatever_its_length_and_pieces,
            goes_on_in_a_child_and_a_copy_until_the_last_is_closed;
        life: ended_by_a_kill_is_told_and_begins_again,
            ended_by_sigterm_leaves_nothing,
            begins_of_itself_where_dev_cuse_and_nodes_in_dev_are;
        privilege: is_no_more_than_is_needed,
            of_ptrace_can_be_done_without,
            of_every_plan_suffices,
            of_the_unit_suffices,
            is_limited_and_shown_by_stat;
    ]);
    if cases.is_empty() || machine::has_cuse() { harness::run(&cases) } else { machine::run(&cases) }
}

/// `bpfdev serve --front cuse` as a child, with its nodes in a directory of its own in /dev.
#[cfg(target_os = "linux")]
fn cuse(arguments: &[&str]) -> node::Device {
    cuse_at(&fresh_dir(), arguments)
}

#[cfg(target_os = "linux")]
fn cuse_at(dir: &std::path::Path, arguments: &[&str]) -> node::Device {
    node::Device::start_at(dir, &[&["--front", "cuse"], arguments].concat())
}

/// Its name is none that the package's udev rule knows.
#[cfg(target_os = "linux")]
fn fresh_dir() -> std::path::PathBuf {
    let dir = node::Device::fresh_dir();
    std::path::Path::new("/dev").join(format!("test-{}", dir.file_name().unwrap().display()))
}

#[cfg(target_os = "linux")]
fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}
