//! The figures as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::machine::Machine;
use super::measure::{Cell, Pace};
use super::stages::Stage;

/// All that a run of the benchmark found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// By which command.
    pub command: String,
    /// With how many rounds.
    pub pace: Pace,
    /// Whether the node that led at the start led at the end.
    pub leader_stayed: bool,
    /// What.
    pub cells: Vec<Cell>,
}

impl Report {
    /// The cells, row by row.
    pub fn rows(&self) -> impl Iterator<Item = &[Cell]> {
        self.cells.chunk_by(|one, other| std::ptr::eq(one.row, other.row))
    }

    /// What makes the figures doubtful, a line each.
    #[must_use]
    pub fn doubts(&self) -> Vec<&'static str> {
        let doubts = [
            (cfg!(debug_assertions), "This is a debug build; its figures mean nothing."),
            (!self.leader_stayed, "The leader of the three nodes changed: figures of leader and follower are mixed up."),
            (self.machine.was_busy(), "The machine was busy before: something else may have taken part."),
            (self.pace.rounds < 3, "Fewer than three rounds: figures for a look, not for a comparison."),
        ];
        doubts.into_iter().filter(|(holds, _)| *holds).map(|(_, text)| text).collect()
    }

    /// The table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("redis-server: --appendonly yes --appendfsync always; {} rounds, medians\n", self.pace.rounds);
        writeln!(text, "load average before: {}", self.machine.load_before).expect("a string grows as needed");
        self.doubts().iter().for_each(|doubt| text += &format!("{doubt}\n"));
        for row in self.rows() {
            let headings = ["per s", "spread", "p50 ms", "p99 ms", "p99.9", "CPU us", "syncs/s", "B/byte", "ratio", "goal"];
            let headings: String = headings.iter().map(|heading| format!("{heading:>9}")).collect();
            writeln!(text, "\n{:22}{headings}", row[0].row.name()).expect("a string grows as needed");
            for cell in row {
                let columns: String = columns(cell).iter().map(|column| format!("{column:>9}")).collect();
                writeln!(text, "{:22}{columns}{}", cell.entrance.name(), verdict(cell)).expect("a string grows as needed");
            }
        }
        text
    }

    /// The figures for programs.
    #[must_use]
    pub fn json(&self) -> String {
        let cells: Vec<Value> = self.cells.iter().map(json).collect();
        let report = json!({
            "machine": self.machine,
            "command": self.command,
            "pace": self.pace,
            "doubts": self.doubts(),
            "cells": cells,
        });
        serde_json::to_string_pretty(&report).expect("numbers and texts always become JSON") + "\n"
    }
}

/// A cell's figures as text: per second, spread, p50, p99, p99.9, processor time, syncs, bytes, ratio, goal.
#[must_use]
pub fn columns(cell: &Cell) -> [String; 10] {
    let optional = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    [
        format!("{:.0}", cell.throughput()),
        format!("{:.0}%", cell.spread() * 100.0),
        format!("{:.2}", cell.median(|run| run.figures.p50_ms)),
        format!("{:.2}", cell.median(|run| run.figures.p99_ms)),
        optional(cell.median_of_known(|run| run.figures.p999_ms), 2),
        format!("{:.1}", cell.cpu_us().iter().map(|(_, micros)| micros).sum::<f64>()),
        optional(cell.median_of_known(|run| run.cost.syncs_per_second), 0),
        optional(cell.written_per_byte(), 1),
        optional(cell.ratio(), 2),
        optional(cell.goal(), 2),
    ]
}

/// Whether the cell's goal is met.
#[must_use]
pub fn verdict(cell: &Cell) -> &'static str {
    match cell.ratio().zip(cell.goal()) {
        Some((ratio, goal)) if ratio >= goal => " met",
        Some(_) => " MISSED",
        None => "",
    }
}

fn json(cell: &Cell) -> Value {
    let runs = &cell.runs;
    let by_stage = |micros: [f64; Stage::ALL.len()]| Stage::ALL.map(Stage::name).into_iter().zip(micros).collect::<BTreeMap<_, _>>();
    let stages = cell.stages_us().into_iter().map(|(part, micros)| json!({ "part": part, "us_per_command": by_stage(micros) }));
    let stages: Vec<Value> = stages.collect();
    let cpu: Vec<Value> = cell.cpu_us().into_iter().map(|(part, micros)| json!({ "part": part, "us_per_command": micros })).collect();
    json!({
        "row": cell.row.name(),
        "server": cell.entrance,
        "test": cell.row.test,
        "pipeline": cell.row.pipeline,
        "connections": cell.row.connections,
        "rate": cell.row.rate,
        "commands": runs.iter().map(|run| run.figures.commands).collect::<Vec<_>>(),
        "per_second": runs.iter().map(|run| run.figures.per_second).collect::<Vec<_>>(),
        "per_second_median": cell.throughput(),
        "ratios": cell.ratios,
        "ratio": cell.ratio(),
        "goal": cell.goal(),
        "p50_ms": cell.median(|run| run.figures.p50_ms),
        "p99_ms": cell.median(|run| run.figures.p99_ms),
        "p99.9_ms": cell.median_of_known(|run| run.figures.p999_ms),
        "max_ms": cell.median(|run| run.figures.max_ms),
        "cpu": cpu,
        "stages": stages,
        "syncs_per_second": cell.median_of_known(|run| run.cost.syncs_per_second),
        "written_per_user_byte": cell.written_per_byte(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::measure::tests::measured;

    /// A report with made-up figures.
    pub(in crate::bench) fn report() -> Report {
        let machine = Machine { processor: "A & B".to_owned(), ..Machine::default() };
        let pace = Pace { rounds: 3, seconds: 1.0, quick: true };
        Report { machine, command: "bench --quick".to_owned(), pace, leader_stayed: true, cells: measured(true) }
    }

    #[test]
    fn a_line_has_every_figure() {
        let report = report();
        let text = report.text();
        let check = |line: &str| assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
        check("set -P 1 -c 50            per s   spread   p50 ms   p99 ms    p99.9   CPU us  syncs/s   B/byte    ratio     goal");
        check("redis-server               2000     100%     1.00     2.00        -      2.0       50      1.0     1.00        -");
        check("redraft, one node          1000     100%     1.00     2.00        -      2.0       50      1.0     0.50     0.90 MISSED");
        check("redraft, a follower        1000     100%     1.00     2.00        -      2.0       50        -     0.50     0.50 met");
    }

    #[test]
    fn programs_find_the_same() {
        let report = report();
        let found: Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(found["cells"].as_array().map(Vec::len), Some(report.cells.len()));
        let one = &found["cells"][1];
        assert_eq!((&one["server"], &one["test"], &one["ratio"], &one["goal"]), (&json!("one"), &json!("set"), &json!(0.5), &json!(0.9)));
        assert_eq!(one["cpu"], json!([{ "part": "alone", "us_per_command": 2.0 }]));
        assert_eq!(one["stages"][0]["us_per_command"]["log"], json!(1.5));
    }

    #[test]
    fn doubts_are_told() {
        let doubtful = Report { leader_stayed: false, pace: Pace { rounds: 1, seconds: 1.0, quick: true }, ..report() };
        assert!(doubtful.text().contains("The leader of the three nodes changed"));
        assert!(doubtful.doubts().iter().any(|doubt| doubt.starts_with("Fewer than three rounds")));
    }
}
