//! Rewritten filters in the real kernel: attached to a packet socket, read back, and asked about frames that arrive
//! over a veth pair, or `lo`, of a namespace of this test's own. Needs CAP_SYS_ADMIN and CAP_NET_RAW there.
#![allow(clippy::unwrap_used, missing_docs)]

mod must;
#[path = "filter_kernel/sys.rs"]
mod sys;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use bpfdev_backend_linux::filter::{LinkKind, Rewritten, rewrite};
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::backend::LoopbackFraming;
use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::{Insn, Program, disasm, rules, validate};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::random::Lcg;
use bpfdev_core::random::filter::{frame, program, stripped_tag};
use must::must_list;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

const ETH_P_ALL: u16 = 3;
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// A sender, and on the interface where its frames are seen a socket with the filter and one without.
struct Wire {
    _namespace: Namespace,
    /// Frames are seen where they arrive, and not where they are sent.
    arriving: bool,
    sender: OwnedFd,
    witness: OwnedFd,
    filtered: OwnedFd,
}

impl Wire {
    fn new(from: &'static str, to: &'static str) -> Wire {
        let namespace = Namespace::new().unwrap();
        if from != "lo" {
            namespace.veth_pair("veth0", "veth1").unwrap();
        } else if let Err(e) = namespace.disable_ipv6("lo") {
            // Where /proc/sys is read-only; the stack's answers to random IPv6 would be rare anyway.
            println!("{e}");
        }
        let arriving = from != to || from == "lo";
        let mut rtnl = namespace.rtnl().unwrap();
        let [from, to] = [from, to].map(|name| rtnl.link(name).unwrap().index);
        let (sender, witness, filtered) = namespace
            .enter(|| {
                let [sender, witness, filtered] = [(); 3].map(|()| sys::packet_socket().unwrap());
                sys::bind(&sender, from, 0).unwrap();
                // The kernel hands a packet first to the socket that was bound last: what the witness has seen, the
                // filter has judged.
                for socket in [&witness, &filtered] {
                    sys::set_packet_option(socket, PACKET_IGNORE_OUTGOING, arriving.into()).unwrap();
                    sys::bind(socket, to, ETH_P_ALL).unwrap();
                }
                (sender, witness, filtered)
            })
            .unwrap();
        Wire { _namespace: namespace, arriving, sender, witness, filtered }
    }

    /// The filter, as the kernel gives it back the same.
    fn attach(&self, rewritten: &Rewritten) {
        sys::attach_filter(&self.filtered, &rewritten.insns)
            .unwrap_or_else(|e| panic!("the kernel refuses: {e}\n{}", disasm(&rewritten.insns)));
        assert_eq!(sys::get_filter(&self.filtered).unwrap(), rewritten.insns, "SO_GET_FILTER");
    }

    /// Bytes of a frame that the filter lets through, 0 if it rejects it; and those of the whole packet.
    fn judge(&self, frame: &[u8]) -> (u32, u32) {
        assert_eq!(send(self.sender.as_raw_fd(), frame, MsgFlags::empty()), Ok(frame.len()));
        let mut wait = [PollFd::new(self.witness.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut wait, PollTimeout::from(5000_u16)), Ok(1), "a frame arrives: {frame:02x?}");
        let mut buf = [0; 2048];
        let len = recv(self.witness.as_raw_fd(), &mut buf, MsgFlags::empty()).unwrap();
        let captured = match recv(self.filtered.as_raw_fd(), &mut buf, MsgFlags::empty()) {
            Err(Errno::EAGAIN) => 0,
            answer => answer.unwrap(),
        };
        (captured as u32, len as u32)
    }

    /// The kernel's judgement on an Ethernet frame is the interpreter's.
    fn check(&self, program: &Program, rewritten: &Rewritten, frame: &[u8]) -> bool {
        let (captured, len) = self.judge(frame);
        let framelen = frame.len() as u32;
        let tagged = self.arriving && stripped_tag(frame).is_some();
        assert_eq!(
            len,
            if tagged { framelen - 4 } else { framelen },
            "the tag is stripped, and nothing else"
        );
        let expected = program.run(frame, framelen);
        assert_eq!(
            captured,
            expected.min(len),
            "tag stripped: {tagged}, snap length {expected}, frame {frame:02x?}\n{}became\n{}",
            disasm(program.insns()),
            disasm(&rewritten.insns)
        );
        if captured > 0 {
            match rewritten.verdict(captured, len, tagged) {
                Some(verdict) => assert_eq!(verdict.min(framelen), expected.min(framelen)),
                None => assert!(tagged && expected >= len),
            }
        }
        captured > 0
    }
}

