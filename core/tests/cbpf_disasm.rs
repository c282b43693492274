//! The listing against what libpcap 1.10.3's bpf_image printed on Linux.

use bpfdev_core::cbpf::{Image, Insn, disasm};

/// code, jt, jf, k, number of the instruction, its line.
#[rustfmt::skip]
const IMAGES: &[(u16, u8, u8, u32, usize, &str)] = &[
    (0x20, 0, 0, 0xc, 0, "(000) ld       [12]"),
    (0x28, 1, 1, 0xd, 1, "(001) ldh      [13]"),
    (0x30, 2, 2, 0xe, 2, "(002) ldb      [14]"),
    (0x40, 3, 3, 0xf, 3, "(003) ld       [x + 15]"),
    (0x48, 4, 4, 0x10, 4, "(004) ldh      [x + 16]"),
    (0x50, 5, 0, 0x11, 5, "(005) ldb      [x + 17]"),
    (0x80, 6, 1, 0x12, 6, "(006) ld       #pktlen"),
    (0x00, 0, 2, 0x13, 7, "(007) ld       #0x13"),
    (0x60, 1, 3, 0x14, 8, "(008) ld       M[20]"),
    (0x01, 2, 4, 0x15, 9, "(009) ldx      #0x15"),
    (0x61, 3, 0, 0x16, 10, "(010) ldx      M[22]"),
    (0x81, 4, 1, 0x17, 11, "(011) unimp    0x81"),
    (0xb1, 5, 2, 0x18, 12, "(012) ldxb     4*([24]&0xf)"),
    (0x02, 6, 3, 0x19, 13, "(013) st       M[25]"),
    (0x03, 0, 4, 0x1a, 14, "(014) stx      M[26]"),
    (0x04, 1, 0, 0x1b, 15, "(015) add      #27"),
    (0x14, 2, 1, 0x1c, 16, "(016) sub      #28"),
    (0x24, 3, 2, 0x1d, 17, "(017) mul      #29"),
    (0x34, 4, 3, 0x1e, 18, "(018) div      #30"),
    (0x94, 5, 4, 0x1f, 19, "(019) mod      #31"),
    (0x54, 6, 0, 0x20, 20, "(020) and      #0x20"),
    (0x44, 0, 1, 0x21, 21, "(021) or       #0x21"),
    (0xa4, 1, 2, 0x22, 22, "(022) xor      #0x22"),
    (0x64, 2, 3, 0x23, 23, "(023) lsh      #35"),
    (0x74, 3, 4, 0x24, 24, "(024) rsh      #36"),
    (0x0c, 4, 0, 0x25, 25, "(025) add      x"),
    (0x1c, 5, 1, 0x26, 26, "(026) sub      x"),
    (0x2c, 6, 2, 0x27, 27, "(027) mul      x"),
    (0x3c, 0, 3, 0x28, 28, "(028) div      x"),
    (0x9c, 1, 4, 0x29, 29, "(029) mod      x"),
    (0x5c, 2, 0, 0x2a, 30, "(030) and      x"),
    (0x4c, 3, 1, 0x2b, 31, "(031) or       x"),
    (0xac, 4, 2, 0x2c, 32, "(032) xor      x"),
    (0x6c, 5, 3, 0x2d, 33, "(033) lsh      x"),
    (0x7c, 6, 4, 0x2e, 34, "(034) rsh      x"),
    (0x84, 0, 0, 0x2f, 35, "(035) neg      "),
    (0x05, 1, 1, 0x30, 36, "(036) ja       85"),
    (0x25, 2, 2, 0x31, 37, "(037) jgt      #0x31            jt 40\tjf 40"),
    (0x35, 3, 3, 0x32, 38, "(038) jge      #0x32            jt 42\tjf 42"),
    (0x15, 4, 4, 0x33, 39, "(039) jeq      #0x33            jt 44\tjf 44"),
    (0x45, 5, 0, 0x34, 40, "(040) jset     #0x34            jt 46\tjf 41"),
    (0x2d, 6, 1, 0x35, 41, "(041) jgt      x                jt 48\tjf 43"),
    (0x3d, 0, 2, 0x36, 42, "(042) jge      x                jt 43\tjf 45"),
    (0x1d, 1, 3, 0x37, 43, "(043) jeq      x                jt 45\tjf 47"),
    (0x4d, 2, 4, 0x38, 44, "(044) jset     x                jt 47\tjf 49"),
    (0x06, 3, 0, 0x39, 45, "(045) ret      #57"),
    (0x16, 4, 1, 0x3a, 46, "(046) ret      "),
    (0x07, 5, 2, 0x3b, 47, "(047) tax      "),
    (0x87, 6, 3, 0x3c, 48, "(048) txa      "),
    (0x06, 0, 0, 0xffffffff, 3, "(003) ret      #-1"),
    (0x06, 0, 0, 0x40000, 3, "(003) ret      #262144"),
    (0x04, 0, 0, 0x80000000, 1, "(001) add      #-2147483648"),
    (0x54, 0, 0, 0xfffffff0, 1, "(001) and      #0xfffffff0"),
    (0x28, 0, 0, 0x80000000, 1, "(001) ldh      [-2147483648]"),
    (0x40, 0, 0, 0xfffffffe, 1, "(001) ld       [x + -2]"),
    (0x05, 0, 0, 0x0, 1000, "(1000) ja       1001"),
    (0x05, 0, 0, 0xfffffffe, 4, "(004) ja       3"),
    (0x15, 255, 255, 0x12345678, 4000, "(4000) jeq      #0x12345678      jt 4256\tjf 4256"),
    (0x00, 0, 0, 0x0, 0, "(000) ld       #0x0"),
    (0x0e, 0, 0, 0x1, 2, "(002) unimp    0xe"),
    (0x8006, 0, 0, 0x0, 2, "(002) unimp    0x8006"),
    (0x85, 9, 9, 0x7, 0, "(000) unimp    0x85             jt 10\tjf 10"),
    (0x0d, 9, 9, 0x7, 0, "(000) unimp    0xd"),
    (0xc0, 0, 0, 0x0, 0, "(000) unimp    0xc0"),
    (0xffff, 1, 2, 0x3, 0, "(000) unimp    0xffff"),
    (0x20, 0, 0, 0xfffff03d, 0, "(000) ld       [-4035]"),
    (0x20, 0, 0, 0xfffff040, 0, "(000) ld       [-4032]"),
    (0x40, 0, 0, 0xfffff000, 0, "(000) ld       [x + -4096]"),
    (0xb1, 0, 0, 0xfffff000, 0, "(000) ldxb     4*([-4096]&0xf)"),
    (0x20, 0, 0, 0xfffff000, 0, "(000) ld       [proto]"),
    (0x28, 0, 0, 0xfffff004, 1, "(001) ldh      [type]"),
    (0x30, 0, 0, 0xfffff008, 2, "(002) ldb      [ifidx]"),
    (0x20, 0, 0, 0xfffff00c, 3, "(003) ld       [nla]"),
    (0x28, 0, 0, 0xfffff010, 4, "(004) ldh      [nlan]"),
    (0x30, 0, 0, 0xfffff014, 5, "(005) ldb      [mark]"),
    (0x20, 0, 0, 0xfffff018, 6, "(006) ld       [queue]"),
    (0x28, 0, 0, 0xfffff01c, 7, "(007) ldh      [hatype]"),
    (0x30, 0, 0, 0xfffff020, 8, "(008) ldb      [rxhash]"),
    (0x20, 0, 0, 0xfffff024, 9, "(009) ld       [cpu]"),
    (0x28, 0, 0, 0xfffff028, 10, "(010) ldh      [xor_x]"),
    (0x30, 0, 0, 0xfffff02c, 11, "(011) ldb      [vlan_tci]"),
    (0x20, 0, 0, 0xfffff030, 12, "(012) ld       [vlanp]"),
    (0x28, 0, 0, 0xfffff034, 13, "(013) ldh      [poff]"),
    (0x30, 0, 0, 0xfffff038, 14, "(014) ldb      [random]"),
    (0x20, 0, 0, 0xfffff03c, 15, "(015) ld       [vlan_tpid]"),
];

#[test]
fn every_code_is_written_as_libpcap_writes_it() {
    for &(code, jt, jf, k, pc, line) in IMAGES {
        let insn = Insn::new(code, jt, jf, k);
        assert_eq!(Image { insn, pc }.to_string(), line, "code {code:#x} k {k:#x}");
    }
}

#[test]
fn a_listing_is_a_line_an_instruction() {
    let ip =
        [Insn::stmt(0x28, 12), Insn::jump(0x15, 0x800, 0, 1), Insn::stmt(0x06, 262_144), Insn::stmt(0x06, 0)];
    let listing = "(000) ldh      [12]\n(001) jeq      #0x800           jt 2\tjf 3\n\
                   (002) ret      #262144\n(003) ret      #0\n";
    assert_eq!(disasm(&ip), listing);
    assert_eq!(disasm(&[]), "");
}
