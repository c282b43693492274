//! ioctl(2): one request, its checks in order, and what it asks of the tap.

use super::{Descriptor, Timer};
use crate::abi::rules::{DirectionRule, NameRule, TimevalCheck};
use crate::abi::{FilterSource, Op, Request, Response};
use crate::backend::{Direction, Queued};
use crate::cbpf::{self, Program};
use crate::errno::Errno;
use crate::linktype::Linktype;

/// Who issues a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// It is a 32-bit process.
    pub ilp32: bool,
    /// The request's own layout is a 32-bit one.
    pub ilp32_request: bool,
    /// Its user is root.
    pub root: bool,
    /// The request's number is one that a locked descriptor still takes.
    pub while_locked: Option<bool>,
}

/// What a request comes down to. All but `Done` ask something of the tap first; the matching `commit_` ends it.
#[derive(Debug)]
pub enum Effect {
    /// It is done.
    Done(Response),
    /// Attach to this interface, then [`Descriptor::attach`].
    Attach {
        /// Name of the interface.
        name: String,
    },
    /// Present another link type of the attached interface.
    Linktype(Linktype),
    /// Set the tap's filter, then [`Descriptor::commit_filter`].
    ReadFilter {
        /// The program; `None` accepts all.
        program: Option<Program>,
        /// Whether buffers and counters go.
        queued: Queued,
    },
    /// Tell the tap which packets are wanted; the descriptor has changed already.
    Direction(Direction),
    /// Have the tap see every frame, then [`Descriptor::commit_promiscuous`].
    Promiscuous,
    /// The tap's queue and the counters go as well as the buffers, which are gone already.
    Flushed,
}

impl Request {
    /// The operation.
    pub const fn op(&self) -> Op {
        match self {
            Request::GBlen => Op::GBlen,
            Request::SBlen(_) => Op::SBlen,
            Request::GDlt => Op::GDlt,
            Request::GDltList(_) => Op::GDltList,
            Request::SDlt(_) => Op::SDlt,
            Request::Promisc => Op::Promisc,
            Request::Flush => Op::Flush,
            Request::GetIf => Op::GetIf,
            Request::SetIf(_) => Op::SetIf,
            Request::SRTimeout { .. } => Op::SRTimeout,
            Request::GRTimeout => Op::GRTimeout,
            Request::GStats => Op::GStats,
            Request::Immediate(_) => Op::Immediate,
            Request::SetF(_) => Op::SetF,
            Request::SetWf(_) => Op::SetWf,
            Request::SetFnr(_) => Op::SetFnr,
            Request::Version => Op::Version,
            Request::GRSig => Op::GRSig,
            Request::SRSig(_) => Op::SRSig,
            Request::GHdrCmplt => Op::GHdrCmplt,
            Request::SHdrCmplt(_) => Op::SHdrCmplt,
            Request::GDirection => Op::GDirection,
            Request::SDirection(_) => Op::SDirection,
            Request::GFeedback => Op::GFeedback,
            Request::Feedback(_) => Op::Feedback,
            Request::Lock => Op::Lock,
            Request::FionRead => Op::FionRead,
            Request::FionBio(_) => Op::FionBio,
            Request::FioAsync(_) => Op::FioAsync,
            Request::SetOwn(_) => Op::SetOwn,
            Request::GetOwn => Op::GetOwn,
        }
    }
}

impl Descriptor {
    /// Whether the dialect has this request, and has it while locked.
    fn check_known(&self, request: &Request, caller: Caller) -> Result<(), Errno> {
        let op = request.op();
        let while_locked = match caller.while_locked {
            Some(while_locked) => while_locked,
            None => self.abi.requests.iter().find(|row| row.op == op).ok_or(Errno::Inval)?.while_locked,
        };
        let bound = self.locked && !(caller.root && self.abi.rules.root_ignores_lock);
        if bound && !while_locked { Err(Errno::Perm) } else { Ok(()) }
    }

