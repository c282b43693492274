//! semantics.md 5, what all agree on.

use bpfdev_core::abi::Request;

use crate::support::*;

#[test]
fn without_immediate_mode_poll_is_silent_until_a_buffer_has_filled_and_another_packet_came() {
    for abi in EVERY {
        let fd = Fd::sized(abi, 128);
        fd.rx(60);
        for _ in 0..3 {
            assert!(!fd.readable(), "{}", abi.name);
            fd.sleep(1_000_000);
        }
        fd.rx(60);
        assert!(fd.readable(), "{}", abi.name);
        assert!(fd.readable(), "{}: until it is read", abi.name);
        fd.read().unwrap();
        assert!(!fd.readable(), "{}: the store has one", abi.name);
    }
}

#[test]
fn in_immediate_mode_one_packet_is_enough() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::Immediate(1));
        assert!(!fd.readable(), "{}", abi.name);
        fd.rx(60);
        assert!(fd.readable(), "{}", abi.name);
        fd.read().unwrap();
        assert!(!fd.readable(), "{}", abi.name);
    }
}

#[test]
fn fioasync_with_an_owner_signals() {
    // macOS's driver has no FIOSETOWN
    for abi in EVERY.into_iter().filter(|abi| abi.name != "macos") {
        let fd = Fd::on_em0(abi);
        let signal = |fd: &Fd| fd.file.with(|file, _| file.descriptor().signal());
        assert_eq!(signal(&fd), None, "{}", abi.name);
        fd.ok(Request::FioAsync(1));
        assert_eq!(signal(&fd), None, "{}: nobody to signal", abi.name);
        // 2: SIGIO, which is 29 for the Linux process that asked
        fd.number(0x8004_667c, &word(4321)).unwrap();
        assert_eq!(signal(&fd), Some((29, 4321)), "{}", abi.name);
        assert_eq!(fd.number(0x4004_667b, &[]), Ok(word(4321).to_vec()), "{}: FIOGETOWN", abi.name);
        fd.ok(Request::FioAsync(0));
        assert_eq!(signal(&fd), None, "{}", abi.name);
    }
}

#[test]
fn a_process_group_is_signalled_as_a_negative_owner() {
    for abi in EVERY.into_iter().filter(|abi| abi.name != "macos") {
        let fd = Fd::on_em0(abi);
        fd.number(0x8004_667d, &word(1)).unwrap();
        // TIOCSPGRP 77 is FIOSETOWN -77
        fd.number(0x8004_7476, &word(77)).unwrap();
        assert_eq!(fd.number(0x4004_7477, &[]), Ok(word(77).to_vec()), "{}: TIOCGPGRP", abi.name);
        let minus_77 = (-77_i32).cast_unsigned();
        assert_eq!(fd.number(0x4004_667b, &[]), Ok(word(minus_77).to_vec()), "{}: FIOGETOWN", abi.name);
        assert_eq!(fd.file.with(|file, _| file.descriptor().signal()), Some((29, -77)), "{}", abi.name);
        fd.number(0x8004_667c, &word(minus_77)).unwrap();
        assert_eq!(fd.number(0x4004_7477, &[]), Ok(word(77).to_vec()), "{}", abi.name);
    }
}

#[test]
fn every_wakeup_is_one_a_signal_goes_with() {
    for abi in EVERY {
        let fd = Fd::sized(abi, 128);
        let before = fd.wakeups();
        fd.rx(60);
        assert_eq!(fd.wakeups(), before, "{}", abi.name);
        fd.rx(60);
        assert_eq!(fd.wakeups(), before + 1, "{}: a buffer is full", abi.name);
        fd.rx(60);
        assert_eq!(fd.wakeups(), before + 1, "{}: a drop wakes nobody", abi.name);
    }
}
