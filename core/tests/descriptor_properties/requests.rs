//! ioctl(2): a request by its number and its argument's bytes, what the tap does for it, and what must have come of it.

use bpfdev_core::abi::{self, Abi, Dir, Response};
use bpfdev_core::backend::{Interface, Queued};
use bpfdev_core::descriptor::{Caller, Effect};
use bpfdev_core::errno::Errno;
use proptest::sample::Index;

use super::action::{NAMES, Values};
use super::model::{Link, Timer};
use super::system::Marks;
use super::world::{World, interface};

/// The name without what is around it: "SRTIMEOUT" of "BIOCSRTIMEOUT32".
fn short(name: &str) -> &str {
    let name = name.strip_prefix("BIOC").unwrap_or(name);
    name.strip_suffix("32").unwrap_or(name)
}

/// Seconds and microseconds of a `struct timeval` of 8, 12 or 16 bytes (abi.json: SRTIMEOUT's sizes).
fn timeval(arg: &[u8]) -> (i64, i64) {
    let word = |at: usize| i64::from(i32::from_ne_bytes(*arg[at..].first_chunk().expect("four bytes")));
    let long = |at: usize| i64::from_ne_bytes(*arg[at..].first_chunk().expect("eight bytes"));
    match arg.len() {
        8 => (word(0), word(4)),
        // where there are four bytes more, they are padding, or zero in a time that was taken
        _ => (long(0), word(8)),
    }
}

impl World {
    pub(super) fn ioctl(
        &mut self,
        row: &Index,
        foreign: Option<&Index>,
        values: &Values,
        flags: (bool, bool, bool),
    ) {
        let (ilp32, root, tap_fails) = flags;
        let abi = foreign.map_or(self.d.abi(), |foreign| abi::ALL[foreign.index(abi::ALL.len())]);
        let at = row.index(abi.requests.len());
        let ilp32_request = abi.requests[at].name.ends_with("32");
        let while_locked = None;
        let caller = Caller { ilp32, ilp32_request, root, while_locked };
        self.request(abi, at, values, caller, tap_fails);
    }

    /// Row `at` of `abi`'s table, through its number and its argument's bytes.
    pub(super) fn request(
        &mut self,
        abi: &'static Abi,
        at: usize,
        values: &Values,
        caller: Caller,
        tap_fails: bool,
    ) {
        let row = &abi.requests[at];
        let encoding = abi.encodings[values.word as usize % abi.encodings.len()];
        let number = encoding.number(row.dir, row.group, row.number, row.arg.size());
        let call = abi.decode(number).unwrap_or_else(|| panic!("{}: {} decodes", abi.name, row.name));
        let arg = values.argument(row.name, call.arg_in());
        let mut memory = values.clone();
        let Ok(request) = call.parse(&arg, &mut memory) else { return };
        let own = self.d.abi();
        let (name, caller) = if std::ptr::eq(abi, own) {
            (row.name, Caller { while_locked: Some(row.while_locked), ..caller })
        } else {
            // the request of the same meaning, if there is one
            (own.requests.iter().find(|row| row.op == request.op()).map_or("", |row| row.name), caller)
        };
        let before = self.snapshot();
        let was_promiscuous = self.d.is_promiscuous();
        let result = self.d.ioctl(request.clone(), caller);
        if self.model.revoked {
            assert!(matches!(result, Err(Errno::BadF)), "{name} of a revoked file: {result:?}");
            return;
        }
        let (system, what) = (self.model.system, short(name));
        if system.select_timer {
            self.model.timer = Timer::Idle;
        }
        let exempt = caller.root && system.root_ignores_lock;
        let locked = self.model.locked && !exempt && !name.is_empty();
        if locked {
            let listed = |name| system.while_locked.contains(&short(name)) && !name.starts_with("OBIOC");
            // without a number of its own it works by whichever form works
            let mut forms = own.requests.iter().filter(|row| row.op == request.op());
            let listed = match caller.while_locked {
                Some(_) => listed(name),
                None => forms.any(|row| listed(row.name)),
            };
            let refused = matches!(result, Err(Errno::Perm));
            assert_eq!(refused, !listed, "{name} while locked: {result:?}");
        }
        // FreeBSD looks at its lock first, NetBSD does not
        let looked_at = !matches!(result, Err(Errno::Perm)) && !name.is_empty();
        match system.marks {
            Marks::Follows => self.model.ilp32 = caller.ilp32,
            Marks::Any => self.model.ilp32 |= caller.ilp32 && looked_at,
            Marks::Layout => self.model.ilp32 |= caller.ilp32 && caller.ilp32_request && looked_at,
            Marks::Never => {}
        }
        if what == "SBLEN" && looked_at {
            // semantics.md 3, "BIOCSBLEN when attached": EINVAL, on NetBSD also whenever there are buffers
            let fixed = self.model.link.is_some() || (system.name == "netbsd" && self.model.has_buffers);
            assert_eq!(result.is_err(), fixed, "BIOCSBLEN: {result:?}");
        }
        let effect = match result {
            Ok(effect) => effect,
            Err(_) => {
                assert_eq!(self.snapshot(), before, "{name} failed: nothing has changed");
                return;
            }
        };
        assert!(!name.is_empty(), "{request:?} is no request of {}", system.name);
        let response = match &effect {
            Effect::Done(response) => response.clone(),
            _ => Response::Done,
        };
        let done = self.carry_out(effect, what, tap_fails);
        if done {
            self.has_done(what, &arg);
        } else {
            assert_eq!(self.snapshot(), before, "{name}: the tap failed, nothing has changed");
            assert_eq!(self.d.is_promiscuous(), was_promiscuous);
        }
        if std::ptr::eq(abi, own)
            && let Ok(out) = call.reply(&response, &arg, &mut memory)
        {
            assert_eq!(out.len(), call.arg_out(), "{name}: what is copied out");
        }
    }

