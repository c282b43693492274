//! semantics.md 7, what all agree on.

use bpfdev_core::abi::{FilterSource, Request};
use bpfdev_core::cbpf::Insn;

use crate::support::*;

#[test]
fn received_counts_before_the_filter() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::SetF(ret(0)));
        for _ in 0..3 {
            fd.rx(60);
        }
        assert_eq!((fd.stats(), fd.fionread()), ((3, 0), 0), "{}", abi.name);
    }
}

#[test]
fn flush_setf_and_setif_zero_counters_and_drop_buffers() {
    for abi in EVERY {
        for request in [Request::Flush, Request::SetF(ret(u32::MAX)), set_if("em0"), set_if("em1")] {
            let fd = Fd::sized(abi, 128);
            for _ in 0..4 {
                fd.rx(60);
            }
            assert_eq!(fd.stats(), (4, 2), "{}", abi.name);
            fd.ok(request.clone());
            assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "{}: {request:?}", abi.name);
            assert!(!fd.readable(), "{}: {request:?}: the hold went too", abi.name);
            assert!(!matches!(fd.read(), Ok(bytes) if !bytes.is_empty()), "{}: {request:?}", abi.name);
        }
    }
}

#[test]
fn a_flush_before_an_interface_is_harmless() {
    for abi in EVERY {
        let fd = Fd::new(abi);
        fd.ok(Request::Flush);
        assert_eq!(fd.stats(), (0, 0), "{}", abi.name);
    }
}

#[test]
fn asking_and_reading_zero_nothing() {
    for abi in EVERY {
        let fd = Fd::sized(abi, 128);
        for _ in 0..4 {
            fd.rx(60);
        }
        assert_eq!(fd.stats(), (4, 2), "{}", abi.name);
        assert_eq!(fd.stats(), (4, 2), "{}: asked twice", abi.name);
        fd.read().unwrap();
        assert_eq!(fd.stats(), (4, 2), "{}: read", abi.name);
        for request in [Request::GBlen, Request::Immediate(1), Request::SHdrCmplt(1), Request::Promisc] {
            fd.ok(request);
        }
        assert_eq!(fd.stats(), (4, 2), "{}: other requests", abi.name);
    }
}

#[test]
fn a_refused_program_zeroes_nothing() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.rx(60);
        let buffered = fd.fionread();
        fd.refused(Request::SetF(FilterSource::new(&[Insn::stmt(0, 0)])));
        assert_eq!((fd.stats(), fd.fionread()), ((1, 0), buffered), "{}", abi.name);
    }
}

#[test]
fn packets_of_a_down_interface_are_none() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.world.network.set_up("em0", false);
        assert!(!fd.world.network.receive("em0", &frame(60)), "{}", abi.name);
        assert_eq!(fd.stats(), (0, 0), "{}", abi.name);
    }
}
