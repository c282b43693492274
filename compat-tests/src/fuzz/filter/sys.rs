//! SO_ATTACH_FILTER: the unsafe code of the fuzzer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use bpfdev_core::cbpf::Insn;

const _: () = assert!(size_of::<Insn>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Insn>() >= align_of::<libc::sock_filter>());

/// SO_ATTACH_FILTER: replaces the socket's filter.
pub(super) fn attach_filter(fd: BorrowedFd<'_>, insns: &[Insn]) -> io::Result<()> {
    let len = u16::try_from(insns.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: insns.as_ptr().cast_mut().cast() };
    let size = size_of_val(&program) as libc::socklen_t;
    // SAFETY: the option is one sock_fprog of that size; its `filter` points to `len` instructions of the same layout
    // (asserted above), borrowed for the whole call, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
