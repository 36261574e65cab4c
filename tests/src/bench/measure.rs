//! All cells, round after round. Those of one row stand together, so that the servers take turns: what disturbs the machine in a round
//! disturbs the compared alike, and a ratio is the median of the rounds' ratios.

use serde::Serialize;

use super::accounting::{Accounts, Cost};
use super::cells::{Entrance, ROWS, Row, Wanted};
use super::generator::{self, Extent, Figures};
use super::stages::Stage;
use super::subjects::{Part, Subjects};

/// Rounds and lengths.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pace {
    /// How often every cell is measured.
    pub rounds: usize,
    /// Length of a run, in seconds.
    pub seconds: f64,
    /// Only the rows of a quick run.
    pub quick: bool,
}

/// One row on one server, with what its runs found.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The row.
    pub row: &'static Row,
    /// The server.
    pub entrance: Entrance,
    /// A run of each round.
    pub runs: Vec<Run>,
    /// Throughput as a part of redis-server's, by round; empty where a rate was given.
    pub ratios: Vec<f64>,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What the generator found.
    pub figures: Figures,
    /// What it cost.
    pub cost: Cost,
}

impl Cell {
    /// The goal, if there is one.
    #[must_use]
    pub fn goal(&self) -> Option<f64> {
        match self.row.wanted(self.entrance) {
            Wanted::Goal(goal) => Some(goal),
            Wanted::Measured | Wanted::Omitted => None,
        }
    }

    /// The median of a figure over the rounds.
    #[must_use]
    pub fn median(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(figure))
    }

    /// The same of a figure that may be missing; `None` if it is in any round.
    #[must_use]
    pub fn median_of_known(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        self.runs.iter().map(figure).collect::<Option<Vec<f64>>>().map(median)
    }

    /// Commands per second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.median(|run| run.figures.per_second)
    }

    /// Distance of the fastest and the slowest round, as a part of the median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let figures = || self.runs.iter().map(|run| run.figures.per_second);
        (figures().fold(0.0, f64::max) - figures().fold(f64::INFINITY, f64::min)) / self.throughput()
    }

    /// Throughput as a part of redis-server's; `None` where a rate was given.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (!self.ratios.is_empty()).then(|| median(self.ratios.iter().copied()))
    }

    /// Processor time per command of each process, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> Vec<(Part, f64)> {
        let parts = self.runs[0].cost.cpu_us.iter().map(|(part, _)| *part).enumerate();
        parts.map(|(place, part)| (part, self.median(|run| run.cost.cpu_us[place].1 / run.figures.commands as f64))).collect()
    }

    /// Processor time per command of each process by stage, in microseconds.
    #[must_use]
    pub fn stages_us(&self) -> Vec<(Part, [f64; Stage::ALL.len()])> {
        let parts = self.runs[0].cost.stages_us.iter().map(|(part, _)| *part).enumerate();
        let median = |place: usize, stage: Stage| {
            self.median(|run| run.cost.stages_us[place].1.get(&stage).unwrap_or(&0.0) / run.figures.commands as f64)
        };
        parts.map(|(place, part)| (part, Stage::ALL.map(|stage| median(place, stage)))).collect()
    }

    /// Bytes written to disk per byte of keys and values; `None` where that says nothing.
    #[must_use]
    pub fn written_per_byte(&self) -> Option<f64> {
        let user_bytes = self.row.test.user_bytes()?;
        Some(self.median(|run| run.cost.written_bytes / (run.figures.commands as f64 * user_bytes)))
    }
}

/// The cells of a run of the benchmark, without figures.
#[must_use]
pub fn cells(quick: bool) -> Vec<Cell> {
    let rows = ROWS.iter().filter(|row| !quick || row.is_quick());
    let cells = rows.flat_map(|row| {
        let wanted = Entrance::ALL.into_iter().filter(|entrance| row.wanted(*entrance) != Wanted::Omitted);
        wanted.map(move |entrance| Cell { row, entrance, runs: Vec::new(), ratios: Vec::new() })
    });
    cells.collect()
}

