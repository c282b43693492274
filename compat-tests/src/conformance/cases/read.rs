//! read(2): what it gives, when it waits, and for how long.

use std::sync::Mutex;
use std::time::Duration;

use bpfdev_core::abi::Request;
use bpfdev_core::file::Interest;

use crate::conformance::case::Case;
use crate::conformance::frame::frame;
use crate::conformance::scene::set_if;
use crate::conformance::stage::{Call, Event};
use crate::conformance::system::{System, per};
use crate::conformance::text::numbers;

const READ: &str = "bpf(4), DESCRIPTION; sys/net/bpf.c, bpfread (NetBSD: bpf_read)";
const NOTHING: &str = "EAGAIN";

/// Non-blocking with nothing there: EWOULDBLOCK, but 0 bytes on OpenBSD.
const EMPTY: crate::conformance::system::Per<&str> = per(NOTHING, NOTHING, "nothing", NOTHING, NOTHING);

fn timeout(ms: i64) -> Request {
    Request::SRTimeout { sec: 0, usec: ms * 1000 }
}

fn sized(what: &str, title: &str, length: usize) -> Case {
    Case::new(
        format!("read::{what}"),
        title,
        "bpf(4), BIOCGBLEN: read(2) must use this size; sys/net/bpf.c, bpfread",
        move |s| {
            let bpf = s.tap()?;
            s.receive(1)?;
            s.read_sized(&bpf, length, "EINVAL")?;
            // nothing is lost by it
            s.read(&bpf, "1")
        },
    )
}

fn lengths() -> Vec<Case> {
    vec![
        sized("shorter_than_the_buffer", "A read of fewer bytes than BIOCGBLEN is EINVAL", 511),
        sized("longer_than_the_buffer", "A read of more bytes than BIOCGBLEN is EINVAL", 513),
        sized("one_byte", "A read of one byte is EINVAL", 1),
        Case::new("read::zero_bytes", "A read of no bytes is EINVAL", READ, |s| {
            let bpf = s.tap()?;
            s.read_sized(&bpf, 0, "EINVAL")
        }),
        Case::new(
            "read::wrong_length_without_interface",
            "Without an interface a wrong length is still EINVAL; OpenBSD looks for the interface first",
            "sys/net/bpf.c, bpfread: the order of its checks",
            |s| {
                let bpf = s.open()?;
                s.nonblocking(&bpf, true)?;
                s.read_sized(&bpf, 100, per("EINVAL", "EINVAL", "ENXIO", "EINVAL", "EINVAL"))
            },
        ),
        Case::new(
            "read::without_interface",
            "Without an interface a read is ENXIO; NetBSD's is as with one",
            READ,
            |s| {
                let bpf = s.open()?;
                s.nonblocking(&bpf, true)?;
                s.read(&bpf, per("ENXIO", "EAGAIN", "ENXIO", "ENXIO", "ENXIO"))
            },
        ),
        Case::new(
            "read::without_interface_waits",
            "NetBSD's read without an interface waits for its time-out; others' are ENXIO at once",
            "sys/net/bpf.c, bpf_read (NetBSD), bpfread",
            |s| {
                let bpf = s.open()?;
                s.request(&bpf, timeout(50), "ok")?;
                let least = per(0, 50, 0, 0, 0).of(s.system());
                s.takes("the read", least, least + 10, |s| {
                    s.read(&bpf, per("ENXIO", "nothing", "ENXIO", "ENXIO", "ENXIO"))
                })
            },
        ),
    ]
}

