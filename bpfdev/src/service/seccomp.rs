//! seccomp(2) on the threads that take in clients' data, from the lists of [`super::syscalls`].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as ArgLen, SeccompCmpOp as Cmp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::syscalls;

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads requests and drives descriptors.
    Loop,
    /// Serves the directory.
    Names,
    /// Looks at callers, and attaches taps.
    Helper,
    /// The same, and reaches into callers' memory.
    Memory,
    /// Makes nodes of /dev/cuse.
    Nodes,
}

impl Role {
    const ALL: [Role; 5] = [Role::Loop, Role::Names, Role::Helper, Role::Memory, Role::Nodes];

    /// It has files to open.
    fn opens_files(self) -> bool {
        matches!(self, Role::Helper | Role::Memory | Role::Nodes)
    }
}

/// What becomes of a system call that is not on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// It fails with EPERM
    Deny,
    /// It ends the daemon: for tests
    Kill,
    /// It is made: no filter
    Off,
}

/// The filters of a daemon's threads.
#[derive(Clone, Debug, Default)]
pub struct Guard(Arc<[(Role, BpfProgram)]>);

impl Guard {
    /// Filters for this machine.
    ///
    /// # Errors
    /// There is no list for its processor.
    pub fn new(mode: Mode) -> io::Result<Guard> {
        let action = match mode {
            Mode::Deny => SeccompAction::Errno(libc::EPERM.cast_unsigned()),
            Mode::Kill => SeccompAction::KillProcess,
            Mode::Off => return Ok(Guard::default()),
        };
        let mut programs = Vec::new();
        for role in Role::ALL {
            if !role.opens_files() && mode == Mode::Kill {
                programs.push((role, no_files()?));
            }
            programs.push((role, program(role, mode, action.clone())?));
        }
        Ok(Guard(programs.into()))
    }

    /// Restricts the calling thread, for good, and those it makes.
    ///
    /// # Errors
    /// seccomp(2)'s.
    pub fn enter(&self, role: Role) -> io::Result<()> {
        let mut programs = self.0.iter().filter(|(of, _)| *of == role);
        programs.try_for_each(|(_, program)| apply_filter(program)).map_err(io::Error::other)
    }
}

fn arch() -> io::Result<TargetArch> {
    TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)
}

/// Refuses openat(2) with EPERM where all else that is not listed kills: malloc(3) looks for the number of processors in
/// /sys when it makes an arena, and does without.
fn no_files() -> io::Result<BpfProgram> {
    let rules = BTreeMap::from([(libc::SYS_openat, Vec::new())]);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch()?);
    filter.and_then(TryInto::try_into).map_err(io::Error::other)
}

