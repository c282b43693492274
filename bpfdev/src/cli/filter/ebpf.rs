//! The eBPF plan, as far as the command line shows it.

use bpfdev_backend_linux::bpf::{CounterMap, Refused, SocketFilter, Why};
use bpfdev_backend_linux::filter::LinkKind;
use bpfdev_backend_linux::filter::ebpf::{self, Target, TooLong};
use bpfdev_core::cbpf::code::RET_K;
use bpfdev_core::cbpf::{Insn, LINUX_ABI, Program, validate};

/// A program translated.
pub(super) struct Translated(ebpf::Translated);

/// The eBPF program for all packets of an interface of this kind.
///
/// # Errors
/// For no program a BSD takes.
pub(super) fn translate(program: &Program, kind: LinkKind) -> Result<Translated, TooLong> {
    ebpf::translate(program, &Target::new(kind)).map(Translated)
}

/// Loads the smallest filter there is, with its counters: whether bpf(2) may be used, and the JIT works.
///
/// # Errors
/// Why not.
pub(in crate::cli) fn load_smallest() -> Result<String, String> {
    let accept_all = [Insn::stmt(RET_K, u32::MAX)];
    let program = validate(&accept_all, &LINUX_ABI).map_err(|reject| reject.to_string())?;
    translate(&program, LinkKind::Raw).map_err(|error| error.to_string())?.load()
}

impl Translated {
    /// Its instructions, numbered; the map has no number yet.
    pub(super) fn listing(&self) -> String {
        ebpf::disasm(&self.0.insns(0))
    }

    /// Number of instructions.
    pub(super) fn len(&self) -> usize {
        self.0.insns(0).len()
    }

    /// Loads it into the kernel for a moment; what the kernel made of it.
    ///
    /// # Errors
    /// Why the kernel does not take it.
    pub(super) fn load(&self) -> Result<String, String> {
        let load = || {
            let map = CounterMap::new()?;
            SocketFilter::load(&self.0, &map)
        };
        let filter = load().map_err(|refused: Refused| match refused.why() {
            // The verifier's words are lines.
            Why::Other => refused.to_string().replace('\n', "; "),
            why => format!("{}: {why}", refused.step),
        })?;
        Ok(match filter.info().map(|info| info.jited) {
            Ok(Some(bytes)) => format!("the kernel takes it, compiled to {bytes} bytes of machine code"),
            Ok(None) => "the kernel takes it, and interprets it or does not tell".to_owned(),
            Err(refused) => format!("the kernel takes it; {refused}"),
        })
    }
}
