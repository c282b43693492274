//! The systems whose rules are checked, and values that differ between them.

use serde::{Deserialize, Serialize};

/// A system, or a variant of one, by the word that targets carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// This project's own dialect: FreeBSD's behaviour in Linux's request numbers.
    Linux,
    /// FreeBSD 13 to 15.
    FreeBsd,
    /// NetBSD 10 and current.
    NetBsd,
    /// NetBSD 7.99.34, whose recorded answers this package has.
    NetBsd7,
    /// OpenBSD 7.3.
    OpenBsd,
    /// DragonFly.
    DragonFly,
    /// macOS, xnu-11417.
    MacOs,
}

impl System {
    /// Every system, in the order targets are listed.
    pub const ALL: [System; 7] = [
        System::Linux,
        System::FreeBsd,
        System::NetBsd,
        System::NetBsd7,
        System::OpenBsd,
        System::DragonFly,
        System::MacOs,
    ];

    /// The dialect's name, as in `bpfdev serve --abi`.
    pub const fn name(self) -> &'static str {
        match self {
            System::Linux => "linux",
            System::FreeBsd => "freebsd",
            System::NetBsd => "netbsd",
            System::NetBsd7 => "netbsd7",
            System::OpenBsd => "openbsd",
            System::DragonFly => "dragonfly",
            System::MacOs => "macos",
        }
    }

    /// The system of this name.
    pub fn by_name(name: &str) -> Option<System> {
        System::ALL.into_iter().find(|system| system.name() == name)
    }
}

/// A value for each system. The two variants are as the system they derive from unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Per<T> {
    freebsd: T,
    netbsd: T,
    openbsd: T,
    dragonfly: T,
    macos: T,
    linux: Option<T>,
    netbsd7: Option<T>,
}

/// The values of FreeBSD, NetBSD, OpenBSD, DragonFly and macOS, in this order.
pub const fn per<T: Copy>(freebsd: T, netbsd: T, openbsd: T, dragonfly: T, macos: T) -> Per<T> {
    Per { freebsd, netbsd, openbsd, dragonfly, macos, linux: None, netbsd7: None }
}

/// One value for all.
pub const fn every<T: Copy>(value: T) -> Per<T> {
    per(value, value, value, value, value)
}

impl<T: Copy> Per<T> {
    /// The `linux` dialect differs from FreeBSD.
    pub const fn linux(self, value: T) -> Per<T> {
        Per { linux: Some(value), ..self }
    }

    /// NetBSD 7 differs from NetBSD 10.
    pub const fn netbsd7(self, value: T) -> Per<T> {
        Per { netbsd7: Some(value), ..self }
    }

    /// The value of one system.
    pub fn of(self, system: System) -> T {
        match system {
            System::Linux => self.linux.unwrap_or(self.freebsd),
            System::FreeBsd => self.freebsd,
            System::NetBsd => self.netbsd,
            System::NetBsd7 => self.netbsd7.unwrap_or(self.netbsd),
            System::OpenBsd => self.openbsd,
            System::DragonFly => self.dragonfly,
            System::MacOs => self.macos,
        }
    }
}

impl From<&'static str> for Per<&'static str> {
    fn from(value: &'static str) -> Self {
        every(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_as_their_system_unless_said_otherwise() {
        let value = per(1, 2, 3, 4, 5);
        assert_eq!(System::ALL.map(|system| value.of(system)), [1, 1, 2, 2, 3, 4, 5]);
        assert_eq!(value.linux(6).of(System::Linux), 6);
        assert_eq!(value.netbsd7(7).of(System::NetBsd7), 7);
        for system in System::ALL {
            assert_eq!(System::by_name(system.name()), Some(system));
        }
    }
}
