//! What else a tap is asked for.

use std::io::ErrorKind;
use std::sync::Arc;

use bpfdev_backend_bsd::{Devices, MonotonicClock, records};
use bpfdev_core::abi::linux::LINUX;
use bpfdev_core::abi::{FilterSource, Request, Response};
use bpfdev_core::backend::{FilterBackend, Network, Queued, TapConfig, TapError};
use bpfdev_core::cbpf::{self, Insn};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile, EmulatedFile};
use bpfdev_core::linktype::Linktype;

use crate::device::{Served, data, packets, returns};
use crate::node::frame;
use crate::on_every_system;

on_every_system! {
    an_interface_is_described
    what_is_not_there_is_told_by_its_kind
    a_filter_the_system_refuses_changes_nothing
    a_locked_filter_stays
    promiscuous_mode_has_no_end_but_closing
    taps_are_counted
    the_facade_captures_through_the_device
    the_emulated_device_runs_on_a_device
}

fn an_interface_is_described(served: &Served) {
    let mut tap = served.tap();
    let mut rtnl = served.wire.ns.rtnl().unwrap();
    let link = rtnl.link("veth0").unwrap();
    let interface = tap.interface().clone();
    assert_eq!((interface.name.as_str(), interface.index), ("veth0", link.index));
    assert_eq!(interface.network, served.wire.ns.id().unwrap().1);
    assert_eq!(interface.address, link.mac);
    assert_eq!((interface.linktype, interface.linktypes), (Linktype::EN10MB, vec![Linktype::EN10MB]));
    assert!(!interface.loopback);
    let state = tap.link_state().unwrap();
    assert_eq!((state.up, state.mtu), (true, 1500));
    rtnl.set_mtu("veth0", 1400).unwrap();
    rtnl.set_down("veth0").unwrap();
    let state = tap.link_state().unwrap();
    assert_eq!((state.up, state.mtu), (false, 1400));
    assert_eq!(tap.name(), "bpf device");
}

fn what_is_not_there_is_told_by_its_kind(served: &Served) {
    let attach = |name| served.attach_by(&served.devices(), name, &served.config());
    for name in ["nosuch9", "", "veth0veth0veth0v", "veth0/x"] {
        let error = attach(name).unwrap_err();
        assert!(matches!(&error, TapError::NoSuchInterface(told) if told == name), "{name:?}: {error:?}");
    }
    let config = TapConfig { linktype: Some(Linktype::RAW), ..served.config() };
    let error = served.attach(&config).unwrap_err();
    assert!(matches!(error, TapError::Unsupported("this link type on this interface")), "{error:?}");
    let error = served
        .attach_by(&Devices::new(served.abi).in_dir(served.dir().join("no")), "veth0", &served.config())
        .unwrap_err();
    assert_eq!(Errno::from(&error), Errno::NoEnt);
}

fn a_filter_the_system_refuses_changes_nothing(served: &Served) {
    // a jump into itself is valid nowhere, so it is one system's instruction that another has not: MOD on FreeBSD and
    // NetBSD, RND on OpenBSD (semantics.md 9)
    let (insn, rules) = match served.abi.name {
        "freebsd" | "netbsd" => (Insn::stmt(0xc0, 0), &cbpf::OPENBSD),
        _ => (Insn::stmt(0x94, 7), &cbpf::FREEBSD),
    };
    let foreign = cbpf::validate(&[insn, Insn::stmt(0x06, 0)], rules).unwrap();
    let mut tap = served.tap();
    tap.set_filter(Some(&served.marked(1, 30)), Queued::Flush).unwrap();
    let error = tap.set_filter(Some(&foreign), Queued::Flush).unwrap_err();
    assert_eq!(Errno::from(&error), Errno::Inval, "{error}");
    assert!(error.to_string().contains("instruction (000)"), "{error}");
    served.wire.send(&frame(60, 2));
    served.wire.send(&frame(60, 1));
    assert_eq!(data(&packets(&mut tap, 1)), [frame(30, 1)], "the old filter is there");
    let error = served.attach(&TapConfig { filter: Some(foreign), ..served.config() }).unwrap_err();
    assert_eq!(Errno::from(&error), Errno::Inval, "{error}");
}