/// Measures all cells.
/// # Errors
/// A generator failed, or the system does not tell what it cost: one line.
pub fn measure(subjects: &Subjects, pace: Pace) -> Result<Vec<Cell>, String> {
    let mut cells = cells(pace.quick);
    let calibrate = |cell: &Cell| generator::calibrate(cell.row, subjects.address(cell.entrance), pace.seconds);
    let extents = cells.iter().map(calibrate).collect::<Result<Vec<Extent>, String>>()?;
    for round in 1..=pace.rounds {
        eprintln!("round {round} of {}: {} cells", pace.rounds, cells.len());
        for (cell, extent) in cells.iter_mut().zip(&extents) {
            let run = run(subjects, cell, *extent).map_err(|error| format!("{}, {}: {error}", cell.row.name(), cell.entrance.name()))?;
            cell.runs.push(run);
        }
    }
    compare(&mut cells);
    Ok(cells)
}

fn run(subjects: &Subjects, cell: &Cell, extent: Extent) -> Result<Run, String> {
    let accounts = Accounts::read(subjects.processes(cell.entrance), subjects.dir())?;
    let figures = generator::run(cell.row, subjects.address(cell.entrance), extent)?;
    Ok(Run { figures, cost: accounts.cost_since()? })
}

/// Notes every cell's throughput as a part of redis-server's in the same row and round.
fn compare(cells: &mut [Cell]) {
    let mut reference = Vec::new();
    for cell in cells.iter_mut().filter(|cell| cell.row.rate.is_none()) {
        let own = cell.runs.iter().map(|run| run.figures.per_second);
        if cell.entrance == Entrance::Redis {
            // The first cell of its row.
            reference = own.clone().collect();
        }
        cell.ratios = own.zip(&reference).map(|(own, other)| own / other).collect();
    }
}

/// The value in the middle; of an even number, the mean of the two.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    assert!(!values.is_empty(), "a cell has a round");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Cells with made-up rounds: redis-server does 1000, 2000 and 3000 per second, the others half.
    pub(in crate::bench) fn measured(quick: bool) -> Vec<Cell> {
        let mut cells = cells(quick);
        for cell in &mut cells {
            let part = if cell.entrance == Entrance::Redis { 1.0 } else { 0.5 };
            for round in 1..=3 {
                let per_second = 1000.0 * f64::from(round) * part;
                let p999_ms = cell.row.rate.map(|_| 3.0);
                let figures = Figures { commands: 4000, per_second, p50_ms: 1.0, p99_ms: 2.0, p999_ms, max_ms: 4.0 };
                let stages_us = vec![(Part::Alone, [(Stage::Log, 6000.0)].into())];
                let cost = Cost { cpu_us: vec![(Part::Alone, 8000.0)], stages_us, written_bytes: 464_000.0, syncs_per_second: Some(50.0) };
                cell.runs.push(Run { figures, cost });
            }
        }
        compare(&mut cells);
        cells
    }

    #[test]
    fn the_middle_counts() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn figures_are_medians_of_the_rounds() {
        let cells = measured(false);
        let set = |entrance| cells.iter().find(|cell| cell.entrance == entrance).expect("set is the first row");
        let (redis, one) = (set(Entrance::Redis), set(Entrance::One));
        assert_eq!((redis.throughput(), redis.ratio(), redis.goal()), (2000.0, Some(1.0), None));
        assert_eq!((one.throughput(), one.ratio(), one.goal(), one.spread()), (1000.0, Some(0.5), Some(0.9), 1.0));
        assert_eq!((one.cpu_us(), one.written_per_byte()), (vec![(Part::Alone, 2.0)], Some(1.0)));
        assert_eq!(one.stages_us(), [(Part::Alone, [0.0, 0.0, 1.5, 0.0, 0.0])]);
    }

    #[test]
    fn every_row_begins_with_what_it_is_compared_with() {
        for quick in [true, false] {
            let cells = measured(quick);
            let firsts = cells.iter().filter(|cell| cell.entrance == Entrance::Redis).count();
            let rows = cells.chunk_by(|one, other| std::ptr::eq(one.row, other.row));
            assert!(rows.clone().all(|row| row[0].entrance == Entrance::Redis));
            assert_eq!(rows.count(), firsts);
            assert!(cells.iter().all(|cell| cell.ratio().is_none() == cell.row.rate.is_some()));
        }
    }
}
