//! Messages of /dev/fuse, whole and spoiled: what the character plane reads of them, beside the offsets of
//! include/uapi/linux/fuse.h as literals.

use bpfdev::chardev::wire::{self, Header, IoctlIn, PollIn, ReadIn, WriteIn};

use super::harness::{Subject, must};
use super::random::Lcg;

/// The code that is fuzzed. Another than [`Ours`] shows that the check notices.
pub trait Code {
    /// [`Header::split`].
    fn split<'a>(&self, message: &'a [u8]) -> Option<(Header, &'a [u8])> {
        Header::split(message)
    }
    /// [`WriteIn::parse`].
    fn write<'a>(&self, body: &'a [u8]) -> Option<(WriteIn, &'a [u8])> {
        WriteIn::parse(body)
    }
    /// [`IoctlIn::parse`].
    fn ioctl<'a>(&self, body: &'a [u8]) -> Option<(IoctlIn, &'a [u8])> {
        IoctlIn::parse(body)
    }
}

/// The project's.
#[derive(Debug)]
pub struct Ours;

impl Code for Ours {}

/// The target.
pub fn subject(code: impl Code + 'static) -> Subject {
    Subject::new("fuse", make, move |message| check(&code, message))
}

/// FUSE_OPEN, READ, WRITE, RELEASE, INIT, INTERRUPT, DESTROY, IOCTL, POLL and the length of their bodies.
const BODIES: [(u32, usize); 9] =
    [(14, 8), (15, 40), (16, 40), (18, 24), (26, 64), (36, 8), (38, 0), (39, 32), (40, 24)];

