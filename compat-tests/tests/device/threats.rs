//! THREATS.md names tests: they are there.

use std::path::Path;

const THREATS: &str = include_str!("../../../THREATS.md");

/// The text of the sources below a directory.
fn sources(dir: &Path, into: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    sources(&here.join("tests/device"), &mut all);
    sources(&here.join("tests/cuse"), &mut all);
    sources(&here.join("../bpfdev/src"), &mut all);
    let mut named = 0;
    for name in THREATS.split('`').skip(1).step_by(2).filter(|word| word.contains("::")) {
        let (module, function) = name.rsplit_once("::").unwrap();
        if function == "tests" {
            let file = format!("{module}.rs");
            let found = ["chardev", "service"]
                .iter()
                .any(|room| here.join("../bpfdev/src").join(room).join(&file).is_file());
            assert!(found, "{name}");
        } else {
            assert!(all.contains(&format!("fn {function}()")), "{name}");
        }
        named += 1;
    }
    assert!(named > 30, "{named} tests are named");
}
