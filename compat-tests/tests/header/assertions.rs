//! Assertions about the header as one source text, for C11 and C++, in one dialect and one data model.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::decided;
use crate::dialect::{Dialect, Model, rows, text};

const PREAMBLE: &str = "\
#ifdef __cplusplus
#define ASSERT(e) static_assert(e, #e)
#else
#define ASSERT(e) _Static_assert(e, #e)
#endif
";

/// Assertions in the making.
struct Text {
    c: String,
    /// Rows of abi.json that the header leaves out and that were not met yet.
    left_out: BTreeSet<&'static str>,
}

impl Text {
    fn line(&mut self, text: &str) {
        writeln!(self.c, "{text}").expect("a String takes all");
    }

    fn equal(&mut self, expression: &str, value: impl std::fmt::Display) {
        self.line(&format!("ASSERT({expression} == {value});"));
    }

    fn not_defined(&mut self, name: &str) {
        self.line(&format!("#ifdef {name}\n#error {name} is offered\n#endif"));
    }

    /// Whether the header offers this row; if not, it must not be there.
    fn offers(&mut self, name: &str) -> bool {
        if !self.left_out.remove(name) {
            return true;
        }
        match name {
            "FIONBIO" | "TIOCSPGRP" | "TIOCGPGRP" | "SIOCGIFADDR" => {} // Linux's own are there
            "ifreq" | "timeval" => {}
            name if name.starts_with("bpf_") => self.line(&format!("struct {name} {{ char left_out; }};")),
            name => self.not_defined(name),
        }
        false
    }
}

/// Every row of abi.json: offered, and as it says; or left out, and then not there.
pub fn of(dialect: Dialect, model: Model) -> String {
    let abi = dialect.abi();
    let c = format!("#include <net/bpf.h>\n#include <net/if.h>\n{PREAMBLE}");
    let mut text = Text { c, left_out: decided::left_out(dialect) };
    requests(&mut text, &abi, dialect, model);
    structures(&mut text, &abi, dialect, model);
    constants(&mut text, &abi, dialect, model);
    for (name, value) in rows(&abi, "dlt") {
        text.equal(name, value);
    }
    assert!(text.left_out.is_empty(), "not in abi.json: {:?}", text.left_out);
    text.c
}

/// The link types alone; the includes come before.
pub fn link_types(dialect: Dialect) -> String {
    let mut c = PREAMBLE.to_owned();
    for (name, value) in rows(&dialect.abi(), "dlt") {
        writeln!(c, "ASSERT({name} == {value});").expect("a String takes all");
    }
    c
}

fn requests(text_: &mut Text, abi: &Value, dialect: Dialect, model: Model) {
    for row in abi["ioctls"].as_array().expect("ioctls") {
        let name = text(row, "name");
        if !text_.offers(name) {
            continue;
        }
        let value = |key: &str| {
            let key = format!("{}_{key}", if dialect.is_linux() { "linux" } else { "bsd" });
            row[&key].as_str().map(str::to_owned)
        };
        let lp64 = value("value").unwrap_or_else(|| panic!("{name} has no number: leave it out"));
        let ilp32 = value("value_ilp32").unwrap_or_else(|| lp64.clone());
        if let Some(native) = name.strip_suffix("32") {
            // What a 64-bit kernel calls the request of a 32-bit program, for which it is the native one.
            let other_timeval = native.ends_with("RTIMEOUT") && model == Model::Ilp32Time64;
            if model != Model::Lp64 && !other_timeval {
                text_.equal(native, lp64);
            }
            continue;
        }
        if row["group"] == "f" {
            text_.equal(&format!("BIOC{name}"), lp64);
            continue;
        }
        if row["private"] == true && !dialect.has_private() {
            text_.not_defined(name);
            continue;
        }
        match ours(dialect, model, name, text(row, "arg_type").starts_with("struct timeval")) {
            Number::Literal(value) => text_.equal(name, value),
            Number::None => text_.not_defined(name),
            Number::Lp64 => text_.equal(name, lp64),
            Number::Native if model == Model::Lp64 => text_.equal(name, lp64),
            Number::Native => text_.equal(name, ilp32),
        }
    }
    for (alias, name) in decided::aliases(dialect) {
        text_.equal(alias, name);
    }
    for name in ["FIONREAD == 0x541b", "FIONBIO == 0x5421", "FIOASYNC == 0x5452"] {
        text_.line(&format!("ASSERT({name});"));
    }
    for name in ["SIOCGIFMEDIA", "BPF_TIMEVAL"] {
        text_.not_defined(name); // a name that misleads libpcap
    }
}

