//! The report as one page: a matrix of cases × targets, each cell with what was expected and seen.
//!
//! It needs nothing but itself: style and script are inside, and its policy forbids it to load anything. Cells of a case
//! with the same answers share one place where these are written, so that the page stays small; it opens below the row.
//! Without the script it is a table with links to those places.

mod escape;
mod matrix;
mod model;
mod verdict;

use escape::Html;
use model::{KINDS, Page, kind};

use super::compare::{Comparison, Part};
use super::report::{Machine, Report};

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

impl Page<'_> {
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
        html.raw("</title>\n<style>\n").raw(include_str!("page.css")).raw("</style>\n</head>\n<body>\n");
        self.facts(&mut html);
        if let Some(comparison) = self.comparison {
            self.verdict(&mut html, comparison);
        }
        self.tools(&mut html);
        self.matrix(&mut html);
        html.raw("<script>\n").raw(include_str!("page.js")).raw("</script>\n</body>\n</html>\n");
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

    fn tools(&self, html: &mut Html) {
        let differing = self.rows.iter().filter(|row| !row.same()).count();
        html.raw(
            "<h2 id=cases>Cases by target</h2>\n<div class=tools role=group aria-label=\"Rows to show\">\n",
        );
        html.raw("<label><input type=checkbox id=only> Differences only</label>\n");
        html.raw("<label class=script>Filter <input type=search id=find placeholder=\"read:: EPERM\" autocomplete=off spellcheck=false></label>\n");
        html.raw("<p id=status role=status>").number(self.rows.len()).raw(" cases, ").number(differing);
        html.raw(" with differences</p>\n</div>\n");
    }
}
