//! The system calls of the filter test. All of its unsafe code.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bpfdev_core::cbpf::Insn;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A packet socket that receives nothing yet.
pub fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes three numbers and touches no memory of ours.
    let fd = checked(unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    })?;
    // SAFETY: the fd is open, as socket(2) just returned it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a packet socket to an interface; `protocol` in host order, 0 receives nothing.
pub fn bind(socket: &OwnedFd, ifindex: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of one initialised sockaddr_ll, which outlives the call.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(())
}

/// Sets an int option of the packet level.
pub fn set_packet_option(socket: &OwnedFd, option: i32, value: i32) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of one int, which outlives the call.
    checked(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, (&raw const value).cast(), len)
    })?;
    Ok(())
}

/// SO_ATTACH_FILTER. `Insn` has the layout of `struct sock_filter`: core asserts it.
pub fn attach_filter(socket: &OwnedFd, insns: &[Insn]) -> io::Result<()> {
    let program = libc::sock_fprog { len: insns.len() as u16, filter: insns.as_ptr().cast_mut().cast() };
    let len = size_of_val(&program) as libc::socklen_t;
    // SAFETY: `filter` points to `len` instructions, borrowed for the whole call; the kernel only reads them.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            len,
        )
    })?;
    Ok(())
}

/// SO_GET_FILTER: the program as it was attached. Its length counts instructions, not bytes.
pub fn get_filter(socket: &OwnedFd) -> io::Result<Vec<Insn>> {
    let mut insns = vec![Insn::default(); 4096];
    let mut len = insns.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` instructions of 8 bytes, and there is room for that many; any bytes
    // make a valid Insn.
    checked(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_GET_FILTER,
            insns.as_mut_ptr().cast(),
            &mut len,
        )
    })?;
    insns.truncate(len as usize);
    Ok(insns)
}
