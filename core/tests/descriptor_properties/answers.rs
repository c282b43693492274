//! What the requests that only ask must answer: what was set, or semantics.md 2's defaults.

use std::collections::BTreeMap;

use bpfdev_core::abi::Response;
use bpfdev_core::errno::Errno;

use super::model::Model;

/// Values by the name of the request that tells them, as far as the test knows them ("BIOC" left out).
#[derive(Debug)]
pub struct Answers(BTreeMap<&'static str, u32>);

impl Answers {
    /// semantics.md 2.
    pub fn defaults(name: &str) -> Answers {
        let zeros =
            ["GHDRCMPLT", "GFEEDBACK", "GTSTAMP", "GFILDROP", "GWRITEMAX", "GHEADDROP", "GNOTSTAMP", "GETTC"];
        let mut known: BTreeMap<_, _> = zeros.into_iter().map(|name| (name, 0)).collect();
        // semantics.md 11, "default": both
        known.extend([("GDIRECTION", if name == "macos" { 3 } else { 1 }), ("GSEESENT", 1), ("GDIRFILT", 0)]);
        Answers(known)
    }

    /// A request that sets something has succeeded, with this number as its argument.
    pub fn set(&mut self, system: &str, what: &str, word: u32) {
        let macos = system == "macos";
        let flag = u32::from(word != 0);
        let told: &[(&'static str, u32)] = match what {
            "SHDRCMPLT" => &[("GHDRCMPLT", flag)],
            "SDIRECTION" if macos => &[("GDIRECTION", word), ("GSEESENT", word >> 1 & 1)],
            "SDIRECTION" => &[("GDIRECTION", word)],
            "SSEESENT" if macos => &[("GDIRECTION", flag * 2 + 1), ("GSEESENT", flag)],
            "SSEESENT" => &[("GSEESENT", word)],
            // "other bits dropped"
            "SDIRFILT" => &[("GDIRFILT", word & 3)],
            "SFILDROP" => &[("GFILDROP", word)],
            "SRSIG" => &[("GRSIG", word)],
            "SFEEDBACK" => &[("GFEEDBACK", word)],
            "STSTAMP" => &[("GTSTAMP", word)],
            "SETTC" => &[("GETTC", word)],
            "SWRITEMAX" => &[("GWRITEMAX", word)],
            "SHEADDROP" => &[("GHEADDROP", flag)],
            "SNOTSTAMP" => &[("GNOTSTAMP", flag)],
            // fsetown(9): a process, or the negative of a group; TIOCSPGRP's argument is a group
            "FIOSETOWN" => &[("FIOGETOWN", word), ("TIOCGPGRP", word.wrapping_neg())],
            "TIOCSPGRP" => &[("FIOGETOWN", word.wrapping_neg()), ("TIOCGPGRP", word)],
            _ => &[],
        };
        self.0.extend(told.iter().copied());
    }
}

impl Model {
    /// The answer of a request that only asks, where the test knows it.
    pub fn answer(&self, what: &str) -> Option<Result<Response, Errno>> {
        let number = |value: usize| Response::U32(u32::try_from(value).expect("small"));
        // semantics.md 3: EINVAL without an interface
        let attached = self.link.ok_or(Errno::Inval);
        Some(match what {
            "GBLEN" => Ok(number(self.bufsize)),
            "GDLT" => attached.map(|link| Response::U32(self.dlt(link.dlt))),
            "GETIF" => attached.map(|link| Response::Name(link.name.to_owned())),
            "GRTIMEOUT" | "GORTIMEOUT" => Ok(timeval(self.timeout?)),
            "GWTIMEOUT" => self.wait.map(timeval).ok_or(Errno::NxIo),
            "GSTATS" => {
                let (recv, capt, drop) = self.counters;
                Ok(Response::Stats { recv, drop, capt })
            }
            "VERSION" => Ok(Response::Version { major: 1, minor: 1 }),
            "FIONREAD" => Ok(number(self.fionread())),
            _ => Ok(Response::U32(*self.answers.0.get(what)?)),
        })
    }

    /// semantics.md 17: raw is 14 on OpenBSD and DLT_LOOP 12.
    fn dlt(&self, linktype: u32) -> u32 {
        match (self.system.name, linktype) {
            ("openbsd", 12) => 14,
            ("openbsd", 108) => 12,
            _ => linktype,
        }
    }

    /// semantics.md 5, FIONREAD: macOS counts its hold only while it is copied.
    pub fn fionread(&self) -> usize {
        if self.system.name == "macos" { self.store.bytes } else { self.bytes() }
    }
}

fn timeval(nanos: u64) -> Response {
    let micros = i64::try_from(nanos / 1000).expect("small");
    Response::Timeval { sec: micros / 1_000_000, usec: micros % 1_000_000 }
}
