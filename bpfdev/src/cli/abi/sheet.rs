//! One system's table, made ready to be printed or compared.

use std::fmt;

use bpfdev_core::abi::hdr::{Stamp, Tail};
use bpfdev_core::abi::{ALL, Abi, Arg, Dir, Encoding, Flag, Header, Op, Row};
use bpfdev_core::errno::Errno;
use serde::Serialize;

use super::notes::{self, Notes, Unverified};
use super::text::{columns, wrapped};
use super::words;

/// Everything that is said of one system. The names in JSON are those of abi.json where it has them.
#[derive(Serialize)]
pub(super) struct Sheet {
    pub system: &'static str,
    pub about: &'static str,
    pub served: bool,
    /// How numbers that its node takes are put together.
    pub encodings: Vec<&'static str>,
    pub requests: Vec<Request>,
    pub headers: Vec<Layout>,
    pub limits: Vec<Rule>,
    pub rules: Vec<Rule>,
    pub unverified: &'static [Unverified],
}

/// One request, with its form of 32-bit callers.
#[derive(Clone, Serialize)]
pub(super) struct Request {
    pub name: &'static str,
    pub direction: &'static str,
    pub group: char,
    pub number: u8,
    pub arg_type: &'static str,
    /// Of the argument, bytes; the least where it can have several sizes.
    pub size: usize,
    pub any_size: bool,
    pub bsd_value: String,
    pub linux_value: String,
    /// Present where it is another.
    pub ilp32: Option<Form>,
    /// Works while locked; absent where there is no BIOCLOCK.
    pub lock_allowed: Option<bool>,
    pub here: String,
    pub unverified: bool,
}

/// How a request of a 32-bit caller looks.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Form {
    pub name: &'static str,
    pub size: usize,
    pub bsd_value: String,
    pub linux_value: String,
}

/// A record header.
#[derive(Clone, Serialize)]
pub(super) struct Layout {
    pub name: &'static str,
    /// When records have it.
    pub of: &'static str,
    /// `sizeof`, bytes.
    pub size: usize,
    /// `BPF_ALIGNMENT`, bytes.
    pub alignment: usize,
    pub hdrlen: Hdrlen,
    pub fields: Vec<Field>,
    pub unverified: bool,
}

/// `bh_hdrlen`, bytes, by the length of the link header.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Hdrlen {
    pub ethernet: usize,
    pub loopback: usize,
    pub raw: usize,
}

/// A field of a record header: bytes.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub(super) struct Field {
    pub name: &'static str,
    pub offset: usize,
    pub size: usize,
}

/// A limit or a rule in words.
#[derive(Clone, Serialize)]
pub(super) struct Rule {
    pub name: &'static str,
    pub words: String,
    pub unverified: bool,
}

/// The header file an encoding is from.
pub(super) const fn source(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Bsd => "sys/ioccom.h",
        Encoding::Linux => "asm-generic/ioctl.h",
    }
}

/// The word for a direction.
pub(super) const fn direction(dir: Dir) -> &'static str {
    match dir {
        Dir::Void => "VOID",
        Dir::In => "IN",
        Dir::Out => "OUT",
        Dir::InOut => "INOUT",
    }
}

/// Whether there is a node that speaks it.
pub(super) fn served(abi: &Abi) -> bool {
    ALL.iter().any(|served| served.name == abi.name)
}

/// The C type of a request's argument.
pub(super) fn arg_type(row: &Row) -> &'static str {
    match row.arg {
        Arg::Void => "-",
        Arg::U32 => "u_int",
        Arg::Version => "struct bpf_version",
        Arg::Ifreq(_) if row.name.ends_with("LIF") => "struct lifreq",
        Arg::Ifreq(_) | Arg::AnyIfreq => "struct ifreq",
        Arg::Timeval64 | Arg::Timeval32 | Arg::TimevalUsec32 | Arg::Timeval12 => "struct timeval",
        Arg::Program64 | Arg::Program32 => "struct bpf_program",
        Arg::DltList64 | Arg::DltList32 | Arg::DltListPacked => "struct bpf_dltlist",
        Arg::Stats32 | Arg::Stats64 => "struct bpf_stat",
        Arg::Bytes(_) if row.op == Op::GetUuid => "uuid_t",
        Arg::Bytes(_) => "bytes",
    }
}

/// A request's number as programs of that encoding have it: a `struct ifreq` of any size is Linux's there, FreeBSD's here.
pub(super) fn number(row: &Row, encoding: Encoding) -> u32 {
    let size = match (row.arg, encoding) {
        (Arg::AnyIfreq, Encoding::Linux) => 40,
        (Arg::AnyIfreq, Encoding::Bsd) => 32,
        (arg, _) => arg.size(),
    };
    encoding.number(row.dir, row.group, row.number, size)
}

pub(super) fn hex(number: u32) -> String {
    format!("{number:#010x}")
}