    /// Applies one request, up to what the tap must do for it.
    ///
    /// # Errors
    /// Those of semantics.md sections 3, 8 and 11 for the dialect; nothing has changed then.
    pub fn ioctl(&mut self, request: Request, caller: Caller) -> Result<Effect, Errno> {
        // any request stops the select timer
        self.timer = Timer::Idle;
        if caller.ilp32 && (caller.ilp32_request || self.abi.rules.any_request_marks_ilp32) {
            self.mark_ilp32();
        }
        self.check_known(&request, caller)?;
        let done = |response| Ok(Effect::Done(response));
        match request {
            Request::GBlen => done(Response::U32(u32::try_from(self.bufsize).unwrap_or(u32::MAX))),
            Request::SBlen(size) => {
                if self.attachment.is_some() {
                    return Err(Errno::Inval);
                }
                let size = size.clamp(self.abi.rules.bufsize_min, self.abi.rules.bufsize_max);
                self.bufsize = size as usize;
                done(Response::U32(size))
            }
            Request::GDlt => done(Response::U32(self.attached()?.interface.linktype.0)),
            Request::GDltList(room) => self.dlt_list(room),
            Request::SDlt(dlt) => {
                let interface = &self.attached()?.interface;
                let linktype = Linktype(dlt);
                if linktype == interface.linktype {
                    done(Response::Done)
                } else if interface.linktypes.contains(&linktype) {
                    Ok(Effect::Linktype(linktype))
                } else {
                    Err(Errno::Inval)
                }
            }
            Request::Promisc => {
                if self.attached()?.promiscuous {
                    done(Response::Done)
                } else {
                    Ok(Effect::Promiscuous)
                }
            }
            Request::Flush => {
                self.reset();
                Ok(Effect::Flushed)
            }
            Request::GetIf => done(Response::Name(self.attached()?.interface.name.clone())),
            Request::SetIf(name) => Ok(Effect::Attach { name: self.interface_name(&name)? }),
            Request::SRTimeout { sec, usec } => {
                self.timeout_ticks = self.ticks(sec, usec)?;
                done(Response::Done)
            }
            Request::GRTimeout => done(self.timeval()),
            Request::GStats => {
                let counters = self.counters;
                done(Response::Stats {
                    recv: counters.received,
                    drop: counters.dropped,
                    capt: counters.captured,
                })
            }
            Request::Immediate(value) => {
                self.immediate = value != 0;
                done(Response::Done)
            }
            Request::SetF(source) => {
                let program = self.program(source)?;
                Ok(Effect::ReadFilter { program, queued: Queued::Flush })
            }
            Request::SetFnr(source) => {
                let program = self.program(source)?;
                Ok(Effect::ReadFilter { program, queued: Queued::Keep })
            }
            Request::SetWf(source) => {
                self.write_filter = self.program(source)?;
                if self.abi.rules.write_filter_flushes {
                    self.reset();
                    return Ok(Effect::Flushed);
                }
                done(Response::Done)
            }
            Request::Version => done(Response::Version { major: 1, minor: 1 }),
            Request::GRSig => done(Response::U32(self.signal)),
            Request::SRSig(signal) => {
                // NSIG is 33 on the BSDs; Linux's 65 is what a client's own header says here
                if signal >= 65 {
                    return Err(Errno::Inval);
                }
                self.signal = signal;
                done(Response::Done)
            }
            Request::GHdrCmplt => done(Response::U32(u32::from(self.hdrcmplt))),
            Request::SHdrCmplt(value) => {
                self.hdrcmplt = value != 0;
                done(Response::Done)
            }
            Request::GDirection => done(Response::U32(self.direction_value)),
            Request::SDirection(value) => {
                if self.abi.rules.direction == DirectionRule::InInoutOut && value > 2 {
                    return Err(Errno::Inval);
                }
                self.direction_value = value;
                Ok(Effect::Direction(self.direction()))
            }
            Request::GFeedback => done(Response::U32(self.feedback)),
            Request::Feedback(value) => {
                self.feedback = value;
                done(Response::Done)
            }
            Request::Lock => {
                self.locked = true;
                done(Response::Done)
            }
            Request::FionRead => {
                done(Response::U32(u32::try_from(self.readable_bytes()).unwrap_or(u32::MAX)))
            }
            Request::FionBio(value) => {
                self.nonblocking = value != 0;
                done(Response::Done)
            }
            Request::FioAsync(value) => {
                self.asynchronous = value != 0;
                done(Response::Done)
            }
            Request::SetOwn(owner) => {
                self.owner = owner;
                done(Response::Done)
            }
            Request::GetOwn => done(Response::U32(self.owner.cast_unsigned())),
        }
    }

