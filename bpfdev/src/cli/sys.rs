//! The one system call of the command line that no crate wraps safely.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The head of `union bpf_attr` for BPF_PROG_LOAD (linux/bpf.h); the kernel takes the rest as zero.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

const _: () = assert!(size_of::<ProgLoad>() == 48);

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// Loads the socket filter `r0 = 0; exit`: whether bpf(2) may be used.
///
/// # Errors
/// EPERM where it is refused, ENOSYS in a kernel without it.
pub(crate) fn load_smallest_program() -> io::Result<OwnedFd> {
    // struct bpf_insn: code, registers, offset, immediate: BPF_ALU64|BPF_MOV|BPF_K r0, 0 and BPF_JMP|BPF_EXIT.
    let insns: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let license = c"Dual MIT/GPL";
    let attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_SOCKET_FILTER,
        insn_cnt: 2,
        insns: insns.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: bpf(2) reads `size` octets at `attr` and, through it, two instructions and a string that ends with
    // NUL; all three outlive the call. It writes nothing: there is no log buffer.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of::<ProgLoad>()) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
