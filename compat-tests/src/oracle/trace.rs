//! The operations of traces.jsonl, and how they are played.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::{Record, records};
use super::call::{Answer, Argument, Call, Trouble, World};
use super::hex;
use super::script::request_number;

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

/// The descriptor of a trace.
pub const D: &str = "d";

/// A request of [`D`] by its name in NetBSD's header; `bytes` is the beginning of its argument.
///
/// # Errors
/// When there is no such request.
pub fn ioctl(name: &str, bytes: &[u8], pointee: Option<Vec<u8>>) -> Result<Call, Trouble> {
    let cmd = request_number(name).map_err(Trouble::Fail)?;
    let mut arg = Argument { bytes: vec![0; (cmd >> 16 & 0x1fff) as usize], pointee };
    let len = bytes.len().min(arg.bytes.len());
    arg.bytes[..len].copy_from_slice(&bytes[..len]);
    Ok(Call::Ioctl { d: D.into(), cmd, arg })
}

fn set(name: &str, value: u32) -> Result<Call, Trouble> {
    ioctl(name, &value.to_ne_bytes(), None)
}

fn filter(insns: &[(u16, u32)]) -> Result<Call, Trouble> {
    let count = u32::try_from(insns.len()).unwrap_or(u32::MAX);
    let bytes = insns.iter().flat_map(|&(code, k)| {
        let [c0, c1] = code.to_ne_bytes();
        let [k0, k1, k2, k3] = k.to_ne_bytes();
        [c0, c1, 0, 0, k0, k1, k2, k3]
    });
    ioctl("BIOCSETF", &count.to_ne_bytes(), (!insns.is_empty()).then(|| bytes.collect()))
}

/// `ret #k`.
const RET_K: u16 = 0x06;

/// The calls every trace begins with.
///
/// # Errors
/// [`Trouble`].
pub fn begin(world: &mut dyn World, blen: u32) -> Result<(), Trouble> {
    let calls = [
        Call::Open { path: "/dev/bpf".into(), flags: 2, name: D.into() },
        set("BIOCSBLEN", blen)?,
        ioctl("BIOCSETIF", b"shmif0", None)?,
        set("BIOCSHDRCMPLT", 1)?,
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
    let d = || D.to_owned();
    let blen = blen as usize;
    match op {
        Op::Rx { len, seq } => world.call(&Call::Receive { frame: hex::frame(*len, *seq) }).map(drop),
        Op::Write { len, seq, ret } => {
            let answer = world.call(&Call::Write { d: d(), frame: hex::frame(*len, *seq) })?;
            same("write", &json!(ret), &json!(answer.ret))
        }
        Op::Read { ret, errno, packets } => {
            let answer = world.call(&Call::Read { d: d(), size: blen })?;
            let found: Vec<Packet> = records(&answer.data).iter().map(packet).collect();
            let here = json!([answer.ret, answer.errno, found]);
            same("read", &json!([ret, errno, packets]), &here)
        }
        Op::BadRead { ret, errno } => {
            for size in [blen + 1, blen.saturating_sub(1)] {
                let answer = world.call(&Call::Read { d: d(), size })?;
                let here = json!([answer.ret, answer.errno]);
                same(&format!("read of {size} bytes"), &json!([ret, errno]), &here)?;
            }
            Ok(())
        }
        Op::FionRead { bytes } => {
            let answer = done(world.call(&ioctl("FIONREAD", &[], None)?)?, "FIONREAD")?;
            same("FIONREAD", &json!(bytes), &json!(word(&answer, 0, 4)))
        }
        Op::Stats { recv, drop, capt } => {
            let answer = done(world.call(&ioctl("BIOCGSTATS", &[], None)?)?, "BIOCGSTATS")?;
            let here = json!([word(&answer, 0, 8), word(&answer, 8, 8), word(&answer, 16, 8)]);
            same("BIOCGSTATS", &json!([recv, drop, capt]), &here)
        }
        Op::Poll { revents } => {
            // POLLIN and POLLOUT
            let call = Call::Poll { d: d(), events: 5, timeout: Duration::ZERO };
            same("poll", &json!(revents), &json!(world.call(&call)?.revents))
        }
        Op::Flush => done(world.call(&ioctl("BIOCFLUSH", &[], None)?)?, "BIOCFLUSH").map(drop),
        Op::SetIf => done(world.call(&ioctl("BIOCSETIF", b"shmif0", None)?)?, "BIOCSETIF").map(drop),
        Op::Snap { len } => done(world.call(&filter(&[(RET_K, *len)])?)?, "BIOCSETF").map(drop),
        Op::NoFilter => done(world.call(&filter(&[])?)?, "BIOCSETF").map(drop),
        Op::BadSetF { errno } => {
            // ld #1, and no ret at the end
            let answer = world.call(&filter(&[(0, 1)])?)?;
            same("BIOCSETF of a bad program", &json!(errno), &json!(answer.errno))
        }
        Op::Immediate { value } => {
            done(world.call(&set("BIOCIMMEDIATE", *value)?)?, "BIOCIMMEDIATE").map(drop)
        }
        Op::SeeSent { value } => done(world.call(&set("BIOCSSEESENT", *value)?)?, "BIOCSSEESENT").map(drop),
    }
}

fn packet(record: &Record) -> Packet {
    (record.off, record.hdrlen, record.caplen, record.datalen, record.seq())
}

fn word(answer: &Answer, at: usize, size: usize) -> Option<u64> {
    let mut wide = [0; 8];
    let field = answer.arg.as_ref()?.bytes.get(at..at + size)?;
    wide.get_mut(..size)?.copy_from_slice(field);
    Some(u64::from_le_bytes(wide))
}

fn done(answer: Answer, what: &str) -> Result<Answer, Trouble> {
    match answer.errno {
        Some(errno) => Err(Trouble::fail(format!("{what}: recorded 0, here -1 {errno}"))),
        None => Ok(answer),
    }
}

fn same(what: &str, recorded: &Value, here: &Value) -> Result<(), Trouble> {
    if recorded == here {
        return Ok(());
    }
    Err(Trouble::fail(format!("{what}: recorded {recorded}, here {here}")))
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
        assert_eq!(op(&read), Ok(Op::Read { ret: 94, errno: None, packets }));
    }
}
