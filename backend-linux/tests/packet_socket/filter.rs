use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use bpfdev_backend_linux::PacketSocket;
use bpfdev_backend_linux::filter::PlanChoice;
use bpfdev_core::backend::{FilterBackend, Plan, Queued, TapConfig, Visible};
use bpfdev_core::cbpf::{Insn, Program, code};
use bpfdev_core::errno::Errno;

use crate::support::*;

const A: u16 = 0x88b5;
const B: u16 = 0x88b6;

/// What a descriptor makes of a packet: its caplen, 0 when `program` rejects it.
fn caplen(packet: &Kept, program: &Program) -> usize {
    let n = packet.verdict.unwrap_or_else(|| program.run(&packet.data, packet.wirelen));
    packet.data.len().min(n as usize)
}

/// The plans there are for a filter.
const KINDS: [PlanChoice; 3] = [PlanChoice::Ebpf, PlanChoice::Cbpf, PlanChoice::Process];

#[test]
fn the_snap_length_counts_the_tag() {
    let ns = pair();
    for (choice, plan) in [(PlanChoice::Ebpf, Plan::Ebpf), (PlanChoice::Cbpf, Plan::Cbpf)] {
        let mut v0 = tap_with(&ns, "v0", &config(), with_plan(choice)).unwrap();
        snap_lengths_count_the_tag(&mut v0, &tap(&ns, "v1"), plan);
    }
}

fn snap_lengths_count_the_tag(v0: &mut PacketSocket, v1: &PacketSocket, plan: Plan) {
    let frames = [tagged(7, A, 1, 64), tagged(7, B, 1, 68), frame(A, 1, 60)];
    // One snap length; two; a computed one.
    let two = |n| {
        program(&[
            Insn::stmt(code::LD_H_ABS, 16),
            Insn::jump(code::JEQ_K, B.into(), 0, 1),
            Insn::stmt(code::RET_K, 30),
            Insn::stmt(code::RET_K, n),
        ])
    };
    let computed = |n| program(&[Insn::stmt(code::LD_IMM, n), Insn::stmt(code::RET_A, 0)]);
    let by_length = |n: u32| {
        program(&[Insn::stmt(code::LD_W_LEN, 0), Insn::stmt(code::SUB_K, n), Insn::stmt(code::RET_A, 0)])
    };
    for n in (1..=20).chain(58..=72).chain([1000]) {
        for filter in [accept(n), two(n), computed(n), by_length(n % 60)] {
            assert_eq!(v0.set_filter(Some(&filter), Queued::Flush).unwrap(), plan);
            for sent in &frames {
                send(v1, sent).unwrap();
                let len = sent.len() as u32;
                let expected = sent.len().min(filter.run(sent, len) as usize);
                let kept = collect(v0, 1).remove(0);
                assert_eq!(kept.data, sent[..expected], "n = {n}, {} octets sent, {filter:?}", sent.len());
                assert_eq!(kept.wirelen, len);
                assert_eq!(caplen(&kept, &filter), expected);
            }
        }
    }
}

#[test]
fn a_snap_length_read_behind_the_tag_is_exact() {
    let ns = pair();
    let v1 = tap(&ns, "v1");
    // What decides lies behind what is kept: by the byte itself, and by one of two constants.
    let by_byte = program(&[Insn::stmt(code::LD_B_ABS, 40), Insn::stmt(code::RET_A, 0)]);
    let by_test = program(&[
        Insn::stmt(code::LD_B_ABS, 40),
        Insn::jump(code::JGT_K, 14, 0, 1),
        Insn::stmt(code::RET_K, 15),
        Insn::stmt(code::RET_K, 13),
    ]);
    for plan in KINDS {
        for filter in [&by_byte, &by_test] {
            let config = TapConfig { filter: Some(filter.clone()), ..config() };
            let mut v0 = tap_with(&ns, "v0", &config, with_plan(plan)).unwrap();
            for n in (10..=18).chain([60, 200]) {
                for mut sent in [tagged(7, A, 1, 64), frame(A, 1, 60)] {
                    sent[40] = n;
                    send(&v1, &sent).unwrap();
                    let expected = sent.len().min(filter.run(&sent, sent.len() as u32) as usize);
                    let kept = collect(&mut v0, 1).remove(0);
                    assert_eq!(caplen(&kept, filter), expected, "{plan}: n = {n}, {filter:?}");
                }
            }
        }
    }
}

