//! How an ioctl's argument comes here and its answer goes back: where the transports differ.
//!
//! A file's ioctl (FUSE) is restricted: the kernel reads the number as Linux's and copies what that says; the rest, another
//! encoding's argument and what pointers lead to, is in the memory of the calling thread ([`Memory`]), for a helper. A
//! device's (CUSE) is not: the kernel copies nothing at first, and what it is asked for when the request comes again
//! (RETRY). So the daemon touches no memory but its own, and nothing waits.

use bpfdev_core::abi::arg::NoMemory;
use bpfdev_core::abi::{Abi, Arg, Call, CallerMemory, Dir, Encoding, Op, Request, Response, Row};
use bpfdev_core::errno::Errno;

use super::caller::Memory;
use super::request::Ioctl;
use super::wire::{IOCTL_UNRESTRICTED, Part};

/// Linux's own FIONREAD. Of a regular file the VFS answers it; of a device it comes here.
static FIONREAD: Row = Row {
    name: "FIONREAD",
    op: Op::FionRead,
    dir: Dir::Out,
    group: b'T',
    number: 0x1b,
    arg: Arg::U32,
    while_locked: true,
};

/// Link types that an interface may have at most; more room for them is not asked for.
const MOST_LINKTYPES: u32 = 256;

/// The way to the caller's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The kernel copies by the number, a helper the rest.
    Thread,
    /// The kernel copies what it is asked for.
    Retry,
}

impl Reach {
    /// That of an IOCTL with these flags.
    pub fn of(flags: u32) -> Reach {
        if flags & IOCTL_UNRESTRICTED == 0 { Reach::Thread } else { Reach::Retry }
    }

    /// The request that a number means.
    pub fn decode(self, abi: &Abi, number: u32) -> Call {
        const NUMBER: u32 = (FIONREAD.group as u32) << 8 | FIONREAD.number as u32;
        match self {
            Reach::Retry if number == NUMBER => Call { row: &FIONREAD, size: 4, encoding: Encoding::Linux },
            _ => abi.decode_or_refuse(number),
        }
    }
}

/// What is to be done for an argument.
#[derive(Debug)]
pub enum Fetch {
    /// Nothing: here it is.
    Done(Request),
    /// A helper reads it: [`read_memory`].
    Helper,
    /// The kernel is to copy these parts in, make room for those out, and ask again.
    Retry {
        /// In this order.
        input: Vec<Part>,
        /// In this order.
        output: Vec<Part>,
    },
}

/// Decodes an ioctl's argument, as far as that can be done here; `data` is what the kernel has copied.
///
/// # Errors
/// `Fault`: the argument has changed since the kernel was asked for what it points to.
pub fn fetch(ioctl: &mut Ioctl, data: &[u8]) -> Result<Fetch, Errno> {
    let call = ioctl.call;
    match ioctl.reach {
        Reach::Thread => {
            ioctl.arg = data.to_vec();
            if call.arg_in() <= data.len() && !call.needs_memory() {
                return call.parse(data, &mut NoMemory).map(Fetch::Done);
            }
            Ok(Fetch::Helper)
        }
        Reach::Retry => retry(ioctl, data),
    }
}

fn retry(ioctl: &mut Ioctl, data: &[u8]) -> Result<Fetch, Errno> {
    let call = ioctl.call;
    let part = |len: usize| (len > 0).then_some(Part { address: ioctl.address, len });
    let (input, output) = (part(call.arg_in()), part(call.arg_out()));
    let again = |input: Option<Part>, more_in: Option<Part>, output: Option<Part>, more_out: Option<Part>| {
        let parts = |first: Option<Part>, second: Option<Part>| first.into_iter().chain(second).collect();
        Ok(Fetch::Retry { input: parts(input, more_in), output: parts(output, more_out) })
    };
    let (Some((arg, pointed)), true) =
        (data.split_at_checked(call.arg_in()), ioctl.out_size >= call.arg_out())
    else {
        return again(input, None, output, None);
    };
    ioctl.arg = arg.to_vec();
    let mut parsed = arg.to_vec();
    if ioctl.caller.ilp32 {
        call.widen(&mut parsed);
    }
    let mut memory = Copied { here: pointed, missing: None };
    let request = call.parse(&parsed, &mut memory);
    match memory.missing {
        Some(missing) if pointed.is_empty() => return again(input, Some(missing), output, None),
        Some(_) => return Err(Errno::Fault),
        None => {}
    }
    let request = request?;
    if let Request::GDltList(Some(count)) = request
        && count > 0
        && ioctl.out_size == call.arg_out()
    {
        let (_, address) = call.pointer(&parsed)?;
        let list = Part { address, len: count.min(MOST_LINKTYPES) as usize * 4 };
        return again(input, None, output, Some(list));
    }
    ioctl.arg = parsed;
    Ok(Fetch::Done(request))
}

