//! What changes a descriptor's state: BIOCLOCK, the interface's going, several descriptors.

use bpfdev_core::abi::{FilterSource, Request};
use bpfdev_core::file::Interest;

use super::programs::ret;
use crate::conformance::case::Case;
use crate::conformance::frame::frame;
use crate::conformance::scene::{Scene, Stop, set_f, set_if};
use crate::conformance::stage::Event;
use crate::conformance::system::{Per, System, per};

const LOCK: &str = "bpf(4), BIOCLOCK; sys/net/bpf.c, bpfioctl (bd_locked; OpenBSD: suser)";
const DOWN: &str = "sys/net/bpf.c: taps do not look at IFF_UP";
const REMOVED: &str = "sys/net/bpf.c, bpfdetach (OpenBSD: vdevgone)";
const EMPTY: Per<&str> = per("EAGAIN", "EAGAIN", "nothing", "EAGAIN", "EAGAIN");

const REFUSED: Per<&str> = per("EPERM", "EPERM", "EPERM", "EPERM", "");

/// Systems with BIOCLOCK.
fn lockable(s: &Scene) -> Result<(), Stop> {
    if matches!(s.system(), System::MacOs | System::NetBsd7) {
        return Err(Stop::Skip("there is no BIOCLOCK".into()));
    }
    Ok(())
}

/// A request to a locked descriptor; `free`: what OpenBSD's root gets, whom the lock does not bind.
fn locked(what: &str, request: Request, expected: Per<&'static str>, free: &'static str) -> Case {
    let allowed = if expected == REFUSED { "refused" } else { "answered" };
    let title = format!("A locked descriptor: {what} is {allowed}");
    Case::new(format!("lock::{what}"), title, LOCK, move |s| {
        lockable(s)?;
        let bpf = s.tap()?;
        s.request(&bpf, Request::Lock, "ok")?;
        if s.system() == System::OpenBsd && s.stage().root() {
            return s.request(&bpf, request.clone(), free);
        }
        s.request(&bpf, request.clone(), expected)
    })
}

fn locks() -> Vec<Case> {
    let all = |said: &'static str| per(said, said, said, said, "");
    let no_counts = per("recv 0 drop 0", "recv 0 drop 0 capt 0", "recv 0 drop 0", "recv 0 drop 0", "");
    vec![
        locked("setf", set_f(&ret(1)), REFUSED, "ok"),
        locked("setwf", Request::SetWf(FilterSource::new(&ret(1))), REFUSED, "ok"),
        locked("promisc", Request::Promisc, REFUSED, "ok"),
        locked("setif", set_if("nosuch0"), REFUSED, "ENXIO"),
        locked("sblen", Request::SBlen(1024), REFUSED, "EINVAL"),
        locked("sdlt", Request::SDlt(1), REFUSED, "ok"),
        locked("shdrcmplt", Request::SHdrCmplt(1), REFUSED, "ok"),
        locked("sdirection", Request::SDirection(0), REFUSED, "ok"),
        locked("gdirection", Request::GDirection, per("EPERM", "EPERM", "0", "EPERM", ""), "0"),
        locked("fionbio", Request::FionBio(1), REFUSED, "ok"),
        locked("fioasync", Request::FioAsync(0), REFUSED, "ok"),
        locked("fiogetown", Request::GetOwn, REFUSED, "0"),
        locked("gblen", Request::GBlen, all("512"), "512"),
        locked("flush", Request::Flush, all("ok"), "ok"),
        locked("gdlt", Request::GDlt, all("1"), "1"),
        locked("gdltlist", Request::GDltList(Some(4)), all("1 [1]"), "1 [1]"),
        locked("srtimeout", Request::SRTimeout { sec: 1, usec: 0 }, all("ok"), "ok"),
        locked("grtimeout", Request::GRTimeout, all("0 s 0 us"), "0 s 0 us"),
        locked("gstats", Request::GStats, no_counts, "recv 0 drop 0"),
        locked("version", Request::Version, all("1.1"), "1.1"),
        locked("ghdrcmplt", Request::GHdrCmplt, all("0"), "0"),
        locked("immediate", Request::Immediate(1), all("ok"), "ok"),
        locked("lock", Request::Lock, all("ok"), "ok"),
        locked("fionread", Request::FionRead, all("0"), "0"),
        Case::new(
            "lock::reading_goes_on",
            "A locked descriptor reads, writes and polls as before",
            LOCK,
            |s| {
                lockable(s)?;
                let bpf = s.tap()?;
                s.request(&bpf, Request::Immediate(1), "ok")?;
                s.request(&bpf, Request::Lock, "ok")?;
                s.receive(1)?;
                s.poll(&bpf, Interest::READ, "read")?;
                s.read(&bpf, "1")?;
                s.write(&bpf, &frame(60, 2), "60")?;
                s.far_end(1, "2")
            },
        ),
        Case::new("lock::filter_stays", "The filter that was set stays in force", LOCK, |s| {
            lockable(s)?;
            let bpf = s.tap()?;
            s.filter(&bpf, &super::programs::only_number(2))?;
            s.request(&bpf, Request::Lock, "ok")?;
            s.receive_all([1, 2])?;
            s.read(&bpf, "2")
        }),
        Case::new("lock::is_its_own", "Another descriptor is not locked by it", LOCK, |s| {
            lockable(s)?;
            let (one, other) = (s.tap()?, s.tap()?);
            s.request(&one, Request::Lock, "ok")?;
            s.request(&other, Request::SHdrCmplt(1), "ok")
        }),
    ]
}

