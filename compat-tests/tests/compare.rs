//! `bpfdev-compat compare`: reports of several machines against each other, and against a baseline.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpfdev_compat::conformance::report::{
    CaseInfo, Cell, Check, Machine, Outcome, Report, SCHEMA, Schema, TargetInfo, VERSION,
};
use bpfdev_compat::conformance::system::System;
use serde_json::{Value, json};

/// An empty directory of this test's own.
fn place(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// What a target says to the one step of a case.
#[derive(Clone, Copy)]
enum Says {
    /// This, as the rules say.
    Right(&'static str),
    /// This; the rules say otherwise.
    Wrong(&'static str),
    /// As [`Says::Wrong`], and it is declared.
    Gap(&'static str),
    Skip,
}
use Says::{Gap, Right, Skip, Wrong};

/// What the rules say where a target is wrong.
const RULE: &str = "by the rules";

fn cell(target: &str, case: &str, says: Says) -> Cell {
    // the interface's name is each machine's own
    let step = format!("BIOCSETIF {target}0");
    let check = |expected: &str, seen: &str| {
        vec![Check { step: step.clone(), expected: expected.into(), seen: seen.into() }]
    };
    let (outcome, checks) = match says {
        Right(seen) => (Outcome::Passed, check(seen, seen)),
        Wrong(seen) => {
            let outcome = Outcome::Failed { step: step.clone(), expected: RULE.into(), seen: seen.into() };
            (outcome, check(RULE, seen))
        }
        Gap(seen) => {
            let reason = "Linux is not BSD".into();
            (Outcome::Gap { reason, expected: RULE.into(), seen: seen.into() }, check(RULE, seen))
        }
        Skip => (Outcome::Skipped { reason: "there is no such thing".into() }, Vec::new()),
    };
    Cell { target: target.into(), case: case.into(), outcome, checks, duration_ms: 1 }
}

/// A report: the targets, and for each case what they say.
fn report(os: &str, kernel: &str, targets: &[&str], cases: &[(&str, &[Says])]) -> Report {
    let system = |name: &str| System::by_name(name.split_once(':').unwrap().1).unwrap();
    let mut cells = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        cells.extend(cases.iter().map(|(case, says)| cell(target, case, says[at])));
    }
    Report {
        schema: Schema { name: SCHEMA.into(), version: VERSION },
        machine: Machine {
            os: os.into(),
            kernel: kernel.into(),
            arch: "amd64".into(),
            date: "2026-01-31T12:00:00Z".into(),
            bpfdev: "0.1.0".into(),
        },
        targets: targets
            .iter()
            .map(|name| TargetInfo { name: (*name).into(), about: "for a test".into(), system: system(name) })
            .collect(),
        cases: cases
            .iter()
            .map(|(id, _)| CaseInfo {
                id: (*id).into(),
                title: format!("title of {id}"),
                rule: "bpf(4)".into(),
            })
            .collect(),
        cells,
    }
}

fn save(dir: &Path, name: &str, report: &Report) {
    fs::write(dir.join(name), report.to_json().unwrap()).unwrap();
}

/// Exit status, lines of stdout, and stderr.
fn compare(dir: &Path, arguments: &[&str]) -> (i32, Vec<String>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpfdev-compat"));
    let output = command.arg("compare").args(arguments).current_dir(dir).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (output.status.code().unwrap(), lines, String::from_utf8(output.stderr).unwrap())
}

const BSD: &[&str] = &["native:freebsd"];
const LINUX: &[&str] = &["device:freebsd", "device:openbsd"];

#[test]
fn native_and_device_of_one_system_must_be_equal_or_a_declared_gap() {
    let dir = place("native");
    let bsd: &[(&str, &[Says])] = &[
        ("a::equal", &[Right("1")]),
        ("a::differs", &[Right("1")]),
        ("a::gap", &[Right("1")]),
        ("a::skipped_there", &[Skip]),
        ("a::skipped_here", &[Right("1")]),
        ("a::wrong_alike", &[Wrong("7")]),
        ("a::only_there", &[Right("1")]),
    ];
    let linux: &[(&str, &[Says])] = &[
        ("a::equal", &[Right("1"), Right("2")]),
        ("a::differs", &[Wrong("3"), Right("2")]),
        ("a::gap", &[Gap("4"), Right("2")]),
        ("a::skipped_there", &[Right("1"), Right("1")]),
        ("a::skipped_here", &[Skip, Right("1")]),
        ("a::wrong_alike", &[Wrong("7"), Right("2")]),
        ("a::only_here", &[Right("1"), Right("1")]),
    ];
    save(&dir, "bsd.json", &report("FreeBSD", "15.0", BSD, bsd));
    save(&dir, "linux.json", &report("Linux", "6.18", LINUX, linux));
    let (status, lines, _) = compare(&dir, &["bsd.json", "linux.json", "--out", "new/dir"]);
    let expected = [
        "FAIL a::differs: BIOCSETIF native:freebsd0: native:freebsd on FreeBSD 15.0 saw 1, device:freebsd on Linux 6.18 \
         saw 3",
        "gap a::gap: BIOCSETIF native:freebsd0: native:freebsd on FreeBSD 15.0 saw 1, device:freebsd on Linux 6.18 saw 4 \
         (Linux is not BSD)",
        "2 equal, 1 failed, 4 skipped, 1 declared gaps; 4 cases differ between targets",
    ];
    assert_eq!(lines, expected);
    assert_eq!(status, 1);

    let written: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("new/dir/comparison.json")).unwrap()).unwrap();
    assert_eq!(written["schema"], json!({"name": "bpfdev-comparison", "version": 1}));
    assert_eq!(written["pairs"][0]["failed"], 1);
    assert_eq!(written["differences"][0]["case"], "a::differs");
    assert_eq!(written["differences"][1]["declared"], "Linux is not BSD");
    assert_eq!(written["reports"][1]["machine"], "Linux 6.18");
    assert_eq!(
        written["reports"][1]["report"],
        serde_json::to_value(report("Linux", "6.18", LINUX, linux)).unwrap()
    );
    let page = fs::read_to_string(dir.join("new/dir/index.html")).unwrap();
    for text in [
        "FreeBSD 15.0",
        "Linux 6.18",
        "a::only_there",
        "a::only_here",
        "Linux is not BSD",
        "Their differences",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn a_declared_gap_excuses_only_what_it_is_about() {
    let dir = place("excuse");
    // the native device is not as the rules say either: that is not what was declared
    save(&dir, "bsd.json", &report("FreeBSD", "15.0", BSD, &[("a::b", &[Wrong("5")])]));
    save(&dir, "linux.json", &report("Linux", "6.18", LINUX, &[("a::b", &[Gap("4"), Skip])]));
    let (status, lines, _) = compare(&dir, &["bsd.json", "linux.json"]);
    assert_eq!(
        lines.last().unwrap(),
        "0 equal, 1 failed, 0 skipped, 0 declared gaps; 1 cases differ between targets"
    );
    assert_eq!(status, 1);
}

#[test]
fn a_gap_that_is_no_more_is_no_difference() {
    let dir = place("mended");
    let mut linux = report("Linux", "6.18", LINUX, &[("a::b", &[Right("1"), Skip])]);
    // as the runner has it when a declared gap does not show
    linux.cells[0].outcome = Outcome::Failed {
        step: "comparing with the declared gaps".into(),
        expected: "a difference: Linux is not BSD".into(),
        seen: "none".into(),
    };
    save(&dir, "linux.json", &linux);
    save(&dir, "bsd.json", &report("FreeBSD", "15.0", BSD, &[("a::b", &[Right("1")])]));
    let (status, lines, _) = compare(&dir, &["bsd.json", "linux.json"]);
    assert_eq!(lines, ["1 equal, 0 failed, 0 skipped, 0 declared gaps; 0 cases differ between targets"]);
    assert_eq!(status, 0);
}

#[test]
fn systems_may_differ_and_a_native_device_without_ours_is_said() {
    let dir = place("information");
    save(&dir, "linux.json", &report("Linux", "6.18", LINUX, &[("a::b", &[Right("1"), Right("2")])]));
    save(&dir, "bsd.json", &report("NetBSD", "10.1", &["native:netbsd"], &[("a::b", &[Right("3")])]));
    let (status, lines, _) = compare(&dir, &["linux.json", "bsd.json"]);
    let expected = [
        "native:netbsd on NetBSD 10.1: not compared, no report has device:netbsd",
        "0 equal, 0 failed, 0 skipped, 0 declared gaps; 1 cases differ between targets",
    ];
    assert_eq!(lines, expected);
    assert_eq!(status, 0);
}

#[test]
fn targets_of_one_name_are_kept_apart_by_machine() {
    let dir = place("apart");
    let one = [("a::b", &[Right("1")] as &[Says])];
    save(&dir, "a.json", &report("FreeBSD", "14.3", BSD, &one));
    save(&dir, "b.json", &report("FreeBSD", "15.0", BSD, &[("a::b", &[Right("2")])]));
    save(&dir, "c.json", &report("Linux", "6.18", &["device:freebsd"], &one));
    let (status, lines, _) = compare(&dir, &["a.json", "b.json", "c.json"]);
    let expected = [
        "FAIL a::b: BIOCSETIF native:freebsd0: native:freebsd on FreeBSD 15.0 saw 2, device:freebsd on Linux 6.18 saw 1",
        "1 equal, 1 failed, 0 skipped, 0 declared gaps; 1 cases differ between targets",
    ];
    assert_eq!(lines, expected);
    assert_eq!(status, 1);
    // the same report twice: only a number is left to tell them apart
    let (_, _, said) = compare(&dir, &["c.json", "c.json", "--out", "twice"]);
    assert_eq!(said, "");
    let written: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("twice/comparison.json")).unwrap()).unwrap();
    let names = [&written["reports"][0]["machine"], &written["reports"][1]["machine"]];
    assert_eq!(names, ["Linux 6.18 amd64 2026-01-31T12:00:00Z", "Linux 6.18 amd64 2026-01-31T12:00:00Z #2"]);
}

#[test]
fn against_a_baseline_only_its_own_differences_are_accepted() {
    let dir = place("baseline");
    let save =
        |name: &str, cases: &[(&str, &[Says])]| save(&dir, name, &report("Linux", "6.18", LINUX, cases));
    save("then.json", &[("a::alike", &[Right("1"), Right("1")]), ("a::differs", &[Right("1"), Right("2")])]);
    let (status, lines, _) = compare(&dir, &["then.json", "--write-baseline", "accepted.json"]);
    assert_eq!(lines, ["0 equal, 0 failed, 0 skipped, 0 declared gaps; 1 cases differ between targets"]);
    assert_eq!(status, 0);
    let against = |name: &str| compare(&dir, &[name, "--baseline", "accepted.json"]);
    assert_eq!(against("then.json").0, 0);

    save("new.json", &[("a::alike", &[Right("1"), Right("8")]), ("a::differs", &[Right("1"), Right("2")])]);
    let (status, lines, _) = against("new.json");
    let expected = [
        "FAIL a::alike: a difference that is not in the baseline: device:freebsd: BIOCSETIF device:freebsd0: 1 | \
         device:openbsd: BIOCSETIF device:openbsd0: 8",
        "0 equal, 1 failed, 0 skipped, 0 declared gaps; 2 cases differ between targets",
    ];
    assert_eq!((status, &lines[..]), (1, &expected.map(str::to_owned)[..]));

    save("other.json", &[("a::alike", &[Right("1"), Right("1")]), ("a::differs", &[Right("1"), Right("9")])]);
    let (status, lines, _) = against("other.json");
    let expected = "FAIL a::differs: device:openbsd: BIOCSETIF device:openbsd0: 9; in the baseline: BIOCSETIF \
                    device:openbsd0: 2";
    assert_eq!((status, &*lines[0]), (1, expected));

    save("gone.json", &[("a::alike", &[Right("1"), Right("1")]), ("a::differs", &[Right("2"), Right("2")])]);
    let (status, lines, _) = against("gone.json");
    let expected = "FAIL a::differs: the baseline has a difference, and there is none any more";
    assert_eq!((status, &*lines[0]), (1, expected));

    // what is skipped, or not there, says nothing
    save("less.json", &[("a::differs", &[Right("1"), Skip])]);
    assert_eq!(against("less.json").0, 0);
}

#[test]
fn what_is_no_report_is_refused_and_named() {
    let dir = place("refused");
    let good = report("Linux", "6.18", LINUX, &[("a::b", &[Right("1"), Right("2")])]);
    save(&dir, "good.json", &good);
    let text = good.to_json().unwrap();
    let mut less = good.clone();
    less.cells.pop();
    let mut twice = good.clone();
    twice.cells.push(good.cells[0].clone());
    let mut stray = good.clone();
    stray.cells.push(Cell { case: "a::c".into(), ..good.cells[0].clone() });
    for (name, text, said) in [
        (
            "newer",
            text.replace("\"version\": 1", "\"version\": 2"),
            "bpfdev-report version 2; this program reads bpfdev-report version 1",
        ),
        (
            "other",
            json!({"schema": {"name": "junit", "version": 3}}).to_string(),
            "junit version 3; this program reads",
        ),
        ("cut", text[..text.len() / 2].to_owned(), "this is no report: EOF"),
        ("empty", String::new(), "this is no report: EOF"),
        ("object", "{}".to_owned(), "this is no report: missing field `schema`"),
        ("list", "[1, 2]".to_owned(), "this is no report"),
        ("outcome", text.replace("\"passed\"", "\"fine\""), "this is no report: unknown variant `fine`"),
        ("less", less.to_json().unwrap(), "it is damaged: 0 cells for a::b on device:openbsd"),
        ("twice", twice.to_json().unwrap(), "it is damaged: 2 cells for a::b on device:freebsd"),
        ("stray", stray.to_json().unwrap(), "it is damaged: 3 cells for 2 pairs"),
    ] {
        let file = format!("{name}.json");
        fs::write(dir.join(&file), text).unwrap();
        let (status, lines, error) = compare(&dir, &["good.json", &file, "--out", "out"]);
        assert_eq!((status, lines.len()), (2, 0), "{name}: {error}");
        assert!(
            error.starts_with(&format!("bpfdev-compat: {file}: ")) && error.contains(said),
            "{name}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert!(!dir.join("out").exists());
    fs::write(dir.join("binary.json"), [0xff, 0xfe, 0]).unwrap();
    for file in ["binary.json", "missing.json"] {
        let (status, _, error) = compare(&dir, &[file]);
        assert_eq!(status, 2, "{error}");
        assert!(error.contains(file), "{error}");
    }
    // a report is no baseline
    let (status, _, error) = compare(&dir, &["good.json", "--baseline", "good.json"]);
    assert_eq!(status, 2, "{error}");
    assert!(
        error.contains("bpfdev-report version 1; as a baseline this program reads bpfdev-baseline version 1"),
        "{error}"
    );
    assert_eq!(compare(&dir, &[]).0, 2);
}