fn program(role: Role, mode: Mode, refusal: SeccompAction) -> io::Result<BpfProgram> {
    let extra: &[&[_]] = match role {
        Role::Loop => &[syscalls::LOOP],
        Role::Names => &[syscalls::NAMES],
        Role::Helper => &[syscalls::HELPER],
        Role::Memory => &[syscalls::HELPER, syscalls::MEMORY],
        Role::Nodes => &[syscalls::NODES],
    };
    let calls = syscalls::COMMON.iter().chain(extra.iter().copied().flatten());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.map(|&call| (call, Vec::new())).collect();
    if !role.opens_files() && mode == Mode::Kill {
        rules.insert(libc::SYS_openat, Vec::new()); // see no_files()
    }
    for (call, rule) in conditional(role)? {
        rules.entry(call).or_default().push(rule);
    }
    let filter =
        SeccompFilter::new(rules, refusal, SeccompAction::Allow, arch()?).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

/// System calls that are allowed with certain arguments only.
fn conditional(role: Role) -> io::Result<Vec<(i64, SeccompRule)>> {
    let rule = |call, argument, compare, value| {
        let condition = SeccompCondition::new(argument, ArgLen::Dword, compare, value);
        let rule = SeccompRule::new(vec![condition.map_err(io::Error::other)?]);
        Ok::<_, io::Error>((call, rule.map_err(io::Error::other)?))
    };
    let value = |number: i32| u64::from(number.cast_unsigned());
    /// PR_SET_VMA: malloc(3) gives its arenas names.
    const PR_SET_VMA: i32 = 0x5356_4d41;
    // Closing packet sockets may want one more (see the backend's reaper).
    let mut rules = vec![
        rule(libc::SYS_prctl, 0, Cmp::Eq, value(libc::PR_SET_NAME))?,
        rule(libc::SYS_prctl, 0, Cmp::Eq, value(PR_SET_VMA))?,
        rule(libc::SYS_socket, 0, Cmp::Eq, value(libc::AF_PACKET))?,
    ];
    match role {
        Role::Helper | Role::Memory => {
            // For reading only: /proc.
            let writing = value(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC);
            rules.push(rule(libc::SYS_openat, 2, Cmp::MaskedEq(writing), 0)?);
        }
        Role::Loop => {
            /// BPF_MAP_LOOKUP_ELEM: how many packets a filter has rejected.
            const LOOK_UP: u64 = 1;
            rules.push(rule(libc::SYS_bpf, 0, Cmp::Eq, LOOK_UP)?);
        }
        Role::Nodes => {
            // /dev/cuse; no other file is made.
            let making = value(libc::O_CREAT | libc::O_TRUNC);
            rules.push(rule(libc::SYS_openat, 2, Cmp::MaskedEq(making), 0)?);
        }
        Role::Names => {}
    }
    Ok(rules)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::sys::uio::{RemoteIoVec, process_vm_readv};

    use super::*;

    /// What `work` comes to on a thread of this role.
    fn guarded<R: Send + 'static>(role: Role, work: impl FnOnce() -> R + Send + 'static) -> R {
        let guard = Guard::new(Mode::Deny).unwrap();
        let thread = std::thread::spawn(move || {
            guard.enter(role).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    fn refused<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
    }

    #[test]
    fn no_thread_with_clients_data_starts_a_program_mounts_or_writes_a_file() {
        for role in Role::ALL {
            let ran = guarded(role, || std::process::Command::new("/bin/true").status());
            assert!(ran.is_err(), "{role:?}: {ran:?}");
            let file = std::env::temp_dir().join(format!("bpfdev-seccomp-{}", std::process::id()));
            assert!(refused(guarded(role, move || std::fs::write(file, "x"))), "{role:?}");
            let flags = nix::mount::MntFlags::MNT_DETACH;
            let unmounted = guarded(role, move || nix::mount::umount2("/nowhere", flags));
            assert_eq!(unmounted, Err(nix::errno::Errno::EPERM), "{role:?}");
            let connected = guarded(role, || std::net::UdpSocket::bind("127.0.0.1:0"));
            assert!(refused(connected), "{role:?}");
        }
    }

    #[test]
    fn only_helpers_read_files_and_other_processes() {
        let read = || std::fs::read_to_string("/proc/self/comm");
        assert!(guarded(Role::Helper, read).is_ok());
        assert!(refused(guarded(Role::Loop, read)) && refused(guarded(Role::Names, read)));
        for (role, allowed) in [(Role::Memory, true), (Role::Helper, false), (Role::Loop, false)] {
            let memory = guarded(role, || {
                let (from, mut to) = (7u64, [0; 8]);
                let remote = RemoteIoVec { base: (&raw const from).expose_provenance(), len: 8 };
                let own = nix::unistd::Pid::this();
                process_vm_readv(own, &mut [io::IoSliceMut::new(&mut to)], &[remote])
            });
            assert_eq!(memory, if allowed { Ok(8) } else { Err(nix::errno::Errno::EPERM) }, "{role:?}");
        }
        guarded(Role::Loop, || std::thread::spawn(|| ()).join().unwrap());
        let off = Guard::new(Mode::Off).unwrap();
        assert!(off.enter(Role::Loop).is_ok() && read().is_ok());
    }
}
