//! Where this program serves a device of its own, and by which front end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bpfdev_core::abi::Abi;

/// Where the kernel's end of CUSE is.
pub const DEV_CUSE: &str = "/dev/cuse";

/// How the kernel is spoken to. What is measured or compared says so: `auto` would be another thing on another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Front {
    /// Files of a mounted directory
    Fuse,
    /// Character devices; where there is /dev/cuse
    Cuse,
}

impl Front {
    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Front::Fuse => "fuse",
            Front::Cuse => "cuse",
        }
    }
}

/// A directory for nodes, which no other process uses.
#[derive(Clone, Debug)]
pub struct Place {
    front: Front,
    dir: PathBuf,
}

impl Place {
    /// A place for the device of this name: the kernel makes nodes below /dev only.
    pub fn new(front: Front, name: &str) -> Place {
        let parent = match front {
            Front::Fuse => std::env::temp_dir(),
            Front::Cuse => PathBuf::from("/dev"),
        };
        Place { front, dir: parent.join(format!("bpfdev-{name}-{}", std::process::id())) }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The arguments of `bpfdev serve` for a device there whose nodes speak `abi`.
    pub fn arguments(&self, abi: &Abi) -> Vec<OsString> {
        let words = ["--front", self.front.name(), "--no-link", "--abi", abi.name, "--mount"];
        words.into_iter().map(OsString::from).chain([self.dir.clone().into()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfdev_core::abi::netbsd::NETBSD;

    #[test]
    fn character_devices_are_below_dev_and_the_front_end_is_said() {
        for (front, parent) in [(Front::Cuse, Path::new("/dev")), (Front::Fuse, &std::env::temp_dir())] {
            let place = Place::new(front, "a-test");
            assert_eq!(place.dir().parent(), Some(parent));
            let arguments = place.arguments(&NETBSD);
            assert_eq!(arguments[..2], ["--front", front.name()]);
            assert_eq!(arguments[2..5], ["--no-link", "--abi", "netbsd"]);
            assert_eq!(arguments[6], place.dir());
        }
    }
}
