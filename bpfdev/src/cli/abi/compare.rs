//! Systems side by side.

use std::process::ExitCode;

use bpfdev_core::abi::Abi;
use serde::Serialize;

use super::sheet::{Request, Rule, Sheet, marked};
use super::text::{columns, print, print_json, wrapped};

/// What a comparison says of one request.
#[derive(Serialize)]
struct RequestRow {
    name: &'static str,
    /// In what; empty where all are alike.
    differs: Vec<&'static str>,
    /// In the systems' order; `null` where there is no such request.
    systems: Vec<Option<Request>>,
}

/// What it says of one header, limit or rule.
#[derive(Serialize)]
struct WordsRow {
    name: &'static str,
    differs: bool,
    /// In the systems' order; `null` where it is not there.
    systems: Vec<Option<String>>,
    #[serde(skip)]
    unverified: bool,
}

#[derive(Serialize)]
struct Comparison {
    systems: Vec<&'static str>,
    requests: Vec<RequestRow>,
    headers: Vec<WordsRow>,
    limits: Vec<WordsRow>,
    rules: Vec<WordsRow>,
}

/// Every name once: in the first list's order, then what the others have more.
fn names<'a>(lists: impl Iterator<Item = impl Iterator<Item = &'a &'static str>>) -> Vec<&'static str> {
    let mut names = Vec::new();
    for name in lists.flatten() {
        if !names.contains(name) {
            names.push(*name);
        }
    }
    names
}

/// Whether what is there is not all the same.
fn differ<T: PartialEq>(values: impl Iterator<Item = T>) -> bool {
    let values: Vec<_> = values.collect();
    values.windows(2).any(|pair| pair[0] != pair[1])
}

impl RequestRow {
    fn of(name: &'static str, sheets: &[Sheet]) -> RequestRow {
        let find = |sheet: &Sheet| sheet.requests.iter().find(|request| request.name == name).cloned();
        let systems: Vec<_> = sheets.iter().map(find).collect();
        let there = || systems.iter().flatten();
        let number = |r: &Request| (r.direction, r.group, r.number);
        let form = |r: &Request| r.ilp32.as_ref().map(|form| form.size);
        let different = [
            ("absent", systems.iter().any(Option::is_none)),
            ("number", differ(there().map(number))),
            ("argument", differ(there().map(|r| (r.arg_type, r.size, r.any_size)))),
            ("32-bit form", differ(there().map(form))),
            ("while locked", differ(there().filter_map(|r| r.lock_allowed))),
            ("here", differ(there().map(|r| &r.here))),
        ];
        let differs = different.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect();
        RequestRow { name, differs, systems }
    }
}

impl WordsRow {
    fn of(name: &'static str, systems: Vec<Option<Rule>>) -> WordsRow {
        let unverified = systems.iter().flatten().any(|rule| rule.unverified);
        let systems: Vec<_> = systems.into_iter().map(|rule| Some(rule?.words)).collect();
        WordsRow { name, differs: differ(systems.iter()), systems, unverified }
    }

    fn all(sheets: &[Sheet], list: impl Fn(&Sheet) -> Vec<Rule>) -> Vec<WordsRow> {
        let lists: Vec<Vec<Rule>> = sheets.iter().map(list).collect();
        let all: Vec<Vec<_>> = lists.iter().map(|list| list.iter().map(|rule| rule.name).collect()).collect();
        let row = |name| {
            let find = |list: &Vec<Rule>| list.iter().find(|rule| rule.name == name).cloned();
            WordsRow::of(name, lists.iter().map(find).collect())
        };
        names(all.iter().map(|list| list.iter())).into_iter().map(row).collect()
    }
}

/// A system's headers, as rules: when records have it, its sizes and its fields.
fn headers(sheet: &Sheet) -> Vec<Rule> {
    let rule = |header: &super::sheet::Layout| Rule {
        name: header.name,
        words: format!("{}: {}; {}", header.of, header.summary(), header.fields_in_words()),
        unverified: header.unverified,
    };
    sheet.headers.iter().map(rule).collect()
}

