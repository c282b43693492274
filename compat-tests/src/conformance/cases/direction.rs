//! Which way packets go, promiscuous mode, and the loopback interface.

use bpfdev_core::abi::Request;

use crate::conformance::case::Case;
use crate::conformance::frame::{STRANGER, frame_to};
use crate::conformance::scene::{Bpf, Scene, Stop, set_if};
use crate::conformance::stage::Event;
use crate::conformance::system::{Per, System, per};

const RULE: &str = "FreeBSD, NetBSD bpf(4), BIOCSDIRECTION; OpenBSD bpf(4), BIOCSDIRFILT; DragonFly bpf(4), BIOCSSEESENT; \
                    xnu bsd/net/bpf.h, BPF_D_IN; NetBSD 7 bpf(4), BIOCSSEESENT";
const PROMISC: &str = "bpf(4), BIOCPROMISC; sys/net/bpf.c, bpfioctl (ifpromisc)";
const LOOPBACK: &str = "bpf(4), DESCRIPTION; sys/net/if_loop.c, looutput; net/dlt.h, DLT_NULL and DLT_LOOP";
const EMPTY: Per<&str> = per("EAGAIN", "EAGAIN", "nothing", "EAGAIN", "EAGAIN");

/// The value that asks for received packets only.
const IN: Per<u32> = per(0, 0, 2, 0, 1);
/// For sent ones only; DragonFly and NetBSD 7 have none.
const OUT: Per<u32> = per(2, 2, 1, u32::MAX, 2).netbsd7(u32::MAX);

/// A value set, what is said, and what is kept.
fn value(value: u32, title: &str, said: Per<&'static str>, kept: Per<&'static str>) -> Case {
    Case::new(format!("direction::value_{value}"), title, RULE, move |s| {
        let bpf = s.open()?;
        s.request(&bpf, Request::SDirection(value), said)?;
        s.request(&bpf, Request::GDirection, kept)
    })
}

fn ways() -> Vec<Case> {
    vec![
        value(0, "0 is taken everywhere", "ok".into(), "0".into()),
        value(1, "1 is taken everywhere", "ok".into(), "1".into()),
        value(2, "2 is taken everywhere", "ok".into(), "2".into()),
        value(
            3,
            "3 is no direction on FreeBSD and NetBSD",
            per("EINVAL", "EINVAL", "ok", "ok", "ok").netbsd7("ok"),
            per("1", "1", "3", "3", "3").netbsd7("3"),
        ),
        value(
            4,
            "4 is none on macOS either; OpenBSD leaves other bits out",
            per("EINVAL", "EINVAL", "ok", "ok", "EINVAL").netbsd7("ok"),
            per("1", "1", "0", "4", "3").netbsd7("4"),
        ),
        Case::new("direction::both", "By default packets of both ways are seen", RULE, |s| {
            let bpf = s.tap()?;
            s.receive(1)?;
            s.send(&bpf, 2)?;
            s.read(&bpf, "1 2")
        }),
        Case::new("direction::received_only", "Received packets only", RULE, |s| {
            let bpf = s.tap()?;
            s.request(&bpf, Request::SDirection(IN.of(s.system())), "ok")?;
            s.receive(1)?;
            s.send(&bpf, 2)?;
            s.receive(3)?;
            s.read(&bpf, "1 3")
        }),
        Case::new("direction::sent_only", "Sent packets only", RULE, |s| {
            let out = OUT.of(s.system());
            if out == u32::MAX {
                return Err(Stop::Skip("there is no way to ask for sent packets only".into()));
            }
            let bpf = s.tap()?;
            s.request(&bpf, Request::SDirection(out), "ok")?;
            s.receive(1)?;
            s.send(&bpf, 2)?;
            s.receive(3)?;
            s.read(&bpf, "2")
        }),
        Case::new("direction::none", "No packets at all (OpenBSD, macOS)", RULE, |s| {
            s.only(&[System::OpenBsd, System::MacOs], "there is no way to ask for no packets")?;
            let bpf = s.tap()?;
            s.request(&bpf, Request::SDirection(if s.system() == System::OpenBsd { 3 } else { 0 }), "ok")?;
            s.receive(1)?;
            s.send(&bpf, 2)?;
            s.read(&bpf, per("", "", "nothing", "", "EAGAIN"))
        }),
        Case::new(
            "direction::buffered_stay",
            "What is buffered stays when the direction changes",
            RULE,
            |s| {
                let bpf = s.tap()?;
                s.send(&bpf, 1)?;
                s.request(&bpf, Request::SDirection(IN.of(s.system())), "ok")?;
                s.send(&bpf, 2)?;
                s.receive(3)?;
                s.read(&bpf, "1 3")
            },
        ),
        Case::new(
            "direction::before_the_interface",
            "A direction set before the interface counts",
            RULE,
            |s| {
                let bpf = s.open()?;
                s.request(&bpf, Request::SDirection(IN.of(s.system())), "ok")?;
                s.attach(&bpf)?;
                s.nonblocking(&bpf, true)?;
                s.send(&bpf, 1)?;
                s.receive(2)?;
                s.read(&bpf, "2")
            },
        ),
        Case::new("direction::is_its_own", "Each descriptor has its own direction", RULE, |s| {
            let (one, other) = (s.tap()?, s.tap()?);
            s.request(&one, Request::SDirection(IN.of(s.system())), "ok")?;
            s.send(&one, 1)?;
            s.receive(2)?;
            s.read(&one, "2")?;
            s.read(&other, "1 2")
        }),
        Case::new("direction::back_to_both", "The direction can be changed back", RULE, |s| {
            let bpf = s.tap()?;
            s.request(&bpf, Request::SDirection(IN.of(s.system())), "ok")?;
            s.send(&bpf, 1)?;
            s.request(&bpf, Request::SDirection(per(1, 1, 0, 1, 3).of(s.system())), "ok")?;
            s.send(&bpf, 2)?;
            s.receive(3)?;
            s.read(&bpf, "2 3")
        }),
        Case::new(
            "direction::see_sent",
            "macOS has BIOCSSEESENT beside it: what is sent is seen or not",
            "xnu bsd/net/bpf.c, bpf_ioctl, BIOCSSEESENT",
            |s| {
                s.only(&[System::MacOs], "BIOCSSEESENT is the same as the direction, or absent")?;
                let bpf = s.tap()?;
                s.request(&bpf, Request::SSeeSent(0), "ok")?;
                s.request(&bpf, Request::GDirection, "1")?;
                s.send(&bpf, 1)?;
                s.request(&bpf, Request::SSeeSent(5), "ok")?;
                s.request(&bpf, Request::GSeeSent, "1")?;
                s.send(&bpf, 2)?;
                s.read(&bpf, "2")
            },
        ),
    ]
}

