//! The bpfdev program, for tests that run it: `mod program;`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the program is, if there is nothing to build with: programs that tests compile are there too then.
pub const BUILT: &str = "BPFDEV_TEST_PROGRAM";

/// Builds the program once with the features this package links the library with, so that nothing else is
/// built anew, and gives its path.
pub fn bpfdev() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(built) = std::env::var_os(BUILT) {
            return built.into();
        }
        // TARGET/PROFILE/deps/wrap-0123456789abcdef
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "bpfdev", "--features", "daemon,expr", "--target-dir"]);
        cargo.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "cargo build -p bpfdev failed");
        profile.join("bpfdev")
    })
}
