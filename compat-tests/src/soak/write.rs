//! Clients that write frames.

use std::time::Duration;

use bpfdev_core::abi::Request;
use bpfdev_core::errno::Errno;
use bpfdev_core::file::BpfFile;

use super::board::Phase;
use super::client::{DISTURBANCES, Me, Stop};
use super::frame::Name;
use super::{DISTURBED, WIRES, WITH_WRITERS};

/// Writes until it is time.
///
/// # Errors
/// Why it ended.
pub fn run(me: &mut Me) -> Result<(), Stop> {
    let wire = me.rng.pick(&[WITH_WRITERS, WITH_WRITERS, DISTURBED]);
    let abi = me.abi();
    let Some(file) = me.open(abi)? else { return Ok(()) };
    if !me.attach(&file, wire)? {
        return Ok(());
    }
    let disturbed = if wire == DISTURBED { &DISTURBANCES[..] } else { &[] };
    me.ask(&file, &Request::SHdrCmplt(1), disturbed)?;
    let seat = me.part.seat;
    let sender = u32::try_from(WIRES + seat).unwrap_or(u32::MAX);
    let pace = Duration::from_millis(me.rng.pick(&[2, 10, 40]));
    let count = 1 + me.rng.below(3000);
    for _ in 0..count {
        if me.phase()? != Phase::Run {
            break;
        }
        let number = me.board.written(seat)?;
        me.board.set_written(seat, number + 1)?;
        let frame = Name { sender, number }.frame();
        match file.write(&frame) {
            Ok(len) if len == frame.len() => me.figures.written += 1,
            Ok(len) => return Err(Stop::Wrong(format!("{len} of {} bytes were written", frame.len()))),
            Err(Errno::Intr) => {}
            Err(errno) => {
                me.refused("write", abi, errno, disturbed)?;
                if errno != Errno::NetDown && errno != Errno::NoBufs && errno != Errno::MsgSize {
                    return Err(Stop::Unplugged);
                }
            }
        }
        me.rest(pace);
    }
    Ok(())
}
