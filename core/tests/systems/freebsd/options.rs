//! semantics.md 15: zero copy, as with net.bpf.zerocopy_enable=0; requests of other systems.

use bpfdev_core::abi::{FilterSource, Request};
use bpfdev_core::errno::Errno;

use crate::checks::value;
use crate::support::*;

#[test]
fn zero_copy_is_refused() {
    let fd = Fd::new(&FREEBSD);
    fd.ok(Request::SBufMode(1));
    for mode in [0, 2, 3] {
        assert_eq!(fd.refused(Request::SBufMode(mode)), Errno::Inval, "mode {mode}");
    }
    assert_eq!(value(&fd, Request::GBufMode), 1);
    // BIOCGETZMAX, BIOCROTZBUF, BIOCSETZBUF in mode 1, 64-bit and 32-bit
    for number in [0x4008_427f, 0x4004_427f, 0x4018_4280, 0x400c_4280, 0x8018_4281, 0x800c_4281] {
        assert_eq!(fd.number(number, &[0; 24]), Err(Errno::OpNotSupp), "{number:#x}");
    }
}

#[test]
fn the_mode_cannot_be_chosen_once_there_are_buffers() {
    let fd = Fd::new(&FREEBSD);
    fd.ok(Request::SBlen(4096));
    assert_eq!(fd.refused(Request::SBufMode(1)), Errno::Busy, "BIOCSBLEN counts");
    assert_eq!(fd.refused(Request::SBufMode(2)), Errno::Inval, "zerocopy_enable=0 comes first");
    assert_eq!(Fd::on_em0(&FREEBSD).refused(Request::SBufMode(1)), Errno::Busy, "attached");
}

#[test]
fn requests_of_other_systems_are_einval() {
    let fd = Fd::on_em0(&FREEBSD);
    let none = FilterSource { len: 0, null: true, insns: Some(Vec::new()) };
    for request in [
        Request::GFeedback,
        Request::GFilDrop,
        Request::SFilDrop(1),
        Request::DWTimeout,
        Request::GWTimeout,
        Request::GetUuid,
        Request::GIfAddr,
        Request::GSeeSent,
        Request::SSeeSent(1),
        Request::GWriteMax,
    ] {
        assert_eq!(fd.refused(request.clone()), Errno::Inval, "{request:?}");
    }
    fd.ok(Request::SetFnr(none));
}
