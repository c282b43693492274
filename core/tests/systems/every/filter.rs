//! semantics.md 8.

use bpfdev_core::abi::{FilterSource, Request};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::errno::Errno;

use crate::support::*;

const RET: Insn = Insn::stmt(6, u32::MAX);

/// A request that sets a filter, and its name.
type Setter = (&'static str, fn(FilterSource) -> Request);

/// BIOCSETF everywhere, and its kin where the number means that.
fn setters(name: &str) -> Vec<Setter> {
    let mut list: Vec<Setter> = vec![("BIOCSETF", Request::SetF)];
    if matches!(name, "freebsd" | "linux" | "macos") {
        list.push(("BIOCSETFNR", Request::SetFnr));
    }
    if !matches!(name, "macos" | "netbsd7") {
        list.push(("BIOCSETWF", Request::SetWf));
    }
    list
}

#[test]
fn at_most_512_instructions() {
    for abi in EVERY {
        for attached in [false, true] {
            for (name, set) in setters(abi.name) {
                let fd = if attached { Fd::on_em0(abi) } else { Fd::new(abi) };
                fd.ok(set(FilterSource::new(&[RET; 512])));
                assert_eq!(
                    fd.refused(set(FilterSource::new(&[RET; 513]))),
                    Errno::Inval,
                    "{}: {name}",
                    abi.name
                );
                let huge = FilterSource { len: u32::MAX, null: false, insns: Some(Vec::new()) };
                assert_eq!(fd.refused(set(huge)), Errno::Inval, "{}: {name}", abi.name);
            }
        }
    }
}

#[test]
fn a_null_pointer_with_a_length_is_einval() {
    for abi in EVERY {
        for (name, set) in setters(abi.name) {
            let null = FilterSource { len: 1, null: true, insns: Some(Vec::new()) };
            assert_eq!(Fd::new(abi).refused(set(null)), Errno::Inval, "{}: {name}", abi.name);
        }
    }
}

#[test]
fn a_bad_pointer_is_einval_not_efault() {
    for abi in EVERY {
        for (name, set) in setters(abi.name) {
            let unreadable = FilterSource { len: 1, null: false, insns: None };
            assert_eq!(Fd::new(abi).refused(set(unreadable)), Errno::Inval, "{}: {name}", abi.name);
        }
        // BIOCSETF by its number: nothing is mapped, and a program that only half is
        let fd = Fd::new(abi);
        let arg = fields(&[(4, 2), (4, 0), (8, 0x1000)]);
        for mapped in [0, 15] {
            let mut memory = Memory::of(0x1000, vec![0; mapped]);
            let refused = fd.number_with(0x8010_4267, &arg, &mut memory, false);
            assert_eq!(refused, Err(Errno::Inval), "{}: {mapped} bytes are mapped", abi.name);
        }
    }
}

#[test]
fn a_program_is_fetched_from_where_the_argument_points() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        // ret #20, then 32-bit: bf_len, bf_insns without padding
        let code = fields(&[(2, 6), (1, 0), (1, 0), (4, 20)]);
        let wide = fields(&[(4, 1), (4, 0), (8, 0x7fff_0000_1000)]);
        let mut memory = Memory::of(0x7fff_0000_1000, code.clone());
        assert_eq!(fd.number_with(0x8010_4267, &wide, &mut memory, false), Ok(vec![]), "{}", abi.name);
        fd.rx(60);
        let bytes = fd.read().unwrap();
        let narrow = fields(&[(4, 1), (4, 0x1000)]);
        let code = [&code[..4], &word(24)].concat();
        let mut memory = Memory::of(0x1000, code);
        assert_eq!(fd.number_with(0x8008_4267, &narrow, &mut memory, false), Ok(vec![]), "{}", abi.name);
        fd.rx(60);
        assert_eq!(fd.read_len(), Ok(bytes.len() + 4), "{}: 24 instead of 20", abi.name);
    }
}

#[test]
fn an_invalid_program_leaves_the_old_one() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::SetF(tagged(7)));
        let bad: [&[Insn]; 4] = [
            &[Insn::stmt(0, 0)],                      // no return
            &[Insn::stmt(5, 9), RET],                 // a jump out
            &[Insn::stmt(2, 16), RET],                // M[16]
            &[Insn::stmt(0x34, 0), Insn::stmt(6, 0)], // division by 0
        ];
        for insns in bad {
            assert_eq!(
                fd.refused(Request::SetF(FilterSource::new(insns))),
                Errno::Inval,
                "{}: {insns:?}",
                abi.name
            );
        }
        for byte in [1, 7] {
            fd.world.rx_frame(&tagged_frame(byte));
        }
        let record = fd.read().unwrap();
        assert_eq!(record[record.len() - 60 + 14], 7, "{}", abi.name);
        assert!(!matches!(fd.read(), Ok(bytes) if !bytes.is_empty()), "{}: only that one", abi.name);
    }
}

#[test]
fn a_filter_can_be_set_before_the_interface() {
    for abi in EVERY {
        let fd = Fd::new(abi);
        fd.ok(Request::SetF(tagged(7)));
        fd.ok(set_if("em0"));
        for byte in [1, 7, 1] {
            fd.world.rx_frame(&tagged_frame(byte));
        }
        assert_eq!(fd.stats(), (3, 0), "{}", abi.name);
        let record = fd.read().unwrap();
        assert_eq!(record[record.len() - 60 + 14], 7, "{}", abi.name);
    }
}

#[test]
fn removing_with_a_null_pointer_accepts_all_again() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.ok(Request::SetF(ret(0)));
        fd.ok(Request::SetF(FilterSource { len: 0, null: true, insns: Some(Vec::new()) }));
        fd.rx(60);
        assert!(fd.fionread() > 60, "{}", abi.name);
    }
}

#[test]
fn removing_the_filter_with_biocsetf_flushes() {
    for abi in EVERY {
        let fd = Fd::on_em0(abi);
        fd.rx(60);
        fd.ok(Request::SetF(FilterSource { len: 0, null: true, insns: Some(Vec::new()) }));
        assert_eq!((fd.stats(), fd.fionread()), ((0, 0), 0), "{}", abi.name);
    }
}
