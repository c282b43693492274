//! The operations of traces.jsonl, and how they are played.

use std::time::Duration;

use bpfdev_core::abi::{Abi, Arg};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::{Record, number, records};
use super::call::{Answer, Argument, Call, Trouble, World};
use super::hex;
use super::script::{argument_size, request_number};

/// One recorded packet: offset, header length, captured length, length, sequence number.
type Packet = (usize, usize, u32, u32, Option<u16>);

/// One operation with what it answered.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // compat-tests/oracle/README.md has the list
pub enum Op {
    Rx {
        len: usize,
        seq: u16,
    },
    Write {
        len: usize,
        seq: u16,
        ret: i64,
    },
    Read {
        ret: i64,
        errno: Option<String>,
        packets: Vec<Packet>,
    },
    /// A read of one byte more, or less, than the buffer has.
    BadRead {
        ret: i64,
        errno: Option<String>,
    },
    FionRead {
        bytes: u64,
    },
    Stats {
        recv: u64,
        drop: u64,
        capt: u64,
    },
    Poll {
        revents: u32,
    },
    Flush,
    SetIf,
    Snap {
        len: u32,
    },
    NoFilter,
    /// A program that is refused.
    BadSetF {
        errno: Option<String>,
    },
    Immediate {
        value: u32,
    },
    SeeSent {
        value: u32,
    },
}

fn fields<T: DeserializeOwned>(name: &str, fields: &[Value]) -> Result<T, String> {
    serde_json::from_value(Value::Array(fields.to_vec())).map_err(|error| format!("{name:?}: {error}"))
}

/// Reads one operation.
///
/// # Errors
/// Says which operation is not known, or has wrong fields.
pub fn op(value: &Value) -> Result<Op, String> {
    let Some([Value::String(name), rest @ ..]) = value.as_array().map(Vec::as_slice) else {
        return Err(format!("{value} is no operation"));
    };
    let nothing = |op: Op| if rest.is_empty() { Ok(op) } else { Err(format!("{name:?} has no fields")) };
    Ok(match name.as_str() {
        "rx" => {
            let (len, seq): (u16, u16) = fields(name, rest)?;
            Op::Rx { len: len.into(), seq }
        }
        "write" => {
            let (len, seq, ret): (u16, u16, i64) = fields(name, rest)?;
            Op::Write { len: len.into(), seq, ret }
        }
        "read" => {
            let (ret, errno, packets) = fields(name, rest)?;
            Op::Read { ret, errno, packets }
        }
        "badread" => {
            let (ret, errno) = fields(name, rest)?;
            Op::BadRead { ret, errno }
        }
        "fionread" => {
            let (bytes,) = fields(name, rest)?;
            Op::FionRead { bytes }
        }
        "stats" => {
            let (recv, drop, capt) = fields(name, rest)?;
            Op::Stats { recv, drop, capt }
        }
        "poll" => {
            let (revents,) = fields(name, rest)?;
            Op::Poll { revents }
        }
        "flush" => nothing(Op::Flush)?,
        "setif" => nothing(Op::SetIf)?,
        "snap" => {
            let (len,) = fields(name, rest)?;
            Op::Snap { len }
        }
        "nofilter" => nothing(Op::NoFilter)?,
        "badsetf" => {
            let (errno,) = fields(name, rest)?;
            Op::BadSetF { errno }
        }
        "immediate" => {
            let (value,) = fields(name, rest)?;
            Op::Immediate { value }
        }
        "seesent" => {
            let (value,) = fields(name, rest)?;
            Op::SeeSent { value }
        }
        _ => return Err(format!("the operation {name:?} is not known to this program")),
    })
}

/// An operation as a file has it.
pub fn to_value(op: &Op) -> Value {
    match op {
        Op::Rx { len, seq } => json!(["rx", len, seq]),
        Op::Write { len, seq, ret } => json!(["write", len, seq, ret]),
        Op::Read { ret, errno, packets } => json!(["read", ret, errno, packets]),
        Op::BadRead { ret, errno } => json!(["badread", ret, errno]),
        Op::FionRead { bytes } => json!(["fionread", bytes]),
        Op::Stats { recv, drop, capt } => json!(["stats", recv, drop, capt]),
        Op::Poll { revents } => json!(["poll", revents]),
        Op::Flush => json!(["flush"]),
        Op::SetIf => json!(["setif"]),
        Op::Snap { len } => json!(["snap", len]),
        Op::NoFilter => json!(["nofilter"]),
        Op::BadSetF { errno } => json!(["badsetf", errno]),
        Op::Immediate { value } => json!(["immediate", value]),
        Op::SeeSent { value } => json!(["seesent", value]),
    }
}

