//! Who may open the device, and whose interfaces it has.

use std::process::Command;

use bpfdev_backend_linux::netns::Namespace;
use serial_test::serial;

use crate::look::members_of_the_group_capture;
use crate::node::{Device, Wire, client_program, frame};
use crate::sys::{Bpf, Ifreq, frames, number};

#[test]
#[serial]
fn interfaces_are_those_of_the_thread_that_binds() {
    let (device, here, there) = (Device::start(&[]), Wire::new(), Wire::new());
    // opened in one namespace, bound in another
    let bpf = here.ns.enter(|| Bpf::open(&device.node())).unwrap();
    there.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    bpf.u32(number::IMMEDIATE, 1);
    here.send(&frame(60, 1));
    there.send(&frame(60, 2));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 2)]);
    // and bound again to the interface of the same name in the other
    here.ns.enter(|| bpf.set_if("veth0").unwrap()).unwrap();
    there.send(&frame(60, 3));
    here.send(&frame(60, 4));
    assert_eq!(frames(&bpf.read().unwrap()), [frame(60, 4)]);
}

#[test]
#[serial]
fn the_hosts_interfaces_are_not_seen_from_another_namespace() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    wire.ns.rtnl().unwrap().rename("veth1", "onlyhere").unwrap();
    let bpf = device.open();
    let host = Namespace::of_this_thread().unwrap();
    assert_ne!(host.id().unwrap(), wire.ns.id().unwrap());
    assert_eq!(
        bpf.set_if("onlyhere").unwrap_err().raw_os_error(),
        Some(libc::ENXIO),
        "nor this from the host"
    );
    wire.ns.enter(|| bpf.set_if("onlyhere").unwrap()).unwrap();
    for link in host.rtnl().unwrap().list().unwrap() {
        if link.name != "lo" && link.name != "veth0" {
            let error = wire.ns.enter(|| bpf.set_if(&link.name).unwrap_err()).unwrap();
            assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "{}", link.name);
        }
    }
    assert_eq!(
        bpf.ioctl(number::GETIF, Ifreq::<40>::named("")).unwrap().name(),
        "onlyhere",
        "nothing changed"
    );
}

#[test]
#[serial]
fn a_descriptor_works_in_the_process_it_is_passed_to() {
    let (device, wire) = (Device::start(&[]), Wire::new());
    let mut client = wire.client(&device, &["pass"]).ready();
    wire.send(&frame(60, 8));
    assert_eq!(client.line(), "frame 60 of 60, first 08");
    assert!(client.end().success());
}

#[test]
#[serial]
fn a_member_of_the_group_captures_and_another_gets_eacces() {
    members_of_the_group_capture(&Device::start(&["--group", "4242"]), &Wire::new());
}

#[test]
#[serial]
fn without_a_group_the_device_is_roots() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (device, wire) = (Device::start(&[]), Wire::new());
    let meta = std::fs::metadata(device.node()).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.uid(), meta.gid()), (0o600, 0, 0));
    let mut command = Command::new(client_program(false));
    let mut client = wire.client_by(&mut command, &device, &["as", "65534", "65534", "65534"]);
    assert_eq!(client.line(), "open: errno 13 (Permission denied)");
    client.end();
    // as with devfs rules, the administrator may widen it
    std::fs::set_permissions(device.node(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut client = wire.client(&device, &["as", "65534", "65534", "65534"]);
    assert_eq!(client.line(), "opened");
}

#[test]
#[serial]
fn every_open_of_every_name_is_a_descriptor_of_its_own() {
    use std::os::unix::fs::MetadataExt;
    let device = Device::start(&[]);
    let mut names: Vec<_> = std::fs::read_dir(&device.dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.retain(|name| !["dragonfly", "freebsd", "macos", "netbsd", "openbsd"].contains(&name.as_str()));
    assert_eq!(names.len(), 17);
    assert_eq!(names[..3], ["bpf", "bpf0", "bpf1"]);
    let files: Vec<_> = names.iter().map(|name| Bpf::open(&device.dir.join(name))).collect();
    for (n, file) in files.iter().enumerate() {
        file.u32(number::SBLEN, 4096 + n as u32);
    }
    for (n, file) in files.iter().enumerate() {
        assert_eq!(file.u32(number::GBLEN, 0), 4096 + n as u32);
    }
    let inode = || std::fs::File::open(device.node()).unwrap().metadata().unwrap().ino();
    assert_ne!(inode(), inode());
    for name in ["bpf16", "bpf00", "null"] {
        let error = Bpf::open_with(&device.dir.join(name), libc::O_RDWR).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{name}");
    }
    for error in [
        std::fs::remove_file(device.node()).unwrap_err(),
        std::fs::write(device.dir.join("new"), "").unwrap_err(),
        std::fs::create_dir(device.dir.join("new")).unwrap_err(),
        std::fs::rename(device.node(), device.dir.join("new")).unwrap_err(),
    ] {
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "names come from the device");
    }
}
