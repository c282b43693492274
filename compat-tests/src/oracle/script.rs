//! The steps of cases.json.

use std::net::Ipv4Addr;
use std::time::Duration;

use bpfdev_core::abi::{Abi, Arg};
use serde_json::{Map, Value};

use super::call::{Argument, Call, Sets};
use super::hex;
use super::mask::OWN_ADDRESS;

/// One step of a case.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is called in a message.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// What was recorded; `None`: nothing is compared.
    pub recorded: Option<Value>,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// A call, in the main thread.
    Call(Call),
    /// A call in a thread of its own.
    Start(u64, Call),
    /// The answer of a thread's call, at most after this time.
    Wait(u64, Duration),
}

/// A step's fields; each is taken once, and none may be left.
struct Fields<'a> {
    left: Map<String, Value>,
    op: &'a str,
}

impl Fields<'_> {
    fn optional_text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.left.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("`{name}` of `{}` is no text: {other}", self.op)),
        }
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        self.optional_text(name)?.ok_or_else(|| format!("`{}` has no `{name}`", self.op))
    }

    fn optional_number(&mut self, name: &str) -> Result<Option<u64>, String> {
        match self.left.remove(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(format!("`{name}` of `{}` is no number: {value}", self.op)),
            },
        }
    }

    fn number<T: TryFrom<u64>>(&mut self, name: &str) -> Result<T, String> {
        let number = self.optional_number(name)?.ok_or_else(|| format!("`{}` has no `{name}`", self.op))?;
        T::try_from(number).map_err(|_| format!("`{name}` of `{}` is too large: {number}", self.op))
    }

    fn millis(&mut self, name: &str) -> Result<Duration, String> {
        Ok(Duration::from_millis(self.number(name)?))
    }

    fn frame(&mut self) -> Result<Vec<u8>, String> {
        let len = self.number::<u32>("len")?;
        hex::whole_frame(&self.text("data")?, len as usize)
    }
}

/// Whose request numbers a case is written in, and whose it is played with.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// The system that was recorded; a `cmd` is its number.
    pub of: &'static Abi,
    /// The dialect that is asked.
    pub on: &'static Abi,
}

impl Numbers {
    /// One system's.
    pub fn of(abi: &'static Abi) -> Numbers {
        Numbers { of: abi, on: abi }
    }

    /// The number that asks the played dialect what `cmd`, called `name`, asks the recorded one: the same where it is no
    /// request of that system's, so meant as a number.
    fn translate(self, cmd: u32, name: &str) -> Result<u32, String> {
        let known = self.of.decode(cmd).filter(|_| request_number(self.of, name) == Ok(cmd));
        if self.of.name == self.on.name || known.is_none() { Ok(cmd) } else { request_number(self.on, name) }
    }
}

/// Reads one step.
///
/// # Errors
/// Says which operation, request or field is not known, missing or wrong.
pub fn step(value: &Value, numbers: Numbers) -> Result<Step, String> {
    let Value::Object(object) = value else { return Err(format!("a step is an object, not {value}")) };
    let mut left = object.clone();
    let recorded = left.remove("result").filter(|result| !result.is_null());
    let Some(Value::String(op)) = left.remove("op") else { return Err("a step has no `op`".into()) };
    let mut fields = Fields { left, op: &op };
    let thread = fields.optional_number("thread")?;
    let descriptor = object.get("d").or(object.get("as_")).and_then(Value::as_str);
    let request = object.get("req").and_then(Value::as_str);
    let name = [Some(op.as_str()), descriptor, request].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let action = match (op.as_str(), thread) {
        ("wait", Some(thread)) => Action::Wait(thread, fields.millis("ms")?),
        ("wait", None) => return Err("`wait` has no `thread`".into()),
        (_, Some(thread)) => Action::Start(thread, call(&mut fields, numbers)?),
        (_, None) => Action::Call(call(&mut fields, numbers)?),
    };
    match fields.left.keys().next() {
        Some(key) => Err(format!("`{key}` of `{op}` is not known to this program")),
        None => Ok(Step { name, action, recorded }),
    }
}