/// The row of 32-bit callers that goes with `row`: BIOCSETF32 with BIOCSETF.
pub(super) fn ilp32_of<'a>(abi: &'a Abi, row: &Row) -> Option<&'a Row> {
    abi.requests.iter().find(|other| other.name.strip_suffix("32") == Some(row.name))
}

/// The row that `row` is the 32-bit callers' form of.
pub(super) fn lp64_of<'a>(abi: &'a Abi, row: &Row) -> Option<&'a Row> {
    let name = row.name.strip_suffix("32")?;
    abi.requests.iter().find(|other| other.name == name)
}

/// What the device does with a request.
pub(super) fn here(abi: &Abi, op: Op) -> String {
    let refused = |errno: Errno| format!("refused: {}", errno.name());
    match op {
        _ if !served(abi) => "not served".into(),
        Op::Refused(errno) => refused(errno),
        Op::Zeros => "answers zeros".into(),
        Op::SetFlag(Flag::DivertIn) => refused(Errno::OpNotSupp),
        Op::SetFlag(Flag::BatchWrite) => "on is refused: EOPNOTSUPP".into(),
        Op::SetFlag(Flag::HeaderCompression) => "taken, never on".into(),
        _ => "served".into(),
    }
}

impl Request {
    fn of(abi: &Abi, row: &Row, notes: &Notes) -> Request {
        let has_lock = abi.requests.iter().any(|row| row.op == Op::Lock);
        let value = |row: &Row, encoding| hex(number(row, encoding));
        Request {
            name: row.name,
            direction: direction(row.dir),
            group: char::from(row.group),
            number: row.number,
            arg_type: arg_type(row),
            size: row.arg.size(),
            any_size: row.arg == Arg::AnyIfreq,
            bsd_value: value(row, Encoding::Bsd),
            linux_value: value(row, Encoding::Linux),
            ilp32: ilp32_of(abi, row).map(|form| Form {
                name: form.name,
                size: form.arg.size(),
                bsd_value: value(form, Encoding::Bsd),
                linux_value: value(form, Encoding::Linux),
            }),
            lock_allowed: has_lock.then_some(row.while_locked),
            here: here(abi, row.op),
            unverified: notes.doubt("requests", row.name),
        }
    }

    /// Its size as it is printed.
    pub fn sizes(&self) -> String {
        if self.any_size { format!("{}+", self.size) } else { self.size.to_string() }
    }
}

impl Layout {
    fn of(name: &'static str, of: &'static str, header: &Header, notes: &Notes) -> Layout {
        let stamp: &[(&str, usize)] = match header.stamp {
            Stamp::Micro32 => &[("bh_tstamp.tv_sec", 4), ("bh_tstamp.tv_usec", 4)],
            Stamp::Micro64 => &[("bh_tstamp.tv_sec", 8), ("bh_tstamp.tv_usec", 8)],
            Stamp::Nano64 | Stamp::Bin64 => &[("bh_tstamp.bt_sec", 8), ("bh_tstamp.bt_frac", 8)],
        };
        let tail: &[(&str, usize)] = match header.tail {
            Tail::None => &[],
            Tail::OpenBsd => &[("bh_ifidx", 2), ("bh_flowid", 2), ("bh_flags", 1), ("bh_drops", 1)],
            Tail::Extended => &[
                ("bh_complen", 1),
                ("bh_flags", 1),
                ("bh_pid", 4),
                ("bh_comm", 17),
                ("bh_pktflags", 1),
                ("bh_trace_tag", 2),
                ("bh_svc", 4),
                ("bh_flowid", 4),
                ("bh_unsent_bytes", 4),
                ("bh_unsent_snd", 4),
                ("bh_comp_gencnt", 4),
            ],
        };
        let lengths: &[(&str, usize)] = &[("bh_caplen", 4), ("bh_datalen", 4), ("bh_hdrlen", 2)];
        let mut end = 0;
        let fields = [stamp, lengths, tail].concat().into_iter().map(|(name, size)| {
            end += size;
            Field { name, offset: end - size, size }
        });
        let fields = fields.collect();
        Layout {
            name,
            of,
            // its most aligned member is the time stamp's
            size: end.next_multiple_of(if header.stamp == Stamp::Micro32 { 4 } else { 8 }),
            alignment: header.alignment,
            hdrlen: Hdrlen { ethernet: header.hdrlen(14), loopback: header.hdrlen(4), raw: header.hdrlen(0) },
            fields,
            unverified: notes.doubt("headers", name),
        }
    }

    /// Its sizes in one line.
    pub fn summary(&self) -> String {
        let Hdrlen { ethernet, loopback, raw } = self.hdrlen;
        format!(
            "{} bytes, BPF_ALIGNMENT {}, bh_hdrlen {ethernet} on Ethernet, {loopback} on loopback, {raw} on DLT_RAW",
            self.size, self.alignment
        )
    }

