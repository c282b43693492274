//! write(2), and what an open file is to those who share it.

use std::io::IoSlice;

use crate::node::{Wire, frame, until};
use crate::sys::{frames, number};
use crate::{cuse, errno};

pub fn is_one_frame_whatever_its_length_and_pieces() {
    let (device, wire) = (cuse(&[]), Wire::new());
    let bpf = wire.bound(&device);
    bpf.u32(number::SHDRCMPLT, 1);
    let whole = frame(1514, 1);
    assert_eq!(bpf.write(&whole).unwrap(), 1514);
    assert_eq!(wire.receive(), whole);
    assert_eq!(frames(&bpf.read().unwrap()), std::slice::from_ref(&whole), "a descriptor sees what it sends");
    // as dhclient writes: the header, then the rest
    let parts = [&whole[..14], &whole[14..]].map(IoSlice::new);
    assert_eq!(nix::sys::uio::writev(&bpf, &parts).unwrap(), 1514);
    assert_eq!(wire.receive(), whole, "one frame");
    assert_eq!(errno(bpf.write(&vec![0; 1515])), Some(libc::EMSGSIZE));
    assert_eq!(errno(bpf.write(&[0; 13])), Some(libc::EMSGSIZE));
    for len in [128 << 10, 256 << 10, 3 << 20] {
        assert_eq!(
            errno(bpf.write(&vec![0; len])),
            Some(libc::EMSGSIZE),
            "{len}: more than one piece for the kernel"
        );
    }
    assert_eq!(bpf.write(&[]).unwrap(), 0);
    assert_eq!(nix::unistd::lseek(&bpf, 100, nix::unistd::Whence::SeekSet), Ok(0), "there is no offset");
    // jumbo, from memory that begins anywhere
    for end in ["veth0", "veth1"] {
        wire.ns.rtnl().unwrap().set_mtu(end, 9004).unwrap();
    }
    let jumbo = frame(9018, 2);
    let moved = [&[0; 3][..], &jumbo].concat();
    assert_eq!(bpf.write(&moved[3..]).unwrap(), 9018);
    assert_eq!(wire.receive(), jumbo);
    bpf.u32(number::SHDRCMPLT, 0);
    bpf.write(&whole).unwrap();
    assert_ne!(wire.receive()[6..12], whole[6..12], "the interface's own source address");
}

pub fn goes_on_in_a_child_and_a_copy_until_the_last_is_closed() {
    let (device, wire) = (cuse(&[]), Wire::new());
    let open = || device.limit("files").used;
    let bpf = wire.bound(&device);
    let copy = nix::unistd::dup(&bpf).unwrap();
    drop(bpf);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(open(), 1, "a copy is the same file");
    wire.send(&frame(60, 3));
    let mut buffer = vec![0; 4096];
    let n = nix::unistd::read(&copy, &mut buffer).unwrap();
    assert_eq!(frames(&buffer[..n]), [frame(60, 3)], "bound still");
    drop(copy);
    until("the last close releases it", || open() == 0);
    // opened and bound by the parent, used by its child, which has it alone then
    let mut client = wire.client(&device, &["pass"]).ready();
    assert_eq!(open(), 1);
    wire.send(&frame(60, 8));
    assert_eq!(client.line(), "frame 60 of 60, first 08");
    assert!(client.end().success());
    until("the child's end releases it", || open() == 0);
}
