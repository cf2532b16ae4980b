//! Lists as Docker prints them: tables with three spaces between columns, one JSON object per line, or by a template.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::args::ListFormat;
use super::error::Error;
use super::template::{LABELS, NO_FIELD, Template};

/// Docker's columns are never narrower than this.
const MIN_WIDTH: usize = 10;
/// Spaces between columns.
const PADDING: usize = 3;

/// Prints lines.
pub(super) fn lines(lines: impl IntoIterator<Item: Display>) -> Result<(), Error> {
    print(&lines.into_iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// Writes to standard output. A reader that has seen enough (`spandrel ps | head -1`) is no error.
pub(super) fn print(text: &str) -> Result<(), Error> {
    write(&mut io::stdout(), text.as_bytes()).map(|_| ())
}

/// Writes to standard output or error; false if nobody reads it any more.
pub(super) fn write(output: &mut impl Write, text: &[u8]) -> Result<bool, Error> {
    match output.write_all(text).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Local(format!("cannot write what was asked for: {error}"))),
    }
}

/// The same with colours, which are left out where there is no terminal, or where NO_COLOR is set.
pub(super) fn print_styled(text: &str) -> Result<(), Error> {
    match anstream::AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => print(&anstream::adapter::strip_str(text).to_string()),
        _ => print(text),
    }
}

/// Says on standard error what went wrong, or may.
pub(super) fn complain(what: impl Display) {
    let style = match anstream::AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => Style::new(),
        _ => Style::new().bold().fg_color(Some(AnsiColor::Red.into())),
    };
    eprintln!("{style}spandrel:{style:#} {what}");
}

/// The columns of a list's table.
pub(super) struct Table {
    /// A template for a row, in which a tab ends a column.
    pub(super) row: &'static str,
    /// The title of each field that a row may have.
    pub(super) titles: &'static [(&'static str, &'static str)],
}

/// Prints rows, each a JSON object.
pub(super) fn print_list(format: &ListFormat, rows: &[Value], own: &Table) -> Result<(), Error> {
    match format {
        ListFormat::Json => {
            let shown = rows.iter().cloned().map(|mut row| {
                row.as_object_mut().map(|row| row.remove(LABELS));
                row
            });
            lines(shown)
        }
        ListFormat::Table => print(&table(&columns(own.row, rows, own)?)),
        ListFormat::Columns(template) => print(&table(&columns(template, rows, own)?)),
        ListFormat::Template(template) => {
            // Without a row there is nothing to fill in, but a field that does not exist is one all the same.
            if rows.is_empty()
                && let Err(why) = header(template, own)
                && why.starts_with(NO_FIELD)
            {
                return Err(invalid(template, &why, own.titles.iter().map(|(field, _)| *field)));
            }
            lines(fill(template, rows)?)
        }
    }
}

/// What a template makes of the titles.
fn header(template: &str, own: &Table) -> Result<String, String> {
    let titles = own.titles.iter().map(|(field, title)| (field.to_string(), Value::from(*title)));
    Template::header(template)?.render(&Value::Object(titles.collect()))
}

/// A table's lines: the header, then the rows.
fn columns(template: &str, rows: &[Value], own: &Table) -> Result<Vec<String>, Error> {
    let header =
        header(template, own).map_err(|why| invalid(template, &why, own.titles.iter().map(|(field, _)| *field)))?;
    Ok([header].into_iter().chain(fill(template, rows)?).collect())
}

/// What the template makes of each row.
fn fill(template: &str, rows: &[Value]) -> Result<Vec<String>, Error> {
    let parsed = Template::parse(template).map_err(|why| invalid(template, &why, []))?;
    let fill = |row: &Value| {
        parsed.render(row).map_err(|why| {
            let fields = row.as_object().into_iter().flat_map(|row| row.keys().map(String::as_str));
            invalid(template, &why, fields.filter(|name| *name != LABELS))
        })
    };
    rows.iter().map(fill).collect()
}

