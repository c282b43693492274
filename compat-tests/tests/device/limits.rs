//! What there may be of files, memory and waiting requests: the errno at each limit, the counter, and that it comes back.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serial_test::serial;

use crate::look::as_user;
use crate::node::{Device, Wire, frame, until};
use crate::sys::{Bpf, Insn, frames, number};

const USER: u32 = 54_322;

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

#[test]
#[serial]
fn a_user_has_his_share_of_files() {
    let device = Device::start(&["--mode", "0666", "--max-open", "6", "--max-open-per-user", "3"]);
    let node = device.node();
    let open = || Bpf::open_with(&node, libc::O_RDWR);
    let mut theirs = as_user(USER, || (0..3).map(|_| open().unwrap()).collect::<Vec<_>>());
    assert_eq!(as_user(USER, || errno(open())), Some(libc::EMFILE));
    let others = as_user(USER + 1, || [open().unwrap(), open().unwrap()]);
    let ours = open().unwrap();
    assert_eq!(errno(open()), Some(libc::EMFILE), "in all, root too");
    let files = device.limit("files");
    assert_eq!((files.used, files.all, files.per_user, files.refused), (6, 6, 3, 2));
    let users: Vec<_> = files.users.iter().map(|user| (user.uid, user.used)).collect();
    assert_eq!(users, [(0, 1), (USER, 3), (USER + 1, 2)]);
    let said = "EMFILE; bpfdev stat shows who has them, --max-open-per-user sets it";
    assert_eq!(device.log().matches(said).count(), 1, "{}", device.log());
    assert!(!device.log().contains("all users'"), "a second line of it would be too soon: {}", device.log());
    theirs.pop();
    until("what is closed may be opened again", || as_user(USER, || open().is_ok()));
    drop((others, ours));
}

#[test]
#[serial]
fn memory_has_a_limit_and_comes_back() {
    let arguments = ["--mode", "0666", "--max-memory", "4", "--max-memory-per-user", "1"];
    let (device, wire) = (Device::start(&arguments), Wire::new());
    let node = device.node();
    let first = wire.bound(&device);
    let one = device.report().files[0].memory;
    assert!((8192 + 65536..2 << 20).contains(&one), "buffers and a ring: {one} bytes");
    assert_eq!(device.limit("memory").used, one);
    // A buffer of 512 KiB wants a ring of some 20 MiB.
    let large = wire.ns.enter(|| Bpf::open(&node)).unwrap();
    large.u32(number::SBLEN, 524_288);
    assert_eq!(wire.ns.enter(|| errno(large.set_if("veth0"))).unwrap(), Some(libc::ENOBUFS));
    assert_eq!(device.limit("memory").used, one + (1 << 20), "its two buffers, and no ring");
    // With smaller buffers the same file has its place.
    large.u32(number::SBLEN, 4096);
    wire.ns.enter(|| large.set_if("veth0").unwrap()).unwrap();
    assert_eq!(device.limit("memory").used, 2 * one);
    // A user's share is less; attaching again takes no more.
    let theirs: Vec<_> = as_user(USER, || (0..2).map(|_| Bpf::open(&node)).collect());
    let attached = |bpf: &Bpf| wire.ns.enter(|| bpf.set_if("veth0")).unwrap();
    attached(&theirs[0]).unwrap();
    assert_eq!(errno(attached(&theirs[1])), Some(libc::ENOBUFS), "he opened it, so it counts as his");
    attached(&first).unwrap();
    let memory = device.limit("memory");
    assert_eq!(memory.refused, 2);
    assert_eq!(memory.users.iter().find(|user| user.uid == USER).unwrap().used, one);
    wire.send(&frame(60, 7));
    assert_eq!(frames(&first.read().unwrap()), [frame(60, 7)]);
    drop((first, large, theirs));
    until("all of it is given back", || device.limit("memory").used == 0);
}

#[test]
#[serial]
fn waiting_requests_have_a_limit() {
    let (device, wire) = (Device::start(&["--max-waiting", "2"]), Wire::new());
    let bpf = wire.bound(&device);
    let mut sleepers: Vec<_> = (0..2).map(|_| wire.client(&device, &["block"]).ready()).collect();
    until("both sleep", || device.limit("waiting").used == 2);
    assert_eq!(errno(bpf.read_len(4096)), Some(libc::EBUSY));
    assert_eq!(device.limit("waiting").refused, 1);
    bpf.set_nonblocking(true);
    assert_eq!(errno(bpf.read_len(4096)), Some(libc::EAGAIN), "this one would not wait");
    for client in &mut sleepers {
        client.signal(Signal::SIGKILL);
        client.end();
    }
    until("they are gone", || device.limit("waiting").used == 0);
    bpf.set_nonblocking(false);
    wire.send(&frame(60, 9));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 9)]);
}

#[test]
#[serial]
fn requests_that_wait_for_a_helper_have_a_limit() {
    let arguments = ["--helpers", "2", "--helpers-per-user", "1", "--max-queued-per-user", "1"];
    let (device, wire) = (Device::start(&arguments), Wire::new());
    let bpf = wire.bound(&device);
    let filter = || bpf.set_filter(&[Insn(6, 0, 0, 30)]);
    filter().unwrap();
    let mut stuck = wire.client(&device, &["fault"]).ready();
    let helpers = || device.report().helpers.into_iter().find(|pool| pool.what == "memory").unwrap();
    until("root's only helper is stuck", || helpers().working == 1);
    // who has opened a file is looked up by a helper, too
    let other = device.open();
    until("one job waits", || helpers().queued == 1);
    assert_eq!(errno(filter()), Some(libc::EBUSY));
    let pool = helpers();
    assert_eq!((pool.queued, pool.queued_per_user, pool.refused), (1, 1, 1));
    assert_eq!(other.u32(number::GBLEN, 0), 4096, "what needs no helper works");
    stuck.close_stdin();
    stuck.end();
    until("it is free again", || helpers().working == 0);
    filter().unwrap();
}

#[test]
#[serial]
fn a_thousand_files_work_and_idle_they_cost_next_to_nothing() {
    const FILES: usize = 1000;
    let (device, wire) = (Device::start(&[]), Wire::new());
    // Each is one of this process's descriptors too.
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit.1, limit.1).unwrap();
    let node = device.node();
    let all: Vec<_> =
        wire.ns.enter(|| (0..FILES).map(|_| Bpf::immediate(&node, "veth0")).collect::<Vec<_>>()).unwrap();
    wire.send(&frame(60, 42));
    for (at, bpf) in all.iter().enumerate() {
        assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 42)], "file {at}");
    }
    let report = device.report();
    assert_eq!(report.files.len(), FILES);
    assert!(report.files.iter().all(|file| (file.received, file.matched, file.dropped) == (1, 1, 0)));
    // What the packet set going comes to its end; then they are idle.
    std::thread::sleep(Duration::from_secs(12));
    let (before, begin) = (device.cpu_ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let ticks = device.cpu_ticks() - before;
    let elapsed = begin.elapsed().as_secs_f64() * 100.0; // USER_HZ is 100
    println!("{FILES} idle files: {ticks} ticks of {elapsed:.0}");
    assert!((ticks as f64) < 0.02 * elapsed, "{ticks} ticks of {elapsed:.0}");
    // The kernel takes its time for closing so many packet sockets.
    drop(all);
    let end = Instant::now() + Duration::from_secs(120);
    while device.limit("files").used > 0 {
        assert!(Instant::now() < end, "all of them are closed");
    }
    assert_eq!(device.limit("memory").used, 0);
}
