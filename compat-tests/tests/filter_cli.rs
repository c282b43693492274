//! `bpfdev filter`: what its subcommands print, and how they end.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use expressions::EXPRESSIONS;

mod expressions;
mod program;

/// `bpfdev filter` with this on its stdin.
fn filter_with(stdin: &[u8], args: &[&str]) -> Output {
    let mut child = Command::new(program::bpfdev())
        .arg("filter")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

/// Status, stdout and stderr.
fn told(stdin: &str, args: &[&str]) -> (i32, String, String) {
    let output = filter_with(stdin.as_bytes(), args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn stdout(stdin: &str, args: &[&str]) -> String {
    let (status, out, err) = told(stdin, args);
    assert_eq!((status, &*err), (0, ""), "{args:?}: {out}");
    out
}

/// What tcpdump prints; `None` where it refuses. The README's test command installs tcpdump.
fn tcpdump(args: &[&str]) -> Option<String> {
    let output = Command::new("tcpdump")
        .args(args)
        .output()
        .expect("tcpdump must be installed: apt-get install tcpdump");
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn compile_prints_what_tcpdump_prints() {
    let mut compared = 0;
    for expression in EXPRESSIONS {
        for form in ["-d", "-dd", "-ddd"] {
            let theirs = tcpdump(&[form, "-y", "EN10MB", "--", expression]).unwrap();
            assert_eq!(stdout("", &["compile", form, "--", expression]), theirs, "{form} '{expression}'");
        }
        for (linktype, snaplen) in [("RAW", "96"), ("NULL", "0"), ("LINUX_SLL", "65535"), ("EN10MB", "1")] {
            let args = ["-d", "-y", linktype, "-s", snaplen, "--", expression];
            let Some(theirs) = tcpdump(&args) else { continue };
            let ours = stdout("", &[&["compile"], &args[..]].concat());
            assert_eq!(ours, theirs, "-y {linktype} -s {snaplen} '{expression}'");
            compared += 1;
        }
    }
    assert!(compared > 200, "{compared} expressions of other link types");
    // Without a form it is the listing; words are joined.
    assert_eq!(
        stdout("", &["compile", "tcp", "and", "port 80"]),
        tcpdump(&["-d", "-y", "EN10MB", "tcp and port 80"]).unwrap()
    );
}

#[test]
fn compile_says_what_it_does_not_take() {
    let (status, _, err) = told("", &["compile", "tcp and"]);
    assert_eq!((status, err.lines().count()), (1, 1), "{err}");
    assert!(err.starts_with("bpfdev: \"tcp and\": "), "{err}");
    let (status, _, err) = told("", &["compile", "-y", "ETHER", "ip"]);
    assert_eq!(status, 2, "{err}");
    assert!(err.contains("\"ETHER\" is no link type"), "{err}");
    let (status, _, err) = told("", &["compile", "-s", "262145", "ip"]);
    assert_eq!((status, err.lines().count()), (2, 1), "{err}");
}

#[test]
fn compile_writes_json() {
    let json: serde_json::Value =
        serde_json::from_str(&stdout("", &["compile", "--json", "-s", "96", "ip"])).unwrap();
    let expected = serde_json::json!({
        "expression": "ip", "linktype": "EN10MB", "snaplen": 96,
        "instructions": [
            {"code": 40, "jt": 0, "jf": 0, "k": 12}, {"code": 21, "jt": 0, "jf": 1, "k": 2048},
            {"code": 6, "jt": 0, "jf": 0, "k": 96}, {"code": 6, "jt": 0, "jf": 0, "k": 0},
        ],
    });
    assert_eq!(json, expected);
}

const IP: &str = "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n";
const ALL_ACCEPT: &str = "freebsd    accepted\nnetbsd     accepted\nopenbsd    accepted\ndragonfly  accepted\n\
                          macos      accepted\nlinux      accepted\n";

#[test]
fn check_has_a_line_for_each_system() {
    let c = "{ 0x28, 0, 0, 0x0000000c },\n{ 0x15, 0, 1, 0x00000800 },\n{ 0x6, 0, 0, 0x00040000 },\n{ 0x6, 0, 0, 0 },\n";
    let listing = "(000) ldh [12]\n(001) jeq #0x800 jt 2 jf 3\n(002) ret #262144\n(003) ret #0\n";
    for form in [IP, c, listing] {
        assert_eq!(stdout(form, &["check", "-"]), ALL_ACCEPT, "{form}");
    }
    // M[3] is read and not stored, then a remainder: each system has its own rule.
    let (status, out, _) =
        told("4\n96 0 0 3\n148 0 0 7\n84 0 0 4294967295\n22 0 0 0\n", &["check", "-", "--abi", "all"]);
    assert_eq!(status, 1);
    assert_eq!(
        out,
        "freebsd    accepted\n\
         netbsd     refused   instruction (000): M[3] is read, but not stored on every path to here; store it first\n\
         openbsd    refused   instruction (001): code 0x0094 is no instruction on OpenBSD; use one of bpf(4)'s\n\
         dragonfly  refused   instruction (001): code 0x0094 is no instruction on DragonFly; use one of bpf(4)'s\n\
         macos      refused   instruction (001): code 0x0094 is no instruction on macOS; use one of bpf(4)'s\n\
         linux      refused   instruction (000): M[3] is read, but not stored on every path to here; store it first\n"
    );
    let (status, out, _) = told("0\n", &["check", "-", "--abi", "netbsd"]);
    assert_eq!(
        (status, &*out),
        (
            1,
            "netbsd     refused   filter program: NetBSD takes no program without instructions; to accept all packets use `ret #-1`\n"
        )
    );
    assert_eq!(stdout("0\n", &["check", "-", "--abi", "freebsd"]), "freebsd    accepted\n");

    let (status, out, _) = told("1\n0 0 0 0\n", &["check", "-", "--abi", "linux", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let rule = "the last instruction has code 0x0000; end the program with `ret #k` or `ret a`";
    assert_eq!(status, 1);
    assert_eq!(
        json,
        serde_json::json!([{"system": "linux", "accepted": false, "instruction": 0, "rule": rule}])
    );
    let (status, _, err) = told(IP, &["check", "-", "--abi", "plan9"]);
    assert_eq!(status, 2);
    assert!(err.contains("freebsd, netbsd, openbsd, dragonfly, macos, linux, all"), "{err}");
}

#[test]
fn bad_input_is_named_by_line_and_column() {
    for command in ["check", "graph", "explain"] {
        for (text, says) in [
            ("1\n6 0 x 0\n", "bpfdev: stdin: line 2, column 5: `x` is no jf; give a number from 0 to 255\n"),
            (
                "(000) ldh [12]\n(001) frob\n",
                "bpfdev: stdin: line 2, column 7: `frob` is no instruction; write it as tcpdump -d does: `(000) ldh [12]`\n",
            ),
            (
                "",
                "bpfdev: stdin: line 1, column 1: `` starts no filter program; give the output of tcpdump -d, -dd or -ddd\n",
            ),
        ] {
            let (status, out, err) = told(text, &[command, "-"]);
            assert_eq!((status, &*out, &*err), (1, "", says), "{command}");
        }
        let output = filter_with(b"1\n6 0 \xff 0\n", &[command, "-"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("line 2, column 5"), "{output:?}");
        let (status, _, err) = told("", &[command, "/nonexistent"]);
        assert_eq!((status, err.lines().count()), (1, 1), "{err}");
        assert!(err.contains("cannot read /nonexistent"), "{err}");
    }
    // Not valid: the instruction and the rule.
    let says = "bpfdev: linux dialect: instruction (000): M[16] does not exist; use M[0] to M[15]\n";
    assert_eq!(told("2\n96 0 0 16\n6 0 0 0\n", &["explain", "-"]), (1, String::new(), says.to_owned()));
}

#[test]
fn graph_is_dot() {
    let dot = stdout(IP, &["graph", "-"]);
    assert!(dot.starts_with("digraph filter {\n") && dot.ends_with("}\n"), "{dot}");
    assert!(dot.contains("    b0 -> b2 [label=true];\n    b0 -> b3 [label=false, style=dashed];\n"), "{dot}");
}

/// A capture file of three Ethernet frames: IPv4, cut short, and ARP.
fn capture() -> PathBuf {
    let path = std::env::temp_dir().join(format!("bpfdev-filter-cli-{}.pcap", std::process::id()));
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        file.extend(word.to_ne_bytes());
    }
    let frame = |kind: [u8; 2]| [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &kind, &[0x45; 46]].concat();
    for (seconds, frame, captured) in [(1, frame([8, 0]), 60), (2, frame([8, 0]), 13), (3, frame([8, 6]), 60)]
    {
        for word in [seconds, 7, captured as u32, 60] {
            file.extend(u32::to_ne_bytes(word));
        }
        file.extend(&frame[..captured]);
    }
    std::fs::write(&path, file).unwrap();
    path
}

#[test]
fn run_lists_what_passes_and_traces_one_packet() {
    let file = capture();
    let capture = file.to_str().unwrap();
    let out = stdout(IP, &["run", "-", "-r", capture]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((lines.len(), lines[1]), (2, "1 of 3 packets pass"), "{out}");
    assert!(lines[0].starts_with("     1    60 of    60  00:00:01.000007 "), "{out}");

    let trace = stdout(IP, &["run", "-", "-r", capture, "--trace", "1"]);
    assert_eq!(
        trace,
        "packet 1: 60 bytes captured of 60\n\
         (000) ldh      [12]                            A = 0x800  P[12:2] 08 00\n\
         (001) jeq      #0x800           jt 2 jf 3      to (002)\n\
         (002) ret      #262144                         accept 262144 bytes\n\
         passes, 60 of 60 bytes kept\n"
    );
    let trace = stdout(IP, &["run", "-", "-r", capture, "--trace", "2"]);
    assert_eq!(
        trace,
        "packet 2: 13 bytes captured of 60\n\
         (000) ldh      [12]                            reject: a load outside the 13 bytes captured\n\
         rejected\n"
    );
    // FreeBSD's tap loads a half-word past the end as 0, and goes on.
    let trace = stdout(IP, &["run", "-", "-r", capture, "--trace", "2", "--abi", "freebsd"]);
    assert!(
        trace.contains("A = 0x0\n")
            && trace.ends_with("(003) ret      #0                              reject\nrejected\n"),
        "{trace}"
    );

    let json: serde_json::Value =
        serde_json::from_str(&stdout("1\n6 0 0 20\n", &["run", "-", "-r", capture, "--json"])).unwrap();
    assert_eq!(json["packets"], 3);
    assert_eq!(
        json["passed"][1],
        serde_json::json!({"number": 2, "snaplen": 20, "captured": 13, "wirelen": 60})
    );
    let json: serde_json::Value =
        serde_json::from_str(&stdout(IP, &["run", "-", "-r", capture, "--json", "--trace", "3"])).unwrap();
    assert_eq!(
        (&json["snaplen"], &json["steps"][0]["a"], &json["steps"][1]["said"]),
        (&0.into(), &0x806.into(), &"to (003)".into())
    );

    let (status, _, err) = told(IP, &["run", "-", "-r", capture, "--trace", "4"]);
    assert_eq!(status, 1);
    assert!(err.contains("has 3 packets, and none of number 4"), "{err}");
    let (status, _, err) = told(IP, &["run", "-", "-r", "/dev/null"]);
    assert_eq!((status, err.lines().count()), (1, 1), "{err}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn explain_shows_what_the_kernel_runs() {
    let out = stdout(IP, &["explain", "-", "--plan", "cbpf"]);
    for says in [
        "program  4 instructions, valid: linux dialect\n",
        "\ncbpf     yes  ",
        "\nprocess  yes  ",
        "\njit      net.core.bpf_jit_enable = ",
        "\nplan     ",
        "\nby the plan cbpf:\n(000) ld       [vlanp]\n",
    ] {
        assert!(out.contains(says), "{says:?} in\n{out}");
    }
    let process = stdout(IP, &["explain", "-", "--plan", "process", "--link", "raw"]);
    assert!(process.ends_with("(000) ldh      [12]\n(001) jeq      #0x800           jt 2\tjf 3\n(002) ret      #262144\n(003) ret      #0\n"));
    for (link, abi) in [("loopback", "netbsd"), ("loopback", "macos"), ("raw", "freebsd")] {
        stdout(IP, &["explain", "-", "--link", link, "--abi", abi]);
    }
    let json: serde_json::Value = serde_json::from_str(&stdout(IP, &["explain", "-", "--json"])).unwrap();
    assert_eq!((&json["rules"], &json["plans"][2]["plan"]), (&"linux dialect".into(), &"process".into()));
    // The plan is the first that works.
    let works = json["plans"].as_array().unwrap().iter().find(|tried| tried["works"] == true).unwrap();
    assert_eq!(json["plan"], works["plan"]);

    // A program that the rewriting cannot do exactly: X and all of M[] are in use at a load over the tag's edge.
    let mut insns = vec!["129 0 0 0".to_owned()];
    insns.extend((0..16).map(|word| format!("3 0 0 {word}")));
    insns.extend(["32 0 0 11".to_owned(), "12 0 0 0".to_owned()]);
    insns.extend((0..16).flat_map(|word| [format!("97 0 0 {word}"), "12 0 0 0".to_owned()]));
    insns.push("22 0 0 0".to_owned());
    let text = format!("{}\n{}\n", insns.len(), insns.join("\n"));
    let out = stdout(&text, &["explain", "-", "--plan", "cbpf"]);
    assert!(out.contains("\ncbpf     no   instruction (017) of the filter: no word of M[] is free"), "{out}");
    assert!(out.ends_with("\nby the plan cbpf there is no program\n"), "{out}");
}

#[test]
fn ebpf_is_printed() {
    let out = stdout("", &["compile", "--ebpf", "ip"]);
    assert!(out.starts_with("(000) ") && out.trim_end().ends_with("exit"), "{out}");
    assert_eq!(
        stdout(IP, &["explain", "-", "--plan", "ebpf"]).split("by the plan ebpf:\n").nth(1),
        Some(&*out)
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(program::bpfdev())
        .args(["filter", "compile", "tcp"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