/// Which of its numbers a request has here.
enum Number {
    /// abi.json's for this data model.
    Native,
    /// abi.json's for LP64.
    Lp64,
    /// Another.
    Literal(&'static str),
    /// The request is not offered.
    None,
}

/// The structures of Linux's C library that are not the BSD's, and the requests that mean them.
fn ours(dialect: Dialect, model: Model, name: &str, timeval: bool) -> Number {
    match (dialect.name, name) {
        // sizeof(struct ifreq) is 40 on Linux LP64 and 32 everywhere else.
        ("linux", "BIOCSETIF") if model == Model::Lp64 => Number::Literal("0x4028426c"),
        ("linux", "BIOCGETIF") if model == Model::Lp64 => Number::Literal("0x8028426b"),
        // NetBSD's has 144 bytes, more than Linux's: the rows OBIOCSETIF and OBIOCGETIF.
        ("netbsd", "BIOCSETIF") => Number::Literal("0x8020426c"),
        ("netbsd", "BIOCGETIF") => Number::Literal("0x4020426b"),
        // 8 bytes are not i386's 12: the older requests, rows BIOCSORTIMEOUT and BIOCGORTIMEOUT, mean them.
        ("netbsd", "BIOCSRTIMEOUT") if model == Model::Ilp32 => Number::Literal("0x8008426d"),
        ("netbsd", "BIOCGRTIMEOUT") if model == Model::Ilp32 => Number::Literal("0x4008426e"),
        // OpenBSD has no older ones. 16 bytes are its arm's, and LP64's.
        ("openbsd", _) if timeval && model == Model::Ilp32 => Number::None,
        _ if timeval && model == Model::Ilp32Time64 => Number::Lp64,
        _ => Number::Native,
    }
}

/// Structures that only PRIVATE brings.
const PRIVATE: &[&str] = &["bpf_comp_hdr", "bpf_hdr_ext"];

fn structures(text_: &mut Text, abi: &Value, dialect: Dialect, model: Model) {
    for (name, row) in rows(abi, "structs") {
        if !text_.offers(name) || (PRIVATE.contains(&name.as_str()) && !dialect.has_private()) {
            continue;
        }
        let (layout, sized) = match (model, &row["ilp32"]) {
            (Model::Lp64, _) => (row, true),
            // fields of 8 bytes need less alignment on i386: only the padding behind them differs
            (_, Value::Null) => (row, name != "bpf_xhdr"),
            (_, ilp32) => (ilp32, true),
        };
        if sized {
            text_.equal(&format!("sizeof(struct {name})"), &layout["size"]);
        }
        for field in layout["fields"].as_array().expect("fields") {
            let member = text(field, "name");
            if member == "pad" {
                continue;
            }
            text_.equal(&format!("offsetof(struct {name}, {member})"), &field["offset"]);
            // macOS's pointer is in a union with 64 bits
            let union = dialect.system == "macos" && member == "bfl_list";
            let member = if union { "bfl_u" } else { member };
            text_.equal(&format!("sizeof(((struct {name} *)0)->{member})"), &field["size"]);
        }
    }
    if dialect.is_linux() {
        text_.equal("sizeof(struct bpf_ifreq)", "sizeof(struct ifreq)");
    } else {
        text_.equal("sizeof(struct bpf_ifreq)", 32);
        text_.line("ASSERT(sizeof(struct bpf_ifreq) <= sizeof(struct ifreq));");
    }
}

fn constants(text_: &mut Text, abi: &Value, dialect: Dialect, model: Model) {
    let header = match (dialect.system, model) {
        ("freebsd", Model::Lp64) => "bpf_hdr (MICROTIME*, NONE)",
        ("freebsd" | "netbsd", Model::Ilp32 | Model::Ilp32Time64) => "native i386",
        ("netbsd" | "dragonfly", _) => "amd64",
        ("openbsd", _) => "all archs since bpf.h 1.69 (2020-06-18, 6.8)",
        _ => "bpf_hdr",
    };
    let record = &abi["bh_hdrlen"][header];
    text_.equal("SIZEOF_BPF_HDR", &record["kernel_header_bytes"]);
    for expression in ["BPF_ALIGNMENT", "BPF_WORDALIGN(1)"] {
        text_.equal(expression, &record["alignment"]);
    }
    text_.equal("BPF_WORDALIGN(0)", 0);

    for (name, value) in rows(abi, "constants") {
        if matches!(name.as_str(), "BPF_ALIGNMENT" | "BPF_ALIGNMENT_ilp32") || !text_.offers(name) {
            continue; // each data model's own: above
        }
        if dialect.system == "macos" && name.starts_with("BPF_D_") && !dialect.has_private() {
            text_.not_defined(name);
        } else {
            text_.equal(name, value);
        }
    }
    // semantics.md 9, row "MOD, XOR"; DragonFly's header has them since (u)
    if matches!(dialect.system, "openbsd" | "macos") {
        text_.not_defined("BPF_MOD");
        text_.not_defined("BPF_XOR");
    } else {
        text_.equal("BPF_MOD", "0x90");
        text_.equal("BPF_XOR", "0xa0");
    }
}