fn down() -> Vec<Case> {
    vec![
        Case::new(
            "state::setif_down",
            "An interface that is down can be attached to",
            "bpf(4), BIOCSETIF; sys/net/bpf.c, bpf_setif",
            |s| {
                s.happen(Event::Up(false))?;
                let bpf = s.tap()?;
                s.request(&bpf, Request::GDlt, "1")
            },
        ),
        Case::new(
            "state::buffered_outlive_down",
            "What is buffered stays when the interface goes down",
            DOWN,
            |s| {
                let bpf = s.tap()?;
                s.receive(1)?;
                s.happen(Event::Up(false))?;
                s.read(&bpf, "1")?;
                s.read(&bpf, EMPTY)
            },
        ),
        Case::new(
            "state::down_wakes_nobody",
            "A sleeping read does not notice that the interface goes down",
            DOWN,
            |s| {
                let bpf = s.blocking_tap()?;
                s.request(&bpf, Request::SRTimeout { sec: 0, usec: 80_000 }, "ok")?;
                s.after(20, Event::Up(false));
                s.takes("the read", 80, 90, |s| s.read(&bpf, "nothing"))
            },
        ),
        Case::new("state::up_again", "When it is up again packets are seen", DOWN, |s| {
            let bpf = s.tap()?;
            s.happen(Event::Up(false))?;
            s.happen(Event::Up(true))?;
            s.receive(1)?;
            s.read(&bpf, "1")
        }),
    ]
}

