//! The report's page, in a real browser: it opens from a file, the matrix is complete, and its switch and filter work.
//!
//! A script of the test is added to a copy of the page; what it finds it writes into the document, which the browser prints.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bpfdev_compat::conformance::compare::{Comparison, named};
use bpfdev_compat::conformance::html;
use bpfdev_compat::conformance::report::{
    CaseInfo, Cell, Check, Machine, Outcome, Report, SCHEMA, Schema, TargetInfo, VERSION,
};
use bpfdev_compat::conformance::system::System;
use serde_json::{Value, json};

/// The browser, by $CHROME or one of the names distributions give it.
fn browser() -> PathBuf {
    if let Some(path) = std::env::var_os("CHROME") {
        return path.into();
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH").unwrap();
    let all = std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    let mut there = all.filter(|path| path.is_file());
    there.next().expect(
        "no Chromium: ./run-tests installs it (apt-get install chromium), or set CHROME to a browser's path",
    )
}

/// An empty directory of this test's own.
fn place(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report_page").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// The document after the page has been opened, and what the browser's console said.
fn open(dir: &Path, url: &str) -> (String, Vec<String>) {
    let (document, log) = (dir.join("document"), dir.join("log"));
    let mut command = Command::new(browser());
    command.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,1000",
    ]);
    // without this it tells nothing of its console
    command.args(["--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", dir.join("profile").display())).arg(url);
    command.stdout(fs::File::create(&document).unwrap()).stderr(fs::File::create(&log).unwrap());
    let mut running = command.stdin(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while running.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_secs(120) {
            running.kill().unwrap();
            panic!("the browser does not end: {}", fs::read_to_string(&log).unwrap());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    let said = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    let document = fs::read_to_string(&document).unwrap();
    assert!(document.contains("</html>"), "the browser printed no document: {log}");
    (document, said)
}

/// Opens a page, runs `script` in it once it is loaded, and gives what that returns. `query` is added to the address.
fn ask(dir: &Path, page: &str, query: &str, script: &str) -> Value {
    const HELPERS: &str = "
        const all = what => [...document.querySelectorAll(what)];
        const visible = element => element.getClientRects().length > 0;
        const rows = () => all('tr.case').filter(visible).map(row => row.querySelector('th code').textContent);
        const type = text => { find.value = text; find.dispatchEvent(new Event('input')); };
        const find = document.getElementById('find'), only = document.getElementById('only');";
    let script = format!(
        "<script>{{ {HELPERS}
        addEventListener('load', () => setTimeout(() => {{
            let found;
            try {{ found = (() => {{ {script} }})() }} catch (error) {{ found = {{ error: String(error) }} }}
            document.body.append(Object.assign(document.createElement('pre'), {{ id: 'found', textContent: JSON.stringify(found) }}));
        }}, 200)) }}</script>"
    );
    let path = dir.join("asked.html");
    fs::write(&path, format!("{page}{script}")).unwrap();
    let (document, said) = open(dir, &format!("file://{}{query}", path.display()));
    assert_eq!(said, [""; 0]);
    let found = document.split_once("<pre id=\"found\">").expect("the script has not run").1;
    let found = found.split_once("</pre>").unwrap().0;
    let found =
        found.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&");
    serde_json::from_str(&found).unwrap()
}

fn target(name: &str) -> TargetInfo {
    let system = System::by_name(name.split_once(':').unwrap().1).unwrap();
    TargetInfo { name: name.into(), about: format!("{name} <b>\"for a test\"</b>"), system }
}

fn report(targets: &[&str], cases: Vec<CaseInfo>, cells: Vec<Cell>) -> Report {
    let machine = Machine {
        os: "Linux".into(),
        kernel: "6.18".into(),
        arch: "x86_64".into(),
        date: "2026-01-31T12:00:00Z".into(),
        bpfdev: "0.1.0".into(),
    };
    let schema = Schema { name: SCHEMA.into(), version: VERSION };
    Report { schema, machine, targets: targets.iter().map(|name| target(name)).collect(), cases, cells }
}

