//! Lists as Docker prints them: tables with three spaces between columns, or one JSON object per line.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::args::FormatName;
use super::error::Error;

/// Docker's columns are never narrower than this.
const MIN_WIDTH: usize = 10;
/// Spaces between columns.
const PADDING: usize = 3;

/// Prints lines.
pub(super) fn lines(lines: impl IntoIterator<Item: Display>) -> Result<(), Error> {
    print(&lines.into_iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// Writes to standard output. A reader that has seen enough (`spandrel ps | head -1`) is no error.
fn print(text: &str) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Local(format!("cannot write to the standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says on standard error what went wrong, or may.
pub(super) fn complain(what: impl Display) {
    eprintln!("spandrel: {what}");
}

/// Prints rows as a table under `header`, or as JSON objects. `object` makes the JSON of one item, `row`
/// its columns.
pub(super) fn print_list<T>(
    format: FormatName,
    items: &[T],
    header: &[&str],
    row: impl Fn(&T) -> Vec<String>,
    object: impl Fn(&T) -> Value,
) -> Result<(), Error> {
    match format {
        FormatName::Table => print(&table(header, &items.iter().map(row).collect::<Vec<_>>())),
        FormatName::Json => lines(items.iter().map(object)),
    }
}

/// Prints a table with Docker's spacing, the header first.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header = header.iter().map(|title| title.to_string()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| {
        let widest = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
        (widest + PADDING).max(MIN_WIDTH)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        // The last column ends the line, so nothing follows it.
        let (last, columns) = line.split_last().expect("a table has columns");
        for (column, width) in columns.iter().zip(&widths) {
            text.push_str(&format!("{column:width$}"));
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

/// JSON for people, with Docker's indentation.
pub(super) fn pretty(value: &impl Serialize) -> Result<String, Error> {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut serializer).map_err(|error| Error::Local(format!("cannot print the answer: {error}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Labels as lists show them: `a=b,c=d`.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The first 12 digits of an id, unless `whole` is wanted.
pub(super) fn id(id: &str, whole: bool) -> &str {
    id.get(..12).filter(|_| !whole).unwrap_or(id)
}

/// At most `length` characters, the last of them an ellipsis if some had to go.
pub(super) fn ellipsis(text: &str, length: usize) -> String {
    match text.chars().count() > length {
        true => text.chars().take(length.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| cell.to_string()).collect()
    }

    /// As `docker network ls` prints it.
    #[test]
    fn tables_look_like_dockers() {
        let rows = [
            row(&["3f0a1c2d4e5b", "bridge", "bridge", "local"]),
            row(&["a1b2c3d4e5f6", "second-bridge", "bridge", "local"]),
        ];
        assert_eq!(
            table(&["NETWORK ID", "NAME", "DRIVER", "SCOPE"], &rows),
            "NETWORK ID     NAME            DRIVER    SCOPE\n\
             3f0a1c2d4e5b   bridge          bridge    local\n\
             a1b2c3d4e5f6   second-bridge   bridge    local\n"
        );
        assert_eq!(table(&["NETWORK ID", "NAME", "DRIVER", "SCOPE"], &[]), "NETWORK ID   NAME      DRIVER    SCOPE\n");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(id("0123456789abcdef", false), "0123456789ab");
        assert_eq!(id("0123456789abcdef", true), "0123456789abcdef");
        assert_eq!(id("short", false), "short");
        assert_eq!(ellipsis("sleep 60", 20), "sleep 60");
        assert_eq!(ellipsis("sh -c 'echo hello; sleep 60'", 20), "sh -c 'echo hello; …");
        assert_eq!(ellipsis("ééé", 2), "é…");
    }
}
