//! The report as one page: a matrix of cases × targets, each cell with what was expected and seen.
//!
//! It needs nothing but itself: style and script are inside, and its policy forbids it to load anything. Cells of a case
//! with the same answers share one place where these are written, so that the page stays small; it opens below the row.
//! Without the script it is a table with links to those places.

use std::collections::HashMap;

use super::compare::{Comparison, Part, Side, Step, steps};
use super::report::{CaseInfo, Cell, Machine, Outcome, Report, TargetInfo};

/// HTML under construction. Only literals get into it as they are.
struct Html(String);

impl Html {
    /// Markup.
    fn raw(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Text, in an element or in a quoted attribute. What cannot be seen, or turns the direction of other text, is
    /// written as an escape sequence.
    fn text(&mut self, text: &str) -> &mut Html {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(character),
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                    self.0.extend(character.escape_unicode());
                }
                _ if character.is_control() => self.0.extend(character.escape_unicode()),
                _ => self.0.push(character),
            }
        }
        self
    }

    fn number(&mut self, number: usize) -> &mut Html {
        self.0.push_str(&number.to_string());
        self
    }
}

/// The kinds of outcome, in the order they are counted: class, word, and plural for the totals.
const KINDS: [(&str, &str, &str); 4] = [
    ("p", "passed", "passed"),
    ("f", "failed", "failed"),
    ("s", "skipped", "skipped"),
    ("g", "gap", "declared gaps"),
];

/// Place of an outcome in [`KINDS`].
fn kind(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Passed => 0,
        Outcome::Failed { .. } => 1,
        Outcome::Skipped { .. } => 2,
        Outcome::Gap { .. } => 3,
    }
}

/// A column of the matrix.
struct Column<'a> {
    part: usize,
    target: &'a TargetInfo,
    /// What the name says in front of the colon, and after it.
    kind: &'a str,
    system: &'a str,
    cells: HashMap<&'a str, &'a Cell>,
}

/// Cells of a case that came to the same in the same way. Their steps may name the interfaces of other places.
struct Group<'a> {
    cells: Vec<&'a Cell>,
    /// Places of the columns.
    columns: Vec<usize>,
}

impl Group<'_> {
    /// One of them.
    fn cell(&self) -> &Cell {
        self.cells[0]
    }

    /// What was done in a step, in the words of each place.
    fn step(&self, at: usize) -> String {
        let mut words: Vec<&str> = Vec::new();
        for cell in &self.cells {
            let word = steps(cell).get(at).map_or("", |step| step.step);
            if !words.contains(&word) {
                words.push(word);
            }
        }
        words.join(" / ")
    }
}

/// Whether two cells belong into one group.
fn alike(one: &Cell, other: &Cell) -> bool {
    let reason = |cell: &Cell| match &cell.outcome {
        Outcome::Skipped { reason } | Outcome::Gap { reason, .. } => Some(reason.clone()),
        Outcome::Passed | Outcome::Failed { .. } => None,
    };
    let values = |step: Step<'_>| (step.expected.to_owned(), step.seen.to_owned());
    kind(&one.outcome) == kind(&other.outcome)
        && reason(one) == reason(other)
        && steps(one).into_iter().map(values).eq(steps(other).into_iter().map(values))
}

/// A row of the matrix.
struct Row<'a> {
    case: &'a CaseInfo,
    groups: Vec<Group<'a>>,
}

impl Row<'_> {
    /// Whether every target has passed, with the same answers.
    fn same(&self) -> bool {
        self.groups.len() <= 1 && self.groups.iter().all(|group| group.cell().outcome == Outcome::Passed)
    }
}

/// All that is shown.
struct Page<'a> {
    parts: &'a [Part],
    comparison: Option<&'a Comparison>,
    columns: Vec<Column<'a>>,
    rows: Vec<Row<'a>>,
}

/// The page of one run.
pub fn page(report: &Report) -> String {
    let machine = &report.machine;
    let machine = format!("{} {}", machine.os, machine.kernel);
    Page::new(&[Part { machine, report: report.clone() }], None).write()
}