fn call(fields: &mut Fields<'_>, numbers: Numbers) -> Result<Call, String> {
    Ok(match fields.op {
        "open" => Call::Open {
            path: fields.text("path")?,
            flags: fields.number("flags")?,
            name: fields.text("as_")?,
        },
        "ioctl" => ioctl(fields, numbers)?,
        "read" => Call::Read { d: fields.text("d")?, size: fields.number::<u32>("size")? as usize },
        "write" => Call::Write { d: fields.text("d")?, frame: fields.frame()? },
        "poll" => Call::Poll {
            d: fields.text("d")?,
            events: fields.number("events")?,
            timeout: fields.millis("ms")?,
        },
        "select" => Call::Select {
            d: fields.text("d")?,
            sets: sets(&fields.text("sets")?)?,
            timeout: fields.millis("ms")?,
        },
        "fcntl F_SETFL" => Call::SetFlags { d: fields.text("d")?, flags: fields.number("flags")? },
        "close" => Call::Close { d: fields.text("d")? },
        "rx" => Call::Receive { frame: fields.frame()? },
        "sleep" => Call::Sleep { time: fields.millis("ms")? },
        "ifdestroy" => Call::Destroy { interface: fields.text("name")? },
        line => return words(line),
    })
}

fn sets(text: &str) -> Result<Sets, String> {
    match text {
        "r" => Ok(Sets { read: true, write: false }),
        "w" => Ok(Sets { read: false, write: true }),
        "r+w" => Ok(Sets { read: true, write: true }),
        _ => Err(format!("`sets` is r, w or r+w, not {text:?}")),
    }
}

/// Operations that carry their arguments in their name, as a command line does.
fn words(line: &str) -> Result<Call, String> {
    let bad = || format!("the operation {line:?} is not known to this program");
    let number = |text: &str| text.parse::<i64>().map_err(|_| bad());
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(match words[..] {
        ["ifflags", interface, change] => match number(change)? {
            1 => Call::SetUp { interface: interface.into(), up: true },
            -1 => Call::SetUp { interface: interface.into(), up: false },
            _ => return Err(bad()),
        },
        ["getflags", interface] => Call::GetFlags { interface: interface.into() },
        ["ifdestroy", interface] => Call::Destroy { interface: interface.into() },
        ["ifmtu", interface, mtu] => {
            let mtu = u32::try_from(number(mtu)?).map_err(|_| bad())?;
            Call::SetMtu { interface: interface.into(), mtu }
        }
        [interface, "address", address] => {
            let (address, prefix) = address.split_once('/').ok_or_else(bad)?;
            Call::AddAddress {
                interface: interface.into(),
                address: address.parse::<Ipv4Addr>().map_err(|_| bad())?,
                prefix: prefix.parse().ok().filter(|&prefix| prefix <= 32).ok_or_else(bad)?,
            }
        }
        ["udp", to, "payload"] => udp(to, Vec::new()).ok_or_else(bad)?,
        ["udp", to] => udp(to, vec![b'x']).ok_or_else(bad)?,
        ["udp", to, "payload", payload] => udp(to, hex::decode(payload)?).ok_or_else(bad)?,
        _ => return Err(bad()),
    })
}

fn udp(to: &str, payload: Vec<u8>) -> Option<Call> {
    let (to, port) = to.split_once(':')?;
    Some(Call::Udp { to: to.parse().ok()?, port: port.parse().ok()?, payload })
}

/// The number a system's header gives a request.
///
/// # Errors
/// When it has no request of this name.
pub fn request_number(abi: &Abi, name: &str) -> Result<u32, String> {
    let find = |name: &str| abi.requests.iter().find(|row| row.name == name);
    let row = find(name).or_else(|| match name {
        // the same requests under the names of NetBSD 8 and before, and of FreeBSD since 7
        "BIOCSSEESENT" => find("BIOCSDIRECTION"),
        "BIOCGSEESENT" => find("BIOCGDIRECTION"),
        _ => None,
    });
    let (row, encoding) = row.zip(abi.encodings.first()).ok_or_else(|| {
        format!("the request {name} is not known to this program as one of {}, and has no `cmd`", abi.name)
    })?;
    Ok(encoding.number(row.dir, row.group, row.number, row.arg.size()))
}

/// How long the argument of a request with this number is, bytes.
pub fn argument_size(abi: &Abi, cmd: u32) -> usize {
    // a number nobody knows is in the BSDs' encoding
    abi.decode(cmd).map_or((cmd >> 16 & 0x1fff) as usize, |call| call.size)
}