/// The descriptor of a trace.
pub const D: &str = "d";

/// A request of [`D`] by its name in the system's header; `bytes` is the beginning of its argument.
///
/// # Errors
/// When there is no such request.
pub fn ioctl(abi: &Abi, name: &str, bytes: &[u8], pointee: Option<Vec<u8>>) -> Result<Call, Trouble> {
    let cmd = request_number(abi, name).map_err(Trouble::Fail)?;
    let mut arg = Argument { bytes: vec![0; argument_size(abi, cmd)], pointee };
    let len = bytes.len().min(arg.bytes.len());
    arg.bytes[..len].copy_from_slice(&bytes[..len]);
    Ok(Call::Ioctl { d: D.into(), cmd, arg })
}

fn set(abi: &Abi, name: &str, value: u32) -> Result<Call, Trouble> {
    ioctl(abi, name, &value.to_ne_bytes(), None)
}

fn filter(abi: &Abi, insns: &[(u16, u32)]) -> Result<Call, Trouble> {
    let count = u32::try_from(insns.len()).unwrap_or(u32::MAX);
    let bytes = insns.iter().flat_map(|&(code, k)| {
        let [c0, c1] = code.to_ne_bytes();
        let [k0, k1, k2, k3] = k.to_ne_bytes();
        [c0, c1, 0, 0, k0, k1, k2, k3]
    });
    ioctl(abi, "BIOCSETF", &count.to_ne_bytes(), (!insns.is_empty()).then(|| bytes.collect()))
}

/// `ret #k`.
const RET_K: u16 = 0x06;

/// The calls every trace begins with.
///
/// # Errors
/// [`Trouble`].
pub fn begin(world: &mut dyn World, blen: u32) -> Result<(), Trouble> {
    let abi = world.abi();
    let calls = [
        Call::Open { path: "/dev/bpf".into(), flags: 2, name: D.into() },
        set(abi, "BIOCSBLEN", blen)?,
        ioctl(abi, "BIOCSETIF", b"shmif0", None)?,
        set(abi, "BIOCSHDRCMPLT", 1)?,
        Call::SetFlags { d: D.into(), flags: 4 },
    ];
    for call in calls {
        if let Some(errno) = world.call(&call)?.errno {
            return Err(Trouble::fail(format!("beginning: {call:?}: {errno}")));
        }
    }
    Ok(())
}

/// Plays one operation and compares its answer.
///
/// # Errors
/// [`Trouble`]; a difference is a failure.
pub fn play(world: &mut dyn World, blen: u32, op: &Op) -> Result<(), Trouble> {
    let here = answer(world, blen, op)?;
    if here == *op {
        return Ok(());
    }
    let what = if matches!(op, Op::Stats { .. }) { "BIOCGSTATS: " } else { "" };
    Err(Trouble::fail(format!("{what}recorded {}, here {}", to_value(op), to_value(&here))))
}

