//! A user's own cases and programs: `run --cases`, `run --program`, `record` (root).

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bpfdev_backend_linux::netns::Namespace;
use bpfdev_compat::conformance::report::{Outcome, Report};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use serial_test::serial;

/// A directory of the test's own, removed at its end.
struct Room(PathBuf);

impl Room {
    fn new(name: &str) -> Room {
        let path = std::env::temp_dir().join(format!("bpfdev-user-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Room(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Runs the user's cases and programs on these targets.
    fn run(&self, on: &str, arguments: &[&str]) -> (Report, String, Output) {
        let report = self.path("report");
        let mut command = compat();
        command.args(["run", "--on", on, "--out", &report]).args(arguments);
        let output = command.output().unwrap();
        let said = said(&output);
        let text = fs::read_to_string(Path::new(&report).join("report.json"));
        let text = text.unwrap_or_else(|error| panic!("{error}: {said}"));
        (Report::from_json(&text).unwrap(), said, output)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn compat() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bpfdev-compat"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn recorded(name: &str) -> String {
    format!("{}/oracle/netbsd/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn root() {
    assert!(nix::unistd::geteuid().is_root(), "needs root: it mounts, and makes network namespaces");
}

const USER: [&str; 2] = ["--case", "user::*"];
const PROGRAM: [&str; 2] = ["--case", "program::*"];

#[test]
fn recorded_answers_are_cases_of_the_report() {
    let room = Room::new("report");
    let (report, said, output) =
        room.run("emulated:netbsd7", &[&USER[..], &["--cases", &recorded("cases.json")]].concat());
    assert!(
        output.status.success() && said.ends_with("34 passed, 0 failed, 0 skipped, 0 declared gaps\n"),
        "{said}"
    );
    let cell = report.cell("user::cases.json::open-flags", "emulated:netbsd7").unwrap();
    assert_eq!(cell.outcome, Outcome::Passed);
    let info = report.cases.iter().find(|case| case.id == "user::cases.json::open-initial").unwrap();
    assert_eq!(info.title, "state of a freshly opened, unattached descriptor: every ioctl before BIOCSETIF");
    assert!(info.rule.contains("cases.json:"), "{}", info.rule);
    let junit = fs::read_to_string(room.path("report/junit.xml")).unwrap();
    assert!(junit.contains("name=\"user::cases.json::open-flags\""), "{junit}");
}

/// Opens, attaches, and receives one frame of 60 bytes; BIOCVERSION says 1.1 everywhere (abi.json).
fn portable() -> Value {
    let rx = "ffffffffffff02000000000188b50001".to_owned() + &"00".repeat(44);
    json!([{"id": "one-frame", "steps": [
        {"op": "open", "path": "/dev/bpf", "flags": 2, "as_": "d", "result": {"ret": "fd"}},
        {"op": "ioctl", "d": "d", "req": "BIOCVERSION", "result": {"ret": 0, "value": [1, 1]}},
        {"op": "ioctl", "d": "d", "req": "BIOCSETIF", "ifr_name": "shmif0", "result": {"ret": 0}},
        {"op": "ioctl", "d": "d", "req": "BIOCGETIF", "result": {"ret": 0, "value": "shmif0"}},
        {"op": "ioctl", "d": "d", "req": "BIOCSETF", "bf_len": 1, "bf_insns": "060000000e000000", "result": {"ret": 0}},
        {"op": "ioctl", "d": "d", "req": "BIOCGDLTLIST", "bfl_len": 4, "bfl_list": "array",
         "result": {"ret": 0}},
        {"op": "ioctl", "d": "d", "req": "BIOCIMMEDIATE", "in": "01000000", "result": {"ret": 0}},
        {"op": "rx", "len": 60, "data": rx},
        {"op": "ioctl", "d": "d", "req": "FIONREAD", "result": {"ret": 0}},
        {"op": "close", "d": "d", "result": {"ret": 0}},
    ]}])
}

fn with_head(system: &str, cases: Value) -> String {
    let head = json!({"name": "bpfdev-cases", "version": 1});
    json!({"schema": head, "system": system, "cases": cases}).to_string()
}

#[test]
#[serial]
fn cases_of_any_system_are_played_on_every_one() {
    root();
    let room = Room::new("any");
    let file = room.write("any.json", with_head("any", portable()));
    let on = "emulated:*,packet-socket:*,device:*";
    let (_, said, output) = room.run(on, &[&USER[..], &["--cases", &file]].concat());
    assert!(
        output.status.success() && said.ends_with("21 passed, 0 failed, 0 skipped, 0 declared gaps\n"),
        "{said}"
    );
}

#[test]
fn cases_of_one_system_are_its_own() {
    let room = Room::new("one");
    let file = room.write("of.json", with_head("freebsd", portable()));
    let (report, said, _) = room.run("emulated:*", &[&USER[..], &["--cases", &file]].concat());
    assert!(said.ends_with("1 passed, 0 failed, 6 skipped, 0 declared gaps\n"), "{said}");
    let cell = report.cell("user::of.json::one-frame", "emulated:openbsd").unwrap();
    assert!(matches!(&cell.outcome, Outcome::Skipped { reason } if reason.contains("freebsd")), "{cell:?}");
}

#[test]
fn another_answer_is_a_difference() {
    let room = Room::new("other");
    let text = portable().to_string().replace("[1,1]", "[1,2]");
    let file = room.write("other.json", with_head("any", serde_json::from_str(&text).unwrap()));
    let (report, said, output) = room.run("emulated:macos", &[&USER[..], &["--cases", &file]].concat());
    assert_eq!(output.status.code(), Some(1), "{said}");
    let outcome = &report.cell("user::other.json::one-frame", "emulated:macos").unwrap().outcome;
    let expected = Outcome::Failed {
        step: "step 1 (ioctl d BIOCVERSION): value".into(),
        expected: "[1,2]".into(),
        seen: "[1,1]".into(),
    };
    assert_eq!(*outcome, expected);
}

#[test]
#[serial]
fn recorded_answers_over_packet_sockets_and_a_device() {
    root();
    let room = Room::new("wire");
    let traces = fs::read_to_string(recorded("traces.jsonl")).unwrap();
    let traces: Vec<_> = traces.lines().take(20).collect();
    room.write("traces.jsonl", traces.join("\n"));
    fs::copy(recorded("cases.json"), room.path("cases.json")).unwrap();
    let cases = room.0.to_str().unwrap().to_owned();
    let on = "packet-socket:netbsd7,device:netbsd7";
    let (report, said, output) = room.run(on, &[&USER[..], &["--cases", &cases]].concat());
    assert!(output.status.success(), "{said}");
    let skipped = |target: &str| -> Vec<_> {
        let cells = report.cells.iter().filter(|cell| cell.target == target);
        let skipped = cells.filter(|cell| matches!(cell.outcome, Outcome::Skipped { .. }));
        skipped.map(|cell| cell.case.trim_start_matches("user::cases.json::").to_owned()).collect()
    };
    // what Linux answers before the device, or instead of it (oracle/README.md)
    assert_eq!(skipped("device:netbsd7"), ["read-size", "close-blocked", "write-errors", "write-lo0"]);
    // in this process there is but one node
    assert_eq!(skipped("packet-socket:netbsd7"), ["open-flags", "close-blocked", "write-lo0"]);
}

#[test]
fn what_is_no_case_file_is_refused() {
    let room = Room::new("bad");
    let other = with_head("any", json!([])).replace("\"version\":1", "\"version\":7");
    let jump = json!([{"id": "a", "steps": [{"op": "jump"}]}]);
    for (name, text, says) in [
        ("no.json", "nonsense".to_owned(), "no.json:1: expected"),
        ("version.json", other, "this is bpfdev-cases version 7; this program reads bpfdev-cases version 1"),
        (
            "report.json",
            json!({"schema": {"name": "bpfdev-report", "version": 1}}).to_string(),
            "this is bpfdev-report",
        ),
        (
            "op.json",
            jump.to_string(),
            "case a: line 1: the operation \"jump\" is not known to this program (which reads bpfdev-cases version 1)",
        ),
        (
            "op.jsonl",
            "{\"id\":1,\"blen\":64,\"ops\":[[\"jump\"]]}".into(),
            "operation 0: the operation \"jump\"",
        ),
        (
            "req.json",
            with_head("any", json!([{"id": "a", "steps": [{"op": "ioctl", "d": "d", "req": "BIOCX"}]}])),
            "BIOCX",
        ),
        ("system.json", with_head("plan9", json!([])), "plan9"),
        ("empty.json", "[]".into(), "no recordings"),
        (
            "twice.json",
            json!([{"id": "a", "steps": []}, {"id": "a", "steps": []}]).to_string(),
            "two cases are called user::twice.json::a",
        ),
    ] {
        let file = room.write(name, text);
        for arguments in [
            &["run", "--on", "emulated:netbsd", "--cases", &file][..],
            &["record", &file, "--device", "/dev"],
        ] {
            if arguments[0] == "record" && name == "twice.json" {
                continue;
            }
            let output = compat().current_dir(&room.0).args(arguments).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            let recorded = arguments[0] == "record" && ["empty.json", "op.jsonl", "req.json"].contains(&name);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
            assert!(error.contains(says) || recorded, "{arguments:?}: {error}");
            assert!(!error.contains("panicked"), "{error}");
        }
    }
    let missing = room.path("nowhere");
    let output = compat().args(["run", "--cases", &missing]).output().unwrap();
    assert!(output.status.code() == Some(1) && said(&output).contains(&missing), "{}", said(&output));
    for wrong in [&["run", "--observe", "a"][..], &["run", "--program", "x", "--timeout", "0"], &["record"]] {
        assert_eq!(compat().args(wrong).output().unwrap().status.code(), Some(2), "{wrong:?}");
    }
}

/// A command line that captures with the bpfdev program.
fn capture(abi: &str, more: &str) -> String {
    let program = program::bpfdev().display();
    format!("{program} capture --device $BPF_DEVICE --abi {abi} -i $BPF_INTERFACE {more}")
}

#[test]
#[serial]
fn a_program_writes_what_was_sent() {
    root();
    let room = Room::new("program");
    for abi in ["linux", "freebsd", "netbsd", "openbsd", "dragonfly", "macos"] {
        let to_file = capture(abi, "-w $BPF_OUTPUT");
        let to_output = capture(abi, "-w - -c $BPF_COUNT");
        let on = format!("device:{abi},emulated:{abi}");
        let (report, said, output) =
            room.run(&on, &[&PROGRAM[..], &["--program", &to_file, "--program", &to_output]].concat());
        assert!(
            output.status.success() && said.ends_with("2 passed, 0 failed, 2 skipped, 0 declared gaps\n"),
            "{said}"
        );
        let cell = report.cell(&format!("program::{to_file}"), &format!("emulated:{abi}")).unwrap();
        assert!(matches!(&cell.outcome, Outcome::Skipped { reason } if reason.contains("node")), "{cell:?}");
    }
}

#[test]
#[serial]
fn a_program_that_does_otherwise_is_told_of() {
    root();
    let room = Room::new("wrong");
    let unfinished = "trap '' INT; sleep 3611 & ".to_owned()
        + &capture("freebsd", "-w /dev/null -c $BPF_COUNT")
        + "; sleep 3612";
    let snapped = capture("freebsd", "-s 60 -w $BPF_OUTPUT");
    let few = capture("freebsd", "-c 7 -w $BPF_OUTPUT");
    let silent = capture("freebsd", "-w /dev/null");
    let expected = [
        ("trap '' INT; sleep 3611", "attaching", "a capture of shmif0", "none within 6 s; it was killed"),
        (
            &unfinished,
            "the program's end",
            "an end within 6 s, at SIGINT",
            "it was killed, with its process group",
        ),
        ("echo garbage", "what it wrote", "a pcap or pcapng file", "capture file"),
        ("echo oops >&2; exit 3", "the program's end", "exit status 0", "exit status 3; it said \"oops\""),
        ("kill -9 $$", "the program's end", "exit status 0", "signal 9"),
        (&silent, "what it wrote", "a pcap or pcapng file in $BPF_OUTPUT, or as its output", "nothing"),
        (&few, "number of packets", "117", "7"),
        // the first that is longer: what precedes it is whole
        (&snapped, "packet ", " bytes", "60 of "),
    ];
    let mut arguments: Vec<&str> = PROGRAM.into();
    arguments.extend(["--timeout", "6"]);
    arguments.extend(expected.iter().flat_map(|(command, ..)| ["--program", command]));
    let (report, said, output) = room.run("device:freebsd", &arguments);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (command, step, expected, seen) in expected {
        let cell = report.cell(&format!("program::{command}"), "device:freebsd").unwrap();
        let Outcome::Failed { step: at, expected: wanted, seen: was } = &cell.outcome else {
            panic!("{cell:?}")
        };
        assert!(
            at.starts_with(step) && wanted.contains(expected) && was.contains(seen),
            "{command}: {cell:?}"
        );
    }
    // nobody of a killed group is left
    let alive = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok());
    let alive: Vec<_> = alive.filter(|line| line.starts_with(b"sleep\x00361")).collect();
    assert!(alive.is_empty(), "{alive:?}");
}

/// Serves a device of this dialect at `mount`, by this package's program.
fn serve(mount: &str, abi: &str) -> Child {
    fs::create_dir(mount).unwrap();
    let mut command = compat();
    let daemon = command.args(["serve", "--no-link", "--abi", abi, "--mount", mount]).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while !Path::new(mount).join("bpf").exists() {
        assert!(Instant::now() < end, "no device is served");
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon
}

fn stop(daemon: &mut Child) {
    kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM).unwrap();
    daemon.wait().unwrap();
}

/// The same but for what no two runs share.
fn same(id: &str, recorded: &Value, here: &Value) {
    let Value::Object(recorded) = recorded else { return assert_eq!(recorded, here, "{id}") };
    for (field, value) in recorded {
        match field.as_str() {
            "hdr_pad" | "gap_to_next" | "tstamp_sane" | "bytes_masked" => {}
            "elapsed_ms" => {
                let off = value.as_u64().unwrap().abs_diff(here[field].as_u64().unwrap());
                assert!(off < 1000, "{id}: {off} ms off");
            }
            "packets" => {
                let (recorded, here) = (value.as_array().unwrap(), here[field].as_array().unwrap());
                assert_eq!(recorded.len(), here.len(), "{id}");
                recorded.iter().zip(here).for_each(|(recorded, here)| same(id, recorded, here));
            }
            // abbreviated, or with what differs from host to host
            "data" if value.as_str().unwrap().contains(['.', 'S']) => {}
            "data" | "seq" if ["loopback-ip", "arp-self"].contains(&id) => {}
            _ => assert_eq!(*value, here[field], "{id}: {field}"),
        }
    }
}

#[test]
#[serial]
fn a_device_is_recorded() {
    root();
    let room = Room::new("record");
    let mount = room.path("mount");
    let mut daemon = serve(&mount, "netbsd7");
    let record = |file: &str, out: &str| {
        let arguments = ["--device", &mount, "--abi", "netbsd7", "--out", out];
        let output = compat().arg("record").arg(file).args(arguments).output().unwrap();
        (said(&output), output.status.code())
    };
    let cases = room.path("cases.json");
    let told = record(&recorded("cases.json"), &cases);
    let traces = room.path("traces.jsonl");
    let told_of_traces = record(&recorded("traces.jsonl"), &traces);
    let told_of_filters = record(&recorded("filter-corpus.jsonl"), &room.path("filters.jsonl"));
    stop(&mut daemon);

    assert!(told.1 == Some(0) && told.0.ends_with("32 recorded, 2 skipped, 0 failed\n"), "{}", told.0);
    assert!(told.0.contains("SKIP write-lo0: ") && told.0.contains("SKIP close-blocked: "), "{}", told.0);
    let read = |path: &str| -> Value { serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
    let (before, after) = (read(&recorded("cases.json")), read(&cases));
    assert_eq!((&after["schema"]["version"], &after["system"]), (&json!(1), &json!("netbsd7")));
    let mut compared = 0;
    for case in after["cases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        let recorded = before.as_array().unwrap().iter().find(|case| case["id"] == id).unwrap();
        for (recorded, here) in
            recorded["steps"].as_array().unwrap().iter().zip(case["steps"].as_array().unwrap())
        {
            assert_eq!((&recorded["op"], &recorded["cmd"]), (&here["op"], &here["cmd"]), "{id}");
            if let Some(result) = here.get("result") {
                same(id, &recorded["result"], result);
                compared += 1;
            }
        }
    }
    assert!(compared > 1000, "{compared}");

    assert!(
        told_of_traces.1 == Some(0) && told_of_traces.0.ends_with("189 recorded, 0 skipped, 0 failed\n"),
        "{told_of_traces:?}"
    );
    let lines = |path: &str| -> Vec<Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(lines(&traces)[1..], lines(&recorded("traces.jsonl")));
    assert!(
        told_of_filters.1 == Some(1) && told_of_filters.0.contains("0 recorded, 1490 skipped"),
        "{told_of_filters:?}"
    );
    // and they are cases again
    let (_, said, output) = room.run("emulated:netbsd7", &[&USER[..], &["--cases", &traces]].concat());
    assert!(output.status.success() && said.contains("189 passed"), "{said}");
}

/// What a BSD's user does: two interfaces that are there, and the nodes of a directory.
#[test]
#[serial]
fn two_interfaces_that_are_there_are_recorded_on() {
    root();
    let room = Room::new("pair");
    let mount = room.path("mount");
    let mut daemon = serve(&mount, "freebsd");
    let namespace = Namespace::new().unwrap();
    namespace.veth_pair("near", "far").unwrap();
    let mut cases = portable();
    cases.as_array_mut().unwrap().push(json!({"id": "removed", "steps": [{"op": "ifdestroy shmif0"}]}));
    let (file, out) = (room.write("any.json", with_head("any", cases)), room.path("out.json"));
    let mut command = compat();
    command.args(["record", &file, "--device", &mount, "--abi", "freebsd", "--out", &out]);
    command.args(["--observe", "near", "--inject", "far"]).stderr(Stdio::piped());
    let output = namespace.run(&mut command).unwrap().wait_with_output().unwrap();
    stop(&mut daemon);
    assert!(
        output.status.success() && said(&output).ends_with("1 recorded, 1 skipped, 0 failed\n"),
        "{}",
        said(&output)
    );
    assert!(
        said(&output).contains("SKIP removed: step 0 (ifdestroy shmif0): shmif0 is yours"),
        "{}",
        said(&output)
    );
    let after: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(after["system"], "freebsd");
    let results: Vec<_> =
        after["cases"][0]["steps"].as_array().unwrap().iter().map(|step| step["result"].clone()).collect();
    // semantics.md 3: a list of one link type, DLT_EN10MB; FreeBSD's record of 14 bytes is 26 + 14, and its header counts (abi.json)
    let expected = json!([
        {"ret": "fd"}, {"ret": 0, "value": [1, 1]}, {"ret": 0}, {"ret": 0, "value": "shmif0"}, {"ret": 0},
        {"ret": 0, "bfl_len": 1, "list_words": ["0x1", "0xa5a5a5a5", "0xa5a5a5a5", "0xa5a5a5a5"]},
        {"ret": 0}, null, {"ret": 0, "value": 40}, {"ret": 0},
    ]);
    assert_eq!(json!(results), expected);
}

#[test]
fn a_device_that_is_not_there_is_told_of() {
    let room = Room::new("nodevice");
    let file = room.write("any.json", with_head("any", portable()));
    let output = compat().args(["record", &file, "--device", &room.path("none")]).output().unwrap();
    assert!(
        output.status.code() == Some(1) && said(&output).contains("none: no directory"),
        "{}",
        said(&output)
    );
    let arguments = ["record", &file, "--device", "/", "--abi", "netbsd", "--observe", "a", "--inject", "b"];
    let output = compat().args(arguments).output().unwrap();
    assert!(output.status.code() == Some(1) && said(&output).contains("/bpf"), "{}", said(&output));
    let output = compat().args(["record", &file, "--abi", "plan9"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
