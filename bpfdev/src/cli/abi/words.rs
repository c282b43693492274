//! A table's limits and rules in words: one function a kind of rule, whatever the system.

use std::time::Duration;

use bpfdev_core::abi::rules::{
    DirectionRule, FeedbackRule, Ilp32Rule, ImmediateRule, LoopbackWrite, NameRule, Nodes, PollRules,
    Removal, Rules, TimeoutRule, TimevalCheck, Unattached, UnattachedPoll, WriteRules,
};
use bpfdev_core::abi::{Abi, Op};
use bpfdev_core::backend::LoopbackFraming;
use bpfdev_core::cbpf::rules::{Last, Opcodes, Rules as FilterRules};
use bpfdev_core::linktype::Linktype;
use bpfdev_core::packet::Way;

/// A rule or a limit, in words.
pub(super) struct Fact {
    pub name: &'static str,
    pub words: String,
}

fn fact(name: &'static str, words: impl Into<String>) -> Fact {
    Fact { name, words: words.into() }
}

/// One of two sentences.
fn either(yes: bool, then: &'static str, otherwise: &'static str) -> &'static str {
    if yes { then } else { otherwise }
}

/// Sizes and counts.
pub(super) fn limits(abi: &Abi) -> Vec<Fact> {
    let Rules { bufsize, bufsize_min, bufsize_max, timeout, write, .. } = &abi.rules;
    let mut limits = vec![
        fact("buffer", format!("{bufsize} bytes")),
        fact("smallest buffer", format!("{bufsize_min} bytes")),
        fact("largest buffer", format!("{bufsize_max} bytes")),
        fact("time-out tick", tick(timeout.tick)),
        fact("filter", format!("{} instructions", abi.filter.max_insns)),
        fact("frame beyond the MTU", format!("{} bytes", write.leeway)),
    ];
    let longest =
        write.largest.map_or("the interface's MTU".into(), |largest| format!("{} bytes", largest.bytes));
    limits.push(fact("longest frame written", longest));
    limits
}

fn tick(tick: Duration) -> String {
    match tick.as_micros() {
        us if us % 1000 == 0 => format!("{} ms", us / 1000),
        us => format!("{us} µs"),
    }
}

/// The rules, in the order of semantics: opening, set-up, reading, readiness, filters, writing, link types. A rule
/// about a request is left out where there is no such request.
pub(super) fn rules(abi: &Abi) -> Vec<Fact> {
    // every field is named, so that a new rule is not forgotten here
    let Rules {
        nodes,
        write_only_is_writer,
        bufsize: _,
        bufsize_min: _,
        bufsize_max: _,
        buffers_fix_bufsize,
        sblen_makes_buffers,
        timeout,
        immediate,
        direction,
        direction_default,
        feedback,
        name,
        unattached,
        nothing_reads_zero,
        one_deadline,
        signal_gives_buffered,
        fionread_counts_hold,
        header_must_fit,
        poll,
        removal,
        counts_hidden,
        write_filter_flushes,
        empty_filter_ignores_pointer,
        removing_filter_flushes,
        write,
        loopback_way,
        dlt_list_partial,
        dlt_keeps_promiscuous,
        ilp32,
        root_ignores_lock,
    } = &abi.rules;
    let has = |op: Op| abi.requests.iter().any(|row| row.op == op);
    let mut facts = vec![
        fact("nodes", self::nodes(*nodes)),
        fact(
            "O_WRONLY",
            either(
                *write_only_is_writer,
                "sees no packets before it has a read filter",
                "is counted for like any descriptor",
            ),
        ),
        fact("buffers", buffers(*buffers_fix_bufsize, *sblen_makes_buffers)),
        fact("interface name", self::name(*name)),
        fact("read time-out", self::timeout(*timeout)),
        fact("immediate", self::immediate(*immediate)),
        fact("direction", self::direction(abi, *direction, *direction_default)),
    ];
    if has(Op::Feedback) {
        facts.push(fact("feedback", self::feedback(*feedback)));
    }
    if has(Op::Lock) {
        facts.push(fact("lock and root", either(*root_ignores_lock, "does not bind root", "binds root too")));
    }
    facts.extend([
        fact("read with no interface", self::unattached(*unattached)),
        fact(
            "read, nothing there",
            either(*nothing_reads_zero, "returns 0 where it would block", "EAGAIN where it would block"),
        ),
        fact(
            "waking reader",
            either(
                *one_deadline,
                "goes on until its one deadline",
                "waits for the whole time-out again when there is nothing yet",
            ),
        ),
        fact(
            "signal",
            either(*signal_gives_buffered, "returns what is buffered, EINTR if nothing is", "EINTR"),
        ),
        fact(
            "FIONREAD",
            either(*fionread_counts_hold, "store and hold buffer", "the store buffer; not the hold buffer"),
        ),
        fact(
            "tiny buffer",
            either(
                *header_must_fit,
                "a buffer smaller than a header sees no packets",
                "a buffer smaller than a header sees packets with caplen 0",
            ),
        ),
        fact("32-bit records", self::ilp32(*ilp32)),
        fact("poll(2)", self::poll(poll)),
        fact("interface removed", self::removal(*removal)),
        fact(
            "received counts",
            either(*counts_hidden, "what the direction hides, too", "not what the direction hides"),
        ),
        fact("filter codes", codes(abi.filter)),
        fact("filter machine", machine(abi.filter)),
        fact("removing a filter", removing(*empty_filter_ignores_pointer, *removing_filter_flushes)),
    ]);
    if has(Op::SetWf) {
        facts.push(fact(
            "write filter",
            format!(
                "{}; setting it {}",
                either(
                    write.filter_passes_whole,
                    "must accept the whole frame",
                    "must accept the frame, be it one byte of it",
                ),
                either(*write_filter_flushes, "flushes, as BIOCSETF does", "flushes nothing"),
            ),
        ));
    }
    facts.extend([
        fact("write", self::write(write)),
        fact("writable link types", linktypes(abi, write.linktypes)),
        fact("loopback framing", framing(abi, abi.loopback)),
        fact(
            "loopback packets",
            format!("count as {}", either(*loopback_way == Way::In, "received", "sent")),
        ),
        fact("loopback write", loopback_write(write.loopback)),
        fact(
            "short link type list",
            either(*dlt_list_partial, "gets what fits, and ENOMEM", "gets nothing, and ENOMEM"),
        ),
        fact(
            "changed link type",
            either(*dlt_keeps_promiscuous, "keeps the interface promiscuous", "ends promiscuous mode"),
        ),
        fact("link type numbers", dlts(abi)),
    ]);
    facts
}

