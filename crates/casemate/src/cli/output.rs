//! What commands print.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

use super::Output;
use crate::failure::{Doing, Failure};

/// Prints a value as JSON, or the text that `people` makes of it.
pub fn print(output: Output, value: &Value, people: impl FnOnce() -> String) -> Result<(), Failure> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(value).doing("cannot print the result")?,
        Output::Text => people(),
    };
    line(text.trim_end_matches('\n'))
}

/// Prints a line to standard output; a reader that has gone ends the command in order.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(cause) => Err(Failure::new("cannot print").cause(cause)),
    }
}

/// A table: columns as wide as their widest cell, two spaces between them.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|name| name.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|name| name.to_uppercase()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut written = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let fill = width.saturating_sub(cell.chars().count()) + 2;
            written.push_str(&printable(cell));
            written.extend(std::iter::repeat_n(' ', fill));
        }
        text.push_str(written.trim_end());
        text.push('\n');
    }
    text
}

/// Text of others without the characters that would act on a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Whether a person sees standard error, so that progress is shown there.
pub fn watched() -> bool {
    std::io::stderr().is_terminal()
}

/// A text field of a JSON object, `-` where there is none.
pub fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_no_cell_acts_on_the_terminal() {
        let rows = [vec!["a".to_owned(), "b\u{1b}[31m".to_owned()], vec!["longer é".to_owned(), "c".to_owned()]];
        assert_eq!(table(&["id", "name"], &rows), "ID        NAME\na         b\u{fffd}[31m\nlonger é  c\n");
    }
}
