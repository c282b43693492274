//! BIOCSETIF, and the requests that want an interface.

use bpfdev_core::abi::{Request, Response};

use super::ioctls::{attached, fresh};
use crate::conformance::case::Case;
use crate::conformance::scene::set_if;
use crate::conformance::system::{System, per};

/// A request that is refused without an interface.
fn needs_interface(what: &str, name: &str, request: Request) -> Case {
    fresh(
        &format!("{what}_without_interface"),
        &format!("{name} is EINVAL without an interface"),
        &format!("bpf(4), {name}; sys/net/bpf.c, bpfioctl (bd_bif == NULL)"),
        vec![(request, "EINVAL".into())],
    )
}

/// Every case of this file.
pub fn cases() -> Vec<Case> {
    let setif = "bpf(4), BIOCSETIF; sys/net/bpf.c, bpf_setif";
    vec![
        needs_interface("gdlt", "BIOCGDLT", Request::GDlt),
        needs_interface("gdltlist", "BIOCGDLTLIST", Request::GDltList(Some(8))),
        needs_interface("gdltlist_count", "BIOCGDLTLIST", Request::GDltList(None)),
        needs_interface("sdlt", "BIOCSDLT", Request::SDlt(1)),
        needs_interface("getif", "BIOCGETIF", Request::GetIf),
        needs_interface("promisc", "BIOCPROMISC", Request::Promisc),
        fresh(
            "ifaddr_without_interface",
            "SIOCGIFADDR is EINVAL without an interface",
            "bpf(4); sys/net/bpf.c, bpfioctl (FreeBSD, NetBSD, OpenBSD: not handled)",
            vec![(Request::GIfAddr, "EINVAL".into())],
        ),
        Case::new("ioctl::getif", "BIOCGETIF names the interface", "bpf(4), BIOCGETIF", |s| {
            let bpf = s.tap()?;
            let seen = if matches!(s.ask(&bpf, Request::GetIf)?, Response::Name(name) if name == s.stage().interface())
            {
                "the same name"
            } else {
                "another name"
            };
            s.check("BIOCGETIF", "the same name", seen)
        }),
        fresh(
            "setif_unknown",
            "An unknown interface is ENXIO",
            setif,
            vec![(set_if("nosuch0"), "ENXIO".into())],
        ),
        fresh("setif_empty", "No name is ENXIO", setif, vec![(set_if(""), "ENXIO".into())]),
        fresh(
            "setif_longest_name",
            "A name of 16 bytes without a NUL is ENXIO",
            setif,
            vec![(set_if("abcdefghijklmno9"), "ENXIO".into())],
        ),
        Case::new(
            "ioctl::setif_name_without_unit",
            "A name without a number is nobody's (NetBSD pads it with zeros)",
            "NetBSD sys/net/bpf.c, bpf_setif",
            |s| {
                let bpf = s.open()?;
                let letters: String =
                    s.stage().loopback().chars().take_while(|character| character.is_alphabetic()).collect();
                s.request(&bpf, set_if(&letters), "ENXIO")
            },
        ),
        Case::new(
            "ioctl::setif_again_fails",
            "A BIOCSETIF that fails leaves the attachment, and what is buffered",
            setif,
            |s| {
                let bpf = s.tap()?;
                s.receive(1)?;
                s.request(&bpf, set_if("nosuch0"), "ENXIO")?;
                s.request(&bpf, Request::GDlt, "1")?;
                s.read(&bpf, "1")
            },
        ),
        Case::new(
            "ioctl::setif_same_resets",
            "BIOCSETIF to the same interface drops buffers and zeroes counters",
            setif,
            |s| {
                let bpf = s.tap()?;
                s.receive_all([1, 2])?;
                s.attach(&bpf)?;
                s.stats(
                    &bpf,
                    per(
                        "recv 0 drop 0",
                        "recv 0 drop 0 capt 0",
                        "recv 0 drop 0",
                        "recv 0 drop 0",
                        "recv 0 drop 0",
                    ),
                )?;
                s.request(&bpf, Request::FionRead, "0")?;
                s.receive(3)?;
                s.read(&bpf, "3")
            },
        ),
        Case::new(
            "ioctl::setif_other_moves",
            "BIOCSETIF to another interface takes the descriptor there",
            setif,
            |s| {
                let bpf = s.tap()?;
                s.receive(1)?;
                let other = s.stage().other_interface().to_owned();
                s.request(&bpf, set_if(&other), "ok")?;
                s.read(&bpf, per("EAGAIN", "EAGAIN", "nothing", "EAGAIN", "EAGAIN"))?;
                s.send(&bpf, 2)?;
                s.read(&bpf, "2")
            },
        ),
        Case::new(
            "ioctl::setif_keeps_the_filter",
            "The filter and the flags outlive a change of interface",
            setif,
            |s| {
                let bpf = s.tap()?;
                s.filter(&bpf, &super::programs::only_number(2))?;
                s.request(&bpf, Request::SHdrCmplt(1), "ok")?;
                s.attach(&bpf)?;
                s.request(&bpf, Request::GHdrCmplt, "1")?;
                s.receive_all([1, 2, 3])?;
                s.read(&bpf, "2")
            },
        ),
        attached(
            "ethernet_is_1",
            "Ethernet's link type is 1",
            "net/dlt.h, DLT_EN10MB",
            vec![(Request::GDlt, "1".into())],
        ),
        attached(
            "dlt_list",
            "The list of link types has the present one; a null list gives their number",
            "bpf(4), BIOCGDLTLIST; sys/net/bpf.c, bpf_getdltlist",
            vec![
                (Request::GDltList(None), "1 []".into()),
                (Request::GDltList(Some(1)), "1 [1]".into()),
                (Request::GDltList(Some(8)), "1 [1]".into()),
            ],
        ),
        attached(
            "dlt_list_without_room",
            "A list without room is ENOMEM",
            "bpf(4), BIOCGDLTLIST; sys/net/bpf.c, bpf_getdltlist",
            vec![(Request::GDltList(Some(0)), "ENOMEM []".into())],
        ),
        attached(
            "sdlt_unknown",
            "A link type that the interface does not offer is EINVAL",
            "bpf(4), BIOCSDLT; sys/net/bpf.c, bpf_setdlt",
            vec![(Request::SDlt(105), "EINVAL".into()), (Request::GDlt, "1".into())],
        ),
        Case::new(
            "ioctl::sdlt_same_resets_nothing",
            "BIOCSDLT to the present link type changes nothing",
            "sys/net/bpf.c, bpf_setdlt",
            |s| {
                let bpf = s.tap()?;
                s.receive(1)?;
                s.request(&bpf, Request::SDlt(1), "ok")?;
                s.read(&bpf, "1")
            },
        ),
        Case::new(
            "ioctl::attach_count",
            "macOS counts the descriptors on an interface",
            "xnu bsd/net/bpf.c, bpf_ioctl, BIOCGIFATTACHCOUNT",
            |s| {
                s.only(&[System::MacOs], "only macOS has BIOCGIFATTACHCOUNT")?;
                let (one, _other) = (s.tap()?, s.tap()?);
                let name = s.stage().interface().as_bytes().to_vec();
                s.request(&one, Request::AttachCount(name), "2")?;
                s.request(&one, Request::AttachCount(b"nosuch0".to_vec()), "ENXIO")
            },
        ),
    ]
}
