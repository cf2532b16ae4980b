//! Plots of what was measured: bars beside a limit, and curves over how much there is. Drawn as SVG, and put on a page with the tables.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::about::About;

/// The page's name in its folder, and that of the page with all tables.
pub(super) const PAGE: &str = "README.md";
const TABLES: &str = "tables.md";

/// A plot and where it goes.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// The file, without its extension.
    pub(super) name: String,
    /// What is above it.
    pub(super) title: String,
    pub(super) plot: Plot,
}

#[derive(Clone, Debug)]
pub(super) enum Plot {
    Bars(Bars),
    Curves(Curves),
}

/// Groups of bars, one for each series, in which more is better.
#[derive(Clone, Debug)]
pub(super) struct Bars {
    /// What the bars tell.
    pub(super) value: String,
    /// A line across all bars.
    pub(super) limit: f64,
    pub(super) series: Vec<String>,
    /// The name of each group, and its bars in the order of the series.
    pub(super) groups: Vec<(String, Vec<Option<f64>>)>,
}

/// Lines of points over a logarithmic axis, such as the number of published ports.
#[derive(Clone, Debug)]
pub(super) struct Curves {
    /// What is counted along the horizontal axis: at least one of it.
    pub(super) count: String,
    /// What is measured, from 0 on.
    pub(super) value: String,
    /// Each line's name and its points.
    pub(super) lines: Vec<(String, Vec<(f64, f64)>)>,
}

const WIDTH: u32 = 900;
const HEIGHT: u32 = 460;
const FONT: &str = "sans-serif";
/// The size of text, and of the title.
const SIZES: (u32, u32) = (14, 18);
/// Dark enough on white, and told apart by those who see no red or green (after Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(120, 120, 120),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 114, 178),
    RGBColor(204, 121, 167),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
];

/// Makes the folder, and makes sure that something can be written there.
pub(super) fn prepare(folder: &Path) -> Result<()> {
    let probe = folder.join(".probe");
    let written =
        fs::create_dir_all(folder).and_then(|()| fs::write(&probe, "")).and_then(|()| fs::remove_file(&probe));
    written.with_context(|| format!("cannot write into {}", folder.display()))
}

/// Writes the pages and the plots into a folder that has been prepared: always under the same names. What a table is about stands beside it.
pub(super) fn write(folder: &Path, about: &About, tables: &[(&str, String)], figures: &[Figure]) -> Result<()> {
    let failed = || format!("cannot write into {}", folder.display());
    for figure in figures {
        fs::write(folder.join(file(figure)), figure.svg()?).with_context(failed)?;
    }
    fs::write(folder.join(TABLES), tables_page(tables)).with_context(failed)?;
    fs::write(folder.join(PAGE), page(about, figures)).with_context(failed)
}

fn file(figure: &Figure) -> String {
    format!("{}.svg", figure.name)
}

fn page(about: &About, figures: &[Figure]) -> String {
    let mut text = format!("# Measured\n\n```\n{about}```\n\n[All figures, as tables]({TABLES})\n");
    for figure in figures {
        text += &format!("\n![{}]({})\n", figure.title, file(figure));
    }
    text
}

fn tables_page(tables: &[(&str, String)]) -> String {
    let mut text = "# Tables\n".to_owned();
    for (what, table) in tables {
        text += &format!("\n## {}\n\n```\n{}\n```\n", capitalized(what), table.trim());
    }
    text
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// What is drawn on.
type Area<'b> = DrawingArea<SVGBackend<'b>, Shift>;

impl Figure {
    /// The plot as a document.
    pub(super) fn svg(&self) -> Result<String> {
        let (names, height): (Vec<&str>, u32) = match &self.plot {
            Plot::Bars(bars) => (bars.series.iter().map(String::as_str).collect(), bars.height()),
            Plot::Curves(curves) => (curves.lines.iter().map(|(name, _)| name.as_str()).collect(), HEIGHT),
        };
        let mut text = String::new();
        {
            let legend = legend(&names);
            let head = TITLE + legend.iter().map(|(_, _, (_, y))| *y).max().unwrap_or(0) + LINE;
            let root = SVGBackend::with_string(&mut text, (WIDTH, height + head.cast_unsigned())).into_drawing_area();
            let drawn = || -> Result<()> {
                root.fill(&WHITE)?;
                let title = (FONT, SIZES.1).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Center));
                root.draw(&Text::new(&*self.title, (WIDTH.cast_signed() / 2, TITLE / 2), title))?;
                for (name, colour, (x, y)) in legend {
                    let (x, y) = (x, y + TITLE + LINE / 2);
                    root.draw(&Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()))?;
                    root.draw(&words(name, (x + 18, y), Pos::new(HPos::Left, VPos::Center)))?;
                }
                let (_, body) = root.split_vertically(head);
                match &self.plot {
                    Plot::Bars(bars) => bars.draw(&root, &body)?,
                    Plot::Curves(curves) => curves.draw(&root, &body)?,
                }
                Ok(root.present()?)
            };
            drawn().with_context(|| format!("cannot draw \"{}\"", self.title))?;
        }
        Ok(text)
    }
}