#[test]
fn each_plan_gives_the_same_packets() {
    let ns = pair();
    let v1 = tap(&ns, "v1");
    for plan in KINDS {
        let filter = only(A, 40);
        let config = TapConfig { filter: Some(filter.clone()), ..config() };
        let mut v0 = tap_with(&ns, "v0", &config, with_plan(plan)).unwrap();
        for (ethertype, mark) in [(A, 1), (B, 2), (A, 3)] {
            send(&v1, &frame(ethertype, mark, 100)).unwrap();
        }
        let mut kept = Vec::new();
        eventually("two are accepted", || {
            kept.extend(drain(&mut v0).into_iter().filter(|packet| caplen(packet, &filter) > 0));
            kept.len() == 2
        });
        assert!(kept.iter().all(|packet| caplen(packet, &filter) == 40 && packet.wirelen == 100));
        let received = v0.stats().unwrap().received;
        assert_eq!(
            received,
            (plan != PlanChoice::Cbpf).then_some(3),
            "{plan}: not known where rejects are not counted"
        );
    }
}

#[test]
fn kept_packets_stay_as_the_old_filter_judged_them() {
    let ns = pair();
    let v1 = tap(&ns, "v1");
    // Old and new filter, each of them none, in the kernel, or here.
    for old_plan in KINDS {
        for (old, new) in [
            (None, Some(only(B, 50))),
            (Some(only(A, 40)), None),
            (Some(only(A, 40)), Some(only(B, 50))),
            (Some(only(A, 40)), Some(only(B, u32::MAX))),
        ] {
            let config = TapConfig { filter: old.clone(), ..config() };
            let mut v0 = tap_with(&ns, "v0", &config, with_plan(old_plan)).unwrap();
            for (ethertype, mark) in [(A, 1), (B, 2), (A, 3), (B, 4)] {
                send(&v1, &frame(ethertype, mark, 100)).unwrap();
            }
            v0.set_filter(new.as_ref(), Queued::Keep).unwrap();
            for (ethertype, mark) in [(A, 5), (B, 6), (A, 7), (B, 8)] {
                send(&v1, &frame(ethertype, mark, 100)).unwrap();
            }
            let expected: Vec<_> = (1..=8)
                .filter_map(|mark| {
                    let sent = frame(if mark % 2 == 1 { A } else { B }, mark, 100);
                    let judge = if mark <= 4 { &old } else { &new };
                    let n = judge.as_ref().map_or(u32::MAX, |program| program.run(&sent, 100));
                    (n > 0).then_some((mark as u8, n.min(100) as usize))
                })
                .collect();
            let all = accept(u32::MAX);
            let mut kept = Vec::new();
            eventually("all come", || {
                kept.extend(drain(&mut v0).into_iter().filter_map(|packet| {
                    let caplen = caplen(&packet, new.as_ref().unwrap_or(&all));
                    (caplen > 0).then_some((packet.data[15], caplen))
                }));
                kept.len() >= expected.len()
            });
            assert_eq!(kept, expected, "{old_plan:?}: {old:?} then {new:?}");
        }
    }
}

/// The same as [`only`], but it runs for some microseconds, so that another CPU is likely to be in it at any moment.
fn only_slowly(ethertype: u16, n: u32) -> Program {
    let mut insns = vec![Insn::stmt(code::LD_W_LEN, 0)];
    insns.extend([Insn::stmt(code::DIV_K, 3); 480]);
    insns.extend(only(ethertype, n).insns());
    program(&insns)
}

/// Frames of type A from v1, as fast as they go, until told to stop.
fn flood(v1: &dyn FilterBackend, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let mut injector = v1.injector().unwrap();
    thread::spawn(move || {
        let frames = [frame(A, 1, 100), tagged(3, A, 1, 104), frame(B, 2, 100)];
        while !stop.load(Ordering::Relaxed) {
            for frame in &frames {
                // A full queue is no matter.
                let _ = injector.inject(frame, Visible::ToNobody);
            }
        }
    })
}

