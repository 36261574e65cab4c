//! Plots of the figures: groups of horizontal bars as SVG.
//! Written by hand: bars need nothing of a plotting crate, which would bring a dozen others with it. Colours are told apart also by those
//! who see them differently (Okabe and Ito), and every bar has its figure beside it.

use std::fmt::Write;

use super::cells::Entrance;
use super::measure::Cell;
use super::report::Report;

/// Places and sizes, in pixels.
const LABEL_WIDTH: f64 = 190.0;
const BARS_WIDTH: f64 = 470.0;
const FIGURE_WIDTH: f64 = 170.0;
const BAR_HEIGHT: f64 = 13.0;
const GROUP_GAP: f64 = 9.0;
const HEAD_HEIGHT: f64 = 62.0;

/// A quantile of a cell's latency, in milliseconds, if it is known.
type Quantile = fn(&Cell) -> Option<f64>;

/// Bars that stand together.
struct Group {
    label: String,
    bars: Vec<Bar>,
}

struct Bar {
    entrance: Entrance,
    value: f64,
    /// What stands beside it.
    figure: String,
}

/// Throughput of all cells as a part of redis-server's.
#[must_use]
pub fn throughput(report: &Report) -> String {
    let group = |row: &[Cell]| {
        let bar = |cell: &Cell| {
            let value = cell.ratio()?;
            Some(Bar { entrance: cell.entrance, value, figure: format!("{value:.2}  ({:.0}/s)", cell.throughput()) })
        };
        Group { label: row[0].row.name(), bars: row.iter().filter_map(bar).collect() }
    };
    svg("Throughput, redis-server with appendfsync always = 1", &report.rows().map(group).collect::<Vec<_>>())
}

/// Latency of the cells with a rate.
#[must_use]
pub fn latency(report: &Report) -> String {
    let mut groups = Vec::new();
    for row in report.rows().filter(|row| row[0].row.rate.is_some()) {
        let quantiles: [(&str, Quantile); 3] = [
            ("p50", |cell| Some(cell.median(|run| run.figures.p50_ms))),
            ("p99", |cell| Some(cell.median(|run| run.figures.p99_ms))),
            ("p99.9", |cell| cell.median_of_known(|run| run.figures.p999_ms)),
        ];
        for (name, quantile) in quantiles {
            let bar = |cell: &Cell| {
                let value = quantile(cell)?;
                Some(Bar { entrance: cell.entrance, value, figure: format!("{value:.2} ms") })
            };
            groups.push(Group { label: format!("{}, {name}", row[0].row.name()), bars: row.iter().filter_map(bar).collect() });
        }
    }
    svg("Latency at a given rate, milliseconds", &groups)
}

fn colour(entrance: Entrance) -> &'static str {
    match entrance {
        Entrance::Redis => "#999999",
        Entrance::One => "#0072b2",
        Entrance::Leader => "#d55e00",
        Entrance::Follower => "#e69f00",
    }
}

fn svg(title: &str, groups: &[Group]) -> String {
    let groups: Vec<&Group> = groups.iter().filter(|group| !group.bars.is_empty()).collect();
    let most = groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let bars: usize = groups.iter().map(|group| group.bars.len()).sum();
    let width = LABEL_WIDTH + BARS_WIDTH + FIGURE_WIDTH;
    let height = HEAD_HEIGHT + bars as f64 * BAR_HEIGHT + groups.len() as f64 * GROUP_GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut text = |x: f64, y: f64, attributes: &str, text: &str| {
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" {attributes}>{}</text>", escaped(text)).expect("a string grows as needed");
    };
    text(10.0, 22.0, "font-size=\"15\"", title);
    for (place, entrance) in Entrance::ALL.into_iter().enumerate() {
        text(10.0 + place as f64 * 160.0, 44.0, &format!("fill=\"{}\" font-weight=\"bold\"", colour(entrance)), entrance.name());
    }
    let mut y = HEAD_HEIGHT;
    let mut rectangles = String::new();
    for group in groups {
        text(LABEL_WIDTH - 8.0, y + BAR_HEIGHT - 3.0, "text-anchor=\"end\"", &group.label);
        for bar in &group.bars {
            let length = bar.value / most * BARS_WIDTH;
            let (fill, thick) = (colour(bar.entrance), BAR_HEIGHT - 2.0);
            writeln!(rectangles, "<rect x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{length:.1}\" height=\"{thick}\" fill=\"{fill}\"/>")
                .expect("a string grows as needed");
            text(LABEL_WIDTH + length + 5.0, y + BAR_HEIGHT - 3.0, "", &bar.figure);
            y += BAR_HEIGHT;
        }
        y += GROUP_GAP;
    }
    svg + &rectangles + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn every_cell_has_a_bar_in_proportion() {
        let report = report();
        let bars = |svg: &str, width: &str| svg.matches(&format!("width=\"{width}\" height=\"11\"")).count();
        let redis = report.rows().filter(|row| row[0].row.rate.is_none()).count();
        let others = report.cells.iter().filter(|cell| cell.ratio().is_some()).count() - redis;
        let svg = throughput(&report);
        assert_eq!((bars(&svg, "470.0"), bars(&svg, "235.0")), (redis, others));
        // Two rows with a rate, four servers, three quantiles: 1, 2 and 3 ms.
        assert_eq!(bars(&latency(&report), "470.0"), 8);
        assert_eq!(latency(&report).matches("<rect x=").count(), 24);
    }

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escaped("a<b & c"), "a&lt;b &amp; c");
    }
}