fn case(id: &str) -> CaseInfo {
    CaseInfo { id: id.into(), title: format!("Title of {id}"), rule: format!("bpf(4), {id}") }
}

fn cell(target: &str, case: &str, seen: &str, outcome: Outcome) -> Cell {
    let expected = if outcome == Outcome::Passed { seen } else { "as it should" };
    let check = Check { step: "read".into(), expected: expected.into(), seen: seen.into() };
    Cell { target: target.into(), case: case.into(), outcome, checks: vec![check], duration_ms: 1 }
}

fn failed(seen: &str) -> Outcome {
    Outcome::Failed { step: "read".into(), expected: "as it should".into(), seen: seen.into() }
}

const TWO: &[&str] = &["emulated:freebsd", "device:freebsd"];

/// Four cases on two targets: equal, different answers, a failure, a skip and a gap.
fn four() -> Report {
    let gap = Outcome::Gap { reason: "a reason".into(), expected: "as it should".into(), seen: "4".into() };
    let skip = Outcome::Skipped { reason: "no such request".into() };
    let cells = vec![
        cell(TWO[0], "open::equal", "1", Outcome::Passed),
        cell(TWO[0], "open::answers", "1", Outcome::Passed),
        cell(TWO[0], "read::failure", "1", Outcome::Passed),
        Cell { checks: Vec::new(), ..cell(TWO[0], "read::others", "", skip) },
        cell(TWO[1], "open::equal", "1", Outcome::Passed),
        cell(TWO[1], "open::answers", "2", Outcome::Passed),
        cell(TWO[1], "read::failure", "3", failed("3")),
        cell(TWO[1], "read::others", "4", gap),
    ];
    report(TWO, ["open::equal", "open::answers", "read::failure", "read::others"].map(case).into(), cells)
}

/// The word of a cell.
fn word(outcome: &str) -> &str {
    match outcome {
        "passed" | "failed" | "skipped" | "gap" => outcome,
        other => panic!("{other}"),
    }
}

#[test]
fn what_run_writes_opens_from_a_file_and_is_complete() {
    let dir = place("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpfdev-compat"));
    command.args(["run", "--on", "emulated:*", "--case", "open::*", "--out"]).arg(&dir);
    assert!(command.output().unwrap().status.code().is_some_and(|code| code < 2));
    let (document, said) = open(&dir, &format!("file://{}", dir.join("index.html").display()));
    assert_eq!(said, [""; 0]);
    let report: Value = serde_json::from_str(&fs::read_to_string(dir.join("report.json")).unwrap()).unwrap();
    for fact in ["os", "kernel", "arch", "date", "bpfdev"] {
        assert!(document.contains(report["machine"][fact].as_str().unwrap()), "{fact}");
    }

    let page = fs::read_to_string(dir.join("index.html")).unwrap();
    let found = ask(
        &dir,
        &page,
        "",
        "const text = element => element.textContent.trim().split(' ')[0];
         return {
            columns: all('th.system').map(th => th.dataset.name),
            rows: rows(),
            cells: all('tr.case').map(row => [...row.querySelectorAll('td')].map(text)),
            shown: all('tr.case td a').every(visible),
            headers: all('tr.case th').every(th => th.scope === 'row') && all('th.system').every(th => th.scope === 'col'),
            counts: all('.counts tr').map(row => [...row.querySelectorAll('td')].map(td => Number(td.textContent))),
         }",
    );
    let names = |what: &str, key: &str| -> Vec<String> {
        report[what].as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
    };
    let (targets, cases) = (names("targets", "name"), names("cases", "id"));
    assert!(targets.len() == 7 && cases.len() >= 10, "{targets:?} {cases:?}");
    assert_eq!(found["columns"], json!(targets));
    assert_eq!(found["rows"], json!(cases));
    assert_eq!((&found["shown"], &found["headers"]), (&json!(true), &json!(true)));
    let outcome = |target: &str, case: &str| {
        let cells = report["cells"].as_array().unwrap();
        let cell = cells.iter().find(|cell| cell["target"] == target && cell["case"] == case).unwrap();
        word(cell["outcome"].as_str().unwrap()).to_owned()
    };
    let expected: Vec<Vec<_>> =
        cases.iter().map(|case| targets.iter().map(|target| outcome(target, case)).collect()).collect();
    assert_eq!(found["cells"], json!(expected));
    let count = |word: &str, at: usize| expected.iter().filter(|row| row[at] == word).count();
    let counts = ["passed", "failed", "skipped", "gap"]
        .map(|word| (0..7).map(|at| count(word, at)).collect::<Vec<_>>());
    assert_eq!(found["counts"], json!(counts));
}