/// The nodes, as names.
pub(super) fn nodes(nodes: Nodes) -> String {
    let range = |n: u32| match n {
        0 => String::new(),
        1 => ", bpf0".into(),
        n => format!(", bpf0 to bpf{}", n - 1),
    };
    match nodes {
        Nodes::None => "none here: its device is not served".into(),
        Nodes::Cloning { numbered } => format!("bpf{}: each open has its own descriptor", range(numbered)),
        Nodes::CloningAndFixed { fixed } => {
            format!("bpf: each open has its own descriptor{}: one opener each (EBUSY)", range(fixed))
        }
        Nodes::OneOpenerEach { at_first, most } => format!(
            "bpf0 to bpf{}: one opener each (EBUSY); one more when the last is opened, {most} at most (ENXIO)",
            at_first.saturating_sub(1)
        ),
    }
}

fn buffers(fixed: bool, sblen_makes: bool) -> String {
    format!(
        "{}; BIOCSBLEN is EINVAL once {}",
        either(sblen_makes, "made by BIOCSBLEN, anew each time, or by BIOCSETIF", "made by BIOCSETIF"),
        either(fixed, "they are there, attached or not", "there is an interface"),
    )
}

fn name(rule: NameRule) -> &'static str {
    match rule {
        NameRule::AsIs => "as it is",
        NameRule::NeedsUnit => "one without a digit matches nothing",
    }
}

fn timeout(rule: TimeoutRule) -> String {
    let refused = match rule.check {
        TimevalCheck::UpTo(seconds) => {
            format!("EINVAL when negative, with microseconds outside a second, or above {seconds} s")
        }
        TimevalCheck::Clamp => {
            "EINVAL when negative or with microseconds outside a second; clamped when too long".into()
        }
        TimevalCheck::Nanoseconds => {
            "EINVAL when negative or with microseconds outside a second; EOVERFLOW when too \
             long for 64 bits of nanoseconds"
                .into()
        }
        TimevalCheck::None => "never refused; the arithmetic wraps".into(),
    };
    let rounded = either(rule.round_up, "up", "down, but never to none");
    format!("in ticks of {}, rounded {rounded}; {refused}", tick(rule.tick))
}

