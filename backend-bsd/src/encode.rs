//! Requests as a client issues them: the inverse of the core's `Call`, by the same table.

use bpfdev_core::abi::{Abi, Arg, Dir, Encoding, FilterSource, Op, Request, Response, Row};
use bpfdev_core::errno::Errno;

/// What a pointer in an argument leads to.
#[derive(Debug)]
pub(crate) enum Pointee {
    /// Nothing: a null pointer.
    Null,
    /// Memory that is not there.
    Unreadable,
    /// Instructions (8 bytes each), or room for link types (4 bytes each).
    Words(Vec<u64>),
}

/// A request number and its argument.
#[derive(Debug)]
pub(crate) struct Encoded {
    row: &'static Row,
    number: u32,
    /// In words, so that it is aligned for each of its fields; at least `row.arg.size()` bytes.
    arg: Vec<u64>,
    pointee: Pointee,
}

/// No system reads a longer program than this before it refuses it (BPF_MAXINSNS is 512 everywhere).
const INSNS_MAX: u32 = 4096;
/// `sizeof(struct ifreq)` on Linux, which our header takes there.
pub(crate) const LINUX_IFREQ: usize = if size_of::<usize>() == 8 { 40 } else { 32 };
/// No system has more link types on one interface.
const LINKTYPES_MAX: u32 = 1024;

/// Whether this process would use this layout.
const fn is_native(arg: Arg) -> bool {
    let wide = size_of::<usize>() == 8;
    match arg {
        Arg::Program64 | Arg::DltList64 | Arg::Timeval64 | Arg::TimevalUsec32 => wide,
        Arg::Program32 | Arg::DltList32 | Arg::Timeval32 | Arg::Timeval12 => !wide,
        _ => true,
    }
}

/// The dialect's row for an operation: where there are several, the widest argument and then the last are the present
/// form, the others older ones.
fn row(abi: &Abi, op: Op) -> Option<&'static Row> {
    abi.requests.iter().filter(|row| row.op == op && is_native(row.arg)).max_by_key(|row| row.arg.size())
}

impl Encoded {
    /// Encodes `request` in the dialect's own numbers.
    ///
    /// # Errors
    /// `Inval` for a request that the dialect does not have: what its device would answer.
    pub(crate) fn new(abi: &'static Abi, request: &Request) -> Result<Encoded, Errno> {
        let row = row(abi, request.op()).ok_or(Errno::Inval)?;
        let encoding = abi.encodings.first().copied().unwrap_or(Encoding::Bsd);
        let size = match row.arg {
            Arg::AnyIfreq => LINUX_IFREQ,
            arg => arg.size(),
        };
        let number = encoding.number(row.dir, row.group, row.number, size);
        let arg = vec![0; size.div_ceil(8).max(1)];
        let mut this = Encoded { row, number, arg, pointee: Pointee::Null };
        match request {
            Request::SetIf(name) | Request::AttachCount(name) => this.put(0, &name[..name.len().min(16)]),
            Request::SRTimeout { sec, usec } => this.put_timeval(*sec, *usec),
            Request::SetF(source) | Request::SetWf(source) | Request::SetFnr(source) => {
                this.put_program(source);
            }
            Request::GDltList(room) => {
                // More room than there can be types is the same as enough.
                let room = room.map(|room| room.min(LINKTYPES_MAX));
                this.put(0, &room.unwrap_or(0).to_ne_bytes());
                if let Some(room) = room {
                    // Not a link type: what the device leaves alone can be told.
                    this.pointee = Pointee::Words(vec![u64::MAX; (room as usize).div_ceil(2).max(1)]);
                }
            }
            Request::SWTimeout { sec, usec } => this.put_timeval(*sec, *usec),
            _ => {
                if let Some(value) = request.value() {
                    this.put(0, &value.to_ne_bytes());
                }
            }
        }
        Ok(this)
    }

    /// Where in the argument the pointer is, in bytes.
    pub(crate) fn pointer_field(&self) -> Option<usize> {
        match self.row.arg {
            // Behind a 32-bit count, aligned.
            Arg::Program64 | Arg::Program32 | Arg::DltList64 | Arg::DltList32 => Some(size_of::<usize>()),
            Arg::DltListPacked => Some(4),
            _ => None,
        }
    }

    /// What the pointer leads to.
    pub(crate) fn pointee_mut(&mut self) -> &mut Pointee {
        &mut self.pointee
    }

    /// The number, and the argument for the device.
    pub(crate) fn parts(&mut self) -> (u32, &mut [u64]) {
        (self.number, &mut self.arg)
    }