    /// Its fields in one line: "bh_caplen 16:4", offset and size.
    pub fn fields_in_words(&self) -> String {
        let said: Vec<_> =
            self.fields.iter().map(|f| format!("{} {}:{}", f.name, f.offset, f.size)).collect();
        said.join(", ")
    }
}

fn headers(abi: &Abi, notes: &Notes) -> Vec<Layout> {
    let mut headers = Vec::new();
    if abi.header32 == abi.header {
        headers.push(Layout::of("struct bpf_hdr", "all callers", &abi.header, notes));
    } else {
        headers.push(Layout::of("struct bpf_hdr", "64-bit callers", &abi.header, notes));
        headers.push(Layout::of("struct bpf_hdr32", "32-bit callers", &abi.header32, notes));
    }
    if abi.requests.iter().any(|row| row.op == Op::STStamp) {
        let of = "64-bit callers, after BIOCSTSTAMP with NANOTIME or BINTIME";
        headers.push(Layout::of("struct bpf_xhdr", of, &abi.header.stamped(Stamp::Bin64), notes));
    }
    if let Some(extended) = &abi.extended {
        headers.push(Layout::of("struct bpf_hdr_ext", "all callers, after BIOCSEXTHDR", extended, notes));
    }
    headers
}

impl Sheet {
    /// The table of this system.
    pub fn of(abi: &Abi) -> Sheet {
        let notes = notes::of(abi.name);
        let rules = |kind, facts: Vec<words::Fact>| {
            let rule =
                |words::Fact { name, words }| Rule { name, words, unverified: notes.doubt(kind, name) };
            facts.into_iter().map(rule).collect()
        };
        let own = abi.requests.iter().filter(|row| lp64_of(abi, row).is_none());
        Sheet {
            system: abi.name,
            about: notes.about,
            served: served(abi),
            encodings: abi.encodings.iter().map(|&encoding| source(encoding)).collect(),
            requests: own.map(|row| Request::of(abi, row, notes)).collect(),
            headers: headers(abi, notes),
            limits: rules("limits", words::limits(abi)),
            rules: rules("rules", words::rules(abi)),
            unverified: notes.unverified,
        }
    }
}

/// A name, marked where it is in doubt.
pub(super) fn marked(name: &str, unverified: bool) -> String {
    if unverified { format!("{name} (u)") } else { name.to_owned() }
}

/// yes, no, or nothing to say.
pub(super) fn yes(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.system, self.about)?;
        let served = if self.served { "served" } else { "not served: its table only" };
        writeln!(f, "{served}; numbers as in {}", self.encodings.join(" and "))?;

        let title =
            ["REQUEST", "BSD", "LINUX", "WAY", "ARGUMENT", "SIZE", "32-BIT", "SIZE", "LOCKED", "HERE"];
        let mut rows = vec![title.map(String::from).to_vec()];
        rows.extend(self.requests.iter().map(|request| {
            let (number, size) = request.ilp32.as_ref().map_or(("same".into(), String::new()), |form| {
                (form.bsd_value.clone(), form.size.to_string())
            });
            vec![
                marked(request.name, request.unverified),
                request.bsd_value.clone(),
                request.linux_value.clone(),
                request.direction.into(),
                request.arg_type.into(),
                request.sizes(),
                number,
                size,
                yes(request.lock_allowed).into(),
                request.here.clone(),
            ]
        }));
        write!(f, "\nRequests: numbers in both encodings, 32-BIT those of 32-bit callers (BSD's encoding)")?;
        let has_lock = self.requests.iter().any(|request| request.lock_allowed.is_some());
        let locked = if has_lock { "LOCKED: works after BIOCLOCK" } else { "there is no BIOCLOCK" };
        write!(f, "; {locked}\n{}", columns(&rows, &[5, 7]))?;

        for header in &self.headers {
            let name = marked(header.name, header.unverified);
            write!(f, "\n{name}, {}: {}\n", header.of, header.summary())?;
            let mut rows = vec![["  OFFSET", "SIZE", "FIELD"].map(String::from).to_vec()];
            rows.extend(
                header
                    .fields
                    .iter()
                    .map(|field| vec![field.offset.to_string(), field.size.to_string(), field.name.into()]),
            );
            f.write_str(&columns(&rows, &[0, 1]))?;
        }

        write!(f, "\nLimits\n{}", facts(&self.limits))?;
        write!(f, "\nRules\n{}", facts(&self.rules))?;
        if !self.unverified.is_empty() {
            writeln!(f, "\nNot verified (u)")?;
            self.unverified.iter().try_for_each(|doubt| f.write_str(&wrapped("  ", doubt.what)))?;
        }
        Ok(())
    }
}

fn facts(rules: &[Rule]) -> String {
    let name = |rule: &Rule| marked(rule.name, rule.unverified);
    let width = rules.iter().map(|rule| name(rule).chars().count()).max().unwrap_or(0);
    rules.iter().map(|rule| wrapped(&format!("  {:<width$}  ", name(rule)), &rule.words)).collect()
}