/// Where the argument of this request holds a pointer.
pub fn pointer_field(abi: &Abi, cmd: u32) -> Option<usize> {
    let call = abi.decode(cmd).filter(bpfdev_core::abi::Call::needs_memory)?;
    Some(if call.row.arg == Arg::DltListPacked { 4 } else { 8 })
}

fn ioctl(fields: &mut Fields<'_>, numbers: Numbers) -> Result<Call, String> {
    let d = fields.text("d")?;
    let request = fields.text("req")?;
    let cmd = match fields.optional_text("cmd")? {
        Some(text) => text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok()),
        None => Some(request_number(numbers.on, &request)?),
    };
    let cmd = cmd.ok_or_else(|| "`cmd` is a hexadecimal number that begins with 0x".to_owned())?;
    let cmd = numbers.translate(cmd, &request)?;
    let size = argument_size(numbers.on, cmd);
    let mut arg = Argument { bytes: vec![0; size], pointee: None };
    if let Some(bytes) = fields.optional_text("in")? {
        let bytes = hex::decode(&bytes)?;
        let Some(room) = arg.bytes.get_mut(..bytes.len()) else {
            return Err(format!("`in` has {} bytes, {request} takes {size}", bytes.len()));
        };
        room.copy_from_slice(&bytes);
    }
    if let Some(name) = fields.optional_text("ifr_name")? {
        let room = arg.bytes.get_mut(..16).ok_or_else(|| format!("{request} takes no interface name"))?;
        let len = name.len().min(room.len());
        room[..len].copy_from_slice(&name.as_bytes()[..len]);
    }
    let layout = numbers.on.decode(cmd).map(|call| call.row.arg);
    if let Some(insns) = fields.optional_text("bf_insns")? {
        let len = fields.number::<u32>("bf_len")?;
        put_count(&mut arg, len, layout == Some(Arg::Program64), &request)?;
        arg.pointee = if insns == "NULL" { None } else { Some(native(&hex::program(&insns, len)?)) };
    }
    if let Some(list) = fields.optional_text("bfl_list")? {
        let len = fields.number::<u32>("bfl_len")?;
        put_count(&mut arg, len, matches!(layout, Some(Arg::DltList64 | Arg::DltListPacked)), &request)?;
        arg.pointee = match list.as_str() {
            "NULL" => None,
            "array" => Some(vec![0xa5; 16]),
            _ => return Err(format!("`bfl_list` is NULL or array, not {list:?}")),
        };
    }
    Ok(Call::Ioctl { d, cmd, arg })
}

fn put_count(arg: &mut Argument, count: u32, fits: bool, request: &str) -> Result<(), String> {
    match arg.bytes.get_mut(..4) {
        Some(field) if fits => field.copy_from_slice(&count.to_ne_bytes()),
        _ => return Err(format!("{request} takes no such structure")),
    }
    Ok(())
}

/// Instructions as this machine keeps them.
fn native(little_endian: &[u8]) -> Vec<u8> {
    hex::insns(little_endian).iter().flat_map(|insn| insn.to_bytes()).collect()
}

/// What must be so before the first step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Interfaces that are down: those a case sets up before it ever sets them down.
    pub down: Vec<String>,
    /// The observed interface is more than an end of a wire: it has an address filter, as frames for others arrive, or
    /// outlives the interface at the other end.
    pub own_interface: bool,
}

/// What these steps need.
pub fn needs(steps: &[Step]) -> Needs {
    let mut seen: Vec<(&str, bool)> = Vec::new();
    let mut own_interface = false;
    for step in steps {
        let (Action::Call(call) | Action::Start(_, call)) = &step.action else { continue };
        match call {
            Call::SetUp { interface, up } if !seen.iter().any(|(known, _)| known == interface) => {
                seen.push((interface, *up));
            }
            Call::Receive { frame } => own_interface |= is_for_others(frame),
            Call::Destroy { interface } => own_interface |= interface == "shmif1",
            _ => {}
        }
    }
    let down = seen.into_iter().filter(|(_, up)| *up).map(|(interface, _)| interface.to_owned()).collect();
    Needs { down, own_interface }
}