fn foreign(s: &mut Scene, number: u16) -> Result<(), Stop> {
    s.happen(Event::Receive(frame_to(STRANGER, 60, number)))
}

fn promiscuous() -> Vec<Case> {
    vec![
        Case::new("promiscuous::own_frames", "Frames for the interface and for all are seen", PROMISC, |s| {
            let bpf = s.tap()?;
            let own = s.stage().address();
            s.happen(Event::Receive(frame_to(own, 60, 1)))?;
            s.receive(2)?;
            s.read(&bpf, "1 2")
        }),
        Case::new("promiscuous::foreign_frames", "Those for others only in promiscuous mode", PROMISC, |s| {
            let bpf = s.tap()?;
            foreign(s, 1)?;
            s.request(&bpf, Request::Promisc, "ok")?;
            foreign(s, 2)?;
            s.read(&bpf, "2")
        })
        .with_address_filter(),
        Case::new(
            "promiscuous::seen_by_others",
            "They are then seen by other descriptors, too",
            PROMISC,
            |s| {
                let (one, other) = (s.tap()?, s.tap()?);
                s.request(&one, Request::Promisc, "ok")?;
                foreign(s, 1)?;
                s.read(&other, "1")
            },
        )
        .with_address_filter(),
        Case::new("promiscuous::the_interface_is", "The interface becomes promiscuous", PROMISC, |s| {
            let bpf = s.tap()?;
            s.promiscuous("not promiscuous")?;
            s.request(&bpf, Request::Promisc, "ok")?;
            s.promiscuous("promiscuous")
        }),
        Case::new(
            "promiscuous::until_close",
            "Until the descriptor is closed",
            "bpf(4), BIOCPROMISC; sys/net/bpf.c, bpf_detachd",
            |s| {
                let bpf = s.tap()?;
                s.request(&bpf, Request::Promisc, "ok")?;
                s.request(&bpf, Request::Promisc, "ok")?;
                drop(bpf);
                s.promiscuous("not promiscuous")
            },
        ),
        Case::new("promiscuous::of_two", "Or the last of those that asked for it", PROMISC, |s| {
            let (one, other) = (s.tap()?, s.tap()?);
            s.request(&one, Request::Promisc, "ok")?;
            s.request(&other, Request::Promisc, "ok")?;
            drop(one);
            s.promiscuous("promiscuous")?;
            drop(other);
            s.promiscuous("not promiscuous")
        }),
        Case::new(
            "promiscuous::until_another_interface",
            "Or moves to another interface",
            "sys/net/bpf.c, bpf_setif and bpf_detachd",
            |s| {
                let bpf = s.tap()?;
                s.request(&bpf, Request::Promisc, "ok")?;
                let other = s.stage().other_interface().to_owned();
                s.request(&bpf, set_if(&other), "ok")?;
                s.promiscuous("not promiscuous")
            },
        ),
    ]
}

