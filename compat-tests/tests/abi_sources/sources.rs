//! Where cargo has unpacked the sources of a package. Cargo fetches what is missing and verifies it by its lock file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

/// The workspace's manifest.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
}

/// The manifest of the walkers, whose lock file pins pnet_datalink and smoltcp.
pub fn walkers() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/abi_sources/walkers/Cargo.toml"))
}

/// The directory of a package that `manifest` depends on.
pub fn of(package: &str, manifest: &Path) -> PathBuf {
    static KNOWN: Mutex<Option<HashMap<PathBuf, Value>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let known = known.get_or_insert_default();
    let metadata = known.entry(manifest.to_owned()).or_insert_with(|| metadata(manifest));
    let packages = metadata["packages"].as_array().unwrap();
    let of_registry = |found: &&Value| found["name"] == package && !found["source"].is_null();
    let found: Vec<_> = packages.iter().filter(of_registry).collect();
    assert_eq!(found.len(), 1, "one version of {package}");
    Path::new(found[0]["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

fn metadata(manifest: &Path) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: cargo cannot fetch what it depends on: {said}", manifest.display());
    serde_json::from_slice(&output.stdout).unwrap()
}
