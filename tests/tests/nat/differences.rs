//! The list of differences in `docs/nat.md` is the one that the sequences declare.

use std::collections::BTreeSet;

use crate::sequence::{Difference, Sequence};

/// Demands that the table holds exactly the differences that these sequences declare.
pub fn assert_documented(sequences: &[Sequence]) {
    let page = include_str!("../../../docs/nat.md");
    let (_, rest) = page.split_once("<!-- differences -->\n").expect("the beginning of the table");
    let (table, _) = rest.split_once("<!-- end -->").expect("the end of the table");
    let declared: BTreeSet<Difference> = sequences.iter().flat_map(Sequence::differences).collect();
    let wanted: String = declared.iter().map(row).collect();
    assert!(table == wanted, "docs/nat.md should list:\n{wanted}");
}

fn row(difference: &Difference) -> String {
    let Difference { what, kernel, spandrel, reason } = difference;
    format!("| {what} | {kernel} | {spandrel} | {reason} |\n")
}