/// Frames that skb_vlan_untag() lets through: a tagged one has at least two bytes behind the tag.
fn sendable(rng: &mut Lcg) -> Vec<u8> {
    loop {
        let len = if rng.once_in(3) { 14 + rng.below(8) } else { 14 + rng.below(100) };
        let frame = frame(rng, len as usize);
        let tagged = matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]);
        if !tagged || frame.len() >= 20 {
            return frame;
        }
    }
}

#[test]
fn the_must_list_is_attached_and_judges_as_the_interpreter() {
    let wire = Wire::new("veth0", "veth1");
    let mut rng = Lcg(21);
    let mut tagged_and_accepted = 0;
    for (expression, program) in must_list() {
        let rewritten =
            rewrite(&program, LinkKind::Ethernet).unwrap_or_else(|e| panic!("{expression:?}: {e}"));
        wire.attach(&rewritten);
        let mut accepted = 0;
        for _ in 0..150 {
            let frame = sendable(&mut rng);
            if wire.check(&program, &rewritten, &frame) {
                accepted += 1;
                tagged_and_accepted += u32::from(stripped_tag(&frame).is_some());
            }
        }
        println!("{expression:?}: {accepted} of 150, {} instructions", rewritten.insns.len());
    }
    assert!(tagged_and_accepted > 200, "{tagged_and_accepted}");
}