fn make(rng: &mut Lcg) -> Vec<u8> {
    let (opcode, len) = rng.pick(&BODIES);
    let opcode = if rng.once_in(16) { rng.word() } else { opcode };
    let mut body = rng.bytes(len);
    if let 16 | 39 = opcode {
        let data = rng.pick(&[0, 1, 4, 8, 16, 32, 60, 144]);
        let at = if opcode == 16 { 16 } else { 24 };
        body[at..at + 4].copy_from_slice(&(data as u32).to_ne_bytes());
        let data = rng.bytes(data);
        body.extend(data);
    }
    let mut message = Vec::new();
    message.extend((40 + body.len() as u32).to_ne_bytes());
    message.extend(opcode.to_ne_bytes());
    let rest = rng.bytes(32);
    message.extend(rest);
    message.extend(body);
    match rng.below(4) {
        0 => {}
        1 => {
            rng.spoil(&mut message);
            let len = (message.len() as u32).to_ne_bytes();
            message.iter_mut().zip(len).for_each(|(to, from)| *to = from);
        }
        _ => rng.spoil(&mut message),
    }
    message
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The part of `whole` that `part` is.
fn place(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    start..start.wrapping_add(part.len())
}

fn check(code: &dyn Code, message: &[u8]) -> Result<(), String> {
    // struct fuse_in_header: len 0, opcode 4, unique 8, nodeid 16, uid 24, gid 28, pid 32, 40 bytes in all
    let whole = message.len() >= 40 && u32_at(message, 0) == Some(message.len() as u32);
    let split = code.split(message);
    must!(split.is_some() == whole, "a message of {} bytes: {split:?}", message.len());
    must!(wire::reply_of(message).is_some() == (message.len() >= 16), "a reply of {} bytes", message.len());
    must!(
        wire::init_max_write(message) == u32_at(message, 36),
        "max_write: {:?}",
        wire::init_max_write(message)
    );
    let body = match split {
        None => message,
        Some((header, body)) => {
            let ids = [header.opcode, header.uid, header.gid, header.pid].map(Some);
            must!(ids == [4, 24, 28, 32].map(|at| u32_at(message, at)), "{header:?}");
            let names = [header.unique, header.nodeid].map(Some);
            must!(names == [8, 16].map(|at| u64_at(message, at)), "{header:?}");
            must!(place(message, body) == (40..message.len()), "a body of {} bytes", body.len());
            body
        }
    };
    check_bodies(code, body)
}

/// Every body is read as any of them.
fn check_bodies(code: &dyn Code, body: &[u8]) -> Result<(), String> {
    let (u32_at, u64_at) = (|at| u32_at(body, at), |at| u64_at(body, at));
    must!(wire::first_u64(body) == u64_at(0), "the first word of {} bytes", body.len());

    // struct fuse_read_in: fh 0, offset 8, size 16, flags 32, 40 bytes in all, the last four padding
    let read = ReadIn::parse(body);
    must!(read.is_some() || body.len() < 40, "a READ of {} bytes", body.len());
    if let Some(ReadIn { fh, offset, size, flags }) = read {
        let right = [Some(fh), Some(offset)] == [u64_at(0), u64_at(8)];
        must!(right && [Some(size), Some(flags)] == [u32_at(16), u32_at(32)], "{read:?}");
    }

    // struct fuse_write_in: fh 0, offset 8, size 16, 40 bytes in all, then the data
    let size =
        u32_at(16).map(|size| size as usize).filter(|size| body.len() >= 40 && *size <= body.len() - 40);
    match (code.write(body), size) {
        (Some((WriteIn { fh, offset }, data)), Some(size)) => {
            must!([Some(fh), Some(offset)] == [u64_at(0), u64_at(8)], "a WRITE to {fh} at {offset}");
            must!(place(body, data) == (40..40 + size), "a WRITE of {size} bytes: {:?}", place(body, data));
        }
        (None, None) => {}
        (got, _) => return Err(format!("a WRITE of {size:?} bytes in {}: {got:?}", body.len())),
    }

    // struct fuse_ioctl_in: fh 0, flags 8, cmd 12, arg 16, in_size 24, out_size 28, 32 bytes in all, then what goes in
    let size =
        u32_at(24).map(|size| size as usize).filter(|size| body.len() >= 32 && *size <= body.len() - 32);
    match (code.ioctl(body), size) {
        (Some((IoctlIn { fh, flags, cmd, arg, out_size }, data)), Some(size)) => {
            must!([Some(fh), Some(arg)] == [u64_at(0), u64_at(16)], "an IOCTL on {fh} of {arg:#x}");
            let words = [flags, cmd, out_size].map(Some);
            must!(words == [8, 12, 28].map(u32_at), "an IOCTL: {words:?}");
            must!(place(body, data) == (32..32 + size), "an IOCTL of {size} bytes: {:?}", place(body, data));
        }
        (None, None) => {}
        (got, _) => return Err(format!("an IOCTL of {size:?} bytes in {}: {got:?}", body.len())),
    }

    // struct fuse_poll_in: fh 0, kh 8, flags 16, events 20
    let poll = PollIn::parse(body);
    must!(poll.is_some() == (body.len() >= 24), "a POLL of {} bytes", body.len());
    if let Some(PollIn { fh, kh, flags, events }) = poll {
        let right = [Some(fh), Some(kh)] == [u64_at(0), u64_at(8)];
        must!(right && [Some(flags), Some(events)] == [u32_at(16), u32_at(20)], "{poll:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::harness::tests::finds;
    use super::*;

    #[test]
    fn a_header_that_believes_its_length_is_found() {
        struct Believes;
        impl Code for Believes {
            fn split<'a>(&self, message: &'a [u8]) -> Option<(Header, &'a [u8])> {
                let mut whole = message.to_vec();
                whole.get_mut(..4)?.copy_from_slice(&(message.len() as u32).to_ne_bytes());
                Header::split(&whole).map(|(header, _)| (header, &message[40..]))
            }
        }
        finds(&subject(Believes), "a message of");
    }

    #[test]
    fn a_write_that_takes_all_there_is_is_found() {
        struct TakesAll;
        impl Code for TakesAll {
            fn write<'a>(&self, body: &'a [u8]) -> Option<(WriteIn, &'a [u8])> {
                WriteIn::parse(body).map(|(write, _)| (write, &body[40..]))
            }
        }
        finds(&subject(TakesAll), "a WRITE of");
    }

    #[test]
    fn an_ioctl_that_indexes_by_its_size_is_found() {
        struct Indexes;
        impl Code for Indexes {
            fn ioctl<'a>(&self, body: &'a [u8]) -> Option<(IoctlIn, &'a [u8])> {
                let size = u32_at(body, 24)? as usize;
                let data = body.get(32..).map(|data| &data[..size])?;
                IoctlIn::parse(body).map(|(ioctl, _)| (ioctl, data))
            }
        }
        finds(&subject(Indexes), "panic");
    }
}
