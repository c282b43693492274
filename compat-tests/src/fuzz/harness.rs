//! Inputs from a seed and a corpus, a check that must not fail, and what is said when it does.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use super::Budget;
use super::corpus::Entry;
use super::random::Lcg;

/// Inputs of one seed.
const INPUTS: u64 = 1024;

/// Makes an input.
type Make = dyn Fn(&mut Lcg) -> Vec<u8>;
/// Says what is wrong.
type Check = dyn Fn(&[u8]) -> Result<(), String>;

/// What is fuzzed with bytes.
pub struct Subject {
    /// The word of the command line.
    pub name: &'static str,
    make: Box<Make>,
    check: Box<Check>,
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was made.
    Seed(u64),
    /// It is in the corpus, by this name.
    Corpus(String),
    /// It was given.
    Given,
}

/// An input that shows something.
#[derive(Debug, thiserror::Error)]
pub struct Failure {
    target: &'static str,
    /// Where it was found.
    pub found: Found,
    /// What shows it.
    pub input: Vec<u8>,
    /// What it shows.
    pub what: String,
}

impl Failure {
    /// `input` shows `what`.
    pub fn new(subject: &Subject, found: Found, input: Vec<u8>, what: String) -> Failure {
        Failure { target: subject.name, found, input, what }
    }

    /// Writes the input where it can be taken up again and kept; what to say of it.
    pub fn keep(&self) -> String {
        let name = match &self.found {
            Found::Seed(seed) => format!("fuzz-{}-{seed}", self.target),
            Found::Corpus(_) | Found::Given => return String::new(),
        };
        match std::fs::write(&name, &self.input) {
            Ok(()) => format!(
                "\nits bytes are in {name}: bpfdev-compat fuzz {0} --file {name}\nmended, it is kept as \
                 compat-tests/corpus/{0}/WHAT-IT-SHOWED",
                self.target
            ),
            Err(error) => format!("\nits bytes are not in {name}: {error}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { target, found, input, what } = self;
        write!(f, "{target}: {what}")?;
        match found {
            Found::Seed(seed) => write!(f, "\nseed {seed}")?,
            Found::Corpus(name) => write!(f, "\ncorpus entry {name}")?,
            Found::Given => {}
        }
        write!(f, "\nagain: bpfdev-compat fuzz {target} --input {}", to_hex(input))
    }
}

impl Subject {
    /// A target whose inputs `make` makes and for which `check` must be content with any bytes.
    pub fn new(
        name: &'static str,
        make: impl Fn(&mut Lcg) -> Vec<u8> + 'static,
        check: impl Fn(&[u8]) -> Result<(), String> + 'static,
    ) -> Subject {
        Subject { name, make: Box::new(make), check: Box::new(check) }
    }

    /// Tries one input.
    ///
    /// # Errors
    /// What it shows; a panic is its message.
    pub fn try_input(&self, input: &[u8]) -> Result<(), String> {
        // what is caught is not used again: every input begins anew
        catch_unwind(AssertUnwindSafe(|| (self.check)(input))).unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", message.unwrap_or("without a message")))
        })
    }

    /// A shorter or plainer input that still shows something.
    fn reduce(&self, mut input: Vec<u8>, mut what: String) -> (Vec<u8>, String) {
        let mut size = input.len();
        while size > 0 {
            let mut at = 0;
            while at < input.len() {
                let end = (at + size).min(input.len());
                let without = [&input[..at], &input[end..]].concat();
                let zeroed = [&input[..at], &vec![0; end - at], &input[end..]].concat();
                let smaller = [without, zeroed].into_iter().filter(|other| *other != input);
                let shown = smaller.map(|other| (self.try_input(&other), other));
                match shown.filter_map(|(result, other)| result.err().map(|what| (other, what))).next() {
                    Some(found) => (input, what) = found,
                    None => at += size,
                }
            }
            size /= 2;
        }
        (input, what)
    }
}

/// Tries the corpus, then inputs until `budget` is used up; the number of all.
///
/// # Errors
/// The first that shows something; reduced, but for what is in the corpus.
pub fn run(subject: &Subject, corpus: &[Entry], budget: &Budget, first: u64) -> Result<u64, Failure> {
    for Entry { name, bytes } in corpus {
        if let Err(what) = subject.try_input(bytes) {
            return Err(Failure::new(subject, Found::Corpus(name.clone()), bytes.clone(), what));
        }
    }
    let mut runs = corpus.len() as u64;
    for seed in first.. {
        let mut rng = Lcg(seed);
        for _ in 0..INPUTS {
            let input = next_input(subject, corpus, &mut rng);
            if let Err(what) = subject.try_input(&input) {
                let (input, what) = quietly(|| subject.reduce(input, what));
                return Err(Failure::new(subject, Found::Seed(seed), input, what));
            }
            runs += 1;
        }
        if budget.is_used_up(runs) {
            break;
        }
    }
    Ok(runs)
}

