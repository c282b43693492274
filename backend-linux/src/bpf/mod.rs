//! eBPF socket filters in the kernel: a program, and the map it counts packets in.
//!
//! One map serves a descriptor for its life; programs come and go and count in the same map. SO_ATTACH_BPF replaces a
//! filter in one step, so each packet is counted by exactly one of the two.
//!
//! bpf(2) wants CAP_BPF, or `kernel.unprivileged_bpf_disabled` = 0. Whatever it refuses is [`Refused`], which says why:
//! the next plan is taken then.

mod sys;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::filter::ebpf::{Insn, TooLong, Translated, VALUE_SIZE, jump_to};

/// The kernel would not do it.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}{}", Log(log))]
pub struct Refused {
    /// What was tried.
    pub step: Step,
    /// The kernel's error.
    pub source: io::Error,
    /// The verifier's last lines, where it was the verifier.
    pub log: Option<String>,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Step {
    /// Writing it in eBPF.
    #[error("translating to eBPF")]
    Translate,
    /// BPF_MAP_CREATE.
    #[error("making an eBPF map")]
    MakeMap,
    /// BPF_MAP_LOOKUP_ELEM.
    #[error("reading an eBPF map")]
    ReadMap,
    /// BPF_PROG_LOAD.
    #[error("loading an eBPF program")]
    Load,
    /// SO_ATTACH_BPF.
    #[error("attaching an eBPF program")]
    Attach,
    /// BPF_OBJ_GET_INFO_BY_FD.
    #[error("asking about an eBPF program")]
    Ask,
    /// BPF_PROG_TEST_RUN.
    #[error("running an eBPF program")]
    Run,
}

/// Why the kernel refused, as far as its answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// EPERM, EACCES: a privilege is wanting, a sandbox forbids bpf(2), or the filter is locked (SO_LOCK_FILTER).
    #[error("not permitted; needs CAP_BPF, or kernel.unprivileged_bpf_disabled = 0")]
    NotPermitted,
    /// ENOMEM, or E2BIG of a program: a limit on memory (cgroup, RLIMIT_MEMLOCK before Linux 5.11,
    /// net.core.optmem_max, net.core.bpf_jit_limit).
    #[error("no memory, or a limit on it")]
    NoMemory,
    /// ENOSYS: no eBPF in this kernel.
    #[error("this kernel has no eBPF")]
    Absent,
    /// EINVAL and all others: too old a kernel, or an instruction it does not know.
    #[error("this kernel does not take it")]
    Other,
}

impl Refused {
    fn new(step: Step) -> impl FnOnce(io::Error) -> Refused {
        move |source| Refused { step, source, log: None }
    }

    /// Why, for the debug log and for `explain`.
    pub fn why(&self) -> Why {
        // EACCES is also what the verifier says of a program it finds unsafe.
        match self.source.raw_os_error() {
            Some(libc::EACCES) if self.log.is_some() => Why::Other,
            Some(libc::EPERM | libc::EACCES) => Why::NotPermitted,
            Some(libc::ENOMEM) => Why::NoMemory,
            Some(libc::ENOSYS) => Why::Absent,
            _ => Why::Other,
        }
    }
}

impl From<TooLong> for Refused {
    fn from(error: TooLong) -> Refused {
        Refused { step: Step::Translate, source: io::Error::other(error), log: None }
    }
}

struct Log<'a>(&'a Option<String>);

impl fmt::Display for Log<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |log| write!(f, "\n{log}"))
    }
}

/// Packets counted by a descriptor's programs, all running totals since the map was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets there were before the filter.
    pub received: u64,
    /// Packets the filter accepted.
    pub accepted: u64,
}

/// A descriptor's counters in the kernel.
#[derive(Debug)]
pub struct CounterMap {
    fd: OwnedFd,
}

impl CounterMap {
    /// A map with both counters 0.
    ///
    /// # Errors
    /// EPERM without CAP_BPF; ENOMEM.
    pub fn new() -> Result<CounterMap, Refused> {
        sys::create_map(sys::ARRAY, VALUE_SIZE, 1)
            .map(|fd| CounterMap { fd })
            .map_err(Refused::new(Step::MakeMap))
    }

    /// The counters now. Each is exact; a packet between the two reads may be in one of them only.
    ///
    /// # Errors
    /// EPERM without CAP_BPF before Linux 5.19.
    pub fn read(&self) -> Result<Counters, Refused> {
        let [received, accepted] = sys::look_up(self.fd.as_fd(), 0).map_err(Refused::new(Step::ReadMap))?;
        Ok(Counters { received, accepted })
    }
}

/// 64-bit sums in the kernel, for programs of one's own: an array map.
#[derive(Debug)]
#[doc(alias = "BPF_MAP_TYPE_ARRAY")]
pub struct Sums {
    fd: OwnedFd,
}

impl Sums {
    /// `len` sums, all 0. Their indices are 32 bits wide.
    ///
    /// # Errors
    /// EPERM without CAP_BPF; ENOMEM; EINVAL for none.
    pub fn new(len: u32) -> Result<Sums, Refused> {
        sys::create_map(sys::ARRAY, 8, len).map(|fd| Sums { fd }).map_err(Refused::new(Step::MakeMap))
    }

    /// The sum at `index` now.
    ///
    /// # Errors
    /// ENOENT past the end; EPERM without CAP_BPF before Linux 5.19.
    pub fn read(&self, index: u32) -> Result<u64, Refused> {
        let [sum] = sys::look_up(self.fd.as_fd(), index).map_err(Refused::new(Step::ReadMap))?;
        Ok(sum)
    }
}

