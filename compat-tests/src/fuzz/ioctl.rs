//! Request numbers and arguments of every dialect: what they decode to, and what they touch of the caller's memory.
//!
//! An input is the dialect, the number, the caller's memory and manners, and the argument. The layouts the check goes by are
//! abi.json's, as literals.

use std::ops::Range;

use bpfdev_core::abi::{self, Abi, Call, CallerMemory, Dir, Request, Response, Row};
use bpfdev_core::backend::Interface;
use bpfdev_core::descriptor::{Caller, Descriptor, Effect, Opened};
use bpfdev_core::errno::Errno;
use bpfdev_core::linktype::Linktype;

use super::harness::{Input, Subject, must};
use super::random::Lcg;

/// The code that is fuzzed. Another than [`Ours`] shows that the check notices.
pub trait Code {
    /// [`Abi::decode`].
    fn decode(&self, abi: &Abi, raw: u32) -> Option<Call> {
        abi.decode(raw)
    }
    /// [`Call::parse`].
    fn parse(&self, call: &Call, arg: &[u8], memory: &mut dyn CallerMemory) -> Result<Request, Errno> {
        call.parse(arg, memory)
    }
    /// [`Call::reply`].
    fn reply(
        &self,
        call: &Call,
        response: &Response,
        arg: &[u8],
        memory: &mut dyn CallerMemory,
    ) -> Result<Vec<u8>, Errno> {
        call.reply(response, arg, memory)
    }
}

/// The project's.
#[derive(Debug)]
pub struct Ours;

impl Code for Ours {}

/// The target.
pub fn subject(code: impl Code + 'static) -> Subject {
    Subject::new("ioctl", make, move |input| check(&code, input))
}

// Bits of an input's sixth byte: the caller, and how its memory behaves.
const FAULTS: u8 = 1;
const HALF_MAPPED: u8 = 2;
const READ_ONLY: u8 = 4;
const ATTACHED: u8 = 8;
const CUT_ARGUMENT: u8 = 16;
const ILP32: u8 = 32;
const ROOT: u8 = 64;

/// A number of a row. sys/ioccom.h: VOID 0x20000000, OUT 0x40000000, IN 0x80000000, size in bits 16 to 28;
/// asm-generic/ioctl.h: write (IN) 0x40000000, read (OUT) 0x80000000, size in bits 16 to 29.
pub fn number(row: &Row, size: usize, linux: bool) -> u32 {
    let direction = match (row.dir, linux) {
        (Dir::Void, true) => 0,
        (Dir::Void, false) => 0x2000_0000,
        (Dir::In, true) | (Dir::Out, false) => 0x4000_0000,
        (Dir::Out, true) | (Dir::In, false) => 0x8000_0000,
        (Dir::InOut, _) => 0xc000_0000,
    };
    direction | (size as u32) << 16 | u32::from(row.group) << 8 | u32::from(row.number)
}

fn make(rng: &mut Lcg) -> Vec<u8> {
    let dialect = rng.below(abi::ALL.len() as u32) as u8;
    let abi = abi::ALL[usize::from(dialect)];
    let of = if rng.once_in(8) { rng.pick(&abi::ALL) } else { abi };
    let row = &of.requests[rng.below(of.requests.len() as u32) as usize];
    let size = match rng.below(12) {
        0 => rng.pick(&[0, 4, 8, 12, 15, 16, 32, 40, 128, 144, 8191, 16_383]),
        _ => row.arg.size(),
    };
    let mut raw = number(row, size, rng.once_in(2));
    match rng.below(16) {
        0 => raw ^= 1 << rng.below(32),
        1 => raw = rng.word(),
        _ => {}
    }
    let mut manners = rng.word() as u8;
    if rng.once_in(2) {
        manners &= !(FAULTS | HALF_MAPPED | READ_ONLY | CUT_ARGUMENT);
    }
    let mut arg = Vec::new();
    if rng.below(4) > 0 {
        let count = match rng.below(6) {
            0 => rng.word(),
            1 => rng.pick(&[511, 512, 513, 4095, 4096, 4097, 0x1fff_ffff, 0x2000_0000, u32::MAX]),
            _ => rng.below(6),
        };
        let pointer = match rng.below(6) {
            0 => 0,
            1 => rng.long(),
            2 => rng.pick(&[1, 7, u64::from(u32::MAX), u64::MAX, u64::MAX - 7, 1 << 47]),
            _ => 0x1000,
        };
        arg.extend(count.to_ne_bytes());
        if size >= 16 {
            arg.extend([0; 4]);
        }
        arg.extend(pointer.to_ne_bytes());
        if rng.once_in(4) {
            arg[..4.min(size)].copy_from_slice(&b"em0\0"[..4.min(size)]);
        }
    }
    arg.resize(size.min(256), rng.word() as u8);
    if rng.once_in(4) {
        rng.spoil(&mut arg);
    }
    [&[dialect][..], &raw.to_le_bytes(), &[manners], &arg].concat()
}

