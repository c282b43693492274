//! `bpfdev abi`: what it prints of a system, of two, and of a number, and how it ends. Numbers and words are those of
//! abi.json and semantics.md, written out.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Stdio};

use serde_json::Value;

mod program;

/// Status, stdout and stderr of `bpfdev abi` with these arguments.
fn told(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(program::bpfdev()).arg("abi").args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn stdout(args: &[&str]) -> String {
    let (status, out, err) = told(args);
    assert_eq!((status, &*err), (0, ""), "{args:?}: {out}");
    out
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(&[args, &["--json"]].concat())).unwrap()
}

/// The words of the one line that begins with these.
#[track_caller]
fn line(text: &str, first: &str) -> Vec<String> {
    let is = |line: &&str| line.trim_start_matches(['*', ' ']).split("  ").next() == Some(first);
    let lines: Vec<_> = text.lines().filter(is).collect();
    assert_eq!(lines.len(), 1, "lines that begin with {first:?}: {lines:?} in\n{text}");
    lines[0].split_whitespace().map(str::to_owned).collect()
}

/// What a sheet's JSON says of a rule or a limit.
#[track_caller]
fn words(sheet: &Value, list: &str, name: &str) -> String {
    let rule = sheet[list].as_array().unwrap().iter().find(|rule| rule["name"] == name);
    rule.unwrap_or_else(|| panic!("{name} of {}", sheet["system"]))["words"].as_str().unwrap().to_owned()
}

#[test]
fn the_list_has_every_system() {
    let text = stdout(&[]);
    // name, served, default buffer (abi.json, buffer_sizes), bh_hdrlen on Ethernet (abi.json, bh_hdrlen)
    for (system, served, buffer, hdrlen) in [
        ("linux", "yes", "4096", "26"),
        ("freebsd", "yes", "4096", "26"),
        ("netbsd", "yes", "32768", "34"),
        ("netbsd7", "yes", "32768", "34"),
        ("openbsd", "yes", "32768", "26"),
        ("dragonfly", "yes", "4096", "34"),
        ("macos", "yes", "4096", "18"),
        ("illumos", "no", "32768", "22"),
    ] {
        let systems = text.split("\nNodes").next().unwrap();
        assert_eq!(
            line(systems, system)[..4],
            [system, served, buffer, hdrlen].map(String::from),
            "{system}"
        );
        let list = json(&[]);
        let row = list.as_array().unwrap().iter().find(|row| row["system"] == system).unwrap();
        assert_eq!(row["buffer"].to_string(), buffer);
        assert_eq!(row["served"], served == "yes");
        assert!(row["requests"].as_u64().unwrap() >= 26, "{system}: {row}");
    }
    assert!(text.contains("256 at most (ENXIO)"), "macOS's nodes: {text}");
}