fn removed() -> Vec<Case> {
    vec![
        Case::new(
            "removed::read",
            "Reads of a removed interface: ENXIO, nothing special (NetBSD), EIO (OpenBSD)",
            REMOVED,
            |s| {
                let bpf = s.tap()?;
                s.happen(Event::Remove)?;
                s.read(&bpf, per("ENXIO", "EAGAIN", "EIO", "ENXIO", "ENXIO"))
            },
        ),
        Case::new("removed::write", "Writes: ENXIO, EIO on OpenBSD", REMOVED, |s| {
            let bpf = s.tap()?;
            s.happen(Event::Remove)?;
            s.write(&bpf, &frame(60, 1), per("ENXIO", "ENXIO", "EIO", "ENXIO", "ENXIO"))
        }),
        Case::new(
            "removed::getif",
            "There is no interface any more; OpenBSD's file is revoked",
            REMOVED,
            |s| {
                let bpf = s.tap()?;
                s.happen(Event::Remove)?;
                s.request(&bpf, Request::GDlt, per("EINVAL", "EINVAL", "EBADF", "EINVAL", "EINVAL"))
            },
        ),
        Case::new("removed::poll", "poll(2): as without an interface; OpenBSD says HUP", REMOVED, |s| {
            let bpf = s.tap()?;
            s.happen(Event::Remove)?;
            s.poll(&bpf, Interest::BOTH, per("read write", "write", "hangup", "nothing", "read write"))
        }),
        Case::new("removed::buffered_first", "What is buffered can still be read", REMOVED, |s| {
            if s.system() == System::OpenBsd {
                return Err(Stop::Skip("OpenBSD's file is revoked with what it has".into()));
            }
            let bpf = s.tap()?;
            s.receive(1)?;
            s.happen(Event::Remove)?;
            s.read(&bpf, "1")?;
            s.read(&bpf, per("ENXIO", "EAGAIN", "", "ENXIO", "ENXIO"))
        }),
        Case::new("removed::sleeping_read", "A sleeping read is woken, but on NetBSD", REMOVED, |s| {
            let bpf = s.blocking_tap()?;
            s.request(&bpf, Request::SRTimeout { sec: 0, usec: 900_000 }, "ok")?;
            s.after(40, Event::Remove);
            let least = per(40, 900, 40, 40, 40).of(s.system());
            s.takes("the read", least, least + 10, |s| {
                s.read(&bpf, per("ENXIO", "nothing", "EIO", "ENXIO", "ENXIO"))
            })
        }),
        Case::new("removed::counters_stay", "The counters are kept", REMOVED, |s| {
            if s.system() == System::OpenBsd {
                return Err(Stop::Skip("OpenBSD's file is revoked".into()));
            }
            let bpf = s.tap()?;
            s.receive_all([1, 2])?;
            s.happen(Event::Remove)?;
            s.stats(&bpf, per("recv 2 drop 0", "recv 2 drop 0 capt 2", "", "recv 2 drop 0", "recv 2 drop 0"))
        }),
        Case::new("removed::another_interface", "Another interface can be set then", REMOVED, |s| {
            if s.system() == System::OpenBsd {
                return Err(Stop::Skip("OpenBSD's file is revoked".into()));
            }
            let bpf = s.tap()?;
            s.happen(Event::Remove)?;
            let other = s.stage().loopback().to_owned();
            s.request(&bpf, set_if(&other), "ok")?;
            s.request(&bpf, Request::GDlt, "0")
        }),
    ]
}

fn several() -> Vec<Case> {
    let copies = "bpf(4), DESCRIPTION: each descriptor that accepts the packet receives its own copy";
    vec![
        Case::new(
            "several::each_gets_a_copy",
            "Each descriptor gets its own copy of a packet",
            copies,
            |s| {
                let (one, other) = (s.tap()?, s.tap()?);
                s.receive(1)?;
                s.read(&one, "1")?;
                s.read(&other, "1")?;
                s.read(&one, EMPTY)
            },
        ),
        Case::new(
            "several::attached_later",
            "A descriptor sees no packet from before it was attached",
            copies,
            |s| {
                let one = s.tap()?;
                s.receive(1)?;
                let other = s.tap()?;
                s.receive(2)?;
                s.read(&one, "1 2")?;
                s.read(&other, "2")
            },
        ),
        Case::new("several::closing_one", "Closing one leaves the others alone", copies, |s| {
            let (one, other) = (s.tap()?, s.tap()?);
            s.receive(1)?;
            drop(one);
            s.receive(2)?;
            s.read(&other, "1 2")
        }),
        Case::new(
            "several::full_buffers_are_its_own",
            "One that is not read does not hinder another",
            copies,
            |s| {
                let (idle, reader) = (s.tap()?, s.tap()?);
                for number in 1..=20 {
                    s.receive(number)?;
                    s.read_raw(&reader, reader.length()).map_err(|errno| {
                        Stop::Failed(crate::conformance::report::Check {
                            step: "read".into(),
                            expected: "a packet".into(),
                            seen: errno.name().into(),
                        })
                    })?;
                }
                s.stats(
                    &reader,
                    per(
                        "recv 20 drop 0",
                        "recv 20 drop 0 capt 20",
                        "recv 20 drop 0",
                        "recv 20 drop 0",
                        "recv 20 drop 0",
                    ),
                )?;
                s.stats(
                    &idle,
                    per(
                        "recv 20 drop 10",
                        "recv 20 drop 10 capt 20",
                        "recv 20 drop 10",
                        "recv 20 drop 10",
                        "recv 20 drop 8",
                    ),
                )
            },
        ),
        Case::new("several::twelve", "Twelve descriptors on one interface", copies, |s| {
            let mut taps = Vec::new();
            for _ in 0..12 {
                taps.push(s.tap()?);
            }
            s.receive(1)?;
            taps.iter().try_for_each(|tap| s.read(tap, "1"))
        }),
    ]
}

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    [locks(), down(), removed(), several()].into_iter().flatten().collect()
}