/// One that is made, or one of the corpus spoiled, now and then with the end of another.
fn next_input(subject: &Subject, corpus: &[Entry], rng: &mut Lcg) -> Vec<u8> {
    if corpus.is_empty() || rng.once_in(2) {
        return (subject.make)(rng);
    }
    let mut any = || &corpus[rng.below(corpus.len() as u32) as usize].bytes;
    let (mut input, other) = (any().clone(), any());
    if rng.once_in(4) {
        let [begin, end] = [input.len(), other.len()].map(|len| rng.below(len as u32 + 1) as usize);
        input.truncate(begin);
        input.extend(&other[end..]);
    }
    rng.spoil(&mut input);
    input
}

/// Runs `f` without a word for every panic in it, of this thread.
fn quietly<R>(f: impl FnOnce() -> R) -> R {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                hook(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = f();
    QUIET.set(before);
    result
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hex; `None` when it is none.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect()
}

/// Takes an input apart; what is missing at its end is zeros, so that every input means something.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// From its beginning.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next four bytes, little-endian.
    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let n = N.min(self.0.len());
        let (here, rest) = self.0.split_at(n);
        array[..n].copy_from_slice(here);
        self.0 = rest;
        array
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Content of a check: `Err` with a formatted message unless the condition holds.
macro_rules! must {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(super) use must;

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The planted bug of `subject` is found within so many inputs, and shows again by its hex; ours shows nothing.
    pub fn finds(subject: &Subject, what: &str) {
        let budget = Budget { until: None, runs: Some(200_000) };
        let failure = quietly(|| run(subject, &[], &budget, 1)).expect_err("a planted bug");
        assert!(failure.what.contains(what), "{failure}");
        let said = failure.to_string();
        let hex = said.rsplit("--input ").next().expect("the input in hex");
        let input = from_hex(hex).expect("hex");
        assert_eq!(quietly(|| subject.try_input(&input)), Err(failure.what.clone()), "{said}");
        let Found::Seed(seed) = failure.found else { panic!("{said}") };
        let again = quietly(|| run(subject, &[], &Budget { until: None, runs: Some(1) }, seed));
        assert_eq!(again.expect_err("the same seed").input, failure.input, "{said}");
    }

    #[test]
    fn hex_goes_both_ways() {
        assert_eq!(from_hex(&to_hex(&[0, 0x7f, 0xff])), Some(vec![0, 0x7f, 0xff]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("zz"), None);
    }

    #[test]
    fn an_input_is_reduced_to_what_matters() {
        let check = |input: &[u8]| if input.contains(&7) { Err("a seven".to_owned()) } else { Ok(()) };
        let subject = Subject::new("sevens", |rng| rng.bytes(40), check);
        let budget = Budget { until: None, runs: Some(u64::MAX) };
        let failure = run(&subject, &[], &budget, 3).expect_err("a seven");
        assert_eq!(failure.input, [7]);
    }

    #[test]
    fn the_corpus_is_tried_first_and_then_spoiled() {
        let entry = |name: &str, bytes: &[u8]| Entry { name: name.to_owned(), bytes: bytes.to_vec() };
        let corpus = [entry("good", &[1; 40]), entry("bad", b"sevens")];
        let check = |input: &[u8]| if input == b"sevens" { Err("sevens".to_owned()) } else { Ok(()) };
        let subject = Subject::new("sevens", |_| Vec::new(), check);
        let budget = Budget { until: None, runs: Some(10_000) };
        let failure = run(&subject, &corpus, &budget, 1).expect_err("the second entry");
        assert_eq!((failure.found, failure.input), (Found::Corpus("bad".to_owned()), b"sevens".to_vec()));
        // forty ones but for one byte are never made, only spoiled
        let near = |input: &[u8]| input.len() == 40 && input.iter().filter(|byte| **byte == 1).count() == 39;
        let check = move |input: &[u8]| if near(input) { Err("near".to_owned()) } else { Ok(()) };
        let subject = Subject::new("near", |_| Vec::new(), check);
        let failure = run(&subject, &corpus[..1], &budget, 1).expect_err("one byte spoiled");
        assert!(near(&failure.input), "{failure}");
    }
}