/// What is wrong with a template, and which fields there are.
pub(super) fn invalid<'a>(template: &str, why: &str, fields: impl IntoIterator<Item = &'a str>) -> Error {
    let fields: Vec<_> = fields.into_iter().collect();
    match why.starts_with(NO_FIELD) && !fields.is_empty() {
        true => Error::Local(format!("invalid --format {template:?}: {why}; there are {}", fields.join(", "))),
        false => Error::Local(format!("invalid --format {template:?}: {why}")),
    }
}

/// Prints objects whole, as one JSON array for people, or each as `format` says.
pub(super) fn print_objects(format: Option<&ListFormat>, objects: &[impl Serialize]) -> Result<(), Error> {
    match format {
        Some(ListFormat::Template(template)) => {
            let objects: Result<Vec<_>, _> = objects.iter().map(serde_json::to_value).collect();
            lines(fill(template, &objects.map_err(unprintable)?)?)
        }
        Some(_) => {
            let objects: Result<Vec<_>, _> = objects.iter().map(serde_json::to_string).collect();
            lines(objects.map_err(unprintable)?)
        }
        None => lines([pretty(&objects)?]),
    }
}

/// A table with Docker's spacing. In each line, a tab ends a column.
fn table(rows: &[String]) -> String {
    let lines: Vec<Vec<&str>> = rows.iter().map(|line| line.split('\t').collect()).collect();
    let count = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let widest = lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
        (widest.unwrap_or_default() + PADDING).max(MIN_WIDTH)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in lines {
        // The last column ends the line, so nothing follows it.
        let (last, columns) = line.split_last().expect("a split has a part");
        for (column, width) in columns.iter().zip(&widths) {
            text.push_str(&format!("{column:width$}"));
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

/// Asks on the terminal; anything but yes is no. Without a terminal, `instead` is what says yes.
pub(super) fn confirm(question: &str, instead: &str) -> Result<bool, Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::Local(format!("nobody is there to confirm it: give {instead}")));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Error::Local(format!("cannot read the answer from the terminal: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// JSON for people, with Docker's indentation.
fn pretty(value: &impl Serialize) -> Result<String, Error> {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut serializer).map_err(unprintable)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn unprintable(error: serde_json::Error) -> Error {
    Error::Local(format!("cannot print the answer: {error}"))
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
    use serde_json::json;

    use super::*;

    const NETWORKS: Table = Table {
        row: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
        titles: &[("ID", "NETWORK ID"), ("Name", "NAME"), ("Driver", "DRIVER"), ("Scope", "SCOPE")],
    };

    fn networks() -> [Value; 2] {
        let network =
            |id, name| json!({"ID": id, "Name": name, "Driver": "bridge", "Scope": "local", LABELS: {"a": "b"}});
        [network("3f0a1c2d4e5b", "bridge"), network("a1b2c3d4e5f6", "second-bridge")]
    }

    fn text(template: &str, rows: &[Value]) -> String {
        table(&columns(template, rows, &NETWORKS).unwrap())
    }

    /// As `docker network ls` prints it.
    #[test]
    fn tables_look_like_dockers() {
        assert_eq!(
            text(NETWORKS.row, &networks()),
            "NETWORK ID     NAME            DRIVER    SCOPE\n\
             3f0a1c2d4e5b   bridge          bridge    local\n\
             a1b2c3d4e5f6   second-bridge   bridge    local\n"
        );
        assert_eq!(text(NETWORKS.row, &[]), "NETWORK ID   NAME      DRIVER    SCOPE\n");
    }

    #[test]
    fn columns_of_the_users_own() {
        assert_eq!(
            text("{{.Name | upper}}\t{{join (split .Scope \"\") \"-\"}} {{.Label \"a\"}}", &networks()),
            "NAME            SCOPE a\nBRIDGE          l-o-c-a-l b\nSECOND-BRIDGE   l-o-c-a-l b\n"
        );
        let error = columns("{{.Colour}}", &[], &NETWORKS).unwrap_err().to_string();
        assert!(error.contains("no field `Colour`") && error.ends_with("there are ID, Name, Driver, Scope"), "{error}");
        let error = fill("{{.Colour}}", &networks()).unwrap_err().to_string();
        assert!(error.ends_with("there are Driver, ID, Name, Scope"), "{error}");
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
