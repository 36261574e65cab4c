//! The page `docs/benchmarks.md`: the figures of the latest run that was asked to write it, between two marks. What stands outside of them
//! is written by people and stays.

use std::fmt::Write;
use std::path::Path;

use super::cells::Entrance;
use super::measure::Cell;
use super::report::{Report, columns, verdict};
use super::stages::Stage;

/// The page and its plots, in a checkout.
const PAGE: &str = "docs/benchmarks.md";
const THROUGHPUT: &str = "benchmarks-throughput.svg";
const LATENCY: &str = "benchmarks-latency.svg";

/// What the figures stand between.
const BEGIN: &str = "<!-- Figures: `make bench WRITE_DOCS=1` replaces what follows. -->\n";
const END: &str = "<!-- End of the figures. -->\n";

/// Shows a report on the page of a checkout.
/// # Errors
/// The page has no place for it, or cannot be written: one line.
pub fn write(checkout: &Path, report: &Report) -> Result<(), String> {
    let path = checkout.join(PAGE);
    let page = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let page = with_figures(&page, &figures(report)).ok_or_else(|| format!("{} has no marks for the figures", path.display()))?;
    super::write(&path, &page)?;
    super::write(&path.with_file_name(THROUGHPUT), &super::plot::throughput(report))?;
    super::write(&path.with_file_name(LATENCY), &super::plot::latency(report))
}

/// A page with other figures between its marks.
fn with_figures(page: &str, figures: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{figures}{END}{after}"))
}

fn figures(report: &Report) -> String {
    let machine = &report.machine;
    let mut page = String::from("\n| | |\n|---|---|\n");
    let rows = [
        ("Command", format!("`{}`", report.command)),
        ("Date", machine.date.clone()),
        ("Processor", format!("{}, {} processors", machine.processor, machine.processors)),
        ("Memory", format!("{} MiB", machine.memory_mib)),
        ("System", format!("{}, data on {}", machine.kernel, machine.file_system)),
        ("redis-server", machine.redis.clone()),
        ("redraft", format!("{}, commit {}", machine.redraft, machine.commit)),
        ("Rounds", format!("{} of {} s per cell; load average before: {}", report.pace.rounds, report.pace.seconds, machine.load_before)),
    ];
    rows.iter().for_each(|(name, value)| page += &format!("| {name} | {value} |\n"));
    report.doubts().iter().for_each(|doubt| page += &format!("\n**{doubt}**\n"));
    write!(page, "\n![Throughput]({THROUGHPUT})\n\n![Latency]({LATENCY})\n\n").expect("a string grows as needed");
    page += "| | | commands/s | spread | p50 ms | p99 ms | p99.9 ms | CPU us | syncs/s | written | ratio | goal | CPU us by process |\n";
    page += "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n";
    for cell in &report.cells {
        let (name, columns) = (cell.row.name(), columns(cell).join(" | "));
        writeln!(page, "| {name} | {} | {columns}{} | {} |", cell.entrance.name(), verdict(cell), parts(cell))
            .expect("a string grows as needed");
    }
    page + "\n" + &stages(report) + "\n"
}

/// Where the time goes in the cells that have a goal.
fn stages(report: &Report) -> String {
    let names = Stage::ALL.map(Stage::name).join(" | ");
    let mut table =
        format!("Processor time per command by stage, in microseconds:\n\n| | | process | {names} |\n|---|---|---|--:|--:|--:|--:|--:|\n");
    for cell in report.cells.iter().filter(|cell| cell.goal().is_some() && cell.entrance != Entrance::Redis) {
        for (part, micros) in cell.stages_us() {
            let micros = micros.map(|micros| format!("{micros:.1}")).join(" | ");
            writeln!(table, "| {} | {} | {} | {micros} |", cell.row.name(), cell.entrance.name(), part.name())
                .expect("a string grows as needed");
        }
    }
    table
}

/// The processor time of each process, where there are several.
fn parts(cell: &Cell) -> String {
    let parts = cell.cpu_us();
    if parts.len() < 2 {
        return String::new();
    }
    parts.iter().map(|(part, micros)| format!("{} {micros:.1}", part.name())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("# Speed\n{BEGIN}old\n{END}\nText.\n");
        let expected = format!("# Speed\n{BEGIN}new\n{END}\nText.\n");
        assert_eq!(with_figures(&page, "new\n"), Some(expected));
        assert_eq!(with_figures("# Speed\n", "new\n"), None);
    }

    #[test]
    fn every_cell_has_its_line() {
        let report = report();
        let page = figures(&report);
        assert!(
            page.contains(
                "| set -P 1 -c 50 | redraft, one node | 1000 | 100% | 1.00 | 2.00 | - | 2.0 | 50 | 1.0 | 0.50 | 0.90 MISSED |  |\n"
            )
        );
        assert!(page.contains("| set -P 1 -c 50 | redraft, one node | alone | 0.0 | 0.0 | 1.5 | 0.0 | 0.0 |\n"));
        assert_eq!(page.lines().filter(|line| line.contains("redis-server | ")).count(), 1 + report.rows().count());
    }

    #[test]
    fn the_page_of_this_checkout_has_the_marks() {
        let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE)).expect("the page is there");
        assert!(with_figures(&page, "").is_some());
    }
}