#[test]
fn the_switch_and_the_filter_choose_rows() {
    let dir = place("switch");
    let page = html::page(&four());
    let found = ask(
        &dir,
        &page,
        "",
        "const steps = [], note = () => steps.push([rows(), document.getElementById('status').textContent]);
         note(); only.click(); note(); type('READ'); note(); only.click(); type('equal title'); note();
         type('nowhere'); note();
         return { steps, areas: all('tr.area').filter(visible).length }",
    );
    let expected = json!({
        "steps": [
            [["open::equal", "open::answers", "read::failure", "read::others"], "4 of 4 cases shown"],
            [["open::answers", "read::failure", "read::others"], "3 of 4 cases shown"],
            // each answer names its step, and here it is `read`
            [["open::answers", "read::failure", "read::others"], "3 of 4 cases shown"],
            [["open::equal"], "1 of 4 cases shown"],
            [[], "0 of 4 cases shown"],
        ],
        "areas": 0,
    });
    assert_eq!(found, expected);
    // the same by the address
    let found = ask(&dir, &page, "?differences&filter=failure", "return [rows(), only.checked]");
    assert_eq!(found, json!([["read::failure"], true]));
}

#[test]
fn a_cell_opens_what_was_expected_and_seen() {
    let dir = place("cell");
    let page = html::page(&four());
    let script = "
        const open = () => all('.more').filter(visible).map(more => more.innerText);
        const cells = all('tr.case td a'), steps = [open()];
        const press = key => document.dispatchEvent(new KeyboardEvent('keydown', { key }));
        cells[5].click(); steps.push(open(), cells[5].getAttribute('aria-expanded'), all('section.at').map(one => one.innerText));
        cells[7].click(); steps.push(open());
        cells[7].click(); steps.push(open());
        cells[6].click(); press('Escape'); steps.push(open(), document.activeElement === cells[6]);
        return steps";
    let found = ask(&dir, &page, "", script);
    let at = |at: usize| found[at].to_string();
    assert_eq!(found[0], json!([]));
    for text in ["bpf(4), read::failure", "device: freebsd", "emulated: freebsd", "as it should"] {
        assert!(at(1).contains(text), "{text}: {found}");
    }
    assert_eq!(found[2], "true");
    for text in ["failed b", "device: freebsd", "read", "as it should", "3"] {
        assert!(at(3).contains(text), "{text}: {found}");
    }
    assert!(!at(3).contains("emulated"), "{found}");
    // one at a time
    assert!(
        at(4).contains("a reason") && at(4).contains("no such request") && !at(4).contains("read::failure"),
        "{found}"
    );
    assert_eq!((&found[5], &found[6], &found[7]), (&json!([]), &json!([]), &json!(true)));
    // an address leads there too
    let found = ask(&dir, &page, "#c2-2", "return [all('.more').filter(visible).length, all('a.at').length]");
    assert_eq!(found, json!([1, 1]));
}