/// Plays one operation: the same with the world's answer.
///
/// # Errors
/// [`Trouble`].
pub fn answer(world: &mut dyn World, blen: u32, op: &Op) -> Result<Op, Trouble> {
    let abi = world.abi();
    let d = || D.to_owned();
    let blen = blen as usize;
    let done = |world: &mut dyn World, call: Call, what: &str| match world.call(&call)? {
        Answer { errno: Some(errno), .. } => {
            Err(Trouble::fail(format!("{what}: recorded 0, here -1 {errno}")))
        }
        answer => Ok(answer),
    };
    match op {
        Op::Rx { len, seq } => drop(world.call(&Call::Receive { frame: hex::frame(*len, *seq) })?),
        Op::Write { len, seq, .. } => {
            let Answer { ret, .. } = world.call(&Call::Write { d: d(), frame: hex::frame(*len, *seq) })?;
            return Ok(Op::Write { len: *len, seq: *seq, ret });
        }
        Op::Read { .. } => {
            let Answer { ret, errno, data, .. } = world.call(&Call::Read { d: d(), size: blen })?;
            let packets = records(&data, &abi.header).iter().map(packet).collect();
            return Ok(Op::Read { ret, errno, packets });
        }
        Op::BadRead { .. } => {
            let more = world.call(&Call::Read { d: d(), size: blen + 1 })?;
            let less = world.call(&Call::Read { d: d(), size: blen.saturating_sub(1) })?;
            if (more.ret, &more.errno) != (less.ret, &less.errno) {
                return Err(Trouble::fail(format!(
                    "a read of a byte more: {} {:?}, of a byte less: {} {:?}",
                    more.ret, more.errno, less.ret, less.errno
                )));
            }
            return Ok(Op::BadRead { ret: more.ret, errno: more.errno });
        }
        Op::FionRead { .. } => {
            let answer = done(world, ioctl(abi, "FIONREAD", &[], None)?, "FIONREAD")?;
            return Ok(Op::FionRead { bytes: word(&answer, 0, 4)? });
        }
        Op::Stats { .. } => {
            let call = ioctl(abi, "BIOCGSTATS", &[], None)?;
            let answer = done(world, call, "BIOCGSTATS")?;
            // two counters of 32 bits, or three of 64
            let size = if abi_has_long_stats(abi) { 8 } else { 4 };
            let capt = if size == 8 { word(&answer, 16, 8)? } else { 0 };
            return Ok(Op::Stats { recv: word(&answer, 0, size)?, drop: word(&answer, size, size)?, capt });
        }
        Op::Poll { .. } => {
            // POLLIN and POLLOUT
            let call = Call::Poll { d: d(), events: 5, timeout: Duration::ZERO };
            return Ok(Op::Poll { revents: world.call(&call)?.revents.unwrap_or(0) });
        }
        Op::Flush => drop(done(world, ioctl(abi, "BIOCFLUSH", &[], None)?, "BIOCFLUSH")?),
        Op::SetIf => drop(done(world, ioctl(abi, "BIOCSETIF", b"shmif0", None)?, "BIOCSETIF")?),
        Op::Snap { len } => drop(done(world, filter(abi, &[(RET_K, *len)])?, "BIOCSETF")?),
        Op::NoFilter => drop(done(world, filter(abi, &[])?, "BIOCSETF")?),
        Op::BadSetF { .. } => {
            // ld #1, and no ret at the end
            let answer = world.call(&filter(abi, &[(0, 1)])?)?;
            return Ok(Op::BadSetF { errno: answer.errno });
        }
        Op::Immediate { value } => drop(done(world, set(abi, "BIOCIMMEDIATE", *value)?, "BIOCIMMEDIATE")?),
        Op::SeeSent { value } => drop(done(world, set(abi, "BIOCSSEESENT", *value)?, "BIOCSSEESENT")?),
    }
    Ok(op.clone())
}

fn abi_has_long_stats(abi: &Abi) -> bool {
    abi.requests.iter().any(|row| row.name == "BIOCGSTATS" && row.arg == Arg::Stats64)
}

fn packet(record: &Record) -> Packet {
    (record.off, record.hdrlen, record.caplen, record.datalen, record.seq())
}

fn word(answer: &Answer, at: usize, size: usize) -> Result<u64, Trouble> {
    let found = answer.arg.as_ref().and_then(|arg| number(&arg.bytes, at, size));
    found.ok_or_else(|| Trouble::fail("the answer is shorter than its request's layout"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_operations_are_named() {
        for (value, says) in [
            (json!(["jump"]), "\"jump\""),
            (json!(["rx", 1]), "\"rx\""),
            (json!(["rx", 1, 2, 3]), "\"rx\""),
            (json!(["rx", -1, 2]), "\"rx\""),
            (json!(["flush", 1]), "\"flush\""),
            (json!({"rx": 1}), "no operation"),
            (json!([]), "no operation"),
        ] {
            let error = op(&value).expect_err("refused");
            assert!(error.contains(says), "{value}: {error}");
        }
        let read = json!(["read", 94, null, [[0, 34, 60, 60, 1]]]);
        let packets = vec![(0, 34, 60, 60, Some(1))];
        let known = op(&read).expect("known");
        assert_eq!(known, Op::Read { ret: 94, errno: None, packets });
        assert_eq!(to_value(&known), read);
    }
}
