//! What goes wrong around a file that is in use: its interface is renamed, moved or changed, its opener ends.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serial_test::serial;

use crate::node::{Device, Wire, frame, until};
use crate::sys::{Bpf, frames, number};

#[test]
#[serial]
fn a_renamed_interface_stays_attached_and_its_old_name_is_nobodys() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    wire.ns.rtnl().unwrap().rename("veth0", "wan0").unwrap();
    wire.send(&frame(60, 1));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 1)]);
    assert_eq!(bpf.write(&frame(60, 2)).unwrap(), 60);
    let other = device.open();
    let set_if = |name: &str| wire.ns.enter(|| other.set_if(name)).unwrap();
    assert_eq!(set_if("veth0").unwrap_err().raw_os_error(), Some(libc::ENXIO));
    set_if("wan0").unwrap();
    other.u32(number::IMMEDIATE, 1);
    wire.send(&frame(60, 3));
    assert_eq!(frames(&other.read().unwrap()), [frame(60, 3)]);
}

#[test]
#[serial]
fn an_interface_moved_to_another_namespace_is_gone_and_can_be_bound_there() {
    use std::os::fd::AsFd;
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    let there = bpfdev_backend_linux::netns::Namespace::new().unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| bpf.read().map_err(|error| error.raw_os_error()));
        std::thread::sleep(Duration::from_millis(100));
        wire.ns.rtnl().unwrap().move_to_netns("veth0", there.as_fd()).unwrap();
        assert_eq!(reader.join().unwrap(), Err(Some(libc::ENXIO)));
    });
    assert_eq!(bpf.write(&frame(60, 0)).unwrap_err().raw_os_error(), Some(libc::ENXIO));
    there.rtnl().unwrap().set_up("veth0").unwrap();
    there.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    until("its packets come again", || {
        wire.send(&frame(60, 4));
        bpf.readable_bytes() > 0
    });
    assert!(frames(&bpf.read().unwrap()).contains(&frame(60, 4)));
}

#[test]
#[serial]
fn the_mtu_may_change_under_load() {
    const COUNT: u32 = 2000;
    let (device, wire) = (Device::start(&[]), Wire::new());
    // Room for all of them, however late the reader comes.
    let bpf = device.open();
    bpf.u32(number::SBLEN, 524_288);
    wire.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    bpf.u32(number::IMMEDIATE, 1);
    let numbered = |number: u32| {
        let mut frame = frame(64, 0);
        frame[14..18].copy_from_slice(&number.to_be_bytes());
        frame
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rtnl = wire.ns.rtnl().unwrap();
            for mtu in [500, 9000, 1500, 576, 9000] {
                rtnl.set_mtu("veth0", mtu).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        scope.spawn(|| {
            for number in 0..COUNT {
                wire.send(&numbered(number));
                if number % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        let mut next = 0;
        while next < COUNT {
            for frame in frames(&bpf.read().unwrap()) {
                assert_eq!(frame, numbered(next), "every packet, in order");
                next += 1;
            }
        }
    });
    assert_eq!(bpf.stats()[1], 0);
    // What may be written follows it, and what arrives is as large as the buffer takes.
    wire.ns.rtnl().unwrap().set_mtu("veth1", 9000).unwrap();
    assert_eq!(bpf.write(&frame(3000, 1)).unwrap(), 3000);
    wire.send(&frame(3000, 2));
    until("it arrives", || frames(&bpf.read().unwrap()).contains(&frame(3000, 2)));
    wire.ns.rtnl().unwrap().set_mtu("veth0", 1500).unwrap();
    assert_eq!(bpf.write(&frame(3000, 3)).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
}

#[test]
#[serial]
fn a_file_outlives_the_process_that_opened_it() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let bpf = wire.bound(&device);
    // A shell that hands the file on to its child, and ends.
    let script = "exec 3<&0; dd bs=4096 count=1 <&3 2>/dev/null & exit 0";
    let file = std::os::fd::AsFd::as_fd(&bpf).try_clone_to_owned().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::from(file)).stdout(Stdio::piped());
    let mut parent = command.spawn().unwrap();
    drop((bpf, command));
    assert!(parent.wait().unwrap().success());
    until("its child reads", || device.report().files.iter().any(|file| file.waiting == 1));
    let file = &device.report().files[0];
    assert_eq!((file.command.as_deref(), file.uid), (Some("dd"), 0));
    wire.send(&frame(60, 6));
    let mut read = Vec::new();
    parent.stdout.take().unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(frames(&read), [frame(60, 6)]);
    until("it is closed with its last process", || device.report().files.is_empty());
}

#[test]
#[serial]
fn a_stopped_reader_with_full_buffers_loses_packets_and_nobody_else_does() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let witness = wire.bound(&device);
    let mut client = wire.client(&device, &["block"]).ready();
    client.asleep();
    client.signal(nix::sys::signal::Signal::SIGSTOP);
    let begin = Instant::now();
    for mark in 0..=255 {
        wire.send(&frame(1000, mark));
        assert_eq!(frames(&witness.read().unwrap()), [frame(1000, mark)]);
    }
    assert!(begin.elapsed() < Duration::from_secs(30));
    until("the stopped one's packets are dropped", || {
        let report = device.report();
        report.files.iter().any(|file| file.pid == client.child.id() && file.dropped > 200)
            && report.files.iter().any(|file| file.pid != client.child.id() && file.dropped == 0)
    });
    client.signal(nix::sys::signal::Signal::SIGKILL);
    client.end();
    assert!(Bpf::open_with(&device.node(), libc::O_RDWR).is_ok());
}