fn immediate(rule: ImmediateRule) -> &'static str {
    match rule {
        ImmediateRule::Flag => "a flag: what is stored can be read at once",
        ImmediateRule::FirstByte => {
            "a flag, the first byte of the argument: what is stored can be read at once"
        }
        ImmediateRule::WaitTimeout => {
            "a wait time-out that begins with a packet; BIOCIMMEDIATE sets zero or none"
        }
    }
}

fn direction(abi: &Abi, rule: DirectionRule, fresh: u32) -> String {
    let name = abi.requests.iter().find(|row| row.op == Op::SDirection).map_or("direction", |row| row.name);
    let values = match rule {
        DirectionRule::InInoutOut => "0 received, 1 both, 2 sent; else EINVAL",
        DirectionRule::SeeSent => "0 received, anything else both",
        DirectionRule::HideMask => "hides by mask, 1 received, 2 sent; other bits are dropped",
        DirectionRule::ShowMask => "shows by mask, 1 received, 2 sent; other bits are EINVAL",
    };
    format!("{name}: {values}; {fresh} at first")
}

fn feedback(rule: FeedbackRule) -> &'static str {
    match rule {
        FeedbackRule::Once => {
            "a written frame also comes in: seen once, as received, where both directions are wanted"
        }
        FeedbackRule::Hidden => "no tap of the host sees a written frame",
    }
}

fn unattached(rule: Unattached) -> &'static str {
    match rule {
        Unattached::NxIo => "what is buffered, then ENXIO",
        Unattached::NxIoFirst => "ENXIO, whatever is buffered",
        Unattached::Waits => "waits like any other",
    }
}

fn ilp32(rule: Ilp32Rule) -> &'static str {
    match rule {
        Ilp32Rule::Layout => "after a request of a 32-bit caller whose layout is a 32-bit one",
        Ilp32Rule::Any => "after any request of a 32-bit caller",
        Ilp32Rule::Last => "when the last request was a 32-bit caller's",
    }
}

fn poll(rules: &PollRules) -> String {
    let unattached = match rules.unattached {
        UnattachedPoll::Ready => "with no interface it is ready for everything",
        UnattachedPoll::Same => "with no interface it is as with one",
        UnattachedPoll::Nothing => "with no interface it says nothing",
    };
    format!(
        "{}; {}; {unattached}",
        either(rules.writable, "always writable", "never writable"),
        either(rules.starts_timer, "polling starts the read time-out", "polling starts no time-out"),
    )
}

fn removal(rule: Removal) -> &'static str {
    match rule {
        Removal::Wakes => "sleepers wake: what is buffered, then ENXIO",
        Removal::Silent => "sleepers sleep on",
        Removal::Revokes => {
            "the file is revoked: sleepers get what is buffered or EIO; later EIO, EBADF of requests, POLLHUP"
        }
    }
}

fn codes(rules: &FilterRules) -> String {
    let FilterRules {
        empty_accepts, max_insns: _, opcodes, last, mod_xor, random, refuses_coprocessor, ..
    } = rules;
    let mut said = vec![
        match opcodes {
            Opcodes::Exact => "junk codes are EINVAL",
            Opcodes::ByClass => "codes are told by class; junk that passes rejects the packet",
        },
        match last {
            Last::AnyReturn => "the last is any ret",
            Last::ReturnKOrA => "the last is ret #k or ret a",
        },
        either(*mod_xor, "mod and xor", "no mod, no xor"),
    ];
    if *random {
        said.push("ld #random");
    }
    if *refuses_coprocessor {
        said.push("cop and copx are EINVAL");
    }
    said.push(either(*empty_accepts, "an empty program accepts all", "no empty program"));
    said.join("; ")
}

fn machine(rules: &FilterRules) -> String {
    let mut said =
        vec![either(rules.memory_starts_zero, "M[] begins as 0", "M[] must be stored before it is loaded")];
    if rules.refuses_wide_shift {
        said.push("shifts by 32 or more are EINVAL");
    }
    said.push(match (rules.indirect_wraps.tap, rules.indirect_wraps.contiguous) {
        (true, true) => "x + k wraps at 2^32",
        (true, false) => "x + k wraps at 2^32 in a received packet, and rejects a written one",
        (false, true) => "x + k past 2^32 rejects a received packet, and wraps in a written one",
        (false, false) => "x + k past 2^32 rejects the packet",
    });
    if rules.half_load_past_end_is_zero {
        said.push("ldh [k] past the end of a received packet loads 0");
    }
    let limit = rules.packet_offset_limit.map(|limit| format!("; offsets are below {limit}"));
    said.join("; ") + &limit.unwrap_or_default()
}