/// Height in pixels of a title and of a line of names below it.
const TITLE: i32 = 36;
const LINE: i32 = 20;

/// Each name with its colour and its place below the title, in as many lines as it takes.
fn legend<'n>(names: &[&'n str]) -> Vec<(&'n str, RGBColor, (i32, i32))> {
    const LEFT: i32 = 70;
    let (mut x, mut y) = (LEFT, 0);
    let place = |(number, name): (usize, &&'n str)| {
        // No font is asked: letters are about half as wide as high.
        let width = 40 + 8 * name.chars().count() as i32;
        if x > LEFT && x + width > WIDTH.cast_signed() {
            (x, y) = (LEFT, y + LINE);
        }
        let at = (x, y);
        x += width;
        (*name, colour(number, names.len()), at)
    };
    names.iter().enumerate().map(place).collect()
}

impl Bars {
    /// Height of a bar in pixels.
    const BAR: u32 = 14;

    /// Each group is as high as its bars and one more.
    fn height(&self) -> u32 {
        Self::BAR * (self.series.len() as u32 + 1) * self.groups.len() as u32 + 70
    }

    fn draw(&self, root: &Area<'_>, body: &Area<'_>) -> Result<()> {
        let values = self.groups.iter().flat_map(|(_, bars)| bars.iter().flatten()).copied();
        // One bar that is out of proportion is cut off, so that the others can be seen.
        let most = values.fold(self.limit, f64::max).min(self.limit * 2.0) * 1.1;
        let mut chart = ChartBuilder::on(body)
            .margin(10)
            .margin_right(50)
            .x_label_area_size(45)
            .y_label_area_size(270)
            .build_cartesian_2d(0.0..most, self.groups.len() as f64..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_desc(&self.value)
            .label_style((FONT, SIZES.0))
            .light_line_style(TRANSPARENT)
            .draw()?;
        let thickness = 1.0 / (self.series.len() as f64 + 1.0);
        for (group, (name, bars)) in self.groups.iter().enumerate() {
            for (number, value) in bars.iter().enumerate().filter_map(|(number, value)| Some((number, (*value)?))) {
                let top = group as f64 + (number as f64 + 0.5) * thickness;
                let colour = colour(number, self.series.len());
                chart.draw_series([Rectangle::new([(0.0, top), (value, top + thickness)], colour.filled())])?;
                let (x, y) = chart.plotting_area().map_coordinate(&(value.min(most), top + thickness / 2.0));
                root.draw(&words(&format!("{value:.2}"), (x + 4, y), Pos::new(HPos::Left, VPos::Center)))?;
            }
            let (x, y) = chart.plotting_area().map_coordinate(&(0.0, group as f64 + 0.5));
            root.draw(&words(name, (x - 8, y), Pos::new(HPos::Right, VPos::Center)))?;
        }
        let limit = [(self.limit, 0.0), (self.limit, self.groups.len() as f64)];
        chart.draw_series([PathElement::new(limit, BLACK.stroke_width(2))])?;
        Ok(())
    }
}

impl Curves {
    fn draw(&self, root: &Area<'_>, body: &Area<'_>) -> Result<()> {
        let points = || self.lines.iter().flat_map(|(_, points)| points).copied();
        let mut counts: Vec<f64> = points().map(|(count, _)| count).collect();
        counts.sort_by(f64::total_cmp);
        counts.dedup();
        let (Some(least), Some(most)) = (counts.first(), counts.last()) else {
            return Err(anyhow!("there is not one point"));
        };
        // One count alone has room beside it, too.
        let margin = ((most / least).log10() * 0.05).max(0.1);
        let highest = points().map(|(_, value)| value).fold(f64::MIN_POSITIVE, f64::max);
        let mut chart = ChartBuilder::on(body)
            .margin(10)
            .margin_right(30)
            .x_label_area_size(50)
            .y_label_area_size(70)
            .build_cartesian_2d(least.log10() - margin..most.log10() + margin, 0.0..highest * 1.1)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .x_desc(&self.count)
            .y_desc(&self.value)
            .label_style((FONT, SIZES.0))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (number, (_, points)) in self.lines.iter().enumerate() {
            let points: Vec<_> = points.iter().map(|(count, value)| (count.log10(), *value)).collect();
            let style = colour(number, self.lines.len()).stroke_width(2);
            chart.draw_series(LineSeries::new(points, style.filled()).point_size(3))?;
        }
        for count in counts {
            let (x, y) = chart.plotting_area().map_coordinate(&(count.log10(), 0.0));
            root.draw(&words(&grouped(count), (x, y + 6), Pos::new(HPos::Center, VPos::Top)))?;
        }
        Ok(())
    }
}

/// The last of so many, which is what the others are held against, always has the same one.
fn colour(number: usize, count: usize) -> RGBColor {
    COLOURS[(COLOURS.len() * count - count + number) % COLOURS.len()]
}

fn words<'a>(text: &str, at: (i32, i32), anchor: Pos) -> Text<'a, (i32, i32), String> {
    Text::new(text.to_owned(), at, (FONT, SIZES.0).into_font().color(&BLACK).pos(anchor))
}

/// A count with its thousands apart.
fn grouped(count: f64) -> String {
    let digits = format!("{count:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> [Figure; 2] {
        let bars = Bars {
            value: "part of <raw> veth".into(),
            limit: 1.0,
            series: vec!["bridge".into(), "Spandrel".into()],
            groups: vec![("TCP & stream".into(), vec![Some(0.8), None]), ("UDP".into(), vec![Some(0.5), Some(0.97)])],
        };
        let points = vec![(1.0, 0.2), (200.0, 0.4), (10_000.0, 9.0)];
        let curves = Curves { count: "ports".into(), value: "ms".into(), lines: vec![("publish".into(), points)] };
        [("bars", Plot::Bars(bars)), ("curves", Plot::Curves(curves))].map(|(name, plot)| Figure {
            name: name.into(),
            title: format!("About {name}"),
            plot,
        })
    }

    /// The names of elements that are open at the end, and whether each end was that of the innermost.
    fn well_formed(document: &str) -> bool {
        let mut open = Vec::new();
        let tags = document.split('<').skip(1).map(|part| part.split_once('>').map_or(part, |(tag, _)| tag));
        for tag in tags.filter(|tag| !tag.starts_with(['?', '!'])) {
            let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next();
            if tag.starts_with('/') {
                if open.pop() != name {
                    return false;
                }
            } else if !tag.ends_with('/') {
                open.extend(name);
            }
        }
        open.is_empty()
    }

    #[test]
    fn plots_are_documents_that_hold_all_names() {
        let [bars, curves] = figures().map(|figure| figure.svg().unwrap());
        for (document, names) in [
            (
                &bars,
                ["About bars", "part of &lt;raw&gt; veth", "bridge", "Spandrel", "TCP &amp; stream", "UDP"].as_slice(),
            ),
            (&curves, &["About curves", "ports", "ms", "publish", "200", "10,000"]),
        ] {
            assert!(document.starts_with("<svg") && well_formed(document), "{document}");
            for name in names {
                assert!(document.contains(name), "{name} is missing: {document}");
            }
        }
        assert!(!well_formed("<svg><text></svg></text>") && !well_formed("<svg>"));
    }

    #[test]
    fn a_bar_that_was_not_measured_is_not_drawn() {
        let [bars, _] = figures();
        let count = |figure: &Figure| figure.svg().unwrap().matches("<rect").count();
        let mut more = bars.clone();
        let Plot::Bars(Bars { groups, .. }) = &mut more.plot else { unreachable!("bars are bars") };
        groups[0].1[1] = Some(0.9);
        assert_eq!(count(&more), count(&bars) + 1);
    }

    #[test]
    fn curves_need_a_point() {
        let curves = Curves { count: "ports".into(), value: "ms".into(), lines: vec![("publish".into(), Vec::new())] };
        let figure = Figure { name: "none".into(), title: "None".into(), plot: Plot::Curves(curves) };
        assert!(format!("{:#}", figure.svg().unwrap_err()).contains("there is not one point"));
    }

    #[test]
    fn the_pages_show_all_plots_and_tables() {
        let folder = std::env::temp_dir().join(format!("spandrel-plots-{}", std::process::id()));
        let inner = folder.join("made");
        let about = About { command: "cargo xtask bench".into(), versions: vec![("kernel".into(), "6.18".into())] };
        prepare(&inner).unwrap();
        write(&inner, &about, &[("data paths", "\na table\n".into())], &figures()).unwrap();
        let mut files: Vec<_> = fs::read_dir(&inner).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["README.md", "bars.svg", "curves.svg", "tables.md"]);
        let page = fs::read_to_string(inner.join(PAGE)).unwrap();
        for part in ["cargo xtask bench", "kernel", "6.18", "(tables.md)", "![About bars](bars.svg)", "(curves.svg)"] {
            assert!(page.contains(part), "{part} is missing: {page}");
        }
        let tables = fs::read_to_string(inner.join(TABLES)).unwrap();
        assert!(tables.contains("\n## Data paths\n\n```\na table\n```\n"), "{tables}");
        let below_file = inner.join(PAGE).join("folder");
        assert!(prepare(&below_file).unwrap_err().to_string().contains("cannot write into"));
        fs::remove_dir_all(folder).unwrap();
    }
}
