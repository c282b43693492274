//! Plain text: columns, wrapped words, and stdout.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

/// Columns a line has at most where it can be broken.
const WIDTH: usize = 100;

/// Columns as wide as their widest cell; the last one is not padded. `right` tells the columns of numbers.
pub(super) fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let cells = |row: &Vec<String>| row.iter().map(|cell| cell.chars().count()).collect::<Vec<_>>();
    let mut widths: Vec<usize> = Vec::new();
    for row in rows.iter().map(cells) {
        widths.resize(widths.len().max(row.len()), 0);
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.max(*width));
    }
    let mut text = String::new();
    for row in rows {
        let padded = row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| {
            if right.contains(&i) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `words` behind `first`, in lines that begin under the words' beginning.
pub(super) fn wrapped(first: &str, words: &str) -> String {
    let indent = first.chars().count();
    let mut text = first.to_owned();
    let mut column = indent;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
    text
}

/// Writes to stdout. A reader that has gone away (`| head`) has had what it wants.
///
/// # Errors
/// Those of write(2), but EPIPE.
pub(super) fn print(text: &str) -> anyhow::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// One JSON value and a line end.
///
/// # Errors
/// As [`print`].
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<ExitCode> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_end_without_blanks() {
        let rows = [["A", "N", ""], ["longer", "10", "x"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(columns(&rows, &[1]), "A        N\nlonger  10  x\n");
    }

    #[test]
    fn words_are_wrapped_under_their_beginning() {
        let text = wrapped("ab  ", &"word ".repeat(30));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("ab  word word") && text.contains("\n    word"), "{text}");
    }
}
