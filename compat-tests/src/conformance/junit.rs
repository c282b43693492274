//! The report as JUnit XML: a test suite for each target, for CI systems that show such.

use std::fmt::Write;

use super::report::{Cell, Outcome, Report};

/// Text as XML 1.0 can hold it, in an attribute too.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(' '),
            // no other control character is allowed, however written
            character if u32::from(character) < 0x20 || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            character => escaped.push(character),
        }
    }
    escaped
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// The text of `junit.xml`.
pub fn xml(report: &Report) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for target in &report.targets {
        let cells: Vec<&Cell> = report.cells.iter().filter(|cell| cell.target == target.name).collect();
        let failures = cells.iter().filter(|cell| matches!(cell.outcome, Outcome::Failed { .. })).count();
        let skipped = cells
            .iter()
            .filter(|cell| matches!(cell.outcome, Outcome::Skipped { .. } | Outcome::Gap { .. }))
            .count();
        let time = seconds(cells.iter().map(|cell| cell.duration_ms).sum());
        // writing to a string does not fail
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" \
             time=\"{time}\" timestamp=\"{}\">",
            escape(&target.name),
            cells.len(),
            escape(report.machine.date.trim_end_matches('Z')),
        );
        for cell in cells {
            testcase(&mut text, report, cell);
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn testcase(text: &mut String, report: &Report, cell: &Cell) {
    let (name, target) = (escape(&cell.case), escape(&cell.target));
    let time = seconds(cell.duration_ms);
    let _ = write!(text, "    <testcase name=\"{name}\" classname=\"{target}\" time=\"{time}\"");
    match &cell.outcome {
        Outcome::Passed => text.push_str("/>\n"),
        Outcome::Failed { step, expected, seen } => {
            let rule = report.cases.iter().find(|case| case.id == cell.case).map_or("", |case| &case.rule);
            let message = escape(&format!("{step}: expected {expected}, seen {seen}"));
            let rule = escape(rule);
            let _ = writeln!(
                text,
                ">\n      <failure message=\"{message}\" type=\"difference\">{rule}</failure>\n    </testcase>"
            );
        }
        Outcome::Skipped { reason } => skipped(text, reason),
        Outcome::Gap { reason, expected, seen } => {
            skipped(text, &format!("declared gap: {reason} (expected {expected}, seen {seen})"));
        }
    }
}

fn skipped(text: &mut String, message: &str) {
    let _ = writeln!(text, ">\n      <skipped message=\"{}\"/>\n    </testcase>", escape(message));
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b> & \"c\"\u{1}\n"), "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd} ");
    }
}