impl AsRawFd for Sums {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

/// A socket filter in the kernel. To be kept as long as it is attached, and until no CPU runs it any more.
#[derive(Debug)]
pub struct SocketFilter {
    fd: OwnedFd,
    /// Where it is attached by another program that jumps to it: that one, and the map it finds this one by, which is
    /// emptied when it is closed.
    jump: Option<(OwnedFd, OwnedFd)>,
}

/// A loaded program's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its id, for bpftool.
    pub id: u32,
    /// Bytes of machine code; `None`: the kernel interprets it (net.core.bpf_jit_enable = 0), or does not tell.
    pub jited: Option<u32>,
    /// Bytes of eBPF after the verifier; 0 where the kernel does not tell.
    pub translated: u32,
    /// Instructions the verifier went through, counting each time; 0 where the kernel does not tell (before 5.16).
    pub verified: u32,
}

impl SocketFilter {
    /// Loads a translated program that counts in `map`.
    ///
    /// # Errors
    /// [`Refused`]; the verifier's reason is in its log.
    pub fn load(program: &Translated, map: &CounterMap) -> Result<SocketFilter, Refused> {
        SocketFilter::load_insns(&program.insns(map.fd.as_raw_fd()))
    }

    /// Loads instructions; a map's fd stands in them.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_insns(insns: &[Insn]) -> Result<SocketFilter, Refused> {
        let source = match sys::load_socket_filter(insns, &mut []) {
            Ok(fd) => return Ok(SocketFilter { fd, jump: None }),
            Err(source) => source,
        };
        let mut refused = Refused { step: Step::Load, source, log: None };
        // Only a program that reached the verifier makes it write; asking for the log is dear, so only now.
        if !matches!(refused.source.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::ENOMEM)) {
            let mut log = vec![0; 1 << 20];
            match sys::load_socket_filter(insns, &mut log) {
                // It was for want of memory that has come back.
                Ok(fd) => return Ok(SocketFilter { fd, jump: None }),
                Err(_) => refused.log = last_lines(&log),
            }
        }
        Err(refused)
    }

    /// Replaces the filter of `socket`, in one step. Another CPU may run the old one a moment longer.
    ///
    /// A socket's filters may take no more memory than net.core.optmem_max (20 KiB before Linux 6.8: some 2500
    /// instructions of eBPF), the old one and the new one together. A program that is too large is attached by a small one that
    /// jumps to it.
    ///
    /// # Errors
    /// EPERM when the filter is locked (SO_LOCK_FILTER), ENOMEM when there is no memory even so. The old filter stays.
    pub fn attach(&mut self, socket: BorrowedFd<'_>) -> Result<(), Refused> {
        match sys::attach(socket, self.fd.as_fd()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {}
            result => return result.map_err(Refused::new(Step::Attach)),
        }
        if self.jump.is_none() {
            let map = sys::create_map(sys::PROGRAM_ARRAY, 4, 1).map_err(Refused::new(Step::MakeMap))?;
            sys::set_program(map.as_fd(), self.fd.as_fd()).map_err(Refused::new(Step::MakeMap))?;
            let program = sys::load_socket_filter(&jump_to(map.as_raw_fd()), &mut [])
                .map_err(Refused::new(Step::Load))?;
            self.jump = Some((program, map));
        }
        self.attach_again(socket)
    }

    /// Attaches it once more, where it was attached before.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn attach_again(&self, socket: BorrowedFd<'_>) -> Result<(), Refused> {
        let program = self.jump.as_ref().map_or(&self.fd, |(program, _)| program);
        sys::attach(socket, program.as_fd()).map_err(Refused::new(Step::Attach))
    }

    /// What the kernel made of it.
    ///
    /// # Errors
    /// EPERM without CAP_BPF before Linux 5.19.
    pub fn info(&self) -> Result<ProgramInfo, Refused> {
        let info = sys::program_info(self.fd.as_fd()).map_err(Refused::new(Step::Ask))?;
        let jited = (info.jited_prog_len > 0).then_some(info.jited_prog_len);
        Ok(ProgramInfo {
            id: info.id,
            jited,
            translated: info.xlated_prog_len,
            verified: info.verified_insns,
        })
    }

    /// Runs it on a packet of at least one byte, once or to measure `repeat` times: what it returned, and the mean time
    /// of a run in nanoseconds. `cb` is the packet's control block.
    ///
    /// # Errors
    /// EINVAL for an empty packet or one above a page; EPERM without privileges.
    pub fn test_run(&self, packet: &[u8], cb: [u32; 5], repeat: u32) -> Result<(u32, u32), Refused> {
        // The kernel takes an Ethernet header off.
        let data = [&[0; 14], packet].concat();
        let context = sys::SkBuff { cb, ..sys::SkBuff::default() };
        sys::test_run(self.fd.as_fd(), &data, &context, repeat).map_err(Refused::new(Step::Run))
    }
}

impl AsFd for SocketFilter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `net.core.bpf_jit_enable`: 0 the kernel interprets filters, 1 it makes machine code of them (2: and logs it). `None`:
/// it cannot be read, as in a network namespace that is not the first one; [`ProgramInfo::jited`] tells all the same.
pub fn jit_enable() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok()?.trim().parse().ok()
}

/// The end of the verifier's log, where the reason is.
fn last_lines(log: &[u8]) -> Option<String> {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(log.get(..end)?);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(12)..)?.join("\n");
    (!tail.is_empty()).then_some(tail)
}
