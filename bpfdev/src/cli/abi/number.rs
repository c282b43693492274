//! What a request number is, on each system in each encoding.

use std::process::ExitCode;
use std::str::FromStr;

use bpfdev_core::abi::{Abi, Dir, Encoding, Row, TABLES};
use serde::Serialize;

use super::sheet::{arg_type, direction, here, hex, ilp32_of, lp64_of, number, source};
use super::text::{columns, print, print_json, wrapped};

const ENCODINGS: [Encoding; 2] = [Encoding::Bsd, Encoding::Linux];

/// The numbers asked for: one, or for `_IOW(…)` one in each encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked(Vec<u32>);

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Asked, String> {
        let text = text.trim();
        if text.starts_with("_IO") {
            return macro_call(text);
        }
        let wide = integer(text).ok_or("a number is decimal or hexadecimal, or like _IOW('B', 108, 32)")?;
        // an int that was made an unsigned long of 64 bits
        let narrow = u32::try_from(wide).ok().or_else(|| i32::try_from(wide).ok().map(i32::cast_unsigned));
        let extended = u64::try_from(wide).ok().and_then(|wide| i32::try_from(wide.cast_signed()).ok());
        let number = narrow.or(extended.map(i32::cast_unsigned)).ok_or("a request number has 32 bits")?;
        Ok(Asked(vec![number]))
    }
}

/// Decimal or 0x…, with a sign or without.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(plain(digits)?, 16),
        None => plain(digits)?.parse(),
    };
    let magnitude = i128::from(magnitude.ok()?);
    Some(if negative { -magnitude } else { magnitude })
}

/// Digits with no further sign before them.
fn plain(digits: &str) -> Option<&str> {
    digits.starts_with(|c: char| c.is_ascii_hexdigit()).then_some(digits)
}

/// `_IO`, `_IOR`, `_IOW` and `_IOWR` of either header, and strace's `_IOC(_IOC_READ, 0x42, 0x6b, 0x20)`.
fn macro_call(text: &str) -> Result<Asked, String> {
    let usage =
        || "it is _IO(group, number), _IOR, _IOW or _IOWR(group, number, bytes), as in _IOW('B', 108, 32)";
    let (name, rest) = text.split_once('(').ok_or_else(usage)?;
    let arguments = rest.trim_end().strip_suffix(')').ok_or_else(usage)?;
    let arguments: Vec<_> = arguments.split(',').map(str::trim).collect();
    let (dir, encodings, rest) = match (name.trim(), &arguments[..]) {
        ("_IO", rest @ [_, _]) => (Dir::Void, &ENCODINGS[..], rest),
        ("_IOR", rest @ [_, _, _]) => (Dir::Out, &ENCODINGS[..], rest),
        ("_IOW", rest @ [_, _, _]) => (Dir::In, &ENCODINGS[..], rest),
        ("_IOWR", rest @ [_, _, _]) => (Dir::InOut, &ENCODINGS[..], rest),
        ("_IOC", [dir, rest @ ..]) if rest.len() == 3 => {
            (strace_dir(dir).ok_or_else(usage)?, &ENCODINGS[1..], rest)
        }
        _ => return Err(usage().into()),
    };
    let byte = |text: &str| integer(text).and_then(|n| u8::try_from(n).ok());
    let group =
        letter(rest[0]).or_else(|| byte(rest[0])).ok_or("a group is a letter, as in 'B', or a byte")?;
    let number = byte(rest[1]).ok_or("a number within a group is a byte")?;
    let size = rest.get(2).map_or(Some(0), |text| integer(text));
    let size = size.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= 0x1fff);
    let size = size.ok_or("a size is in bytes, at most 8191")?;
    let mut numbers: Vec<_> =
        encodings.iter().map(|encoding| encoding.number(dir, group, number, size)).collect();
    numbers.dedup();
    Ok(Asked(numbers))
}

/// `'B'`.
fn letter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [b'\'', letter, b'\''] => Some(*letter),
        _ => None,
    }
}