fn nonblocking() -> Vec<Case> {
    vec![
        Case::new(
            "read::nonblocking_nothing_buffered",
            "A non-blocking read of nothing is EWOULDBLOCK; OpenBSD's gives 0 bytes",
            "bpf(4), DESCRIPTION; sys/net/bpf.c, bpfread (IO_NDELAY)",
            |s| {
                let bpf = s.tap()?;
                s.read(&bpf, EMPTY)
            },
        ),
        Case::new(
            "read::nonblocking_takes_the_store",
            "A non-blocking read gives what is stored, full or not",
            READ,
            |s| {
                let bpf = s.tap()?;
                s.receive_all([1, 2])?;
                s.read(&bpf, "1 2")?;
                s.read(&bpf, EMPTY)
            },
        ),
        Case::new(
            "read::nonblocking_ignores_the_timeout",
            "A non-blocking read does not wait for the read time-out",
            READ,
            |s| {
                let bpf = s.tap()?;
                s.request(&bpf, Request::SRTimeout { sec: 3, usec: 0 }, "ok")?;
                s.takes("the read", 0, 10, |s| s.read(&bpf, EMPTY))
            },
        ),
        Case::new(
            "read::fionbio",
            "FIONBIO makes reads non-blocking, as O_NONBLOCK does",
            "sys/net/bpf.c, bpfioctl, FIONBIO; fcntl(2), O_NONBLOCK",
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, Request::FionBio(1), "ok")?;
                s.read(&bpf, EMPTY)
            },
        ),
        Case::new(
            "read::blocking_again",
            "With O_NONBLOCK taken away, reads wait",
            "fcntl(2), O_NONBLOCK",
            |s| {
                let bpf = s.tap()?;
                s.read(&bpf, EMPTY)?;
                s.nonblocking(&bpf, false)?;
                s.request(&bpf, timeout(40), "ok")?;
                s.takes("the read", 40, 50, |s| s.read(&bpf, "nothing"))
            },
        ),
    ]
}

fn buffers() -> Vec<Case> {
    // records of 60-byte frames in 512 bytes: macOS's header is the shortest
    let full = per("1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5 6");
    vec![
        Case::new(
            "read::a_buffer_at_a_time",
            "A read gives one buffer: the full one first, then the other",
            "bpf(4), DESCRIPTION; sys/net/bpf.c, catchpacket and bpfread (hold and store buffer)",
            move |s| {
                let bpf = s.tap()?;
                s.receive_all(1..=8)?;
                s.read(&bpf, full)?;
                s.read(&bpf, per("6 7 8", "6 7 8", "6 7 8", "6 7 8", "7 8"))?;
                s.read(&bpf, EMPTY)
            },
        ),
        Case::new(
            "read::two_full_buffers",
            "Two buffers are kept; what comes then is dropped, and the oldest stays",
            "bpf(4), BIOCGSTATS (bs_drop); sys/net/bpf.c, catchpacket",
            move |s| {
                let bpf = s.tap()?;
                s.receive_all(1..=20)?;
                s.read(&bpf, full)?;
                s.read(&bpf, per("6 7 8 9 10", "6 7 8 9 10", "6 7 8 9 10", "6 7 8 9 10", "7 8 9 10 11 12"))?;
                s.read(&bpf, EMPTY)
            },
        ),
        Case::new(
            "read::a_smaller_frame_still_fits",
            "With both buffers used, a frame too large is dropped and a smaller one still taken",
            "sys/net/bpf.c, catchpacket",
            |s| {
                let bpf = s.tap()?;
                // two records of more than half a buffer each, then what is left
                s.happen(Event::Receive(frame(400, 1)))?;
                s.happen(Event::Receive(frame(300, 2)))?;
                s.happen(Event::Receive(frame(300, 3)))?;
                s.happen(Event::Receive(frame(60, 4)))?;
                s.read(&bpf, "1")?;
                s.read(&bpf, "2 4")
            },
        ),
        Case::new(
            "read::room_again_after_a_read",
            "A read makes room for the packets that come after it",
            "sys/net/bpf.c, bpfread (bd_fbuf = bd_hbuf)",
            move |s| {
                let bpf = s.tap()?;
                s.receive_all(1..=20)?;
                s.read(&bpf, full)?;
                s.receive(21)?;
                s.read(&bpf, per("6 7 8 9 10", "6 7 8 9 10", "6 7 8 9 10", "6 7 8 9 10", "7 8 9 10 11 12"))?;
                s.read(&bpf, "21")
            },
        ),
        Case::new(
            "read::head_drop",
            "With head drop macOS gives up the older buffer instead of the new packet",
            "xnu bsd/net/bpf.c, catchpacket (bd_headdrop)",
            |s| {
                s.only(&[System::MacOs], "only macOS has BIOCSHEADDROP")?;
                let bpf = s.tap()?;
                s.request(&bpf, Request::SetFlag(bpfdev_core::abi::Flag::HeadDrop, 1), "ok")?;
                s.receive_all(1..=14)?;
                s.stats(&bpf, "recv 14 drop 6")?;
                s.read(&bpf, "7 8 9 10 11 12")?;
                s.read(&bpf, "13 14")
            },
        ),
        Case::new(
            "read::flush",
            "BIOCFLUSH drops both buffers",
            "bpf(4), BIOCFLUSH; sys/net/bpf.c, reset_d",
            |s| {
                let bpf = s.tap()?;
                s.receive_all(1..=8)?;
                s.request(&bpf, Request::Flush, "ok")?;
                s.read(&bpf, EMPTY)?;
                s.receive(9)?;
                s.read(&bpf, "9")
            },
        ),
    ]
}