    /// The tap runs this filter now.
    pub fn commit_filter(&mut self, program: Option<Program>, queued: Queued) {
        self.read_filter = program;
        if queued == Queued::Flush {
            self.reset();
        }
    }

    /// The tap sees every frame now.
    pub fn commit_promiscuous(&mut self) {
        if let Some(attachment) = &mut self.attachment {
            attachment.promiscuous = true;
        }
    }

    /// Promiscuous mode was asked for on the attached interface.
    pub fn is_promiscuous(&self) -> bool {
        self.attachment.as_ref().is_some_and(|attachment| attachment.promiscuous)
    }

    fn attached(&self) -> Result<&super::Attachment, Errno> {
        self.attachment.as_ref().ok_or(Errno::Inval)
    }

    fn mark_ilp32(&mut self) {
        if self.ilp32 {
            return;
        }
        self.ilp32 = true;
        let header = self.header();
        if let Some(attachment) = &mut self.attachment {
            attachment.hdrlen = header.hdrlen(attachment.interface.linktype.header_len());
        }
    }

    fn dlt_list(&self, room: Option<u32>) -> Result<Effect, Errno> {
        let types = &self.attached()?.interface.linktypes;
        let total = u32::try_from(types.len()).unwrap_or(u32::MAX);
        let copied = |n: usize| types.iter().take(n).map(|linktype| linktype.0).collect();
        Ok(Effect::Done(match room {
            None => Response::DltList { count: Some(total), list: Vec::new(), error: None },
            Some(room) if room < total => {
                let n = if self.abi.rules.dlt_list_partial { room as usize } else { 0 };
                Response::DltList { count: None, list: copied(n), error: Some(Errno::NoMem) }
            }
            Some(_) => Response::DltList { count: Some(total), list: copied(types.len()), error: None },
        }))
    }

    /// The interface BIOCSETIF names; a name no interface can have is ENXIO like any unknown one.
    fn interface_name(&self, name: &[u8]) -> Result<String, Errno> {
        if self.abi.rules.name == NameRule::NeedsUnit && !name.iter().any(u8::is_ascii_digit) {
            return Err(Errno::NxIo);
        }
        String::from_utf8(name.to_vec()).map_err(|_| Errno::NxIo)
    }

    fn program(&self, source: FilterSource) -> Result<Option<Program>, Errno> {
        if source.len == 0 {
            let removes = self.abi.rules.empty_filter_ignores_pointer || source.null;
            return if removes { Ok(None) } else { Err(Errno::Inval) };
        }
        let insns = source.insns.ok_or(Errno::Inval)?;
        if source.null || insns.len() != source.len as usize {
            return Err(Errno::Inval);
        }
        cbpf::validate(&insns, self.abi.filter).map(Some).map_err(|_| Errno::Inval)
    }

    /// A time-out in ticks of the dialect.
    fn ticks(&self, sec: i64, usec: i64) -> Result<u64, Errno> {
        let rule = &self.abi.rules.timeout;
        let tick_us = i64::try_from(rule.tick.as_micros()).unwrap_or(1);
        let hz = 1_000_000 / tick_us;
        match rule.check {
            TimevalCheck::None => {
                let ticks = sec.wrapping_mul(hz).wrapping_add(usec / tick_us);
                return Ok(if ticks == 0 && (sec, usec) != (0, 0) { 1 } else { ticks.cast_unsigned() });
            }
            TimevalCheck::UpTo(limit) if sec > limit => return Err(Errno::Inval),
            TimevalCheck::UpTo(_) | TimevalCheck::Clamp => {}
        }
        if sec < 0 || !(0..1_000_000).contains(&usec) {
            return Err(Errno::Inval);
        }
        let part = if rule.round_up { (usec + tick_us - 1) / tick_us } else { usec / tick_us };
        let ticks = sec.saturating_mul(hz).saturating_add(part).min(i64::from(i32::MAX)).cast_unsigned();
        Ok(if ticks == 0 && (sec, usec) != (0, 0) { 1 } else { ticks })
    }

    fn timeval(&self) -> Response {
        let tick_us = u64::try_from(self.abi.rules.timeout.tick.as_micros()).unwrap_or(1);
        let hz = 1_000_000 / tick_us;
        let ticks = self.timeout_ticks;
        Response::Timeval { sec: (ticks / hz).cast_signed(), usec: (ticks % hz * tick_us).cast_signed() }
    }
}