/// What the kernel has copied of the memory that a pointer leads to, and where it must copy from.
#[derive(Debug)]
struct Copied<'a> {
    here: &'a [u8],
    missing: Option<Part>,
}

impl CallerMemory for Copied<'_> {
    fn read(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        if self.here.len() == buf.len() {
            buf.copy_from_slice(self.here);
            return Ok(());
        }
        self.missing = Some(Part { address, len: buf.len() });
        Err(Errno::Fault)
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::Fault)
    }
}

/// Fetches and decodes the argument of a [`Fetch::Helper`], on a helper.
///
/// # Errors
/// `OpNotSupp`: the caller has no number here; `Fault`: its memory cannot be read.
pub fn read_memory(ioctl: &mut Ioctl) -> Result<Request, Errno> {
    let mut memory = Memory::of(ioctl.tid).ok_or(Errno::OpNotSupp)?;
    let wanted = ioctl.call.arg_in();
    if ioctl.arg.len() < wanted {
        // A number that the kernel reads as output only: it copied nothing in.
        ioctl.arg.resize(wanted, 0);
        memory.read(ioctl.address, &mut ioctl.arg)?;
    }
    if ioctl.caller.ilp32 {
        ioctl.call.widen(&mut ioctl.arg);
    }
    ioctl.call.parse(&ioctl.arg, &mut memory)
}

/// Whether a helper must write an answer to the caller's memory: a list, or what the kernel does not take for output.
pub fn is_written_by_helper(ioctl: &Ioctl, response: &Response) -> bool {
    let list = matches!(response, Response::DltList { list, .. } if !list.is_empty());
    ioctl.reach == Reach::Thread && (list || ioctl.call.arg_out() > ioctl.out_size)
}

/// Makes an ioctl's answer and writes to the caller's memory what the kernel will not, on a helper.
///
/// # Errors
/// Those of [`Call::reply`].
pub fn write_memory(ioctl: &Ioctl, response: &Response) -> Result<Vec<u8>, Errno> {
    let mut memory = Memory::of(ioctl.tid).ok_or(Errno::OpNotSupp)?;
    let bytes = ioctl.call.reply(response, &ioctl.arg, &mut memory)?;
    if bytes.len() > ioctl.out_size {
        // A number that the kernel reads as input only.
        memory.write(ioctl.address, &bytes)?;
        return Ok(Vec::new());
    }
    Ok(bytes)
}

/// The answer of an ioctl whose every byte the kernel copies: what it returns, and the bytes.
pub fn reply(ioctl: &Ioctl, response: &Response) -> (Result<(), Errno>, Vec<u8>) {
    let mut list = Written::default();
    let (result, mut bytes) = match ioctl.call.reply(response, &ioctl.arg, &mut list) {
        Ok(bytes) => (Ok(()), bytes),
        // The argument stays as it is, and in front of a list that is there in spite of the error.
        Err(errno) if !list.0.is_empty() => {
            (Err(errno), ioctl.arg.get(..ioctl.call.arg_out()).unwrap_or_default().to_vec())
        }
        Err(errno) => return (Err(errno), Vec::new()),
    };
    bytes.append(&mut list.0);
    if bytes.len() > ioctl.out_size {
        return (Err(Errno::Fault), Vec::new());
    }
    (result, bytes)
}

/// What is written behind the argument: the list it points to.
#[derive(Debug, Default)]
struct Written(Vec<u8>);

