//! `bpfdev-compat fuzz`: what is read from outside stands any bytes. That the checks notice is shown where they are.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Output};

fn fuzz(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bpfdev-compat")).arg("fuzz").args(arguments).output().unwrap()
}

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[test]
fn nothing_is_found_and_the_last_line_counts() {
    for target in ["ioctl", "records", "fuse", "cuse", "capture"] {
        let out = fuzz(&[target, "--runs", "20000", "--seed", "7", "--corpus", "/nonexistent"]);
        let said = text(&out);
        assert!(out.status.success(), "{said}");
        // whole seeds of 1024 inputs
        let line = format!("{target} 20480: 20480 executions, nothing found");
        assert!(said.lines().last().unwrap().starts_with(&line), "{said}");
        assert!(said.contains(&format!("{target}: 20480 executions\n")), "{said}");
        // and before them each of the corpus
        let kept = std::fs::read_dir(format!("{}/corpus/{target}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let said = text(&fuzz(&[target, "--runs", "1", "--seed", "7"]));
        assert!(said.contains(&format!("{target}: {} executions\n", 1024 + kept.count())), "{said}");
    }
}

#[test]
fn one_input_is_tried_again() {
    let file = std::env::temp_dir().join(format!("bpfdev-fuzz-{}", std::process::id()));
    std::fs::write(&file, [0; 7]).unwrap();
    let inputs = [
        ("ioctl", "0001000000"),
        ("records", "03ffffffff"),
        ("fuse", "28000000"),
        ("cuse", "0000200000"),
        ("capture", "0a0d0d0a"),
    ];
    for (target, input) in inputs {
        for again in [["--input", input], ["--file", file.to_str().unwrap()]] {
            let out = fuzz(&[&[target][..], &again].concat());
            assert!(out.status.success() && text(&out).contains("nothing found"), "{}", text(&out));
        }
    }
    std::fs::remove_file(&file).unwrap();
    let out = fuzz(&["capture", "--file", file.to_str().unwrap()]);
    assert!(out.status.code() == Some(1) && text(&out).contains(file.to_str().unwrap()), "{}", text(&out));
}

#[test]
fn wrong_arguments_are_one_line_and_exit_status_2() {
    let wrong: [&[&str]; 6] = [
        &["everything"],
        &["--input", "00"],
        &["filter", "--input", "00"],
        &["ioctl", "--input", "00", "--file", "/dev/null"],
        &["ioctl", "--input", "0x00"],
        &["ioctl", "--runs", "1", "--seconds", "1"],
    ];
    for arguments in wrong {
        let out = fuzz(arguments);
        let (status, said) = (out.status.code(), text(&out));
        assert_eq!((status, said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
    }
}
