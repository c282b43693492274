//! The dialects a program can be compiled for, and the recorded ABI of each.

use serde_json::Value;

const ABI: &str = include_str!("../../abi.json");

/// A dialect of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    pub name: &'static str,
    /// Its system in abi.json.
    pub system: &'static str,
    /// What selects it.
    pub flags: &'static [&'static str],
}

pub const LINUX: Dialect = Dialect { name: "linux", system: "freebsd", flags: &[] };
const MACOS: &str = "-DBPFDEV_ABI_MACOS";

pub const ALL: [Dialect; 7] = [
    LINUX,
    Dialect { name: "freebsd", system: "freebsd", flags: &["-DBPFDEV_ABI_FREEBSD"] },
    Dialect { name: "netbsd", system: "netbsd", flags: &["-DBPFDEV_ABI_NETBSD"] },
    Dialect { name: "openbsd", system: "openbsd", flags: &["-DBPFDEV_ABI_OPENBSD"] },
    Dialect { name: "dragonfly", system: "dragonfly", flags: &["-DBPFDEV_ABI_DRAGONFLY"] },
    Dialect { name: "macos", system: "macos", flags: &[MACOS] },
    Dialect { name: "macos-private", system: "macos", flags: &[MACOS, "-DPRIVATE"] },
];

impl Dialect {
    pub fn is_linux(self) -> bool {
        self == LINUX
    }

    pub fn is_64_bit_only(self) -> bool {
        self.system == "dragonfly"
    }

    /// What Apple's SDK hides is offered.
    pub fn has_private(self) -> bool {
        self.flags.contains(&"-DPRIVATE")
    }

    /// Its part of abi.json.
    pub fn abi(self) -> Value {
        let abi: Value = serde_json::from_str(ABI).expect("abi.json");
        abi["os"][self.system].clone()
    }
}

/// How wide a program's types are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// 64-bit.
    Lp64,
    /// 32-bit, `struct timeval` of 8 bytes.
    Ilp32,
    /// 32-bit with `-D_TIME_BITS=64`: 16 bytes.
    Ilp32Time64,
}

pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("abi.json: no {key} in {value}"))
}

pub fn rows<'a>(abi: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    abi[key].as_object().unwrap_or_else(|| panic!("abi.json: no {key}")).iter()
}