    /// Writes a field; what lies outside the argument is left out.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        for (i, &byte) in (at..).zip(bytes) {
            if let Some(word) = self.arg.get_mut(i / 8) {
                let mut whole = word.to_ne_bytes();
                whole[i % 8] = byte;
                *word = u64::from_ne_bytes(whole);
            }
        }
    }

    fn put_timeval(&mut self, sec: i64, usec: i64) {
        #[allow(clippy::cast_possible_truncation)] // the field's own width
        match self.row.arg {
            Arg::Timeval32 => {
                self.put(0, &(sec as i32).to_ne_bytes());
                self.put(4, &(usec as i32).to_ne_bytes());
            }
            Arg::TimevalUsec32 | Arg::Timeval12 => {
                self.put(0, &sec.to_ne_bytes());
                self.put(8, &(usec as i32).to_ne_bytes());
            }
            _ => {
                self.put(0, &sec.to_ne_bytes());
                self.put(8, &usec.to_ne_bytes());
            }
        }
    }

    fn put_program(&mut self, source: &FilterSource) {
        self.put(0, &source.len.to_ne_bytes());
        self.pointee = match &source.insns {
            _ if source.null => Pointee::Null,
            None => Pointee::Unreadable,
            Some(insns) => {
                let mut words: Vec<u64> =
                    insns.iter().map(|insn| u64::from_ne_bytes(insn.to_bytes())).collect();
                // Never shorter than the length given.
                words.resize(words.len().max(source.len.clamp(1, INSNS_MAX) as usize), 0);
                Pointee::Words(words)
            }
        };
    }

    /// A field of the answer; zeros outside the argument.
    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| {
            let i = at + i;
            self.arg.get(i / 8).map_or(0, |word| word.to_ne_bytes()[i % 8])
        })
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.get(at))
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_ne_bytes(self.get(at))
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.get(at))
    }

    fn i32_at(&self, at: usize) -> i64 {
        i64::from(i32::from_ne_bytes(self.get(at)))
    }

    /// The link types that the device has written.
    fn linktypes(&self) -> Vec<u32> {
        let Pointee::Words(words) = &self.pointee else { return Vec::new() };
        let halves = words.iter().flat_map(|word| {
            let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
            [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
        });
        halves.take_while(|&linktype| linktype != u32::MAX).collect()
    }

    /// Decodes what the device answered.
    ///
    /// # Errors
    /// The device's own.
    pub(crate) fn response(&self, result: Result<(), Errno>) -> Result<Response, Errno> {
        if self.row.op == Op::GDltList {
            return match result {
                Ok(()) => {
                    Ok(Response::DltList { count: Some(self.u32_at(0)), list: self.linktypes(), error: None })
                }
                // As much as fitted may be there.
                Err(Errno::NoMem) => {
                    Ok(Response::DltList { count: None, list: self.linktypes(), error: Some(Errno::NoMem) })
                }
                Err(errno) => Err(errno),
            };
        }
        result?;
        Ok(match (self.row.op, self.row.arg) {
            (Op::GetIf, _) => {
                let name: [u8; 16] = self.get(0);
                let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                Response::Name(String::from_utf8_lossy(name).into_owned())
            }
            (Op::GRTimeout | Op::GWTimeout, Arg::Timeval32) => {
                Response::Timeval { sec: self.i32_at(0), usec: self.i32_at(4) }
            }
            (Op::GRTimeout | Op::GWTimeout, Arg::TimevalUsec32 | Arg::Timeval12) => {
                Response::Timeval { sec: self.i64_at(0), usec: self.i32_at(8) }
            }
            (Op::GRTimeout | Op::GWTimeout, _) => {
                Response::Timeval { sec: self.i64_at(0), usec: self.i64_at(8) }
            }
            (Op::GStats, Arg::Stats64) => {
                Response::Stats { recv: self.u64_at(0), drop: self.u64_at(8), capt: self.u64_at(16) }
            }
            (Op::GStats, _) => {
                Response::Stats { recv: u64::from(self.u32_at(0)), drop: u64::from(self.u32_at(4)), capt: 0 }
            }
            (Op::Version, _) => Response::Version {
                major: u16::from_ne_bytes(self.get(0)),
                minor: u16::from_ne_bytes(self.get(2)),
            },
            (
                Op::GBlen
                | Op::SBlen
                | Op::GDlt
                | Op::GRSig
                | Op::GHdrCmplt
                | Op::GDirection
                | Op::GFeedback
                | Op::FionRead
                | Op::GetOwn
                | Op::GetPgrp
                | Op::GSeeSent
                | Op::GFilDrop
                | Op::GTStamp
                | Op::GBufMode
                | Op::GetTc
                | Op::GWriteMax,
                _,
            ) => Response::U32(self.u32_at(0)),
            // BIOCGPKTHDRV2 is declared as going in: nothing comes out
            (Op::GetFlag(_), _) if self.row.dir == Dir::Out => Response::U32(self.u32_at(0)),
            // ifr_intval
            (Op::AttachCount, _) => Response::U32(self.u32_at(16)),
            (Op::GetUuid, _) => Response::Uuid(self.get(0)),
            // sa_data
            (Op::GIfAddr, _) => Response::LinkAddress(self.get::<6>(18).to_vec()),
            _ => Response::Done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi::{self, CallerMemory, Flag};
    use bpfdev_core::cbpf::Insn;

    /// The device's side: the memory a pointer leads to is at address 16.
    struct Memory<'a>(&'a mut Pointee);

    impl CallerMemory for Memory<'_> {
        fn read(&mut self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
            let Pointee::Words(words) = &self.0 else { return Err(Errno::Fault) };
            assert_eq!(address, 16);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            buf.copy_from_slice(bytes.get(..buf.len()).ok_or(Errno::Fault)?);
            Ok(())
        }

        fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
            let Pointee::Words(words) = &mut *self.0 else { return Err(Errno::Fault) };
            assert_eq!(address, 16);
            let mut all: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            all.get_mut(..bytes.len()).ok_or(Errno::Fault)?.copy_from_slice(bytes);
            *words = all.chunks_exact(8).map(|b| u64::from_ne_bytes(b.try_into().expect("8"))).collect();
            Ok(())
        }
    }

    /// Lets the core's own decoder look at what we encoded, and answer `response`.
    fn device(
        abi: &'static Abi,
        call: &mut Encoded,
        answer: &Response,
    ) -> (Request, Result<Response, Errno>) {
        let decoded = abi.decode(call.number).expect("a number of the dialect");
        assert_eq!(decoded.row.op, call.row.op);
        if let Some(field) = call.pointer_field() {
            let address = match call.pointee {
                Pointee::Null => 0usize,
                Pointee::Unreadable => 8,
                Pointee::Words(_) => 16,
            };
            call.put(field, &address.to_ne_bytes());
        }
        let bytes = |call: &Encoded| call.arg.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let arg = bytes(call);
        let request =
            decoded.parse(&arg[..decoded.arg_in()], &mut Memory(&mut call.pointee)).expect("parses");
        let result = decoded.reply(answer, &arg[..decoded.arg_in()], &mut Memory(&mut call.pointee));
        let result = result.map(|out| call.put(0, &out));
        (request, call.response(result))
    }

    fn program() -> FilterSource {
        FilterSource::new(&[Insn::new(0x28, 0, 0, 12), Insn::new(0x15, 0, 1, 0x800), Insn::stmt(6, 9)])
    }

    #[test]
    fn the_cores_decoder_reads_back_every_request_and_we_every_answer() {
        let u32s = |value| Response::U32(value);
        for abi in abi::ALL {
            let cases = [
                (Request::GBlen, u32s(4096)),
                (Request::SBlen(77), u32s(78)),
                (Request::GDlt, u32s(1)),
                (
                    Request::GDltList(Some(3)),
                    Response::DltList { count: Some(3), list: vec![1, 12, 108], error: None },
                ),
                (Request::GDltList(None), Response::DltList { count: Some(3), list: vec![], error: None }),
                (Request::SDlt(12), Response::Done),
                (Request::Promisc, Response::Done),
                (Request::Flush, Response::Done),
                (Request::GetIf, Response::Name("veth0".into())),
                (Request::SetIf(b"veth0".to_vec()), Response::Done),
                (Request::SRTimeout { sec: -1, usec: 999_999 }, Response::Done),
                (Request::GRTimeout, Response::Timeval { sec: 5, usec: 250_000 }),
                (Request::Immediate(1), Response::Done),
                (Request::SetF(program()), Response::Done),
                (Request::SetF(FilterSource { len: 0, null: true, insns: Some(vec![]) }), Response::Done),
                (Request::SetF(FilterSource { len: 2, null: false, insns: None }), Response::Done),
                (Request::SetWf(program()), Response::Done),
                (Request::SetFnr(program()), Response::Done),
                (Request::Version, Response::Version { major: 1, minor: 1 }),
                (Request::SRSig(23), Response::Done),
                (Request::GHdrCmplt, u32s(1)),
                (Request::SHdrCmplt(1), Response::Done),
                (Request::GDirection, u32s(2)),
                (Request::SDirection(2), Response::Done),
                (Request::GFeedback, u32s(1)),
                (Request::Feedback(1), Response::Done),
                (Request::Lock, Response::Done),
                (Request::FionRead, u32s(86)),
                (Request::FionBio(1), Response::Done),
                (Request::SetOwn(-5), Response::Done),
                (Request::GetOwn, u32s(5)),
                (Request::SetPgrp(5), Response::Done),
                (Request::GetPgrp, u32s(5)),
                (Request::SWTimeout { sec: 1, usec: 5 }, Response::Done),
                (Request::GWTimeout, Response::Timeval { sec: 5, usec: 250_000 }),
                (Request::DWTimeout, Response::Done),
                (Request::GSeeSent, u32s(1)),
                (Request::SSeeSent(1), Response::Done),
                (Request::GFilDrop, u32s(1)),
                (Request::SFilDrop(1), Response::Done),
                (Request::GTStamp, u32s(2)),
                (Request::STStamp(2), Response::Done),
                (Request::GBufMode, u32s(1)),
                (Request::SBufMode(1), Response::Done),
                (Request::SetVlanPcp(7), Response::Done),
                (Request::GetTc, u32s(100)),
                (Request::SetTc(100), Response::Done),
                (Request::GWriteMax, u32s(9000)),
                (Request::SWriteMax(9000), Response::Done),
                (Request::GetFlag(Flag::HeadDrop), u32s(1)),
                (Request::SetFlag(Flag::HeadDrop, 1), Response::Done),
                (Request::GetUuid, Response::Uuid([7; 16])),
                (Request::AttachCount(b"veth0".to_vec()), u32s(3)),
                (Request::GIfAddr, Response::LinkAddress(vec![2, 0, 0, 0, 0, 1])),
            ];
            for (request, answer) in cases {
                let Ok(mut call) = Encoded::new(abi, &request) else {
                    let known = abi.requests.iter().any(|row| row.op == request.op());
                    assert!(!known, "{}: {request:?} is a request of it", abi.name);
                    continue;
                };
                let size = abi.decode(call.number).expect("a number of the dialect").size;
                assert!(call.arg.len() * 8 >= size, "{}: room for {request:?}", abi.name);
                let (seen, said) = device(abi, &mut call, &answer);
                assert_eq!(seen, request, "{}", abi.name);
                assert_eq!(said, Ok(answer), "{}: {request:?}", abi.name);
            }
            let stats = Response::Stats { recv: 7, drop: 1, capt: 6 };
            let mut call = Encoded::new(abi, &Request::GStats).expect("every dialect has it");
            let expect = match call.row.arg {
                Arg::Stats64 => stats.clone(),
                _ => Response::Stats { recv: 7, drop: 1, capt: 0 },
            };
            assert_eq!(device(abi, &mut call, &stats).1, Ok(expect), "{}", abi.name);
        }
    }

    #[test]
    fn a_list_too_long_gives_what_fitted_and_the_error() {
        let answer = Response::DltList { count: None, list: vec![1, 12], error: Some(Errno::NoMem) };
        let mut call = Encoded::new(&abi::netbsd::NETBSD, &Request::GDltList(Some(2))).expect("known");
        assert_eq!(device(&abi::netbsd::NETBSD, &mut call, &answer).1, Ok(answer));
    }

    #[test]
    fn the_present_form_of_a_request_is_taken() {
        for (request, name) in [
            (Request::SetIf(vec![]), "BIOCSETIF"),
            (Request::GStats, "BIOCGSTATS"),
            (Request::SRTimeout { sec: 0, usec: 0 }, "BIOCSRTIMEOUT"),
            (Request::GRTimeout, "BIOCGRTIMEOUT"),
        ] {
            let call = Encoded::new(&abi::netbsd::NETBSD, &request).expect("known");
            assert_eq!(call.row.name, name);
        }
    }

    #[test]
    fn a_program_of_any_length_has_memory_behind_it() {
        let huge = FilterSource { len: u32::MAX, null: false, insns: Some(vec![]) };
        let call = Encoded::new(&abi::linux::LINUX, &Request::SetF(huge)).expect("known");
        let Pointee::Words(words) = call.pointee else { panic!("no words") };
        assert_eq!((words.len(), call.row.dir), (4096, Dir::In));
    }
}
