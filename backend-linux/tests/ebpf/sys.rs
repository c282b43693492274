//! Capabilities of the calling thread. All unsafe code of the eBPF tests but that of filter_kernel/sys.rs.

use std::io;

/// CAP_NET_RAW.
pub const CAP_NET_RAW: u32 = 13;
/// CAP_BPF.
pub const CAP_BPF: u32 = 39;

/// Leaves the calling thread these capabilities and no others.
pub fn keep_capabilities(keep: &[u32]) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let bits = keep.iter().fold(0_u64, |bits, cap| bits | 1 << cap);
    let (low, high) = (bits as u32, (bits >> 32) as u32);
    // Effective, permitted and inheritable, of the low and of the high capabilities.
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: capset(2) reads a header of two words and data of six, which outlive the call; it changes only this
    // thread's credentials.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