fn a_locked_filter_stays(served: &Served) {
    let mut tap = served.tap();
    assert_eq!(tap.capabilities().lock_filter, served.facts.locks && served.facts.lock_binds_root);
    if !served.facts.locks {
        let error = tap.lock_filter().unwrap_err();
        assert!(
            matches!(error, TapError::Unsupported(_)) && error.to_string().contains("BIOCLOCK"),
            "{error}"
        );
        return;
    }
    tap.set_filter(Some(&served.marked(1, 30)), Queued::Flush).unwrap();
    tap.lock_filter().unwrap();
    let error = tap.set_filter(None, Queued::Flush).unwrap_err();
    assert_eq!(Errno::from(&error), Errno::Perm);
    assert!(matches!(&error, TapError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied));
    served.wire.send(&frame(60, 2));
    served.wire.send(&frame(60, 1));
    assert_eq!(data(&packets(&mut tap, 1)), [frame(30, 1)]);
    assert_eq!(tap.stats().unwrap().received, Some(2), "reading goes on");
}

fn promiscuous_mode_has_no_end_but_closing(served: &Served) {
    let promiscuity = || served.wire.ns.rtnl().unwrap().link("veth0").unwrap().promiscuity;
    let mut tap = served.tap();
    tap.set_promiscuous(false).unwrap();
    assert_eq!(promiscuity(), 0);
    tap.set_promiscuous(true).unwrap();
    tap.set_promiscuous(true).unwrap();
    assert_eq!(promiscuity(), 1, "one count, however often asked");
    assert!(matches!(tap.set_promiscuous(false), Err(TapError::Unsupported(_))));
    drop(tap);
    crate::node::until("closing ends it", || promiscuity() == 0);
}

fn taps_are_counted(served: &Served) {
    let devices = served.devices();
    let count = |name: &'static str| served.wire.ns.enter(|| devices.clone().attached(name)).unwrap();
    assert_eq!(count("veth0").unwrap(), 0);
    let one = served.attach_by(&devices, "veth0", &served.config()).unwrap();
    let two = served.attach_by(&devices, "veth0", &served.config()).unwrap();
    assert_eq!((count("veth0").unwrap(), count("veth1").unwrap()), (2, 0));
    drop((one, two));
    assert_eq!(count("veth0").unwrap(), 0);
    assert!(matches!(count("nosuch9"), Err(TapError::NoSuchInterface(_))));
}

/// Linux's dialect in this process, over a device of another system.
fn the_emulated_device_runs_on_a_device(served: &Served) {
    let clock = Arc::new(MonotonicClock);
    let file = EmulatedFile::open(&LINUX, Access::ReadWrite, Arc::new(served.devices()), clock);
    let issue = |request: Request| served.wire.ns.enter(|| file.ioctl(&request)).unwrap();
    assert_eq!(issue(Request::SetIf(b"nosuch9".to_vec())), Err(Errno::NxIo));
    assert_eq!(issue(Request::SetIf(b"veth0".to_vec())), Ok(Response::Done));
    assert_eq!(issue(Request::SRTimeout { sec: 5, usec: 0 }), Ok(Response::Done));
    assert_eq!(issue(Request::Immediate(1)), Ok(Response::Done));
    let marked = served.marked(1, 30);
    assert_eq!(issue(Request::SetF(FilterSource::new(marked.insns()))), Ok(Response::Done));
    served.wire.send(&frame(60, 2));
    served.wire.send(&frame(61, 1));
    let mut buf = [0; 4096];
    let n = file.read(&mut buf).unwrap();
    let seen: Vec<_> = records(&buf[..n], LINUX.header).map(|record| (record.data, record.wirelen)).collect();
    assert_eq!(seen, [(&frame(30, 1)[..], 61)]);
    assert_eq!(file.write(&frame(80, 7)), Ok(80));
    assert_eq!(served.wire.receive().len(), 80);
}

fn the_facade_captures_through_the_device(served: &Served) {
    use bpfdev::capture::{Capture, ErrorKind};
    let devices = served.devices();
    let open = || Capture::options().open_on(&devices, "veth0").unwrap();
    let mut capture = served.wire.ns.enter(open).unwrap();
    let insns = returns(served.abi, 25).insns().to_vec();
    capture.set_filter(insns.clone()).unwrap();
    served.wire.send(&frame(60, 1));
    served.wire.send(&frame(70, 2));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let mut batch = capture.next_batch().unwrap().unwrap();
        while let Some(packet) = batch.next() {
            seen.push((packet.data.to_vec(), packet.wirelen));
        }
    }
    assert_eq!(seen, [(frame(25, 1), 60), (frame(25, 2), 70)]);
    match capture.set_filter_keeping(insns) {
        Ok(_) => assert!(served.facts.keeps_queued),
        Err(error) => {
            assert_eq!((error.kind(), served.facts.keeps_queued), (ErrorKind::Unsupported, false));
            assert!(error.to_string().ends_with("is not supported by the backend bpf device"), "{error}");
        }
    }
}