/// Linux's words for directions, seen from the caller as well.
fn strace_dir(text: &str) -> Option<Dir> {
    let mut words: Vec<_> = text.split('|').map(str::trim).collect();
    words.sort_unstable();
    Some(match words[..] {
        ["_IOC_NONE" | "0"] => Dir::Void,
        ["_IOC_READ"] => Dir::Out,
        ["_IOC_WRITE"] => Dir::In,
        ["_IOC_READ", "_IOC_WRITE"] => Dir::InOut,
        _ => return None,
    })
}

/// A number's parts in one encoding.
#[derive(Serialize)]
struct Parts {
    direction: &'static str,
    group: u8,
    number: u8,
    size: usize,
    #[serde(rename = "macro")]
    call: String,
}

impl Parts {
    fn of(raw: u32, encoding: Encoding) -> Option<Parts> {
        let (dir, size) = encoding.split(raw)?;
        let [number, group, ..] = raw.to_le_bytes();
        let said =
            if group.is_ascii_graphic() { format!("'{}'", char::from(group)) } else { format!("{group:#x}") };
        let call = match dir {
            // _IO says no size
            Dir::Void if size == 0 => format!("_IO({said}, {number})"),
            Dir::Void => format!("_IOC(none, {said}, {number}, {size})"),
            Dir::Out => format!("_IOR({said}, {number}, {size})"),
            Dir::In => format!("_IOW({said}, {number}, {size})"),
            Dir::InOut => format!("_IOWR({said}, {number}, {size})"),
        };
        Some(Parts { direction: direction(dir), group, number, size, call })
    }
}

/// A request that a number is, on one system in one encoding.
#[derive(Serialize)]
struct Meaning {
    system: &'static str,
    encoding: &'static str,
    name: &'static str,
    callers: &'static str,
    arg_type: &'static str,
    size: usize,
    here: String,
}

/// Everything about one number.
#[derive(Serialize)]
struct Told {
    value: String,
    bsd: Option<Parts>,
    linux: Option<Parts>,
    /// The requests it is.
    requests: Vec<Meaning>,
    #[serde(skip)]
    raw: u32,
}

fn meaning(abi: &Abi, encoding: Encoding, raw: u32) -> Option<Meaning> {
    let (dir, size) = encoding.split(raw)?;
    let [number, group, ..] = raw.to_le_bytes();
    let is = |row: &&Row| (row.number, row.group, row.dir) == (number, group, dir) && row.arg.takes(size);
    let row = abi.requests.iter().find(is)?;
    let callers = match (lp64_of(abi, row), ilp32_of(abi, row)) {
        (Some(_), _) => "32-bit",
        (None, Some(_)) => "64-bit",
        (None, None) => "all",
    };
    let here = match here(abi, row.op) {
        said if abi.encodings.contains(&encoding) => said,
        _ => "not in this encoding".into(),
    };
    let (system, encoding) = (abi.name, source(encoding));
    Some(Meaning { system, encoding, name: row.name, callers, arg_type: arg_type(row), size, here })
}