impl Comparison {
    fn of(sheets: &[Sheet]) -> Comparison {
        let requests: Vec<Vec<_>> =
            sheets.iter().map(|sheet| sheet.requests.iter().map(|request| request.name).collect()).collect();
        Comparison {
            systems: sheets.iter().map(|sheet| sheet.system).collect(),
            requests: names(requests.iter().map(|list| list.iter()))
                .into_iter()
                .map(|name| RequestRow::of(name, sheets))
                .collect(),
            headers: WordsRow::all(sheets, headers),
            limits: WordsRow::all(sheets, |sheet| sheet.limits.clone()),
            rules: WordsRow::all(sheets, |sheet| sheet.rules.clone()),
        }
    }

    /// Leaves out what is alike.
    fn keep_differences(&mut self) {
        self.requests.retain(|row| !row.differs.is_empty());
        for rows in [&mut self.headers, &mut self.limits, &mut self.rules] {
            rows.retain(|row| row.differs);
        }
    }

    fn text(&self) -> String {
        let mut text = String::from("* marks what differs");
        let doubts =
            [&self.headers, &self.limits, &self.rules].into_iter().flatten().any(|row| row.unverified)
                || self.requests.iter().flat_map(|row| row.systems.iter().flatten()).any(|r| r.unverified);
        text.push_str(if doubts { "; (u) what is not verified\n" } else { "\n" });
        if !self.requests.is_empty() {
            text.push_str("\nRequests (numbers in BSD's encoding)\n");
            text.push_str(&self.requests());
        }
        for (title, rows) in [("Headers", &self.headers), ("Limits", &self.limits), ("Rules", &self.rules)] {
            if !rows.is_empty() {
                text.push_str(&format!("\n{title}\n"));
                rows.iter().for_each(|row| text.push_str(&self.words(row)));
            }
        }
        text
    }

    fn requests(&self) -> String {
        let mut title = vec!["  REQUEST".to_owned()];
        title.extend(self.systems.iter().map(|system| system.to_uppercase()));
        title.push("DIFFERS IN".into());
        let mut rows = vec![title];
        for row in &self.requests {
            let unverified = row.systems.iter().flatten().any(|request| request.unverified);
            let mark = if row.differs.is_empty() { ' ' } else { '*' };
            let mut cells = vec![format!("{mark} {}", marked(row.name, unverified))];
            let number = |request: &Option<Request>| {
                request.as_ref().map_or("-".into(), |request| request.bsd_value.clone())
            };
            cells.extend(row.systems.iter().map(number));
            // a hyphen says it already
            let differs: Vec<_> = row.differs.iter().copied().filter(|what| *what != "absent").collect();
            cells.push(differs.join(", "));
            rows.push(cells);
        }
        columns(&rows, &[])
    }

    fn words(&self, row: &WordsRow) -> String {
        let name = marked(row.name, row.unverified);
        if !row.differs {
            let words = row.systems.iter().flatten().next().map_or("-", String::as_str);
            return wrapped(&format!("  {name:<WORDS$}  "), words);
        }
        let width = self.systems.iter().map(|system| system.len()).max().unwrap_or(0);
        let line = |(system, words): (&&str, &Option<String>)| {
            wrapped(&format!("    {system:<width$}  "), words.as_deref().unwrap_or("-"))
        };
        format!("* {name}\n{}", self.systems.iter().zip(&row.systems).map(line).collect::<String>())
    }
}

/// Columns for the name of a rule that all have alike.
const WORDS: usize = 25;

/// Prints the comparison.
///
/// # Errors
/// A stdout that cannot be written.
pub(super) fn run(systems: &[&Abi], differences: bool, json: bool) -> anyhow::Result<ExitCode> {
    let sheets: Vec<_> = systems.iter().map(|abi| Sheet::of(abi)).collect();
    let mut comparison = Comparison::of(&sheets);
    if differences {
        comparison.keep_differences();
    }
    if json { print_json(&comparison) } else { print(&comparison.text()) }
}
