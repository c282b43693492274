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
