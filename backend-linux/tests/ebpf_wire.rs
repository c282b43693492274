//! Translated filters on real packet sockets: frames arrive over a veth pair, or `lo`, of a namespace of this test's
//! own, their tags stripped by the kernel. Needs CAP_SYS_ADMIN, CAP_NET_RAW and CAP_BPF there.
#![allow(clippy::unwrap_used, missing_docs)]

mod must;
#[path = "filter_kernel/sys.rs"]
#[allow(dead_code)]
mod sys;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bpfdev_backend_linux::bpf::{CounterMap, Counters, SocketFilter};
use bpfdev_backend_linux::filter::LinkKind;
use bpfdev_backend_linux::filter::ebpf::{Hidden, Target, Translated, disasm, translate};
use bpfdev_backend_linux::netns::Namespace;
use bpfdev_core::backend::LoopbackFraming;
use bpfdev_core::cbpf::code::*;
use bpfdev_core::cbpf::{self, Insn, Program, rules, validate};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::random::Lcg;
use bpfdev_core::random::filter::{frame, program, stripped_tag};
use must::must_list;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

const ETH_P_ALL: u16 = 3;
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// A sender, and where its frames are seen a socket with the filter and one without.
struct Wire {
    _namespace: Namespace,
    sender: OwnedFd,
    witness: OwnedFd,
    filtered: OwnedFd,
    map: CounterMap,
}

impl Wire {
    /// `both_ways`: a frame that this host sends is seen, too.
    fn new(from: &'static str, to: &'static str, both_ways: bool) -> Wire {
        let namespace = Namespace::new().unwrap();
        if from == "lo" {
            if let Err(e) = namespace.disable_ipv6("lo") {
                println!("{e}");
            }
        } else {
            namespace.veth_pair("veth0", "veth1").unwrap();
        }
        let mut rtnl = namespace.rtnl().unwrap();
        let [from, to] = [from, to].map(|name| rtnl.link(name).unwrap().index);
        let (sender, witness, filtered) = namespace
            .enter(|| {
                let [sender, witness, filtered] = [(); 3].map(|()| sys::packet_socket().unwrap());
                sys::bind(&sender, from, 0).unwrap();
                // The kernel hands a packet first to the socket that was bound last: what the witness has seen, the
                // filter has judged.
                for socket in [&witness, &filtered] {
                    sys::set_packet_option(socket, PACKET_IGNORE_OUTGOING, (!both_ways).into()).unwrap();
                    sys::bind(socket, to, ETH_P_ALL).unwrap();
                }
                (sender, witness, filtered)
            })
            .unwrap();
        Wire { _namespace: namespace, sender, witness, filtered, map: CounterMap::new().unwrap() }
    }

    fn attach<'a>(
        &self,
        program: impl Into<Option<&'a Program>>,
        target: &Target,
    ) -> (Translated, SocketFilter) {
        let translated = translate(program, target).unwrap();
        let mut filter = SocketFilter::load(&translated, &self.map).unwrap_or_else(|e| panic!("{e}"));
        filter.attach(self.filtered.as_fd()).unwrap();
        (translated, filter)
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(send(self.sender.as_raw_fd(), frame, MsgFlags::empty()), Ok(frame.len()));
    }

    /// The next frame's length where there is no filter.
    fn see(&self) -> u32 {
        let mut wait = [PollFd::new(self.witness.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut wait, PollTimeout::from(5000_u16)), Ok(1), "a frame arrives");
        recv(self.witness.as_raw_fd(), &mut [0; 2048], MsgFlags::empty()).unwrap() as u32
    }

    /// Bytes the filter lets through, 0 if it rejects.
    fn captured(&self) -> u32 {
        match recv(self.filtered.as_raw_fd(), &mut [0; 2048], MsgFlags::empty()) {
            Err(Errno::EAGAIN) => 0,
            answer => answer.unwrap() as u32,
        }
    }

    fn counters(&self) -> (u64, u64) {
        let Counters { received, accepted } = self.map.read().unwrap();
        (received, accepted)
    }

    /// The kernel's judgement on an Ethernet frame is the interpreter's.
    fn check(&self, program: &Program, translated: &Translated, frame: &[u8]) -> bool {
        self.send(frame);
        let (len, captured, framelen) = (self.see(), self.captured(), frame.len() as u32);
        let tagged = stripped_tag(frame).is_some();
        assert_eq!(len, if tagged { framelen - 4 } else { framelen }, "the tag is stripped, nothing else");
        let bsd = program.run(frame, framelen);
        assert_eq!(captured > 0, bsd > 0, "{}", listing(program, translated));
        if captured > 0 {
            // What a client gets in the end.
            let restored = captured + if tagged && captured >= 12 { 4 } else { 0 };
            match translated.verdict(captured, len, tagged) {
                Some(verdict) => assert_eq!(verdict.min(framelen), bsd.min(framelen)),
                None => assert!(tagged && captured >= len, "what cannot be told is whole"),
            }
            assert!(restored >= bsd.min(framelen), "enough is kept: {captured} of {len} for {bsd}");
        }
        captured > 0
    }
}