impl CallerMemory for Written {
    fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::Fault)
    }

    fn write(&mut self, _: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::Arc;

    use bpfdev_core::abi::freebsd::FREEBSD;
    use bpfdev_core::abi::linux::LINUX;
    use bpfdev_core::abi::macos::MACOS;
    use bpfdev_core::file::Caller;

    use super::super::channel::{Asker, Channel};
    use super::super::wire::{Header, IOCTL_32BIT};
    use super::*;

    /// Where the caller's argument is.
    const ARG: u64 = 0x7000;

    fn ioctl(abi: &Abi, number: u32, flags: u32, out_size: usize) -> Ioctl {
        let device = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let header = Header { len: 40, opcode: 39, unique: 1, nodeid: 1, uid: 0, gid: 0, pid: 1 };
        let reach = Reach::of(flags);
        let call = reach.decode(abi, number);
        let caller = Caller { ilp32: flags & IOCTL_32BIT != 0, ..Caller::default() };
        let asker = Asker::new(&Arc::new(Channel::new(device)), &header);
        Ioctl { asker, fh: 1, tid: 1, uid: 0, call, caller, reach, address: ARG, arg: Vec::new(), out_size }
    }

    /// What is done for a number when the kernel has copied this much, with so much room.
    fn decide(abi: &Abi, number: u32, flags: u32, data: &[u8], out_size: usize) -> Result<Fetch, Errno> {
        fetch(&mut ioctl(abi, number, IOCTL_UNRESTRICTED | flags, out_size), data)
    }

    fn retries(fetched: Result<Fetch, Errno>, wanted_in: &[(u64, usize)], wanted_out: &[(u64, usize)]) {
        let Ok(Fetch::Retry { input, output }) = fetched else { panic!("{fetched:?}") };
        let found = |parts: Vec<Part>| parts.iter().map(|part| (part.address, part.len)).collect::<Vec<_>>();
        assert_eq!((found(input), found(output)), (wanted_in.to_vec(), wanted_out.to_vec()));
    }

    fn is(fetched: Result<Fetch, Errno>, wanted: &Request) {
        let Ok(Fetch::Done(request)) = fetched else { panic!("{fetched:?}") };
        assert_eq!(request, *wanted);
    }

    fn pair(count: u32, pointer: u64) -> Vec<u8> {
        [&count.to_ne_bytes()[..], &[0; 4], &pointer.to_ne_bytes()].concat()
    }

    const GBLEN: u32 = 0x4004_4266;
    const SBLEN: u32 = 0xc004_4266;
    const SETIF: u32 = 0x8020_426c;
    const SETF: u32 = 0x8010_4267;
    const GDLTLIST: u32 = 0xc010_4279;
    const FLUSH: u32 = 0x2000_4268;

    #[test]
    fn the_kernel_is_asked_for_the_argument_and_nothing_else() {
        for abi in [&FREEBSD, &LINUX] {
            retries(decide(abi, GBLEN, 0, &[], 0), &[], &[(ARG, 4)]);
            is(decide(abi, GBLEN, 0, &[], 4), &Request::GBlen);
            retries(decide(abi, SBLEN, 0, &[], 0), &[(ARG, 4)], &[(ARG, 4)]);
            is(decide(abi, SBLEN, 0, &8192u32.to_ne_bytes(), 4), &Request::SBlen(8192));
            retries(decide(abi, SETIF, 0, &[], 0), &[(ARG, 32)], &[]);
            is(decide(abi, FLUSH, 0, &[], 0), &Request::Flush);
        }
        // Linux's encoding of the same
        retries(decide(&LINUX, 0x8004_4266, 0, &[], 0), &[], &[(ARG, 4)]);
        let unknown = decide(&FREEBSD, 0xc020_4242, 0, &[], 0);
        is(unknown, &Request::Refused(Errno::Inval));
    }

    #[test]
    fn a_pointer_is_followed_once_and_only_as_far_as_it_was_when_the_kernel_was_asked() {
        let program = pair(2, 0x9000);
        retries(decide(&FREEBSD, SETF, 0, &program, 0), &[(ARG, 16), (0x9000, 16)], &[]);
        let both = [&program[..], &[6, 0, 0, 0, 1, 0, 0, 0], &[6, 0, 0, 0, 2, 0, 0, 0]].concat();
        let Ok(Fetch::Done(Request::SetF(source))) = decide(&FREEBSD, SETF, 0, &both, 0) else { panic!() };
        assert_eq!((source.len, source.insns.unwrap().len()), (2, 2));
        // the caller has changed the count meanwhile: never again and again
        let changed = [&pair(3, 0x9000)[..], &both[16..]].concat();
        assert_eq!(decide(&FREEBSD, SETF, 0, &changed, 0).unwrap_err(), Errno::Fault);
        // nothing to be followed
        for nothing in [pair(0, 0x9000), pair(2, 0), pair(u32::MAX, 0x9000)] {
            assert!(matches!(decide(&FREEBSD, SETF, 0, &nothing, 0), Ok(Fetch::Done(Request::SetF(_)))));
        }
        // a 32-bit program's
        let small = [4u32.to_ne_bytes(), 0x9000u32.to_ne_bytes()].concat();
        let number = 0x8008_4267;
        let wanted = [(ARG, 8), (0x9000, 32)];
        retries(decide(&FREEBSD, number, IOCTL_32BIT, &small, 0), &wanted, &[]);
    }

    #[test]
    fn room_for_a_list_is_asked_for_behind_the_argument() {
        let list = pair(3, 0x9000);
        retries(decide(&FREEBSD, GDLTLIST, 0, &[], 0), &[(ARG, 16)], &[(ARG, 16)]);
        let room = [(ARG, 16), (0x9000, 12)];
        retries(decide(&FREEBSD, GDLTLIST, 0, &list, 16), &[(ARG, 16)], &room);
        is(decide(&FREEBSD, GDLTLIST, 0, &list, 28), &Request::GDltList(Some(3)));
        is(decide(&FREEBSD, GDLTLIST, 0, &pair(3, 0), 16), &Request::GDltList(None));
        let many = [(ARG, 16), (0x9000, 1024)];
        retries(decide(&FREEBSD, GDLTLIST, 0, &pair(u32::MAX, 0x9000), 16), &[(ARG, 16)], &many);
        // macOS: a 32-bit caller sets half of the pointer
        let packed = [3u32.to_ne_bytes(), 0x9000u32.to_ne_bytes(), [0xff; 4]].concat();
        let room = [(ARG, 12), (0x9000, 12)];
        retries(decide(&MACOS, 0xc00c_4279, IOCTL_32BIT, &packed, 12), &[(ARG, 12)], &room);
    }

    #[test]
    fn a_list_goes_out_behind_the_argument_also_with_an_error() {
        let mut ioctl = ioctl(&FREEBSD, GDLTLIST, IOCTL_UNRESTRICTED, 24);
        ioctl.arg = pair(2, 0x9000);
        let list = |list: Vec<u32>, error| Response::DltList { count: Some(9), list, error };
        let (result, bytes) = reply(&ioctl, &list(vec![1, 10], None));
        assert_eq!(
            (result, &bytes[..4], &bytes[16..]),
            (Ok(()), &[9, 0, 0, 0][..], &[1, 0, 0, 0, 10, 0, 0, 0][..])
        );
        let (result, bytes) = reply(&ioctl, &list(vec![1, 10], Some(Errno::NoMem)));
        assert_eq!((result, &bytes[..16]), (Err(Errno::NoMem), &pair(2, 0x9000)[..]));
        assert_eq!(bytes.len(), 24);
        assert_eq!(reply(&ioctl, &list(vec![1, 2, 3], None)), (Err(Errno::Fault), Vec::new()));
    }

    #[test]
    fn linuxs_fionread_is_this_devices_only_where_it_comes_here() {
        is(decide(&FREEBSD, 0x541b, 0, &[], 4), &Request::FionRead);
        assert_eq!(Reach::Thread.decode(&FREEBSD, 0x541b).row.op, Op::Refused(Errno::Inval));
    }

    #[test]
    fn a_restricted_ioctl_is_taken_as_far_as_the_kernel_has_copied_it() {
        let decide = |number, data: &[u8], out| fetch(&mut ioctl(&LINUX, number, 0, out), data);
        is(decide(SBLEN, &8192u32.to_ne_bytes(), 4), &Request::SBlen(8192));
        is(decide(GBLEN, &[0; 4], 0), &Request::GBlen);
        assert!(matches!(decide(SETIF, &[], 32), Ok(Fetch::Helper)), "a BSD's number: nothing is copied in");
        assert!(matches!(decide(0x4010_4267, &pair(1, 8), 0), Ok(Fetch::Helper)), "a pointer");
        let get = ioctl(&LINUX, GBLEN, 0, 0);
        assert!(is_written_by_helper(&get, &Response::U32(1)), "a BSD's number: nothing is copied out");
        let get = ioctl(&LINUX, GBLEN, IOCTL_UNRESTRICTED, 4);
        assert!(!is_written_by_helper(&get, &Response::U32(1)));
    }
}
