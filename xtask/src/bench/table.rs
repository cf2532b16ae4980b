//! Tables of estimates.

use std::iter;

use super::statistics::Estimate;

/// Stands where there is no figure.
const NONE: &str = "-";

/// Between columns.
const GAP: &str = "   ";

/// A table under its header; the first `words` columns hold words, the others figures, which are aligned to the right. All rows have as
/// many cells as the header.
pub(crate) fn draw<'a>(header: impl AsRef<[&'a str]>, words: usize, rows: &[impl AsRef<[String]>]) -> String {
    let header: Vec<_> = header.as_ref().iter().map(|name| name.to_string()).collect();
    let lines: Vec<&[String]> = iter::once(&*header).chain(rows.iter().map(AsRef::as_ref)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let drawn = lines.iter().map(|line| {
        let cells = line.iter().enumerate().map(|(column, cell)| match width(column) {
            width if column < words => format!("{cell:width$}"),
            width => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned() + "\n"
    });
    drawn.collect()
}

/// `median ± spread` with as many digits as mean something.
pub(super) fn value(estimate: Option<Estimate>) -> String {
    estimate.map_or(NONE.into(), |Estimate { median, spread }| {
        let digits = digits(median);
        format!("{median:.digits$} ± {spread:.digits$}")
    })
}

/// The median alone, with as many digits.
pub(super) fn median(estimate: Option<Estimate>) -> String {
    estimate.map_or(NONE.into(), |Estimate { median, .. }| format!("{median:.digits$}", digits = digits(median)))
}

/// How many digits behind the point mean something.
fn digits(value: f64) -> usize {
    match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    }
}

/// `median ± spread` of something whose unit is small enough.
pub(super) fn whole(estimate: Option<Estimate>) -> String {
    // Adding zero makes a zero of what is left of a small negative figure's sign.
    estimate.map_or(NONE.into(), |Estimate { median, spread }| format!("{:.0} ± {spread:.0}", median.round() + 0.0))
}

/// A ratio, always with two digits.
pub(super) fn ratio(estimate: Option<Estimate>) -> String {
    estimate.map_or(NONE.into(), |Estimate { median, spread }| format!("{median:.2} ± {spread:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_mean_something() {
        let shown = |median, spread| value(Some(Estimate { median, spread }));
        assert_eq!(shown(1234.5, 12.3), "1234 ± 12");
        assert_eq!(shown(17.25, 0.31), "17.2 ± 0.3");
        assert_eq!(shown(0.12345, 0.006), "0.12 ± 0.01");
        assert_eq!(median(Some(Estimate { median: 17.25, spread: 3.1 })), "17.2");
        assert_eq!(ratio(Some(Estimate { median: 0.987, spread: 0.011 })), "0.99 ± 0.01");
        assert_eq!(whole(Some(Estimate { median: 84.4, spread: 1.6 })), "84 ± 2");
        assert_eq!(whole(Some(Estimate { median: -0.4, spread: 0.0 })), "0 ± 0");
        assert_eq!((value(None), ratio(None)), ("-".into(), "-".into()));
    }

    #[test]
    fn words_are_aligned_left_and_figures_right() {
        let rows = [["one".into(), "1.00 ± 0.00".into()], ["seventeen".into(), "-".into()]];
        let expected = "what             figure\none         1.00 ± 0.00\nseventeen             -\n";
        assert_eq!(draw(["what", "figure"], 1, &rows), expected);
    }
}
