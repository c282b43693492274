//! Clients that are restless, and clients that are wrong: any answer will do, but one there must be.

use std::os::fd::AsFd;
use std::time::Duration;

use bpfdev::DeviceFile;
use bpfdev_core::abi::{Encoding, FilterSource, Request};
use bpfdev_core::cbpf::Insn;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::{BpfFile, Interest};

use super::account::Order;
use super::board::Phase;
use super::client::{Me, Stop};
use super::{NEAR, sys};

/// What a request may be refused with, whoever asks for it: all but what says that the device itself is in trouble.
const ANY: [Errno; 19] = [
    Errno::Perm,
    Errno::Srch,
    Errno::Intr,
    Errno::NxIo,
    Errno::BadF,
    Errno::Again,
    Errno::NoMem,
    Errno::Fault,
    Errno::Busy,
    Errno::NoDev,
    Errno::Inval,
    Errno::NoTty,
    Errno::Range,
    Errno::MsgSize,
    Errno::OpNotSupp,
    Errno::NetDown,
    Errno::Already,
    Errno::NoBufs,
    Errno::AfNoSupport,
];

/// Opens, sets, resets and closes until it is time.
///
/// # Errors
/// Why it ended.
pub fn churn(me: &mut Me) -> Result<(), Stop> {
    const AT_ONCE: usize = 6;
    let mut files: Vec<(DeviceFile, Order, bool)> = Vec::new();
    let turns = 1 + me.rng.below(2000);
    for _ in 0..turns {
        if me.phase()? != Phase::Run {
            break;
        }
        if files.len() < AT_ONCE && (files.is_empty() || me.rng.once_in(8)) {
            let abi = me.abi();
            if let Some(file) = me.open(abi)? {
                file.set_nonblocking(true).map_err(|errno| Stop::Wrong(format!("O_NONBLOCK: {errno}")))?;
                files.push((file, Order::default(), false));
            }
            continue;
        }
        let at = me.rng.below(files.len() as u32) as usize;
        let Some((file, order, gone)) = files.get_mut(at) else { continue };
        if *gone || me.rng.once_in(12) {
            files.swap_remove(at);
            continue;
        }
        match me.rng.below(10) {
            0..=2 => *gone = read(me, file, order)?,
            3 => match file.poll(Interest::BOTH, Some(Duration::from_millis(me.rng.below(20).into()))) {
                Ok(_) => {}
                Err(errno) => me.refused("poll", file.abi(), errno, &ANY)?,
            },
            _ => {
                let request = request(me)?;
                me.ask(file, &request, &ANY)?;
            }
        }
        me.rest(Duration::from_millis(10));
    }
    Ok(())
}

/// A read; whether the interface is gone.
fn read(me: &mut Me, file: &DeviceFile, order: &mut Order) -> Result<bool, Stop> {
    let mut buf = match file.read_buffer() {
        Ok(buf) => buf,
        Err(errno) => {
            me.refused("GBlen", file.abi(), errno, &[Errno::BadF])?;
            return Ok(true);
        }
    };
    match file.read(&mut buf) {
        Ok(n) => {
            let found = order.read(buf.get(..n).unwrap_or_default(), &file.header());
            let wrong = |what| Stop::Wrong(format!("{}: {what}", file.abi().name));
            me.figures.read += found.map_err(wrong)?.names.len() as u64;
            Ok(false)
        }
        Err(errno) => {
            // EIO is OpenBSD's answer where the interface is gone
            let allowed = if file.abi().name == "openbsd" { &[Errno::Io][..] } else { &[] };
            if !ANY.contains(&errno) {
                me.refused("read", file.abi(), errno, allowed)?;
            }
            Ok(errno != Errno::Again)
        }
    }
}

fn request(me: &mut Me) -> Result<Request, Stop> {
    let wire = me.wire();
    Ok(match me.rng.below(13) {
        0..=1 => Request::SetIf(NEAR[wire].into()),
        2 => Request::SetIf(b"none".to_vec()),
        3 => Request::SBlen(me.rng.word() % (1 << 20)),
        4 => Request::Promisc,
        5 => Request::Flush,
        6 => {
            let insns = me.sieve(wire).program()?.unwrap_or_default();
            Request::SetF(FilterSource::new(&insns))
        }
        7 => {
            let count = me.rng.below(8);
            let insns: Vec<Insn> = (0..count)
                .map(|_| Insn::new(me.rng.below(256) as u16, me.rng.below(4) as u8, 0, me.rng.below(99)))
                .collect();
            Request::SetF(FilterSource::new(&insns))
        }
        8 => Request::SDirection(me.rng.below(4)),
        9 => Request::GStats,
        10 => Request::Immediate(me.rng.below(2)),
        11 => Request::SRTimeout { sec: me.rng.below(2).into(), usec: me.rng.below(2_000_000).into() },
        _ => Request::GDltList(me.rng.once_in(2).then_some(4)),
    })
}

/// Asks with pointers that lead nowhere, and for numbers that nothing has.
///
/// # Errors
/// Why it ended.
pub fn run(me: &mut Me) -> Result<(), Stop> {
    let turns = 1 + me.rng.below(300);
    for _ in 0..turns {
        if me.phase()? != Phase::Run {
            break;
        }
        let abi = me.abi();
        let Some(file) = me.open(abi)? else { continue };
        let wire = me.wire();
        file.set_nonblocking(true).map_err(|errno| Stop::Wrong(format!("O_NONBLOCK: {errno}")))?;
        if me.rng.once_in(2) && !me.attach(&file, wire)? {
            continue;
        }
        for _ in 0..me.rng.below(20) {
            me.figures.requests += 1;
            let address = me.rng.pick(&sys::NOWHERE);
            if me.rng.once_in(4) {
                let len = me.rng.pick(&[0, 1, 4096, 32_768, 1 << 20]);
                let _ = sys::read_nowhere(file.as_fd(), address, len); // any answer will do
                continue;
            }
            let number = if me.rng.once_in(3) {
                // bpf(4)'s groups: none whose requests the kernel answers itself
                me.rng.word() & 0xffff_00ff | u32::from(me.rng.pick(b"Bti")) << 8
            } else {
                let row = me.rng.pick(&abi.requests.iter().collect::<Vec<_>>());
                let encoding = abi.encodings.first().copied().unwrap_or(Encoding::Bsd);
                encoding.number(row.dir, row.group, row.number, row.arg.size())
            };
            let _ = sys::ioctl_nowhere(file.as_fd(), number, address); // any answer will do
        }
        // and it still answers what is asked rightly
        let gone = wire == super::DISTURBED && abi.name == "openbsd";
        me.ask(&file, &Request::GBlen, if gone { &[Errno::BadF] } else { &[] })?;
        drop(file);
        me.rest(Duration::from_millis(20));
    }
    Ok(())
}