#[test]
fn without_its_script_it_is_a_table_that_opens() {
    let dir = place("plain");
    let page = html::page(&four());
    let (before, rest) = page.split_once("<script>").unwrap();
    let page = format!("{before}{}", rest.split_once("</script>").unwrap().1);
    let script = "const open = all('.more section').filter(visible).map(one => one.innerText);
        const first = rows(); only.click(); return { open, first, second: rows(), filter: visible(find) }";
    let found = ask(&dir, &page, "#c2-2", script);
    assert_eq!(found["open"].as_array().unwrap().len(), 2, "{found}");
    assert_eq!(found["first"].as_array().unwrap().len(), 4, "{found}");
    assert_eq!(found["second"], json!(["open::answers", "read::failure", "read::others"]));
    assert_eq!(found["filter"], false);
}

#[test]
fn hostile_text_stays_text() {
    const HOSTILE: &str =
        "</script></style><script>window.owned=1</script><img src=x onerror=window.owned=1>\"'>&lt;--";
    let dir = place("hostile");
    let mut report = four();
    let machine = &mut report.machine;
    for text in
        [&mut machine.os, &mut machine.kernel, &mut machine.arch, &mut machine.date, &mut machine.bpfdev]
    {
        *text = HOSTILE.into();
    }
    let renamed = |name: &str| format!("{name}{HOSTILE}");
    for target in &mut report.targets {
        target.name = renamed(&target.name);
        target.about = HOSTILE.into();
    }
    for case in &mut report.cases {
        (case.id, case.title, case.rule) = (renamed(&case.id), HOSTILE.into(), HOSTILE.into());
    }
    for cell in &mut report.cells {
        (cell.target, cell.case) = (renamed(&cell.target), renamed(&cell.case));
        for check in &mut cell.checks {
            (check.step, check.seen) = (HOSTILE.into(), format!("{HOSTILE}\u{202e}\u{0}"));
        }
        match &mut cell.outcome {
            Outcome::Skipped { reason } | Outcome::Gap { reason, .. } => *reason = HOSTILE.into(),
            Outcome::Failed { step, .. } => *step = HOSTILE.into(),
            Outcome::Passed => {}
        }
    }
    let mut other = report.clone();
    other.targets[1].name = format!("native:{HOSTILE}");
    other.cells.iter_mut().skip(4).for_each(|cell| cell.target = format!("native:{HOSTILE}"));
    report.targets[1].name = format!("device:{HOSTILE}");
    report.cells.iter_mut().skip(4).for_each(|cell| cell.target = format!("device:{HOSTILE}"));
    other.cells[5].checks[0].seen = "another".into();
    let parts = named(vec![report.clone(), other]);
    let mut comparison = Comparison::of(&parts, None);
    comparison.unexpected.push(HOSTILE.into());
    assert_eq!(comparison.differences.len(), 1);
    for page in [html::page(&report), html::merged(&parts, &comparison)] {
        let script = "all('tr.case > th a').forEach(link => link.click());
            return { owned: window.owned, scripts: all('script').length, images: all('img, body style').length,
                title: all('tr.case th a')[0].firstChild.textContent.trim(), seen: all('section td')[2].textContent,
                name: all('th.system')[1].dataset.name, rows: rows().length }";
        let found = ask(&dir, &page, "", script);
        // the page's own, and the test's
        assert_eq!((&found["scripts"], &found["images"]), (&json!(2), &json!(0)), "{found}");
        assert_eq!((&found["owned"], &found["rows"]), (&Value::Null, &json!(4)), "{found}");
        assert_eq!(found["title"], HOSTILE);
        assert_eq!(found["seen"], format!("{HOSTILE}\\u{{202e}}\\u{{0}}"));
        assert!(found["name"].as_str().unwrap().starts_with(&format!("device:{HOSTILE}")), "{found}");
    }
}