fn waiting() -> Vec<Case> {
    vec![
        Case::new(
            "read::timeout_with_nothing",
            "A read that times out with nothing there gives 0 bytes",
            "bpf(4), BIOCSRTIMEOUT; sys/net/bpf.c, bpfread",
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, timeout(60), "ok")?;
                s.takes("the read", 60, 70, |s| s.read(&bpf, "nothing"))
            },
        ),
        Case::new(
            "read::timeout_with_something",
            "A read waits the whole time-out, and then gives what is stored",
            "bpf(4), BIOCSRTIMEOUT; sys/net/bpf.c, bpfread",
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, timeout(60), "ok")?;
                s.receive(1)?;
                s.takes("the read", 60, 70, |s| s.read(&bpf, "1"))
            },
        ),
        Case::new(
            "read::timeout_does_not_end_early",
            "A packet in the middle of the wait does not end it without immediate mode",
            "bpf(4), BIOCIMMEDIATE, BIOCSRTIMEOUT",
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, timeout(300), "ok")?;
                s.after(20, Event::Receive(frame(60, 1)));
                s.takes("the read", 300, 310, |s| s.read(&bpf, "1"))
            },
        ),
        Case::new(
            "read::waits_for_a_full_buffer",
            "Without time-out and immediate mode a read waits for the packet that no longer fits",
            "bpf(4), BIOCIMMEDIATE: will block until a kernel buffer becomes full; sys/net/bpf.c, catchpacket",
            |s| {
                let bpf = s.blocking_tap()?;
                s.receive_all(1..=4)?;
                s.after(30, Event::Receive(frame(60, 5)));
                s.after(60, Event::Receive(frame(200, 6)));
                s.takes("the read", 60, 70, |s| s.read(&bpf, "1 2 3 4 5"))?;
                s.nonblocking(&bpf, true)?;
                s.read(&bpf, "6")
            },
        ),
        Case::new(
            "read::immediate_gives_what_is_stored",
            "In immediate mode a read gives at once what is stored",
            "bpf(4), BIOCIMMEDIATE; sys/net/bpf.c, bpfread",
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, Request::Immediate(1), "ok")?;
                s.receive_all([1, 2])?;
                s.takes("the read", 0, 10, |s| s.read(&bpf, "1 2"))
            },
        ),
        Case::new(
            "read::immediate_wakes_per_packet",
            "In immediate mode the first packet ends a read",
            "bpf(4), BIOCIMMEDIATE; sys/net/bpf.c, catchpacket (bpf_wakeup)",
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, Request::Immediate(1), "ok")?;
                s.after(30, Event::Receive(frame(60, 1)));
                s.takes("the read", 30, 40, |s| s.read(&bpf, "1"))
            },
        ),
        Case::new(
            "read::immediate_off_again",
            "With immediate mode taken away, reads wait as before",
            "bpf(4), BIOCIMMEDIATE",
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, Request::Immediate(1), "ok")?;
                s.request(&bpf, Request::Immediate(0), "ok")?;
                s.request(&bpf, timeout(300), "ok")?;
                s.after(10, Event::Receive(frame(60, 1)));
                s.takes("the read", 300, 310, |s| s.read(&bpf, "1"))
            },
        ),
        Case::new(
            "read::immediate_set_after_the_packet",
            "A packet stored before immediate mode counts too, but on OpenBSD waits for the next",
            "sys/net/bpf.c, bpfread; OpenBSD bpf_catchpacket (the wait time-out starts with a packet)",
            |s| {
                let bpf = s.blocking_tap()?;
                s.receive(1)?;
                s.request(&bpf, Request::Immediate(1), "ok")?;
                s.after(40, Event::Receive(frame(60, 2)));
                let least = per(0, 0, 40, 0, 0).of(s.system());
                s.takes("the read", least, least + 10, |s| s.read(&bpf, per("1", "1", "1 2", "1", "1")))
            },
        ),
        Case::new(
            "read::immediate_low_byte",
            "macOS looks at the first byte of BIOCIMMEDIATE's argument only",
            "xnu bsd/net/bpf.c, bpf_ioctl, BIOCIMMEDIATE (*(u_char *)addr)",
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, timeout(40), "ok")?;
                s.request(&bpf, Request::Immediate(0x100), "ok")?;
                s.receive(1)?;
                // OpenBSD's wait time-out of zero began before the packet, so its read ends at once, too
                let least = per(0, 0, 0, 0, 40).of(s.system());
                s.takes("the read", least, least + 10, |s| s.read(&bpf, "1"))
            },
        ),
        Case::new(
            "read::wait_timeout",
            "OpenBSD's wait time-out begins with a packet, and ends the read",
            "OpenBSD bpf(4), BIOCSWTIMEOUT; sys/net/bpf.c, bpf_wait_cb",
            |s| {
                s.only(&[System::OpenBsd], "only OpenBSD has BIOCSWTIMEOUT")?;
                let bpf = s.blocking_tap()?;
                s.request(&bpf, Request::SWTimeout { sec: 0, usec: 50_000 }, "ok")?;
                s.after(30, Event::Receive(frame(60, 1)));
                s.takes("the read", 80, 90, |s| s.read(&bpf, "1"))
            },
        ),
        Case::new(
            "read::two_readers_one_packet",
            "Of two sleeping readers one gets the packet; the other waits its time-out",
            "sys/net/bpf.c, bpfread: wake-ups are looked at again",
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, Request::Immediate(1), "ok")?;
                s.request(&bpf, timeout(300), "ok")?;
                s.after(60, Event::Receive(frame(60, 1)));
                let seen: Mutex<Vec<(String, Duration)>> = Mutex::default();
                let begin = s.stage().clock();
                {
                    let (scene, seen, bpf) = (&*s, &seen, &bpf);
                    let read = || {
                        let result = scene.read_raw(bpf, bpf.length());
                        let took = scene.stage().clock().saturating_sub(begin);
                        let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        seen.push((numbers(scene.system(), &result), took));
                    };
                    let calls: Vec<Call<'_>> = vec![Box::new(read), Box::new(read)];
                    scene.stage().together(calls);
                }
                let seen = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
                let words: Vec<_> = seen.iter().map(|(word, _)| word.as_str()).collect();
                s.check("the two reads, in the order they ended", "1, nothing", words.join(", "))?;
                // FreeBSD and its kin wait anew after each wake-up; OpenBSD has one deadline
                let last = seen.last().map_or(Duration::ZERO, |(_, took)| *took);
                let least = per(360, 360, 300, 360, 360).of(s.system());
                s.within("the second read", last, least, least + 10)
            },
        ),
        Case::new(
            "read::interface_set_during_a_read",
            "NetBSD's read that waits without an interface gets what comes once there is one",
            "NetBSD sys/net/bpf.c, bpf_read",
            |s| {
                s.only(&[System::NetBsd, System::NetBsd7], "others refuse to read without an interface")?;
                let bpf = s.open()?;
                s.request(&bpf, Request::SBlen(512), "512")?;
                s.request(&bpf, Request::Immediate(1), "ok")?;
                s.request(&bpf, timeout(900), "ok")?;
                let name = s.stage().interface().to_owned();
                let seen: Mutex<String> = Mutex::default();
                {
                    let (scene, seen, bpf) = (&*s, &seen, &bpf);
                    let read = move || {
                        let result = scene.read_raw(bpf, 512);
                        *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                            numbers(scene.system(), &result);
                    };
                    let attach = move || {
                        scene.stage().sleep(Duration::from_millis(30));
                        // a refusal shows in the reader's answer
                        let _ = bpf.file().ioctl(&set_if(&name));
                        let _ = scene.stage().happen(&Event::Receive(frame(60, 1)));
                    };
                    let calls: Vec<Call<'_>> = vec![Box::new(read), Box::new(attach)];
                    scene.stage().together(calls);
                }
                let seen = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
                s.check("the read", "1", seen)
            },
        ),
        Case::new(
            "read::after_a_poll_timed_out",
            "After a poll whose timer ran out, a read gives what is stored at once",
            "sys/net/bpf.c, bpfpoll and bpf_timed_out (OpenBSD has no such timer)",
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, timeout(40), "ok")?;
                s.receive(1)?;
                s.poll_for(&bpf, Interest::READ, 600, per("read", "read", "nothing", "read", "read"))?;
                let least = per(0, 0, 40, 0, 0).of(s.system());
                s.takes("the read", least, least + 10, |s| s.read(&bpf, "1"))
            },
        ),
    ]
}

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    [lengths(), nonblocking(), buffers(), waiting()].into_iter().flatten().collect()
}