fn removing(ignores_pointer: bool, flushes: bool) -> String {
    format!(
        "bf_len 0{}; {}",
        either(ignores_pointer, ", whatever the pointer", " and a null pointer; EINVAL with another"),
        either(flushes, "BIOCSETFNR flushes then, too", "flushes as the request does"),
    )
}

fn write(rules: &WriteRules) -> String {
    let mut said = vec![format!(
        "{}; ",
        either(rules.up_first, "ENETDOWN before anything else", "ENETDOWN only as the frame is put out"),
    )];
    said.push(format!("{} for less than a link header", rules.short.name()));
    if rules.complete_has_no_header {
        said.push(" (with BIOCSHDRCMPLT there is none to be shorter than, and all is payload)".into());
    }
    if let Some(largest) = rules.largest {
        let when = either(largest.before_mtu, "before the MTU is looked at", "after the MTU was looked at");
        said.push(format!("; {} for more than {} bytes, {when}", largest.errno.name(), largest.bytes));
    }
    if rules.ethertype_zero_is_length {
        said.push("; ethertype 0 becomes the payload's length".into());
    }
    said.concat()
}

fn linktypes(abi: &Abi, linktypes: &[(Linktype, usize)]) -> String {
    let said: Vec<_> = linktypes.iter().map(|&(linktype, _)| said(abi, linktype)).collect();
    format!("{}; others are EIO", said.join(" "))
}

/// Link types by the name of their constant, without `DLT_`.
const LINKTYPES: &[(Linktype, &str)] = &[
    (Linktype::NULL, "NULL"),
    (Linktype::EN10MB, "EN10MB"),
    (Linktype::SLIP, "SLIP"),
    (Linktype::PPP, "PPP"),
    (Linktype::FDDI, "FDDI"),
    (Linktype::ATM_RFC1483, "ATM_RFC1483"),
    (Linktype::IEEE802_11, "IEEE802_11"),
    (Linktype::IEEE802_11_RADIO, "IEEE802_11_RADIO"),
    (Linktype::APPLE_IP_OVER_IEEE1394, "APPLE_IP_OVER_IEEE1394"),
    (Linktype::PKTAP, "PKTAP"),
    (Linktype::RAW, "RAW"),
    (Linktype::LOOP, "LOOP"),
];

/// "RAW=14": name and that system's number.
fn said(abi: &Abi, linktype: Linktype) -> String {
    let number = abi.dlt(linktype);
    let name = LINKTYPES.iter().find(|(known, _)| *known == linktype).map(|(_, name)| *name);
    name.map_or_else(|| number.to_string(), |name| format!("{name}={number}"))
}

fn framing(abi: &Abi, framing: LoopbackFraming) -> String {
    let order = either(framing.network_order, "network order", "host order");
    let linktype = said(abi, framing.linktype);
    format!("DLT_{linktype}, a 32-bit family in {order}: AF_INET 2, AF_INET6 {}", framing.af_inet6)
}

fn loopback_write(rule: LoopbackWrite) -> &'static str {
    match rule {
        LoopbackWrite::Family => "the family comes first",
        LoopbackWrite::Refused => "EAFNOSUPPORT, after taps saw the frame behind one more family",
    }
}

/// The two that are not the same everywhere.
fn dlts(abi: &Abi) -> String {
    let one = |linktype: Linktype| {
        let usual = if abi.dlt(linktype) == linktype.0 {
            String::new()
        } else {
            format!(" (elsewhere {})", linktype.0)
        };
        format!("DLT_{}{usual}", said(abi, linktype))
    };
    [Linktype::RAW, Linktype::LOOP].map(one).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi::TABLES;

    #[test]
    fn every_system_has_its_rules_in_one_line_each() {
        for abi in TABLES {
            for Fact { name, words } in limits(abi).into_iter().chain(rules(abi)) {
                assert!(
                    !words.is_empty() && !words.contains('\n') && !words.contains("  "),
                    "{}: {name}: {words}",
                    abi.name
                );
            }
        }
    }

    #[test]
    fn a_link_type_that_is_written_has_a_name() {
        for abi in TABLES {
            let words = linktypes(abi, abi.rules.write.linktypes);
            let all = words.split(';').next().into_iter().flat_map(str::split_whitespace);
            assert!(all.clone().count() >= 5 && all.clone().all(|word| word.contains('=')), "{words}");
        }
    }
}
