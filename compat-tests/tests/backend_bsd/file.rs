//! The open node's own conveniences.

use bpfdev_backend_bsd::{DeviceFile, records};
use bpfdev_core::abi::{Flag, Request, Response, hdr};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, BpfFile};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::packet::Way;
use serial_test::serial;

use crate::device::Served;
use crate::node::frame;
use crate::on_every_system;

on_every_system! {
    the_systems_node_is_opened
    a_buffer_size_is_negotiated
}

fn open(served: &Served) -> DeviceFile {
    DeviceFile::open_in(served.dir(), served.abi, Access::ReadWrite).unwrap()
}

fn set_if(served: &Served, file: &DeviceFile) {
    let name = b"veth0".to_vec();
    assert_eq!(served.wire.ns.enter(|| file.ioctl(&Request::SetIf(name))).unwrap(), Ok(Response::Done));
}

fn the_systems_node_is_opened(served: &Served) {
    let (one, two) = (open(served), open(served));
    let name = |file: &DeviceFile| file.path().file_name().unwrap().to_str().unwrap().to_owned();
    match served.abi.name {
        // one opener each (semantics.md 1)
        "macos" => assert_eq!((name(&one), name(&two)), ("bpf0".into(), "bpf1".into())),
        _ => assert_eq!((name(&one), name(&two)), ("bpf".into(), "bpf".into())),
    }
    assert_eq!(one.linktype(), Err(Errno::Inval), "no interface");
    set_if(served, &one);
    assert_eq!(one.linktype(), Ok(Linktype::EN10MB));
    assert_eq!(one.linktypes(), Ok(vec![Linktype::EN10MB]));
}

fn a_buffer_size_is_negotiated(served: &Served) {
    let file = open(served);
    // semantics.md 2, buffer size
    let fresh = if matches!(served.abi.name, "netbsd" | "openbsd") { 32_768 } else { 4_096 };
    assert_eq!(file.bufsize(), Ok(fresh));
    assert_eq!(file.set_bufsize(10_000), Ok(10_000));
    assert_eq!(file.read_buffer().map(|buf| buf.len()), Ok(10_000));
    // semantics.md 3, BIOCSBLEN clamp
    let most = match served.abi.name {
        "netbsd" => 1 << 20,
        "openbsd" => 2 << 20,
        "macos" => 32 << 20,
        _ => 524_288,
    };
    assert_eq!(file.set_bufsize(u32::MAX), Ok(most));
    assert_eq!(file.set_bufsize(0), Ok(32));
    assert_eq!(file.set_bufsize(8_192), Ok(8_192));
    set_if(served, &file);
    assert_eq!(file.set_bufsize(4_096), Err(Errno::Inval), "attached");
    assert_eq!(file.bufsize(), Ok(8_192));
}

fn stamps(served: &Served, file: &DeviceFile) -> (u32, Option<Way>) {
    served.wire.send(&frame(60, 1));
    let mut buf = file.read_buffer().unwrap();
    let n = file.read(&mut buf).unwrap();
    let mut walk = records(&buf[..n], file.header());
    let record = walk.next().unwrap();
    assert_eq!((record.data, record.wirelen), (&frame(60, 1)[..], 60));
    assert!(walk.next().is_none() && walk.malformed().is_none());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let ago = now as i128 - record.timestamp.as_nanos();
    assert!((0..5_000_000_000).contains(&ago), "{ago} ns ago");
    (record.timestamp.nsec, record.way)
}

#[test]
#[serial]
fn freebsd_stamps_have_the_format_that_was_chosen() {
    let served = Served::start("freebsd");
    let file = open(&served);
    set_if(&served, &file);
    file.ioctl(&Request::Immediate(1)).unwrap();
    // BPF_T_MICROTIME, _NANOTIME, _BINTIME (semantics.md 14); of 8 packets one at least has nanoseconds
    for (format, fine) in [(0, false), (1, true), (2, true), (0, false)] {
        file.ioctl(&Request::STStamp(format)).unwrap();
        let rest: u32 = (0..8).map(|_| stamps(&served, &file).0 % 1000).sum();
        assert_eq!(rest > 0, fine, "format {format}");
    }
    assert_eq!(file.ioctl(&Request::STStamp(4)), Err(Errno::Inval));
    assert_eq!(file.header(), hdr::FREEBSD64, "the last one that was taken");
}

#[test]
#[serial]
fn macos_extended_headers_tell_the_way() {
    let served = Served::start("macos");
    let file = open(&served);
    set_if(&served, &file);
    file.ioctl(&Request::Immediate(1)).unwrap();
    assert_eq!(stamps(&served, &file).1, None);
    file.ioctl(&Request::SetFlag(Flag::ExtendedHeader, 1)).unwrap();
    assert_eq!(file.header(), hdr::MACOS_EXTENDED);
    assert_eq!(stamps(&served, &file).1, Some(Way::In));
    file.ioctl(&Request::SetFlag(Flag::ExtendedHeader, 0)).unwrap();
    assert_eq!(stamps(&served, &file).1, None);
}
