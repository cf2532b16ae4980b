//! Keeps `docs/semantics.md` and the scenarios together: each row has a scenario, each that is named exists, and each that cites a row
//! is named there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every scenario by `file::test`, with its doc comment.
fn scenarios() -> BTreeMap<String, String> {
    let mut scenarios = BTreeMap::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // A test program is a file, or a folder of them.
        let parts = if path.is_dir() {
            fs::read_dir(&path).unwrap().map(|part| part.unwrap().path()).collect()
        } else {
            vec![path]
        };
        for part in parts.iter().filter(|part| part.is_file()) {
            let text = fs::read_to_string(part).unwrap();
            scenarios.extend(tests(&text).into_iter().map(|(name, doc)| (format!("{file}::{name}"), doc)));
        }
    }
    scenarios
}

/// Names and doc comments of the tests in a source file.
fn tests(source: &str) -> Vec<(String, String)> {
    let (mut found, mut doc, mut is_test) = (Vec::new(), String::new(), false);
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc = doc + text + " ";
        } else if line == "#[test]" {
            is_test = true;
        } else if !line.starts_with("#[") {
            let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            found.extend(name.filter(|_| is_test).map(|name| (name.to_owned(), doc.clone())));
            (doc, is_test) = (String::new(), false);
        }
    }
    found
}

/// The rows of all tables: the first cell, and the scenarios in the last one.
fn rows(document: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut rows: Vec<(String, BTreeSet<String>)> = Vec::new();
    for line in document.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|')) {
        let cells: Vec<_> = line.split(" | ").map(str::trim).collect();
        if line.starts_with("---") {
            // What was above it was a heading.
            rows.pop();
        } else {
            let named =
                cells[cells.len() - 1].split('`').filter(|part| part.contains("::")).map(str::to_owned).collect();
            rows.push((cells[0].trim_matches('|').trim().to_owned(), named));
        }
    }
    rows
}

/// The rows that a doc comment cites: what follows the word "row" or "rows", as in "Rows 4, 5 and ttl".
fn cited<'d>(doc: &'d str, known: &BTreeSet<&str>) -> BTreeSet<&'d str> {
    let (mut found, mut listing) = (BTreeSet::new(), false);
    for word in doc.split_whitespace() {
        let bare = word.trim_matches([',', ':', '.']);
        if listing && known.contains(bare) {
            found.insert(bare);
            // A list goes on after a comma only, or with "and".
            listing = bare.len() == word.len() || word.ends_with(',');
        } else {
            listing =
                bare.eq_ignore_ascii_case("row") || bare.eq_ignore_ascii_case("rows") || (listing && word == "and");
        }
    }
    found
}

#[test]
fn every_row_is_shown_and_every_scenario_is_named() {
    let document = include_str!("../../docs/semantics.md");
    let (rows, scenarios) = (rows(document), scenarios());
    let mut faults = Vec::new();
    for (row, named) in &rows {
        if named.is_empty() {
            faults.push(format!("row \"{row}\" has no scenario"));
        }
        let missing = named.iter().filter(|name| !scenarios.contains_key(*name));
        faults.extend(missing.map(|name| format!("row \"{row}\" names {name}, which does not exist")));
    }
    // The first table is the one whose rows are cited: by number, or by the one word that is its name.
    let (table, _) = document.split_once("\n## Options").expect("the sections are as they were");
    let labels = self::rows(table);
    let known: BTreeSet<&str> = labels.iter().map(|(label, _)| label.as_str()).collect();
    for number in 1..=17 {
        assert!(known.contains(number.to_string().as_str()), "there is no row {number}");
    }
    for (name, doc) in &scenarios {
        for label in cited(doc, &known) {
            let (_, named) = labels.iter().find(|(known, _)| known == label).expect("a known row");
            if !named.contains(name) {
                faults.push(format!("row {label} does not name {name}, which cites it"));
            }
        }
    }
    assert!(faults.is_empty(), "docs/semantics.md and tests/tests disagree:\n{}", faults.join("\n"));
}

#[test]
fn a_citation_is_understood() {
    let known = BTreeSet::from(["1", "4", "5", "9", "ttl"]);
    let cited = |doc| cited(doc, &known).into_iter().collect::<Vec<_>>();
    assert_eq!(cited("Row 4: a container has 5 ports."), ["4"]);
    assert_eq!(cited("Rows 4, 5, 9 and §7: what a container says"), ["4", "5", "9"]);
    assert_eq!(cited("Rows 1 and ttl: one"), ["1", "ttl"]);
    assert_eq!(cited("Row 1 in both directions at once, and 4 of them"), ["1"]);
    assert_eq!(cited("§1 row 5, as far as it goes: 9"), ["5"]);
    assert!(cited("Row 44: nothing of that").is_empty());
}

#[test]
fn tests_and_tables_are_read() {
    let source = "/// Row 1: a\n/// b\n#[test]\nfn first() {\n}\n/// no test\nfn second() {}\n#[test]\nfn third() {\n";
    assert_eq!(tests(source), [("first".into(), " Row 1: a  b ".into()), ("third".into(), String::new())]);
    let table = "| row | shown by |\n|---|---|\n| 1 | `a::b`, `a::c` |\n| two words | |\n";
    let expected = [("1", vec!["a::b", "a::c"]), ("two words", vec![])];
    let expected = expected.map(|(row, named)| (row.to_owned(), named.into_iter().map(String::from).collect()));
    assert_eq!(rows(table), expected);
}
