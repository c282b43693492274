//! The recorded filter programs, against the interpreter and against a descriptor.

use bpfdev_core::cbpf::{self, Insn, Program, Rules};

use super::answer::records;
use super::call::{Call, Trouble, World};
use super::emulated::O_NONBLOCK;
use super::file::Filter;
use super::hex;
use super::trace::{D, ioctl};

/// Judges the program by `rules`, and runs it on the packet both ways packets are kept.
///
/// # Errors
/// [`Trouble`]; a difference is a failure.
pub fn interpret(filter: &Filter, rules: &'static Rules) -> Result<(), Trouble> {
    let insns = hex::insns(&hex::program(&filter.prog, 0).map_err(Trouble::Fail)?);
    let packet = hex::decode(&filter.pkt).map_err(Trouble::Fail)?;
    let program = cbpf::validate(&insns, rules).ok();
    compare("valid", u8::from(program.is_some()), filter.valid)?;
    let run = |way: fn(&Program, &[u8], u32) -> u32| {
        program.as_ref().map(|program| way(program, &packet, filter.wirelen))
    };
    // what was recorded lay in one piece, and in one piece both ways are the same here
    compare("ret", run(Program::run), filter.ret)?;
    compare("ret over one piece", run(Program::run_contiguous), filter.ret)
}

fn compare<T: PartialEq + std::fmt::Debug>(what: &str, here: T, recorded: T) -> Result<(), Trouble> {
    if here == recorded {
        return Ok(());
    }
    Err(Trouble::fail(format!("{what}: recorded {recorded:?}, here {here:?}")))
}

/// Sets the program on a descriptor, and has the packet arrive.
///
/// # Errors
/// [`Trouble`]; a difference is a failure, a packet that cannot be sent a skip.
pub fn capture(filter: &Filter, world: &mut dyn World) -> Result<(), Trouble> {
    let abi = world.abi();
    let program = hex::program(&filter.prog, 0).map_err(Trouble::Fail)?;
    let packet = hex::decode(&filter.pkt).map_err(Trouble::Fail)?;
    let native: Vec<u8> = hex::insns(&program).iter().flat_map(|insn| insn.to_bytes()).collect();
    if program.is_empty() {
        return Err(Trouble::Skip("BIOCSETF removes the filter for a program of no instructions".into()));
    }
    for call in [
        Call::Open { path: "/dev/bpf".into(), flags: 2, name: D.into() },
        ioctl(abi, "BIOCSETIF", b"shmif0", None)?,
        ioctl(abi, "BIOCPROMISC", &[], None)?,
        Call::SetFlags { d: D.into(), flags: O_NONBLOCK },
    ] {
        if let Some(errno) = world.call(&call)?.errno {
            return Err(Trouble::fail(format!("beginning: {call:?}: {errno}")));
        }
    }
    let count = u32::try_from(program.len() / Insn::SIZE).unwrap_or(u32::MAX);
    let set = world.call(&ioctl(abi, "BIOCSETF", &count.to_ne_bytes(), Some(native))?)?;
    compare("BIOCSETF", set.errno.as_deref(), if filter.valid == 1 { None } else { Some("EINVAL") })?;
    let Some(ret) = filter.ret else { return Ok(()) };
    if packet.len() != filter.wirelen as usize || packet.len() < 14 {
        return Err(Trouble::Skip("its packet cannot be sent as it is".into()));
    }
    world.call(&Call::Receive { frame: packet.clone() })?;
    let answer = world.call(&Call::Read { d: D.into(), size: abi.rules.bufsize as usize })?;
    let here: Vec<_> = records(&answer.data, &abi.header).into_iter().map(|record| record.data).collect();
    let recorded: Vec<_> =
        (ret > 0).then(|| packet[..packet.len().min(ret as usize)].to_vec()).into_iter().collect();
    compare("captured", here, recorded)
}