#[test]
fn freebsd_prints_every_column_of_a_request() {
    let text = stdout(&["freebsd"]);
    for (name, row) in [
        ("BIOCGBLEN", "0x40044266 0x80044266 OUT u_int 4 same yes served"),
        ("BIOCSETF", "0x80104267 0x40104267 IN struct bpf_program 16 0x80084267 8 no served"),
        ("BIOCSETIF", "0x8020426c 0x4020426c IN struct ifreq 32 same no served"),
        ("BIOCSTSTAMP", "0x80044284 0x40044284 IN u_int 4 same yes served"),
        ("BIOCGDLTLIST", "0xc0104279 0xc0104279 INOUT struct bpf_dltlist 16 0xc0084279 8 yes served"),
        ("FIOGETOWN", "0x4004667b 0x8004667b OUT u_int 4 same no served"),
    ] {
        assert_eq!(line(&text, name)[1..].join(" "), row, "{name}");
    }
    assert!(line(&text, "BIOCSETZBUF").join(" ").contains("refused: "), "zero copy is not offered");
    for said in [
        "freebsd: FreeBSD 13 to main of October 2024\nserved; numbers as in sys/ioccom.h\n",
        "struct bpf_hdr, 64-bit callers: 32 bytes, BPF_ALIGNMENT 8, bh_hdrlen 26 on Ethernet, 28 on loopback, 32 on",
        "struct bpf_hdr32, 32-bit callers: 20 bytes, BPF_ALIGNMENT 4, bh_hdrlen 18 on Ethernet, 20 on loopback, 20 on",
        "      16     4  bh_caplen\n      20     4  bh_datalen\n      24     2  bh_hdrlen\n",
        "\n  read time-out (u)  ",
        "BIOCGETIFLIST of 16-CURRENT is left out",
    ] {
        assert!(text.contains(said), "{said:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "no colour where nobody looks");
    assert!(text.lines().all(|line| line == line.trim_end()), "no blanks at the ends of lines");
}

#[test]
fn every_number_is_the_one_of_abi_json() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/abi.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for system in ["freebsd", "netbsd", "openbsd", "dragonfly", "macos", "illumos"] {
        let sheet = json(&[system]);
        for row in reference["os"][system]["ioctls"].as_array().unwrap() {
            if row["unverified"] == true {
                continue;
            }
            let printed =
                sheet["requests"].as_array().unwrap().iter().find(|printed| printed["name"] == row["name"]);
            // BIOCSETF32 stands beside BIOCSETF
            let form = || {
                let requests = sheet["requests"].as_array().unwrap();
                requests.iter().map(|printed| &printed["ilp32"]).find(|form| form["name"] == row["name"])
            };
            let printed = printed.or_else(form).unwrap_or_else(|| panic!("{system}: {}", row["name"]));
            for field in ["size", "bsd_value", "linux_value"] {
                assert_eq!(printed[field], row[field], "{system}: {field} of {}", row["name"]);
                compared += 1;
            }
            if printed.get("direction").is_some() {
                assert_eq!(printed["direction"], row["direction"], "{system}: {}", row["name"]);
                assert_eq!(printed["lock_allowed"], row["lock_allowed"], "{system}: {}", row["name"]);
                compared += 2;
            }
        }
    }
    assert!(compared > 900, "{compared} values compared");
}

#[test]
fn rules_are_told_in_words() {
    // semantics.md 2 (buffers), 3 (time-outs, BIOCLOCK), 4 (reads), 6 (writes), 11 (direction), 17 (link types)
    for (system, list, name, says) in [
        (
            "freebsd",
            "rules",
            "direction",
            "BIOCSDIRECTION: 0 received, 1 both, 2 sent; else EINVAL; 1 at first",
        ),
        (
            "openbsd",
            "rules",
            "direction",
            "BIOCSDIRFILT: hides by mask, 1 received, 2 sent; other bits are dropped; 0 at first",
        ),
        ("dragonfly", "rules", "direction", "BIOCSSEESENT: 0 received, anything else both; 1 at first"),
        (
            "macos",
            "rules",
            "direction",
            "BIOCSDIRECTION: shows by mask, 1 received, 2 sent; other bits are EINVAL; 3 at first",
        ),
        (
            "openbsd",
            "rules",
            "loopback framing",
            "DLT_LOOP=12, a 32-bit family in network order: AF_INET 2, AF_INET6 24",
        ),
        (
            "macos",
            "rules",
            "loopback framing",
            "DLT_NULL=0, a 32-bit family in host order: AF_INET 2, AF_INET6 30",
        ),
        ("openbsd", "rules", "link type numbers", "DLT_RAW=14 (elsewhere 12), DLT_LOOP=12 (elsewhere 108)"),
        ("freebsd", "rules", "link type numbers", "DLT_RAW=12, DLT_LOOP=108"),
        ("openbsd", "rules", "read, nothing there", "returns 0 where it would block"),
        ("netbsd", "rules", "read with no interface", "waits like any other"),
        ("openbsd", "rules", "lock and root", "does not bind root"),
        ("openbsd", "limits", "largest buffer", "2097152 bytes"),
        ("macos", "limits", "largest buffer", "33554432 bytes"),
        ("freebsd", "limits", "time-out tick", "1 ms"),
        ("dragonfly", "limits", "longest frame written", "2048 bytes"),
    ] {
        assert_eq!(words(&json(&[system]), list, name), says, "{system}");
    }
    // rules about requests that are not there
    let macos = json(&["macos"]);
    assert!(
        macos["rules"].as_array().unwrap().iter().all(|rule| rule["name"] != "lock and root"),
        "macOS has none"
    );
    assert_eq!(macos["requests"][0]["lock_allowed"], Value::Null);
}

#[test]
fn what_is_not_verified_is_marked() {
    let dragonfly = stdout(&["dragonfly"]);
    assert_eq!(line(&dragonfly, "BIOCSFEEDBACK (u)")[2], "0x8004427d");
    assert!(dragonfly.contains("\n  feedback (u)"), "{dragonfly}");
    let illumos = json(&["illumos"]);
    assert_eq!(illumos["served"], false);
    assert_eq!(illumos["headers"][0]["unverified"], true);
    assert!(illumos["rules"].as_array().unwrap().iter().all(|rule| rule["unverified"] == true));
    assert!(illumos["requests"].as_array().unwrap().iter().all(|request| request["unverified"] == false));
    assert_eq!(json(&["linux"])["unverified"], serde_json::json!([]));
}

#[test]
fn two_systems_stand_side_by_side() {
    let text = stdout(&["freebsd", "openbsd"]);
    // abi.json: OpenBSD has BIOCGRSIG and BIOCSRSIG the other way round, and BIOCLOCK elsewhere
    for (name, row, differs) in [
        ("BIOCGBLEN", "0x40044266 0x40044266", false),
        ("BIOCGRSIG", "0x40044272 0x40044273 number", true),
        ("BIOCSRSIG", "0x80044273 0x80044272 number", true),
        ("BIOCLOCK", "0x2000427a 0x20004276 number", true),
        ("BIOCSTSTAMP", "0x80044284 -", true),
        ("BIOCSDIRFILT", "- 0x8004427d", true),
    ] {
        let words = line(&text, name);
        assert_eq!(words[0] == "*", differs, "{name}: {words:?}");
        assert_eq!(words[if differs { 2 } else { 1 }..].join(" "), row, "{name}");
    }
    let header =
        "* struct bpf_hdr\n    freebsd  64-bit callers: 32 bytes, BPF_ALIGNMENT 8, bh_hdrlen 26 on Ethernet";
    assert!(text.contains(header), "{text}");
    assert!(text.contains(
        "\n* read, nothing there\n    freebsd  EAGAIN where it would block\n    openbsd  returns 0"
    ));

    let differences = stdout(&["freebsd", "openbsd", "--differences"]);
    assert!(differences.contains("* BIOCLOCK") && !differences.contains("BIOCGBLEN"), "{differences}");
    assert!(!differences.contains("smallest buffer"), "32 bytes on both: {differences}");
    let all = json(&["freebsd", "openbsd"]);
    let some = json(&["freebsd", "openbsd", "--differences"]);
    assert_eq!(all["systems"], serde_json::json!(["freebsd", "openbsd"]));
    assert!(some["requests"].as_array().unwrap().len() < all["requests"].as_array().unwrap().len());
    for row in some["requests"].as_array().unwrap() {
        assert_ne!(row["differs"], serde_json::json!([]), "{row}");
    }
}

#[test]
fn more_than_two_systems_can_be_compared() {
    let text = stdout(&["freebsd", "netbsd", "openbsd", "dragonfly", "macos", "illumos"]);
    // abi.json, macOS: the bpf_dltlist of 12 bytes; NetBSD's and illumos's number 119, OpenBSD's 123
    let row = line(&text, "BIOCGDLTLIST").join(" ");
    let numbers = "0xc0104279 0xc0104277 0xc010427b 0xc0104279 0xc00c4279 0xc0104277";
    assert!(row.starts_with(&format!("* BIOCGDLTLIST {numbers} number, argument")), "{row}");
    let text = stdout(&["netbsd", "netbsd7", "--differences"]);
    assert_eq!(line(&text, "BIOCLOCK").join(" "), "* BIOCLOCK 0x2000427e -");
    assert!(!text.contains("Headers"), "the two have the same: {text}");
}

/// System, encoding, name and callers of what a number is.
fn meanings(number: &str) -> Vec<[String; 4]> {
    let told = json(&["--number", number]);
    let field = |meaning: &Value, field| meaning[field].as_str().unwrap().to_owned();
    let requests = told.as_array().unwrap().iter().flat_map(|told| told["requests"].as_array().unwrap());
    requests.map(|m| ["system", "encoding", "name", "callers"].map(|name| field(m, name))).collect()
}

#[test]
fn a_number_is_told_on_each_system_in_each_encoding() {
    let text = stdout(&["--number", "0x8020426c"]);
    for said in [
        "0x8020426c (2149597804)\n",
        "  sys/ioccom.h         _IOW('B', 108, 32): IN, 32 bytes\n",
        "  asm-generic/ioctl.h  _IOR('B', 108, 32): OUT, 32 bytes\n",
    ] {
        assert!(text.contains(said), "{said:?} in\n{text}");
    }
    for (system, name) in [("linux", "BIOCSETIF"), ("netbsd", "OBIOCSETIF"), ("macos", "BIOCSETIF")] {
        let row = line(&text, system).join(" ");
        assert_eq!(row, format!("{system} sys/ioccom.h {name} all struct ifreq served"));
    }
    assert_eq!(
        line(&text, "illumos").join(" "),
        "illumos sys/ioccom.h BIOCSETIF all struct ifreq not served"
    );

    // clients.md: one number, other requests; "FreeBSD-FEEDBACK(Linux enc.) / OpenBSD GDIRFILT / NetBSD GFEEDBACK"
    let row = |system: &str, encoding: &str, name: &str| [system, encoding, name, "all"].map(String::from);
    let meanings_of = meanings("0x4004427c");
    for expected in [
        row("linux", "asm-generic/ioctl.h", "BIOCFEEDBACK"),
        row("openbsd", "sys/ioccom.h", "BIOCGDIRFILT"),
        row("netbsd", "sys/ioccom.h", "BIOCGFEEDBACK"),
        row("macos", "asm-generic/ioctl.h", "BIOCSEXTHDR"),
    ] {
        assert!(meanings_of.contains(&expected), "{expected:?} in {meanings_of:?}");
    }
    assert!(meanings_of.iter().all(|m| m[0] != "illumos"), "{meanings_of:?}");

    // a 32-bit caller's, and a 64-bit caller's
    let of = |number, system: &str| {
        meanings(number).into_iter().find(|m| m[0] == system).map(|m| [2, 3].map(|i| m[i].clone()))
    };
    assert_eq!(of("0x80084267", "freebsd"), Some(["BIOCSETF32", "32-bit"].map(String::from)));
    assert_eq!(of("0x80104267", "freebsd"), Some(["BIOCSETF", "64-bit"].map(String::from)));
    assert_eq!(of("0x800c426d", "openbsd"), Some(["BIOCSRTIMEOUT32", "32-bit"].map(String::from)));
    assert_eq!(of("0x800c426d", "freebsd"), None, "i386 has a timeval of 8 bytes there");
}

#[test]
fn a_number_can_be_written_in_many_ways() {
    let hexadecimal = meanings("0x8020426c");
    for same in ["2149597804", "-2145369492", "0xFFFFFFFF8020426C", "_IOC(_IOC_READ, 0x42, 0x6c, 0x20)"] {
        assert_eq!(meanings(same), hexadecimal, "{same}");
    }
    let both = meanings("_IOW('B', 108, 32)");
    assert_eq!(both, [hexadecimal, meanings("0x4020426c")].concat(), "one number in each encoding");
}

#[test]
fn an_unknown_number_ends_with_1_and_says_so() {
    let (status, out, err) = told(&["--number", "0x12345678"]);
    assert_eq!((status, &*err), (1, ""), "{out}");
    assert!(out.contains("no system's bpf(4) has this request\n"), "{out}");
    // FreeBSD's BIOCSETIF with a size that nobody has
    let (status, out, _) = told(&["--number", "0x800f426c"]);
    assert_eq!(status, 1);
    assert_eq!(
        line(&out, "OBIOCSETIF").join(" "),
        "OBIOCSETIF 0x8020426c netbsd, netbsd7",
        "what it may have meant"
    );
    let (status, out, _) = told(&["--number", "0x12345678", "--json"]);
    assert_eq!(status, 1);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()[0]["requests"], serde_json::json!([]));
}