/// A descriptor on the loopback interface.
fn loopback(s: &mut Scene) -> Result<Bpf, Stop> {
    let bpf = s.open()?;
    let name = s.stage().loopback().to_owned();
    s.ask(&bpf, set_if(&name))?;
    s.nonblocking(&bpf, true)?;
    Ok(bpf)
}

fn on_loopback() -> Vec<Case> {
    vec![
        Case::new("loopback::link_type", "It is DLT_NULL (0); OpenBSD's is DLT_LOOP (12)", LOOPBACK, |s| {
            let bpf = loopback(s)?;
            s.request(&bpf, Request::GDlt, per("0", "0", "12", "0", "0"))
        }),
        Case::new(
            "loopback::family",
            "The family is in front of the packet: AF_INET is 2, in host order, or network order (OpenBSD)",
            LOOPBACK,
            |s| {
                let bpf = loopback(s)?;
                s.happen(Event::Loopback(b"payload".to_vec()))?;
                let records = s.records(&bpf)?;
                let family = records.first().and_then(|record| record.data.get(..4)?.try_into().ok());
                let host =
                    per("host order 2", "host order 2", "network order 2", "host order 2", "host order 2");
                let seen = match family {
                    Some(family) if u32::from_ne_bytes(family) == 2 => "host order 2".to_owned(),
                    Some(family) if u32::from_be_bytes(family) == 2 => "network order 2".to_owned(),
                    other => format!("{other:?}"),
                };
                s.check("the family word", host, seen)
            },
        ),
        Case::new(
            "loopback::header_length",
            "bh_hdrlen aligns the packet behind the family",
            "sys/net/bpf.c, bpf_hdrlen",
            |s| {
                let bpf = loopback(s)?;
                s.happen(Event::Loopback(b"payload".to_vec()))?;
                let seen: Vec<_> = s.records(&bpf)?.iter().map(|record| record.hdrlen.to_string()).collect();
                s.check("bh_hdrlen", per("28", "36", "24", "36", "20"), seen.join(" "))
            },
        ),
        Case::new("loopback::packet", "Behind the family is the IP packet", LOOPBACK, |s| {
            let bpf = loopback(s)?;
            s.happen(Event::Loopback(b"payload".to_vec()))?;
            let records = s.records(&bpf)?;
            let whole = records.first().is_some_and(|record| {
                record.data.len() == 4 + 28 + 7
                    && record.data.get(4) == Some(&0x45)
                    && record.data.ends_with(b"payload")
            });
            s.check("the packet", "the datagram", if whole { "the datagram" } else { "another" })
        }),
        Case::new("loopback::seen_once", "A packet to oneself is seen once", LOOPBACK, |s| {
            let bpf = loopback(s)?;
            s.happen(Event::Loopback(b"payload".to_vec()))?;
            let seen = s.records(&bpf)?.len().to_string();
            s.check("packets", "1", seen)
        }),
        Case::new(
            "loopback::way",
            "It counts as received on FreeBSD and DragonFly, as sent on the others",
            "sys/net/if_loop.c, looutput and if_simloop; sys/net/bpf.c, BPF_CHECK_DIRECTION",
            |s| {
                let bpf = loopback(s)?;
                s.request(&bpf, Request::SDirection(IN.of(s.system())), "ok")?;
                s.happen(Event::Loopback(b"payload".to_vec()))?;
                let length = bpf.length();
                let seen = match s.read_raw(&bpf, length) {
                    Ok(buffer) if !buffer.is_empty() => "seen as received",
                    _ => "not seen as received",
                };
                let (seen_so, not) = ("seen as received", "not seen as received");
                s.check("the packet is", per(seen_so, not, not, seen_so, not), seen)
            },
        ),
        Case::new(
            "loopback::no_link_level_address",
            "There is no SIOCGIFADDR of it",
            "sys/net/bpf.c, bpfioctl; if_loop.c, loioctl",
            |s| {
                let bpf = loopback(s)?;
                s.request(&bpf, Request::GIfAddr, "EINVAL")
            },
        ),
        Case::new("loopback::nothing_at_first", "Nothing is there by itself", LOOPBACK, |s| {
            let bpf = loopback(s)?;
            s.read(&bpf, EMPTY)
        }),
    ]
}

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    [ways(), promiscuous(), on_loopback()].into_iter().flatten().collect()
}
