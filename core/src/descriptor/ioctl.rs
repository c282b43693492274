//! ioctl(2): one request, its checks in order, and what it asks of the tap.

use std::time::Duration;

use super::{Descriptor, Place, Timer};
use crate::abi::rules::{DirectionRule, Ilp32Rule, ImmediateRule, NameRule, TimevalCheck};
use crate::abi::{FilterSource, Flag, Request, Response};
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
    /// Count the descriptors attached to this interface.
    Count {
        /// Name of the interface.
        name: String,
    },
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

impl Descriptor {
    /// Whether the dialect has this request, and has it while locked.
    fn check_known(&self, request: &Request, caller: Caller) -> Result<(), Errno> {
        let op = request.op();
        let while_locked = match caller.while_locked {
            Some(while_locked) => while_locked,
            None => {
                // by whichever of its forms is allowed
                let mut rows = self.abi.requests.iter().filter(|row| row.op == op).peekable();
                rows.peek().ok_or(Errno::Inval)?;
                rows.any(|row| row.while_locked)
            }
        };
        let bound = self.locked && !(caller.root && self.abi.rules.root_ignores_lock);
        if bound && !while_locked { Err(Errno::Perm) } else { Ok(()) }
    }

    /// Applies one request, up to what the tap must do for it.
    ///
    /// # Errors
    /// Those of semantics.md sections 3, 8 and 11 for the dialect; nothing has changed then.
    pub fn ioctl(&mut self, request: Request, caller: Caller) -> Result<Effect, Errno> {
        if matches!(self.place, Place::Revoked) {
            return Err(Errno::BadF);
        }
        if self.abi.rules.poll.starts_timer {
            self.timer = Timer::Idle;
        }
        if self.abi.rules.ilp32 == Ilp32Rule::Last {
            self.ilp32 = caller.ilp32;
        }
        self.check_known(&request, caller)?;
        let marks = match self.abi.rules.ilp32 {
            Ilp32Rule::Layout => caller.ilp32 && caller.ilp32_request,
            Ilp32Rule::Any => caller.ilp32,
            Ilp32Rule::Last => false,
        };
        self.ilp32 |= marks;
        let done = |response| Ok(Effect::Done(response));
        match request {
            Request::GBlen => done(Response::U32(u32::try_from(self.bufsize).unwrap_or(u32::MAX))),
            Request::SBlen(size) => {
                let fixed = self.abi.rules.buffers_fix_bufsize && self.buffers.are_allocated();
                if self.attachment().is_some() || fixed {
                    return Err(Errno::Inval);
                }
                let size = size.clamp(self.abi.rules.bufsize_min, self.abi.rules.bufsize_max);
                if self.abi.rules.sblen_makes_buffers && !self.buffers.try_renew(size as usize) {
                    return Err(Errno::NoBufs);
                }
                self.bufsize = size as usize;
                done(Response::U32(size))
            }
            Request::GDlt => {
                let linktype = self.attached()?.interface.linktype;
                done(Response::U32(self.abi.dlt(linktype)))
            }
            Request::GDltList(room) => self.dlt_list(room),
            Request::SDlt(dlt) => {
                let interface = &self.attached()?.interface;
                let linktype = self.wanted_linktype(dlt).ok_or(Errno::Inval)?;
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
            Request::SWTimeout { sec, usec } => {
                self.wait_timeout = Some(wait_timeout(sec, usec)?);
                done(Response::Done)
            }
            Request::GWTimeout => {
                let timeout = self.wait_timeout.ok_or(Errno::NxIo)?;
                let sec = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
                done(Response::Timeval { sec, usec: i64::from(timeout.subsec_micros()) })
            }
            Request::DWTimeout => {
                self.wait_timeout = None;
                done(Response::Done)
            }
            Request::GStats => {
                let counters = self.counters;
                done(Response::Stats {
                    recv: counters.received,
                    drop: counters.dropped,
                    capt: counters.captured,
                })
            }
            Request::Immediate(value) => {
                match self.abi.rules.immediate {
                    ImmediateRule::Flag => self.immediate = value != 0,
                    ImmediateRule::FirstByte => self.immediate = value.to_ne_bytes()[0] != 0,
                    ImmediateRule::WaitTimeout => {
                        self.wait_timeout = (value != 0).then_some(Duration::ZERO);
                    }
                }
                done(Response::Done)
            }
            Request::SetF(source) => {
                let program = self.program(source)?;
                Ok(Effect::ReadFilter { program, queued: Queued::Flush })
            }
            Request::SetFnr(source) => {
                let program = self.program(source)?;
                let flush = program.is_none() && self.abi.rules.removing_filter_flushes;
                let queued = if flush { Queued::Flush } else { Queued::Keep };
                Ok(Effect::ReadFilter { program, queued })
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
            Request::GSeeSent => done(Response::U32(u32::from(self.direction_value & 2 != 0))),
            Request::SSeeSent(value) => {
                self.direction_value = if value == 0 { 1 } else { 3 };
                Ok(Effect::Direction(self.direction()))
            }
            Request::GDirection => done(Response::U32(self.direction_value)),
            Request::SDirection(value) => {
                self.direction_value = match self.abi.rules.direction {
                    DirectionRule::InInoutOut if value > 2 => return Err(Errno::Inval),
                    DirectionRule::ShowMask if value > 3 => return Err(Errno::Inval),
                    DirectionRule::HideMask => value & 3,
                    _ => value,
                };
                Ok(Effect::Direction(self.direction()))
            }
            Request::GFilDrop => done(Response::U32(self.filter_drop)),
            Request::SFilDrop(value) => match value {
                0 | 1 => {
                    self.filter_drop = value;
                    done(Response::Done)
                }
                // packets would have to be taken away from the host
                2 => Err(Errno::OpNotSupp),
                _ => Err(Errno::Inval),
            },
            Request::GFeedback => done(Response::U32(self.feedback)),
            Request::Feedback(value) => {
                self.feedback = value;
                done(Response::Done)
            }
            Request::GTStamp => done(Response::U32(self.tstamp)),
            Request::STStamp(value) => {
                // BPF_T_VALID: BPF_T_NONE takes no flags
                if value != 3 && (value & 3 == 3 || value & !0x303 != 0) {
                    return Err(Errno::Inval);
                }
                self.tstamp = value;
                done(Response::Done)
            }
            Request::GBufMode => done(Response::U32(1)),
            // as with net.bpf.zerocopy_enable=0
            Request::SBufMode(1) if self.buffers.are_allocated() => Err(Errno::Busy),
            Request::SBufMode(1) => done(Response::Done),
            Request::SBufMode(_) => Err(Errno::Inval),
            Request::SetVlanPcp(value) if value > 7 => Err(Errno::Inval),
            Request::SetVlanPcp(value) => {
                self.vlan_pcp = value;
                done(Response::Done)
            }
            Request::GetTc => done(Response::U32(self.traffic_class.cast_unsigned())),
            Request::SetTc(class) if !TRAFFIC_CLASSES.contains(&class) => Err(Errno::Inval),
            Request::SetTc(class) => {
                self.traffic_class = class;
                done(Response::Done)
            }
            Request::GWriteMax => done(Response::U32(self.write_max)),
            Request::SWriteMax(value) if value > WRITE_MAX => Err(Errno::Inval),
            Request::SWriteMax(value) => {
                self.write_max = value;
                done(Response::Done)
            }
            Request::GetFlag(flag) => done(Response::U32(u32::from(self.flags.is_set(flag)))),
            Request::SetFlag(flag, value) => {
                self.set_flag(flag, value)?;
                done(Response::Done)
            }
            Request::GetUuid => done(Response::Uuid(self.uuid)),
            Request::AttachCount(name) => Ok(Effect::Count { name: self.interface_name(&name)? }),
            Request::GIfAddr => {
                let interface = &self.attached()?.interface;
                if interface.loopback || interface.address.is_empty() {
                    return Err(Errno::Inval);
                }
                let room = interface.address.len().min(14);
                done(Response::LinkAddress(interface.address[..room].to_vec()))
            }
            Request::Zeros => done(Response::Done),
            Request::Refused(errno) => Err(errno),
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
            Request::SetPgrp(group) => {
                self.owner = group.checked_neg().ok_or(Errno::Inval)?;
                done(Response::Done)
            }
            Request::GetPgrp => done(Response::U32(self.owner.wrapping_neg().cast_unsigned())),
        }
    }

    /// The tap runs this filter now.
    pub fn commit_filter(&mut self, program: Option<Program>, queued: Queued) {
        self.writer = self.writer_after(program.as_ref(), queued);
        self.read_filter = program;
        if queued == Queued::Flush {
            self.reset();
        }
    }

    /// The tap sees every frame now.
    pub fn commit_promiscuous(&mut self) {
        if let Place::On(attachment) = &mut self.place {
            attachment.promiscuous = true;
        }
    }

    /// Promiscuous mode was asked for on the attached interface.
    pub fn is_promiscuous(&self) -> bool {
        self.attachment().is_some_and(|attachment| attachment.promiscuous)
    }

    /// bpf_check_upgrade: how many more filters a writer needs before it sees packets. One that does more than cut makes it
    /// a reader, and so does the second that only cuts.
    fn writer_after(&self, program: Option<&Program>, queued: Queued) -> u8 {
        const RET_K: u16 = 0x06;
        let Some(program) = program.filter(|_| self.writer > 0) else { return self.writer };
        let cuts_only = queued == Queued::Flush && matches!(program.insns(), [only] if only.code == RET_K);
        if cuts_only { self.writer - 1 } else { 0 }
    }

    /// The directions wanted once this filter is set, where that changes with it.
    pub fn direction_after(&self, program: Option<&Program>, queued: Queued) -> Option<Direction> {
        let becomes_reader = self.writer > 0 && self.writer_after(program, queued) == 0;
        becomes_reader.then(|| self.wanted_direction())
    }

    fn attached(&self) -> Result<&super::Attachment, Errno> {
        self.attachment().ok_or(Errno::Inval)
    }

    /// The link type BIOCSDLT means: DLT_PKTAP that nobody wanted is DLT_RAW (macOS).
    fn wanted_linktype(&self, dlt: u32) -> Option<Linktype> {
        let linktype = self.abi.linktype(dlt)?;
        let pktap = linktype == Linktype::PKTAP && self.abi.extended.is_some();
        Some(if pktap && !self.flags.is_set(Flag::WantPktap) { Linktype::RAW } else { linktype })
    }

    /// macOS's switches. What would need header compression, batches or the host's input is refused.
    fn set_flag(&mut self, flag: Flag, value: u32) -> Result<(), Errno> {
        match flag {
            Flag::HeaderCompression if value > 1 || self.attachment().is_some() => {
                return Err(Errno::Inval);
            }
            Flag::BatchWrite if value != 0 => {
                let fit = self.hdrcmplt && self.traffic_class == 0;
                return Err(if fit { Errno::OpNotSupp } else { Errno::Inval });
            }
            Flag::DivertIn => {
                self.attachment().ok_or(Errno::NxIo)?;
                return Err(if value == 0 { Errno::Inval } else { Errno::OpNotSupp });
            }
            _ => self.flags.set(flag, value != 0),
        }
        Ok(())
    }

    fn dlt_list(&self, room: Option<u32>) -> Result<Effect, Errno> {
        let types = &self.attached()?.interface.linktypes;
        let total = u32::try_from(types.len()).unwrap_or(u32::MAX);
        let copied = |n: usize| types.iter().take(n).map(|&linktype| self.abi.dlt(linktype)).collect();
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
        // its loop looks for a digit from the second character on
        let has_unit = name.iter().skip(1).any(u8::is_ascii_digit);
        let name = match self.abi.rules.name {
            NameRule::NeedsUnit if !has_unit => {
                let letter = |byte: &&u8| byte.is_ascii_alphabetic();
                (0..15).map(|i| name.get(i).filter(letter).copied().unwrap_or(b'0')).collect()
            }
            NameRule::NeedsUnit | NameRule::AsIs => name.to_vec(),
        };
        String::from_utf8(name).map_err(|_| Errno::NxIo)
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
            TimevalCheck::UpTo(_) | TimevalCheck::Clamp | TimevalCheck::Nanoseconds => {}
        }
        if rule.check == TimevalCheck::Nanoseconds {
            let nanos = nanoseconds(sec, usec)?;
            return u64::try_from(nanos / 1000).map_err(|_| Errno::Overflow);
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

/// macOS's SO_TC_ classes (SO_VALID_TC in its sys/socket.h).
const TRAFFIC_CLASSES: [i32; 11] = [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 10_002];

/// macOS's BPF_WRITE_MAX, bytes.
const WRITE_MAX: u32 = 16 << 20;

/// OpenBSD's TIMEVAL_TO_NSEC, with its limit.
fn nanoseconds(sec: i64, usec: i64) -> Result<u128, Errno> {
    if sec < 0 || !(0..1_000_000).contains(&usec) {
        return Err(Errno::Inval);
    }
    let nanos = u128::from(sec.unsigned_abs()) * 1_000_000_000 + u128::from(usec.unsigned_abs()) * 1000;
    // MAXTSLP
    if nanos < u128::from(u64::MAX) { Ok(nanos) } else { Err(Errno::Overflow) }
}

/// BIOCSWTIMEOUT's argument: at most five minutes.
fn wait_timeout(sec: i64, usec: i64) -> Result<Duration, Errno> {
    const LONGEST: u128 = 300_000_000_000;
    let nanos = nanoseconds(sec, usec)?;
    u64::try_from(nanos).ok().filter(|_| nanos <= LONGEST).map(Duration::from_nanos).ok_or(Errno::Inval)
}