impl Told {
    fn of(raw: u32) -> Told {
        let on =
            |abi: &'static Abi| ENCODINGS.into_iter().filter_map(move |encoding| meaning(abi, encoding, raw));
        let mut requests: Vec<Meaning> = TABLES.into_iter().flat_map(on).collect();
        // an INOUT number is the same in both encodings
        requests.dedup_by(|later, earlier| (later.system, later.name) == (earlier.system, earlier.name));
        Told {
            value: hex(raw),
            bsd: Parts::of(raw, Encoding::Bsd),
            linux: Parts::of(raw, Encoding::Linux),
            requests,
            raw,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{} ({})\n", self.value, self.raw);
        let parts = |parts: &Option<Parts>| {
            let Some(Parts { direction, size, call, .. }) = parts else {
                return "no direction it knows".into();
            };
            format!("{call}: {direction}, {size} bytes")
        };
        for (encoding, said) in ENCODINGS.into_iter().zip([parts(&self.bsd), parts(&self.linux)]) {
            text.push_str(&format!("  {:<19}  {said}\n", source(encoding)));
        }
        text.push('\n');
        if self.requests.is_empty() {
            text.push_str("no system's bpf(4) has this request\n");
            let near = near(self.raw);
            if !near.is_empty() {
                text.push_str("\nWith its group and number there are\n");
                text.push_str(&columns(&near, &[]));
            }
            return text;
        }
        let title = ["SYSTEM", "ENCODING", "REQUEST", "CALLERS", "ARGUMENT", "HERE"];
        let mut rows = vec![title.map(String::from).to_vec()];
        rows.extend(self.requests.iter().map(|m| {
            [m.system, m.encoding, m.name, m.callers, m.arg_type, &m.here].map(String::from).to_vec()
        }));
        text.push_str(&columns(&rows, &[]));
        let without: Vec<_> = TABLES.iter().map(|abi| abi.name).filter(|name| !self.has(name)).collect();
        if !without.is_empty() {
            text.push_str(&wrapped("", &format!("not a request of {}", without.join(", "))));
        }
        text
    }

    fn has(&self, system: &str) -> bool {
        self.requests.iter().any(|meaning| meaning.system == system)
    }
}

/// The requests with the same group and number, in BSD's encoding, and who has them.
fn near(raw: u32) -> Vec<Vec<String>> {
    let [low, group, ..] = raw.to_le_bytes();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for abi in TABLES {
        for row in abi.requests.iter().filter(|row| (row.number, row.group) == (low, group)) {
            let (name, value) = (format!("  {}", row.name), hex(number(row, Encoding::Bsd)));
            match rows.iter_mut().find(|known| known[0] == name && known[1] == value) {
                Some(known) => {
                    known[2].push_str(", ");
                    known[2].push_str(abi.name);
                }
                None => rows.push(vec![name, value, abi.name.into()]),
            }
        }
    }
    rows
}

/// Prints what the numbers are. Exit status 1 when no system has one of them.
///
/// # Errors
/// A stdout that cannot be written.
pub(super) fn run(asked: &Asked, json: bool) -> anyhow::Result<ExitCode> {
    let told: Vec<_> = asked.0.iter().map(|&raw| Told::of(raw)).collect();
    if json {
        print_json(&told)?;
    } else {
        print(&told.iter().map(Told::text).collect::<Vec<_>>().join("\n"))?;
    }
    let known = told.iter().any(|told| !told.requests.is_empty());
    Ok(if known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written_elsewhere() {
        for (text, numbers) in [
            ("0x8020426c", &[0x8020_426c][..]),
            ("2149597804", &[0x8020_426c]),
            ("-2145369492", &[0x8020_426c]),
            ("0xffffffff8020426c", &[0x8020_426c]),
            ("_IOW('B', 108, 32)", &[0x8020_426c, 0x4020_426c]),
            ("_IOW(0x42,108,32)", &[0x8020_426c, 0x4020_426c]),
            ("_IO('B',104)", &[0x2000_4268, 0x0000_4268]),
            ("_IOWR('B', 102, 4)", &[0xc004_4266]),
            ("_IOC(_IOC_READ, 0x42, 0x6c, 0x20)", &[0x8020_426c]),
            ("_IOC(_IOC_READ|_IOC_WRITE, 0x42, 0x66, 0x4)", &[0xc004_4266]),
        ] {
            assert_eq!(text.parse(), Ok(Asked(numbers.to_vec())), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for (text, says) in [
            ("", "decimal or hexadecimal"),
            ("BIOCSETIF", "decimal or hexadecimal"),
            ("0x", "decimal or hexadecimal"),
            ("--1", "decimal or hexadecimal"),
            ("0x+1", "decimal or hexadecimal"),
            ("99999999999999999999999", "decimal or hexadecimal"),
            ("0x100000000", "32 bits"),
            ("-2147483649", "32 bits"),
            ("_IOW('B', 108)", "_IOWR(group, number, bytes)"),
            ("_IOW('B', 108, struct ifreq)", "in bytes"),
            ("_IOW('B', 108, 8192)", "at most 8191"),
            ("_IOW('BB', 108, 4)", "a group is a letter"),
            ("_IOW('B', 256, 4)", "a byte"),
            ("_IOW('B', 108, 4", "_IOWR(group, number, bytes)"),
            ("_IOC(_IOC_UP, 1, 1, 1)", "_IOWR(group, number, bytes)"),
        ] {
            let error = text.parse::<Asked>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