/// The page of several reports together.
pub fn merged(parts: &[Part], comparison: &Comparison) -> String {
    Page::new(parts, Some(comparison)).write()
}

/// The cases of all parts: each once, after what it follows in its own report.
fn cases(parts: &[Part]) -> Vec<&CaseInfo> {
    let mut all: Vec<&CaseInfo> = Vec::new();
    for part in parts {
        let mut next = 0;
        for case in &part.report.cases {
            match all.iter().position(|known| known.id == case.id) {
                Some(at) => next = at + 1,
                None => {
                    all.insert(next, case);
                    next += 1;
                }
            }
        }
    }
    all
}

impl<'a> Page<'a> {
    fn new(parts: &'a [Part], comparison: Option<&'a Comparison>) -> Page<'a> {
        let mut columns: Vec<Column<'_>> = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            for target in &part.report.targets {
                let (kind, system) = target.name.split_once(':').unwrap_or((&target.name, &target.name));
                let cells = part.report.cells.iter().filter(|cell| cell.target == target.name);
                let cells = cells.map(|cell| (&*cell.case, cell)).collect();
                columns.push(Column { part: number, target, kind, system, cells });
            }
        }
        let row = |case: &'a CaseInfo| {
            let mut groups: Vec<Group<'a>> = Vec::new();
            for (at, column) in columns.iter().enumerate() {
                let Some(&cell) = column.cells.get(&*case.id) else { continue };
                match groups.iter_mut().find(|group| alike(group.cell(), cell)) {
                    Some(group) => {
                        group.cells.push(cell);
                        group.columns.push(at);
                    }
                    None => groups.push(Group { cells: vec![cell], columns: vec![at] }),
                }
            }
            // the answer of most comes first
            groups.sort_by_key(|group| std::cmp::Reverse(group.columns.len()));
            Row { case, groups }
        };
        let rows = cases(parts).into_iter().map(row).collect();
        Page { parts, comparison, columns, rows }
    }

    fn write(&self) -> String {
        let mut html = Html(String::new());
        html.raw("<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n");
        html.raw("<meta name=viewport content=\"width=device-width, initial-scale=1\">\n");
        html.raw("<meta name=color-scheme content=\"light dark\">\n");
        html.raw("<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; ");
        html.raw("style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n");
        html.raw("<title>bpf(4) conformance: ");
        for (number, part) in self.parts.iter().enumerate() {
            html.raw(if number == 0 { "" } else { ", " }).text(&part.machine);
        }
        html.raw("</title>\n<style>\n").raw(include_str!("html.css")).raw("</style>\n</head>\n<body>\n");
        self.facts(&mut html);
        if let Some(comparison) = self.comparison {
            self.verdict(&mut html, comparison);
        }
        self.tools(&mut html);
        self.matrix(&mut html);
        html.raw("<footer><p>The same letter in a row means the same answers. Where a row has no letters, all that ");
        html.raw("played it answered alike.</footer>\n");
        html.raw("<script>\n").raw(include_str!("html.js")).raw("</script>\n</body>\n</html>\n");
        html.0
    }

    /// The heading, the machines and the totals.
    fn facts(&self, html: &mut Html) {
        html.raw(
            "<header>\n<h1>Conformance to bpf(4)</h1>\n<div class=scroll><table class=plain>\n<thead><tr>",
        );
        let several = self.parts.len() > 1;
        if several {
            html.raw("<th scope=col>Machine");
        }
        html.raw("<th scope=col>System<th scope=col>Kernel<th scope=col>Architecture<th scope=col>Date<th scope=col>");
        html.raw("bpfdev<th scope=col class=count>Targets<th scope=col class=count>Cases</thead>\n<tbody>\n");
        for part in self.parts {
            let Machine { os, kernel, arch, date, bpfdev } = &part.report.machine;
            html.raw("<tr>");
            if several {
                html.raw("<th scope=row>").text(&part.machine);
            }
            for fact in [os, kernel, arch, date, bpfdev] {
                html.raw("<td>").text(fact);
            }
            html.raw("<td class=count>").number(part.report.targets.len());
            html.raw("<td class=count>").number(part.report.cases.len()).raw("\n");
        }
        html.raw("</tbody></table></div>\n<ul class=totals aria-label=\"All cells\">\n");
        let mut totals = [0; 4];
        for cell in self.columns.iter().flat_map(|column| column.cells.values()) {
            totals[kind(&cell.outcome)] += 1;
        }
        for ((class, _, words), count) in KINDS.into_iter().zip(totals) {
            html.raw("<li class=").raw(class).raw("><b>").number(count).raw("</b>").raw(words).raw("\n");
        }
        html.raw("</ul>\n</header>\n");
    }

    /// What a comparison came to.
    fn verdict(&self, html: &mut Html, comparison: &Comparison) {
        html.raw("<div class=verdict>\n<h2 id=native>Native devices against ours</h2>\n");
        if comparison.pairs.is_empty() {
            html.raw("<p>No report has a native device for which another has ours.</p>\n");
        } else {
            html.raw("<div class=scroll><table class=plain aria-labelledby=native>\n<thead><tr><th scope=col>Native");
            html.raw("<th scope=col>Ours<th scope=col class=count>equal<th scope=col class=count>failed");
            html.raw(
                "<th scope=col class=count>skipped<th scope=col class=count>declared gaps</thead>\n<tbody>\n",
            );
            for pair in &comparison.pairs {
                side(html.raw("<tr><td>"), &pair.native);
                side(html.raw("<td>"), &pair.device);
                for count in [pair.equal, pair.failed, pair.skipped, pair.gaps] {
                    html.raw("<td class=count>").number(count);
                }
                html.raw("\n");
            }
            html.raw("</tbody></table></div>\n");
        }
        if !comparison.differences.is_empty() {
            html.raw("<h2 id=differences>Their differences</h2>\n<div class=scroll><table class=plain ");
            html.raw("aria-labelledby=differences>\n<thead><tr><th scope=col>Case<th scope=col>Step");
            html.raw(
                "<th scope=col>Native saw<th scope=col>Ours saw<th scope=col>Outcome</thead>\n<tbody>\n",
            );
            for difference in &comparison.differences {
                let row = self.rows.iter().position(|row| row.case.id == difference.case);
                html.raw("<tr><td><a href=#c").number(row.unwrap_or(0)).raw("><code>").text(&difference.case);
                html.raw("</code></a><td>").text(&difference.step);
                for (whose, seen) in [
                    (&difference.native, &difference.native_seen),
                    (&difference.device, &difference.device_seen),
                ] {
                    html.raw("<td><span class=value>").text(seen).raw("</span><br>");
                    side(html, whose);
                }
                match &difference.declared {
                    None => html.raw("<td class=f> failed\n"),
                    Some(reason) => html.raw("<td class=g> declared: ").text(reason).raw("\n"),
                };
            }
            html.raw("</tbody></table></div>\n");
        }
        if !comparison.unexpected.is_empty() {
            html.raw("<h2>Not as in the baseline</h2>\n<ul>\n");
            for line in &comparison.unexpected {
                html.raw("<li>").text(line).raw("\n");
            }
            html.raw("</ul>\n");
        }
        html.raw("</div>\n");
    }

    fn tools(&self, html: &mut Html) {
        let differing = self.rows.iter().filter(|row| !row.same()).count();
        html.raw(
            "<h2 id=cases>Cases by target</h2>\n<div class=tools role=group aria-label=\"Rows to show\">\n",
        );
        html.raw("<label><input type=checkbox id=only> Differences only</label>\n");
        html.raw("<label class=script>Filter <input type=search id=find autocomplete=off spellcheck=false></label>\n");
        html.raw("<p id=status role=status>").number(self.rows.len()).raw(" cases, ").number(differing);
        html.raw(" with differences</p>\n</div>\n");
    }

    fn matrix(&self, html: &mut Html) {
        html.raw("<table id=matrix aria-labelledby=cases>\n<caption><span>Each cell leads to what was expected and ");
        html.raw("seen. A row is a difference unless all its targets have passed with the same answers.</span></caption>\n");
        self.head(html);
        self.counts(html);
        let areas = self.rows.chunk_by(|one, other| area(&one.case.id) == area(&other.case.id));
        let mut number = 0;
        for rows in areas {
            let same = rows.iter().all(Row::same);
            html.raw(if same { "<tbody class=\"rows same\">" } else { "<tbody class=rows>" });
            html.raw("<tr class=area><th scope=rowgroup>").text(area(&rows[0].case.id)).raw("\n");
            for row in rows {
                self.row(html, row, number);
                self.answers(html, row, number);
                number += 1;
            }
            html.raw("</tbody>\n");
        }
        html.raw("</table>\n");
    }

    /// Whether something else begins with this column: a machine, or a kind of target.
    fn begins(&self, at: usize) -> bool {
        let key = |column: &Column<'a>| (column.part, column.kind);
        at == 0 || key(&self.columns[at]) != key(&self.columns[at - 1])
    }

    fn head(&self, html: &mut Html) {
        html.raw("<thead>\n");
        if self.parts.len() > 1 {
            html.raw("<tr><td class=corner>");
            for part in self.parts {
                html.raw("<th scope=colgroup class=\"machine first\" colspan=");
                html.number(part.report.targets.len().max(1)).raw(">").text(&part.machine);
            }
            html.raw("\n");
        }
        html.raw("<tr><td class=corner>");
        for columns in self.columns.chunk_by(|one, other| (one.part, one.kind) == (other.part, other.kind)) {
            html.raw("<th scope=colgroup class=\"kind first\" colspan=").number(columns.len()).raw(">");
            html.text(columns[0].kind);
        }
        html.raw("\n<tr><th scope=col class=corner>Case");
        for (at, column) in self.columns.iter().enumerate() {
            html.raw(if self.begins(at) {
                "<th scope=col class=\"system first\""
            } else {
                "<th scope=col class=system"
            });
            html.raw(" data-name=\"");
            self.full_name(html, column);
            html.raw("\" title=\"")
                .text(&column.target.name)
                .raw(": ")
                .text(&column.target.about)
                .raw("\"><span>");
            html.text(column.system).raw("</span>");
        }
        html.raw("\n</thead>\n");
    }

    /// The target's name, and its machine's where there are several.
    fn full_name(&self, html: &mut Html, column: &Column<'_>) {
        html.text(&column.target.name);
        if self.parts.len() > 1 {
            html.raw(" on ").text(&self.parts[column.part].machine);
        }
    }

    /// How often each outcome is there on each target.
    fn counts(&self, html: &mut Html) {
        html.raw("<tbody class=counts>\n");
        for (number, (_, word, _)) in KINDS.into_iter().enumerate() {
            html.raw("<tr><th scope=row>").raw(word);
            for (at, column) in self.columns.iter().enumerate() {
                let count = column.cells.values().filter(|cell| kind(&cell.outcome) == number).count();
                // what passed is no news
                let class = match (number != 0 && count != 0, self.begins(at)) {
                    (false, false) => "<td>",
                    (false, true) => "<td class=first>",
                    (true, false) => "<td class=some>",
                    (true, true) => "<td class=\"some first\">",
                };
                html.raw(class).number(count);
            }
            html.raw("\n");
        }
        html.raw("</tbody>\n");
    }

    fn row(&self, html: &mut Html, row: &Row<'_>, number: usize) {
        html.raw(if row.same() { "<tr class=\"case same\">" } else { "<tr class=case>" });
        html.raw("<th scope=row><a href=#c").number(number).raw(">").text(&row.case.title).raw(" <code>");
        html.text(&row.case.id).raw("</code></a>");
        for at in 0..self.columns.len() {
            let Some(place) = row.groups.iter().position(|group| group.columns.contains(&at)) else {
                html.raw(if self.begins(at) {
                    "<td class=\"n first\">not played"
                } else {
                    "<td class=n>not played"
                });
                continue;
            };
            let (class, word, _) = KINDS[kind(&row.groups[place].cell().outcome)];
            if self.begins(at) {
                html.raw("<td class=\"first ").raw(class).raw("\">");
            } else {
                html.raw("<td class=").raw(class).raw(">");
            }
            html.raw("<a href=#c").number(number).raw("-").number(place + 1).raw(">").raw(word);
            if row.groups.len() > 1 {
                // the answer of most is marked less
                let (begin, end) = if place == 0 { (" <i>", "</i>") } else { (" <b>", "</b>") };
                html.raw(begin).text(&letter(place)).raw(end);
            }
            html.raw("</a>");
        }
        html.raw("\n");
    }

    /// What was expected and seen in a case: the row below it, which is shown when it is asked for.
    fn answers(&self, html: &mut Html, row: &Row<'_>, number: usize) {
        html.raw("<tr class=more id=c").number(number).raw("><td colspan=").number(self.columns.len() + 1);
        html.raw("><div><a class=shut href=#closed>Close</a><p>").text(&row.case.title).raw("<p class=rule>");
        html.text(&row.case.rule).raw("<div class=answers>");
        for (place, group) in row.groups.iter().enumerate() {
            let (class, word, _) = KINDS[kind(&group.cell().outcome)];
            html.raw("<section id=c")
                .number(number)
                .raw("-")
                .number(place + 1)
                .raw("><h3 class=")
                .raw(class)
                .raw(">");
            html.raw(word);
            if row.groups.len() > 1 {
                html.raw(" ").text(&letter(place));
            }
            html.raw("</h3><p class=on>");
            self.targets(html, &group.columns);
            match &group.cell().outcome {
                Outcome::Skipped { reason } | Outcome::Gap { reason, .. } => {
                    html.raw("<p class=why>").text(reason);
                }
                Outcome::Passed | Outcome::Failed { .. } => {}
            }
            let steps = steps(group.cell());
            if !steps.is_empty() {
                html.raw("<table><tr><th scope=col>step<th scope=col>expected<th scope=col>seen");
                for (at, Step { expected, seen, .. }) in steps.into_iter().enumerate() {
                    html.raw(if expected == seen { "<tr><td>" } else { "<tr class=off><td>" });
                    html.text(&group.step(at)).raw("<td>").text(expected).raw("<td>").text(seen);
                }
                html.raw("</table>");
            }
            html.raw("</section>");
        }
        html.raw("</div></div>\n");
    }

    /// Names targets, those of a kind and of a machine together.
    fn targets(&self, html: &mut Html, columns: &[usize]) {
        if columns.len() == self.columns.len() && columns.len() > 1 {
            html.raw("all targets");
            return;
        }
        let group = |at: &usize| (self.columns[*at].part, self.columns[*at].kind);
        for (number, places) in columns.chunk_by(|one, other| group(one) == group(other)).enumerate() {
            let first = &self.columns[places[0]];
            html.raw(if number == 0 { "" } else { "; " }).text(first.kind);
            if self.parts.len() > 1 {
                html.raw(" on ").text(&self.parts[first.part].machine);
            }
            let whole = |column: &Column<'_>| (column.part, column.kind) == (first.part, first.kind);
            if places.len() > 1 && places.len() == self.columns.iter().filter(|column| whole(column)).count()
            {
                html.raw(": all");
                continue;
            }
            for (number, at) in places.iter().enumerate() {
                html.raw(if number == 0 { ": " } else { ", " }).text(self.columns[*at].system);
            }
        }
    }
}

fn side(html: &mut Html, side: &Side) {
    html.text(&side.target).raw(" on ").text(&side.machine);
}

/// What a case looks at: its id up to the colons.
fn area(id: &str) -> &str {
    id.split_once("::").map_or(id, |(area, _)| area)
}

/// `a` to `z`, then `a1` and so on.
fn letter(place: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(place % 26).unwrap_or(0));
    if place < 26 { letter.to_string() } else { format!("{letter}{}", place / 26) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut html = Html(String::new());
        html.text("<a href='x'>&\"\u{0}\u{202e}\n\u{7f}é");
        assert_eq!(html.0, "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\\u{0}\\u{202e}\n\\u{7f}é");
    }

    #[test]
    fn letters_do_not_run_out() {
        assert_eq!([0, 25, 26, 53].map(letter), ["a", "z", "a1", "b2"]);
    }
}
