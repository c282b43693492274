//! What is left out when the outputs of two builds are compared, and why.

/// A rule by which lines are left out or changed on both sides.
#[derive(Debug)]
pub struct Mask {
    /// Why the two may differ here.
    pub why: &'static str,
    /// What is left of the lines.
    pub apply: fn(Vec<String>) -> Vec<String>,
}

/// What is left after all of these.
pub fn masked(lines: Vec<String>, masks: &[Mask]) -> Vec<String> {
    masks.iter().fold(lines, |lines, mask| (mask.apply)(lines))
}

/// `any` in the list of findalldevstest: its name and all that is indented below.
pub const NO_ANY: Mask = Mask {
    why: "the interface `any` is made by pcap-linux.c; no BSD has it",
    apply: |lines| {
        let mut within = false;
        let keep = |line: &String| {
            if !line.starts_with('\t') {
                // an empty line ends each
                within = line == "any" || (within && line.is_empty());
            }
            !within
        };
        lines.into_iter().filter(keep).collect()
    },
};

/// `any` in the numbered list of writecaptest, and the numbers.
pub const NO_ANY_NUMBERED: Mask = Mask {
    why: "the interface `any` is made by pcap-linux.c; no BSD has it. Those behind it have other numbers",
    apply: |lines| {
        let name = |line: String| match line.split_once('.') {
            Some((number, name)) if number.parse::<u32>().is_ok() => name.to_owned(),
            _ => line,
        };
        lines.into_iter().map(name).filter(|line| !line.starts_with("any ")).collect()
    },
};

/// Whether an interface is connected.
pub const NO_CONNECTION: Mask = Mask {
    why: "pcap-bpf.c asks for the medium with SIOCGIFMEDIA, which Linux has not: unknown, as on a BSD's interface without media",
    apply: |lines| {
        let without = |line: String| match line.split_once(" (") {
            Some((flags, _)) if flags.starts_with("\tFlags: ") => flags.to_owned(),
            _ => line,
        };
        lines.into_iter().map(without).collect()
    },
};

/// The interfaces, each with all that is indented below, in the order of their names.
pub const BY_NAME: Mask = Mask {
    why: "libpcap lists those that are disconnected last: see NO_CONNECTION",
    apply: |lines| {
        let mut blocks: Vec<Vec<String>> = Vec::new();
        for line in lines {
            match blocks.last_mut() {
                Some(block) if line.starts_with('\t') || line.is_empty() => block.push(line),
                _ => blocks.push(vec![line]),
            }
        }
        blocks.sort();
        blocks.concat()
    },
};

/// pcap_lib_version(3)'s remark.
pub const NO_MECHANISM: Mask = Mask {
    why: "pcap_lib_version(3) names what it captures with",
    apply: |lines| lines.into_iter().map(|line| line.replace(" (with TPACKET_V3)", "")).collect(),
};

/// Seconds of processor time.
pub const NO_SECONDS: Mask = Mask {
    why: "times",
    apply: |lines| {
        let digit = |c: char| c.is_ascii_digit() || ".e-".contains(c);
        let without = |line: String| {
            if !line.starts_with("Total CPU secs: ") {
                return line;
            }
            let word = |word: &str| {
                if word.trim_end_matches(',').chars().all(digit) { "N".to_owned() } else { word.to_owned() }
            };
            line.split(' ').map(word).collect::<Vec<_>>().join(" ")
        };
        lines.into_iter().map(without).collect()
    },
};

/// How the packets were dispatched; that their sum is the same is checked.
pub const NO_COUNTS: Mask = Mask {
    why: "how many packets a dispatch returns, and how often one returns none, depends on the moment",
    apply: |lines| lines.into_iter().filter(|line| !line.contains(" packets seen")).collect(),
};

/// pcap_stats(3).
pub const NO_STATISTICS: Mask = Mask {
    why: "bpf(4) counts packets before the filter, a packet socket those behind it; and as of NO_COUNTS",
    apply: |lines| lines.into_iter().filter(|line| !line.contains(" ps_recv, ")).collect(),
};

/// Wake-ups of select(2) and poll(2) that are equal are one.
pub const WAKE_UPS_ONCE: Mask = Mask {
    why: "how often it wakes up depends on the moment",
    apply: |mut lines| {
        let mut seen = Vec::new();
        lines.retain(|line| {
            let again = line.contains(" returned a descriptor: ") && seen.contains(line);
            seen.push(line.clone());
            !again
        });
        lines
    },
};

/// Wake-ups and time-outs of select(2) and poll(2), where they are called with a time-out of 1 ms.
pub const NO_WAKE_UPS: Mask = Mask {
    why: "whether a packet comes within the millisecond depends on the moment",
    apply: |lines| {
        // select's line has no end
        let words = ["Select timed out: ", "Poll timed out"];
        let without = |line: String| words.iter().fold(line, |line, word| line.replace(word, ""));
        // the last may have been cut by the end
        let cut = |line: &str| words.iter().any(|word| word.starts_with(line));
        let kept = |line: &String| !cut(line) && !line.contains(" returned a descriptor: ");
        lines.into_iter().map(without).filter(kept).collect()
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mask: Mask, before: &[&str], after: &[&str]) {
        let before = before.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(masked(before, &[mask]), after);
    }

    #[test]
    fn only_what_they_name_is_left_out() {
        check(
            NO_ANY,
            &["c0", "\tFlags: UP", "", "any", "\tFlags: UP", "", "lo", "\tx", ""],
            &["c0", "\tFlags: UP", "", "lo", "\tx", ""],
        );
        check(NO_ANY_NUMBERED, &["1.c0", "2.any (all)", "3.lo", "x.y"], &["c0", "lo", "x.y"]);
        check(
            NO_CONNECTION,
            &["\tFlags: UP, RUNNING (connected)", "a (b)"],
            &["\tFlags: UP, RUNNING", "a (b)"],
        );
        check(
            NO_SECONDS,
            &["Total CPU secs: kernel 0.02, user 1e-05, total 3", "1"],
            &["Total CPU secs: kernel N user N total N", "1"],
        );
        check(BY_NAME, &["lo", "\tx", "", "c0", "\ty", ""], &["c0", "\ty", "", "lo", "\tx", ""]);
        check(NO_MECHANISM, &["1.10.3 (with TPACKET_V3)"], &["1.10.3"]);
        check(NO_COUNTS, &["3 packets seen", "3 packets"], &["3 packets"]);
        check(
            WAKE_UPS_ONCE,
            &["a returned a descriptor: x", "b", "b", "a returned a descriptor: x"],
            &["a returned a descriptor: x", "b", "b"],
        );
        check(NO_WAKE_UPS, &["Select timed out: Select timed out: ", "Poll timed out", "b"], &["b"]);
    }
}
