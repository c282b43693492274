//! What a comparison of reports came to.

use super::escape::Html;
use super::model::Page;
use crate::conformance::compare::{Comparison, Difference, Side};

impl Page<'_> {
    /// What a comparison came to.
    pub(super) fn verdict(&self, html: &mut Html, comparison: &Comparison) {
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
            self.differences(html, comparison);
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

    /// Where native devices and ours differ, by pair, what failed before what is declared.
    fn differences(&self, html: &mut Html, comparison: &Comparison) {
        html.raw("<h2 id=differences>Their differences</h2>\n<div class=scroll><table class=plain ");
        html.raw("aria-labelledby=differences>\n<thead><tr><th scope=col>Case<th scope=col>Step");
        html.raw("<th scope=col>Native saw<th scope=col>Ours saw<th scope=col>Outcome</thead>\n");
        for pair in &comparison.pairs {
            let of_pair = |difference: &&Difference| {
                (&difference.native, &difference.device) == (&pair.native, &pair.device)
            };
            let mut differences: Vec<_> = comparison.differences.iter().filter(of_pair).collect();
            if differences.is_empty() {
                continue;
            }
            differences.sort_by_key(|difference| difference.declared.is_some());
            side(html.raw("<tbody><tr><th scope=rowgroup colspan=5>"), &pair.native);
            side(html.raw(" against "), &pair.device);
            for Difference { case, step, native_seen, device_seen, declared, .. } in differences {
                let row = self.rows.iter().position(|row| row.case.id == *case);
                html.raw("\n<tr><td><a href=#c").number(row.unwrap_or(0)).raw("><code>").text(case);
                html.raw("</code></a><td>").text(step).raw("<td class=value>").text(native_seen);
                html.raw("<td class=value>").text(device_seen).raw("<td>");
                match declared {
                    None => html.raw("<span class=f> failed</span>"),
                    Some(reason) => html.raw("<span class=g> declared gap: ").text(reason).raw("</span>"),
                };
            }
            html.raw("</tbody>\n");
        }
        html.raw("</table></div>\n");
    }
}

fn side(html: &mut Html, side: &Side) {
    html.text(&side.target).raw(" on ").text(&side.machine);
}