/// Whether the frame is for one station, and not for the observed interface.
fn is_for_others(frame: &[u8]) -> bool {
    frame.get(..6).is_some_and(|to| to[0] & 1 == 0 && to != OWN_ADDRESS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bpfdev_core::abi::netbsd::NETBSD;
    use serde_json::json;

    #[test]
    fn numbers_are_those_of_the_recordings() {
        assert_eq!(request_number(&NETBSD, "BIOCSETIF"), Ok(0x8090_426c));
        assert_eq!(request_number(&NETBSD, "BIOCSSEESENT"), Ok(0x8004_4279));
        assert!(request_number(&NETBSD, "BIOCNONSENSE").is_err());
    }

    #[test]
    fn a_number_is_that_of_the_same_request_elsewhere() {
        use bpfdev_core::abi::freebsd::FREEBSD;
        let step = |on| {
            let value = json!({"op": "ioctl", "d": "d", "req": "BIOCSETIF", "cmd": "0x8090426c", "ifr_name": "shmif0"});
            match step(&value, Numbers { of: &NETBSD, on }).unwrap().action {
                Action::Call(Call::Ioctl { cmd, arg, .. }) => (cmd, arg.bytes.len()),
                other => panic!("{other:?}"),
            }
        };
        // struct ifreq has 144 bytes on NetBSD and 32 on FreeBSD (abi.json)
        assert_eq!(step(&NETBSD), (0x8090_426c, 144));
        assert_eq!(step(&FREEBSD), (0x8020_426c, 32));
        let numbers = Numbers { of: &NETBSD, on: &FREEBSD };
        assert_eq!(numbers.translate(0x2000_42c8, "UNKNOWN"), Ok(0x2000_42c8));
        assert!(numbers.translate(0x4004_427c, "BIOCGFEEDBACK").is_err(), "FreeBSD has no such request");
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (value, says) in [
            (json!({"op": "jump"}), "\"jump\""),
            (json!({"op": "ifflags shmif0 7"}), "ifflags shmif0 7"),
            (json!({"op": "read", "d": "d"}), "`size`"),
            (json!({"op": "read", "d": "d", "size": "x"}), "`size`"),
            (json!({"op": "read", "d": "d", "size": 1, "colour": 1}), "`colour`"),
            (json!({"op": "wait", "ms": 1}), "`thread`"),
            (json!({"op": "rx", "len": 3, "data": "ff"}), "`len` is 3"),
            (json!({"op": "ioctl", "d": "d", "req": "X"}), "X"),
            (json!({"op": "ioctl", "d": "d", "req": "X", "cmd": "12"}), "0x"),
            (json!({"op": "ioctl", "d": "d", "req": "X", "cmd": "0x20004268", "in": "00"}), "takes 0"),
            (json!({"op": "ioctl", "d": "d", "req": "X", "cmd": "0x20004268", "ifr_name": "a"}), "name"),
            (json!({"d": 1}), "`op`"),
            (json!([1]), "object"),
        ] {
            let error = step(&value, Numbers::of(&NETBSD)).unwrap_err();
            assert!(error.contains(says), "{value}: {error}");
        }
    }

    #[test]
    fn an_interface_that_is_set_up_first_was_down() {
        let steps = ["ifflags shmif0 -1", "ifflags lo0 1", "ifflags shmif0 1"];
        let steps: Vec<_> =
            steps.iter().map(|op| step(&json!({"op": op}), Numbers::of(&NETBSD)).unwrap()).collect();
        assert_eq!(needs(&steps), Needs { down: vec!["lo0".into()], own_interface: false });
    }

    #[test]
    fn frames_for_others_and_the_end_of_the_far_end_need_an_interface_of_its_own() {
        for (value, needed) in [
            (json!({"op": "rx", "len": 14, "data": "ffffffffffff02000000000188b5"}), false),
            (json!({"op": "rx", "len": 14, "data": "01005e00000102000000000188b5"}), false),
            (json!({"op": "rx", "len": 14, "data": "b2a0dddddddd02000000000188b5"}), false),
            (json!({"op": "rx", "len": 14, "data": "b2a0ddddddde02000000000188b5"}), true),
            (json!({"op": "write", "d": "d", "len": 14, "data": "b2a0ddddddde02000000000188b5"}), false),
            (json!({"op": "ifdestroy", "name": "shmif0", "thread": 1}), false),
            (json!({"op": "ifdestroy", "name": "shmif1", "thread": 1}), true),
        ] {
            assert_eq!(
                needs(&[step(&value, Numbers::of(&NETBSD)).unwrap()]).own_interface,
                needed,
                "{value}"
            );
        }
    }
}