#[test]
fn two_machines_are_side_by_side() {
    let dir = place("machines");
    let (linux, mut bsd) = (four(), four());
    (bsd.machine.os, bsd.machine.kernel) = ("FreeBSD".into(), "15.0".into());
    bsd.targets = vec![target("native:freebsd")];
    bsd.cells.retain(|cell| cell.target == TWO[0]);
    bsd.cells.iter_mut().for_each(|cell| cell.target = "native:freebsd".into());
    // it has one case less, and one more in its middle
    bsd.cases.remove(0);
    bsd.cells.remove(0);
    bsd.cases.insert(1, case("read::only_there"));
    bsd.cells.insert(1, cell("native:freebsd", "read::only_there", "1", Outcome::Passed));
    let parts = named(vec![linux, bsd]);
    let page = html::merged(&parts, &Comparison::of(&parts, None));
    let script = "return {
        columns: all('th.system').map(th => th.dataset.name), rows: rows(),
        cells: all('tr.case').map(row => [...row.querySelectorAll('td')].map(td => td.textContent.trim())),
        differences: all('table[aria-labelledby=differences] tbody tr').map(row => row.innerText.split('\\t')[0].trim()) }";
    let found = ask(&dir, &page, "", script);
    let columns =
        ["emulated:freebsd on Linux 6.18", "device:freebsd on Linux 6.18", "native:freebsd on FreeBSD 15.0"];
    assert_eq!(found["columns"], json!(columns));
    let rows = ["open::equal", "open::answers", "read::only_there", "read::failure", "read::others"];
    assert_eq!(found["rows"], json!(rows));
    let expected = json!([
        ["passed", "passed", "not played"],
        ["passed a", "passed b", "passed a"],
        ["not played", "not played", "passed"],
        ["passed a", "failed b", "passed a"],
        ["skipped a", "gap b", "skipped a"],
    ]);
    assert_eq!(found["cells"], expected);
    let differences = [
        "native:freebsd on FreeBSD 15.0 against device:freebsd on Linux 6.18",
        "open::answers",
        "read::failure",
    ];
    assert_eq!(found["differences"], json!(differences));
}

#[test]
fn a_console_message_would_be_noticed() {
    let dir = place("console");
    let path = dir.join("page.html");
    fs::write(&path, html::page(&four()) + "<script>nowhere()</script><img src=data:,>").unwrap();
    let (_, said) = open(&dir, &format!("file://{}", path.display()));
    // the page's policy lets nothing be loaded
    assert!(said.iter().any(|line| line.contains("nowhere is not defined")), "{said:?}");
    assert!(said.iter().any(|line| line.contains("Content Security Policy")), "{said:?}");
}

#[test]
fn two_hundred_cases_on_fifteen_targets_are_small() {
    let kinds = ["emulated", "packet-socket", "device"];
    let systems = ["freebsd", "netbsd", "openbsd", "dragonfly", "macos"];
    let names: Vec<_> =
        kinds.iter().flat_map(|kind| systems.map(|system| format!("{kind}:{system}"))).collect();
    let ids: Vec<_> =
        (0..200).map(|number| format!("area{}::a_case_with_a_name_{number}", number / 20)).collect();
    let mut cells = Vec::new();
    for name in &names {
        for (number, id) in ids.iter().enumerate() {
            // five systems, three answers, four steps
            let seen = format!("recv {} drop 0", name.len() % 3);
            let outcome = if number % 50 == 7 { failed(&seen) } else { Outcome::Passed };
            let mut cell = cell(name, id, &seen, outcome);
            cell.checks = vec![cell.checks[0].clone(); 4];
            cells.push(cell);
        }
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let page = html::page(&report(&names, ids.iter().map(|id| case(id)).collect(), cells));
    let groups: BTreeSet<_> = page.match_indices("<section ").map(|(at, _)| at).collect();
    assert!(groups.len() >= 400, "{}", groups.len());
    assert!(page.len() < 500_000, "{} bytes", page.len());
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("@import"));
}