#[test]
fn after_a_flush_nothing_of_the_old_filter_comes_out() {
    let ns = pair();
    let v1 = tap(&ns, "v1");
    let stop = Arc::new(AtomicBool::new(false));
    let sender = flood(&v1, stop.clone());
    for plan in KINDS {
        let config = TapConfig { bufsize: 1 << 19, ..config() };
        let mut v0 = tap_with(&ns, "v0", &config, with_plan(plan)).unwrap();
        // What the filter accepts in the round: type and snap length. `None`: everything.
        let rounds = [None, Some((A, 40)), Some((B, 60)), Some((A, 80)), None, Some((B, 30)), Some((A, 1))];
        for round in rounds.iter().cycle().take(70) {
            let filter = round.map(|(ethertype, n)| only_slowly(ethertype, n));
            v0.set_filter(filter.as_ref(), Queued::Flush).unwrap();
            let mut accepted = 0;
            eventually("packets of the new filter come", || {
                for packet in drain(&mut v0) {
                    let Some((ethertype, n)) = *round else {
                        accepted += 1;
                        continue;
                    };
                    let caplen = caplen(&packet, filter.as_ref().unwrap());
                    if caplen == 0 && packet.verdict.is_none() {
                        continue;
                    }
                    assert_eq!(caplen, n as usize, "{plan:?}, {round:?}: {packet:x?}");
                    if n >= 14 {
                        assert_eq!(packet.data[12..14], ethertype.to_be_bytes(), "{plan:?}, {round:?}");
                    }
                    accepted += 1;
                }
                accepted > 20
            });
        }
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
}

#[test]
fn a_kept_change_under_a_flood_loses_and_repeats_nothing() {
    for plan in KINDS {
        changes_keep_everything(plan);
    }
}

fn changes_keep_everything(plan: PlanChoice) {
    let ns = pair();
    let config = TapConfig { bufsize: 1 << 20, ..config() };
    let mut v0 = tap_with(&ns, "v0", &config, with_plan(plan)).unwrap();
    let v1 = tap(&ns, "v1");
    let mut injector = v1.injector().unwrap();
    const SENT: u32 = 20_000;
    let seen = Arc::new(AtomicU32::new(0));
    let (seen_there, deadline) = (seen.clone(), Instant::now() + BOUND);
    let sender = thread::spawn(move || {
        for i in 0..SENT {
            // The kernel's own queue on the way holds a thousand.
            while i > seen_there.load(Ordering::Relaxed) + 500 && Instant::now() < deadline {
                thread::yield_now();
            }
            let mut frame = frame(A, 0, 60);
            frame[16..20].copy_from_slice(&i.to_be_bytes());
            while injector.inject(&frame, Visible::ToNobody).is_err() {}
        }
    });
    let (mut next, mut change) = (0, 0);
    eventually("all arrive", || {
        for packet in drain(&mut v0) {
            let number = u32::from_be_bytes(packet.data[16..20].try_into().unwrap());
            assert_eq!(number, next, "in order, each once");
            next += 1;
        }
        seen.store(next, Ordering::Relaxed);
        change += 1;
        // Every one of them accepts all that is sent.
        let filter = [None, Some(only(A, 40)), Some(accept(44)), Some(only(A, u32::MAX))][change % 4].clone();
        v0.set_filter(filter.as_ref(), Queued::Keep).unwrap();
        next == SENT
    });
    sender.join().unwrap();
    assert_eq!(v0.stats().unwrap().dropped, 0);
}

#[test]
fn a_locked_filter_stays() {
    let ns = pair();
    for plan in KINDS {
        let config = TapConfig { filter: Some(only(A, 40)), ..config() };
        let mut v0 = tap_with(&ns, "v0", &config, with_plan(plan)).unwrap();
        let before = v0.plan();
        v0.lock_filter().unwrap();
        for filter in [None, Some(only(B, 40))] {
            let error = v0.set_filter(filter.as_ref(), Queued::Keep).unwrap_err();
            assert_eq!(Errno::from(&error), Errno::Perm, "{error}");
        }
        assert_eq!(v0.plan(), before);
    }
}

#[test]
fn loopback_packets_are_filtered_behind_the_family_word() {
    use std::net::UdpSocket;
    let ns = pair();
    // UDP to port 9, by the DLT_NULL layout; 20 octets.
    let filter = program(&[
        Insn::stmt(code::LD_B_ABS, 4 + 9),
        Insn::jump(code::JEQ_K, 17, 0, 3),
        Insn::stmt(code::LD_H_ABS, 4 + 20 + 2),
        Insn::jump(code::JEQ_K, 9, 0, 1),
        Insn::stmt(code::RET_K, 20),
        Insn::stmt(code::RET_K, 0),
    ]);
    for (plan, expected) in
        [(PlanChoice::Ebpf, Plan::Ebpf), (PlanChoice::Cbpf, Plan::Cbpf), (PlanChoice::Process, Plan::Process)]
    {
        let config = TapConfig { filter: Some(filter.clone()), ..config() };
        let mut lo = tap_with(&ns, "lo", &config, with_plan(plan)).unwrap();
        assert_eq!(lo.plan(), expected);
        ns.enter(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for port in [10, 9] {
                socket.send_to(&[1; 30], ("127.0.0.1", port)).ok();
            }
        })
        .unwrap();
        let mut kept = Vec::new();
        eventually("the datagram comes", || {
            kept.extend(drain(&mut lo).into_iter().filter(|packet| caplen(packet, &filter) > 0));
            !kept.is_empty()
        });
        assert_eq!(kept.len(), 1, "{kept:x?}");
        assert_eq!((caplen(&kept[0], &filter), kept[0].wirelen), (20, 62));
        assert_eq!(kept[0].data[..4], 2_u32.to_ne_bytes());
    }
}