/// The caller's memory, which remembers what was touched.
#[derive(Debug, Default)]
struct Memory {
    manners: u8,
    reads: Vec<Range<u128>>,
    writes: Vec<Range<u128>>,
}

/// From `address`, so many bytes.
fn span(address: u64, len: usize) -> Range<u128> {
    let start = u128::from(address);
    start..start + len as u128
}

impl CallerMemory for Memory {
    fn read(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.reads.push(span(address, buf.len()));
        let there = if self.manners & HALF_MAPPED != 0 { buf.len() / 2 } else { buf.len() };
        if self.manners & FAULTS != 0 {
            return Err(Errno::Fault);
        }
        // `ret #64`, again and again: valid as a program of any length
        for (to, from) in buf[..there].iter_mut().zip([6, 0, 0, 0, 64, 0, 0, 0].iter().cycle()) {
            *to = *from;
        }
        if there < buf.len() { Err(Errno::Fault) } else { Ok(()) }
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.writes.push(span(address, bytes.len()));
        if self.manners & (FAULTS | HALF_MAPPED | READ_ONLY) != 0 { Err(Errno::Fault) } else { Ok(()) }
    }
}

/// What the argument of a request with this name points at, and the bytes of one of it: bf_insns (8 each) or bfl_list (4).
/// abi.json: 16 bytes have the pointer at 8, 8 have a 32-bit one at 4, macOS's 12 a 64-bit one at 4.
fn pointee(name: &str, arg: &[u8]) -> Option<(u64, u32, usize)> {
    let each = match name {
        _ if name.contains("DLTLIST") => 4,
        "BIOCSETF" | "BIOCSETWF" | "BIOCSETFNR" | "BIOCSETF32" | "BIOCSETWF32" | "BIOCSETFNR32" => 8,
        _ => return None,
    };
    let word = |at: usize| Some(u32::from_ne_bytes(*arg.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u64::from_ne_bytes(*arg.get(at..)?.first_chunk()?));
    let pointer = match arg.len() {
        16 => long(8),
        12 => long(4),
        _ => word(4).map(u64::from),
    };
    Some((pointer?, word(0)?, each))
}

fn check(code: &dyn Code, input: &[u8]) -> Result<(), String> {
    let mut input = Input::new(input);
    let abi = abi::ALL[usize::from(input.byte()) % abi::ALL.len()];
    let raw = input.word();
    let manners = input.byte();
    let mut arg = input.rest().to_vec();
    let sizes = |row: &Row| [row.arg.size(), (raw >> 16 & 0x1fff) as usize, (raw >> 16 & 0x3fff) as usize];
    let Some(call) = code.decode(abi, raw) else {
        let rows = abi.requests.iter();
        let known = rows.filter(|row| {
            number(row, row.arg.size(), false) == raw
                || (abi.name == "linux" && number(row, row.arg.size(), true) == raw)
        });
        let names: Vec<_> = known.map(|row| row.name).collect();
        must!(names.is_empty(), "{}: {raw:#x} is {names:?}, and decodes to nothing", abi.name);
        return Ok(());
    };
    let row = call.row;
    let what = format!("{}: {} ({raw:#x})", abi.name, row.name);
    let right = sizes(row).into_iter().filter(|size| *size == call.size).any(|size| {
        number(row, size, false) == raw || (abi.name == "linux" && number(row, size, true) == raw)
    });
    must!(right, "{what} is another number, of {} bytes", call.size);
    let any_size = abi.name == "linux" && row.name.ends_with("ETIF") && call.size >= 16;
    must!(call.size == row.arg.size() || any_size, "{what}: {} bytes", call.size);
    let (goes_in, comes_out) = match row.dir {
        Dir::Void => (0, 0),
        Dir::In => (call.size, 0),
        Dir::Out => (0, call.size),
        Dir::InOut => (call.size, call.size),
    };
    must!((call.arg_in(), call.arg_out()) == (goes_in, comes_out), "{what}: bytes in and out");

    let cut = manners & CUT_ARGUMENT != 0 && arg.len() < goes_in;
    if !cut {
        arg.resize(goes_in, 0);
    }
    let points = pointee(row.name, &arg);
    let mut memory = Memory { manners, ..Memory::default() };
    let parsed = code.parse(&call, &arg, &mut memory);
    must!(memory.writes.is_empty(), "{what}: written to while it was read: {:x?}", memory.writes);
    must!(memory.reads.len() <= 1, "{what}: read more than once: {:x?}", memory.reads);
    if let Some(read) = memory.reads.first() {
        let allowed = points.filter(|(_, _, each)| *each == 8).map(|(at, len, _)| span(at, len as usize * 8));
        must!(allowed.as_ref() == Some(read), "{what}: read {read:x?}, where {allowed:x?} is named");
        must!(call.needs_memory(), "{what}: memory that it says it needs not");
    }
    let request = match parsed {
        Ok(request) => request,
        Err(errno) => {
            must!(errno == Errno::Fault && cut, "{what}: {errno} for an argument that is whole");
            return Ok(());
        }
    };
    let unread = !memory.reads.is_empty() && manners & (FAULTS | HALF_MAPPED) != 0;
    answer(code, abi, &call, request, (&arg, points), (manners, unread))
}

/// Has a descriptor answer, and the answer copied out; `unread`: the program could not be read.
fn answer(
    code: &dyn Code,
    abi: &'static Abi,
    call: &Call,
    request: Request,
    (arg, points): (&[u8], Option<(u64, u32, usize)>),
    (manners, unread): (u8, bool),
) -> Result<(), String> {
    let row = call.row;
    let what = format!("{}: {}", abi.name, row.name);
    let mut descriptor = Descriptor::new(abi, Opened::default());
    if manners & ATTACHED != 0 {
        descriptor.attach(ethernet(), false);
    }
    let caller = Caller {
        ilp32: manners & ILP32 != 0,
        ilp32_request: call.is_ilp32(),
        root: manners & ROOT != 0,
        while_locked: Some(row.while_locked),
    };
    let answered = descriptor.ioctl(request, caller);
    // semantics.md 8, "bad user pointer"
    must!(
        !unread || matches!(answered, Err(Errno::Inval)),
        "{what}: {answered:?} for a program that faulted"
    );
    let response = match answered {
        Ok(Effect::Done(response)) => response,
        Ok(_) => Response::Done,
        Err(_) => return Ok(()),
    };
    let mut memory = Memory { manners, ..Memory::default() };
    let result = code.reply(call, &response, arg, &mut memory);
    must!(memory.reads.is_empty(), "{what}: read for the answer: {:x?}", memory.reads);
    let list = points.filter(|(at, _, each)| *each == 4 && *at != 0).map(|(at, len, _)| (at, len));
    for write in &memory.writes {
        let allowed = list.map(|(at, len)| span(at, len as usize * 4));
        let inside = allowed.as_ref().is_some_and(|all| all.start <= write.start && write.end <= all.end);
        must!(inside, "{what}: wrote {write:x?}, where {allowed:x?} is named");
    }
    match result {
        Ok(out) => {
            must!(out.len() == call.arg_out(), "{what}: {} bytes out", out.len());
            if row.name.contains("DLTLIST") {
                must!(out.get(4..) == arg.get(4..), "{what}: more than bfl_len has changed");
            }
        }
        // semantics.md 3, "list too short": FreeBSD writes nothing, the others what fits
        Err(Errno::NoMem) if abi.name == "freebsd" || abi.name == "linux" => {
            must!(memory.writes.is_empty(), "{what}: ENOMEM, and written: {:x?}", memory.writes);
        }
        Err(Errno::NoMem) => must!(list.is_some_and(|(_, len)| len < 3), "{what}: ENOMEM with room for all"),
        Err(errno) => {
            let faulted = errno == Errno::Fault && manners & (FAULTS | HALF_MAPPED | READ_ONLY) != 0;
            must!(faulted && memory.writes.len() == 1, "{what}: {errno} for an answer");
        }
    }
    Ok(())
}

/// With three link types.
fn ethernet() -> Interface {
    Interface {
        name: "em0".to_owned(),
        index: 1,
        network: 0,
        linktype: Linktype::EN10MB,
        linktypes: vec![Linktype::EN10MB, Linktype::RAW, Linktype::NULL],
        loopback: false,
        address: vec![2, 0, 0, 0, 0, 1],
    }
}

#[cfg(test)]
mod tests {
    use super::super::harness::tests::finds;
    use super::*;

    /// Asks the caller's memory for what was not named.
    struct Touching<F>(F);

    impl<F: Fn(&Call, &[u8], &mut dyn CallerMemory)> Code for Touching<F> {
        fn parse(&self, call: &Call, arg: &[u8], memory: &mut dyn CallerMemory) -> Result<Request, Errno> {
            (self.0)(call, arg, memory);
            call.parse(arg, memory)
        }
    }

    #[test]
    fn reading_one_instruction_too_many_is_found() {
        struct OneMore;
        struct Longer<'a>(&'a mut dyn CallerMemory);
        impl CallerMemory for Longer<'_> {
            fn read(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
                self.0.read(address, &mut vec![0; buf.len() + 8])
            }
            fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
                self.0.write(address, bytes)
            }
        }
        impl Code for OneMore {
            fn parse(
                &self,
                call: &Call,
                arg: &[u8],
                memory: &mut dyn CallerMemory,
            ) -> Result<Request, Errno> {
                call.parse(arg, &mut Longer(memory))
            }
        }
        finds(&subject(OneMore), "is named");
    }

    #[test]
    fn reading_a_program_twice_is_found() {
        let twice = |call: &Call, arg: &[u8], memory: &mut dyn CallerMemory| {
            let _ = call.parse(arg, memory);
        };
        finds(&subject(Touching(twice)), "more than once");
    }

    #[test]
    fn following_the_pointer_of_a_null_program_is_found() {
        let null = |call: &Call, _: &[u8], memory: &mut dyn CallerMemory| {
            if call.row.name == "BIOCIMMEDIATE" {
                let _ = memory.read(0, &mut [0; 4]);
            }
        };
        finds(&subject(Touching(null)), "BIOCIMMEDIATE");
    }

    #[test]
    fn a_write_on_an_error_is_found() {
        struct WritesFirst;
        impl Code for WritesFirst {
            fn reply(
                &self,
                call: &Call,
                response: &Response,
                arg: &[u8],
                memory: &mut dyn CallerMemory,
            ) -> Result<Vec<u8>, Errno> {
                if let (Response::DltList { error: Some(_), .. }, Some((at, _, _))) =
                    (response, pointee(call.row.name, arg))
                {
                    memory.write(at, &[0; 4])?;
                }
                call.reply(response, arg, memory)
            }
        }
        finds(&subject(WritesFirst), "BIOCGDLTLIST");
    }

    #[test]
    fn a_number_of_another_size_is_found() {
        struct AnySize;
        impl Code for AnySize {
            fn decode(&self, abi: &Abi, raw: u32) -> Option<Call> {
                let row = |row: &&Row| {
                    u32::from(row.number) == raw & 0xff && u32::from(row.group) == raw >> 8 & 0xff
                };
                let found = abi.requests.iter().find(row);
                abi.decode(raw).or(found.map(|row| Call {
                    row,
                    size: row.arg.size(),
                    encoding: abi.encodings[0],
                }))
            }
        }
        finds(&subject(AnySize), "another number");
    }
}