#[test]
fn the_expressions_of_the_task_accept_and_reject() {
    let wire = Wire::new("veth0", "veth1");
    let tcp = |tag: &[u8]| {
        let mut frame = vec![2; 12];
        frame.extend(tag);
        frame.extend([0x08, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(1234_u16.to_be_bytes().into_iter().chain(7070_u16.to_be_bytes()));
        frame.resize(frame.len() + 16, 0);
        frame
    };
    let of_type = |ethertype: [u8; 2]| [&[2; 12][..], &ethertype, &[0; 46]].concat();
    let vlan5 = [0x81, 0, 0, 5];
    let priority = [0x81, 0, 0, 0];
    let qinq = [0x88, 0xa8, 0, 7, 0x81, 0, 0, 5];
    let rows: [(&str, Vec<u8>, bool); 13] = [
        ("ip", tcp(&[]), true),
        ("ip", tcp(&vlan5), false),
        ("arp", of_type([8, 6]), true),
        ("arp", tcp(&[]), false),
        ("tcp and dst port 7070", tcp(&[]), true),
        ("tcp and dst port 7070", tcp(&vlan5), false),
        ("ether proto 0x8033", of_type([0x80, 0x33]), true),
        ("ether proto 0x8033", tcp(&vlan5), false),
        ("vlan", tcp(&vlan5), true),
        ("vlan", tcp(&priority), true),
        ("vlan", tcp(&qinq), true),
        ("vlan", tcp(&[]), false),
        ("vlan and tcp port 7070", tcp(&vlan5), true),
    ];
    let programs = must_list();
    for (expression, frame, accepted) in rows {
        let (_, program) = programs.iter().find(|(name, _)| *name == expression).unwrap();
        let rewritten = rewrite(program, LinkKind::Ethernet).unwrap();
        wire.attach(&rewritten);
        assert_eq!(wire.check(program, &rewritten, &frame), accepted, "{expression}: {frame:02x?}");
    }
}

#[test]
fn random_programs_judge_as_the_interpreter() {
    let wire = Wire::new("veth0", "veth1");
    let mut rng = Lcg(22);
    let systems = [&rules::LINUX_ABI, &rules::FREEBSD, &rules::NETBSD, &rules::OPENBSD];
    let (mut attached, mut accepted) = (0, 0);
    for number in 0..600_usize {
        let program =
            program(&mut rng, systems[number % systems.len()], if number % 20 == 0 { 300 } else { 20 });
        let Ok(rewritten) = rewrite(&program, LinkKind::Ethernet) else { continue };
        wire.attach(&rewritten);
        attached += 1;
        for _ in 0..20 {
            accepted += u32::from(wire.check(&program, &rewritten, &sendable(&mut rng)));
        }
    }
    println!("{attached} programs attached, {accepted} of {} frames accepted", attached * 20);
    assert!(attached > 550 && accepted > 1000, "{attached} {accepted}");
}

#[test]
fn frames_this_host_sends_have_their_tag_inline() {
    let wire = Wire::new("veth0", "veth0");
    let mut rng = Lcg(24);
    let programs = must_list();
    let randoms = (0..100).map(|_| program(&mut rng, &rules::LINUX_ABI, 20)).collect::<Vec<_>>();
    let mut accepted = 0;
    for program in programs.iter().map(|(_, program)| program).chain(&randoms) {
        let Ok(rewritten) = rewrite(program, LinkKind::Ethernet) else { continue };
        wire.attach(&rewritten);
        for _ in 0..20 {
            accepted += u32::from(wire.check(program, &rewritten, &sendable(&mut rng)));
        }
    }
    assert!(accepted > 300, "{accepted}");
}

#[test]
fn the_snap_length_of_a_restored_tag_is_cut_again() {
    let wire = Wire::new("veth0", "veth1");
    let frame = [&[2; 12][..], &[0x81, 0, 0, 5, 8, 0], &[0; 46]].concat();
    for n in 1..=20 {
        let program = validate(&[Insn::stmt(RET_K, n)], &rules::LINUX_ABI).unwrap();
        let rewritten = rewrite(&program, LinkKind::Ethernet).unwrap();
        wire.attach(&rewritten);
        let (captured, len) = wire.judge(&frame);
        assert_eq!((captured, rewritten.verdict(captured, len, true)), (n, Some(n)));
    }
}

#[test]
fn loopback_programs_judge_as_the_interpreter() {
    let wire = Wire::new("lo", "lo");
    let mut rng = Lcg(23);
    let framings = [
        LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 28 },
        LoopbackFraming { linktype: Linktype::LOOP, network_order: true, af_inet6: 24 },
    ];
    let mut accepted = 0;
    for number in 0..200_usize {
        let program = program(&mut rng, &rules::LINUX_ABI, 20);
        let framing = framings[number % 2];
        let Ok(rewritten) = rewrite(&program, LinkKind::Loopback(framing)) else { continue };
        wire.attach(&rewritten);
        for _ in 0..15 {
            let payload_len = rng.below(60) as usize;
            let payload = frame(&mut rng, payload_len);
            let ethertype: u16 = rng.pick(&[0x0800, 0x0800, 0x86dd, 0x0806]);
            let packet = [&[0; 12][..], &ethertype.to_be_bytes(), &payload].concat();
            let (captured, len) = wire.judge(&packet);
            assert_eq!(len as usize, packet.len());
            let expected = match framing.family(ethertype) {
                None => 0,
                Some(family) => {
                    let bsd_frame = [&framing.header(family)[..], &payload].concat();
                    match program.run(&bsd_frame, bsd_frame.len() as u32) {
                        0 => 0,
                        n => n.saturating_add(10).min(len),
                    }
                }
            };
            assert_eq!(captured, expected, "{payload:02x?}\n{}", disasm(program.insns()));
            accepted += u32::from(captured > 0);
        }
    }
    assert!(accepted > 300, "{accepted}");
}

#[test]
fn the_longest_program_is_taken() {
    let wire = Wire::new("veth0", "veth1");
    let mut insns: Vec<Insn> = (0..511).map(|at| Insn::stmt(LD_B_ABS, at % 12 + 8)).collect();
    insns.push(Insn::stmt(RET_A, 0));
    let program = validate(&insns, &rules::NETBSD).unwrap();
    let rewritten = rewrite(&program, LinkKind::Ethernet).unwrap();
    wire.attach(&rewritten);
    assert!(wire.check(&program, &rewritten, &[[0xff; 12], [0x55; 12]].concat()));
}
