//! Answers as text, so that what was expected can be a literal and a report says what was seen.

use bpfdev_core::abi::{Abi, Request, Response};
use bpfdev_core::errno::Errno;
use bpfdev_core::file::Ready;

use super::records::{Record, layout, walk};
use super::system::System;

/// A request by its name on that system, with its argument.
pub fn describe(system: System, request: &Request) -> String {
    let op = request.op();
    // of several forms the present one has the shortest name
    let rows = Abi::by_name(system.name()).into_iter().flat_map(|abi| abi.requests);
    let row = rows.filter(|row| row.op == op).min_by_key(|row| row.name.len());
    let name = row.map_or_else(|| format!("{op:?} (unknown there)"), |row| row.name.to_owned());
    match request {
        Request::SetIf(to) => format!("{name} {}", String::from_utf8_lossy(to)),
        Request::SRTimeout { sec, usec } | Request::SWTimeout { sec, usec } => {
            format!("{name} {sec} s {usec} us")
        }
        Request::SetF(source) | Request::SetWf(source) | Request::SetFnr(source) => {
            format!("{name} of {} instructions", source.len)
        }
        Request::GDltList(Some(room)) => format!("{name} with room for {room}"),
        Request::GDltList(None) => format!("{name} with a null list"),
        _ => request.value().map_or(name.clone(), |value| format!("{name} {value}")),
    }
}

/// An ioctl's answer as text.
pub fn answer(system: System, answer: &Result<Response, Errno>) -> String {
    match answer {
        Err(errno) => errno.name().to_owned(),
        Ok(Response::Done) => "ok".to_owned(),
        Ok(Response::U32(value)) => value.to_string(),
        Ok(Response::Name(name)) => name.clone(),
        Ok(Response::Uuid(_)) => "a uuid".to_owned(),
        Ok(Response::LinkAddress(address)) => {
            let bytes: Vec<_> = address.iter().map(|byte| format!("{byte:02x}")).collect();
            bytes.join(":")
        }
        Ok(Response::Timeval { sec, usec }) => format!("{sec} s {usec} us"),
        Ok(Response::Stats { recv, drop, capt }) => {
            let counts = format!("recv {recv} drop {drop}");
            // struct bpf_stat has bs_capt on NetBSD only
            let counts_captured = matches!(system, System::NetBsd | System::NetBsd7);
            if counts_captured { format!("{counts} capt {capt}") } else { counts }
        }
        Ok(Response::Version { major, minor }) => format!("{major}.{minor}"),
        Ok(Response::DltList { count, list, error }) => {
            let head = match (count, error) {
                (_, Some(errno)) => errno.name().to_owned(),
                (Some(count), None) => count.to_string(),
                (None, None) => "unchanged".to_owned(),
            };
            format!("{head} {list:?}")
        }
    }
}

/// Frames by their numbers; `?` for one that carries none.
pub fn list(numbers: impl Iterator<Item = Option<u16>>) -> String {
    let words: Vec<_> =
        numbers.map(|number| number.map_or_else(|| "?".to_owned(), |number| number.to_string())).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}

/// A read's answer as the numbers of its frames.
pub fn numbers(system: System, result: &Result<Vec<u8>, Errno>) -> String {
    match result {
        Err(errno) => errno.name().to_owned(),
        Ok(buffer) => match walk(buffer, layout(system)) {
            Ok(records) => list(records.iter().map(Record::number)),
            Err(malformed) => malformed.0,
        },
    }
}

/// A read's answer as its length.
pub fn bytes(result: &Result<Vec<u8>, Errno>) -> String {
    match result {
        Err(errno) => errno.name().to_owned(),
        Ok(buffer) => format!("{} bytes", buffer.len()),
    }
}

/// What poll(2) says.
pub fn ready(ready: Ready) -> String {
    let words = [(ready.read, "read"), (ready.write, "write"), (ready.hangup, "hangup")];
    let words: Vec<_> = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}
