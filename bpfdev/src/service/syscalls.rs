//! The system calls that threads which take in clients' data may make: seccomp(2) refuses all others.
//!
//! What is not listed here is refused with EPERM, or ends the daemon under `--seccomp kill`. A thread hands its restrictions on
//! to those it makes, so what the packet sockets' closing threads need is in [`COMMON`].

use libc::c_long;

/// Memory, threads, time, and what is open already: every thread.
pub const COMMON: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_geteuid,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_membarrier,
    libc::SYS_ppoll,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_getsockopt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// What the loop does beside that: it watches, and asks taps how they stand.
pub const LOOP: &[c_long] = &[
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_shutdown,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_ioctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

/// What helpers do beside [`COMMON`]: they look at callers, and attach taps.
pub const HELPER: &[c_long] = &[
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setns,
    libc::SYS_bind,
    libc::SYS_bpf,
    libc::SYS_eventfd2,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_ioctl,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_pread64,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
];

/// And where the kernel does not copy all of an argument: they reach into callers' memory.
pub const MEMORY: &[c_long] = &[libc::SYS_process_vm_readv, libc::SYS_process_vm_writev];

/// What the thread of the directory does beside [`COMMON`].
pub const NAMES: &[c_long] = &[];

/// What the thread that makes nodes does beside [`COMMON`]: it names them, and gives them their group and permissions.
pub const NODES: &[c_long] = &[
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_lseek,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_fchownat,
    libc::SYS_fchmodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
];
