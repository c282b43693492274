use bpfdev_backend_linux::PacketSockets;
use bpfdev_backend_linux::filter::PlanChoice;
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::backend::{FilterBackend, Network, TapConfig, TapError};
use bpfdev_core::errno::Errno;
use bpfdev_core::linktype::Linktype;

use crate::support::*;

#[test]
fn unknown_names_are_enxio() {
    let ns = pair();
    for name in ["v2", "", "lo:1", "a-name-of-16-oct", "v0/", "v0\0", ".", "v 0", "ΩΩΩΩΩΩΩΩ"] {
        let error = tap_with(&ns, name, &config(), PacketSockets::default()).unwrap_err();
        assert!(matches!(&error, TapError::NoSuchInterface(asked) if asked == name), "{name:?}: {error}");
        assert_eq!(Errno::from(&error), Errno::NxIo, "{name:?}");
    }
}

#[test]
fn an_interface_is_described() {
    let ns = pair();
    ns.rtnl().unwrap().set_mac("v0", [2, 0, 0, 0, 0, 7]).unwrap();
    let link = ns.rtnl().unwrap().link("v0").unwrap();
    let v0 = ns.enter(|| PacketSockets::default().attach("v0", &config()).unwrap()).unwrap();
    let interface = v0.interface();
    assert_eq!((interface.name.as_str(), interface.index), ("v0", link.index));
    assert_eq!((interface.linktype, interface.loopback), (Linktype::EN10MB, false));
    assert_eq!(interface.address, [2, 0, 0, 0, 0, 7]);
    assert_eq!(interface.network, ns.id().unwrap().1);
    assert!(v0.as_fd().is_some());
    let wrong = TapConfig { linktype: Some(Linktype::PPP), ..config() };
    let error = tap_with(&ns, "v0", &wrong, PacketSockets::default()).unwrap_err();
    assert!(matches!(error, TapError::Unsupported(_)), "{error}");
}

#[test]
fn the_namespace_is_the_attaching_threads() {
    let (a, b) = (pair(), Namespace::new().unwrap());
    let missing = tap_with(&b, "v0", &config(), PacketSockets::default()).unwrap_err();
    assert!(matches!(missing, TapError::NoSuchInterface(_)));
    // Used from here, another namespace: the injector is of the tap's.
    let (mut v0, v1) = (tap(&a, "v0"), tap(&a, "v1"));
    send(&v1, &frame(ETHERTYPE, 1, 60)).unwrap();
    assert_eq!(collect(&mut v0, 1).len(), 1);
}

#[test]
fn nothing_is_left_open() {
    fn packet_sockets(ns: &Namespace) -> usize {
        ns.enter(|| std::fs::read_to_string("/proc/thread-self/net/packet").unwrap().lines().count() - 1)
            .unwrap()
    }
    let ns = pair();
    for _ in 0..20 {
        let tap = tap(&ns, "v0");
        let _ = (tap.waiter().unwrap(), tap.injector().unwrap());
    }
    for _ in 0..20 {
        tap_with(&ns, "none", &config(), PacketSockets::default()).unwrap_err();
    }
    eventually("all sockets are closed", || packet_sockets(&ns) == 0);
}

#[test]
fn a_buffer_of_any_size_is_served() {
    let ns = pair();
    for bufsize in [0, 32, 1 << 20, 1 << 24, usize::MAX] {
        let mut v0 =
            tap_with(&ns, "v0", &TapConfig { bufsize, ..config() }, PacketSockets::default()).unwrap();
        send(&v0, &frame(ETHERTYPE, 1, 60)).unwrap();
        assert_eq!(collect(&mut v0, 1).len(), 1);
    }
}

#[test]
fn without_the_capability_it_is_refused() {
    let ns = pair();
    let refused = ns.enter(|| {
        // Capabilities are a thread's own; this one ends here.
        crate::sys::become_nobody();
        PacketSockets::default().attach("v0", &config()).map(drop).unwrap_err()
    });
    let error = refused.unwrap();
    assert!(matches!(error, TapError::Permission { .. }), "{error}");
    assert_eq!(Errno::from(&error), Errno::Access);
}

#[test]
fn a_plan_that_is_forced_is_taken() {
    let ns = pair();
    use bpfdev_core::backend::Plan;
    let with = |filter, plan| {
        tap_with(&ns, "v0", &TapConfig { filter, ..config() }, with_plan(plan)).unwrap().plan()
    };
    for (plan, expected) in [
        (PlanChoice::Auto, Plan::Ebpf),
        (PlanChoice::Ebpf, Plan::Ebpf),
        (PlanChoice::Cbpf, Plan::Cbpf),
        (PlanChoice::Process, Plan::Process),
    ] {
        assert_eq!(with(Some(only(0x0800, 96)), plan), expected);
        assert_eq!(with(None, plan), Plan::AcceptAll);
        assert_eq!(with(Some(program(&[])), plan), Plan::AcceptAll, "a program without instructions");
    }
}
