//! What the suite runs on. A kind of target is a module, and a line in [`here`].

mod emulated;
#[cfg(target_os = "linux")]
mod linux;
pub mod machine;
#[cfg(not(target_os = "linux"))]
mod native;

use std::sync::Arc;

use bpfdev_core::abi::Abi;

use super::broken::Break;
use super::case::matches;
use super::report::TargetInfo;
use super::stage::Stage;
use super::system::System;
use machine::Away;

/// One implementation of the device.
pub trait Target: Send + Sync {
    /// Its name, and what it is.
    fn info(&self) -> TargetInfo;

    /// Calls `act` with a fresh stage, in a thread from which its descriptors can be used.
    ///
    /// # Errors
    /// The stage cannot be made.
    fn with_stage(&self, act: &mut (dyn FnMut(Arc<dyn Stage>) + Send)) -> anyhow::Result<()>;
}

/// A target that is not made yet: some want what only the main thread can give.
pub struct Available {
    /// `KIND:SYSTEM`.
    pub name: String,
    /// Where it is.
    pub at: Where,
}

/// Where a target is played.
pub enum Where {
    /// On this machine, once it is made ready: by the main thread, and what the system refuses is an error.
    Here(Box<dyn Fn() -> anyhow::Result<Box<dyn Target>>>),
    /// In a virtual machine.
    Away(Away),
}

impl Available {
    fn new(name: String, make: impl Fn() -> anyhow::Result<Box<dyn Target>> + 'static) -> Available {
        Available { name, at: Where::Here(Box::new(make)) }
    }

    fn away(away: Away) -> Available {
        Available { name: away.name(), at: Where::Away(away) }
    }

    /// Whether it is asked for: by its name, in which `*` stands for anything, or by its kind.
    pub fn is(&self, pattern: &str) -> bool {
        let kind = self.name.split_once(':').map(|(kind, _)| kind);
        matches(pattern, &self.name) || kind == Some(pattern)
    }
}

/// Every target this machine has, in the order of the matrix; `broken` spoils those in this process.
pub fn here(broken: Option<Break>) -> Vec<Available> {
    let in_process = System::ALL.into_iter().map(move |system| {
        Available::new(format!("emulated:{}", system.name()), move || Ok(emulated(system, broken)))
    });
    let mut all: Vec<_> = in_process.collect();
    #[cfg(target_os = "linux")]
    all.extend(linux::here());
    #[cfg(not(target_os = "linux"))]
    all.extend(native::here());
    all
}

/// The system's table.
fn abi(system: System) -> anyhow::Result<&'static Abi> {
    Abi::by_name(system.name()).ok_or_else(|| anyhow::anyhow!("there is no dialect {}", system.name()))
}

/// Descriptors in this process.
pub fn emulated(system: System, broken: Option<Break>) -> Box<dyn Target> {
    Box::new(InProcess { system, broken })
}

struct InProcess {
    system: System,
    broken: Option<Break>,
}

impl Target for InProcess {
    fn info(&self) -> TargetInfo {
        TargetInfo {
            name: format!("emulated:{}", self.system.name()),
            about: "in this process, over a network in this process, in simulated time".into(),
            system: self.system,
        }
    }

    fn with_stage(&self, act: &mut (dyn FnMut(Arc<dyn Stage>) + Send)) -> anyhow::Result<()> {
        act(Arc::new(emulated::Emulated::new(abi(self.system)?, self.system, self.broken)));
        Ok(())
    }
}
