//! The interfaces one can capture from.
//!
//! ```
//! for interface in bpfdev::interfaces::list()? {
//!     let state = if interface.flags.up { "up" } else { "down" };
//!     println!("{:>3} {} {state}", interface.index, interface.name);
//!     for address in &interface.addresses {
//!         println!("    {}", address.ip);
//!     }
//! }
//! # Ok::<(), bpfdev::interfaces::InterfacesError>(())
//! ```

use std::io;

pub use bpfdev_backend_bsd::{Address, InterfaceFlags, InterfaceInfo};

use crate::native;

/// The system does not list its interfaces.
#[derive(Debug, thiserror::Error)]
#[error("listing the network interfaces: {0}")]
pub struct InterfacesError(#[from] pub io::Error);

/// Every interface of this machine, or on Linux of the calling thread's network namespace, by its index. No privilege is
/// needed; whether one may be captured from is told by trying.
///
/// # Errors
/// Those of getifaddrs(3): no memory, or on Linux no netlink socket.
pub fn list() -> Result<Vec<InterfaceInfo>, InterfacesError> {
    Ok(bpfdev_backend_bsd::interfaces(native::loopback().linktype)?)
}

/// The interface called `name`; `None` where there is none.
///
/// # Errors
/// As [`list`].
pub fn by_name(name: &str) -> Result<Option<InterfaceInfo>, InterfacesError> {
    Ok(list()?.into_iter().find(|interface| interface.name == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_found_by_its_name() {
        let list = list().expect("a list");
        let first = list.first().expect("lo, lo0");
        assert_eq!(by_name(&first.name).expect("a list").as_ref(), Some(first));
        assert_eq!(by_name("nosuch9").expect("a list"), None);
    }
}