#[test]
fn wrong_arguments_are_one_line_and_end_with_2() {
    for (args, says) in [
        (&["plan9"][..], "invalid value 'plan9' for '[SYSTEM]...'"),
        (&["FreeBSD"], "invalid value 'FreeBSD'"),
        (&["freebsd", "freebsd"], "freebsd is named twice"),
        (&["--differences"], "--differences needs two systems"),
        (&["freebsd", "--differences"], "--differences needs two systems"),
        (&["freebsd", "--number", "1"], "cannot be used with"),
        (&["--number", "1", "--differences"], "cannot be used with"),
        (&["--number"], "a value is required"),
        (&["--number", "BIOCSETIF"], "a number is decimal or hexadecimal"),
        (&["--number", ""], "a number is decimal or hexadecimal"),
        (&["--number", "0x1ffffffff"], "a request number has 32 bits"),
        (&["--number", "_IOW('B', 108, struct ifreq)"], "a size is in bytes"),
        (&["--number", "_IOW('B', 108, 99999)"], "at most 8191"),
        (&["--jsn"], "unexpected argument '--jsn'"),
    ] {
        let (status, out, err) = told(args);
        assert_eq!((status, &*out, err.lines().count()), (2, "", 1), "{args:?}: {err}");
        assert!(err.starts_with("bpfdev: ") && err.contains(says), "{args:?}: {err}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(program::bpfdev())
        .args(["abi", "freebsd", "openbsd"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}