fn listing(program: &Program, translated: &Translated) -> String {
    format!("{}became\n{}", cbpf::disasm(program.insns()), disasm(&translated.insns(0)))
}

/// Frames that skb_vlan_untag() lets through: a tagged one has at least two bytes behind the tag.
fn sendable(rng: &mut Lcg) -> Vec<u8> {
    loop {
        let len = if rng.once_in(3) { 14 + rng.below(8) } else { 14 + rng.below(100) };
        let frame = frame(rng, len as usize);
        if !matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]) || frame.len() >= 20 {
            return frame;
        }
    }
}

fn ret(n: u32) -> Program {
    validate(&[Insn::stmt(RET_K, n)], &rules::LINUX_ABI).unwrap()
}

#[test]
fn stripped_tags_are_seen_where_they_were() {
    let wire = Wire::new("veth0", "veth1", false);
    let mut rng = Lcg(51);
    let (mut runs, mut accepted) = (0, 0);
    let randoms: Vec<_> = (0..300).map(|_| program(&mut rng, &rules::LINUX_ABI, 20)).collect();
    for program in must_list().iter().map(|(_, program)| program).chain(&randoms) {
        let (translated, _filter) = wire.attach(program, &Target::new(LinkKind::Ethernet));
        for _ in 0..40 {
            accepted += u64::from(wire.check(program, &translated, &sendable(&mut rng)));
            runs += 1;
        }
    }
    println!("{runs} frames, {accepted} accepted");
    assert_eq!(wire.counters(), (runs, accepted), "one map counts for all the filters in turn");
    let (_, _filter) = wire.attach(None, &Target::new(LinkKind::Ethernet));
    wire.send(&[1; 60]);
    assert_eq!((wire.see(), wire.captured()), (60, 60));
    assert_eq!(wire.counters(), (runs + 1, accepted + 1), "no filter, and still counted");
    assert!(accepted > 2000, "{accepted}");
}

#[test]
fn every_snap_length_round_a_restored_tag_is_known() {
    let wire = Wire::new("veth0", "veth1", false);
    let tagged = [&[2; 12][..], &[0x81, 0, 0, 5, 8, 0], &[0; 46]].concat();
    for n in 1..=20 {
        let (translated, _filter) = wire.attach(&ret(n), &Target::new(LinkKind::Ethernet));
        wire.send(&tagged);
        let (len, captured) = (wire.see(), wire.captured());
        assert_eq!((captured, translated.verdict(captured, len, true)), (n, Some(n)));

        // With another value in the program, what was returned shows in what was kept.
        let two = [
            Insn::stmt(LD_B_ABS, 0),
            Insn::jump(JEQ_K, 2, 0, 1),
            Insn::stmt(RET_K, n),
            Insn::stmt(RET_K, 100),
        ];
        let two = validate(&two, &rules::LINUX_ABI).unwrap();
        let (translated, _filter) = wire.attach(&two, &Target::new(LinkKind::Ethernet));
        wire.send(&tagged);
        let (len, captured) = (wire.see(), wire.captured());
        let expected = if n < 12 { n } else { n.saturating_sub(4).max(12) };
        assert_eq!((captured, translated.verdict(captured, len, true)), (expected, Some(n)), "{n} or 100");
        assert!(wire.check(&two, &translated, &tagged[..40]));
    }
}

