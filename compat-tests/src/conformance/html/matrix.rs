//! The matrix of cases and targets, and the answers below each row.

use super::escape::Html;
use super::model::{Column, KINDS, Page, Row, kind};
use crate::conformance::compare::{Step, steps};
use crate::conformance::report::Outcome;

impl<'a> Page<'a> {
    /// The table of all cells.
    pub(super) fn matrix(&self, html: &mut Html) {
        html.raw("<table id=matrix aria-labelledby=cases>\n<caption><span>Each cell leads to what was expected and ");
        html.raw("seen. The same letter in a row means the same answers; in a row without letters all answered alike. A row is ");
        html.raw("a difference unless all its targets have passed with the same answers.</span></caption>\n");
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

    fn head(&self, html: &mut Html) {
        html.raw("<thead>\n");
        if self.parts.len() > 1 {
            html.raw("<tr><td class=corner>");
            for part in self.parts {
                html.raw("<th scope=colgroup class=\"machine first\" colspan=");
                html.number(part.report.targets.len().max(1))
                    .raw("><span>")
                    .text(&part.machine)
                    .raw("</span>");
            }
            html.raw("\n");
        }
        html.raw("<tr><td class=corner>");
        for columns in self.columns.chunk_by(|one, other| (one.part, one.kind) == (other.part, other.kind)) {
            html.raw("<th scope=colgroup class=\"kind first\" colspan=").number(columns.len()).raw("><span>");
            html.text(columns[0].kind).raw("</span>");
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
        let mut before = None;
        for places in columns.chunk_by(|one, other| group(one) == group(other)) {
            let first = &self.columns[places[0]];
            if self.parts.len() > 1 && before != Some(first.part) {
                html.raw(if before.is_some() { "<br>" } else { "" });
                html.raw("<b>").text(&self.parts[first.part].machine).raw("</b> ");
            } else if before.is_some() {
                html.raw("; ");
            }
            before = Some(first.part);
            html.text(first.kind).raw(": ");
            let whole = self.columns.iter().filter(|column| (column.part, column.kind) == group(&places[0]));
            if places.len() > 1 && places.len() == whole.count() {
                html.raw("all");
                continue;
            }
            for (number, at) in places.iter().enumerate() {
                html.raw(if number == 0 { "" } else { ", " }).text(self.columns[*at].system);
            }
        }
    }

    /// The target's name, and its machine's where there are several.
    fn full_name(&self, html: &mut Html, column: &Column<'_>) {
        html.text(&column.target.name);
        if self.parts.len() > 1 {
            html.raw(" on ").text(&self.parts[column.part].machine);
        }
    }
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
    use super::letter;

    #[test]
    fn letters_do_not_run_out() {
        assert_eq!([0, 25, 26, 53].map(letter), ["a", "z", "a1", "b2"]);
    }
}