    /// Does what the tap does. Whether it did.
    pub(super) fn carry_out(&mut self, effect: Effect, what: &str, tap_fails: bool) -> bool {
        match effect {
            Effect::Done(_) => {}
            // what is buffered is gone already, whatever the tap says
            Effect::Flushed => self.model.reset(),
            Effect::Direction(_) => {}
            _ if tap_fails => return false,
            Effect::Attach { name } => {
                let Some(which) = NAMES[..3].iter().position(|known| *known == name.as_bytes()) else {
                    return false;
                };
                self.attach(interface(self.d.abi(), which as u8), false);
            }
            Effect::Linktype(linktype) => {
                let old = self.d.interface().expect("attached").clone();
                assert!(old.linktypes.contains(&linktype), "{linktype:?} is none of {old:?}");
                self.attach(Interface { linktype, ..old }, self.d.is_promiscuous());
            }
            Effect::ReadFilter { program, queued } => {
                let (writer, tells) = (self.model.writer, self.d.direction_after(program.as_ref(), queued));
                self.d.commit_filter(program.clone(), queued);
                self.model.filter = program;
                // semantics.md 8: BIOCSETF flushes, BIOCSETFNR does not (xnu's bpf_setf: but where it removes the filter)
                let removed_on_macos = self.model.system.name == "macos" && self.model.filter.is_none();
                assert_eq!(queued == Queued::Flush, what == "SETF" || removed_on_macos, "{what}");
                if queued == Queued::Flush {
                    self.model.reset();
                }
                self.model.filter_counts_for_a_writer(what);
                let reads_now = writer > 0 && self.model.writer == 0;
                assert_eq!(tells, reads_now.then(|| self.model.direction()), "a writer becomes a reader");
            }
            Effect::Promiscuous => {
                self.d.commit_promiscuous();
                self.model.promiscuous = true;
            }
            #[allow(unreachable_patterns)] // effects that ask nothing of this tap
            _ => {}
        }
        true
    }

    pub(super) fn attach(&mut self, interface: Interface, promiscuous: bool) {
        let (dlt, loopback) = (interface.linktype.0, interface.loopback);
        let names = ["em0", "lo0", "tun0"];
        let name = names.into_iter().find(|name| *name == interface.name).expect("one of the world's");
        let index = u16::try_from(interface.index).expect("small");
        self.d.attach(interface, promiscuous);
        self.model.promiscuous = promiscuous;
        self.model.link = Some(Link { dlt, loopback, index, name });
        self.model.reset();
        self.model.has_buffers = true;
    }

