//! The benchmark: redraft beside redis-server that syncs every write, side by side in one run.
//! All servers run all the time, with their data below the same directory, and take their turns: A B C, A B C. An idle server costs next
//! to nothing, and what the machine does besides hits all of them alike. Only ratios within one run count: figures differ from machine to
//! machine, and from hour to hour.
//! `subjects` are the servers, `cells` says what is measured on which, `generator` puts the load on, `accounting` asks the operating system
//! what it cost, and `stages` in which threads, `measure` does that for all cells and rounds, `machine` says where; `report`, `page` and
//! `plot` show it.

pub mod accounting;
pub mod cells;
pub mod generator;
pub mod machine;
pub mod measure;
pub mod page;
pub mod plot;
pub mod report;
pub mod stages;
pub mod subjects;

use std::path::{Path, PathBuf};

use crate::bench::machine::Machine;
use crate::bench::measure::Pace;
use crate::bench::report::Report;
use crate::bench::subjects::Subjects;

/// What a run of the benchmark is told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds and lengths.
    pub pace: Pace,
    /// Where the figures are written, as JSON; the plots go beside it.
    pub json: PathBuf,
    /// Where the servers keep their data; `None` is where temporary files go.
    pub dir: Option<PathBuf>,
    /// The checkout whose `docs/benchmarks.md` is to show the figures, if any is.
    pub docs_of: Option<PathBuf>,
    /// The command line, for the page.
    pub command: String,
}

/// Measures everything; the table for people.
/// # Errors
/// A generator failed, or a file cannot be written: one line.
/// # Panics
/// A server does not start.
pub fn run(plan: &Plan) -> Result<String, String> {
    let machine = Machine::look(plan.dir.as_deref());
    let subjects = Subjects::start(plan.dir.as_deref());
    subjects.fill()?;
    let cells = measure::measure(&subjects, plan.pace)?;
    let report = Report { machine, command: plan.command.clone(), pace: plan.pace, leader_stayed: subjects.leader_stayed(), cells };
    write(&plan.json, &report.json())?;
    write(&plan.json.with_file_name("bench-throughput.svg"), &plot::throughput(&report))?;
    write(&plan.json.with_file_name("bench-latency.svg"), &plot::latency(&report))?;
    if let Some(checkout) = &plan.docs_of {
        page::write(checkout, &report)?;
    }
    Ok(format!("{}\nwritten: {}, and plots beside it\n", report.text(), plan.json.display()))
}

/// Writes a file, in a directory that need not be there.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let written = parent.map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}
