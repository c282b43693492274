//! poll(2), and FIONREAD.

use bpfdev_core::abi::Request;
use bpfdev_core::file::Interest;

use crate::conformance::case::Case;
use crate::conformance::frame::frame;
use crate::conformance::stage::Event;
use crate::conformance::system::{Per, per};

const POLL: &str = "bpf(4), DESCRIPTION; sys/net/bpf.c, bpfpoll and bpf_ready (NetBSD: bpf_poll; OpenBSD, DragonFly: \
                    bpfkqfilter; xnu: bpfselect)";
const FIONREAD: &str = "bpf(4), FIONREAD; sys/net/bpf.c, bpfioctl";
const WRITE: Interest = Interest { read: false, write: true };

fn timeout(ms: i64) -> Request {
    Request::SRTimeout { sec: 0, usec: ms * 1000 }
}

/// poll(2) starts the read time-out, but on OpenBSD.
const WHERE_POLL_STARTS_A_TIMER: Per<&str> = per("read", "read", "nothing", "read", "read");

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "ready::without_interface",
            "Without an interface: everything (FreeBSD, macOS), what can be written (NetBSD), or nothing",
            POLL,
            |s| {
                let bpf = s.open()?;
                s.poll(&bpf, Interest::BOTH, per("read write", "write", "nothing", "nothing", "read write"))
            },
        ),
        Case::new("ready::nothing_buffered", "With nothing buffered nothing can be read", POLL, |s| {
            let bpf = s.tap()?;
            s.poll(&bpf, Interest::READ, "nothing")
        }),
        Case::new(
            "ready::writable",
            "A descriptor can always be written; OpenBSD and DragonFly never say so",
            POLL,
            |s| {
                let bpf = s.tap()?;
                s.poll(&bpf, WRITE, per("write", "write", "nothing", "nothing", "write"))
            },
        ),
        Case::new(
            "ready::stored_is_not_enough",
            "What is stored does not count before the buffer is full",
            POLL,
            |s| {
                let bpf = s.tap()?;
                s.receive_all([1, 2])?;
                s.poll(&bpf, Interest::READ, "nothing")
            },
        ),
        Case::new("ready::full_buffer", "A full buffer counts", POLL, |s| {
            let bpf = s.tap()?;
            s.receive_all(1..=7)?;
            s.poll(&bpf, Interest::READ, "read")
        }),
        Case::new("ready::until_it_is_read", "Until it is read", POLL, |s| {
            let bpf = s.tap()?;
            s.receive_all(1..=7)?;
            s.poll(&bpf, Interest::READ, "read")?;
            s.read(&bpf, per("1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5 6"))?;
            s.poll(&bpf, Interest::READ, "nothing")
        }),
        Case::new(
            "ready::immediate",
            "In immediate mode one packet is enough",
            "bpf(4), BIOCIMMEDIATE; sys/net/bpf.c, bpf_ready",
            |s| {
                let bpf = s.tap()?;
                s.request(&bpf, Request::Immediate(1), "ok")?;
                s.poll(&bpf, Interest::READ, "nothing")?;
                s.receive(1)?;
                s.poll(&bpf, Interest::READ, "read")?;
                s.read(&bpf, "1")?;
                s.poll(&bpf, Interest::READ, "nothing")
            },
        ),
        Case::new(
            "ready::immediate_afterwards",
            "One that was there before it was switched on, too",
            POLL,
            |s| {
                let bpf = s.tap()?;
                s.receive(1)?;
                s.request(&bpf, Request::Immediate(1), "ok")?;
                s.poll(&bpf, Interest::READ, "read")
            },
        ),
        Case::new("ready::immediate_wakes", "A packet ends a poll in immediate mode", POLL, |s| {
            let bpf = s.tap()?;
            s.request(&bpf, Request::Immediate(1), "ok")?;
            s.after(40, Event::Receive(frame(60, 1)));
            s.takes("the poll", 40, 50, |s| s.poll_for(&bpf, Interest::READ, 2000, "read"))
        }),
        Case::new("ready::full_buffer_wakes", "A buffer that becomes full ends a poll", POLL, |s| {
            let bpf = s.tap()?;
            s.receive_all(1..=4)?;
            s.after(40, Event::Receive(frame(400, 5)));
            s.takes("the poll", 40, 50, |s| s.poll_for(&bpf, Interest::READ, 2000, "read"))
        }),
        Case::new("ready::poll_times_out", "A poll with nothing to tell ends by itself", "poll(2)", |s| {
            let bpf = s.tap()?;
            s.takes("the poll", 50, 60, |s| s.poll_for(&bpf, Interest::READ, 50, "nothing"))
        }),
        Case::new(
            "ready::timer_with_data",
            "A poll starts the read time-out; what is stored when it ends counts",
            POLL,
            |s| {
                let bpf = s.tap()?;
                s.request(&bpf, timeout(50), "ok")?;
                s.receive(1)?;
                let least = per(50, 50, 600, 50, 50).of(s.system());
                s.takes("the poll", least, least + 10, |s| {
                    s.poll_for(&bpf, Interest::READ, 600, WHERE_POLL_STARTS_A_TIMER)
                })
            },
        ),
        Case::new(
            "ready::timer_without_data",
            "Nothing there when it ends: the next packet ends the poll",
            POLL,
            |s| {
                let bpf = s.tap()?;
                s.request(&bpf, timeout(30), "ok")?;
                s.after(80, Event::Receive(frame(60, 1)));
                let least = per(80, 80, 600, 80, 80).of(s.system());
                s.takes("the poll", least, least + 10, |s| {
                    s.poll_for(&bpf, Interest::READ, 600, WHERE_POLL_STARTS_A_TIMER)
                })
            },
        ),
        Case::new("ready::timer_stays_run_out", "After it a poll says so at once", POLL, |s| {
            let bpf = s.tap()?;
            s.request(&bpf, timeout(30), "ok")?;
            s.receive(1)?;
            s.poll_for(&bpf, Interest::READ, 600, WHERE_POLL_STARTS_A_TIMER)?;
            s.poll(&bpf, Interest::READ, WHERE_POLL_STARTS_A_TIMER)
        }),
        Case::new(
            "ready::a_request_ends_the_timer",
            "Until a request is made",
            "sys/net/bpf.c, bpfioctl: callout_stop, bd_state = BPF_IDLE",
            |s| {
                let bpf = s.tap()?;
                s.request(&bpf, timeout(30), "ok")?;
                s.receive(1)?;
                s.poll_for(&bpf, Interest::READ, 600, WHERE_POLL_STARTS_A_TIMER)?;
                s.request(&bpf, Request::GHdrCmplt, "0")?;
                s.poll(&bpf, Interest::READ, "nothing")
            },
        ),
        Case::new(
            "ready::a_read_ends_the_timer",
            "Or a read",
            "sys/net/bpf.c, bpfread: bd_state = BPF_IDLE",
            |s| {
                let bpf = s.tap()?;
                s.request(&bpf, timeout(30), "ok")?;
                s.receive(1)?;
                s.poll_for(&bpf, Interest::READ, 600, WHERE_POLL_STARTS_A_TIMER)?;
                s.read(&bpf, "1")?;
                s.receive(2)?;
                s.poll(&bpf, Interest::READ, "nothing")
            },
        ),
        Case::new("ready::does_not_take", "A poll takes nothing away", POLL, |s| {
            let bpf = s.tap()?;
            s.receive_all(1..=7)?;
            s.poll(&bpf, Interest::READ, "read")?;
            s.poll(&bpf, Interest::READ, "read")?;
            s.read(&bpf, per("1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5 6"))
        }),
        Case::new("ready::fionread_one_packet", "FIONREAD counts what a read would give", FIONREAD, |s| {
            let bpf = s.tap()?;
            s.receive(1)?;
            s.request(&bpf, Request::FionRead, per("86", "94", "86", "94", "78"))?;
            s.read_length(&bpf, per("86 bytes", "94 bytes", "86 bytes", "94 bytes", "78 bytes"))?;
            s.request(&bpf, Request::FionRead, "0")
        }),
        Case::new("ready::fionread_two_packets", "Padding between records counts", FIONREAD, |s| {
            let bpf = s.tap()?;
            s.receive_all([1, 2])?;
            s.request(&bpf, Request::FionRead, per("174", "190", "174", "190", "158"))
        }),
        Case::new(
            "ready::fionread_both_buffers",
            "Both buffers count; on macOS only the one being filled",
            "sys/net/bpf.c, bpfioctl, FIONREAD: bd_slen + bd_hlen (xnu: bd_hlen during a copy only)",
            |s| {
                let bpf = s.tap()?;
                s.receive_all(1..=7)?;
                s.request(&bpf, Request::FionRead, per("612", "668", "612", "668", "78"))
            },
        ),
    ]
}