    /// What a request that succeeded has changed.
    pub(super) fn has_done(&mut self, what: &str, arg: &[u8]) {
        let word = arg.first_chunk().map_or(0, |word| u32::from_ne_bytes(*word));
        let model = &mut self.model;
        model.answers.set(model.system.name, what, word);
        match what {
            "SBLEN" => {
                let word = usize::try_from(word).expect("32 bits");
                model.bufsize = word.clamp(32, model.system.bufsize_max);
                assert_eq!(self.d.bufsize(), model.bufsize, "semantics.md 3, BIOCSBLEN clamp");
                if model.system.size_frees_buffers {
                    model.lose_buffers();
                }
            }
            // semantics.md 4: macOS looks at the low byte only
            "IMMEDIATE" if model.system.name == "macos" => model.immediate = word & 0xff != 0,
            "IMMEDIATE" => {
                model.immediate = word != 0;
                model.wait = (word != 0).then_some(0);
            }
            "SWTIMEOUT" => {
                let (sec, usec) = timeval(arg);
                let nanos = sec * 1_000_000_000 + usec * 1000;
                model.wait = Some(u64::try_from(nanos).expect("EINVAL otherwise"));
            }
            "SRTIMEOUT" | "SORTIMEOUT" => {
                let (sec, usec) = timeval(arg);
                model.set_timeout(sec, usec);
            }
            "DWTIMEOUT" => model.wait = None,
            "FIONBIO" => model.nonblocking = word != 0,
            "LOCK" => model.locked = true,
            "SETWF" if model.system.write_filter_resets => model.reset(),
            // semantics.md 11
            "SDIRECTION" if model.system.name == "macos" => model.wants = (word & 1 != 0, word & 2 != 0),
            "SDIRECTION" if model.system.name == "netbsd7" => model.wants = (true, word != 0),
            "SDIRECTION" => model.wants = (word != 2, word != 0),
            "SSEESENT" => model.wants = (true, word != 0),
            "SDIRFILT" => model.wants = (word & 1 == 0, word & 2 == 0),
            // semantics.md 13
            "SFILDROP" => model.drop_mode = word,
            // semantics.md 14
            "STSTAMP" => model.stamp_format = word,
            "SNOTSTAMP" => model.no_stamp = word != 0,
            "SETVLANPCP" => model.vlan_pcp = word,
            // semantics.md 18
            "SEXTHDR" => model.extended = word != 0,
            "SWRITEMAX" => model.write_max = word,
            "SHEADDROP" => model.head_drop = word != 0,
            _ => {}
        }
    }

    /// Every answer of a request that only asks.
    pub(super) fn snapshot(&mut self) -> Vec<String> {
        let abi = self.d.abi();
        let mut answers = Vec::new();
        for row in abi.requests.iter().filter(|row| row.dir == Dir::Out) {
            let number = abi.encodings[0].number(row.dir, row.group, row.number, row.arg.size());
            let call = abi.decode(number).expect("a row");
            let mut nowhere = NoMemory;
            if let Ok(request) = call.parse(&[], &mut nowhere) {
                let ilp32 = self.model.ilp32;
                let caller = Caller { ilp32, root: true, while_locked: Some(true), ..Caller::default() };
                let answer = self.d.ioctl(request, caller);
                if let Some(right) = self.model.answer(short(row.name)).filter(|_| !self.model.revoked) {
                    let given = match &answer {
                        Ok(Effect::Done(response)) => Ok(response.clone()),
                        Ok(other) => panic!("{} asks only, and {other:?} comes of it", row.name),
                        Err(errno) => Err(*errno),
                    };
                    assert_eq!(given, right, "{}", row.name);
                }
                answers.push(format!("{}: {answer:?}", row.name));
            }
        }
        answers
    }
}

struct NoMemory;

impl abi::CallerMemory for NoMemory {
    fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        panic!("a request that only asks reads no memory");
    }
    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Errno> {
        panic!("a request that only asks writes no memory");
    }
}
