//! bpf(2), one function a command. All the unsafe code of this module.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long};

use crate::filter::ebpf::Insn;

// enum bpf_cmd of <linux/bpf.h>.
const BPF_MAP_CREATE: c_int = 0;
const BPF_MAP_LOOKUP_ELEM: c_int = 1;
const BPF_MAP_UPDATE_ELEM: c_int = 2;
const BPF_PROG_LOAD: c_int = 5;
const BPF_PROG_TEST_RUN: c_int = 10;
const BPF_OBJ_GET_INFO_BY_FD: c_int = 15;

/// BPF_MAP_TYPE_ARRAY: values of bytes.
pub(super) const ARRAY: u32 = 2;
/// BPF_MAP_TYPE_PROG_ARRAY: fds of programs.
pub(super) const PROGRAM_ARRAY: u32 = 3;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
/// SO_ATTACH_BPF; libc has it for some targets only.
const SO_ATTACH_BPF: c_int = 50;

/// What a license string is for: helpers that only GPL programs may call. We call none.
const LICENSE: &[u8] = b"Dual MIT/Apache-2.0\0";
/// Shown by bpftool: at most 15 bytes.
const NAME: [u8; 16] = *b"bpfdev\0\0\0\0\0\0\0\0\0\0";

/// `union bpf_attr` for BPF_MAP_CREATE.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// For BPF_MAP_LOOKUP_ELEM.
#[repr(C)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// For BPF_PROG_LOAD.
#[repr(C)]
struct ProgramLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// For BPF_PROG_TEST_RUN.
#[repr(C)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

/// For BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct ObjectInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to the last field that is used; those of no use are not named. Older kernels have fewer
/// fields and leave the others 0.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct ProgramInfo {
    prog_type: u32,
    pub id: u32,
    tag: [u8; 8],
    pub jited_prog_len: u32,
    pub xlated_prog_len: u32,
    unused: [u64; 24],
    /// Since Linux 5.16.
    pub verified_insns: u32,
    padding: u32,
}
const _: () = assert!(std::mem::offset_of!(ProgramInfo, verified_insns) == 216);

/// `struct __sk_buff` up to its control block: the context of a test run.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct SkBuff {
    pub before: [u32; 12],
    pub cb: [u32; 5],
}

fn address<T: ?Sized>(of: *const T) -> u64 {
    of.cast::<()>().addr() as u64
}

fn fd_number(fd: BorrowedFd<'_>) -> u32 {
    // An open fd is not negative.
    fd.as_raw_fd() as u32
}

/// bpf(2). Each attribute struct here is a prefix of `union bpf_attr`; the kernel takes the rest as 0.
///
/// # Safety
/// Addresses in `attr` must be those of memory that is readable, or writable where the command writes, for the lengths
/// that stand beside them, until this returns.
unsafe fn bpf<T>(command: c_int, attr: &mut T) -> io::Result<c_int> {
    // SAFETY: the struct is readable and writable for its size; the caller vouches for what it points to.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as c_long, &raw mut *attr, size_of::<T>() as c_long) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as c_int) }
}

fn owned(fd: c_int) -> OwnedFd {
    // SAFETY: bpf(2) just returned this fd (close-on-exec), and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// BPF_MAP_CREATE of a map of `max_entries` values of `value_size` bytes, with a key of 4: [`ARRAY`] or
/// [`PROGRAM_ARRAY`].
pub(super) fn create_map(map_type: u32, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    let mut attr = MapCreate {
        map_type,
        key_size: 4,
        value_size,
        max_entries,
        map_flags: 0,
        inner_map_fd: 0,
        numa_node: 0,
        map_name: NAME,
    };
    // SAFETY: the attributes hold no address.
    unsafe { bpf(BPF_MAP_CREATE, &mut attr) }.map(owned)
}

/// BPF_MAP_UPDATE_ELEM: `program` into a [`PROGRAM_ARRAY`].
pub(super) fn set_program(map: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let (key, value) = (0_u32, fd_number(program));
    let mut attr = MapElement {
        map_fd: fd_number(map),
        padding: 0,
        key: address(&raw const key),
        value: address(&raw const value),
        flags: 0,
    };
    // SAFETY: key and value are 4 bytes each, as a program array's are (the kernel makes none with other sizes), and
    // are only read.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// BPF_MAP_LOOKUP_ELEM of the value at `key` of an [`ARRAY`] made by [`create_map`] with values of `N` times 8 bytes.
pub(super) fn look_up<const N: usize>(map: BorrowedFd<'_>, key: u32) -> io::Result<[u64; N]> {
    let mut value = [0_u64; N];
    let mut attr = MapElement {
        map_fd: fd_number(map),
        padding: 0,
        key: address(&raw const key),
        value: address(&raw mut value),
        flags: 0,
    };
    // SAFETY: the key is 4 bytes, as create_map() says, and the value has room for the N * 8 bytes that the map's values
    // have: maps are only made by this module's callers, which are CounterMap (2) and Sums (1).
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) }?;
    Ok(value)
}

/// BPF_PROG_LOAD of a socket filter. The verifier writes what it thinks into `log`, if that is not empty.
pub(super) fn load_socket_filter(insns: &[Insn], log: &mut [u8]) -> io::Result<OwnedFd> {
    let too_large = |_| io::Error::from_raw_os_error(libc::E2BIG);
    let mut attr = ProgramLoad {
        prog_type: BPF_PROG_TYPE_SOCKET_FILTER,
        insn_cnt: u32::try_from(insns.len()).map_err(too_large)?,
        insns: address(insns.as_ptr()),
        license: address(LICENSE.as_ptr()),
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(too_large)?,
        log_buf: if log.is_empty() { 0 } else { address(log.as_mut_ptr()) },
        kern_version: 0,
        prog_flags: 0,
        prog_name: NAME,
    };
    // SAFETY: the instructions are readable for their number, each 8 bytes (asserted where they are defined), the
    // license ends with a NUL, and the log is writable for its length; all outlive the call.
    unsafe { bpf(BPF_PROG_LOAD, &mut attr) }.map(owned)
}

/// BPF_OBJ_GET_INFO_BY_FD of a program.
pub(super) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut info = ProgramInfo::default();
    let mut attr = ObjectInfo {
        bpf_fd: fd_number(program),
        info_len: size_of::<ProgramInfo>() as u32,
        info: address(&raw mut info),
    };
    // SAFETY: the kernel writes at most info_len bytes at info, which is that large and plain data.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// BPF_PROG_TEST_RUN, `repeat` times: what the program returned, and the mean time of one run in nanoseconds.
pub(super) fn test_run(
    program: BorrowedFd<'_>,
    data: &[u8],
    context: &SkBuff,
    repeat: u32,
) -> io::Result<(u32, u32)> {
    let too_large = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let mut attr = TestRun {
        prog_fd: fd_number(program),
        retval: 0,
        data_size_in: u32::try_from(data.len()).map_err(too_large)?,
        data_size_out: 0,
        data_in: address(data.as_ptr()),
        data_out: 0,
        repeat,
        duration: 0,
        ctx_size_in: size_of::<SkBuff>() as u32,
        ctx_size_out: 0,
        ctx_in: address(&raw const *context),
        ctx_out: 0,
    };
    // SAFETY: data and context are readable for their sizes; without data_out and ctx_out the kernel writes only into
    // the attributes.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }?;
    Ok((attr.retval, attr.duration))
}

/// SO_ATTACH_BPF: replaces the socket's filter.
pub(super) fn attach(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let value: c_int = program.as_raw_fd();
    // SAFETY: the pointer and the length are those of one int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_ATTACH_BPF,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