#[test]
fn hidden_packets_are_rejected_and_counted_only_where_the_system_does() {
    let wire = Wire::new("veth0", "veth0", true);
    let back = wire
        ._namespace
        .enter(|| {
            let socket = sys::packet_socket().unwrap();
            let index = wire._namespace.rtnl().unwrap().link("veth1").unwrap().index;
            sys::bind(&socket, index, 0).unwrap();
            socket
        })
        .unwrap();
    let frame = [5; 60];
    let rows = [
        (Hidden::default(), true, true, 2),
        (Hidden { received: true, ..Hidden::default() }, false, true, 1),
        (Hidden { sent: true, ..Hidden::default() }, true, false, 1),
        (Hidden { received: true, counted: true, sent: false }, false, true, 2),
        (Hidden { sent: true, counted: true, received: false }, true, false, 2),
        (Hidden { received: true, sent: true, counted: false }, false, false, 0),
        (Hidden { received: true, sent: true, counted: true }, false, false, 2),
    ];
    for (hidden, sees_received, sees_sent, counted) in rows {
        let before = wire.counters();
        let (_, _filter) = wire.attach(&ret(u32::MAX), &Target { hidden, ..Target::new(LinkKind::Ethernet) });
        wire.send(&frame);
        wire.see();
        assert_eq!(wire.captured() > 0, sees_sent, "sent, {hidden:?}");
        send(back.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
        wire.see();
        assert_eq!(wire.captured() > 0, sees_received, "received, {hidden:?}");
        let (received, accepted) = wire.counters();
        let sees = u64::from(sees_sent) + u64::from(sees_received);
        assert_eq!((received - before.0, accepted - before.1), (counted, sees), "{hidden:?}");
    }
}

#[test]
fn loopback_counts_each_ip_packet_once() {
    let framing = LoopbackFraming { linktype: Linktype::NULL, network_order: false, af_inet6: 28 };
    let wire = Wire::new("lo", "lo", true);
    let family =
        validate(&[Insn::stmt(LD_B_ABS, 0), Insn::stmt(ADD_K, 20), Insn::stmt(RET_A, 0)], &rules::FREEBSD)
            .unwrap();
    let (translated, _filter) = wire.attach(&family, &Target::new(LinkKind::Loopback(framing)));
    for (ethertype, first) in [(0x0800_u16, 2), (0x86dd, 28), (0x0806, 0)] {
        let before = wire.counters();
        let packet = [&[0; 12][..], &ethertype.to_be_bytes(), &[0x11; 60]].concat();
        wire.send(&packet);
        // The one that is sent and the one that is received.
        assert_eq!((wire.see(), wire.see()), (74, 74));
        let captured = wire.captured();
        let shown = u64::from(first > 0);
        let (received, accepted) = wire.counters();
        assert_eq!((received - before.0, accepted - before.1), (shown, shown), "{ethertype:#x}");
        if first > 0 {
            let family = if cfg!(target_endian = "little") { first } else { 0 };
            assert_eq!(translated.verdict(captured, 74, false), Some(family + 20));
        }
        assert_eq!(wire.captured(), 0, "once");
    }
}

/// Filters change while another CPU sends: every packet is counted, by the old filter or by the new one.
#[test]
fn no_packet_escapes_the_count_while_filters_change() {
    let wire = Wire::new("veth0", "veth1", false);
    let map_filter = wire.attach(&ret(0), &Target::new(LinkKind::Ethernet));
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                wire.send(&[7; 60]);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut earlier = vec![map_filter];
        for number in 0..200 {
            earlier.push(wire.attach(&ret(number % 2 * 100), &Target::new(LinkKind::Ethernet)));
            while wire.captured() > 0 {}
        }
        while sent.load(Ordering::Relaxed) < 5_000 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let sent = sent.load(Ordering::Relaxed);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while wire.counters().0 < sent && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    println!("{sent} packets, {} accepted", wire.counters().1);
    assert_eq!(wire.counters().0, sent);
}

/// Larger than net.core.optmem_max lets a socket have: attached by a jump, and counted and judged as others.
#[test]
fn a_program_too_large_for_the_socket_is_jumped_to() {
    let wire = Wire::new("veth0", "veth1", false);
    let mut insns = vec![Insn::stmt(LDX_IMM, 12)];
    insns.extend((0..510).map(|n| Insn::stmt(LD_W_IND, n % 16)));
    insns.push(Insn::stmt(RET_A, 0));
    let program = validate(&insns, &rules::LINUX_ABI).unwrap();
    let small = wire.attach(&ret(50), &Target::new(LinkKind::Ethernet));
    let unbounded = insns.iter().map(|insn| match insn.code {
        LDX_IMM => Insn::stmt(LDX_W_LEN, 0),
        LD_W_IND => Insn::stmt(LD_W_IND, insn.k.wrapping_sub(60)),
        _ => *insn,
    });
    let unbounded = validate(&unbounded.collect::<Vec<_>>(), &rules::LINUX_ABI).unwrap();
    for program in [program, unbounded] {
        let (translated, _filter) = wire.attach(&program, &Target::new(LinkKind::Ethernet));
        println!("{} instructions", translated.insns(0).len());
        let before = wire.counters();
        let tagged = [&[2; 12][..], &[0x81, 0, 0, 5, 8, 0], &[9; 62]].concat();
        assert!(wire.check(&program, &translated, &tagged));
        assert!(wire.check(&program, &translated, &[3; 80]));
        let (received, accepted) = wire.counters();
        assert_eq!((received - before.0, accepted - before.1), (2, 2));
    }
    drop(small);
}
