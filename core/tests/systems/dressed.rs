//! The loopback network with interfaces of other link types, and with failures.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use bpfdev_core::backend::{
    Arrivals, Batch, Capabilities, Direction, FilterBackend, Inject, Interface, LinkState, Network, Plan,
    Queued, Stats, TapConfig, TapError, Visible, Waiter,
};
use bpfdev_core::cbpf::Program;
use bpfdev_core::linktype::Linktype;
use bpfdev_core::loopback::LoopbackNetwork;

/// What an interface is made to be, beside what the loopback network says.
#[derive(Clone, Default)]
pub struct Dress {
    pub linktypes: Vec<Linktype>,
    pub inject_fails: Option<i32>,
    pub promiscuous_fails: Option<i32>,
}

/// Each interface's, by its name.
#[derive(Clone, Default)]
pub struct Wardrobe(Arc<Mutex<BTreeMap<String, Dress>>>);

impl Wardrobe {
    /// Changes what an interface is made to be, for taps attached later.
    pub fn dress(&self, name: &str, change: impl FnOnce(&mut Dress)) {
        change(self.0.lock().unwrap().entry(name.to_owned()).or_default());
    }

    fn of(&self, name: &str) -> Dress {
        self.0.lock().unwrap().get(name).cloned().unwrap_or_default()
    }
}

/// The loopback network, its interfaces dressed.
pub struct Dressed {
    pub inner: LoopbackNetwork,
    pub wardrobe: Wardrobe,
}

impl Network for Dressed {
    fn attach(&self, name: &str, config: &TapConfig) -> Result<Box<dyn FilterBackend>, TapError> {
        let tap = self.inner.attach(name, config)?;
        let dress = self.wardrobe.of(name);
        let mut interface = tap.interface().clone();
        if let Some(&first) = dress.linktypes.first() {
            interface.linktype = config.linktype.unwrap_or(first);
            interface.linktypes = dress.linktypes.clone();
        }
        Ok(Box::new(DressedTap { tap, interface, dress }))
    }
    fn attached(&self, name: &str) -> Result<u32, TapError> {
        self.inner.attached(name)
    }
}

struct DressedTap {
    tap: Box<dyn FilterBackend>,
    interface: Interface,
    dress: Dress,
}

impl FilterBackend for DressedTap {
    fn name(&self) -> &'static str {
        self.tap.name()
    }
    fn arrivals(&mut self) -> Result<Arrivals, TapError> {
        self.tap.arrivals()
    }
    fn interface(&self) -> &Interface {
        &self.interface
    }
    fn link_state(&mut self) -> Result<LinkState, TapError> {
        self.tap.link_state()
    }
    fn capabilities(&self) -> Capabilities {
        self.tap.capabilities()
    }
    fn plan(&self) -> Plan {
        self.tap.plan()
    }
    fn set_filter(&mut self, program: Option<&Program>, queued: Queued) -> Result<Plan, TapError> {
        self.tap.set_filter(program, queued)
    }
    fn lock_filter(&mut self) -> Result<(), TapError> {
        self.tap.lock_filter()
    }
    fn set_direction(&mut self, direction: Direction) -> Result<(), TapError> {
        self.tap.set_direction(direction)
    }
    fn set_promiscuous(&mut self, on: bool) -> Result<(), TapError> {
        match self.dress.promiscuous_fails {
            Some(errno) => Err(failure("making it promiscuous", errno)),
            None => self.tap.set_promiscuous(on),
        }
    }
    fn try_batch(&mut self) -> Result<Batch<'_>, TapError> {
        self.tap.try_batch()
    }
    fn injector(&self) -> Result<Box<dyn Inject>, TapError> {
        match self.dress.inject_fails {
            Some(errno) => Ok(Box::new(Failing(errno))),
            None => self.tap.injector(),
        }
    }
    fn stats(&mut self) -> Result<Stats, TapError> {
        self.tap.stats()
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn waiter(&self) -> Result<Arc<dyn Waiter>, TapError> {
        self.tap.waiter()
    }
}

struct Failing(i32);

impl Inject for Failing {
    fn inject(&mut self, _: &[u8], _: Visible) -> Result<(), TapError> {
        Err(failure("sending", self.0))
    }
}

fn failure(what: &str, errno: i32) -> TapError {
    TapError::io(what, io::Error::from_raw_os_error(errno))
}
