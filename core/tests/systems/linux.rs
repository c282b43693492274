//! The dialect `linux`: FreeBSD's, but for the rows of DIFFERENCES.md.

use bpfdev_core::abi::{FilterSource, Request};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{Access, ReadStep};

use crate::checks::{loopback_write, value};
use crate::support::*;

#[test]
fn both_encodings_mean_the_same() {
    let fd = Fd::new(&LINUX);
    // BIOCGBLEN: _IOR is 0x8004… of Linux, 0x4004… of FreeBSD; BIOCSBLEN is the same in both
    for number in [0x8004_4266, 0x4004_4266] {
        assert_eq!(fd.number(number, &[]), Ok(word(4096).to_vec()), "{number:#x}");
    }
    assert_eq!(fd.number(0xc004_4266, &word(100)), Ok(word(100).to_vec()));
    let mut arg = [0; 40];
    arg[..3].copy_from_slice(b"em0");
    // BIOCSETIF with Linux's 40 bytes and the BSDs' 32
    for (number, size) in [(0x4028_426c, 40), (0x4020_426c, 32), (0x8020_426c, 32)] {
        assert_eq!(fd.number(number, &arg[..size]), Ok(vec![]), "{number:#x}");
    }
    assert_eq!(fd.number(0x0000_4269, &[]), Ok(vec![]), "BIOCPROMISC: _IO");
    assert_eq!(fd.number(0x2000_4268, &[]), Ok(vec![]), "BIOCFLUSH of FreeBSD");
}

#[test]
fn a_half_word_past_the_end_rejects() {
    let fd = Fd::on_em0(&LINUX);
    let half = FilterSource::new(&[Insn::stmt(0x28, 100), Insn::stmt(6, u32::MAX)]);
    fd.ok(Request::SetF(half.clone()));
    fd.rx(60);
    assert_eq!((fd.stats(), fd.fionread()), ((1, 0), 0));
    let fd = Fd::on_em0(&FREEBSD);
    fd.ok(Request::SetF(half));
    fd.rx(60);
    assert_eq!((fd.stats(), fd.fionread()), ((1, 0), 86), "loads 0 and goes on there (10)");
}

#[test]
fn any_request_of_a_32_bit_process_gives_32_bit_records() {
    let fd = Fd::on_em0(&LINUX);
    fd.number32(0x8004_4266, &[]).unwrap();
    fd.rx(60);
    assert_eq!(fd.read_len(), Ok(18 + 60));
}

#[test]
fn write_only_files_count_packets() {
    let fd = World::new().open_for(&LINUX, Access::Write);
    fd.ok(set_if("em0"));
    fd.rx(60);
    assert_eq!(fd.stats(), (1, 0));
}

#[test]
fn the_family_on_lo_is_linuxs_own_af_inet6() {
    for family in [2_u32, 10] {
        assert_eq!(loopback_write(&LINUX, family.to_ne_bytes()), Ok(24), "{family}");
    }
    for family in [24_u32, 28, 30, 0x0200_0000] {
        assert_eq!(loopback_write(&LINUX, family.to_ne_bytes()), Err(Errno::AfNoSupport), "{family}");
    }
}

#[test]
fn the_rest_is_freebsds() {
    let fd = Fd::new(&LINUX);
    assert_eq!(value(&fd, Request::GDirection), 1);
    assert_eq!(fd.step(&mut fd.blocking()), ReadStep::Fail(Errno::NxIo));
    assert_eq!(fd.poll(), BOTH_READY);
    fd.ok(Request::SBlen(4096));
    fd.ok(set_if("em0"));
    assert_eq!(fd.read(), Err(Errno::Again));
    assert_eq!(fd.refused(Request::SDirection(3)), Errno::Inval);
    fd.world.network.set_up("em0", false);
    assert_eq!(fd.write(&[]), Err(Errno::NetDown));
    fd.world.network.set_up("em0", true);
    fd.ok(Request::Lock);
    for request in [Request::GDirection, Request::SetWf(ret(1)), Request::Promisc, Request::FionBio(1)] {
        assert_eq!(fd.refused(request), Errno::Perm);
    }
    assert_eq!(fd.by_root(Request::Promisc), Err(Errno::Perm), "root is bound");
}
