//! Filters on sockets that are not a tap's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use bpfdev_core::cbpf::Insn;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::sys;

/// SO_ATTACH_FILTER: gives any socket a filter in the place of the one it has. Needs no privilege.
///
/// The program is Linux's ([`LINUX`](bpfdev_core::cbpf::LINUX)); a BSD's goes through [`rewrite`](super::rewrite) first.
///
/// # Errors
/// EINVAL for a program Linux does not take; ENOMEM for one that is too long for `net.core.optmem_max`; EPERM when the
/// socket's filter is locked.
#[doc(alias = "SO_ATTACH_FILTER")]
pub fn attach(socket: BorrowedFd<'_>, insns: &[Insn]) -> io::Result<()> {
    sys::attach_filter(socket, insns)
}

/// Whether this kernel takes a program: [`attach`]es it to a socket made for that, which then goes away.
///
/// # Errors
/// As [`attach`].
pub fn try_attach(insns: &[Insn]) -> io::Result<()> {
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    attach(socket.as_fd(), insns)
}
