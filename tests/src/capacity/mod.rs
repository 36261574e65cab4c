//! Capacity: how much redraft holds, how evenly it answers, how far it scales, and how soon it is back.
//! Beside `bench`, which compares small cells with redis-server, this measures redraft alone, at sizes that hurt: more data than memory,
//! minutes of writes, thousands of connections, a log at its limit. It has four parts, each with a table, a file of figures (JSON), and
//! *marks*: what is promised of a figure, and whether it holds.
//! - `dataset`: one node with a memory budget and several times as much data;
//! - `stalls`: minutes of writes to three nodes below their capacity, with a Raft snapshot on its way in the middle;
//! - `scale`: the same load over connections, sizes of values, and numbers of keys;
//! - `recovery`: `restart`, a node that was killed or stopped at the worst moment, and `joining`, a node that has nothing yet.
//!
//! `arrival` follows a node that joins, `filling` writes data that can be checked, `room` asks for disk space before and counts it after,
//! `findings` shows what was found; `load_program` outside puts the load on. Everything is bounded in time and in disk space. What breaks a
//! promise that is not about speed (a wrong value, a node that ends) is a panic, as in a campaign; a mark that does not hold is told.

mod arrival;
pub mod dataset;
pub mod filling;
pub mod findings;
pub mod joining;
pub mod restart;
pub mod room;
pub mod scale;
pub mod stalls;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use self::findings::Findings;
use crate::bench::machine::Machine;
use crate::dir::TestDir;

/// Bytes of a KiB, MiB, GiB.
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// More data than memory
    Dataset,
    /// Minutes of writes below the capacity, with a Raft snapshot in the middle
    Stalls,
    /// Connections, sizes of values, numbers of keys
    Scale,
    /// Starts after SIGKILL, and nodes that join
    Recovery,
}

impl Part {
    /// All of them, in the order in which they are run.
    pub const ALL: [Part; 4] = [Part::Dataset, Part::Stalls, Part::Scale, Part::Recovery];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Part::Dataset => "dataset",
            Part::Stalls => "stalls",
            Part::Scale => "scale",
            Part::Recovery => "recovery",
        }
    }
}

/// Sizes of all parts.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The parts to run.
    pub parts: Vec<Part>,
    /// Of `dataset`.
    pub dataset: dataset::Plan,
    /// Of `stalls`.
    pub stalls: stalls::Plan,
    /// Of `scale`.
    pub scale: scale::Plan,
    /// Of `recovery`: a node that starts.
    pub restart: restart::Plan,
    /// Of `recovery`: a node that joins.
    pub joining: joining::Plan,
    /// Where the nodes keep their data.
    pub place: Place,
    /// The directory for the files of figures, a file for each part.
    pub out: PathBuf,
    /// The command line, for those files.
    pub command: String,
}

/// Where nodes keep their data.
#[derive(Clone, Debug)]
pub struct Place {
    parent: PathBuf,
}

impl Place {
    /// Below a directory, or where temporary files go.
    #[must_use]
    pub fn new(parent: Option<PathBuf>) -> Place {
        Place { parent: parent.unwrap_or_else(std::env::temp_dir) }
    }

    /// A directory for one node or group, gone when it is dropped.
    fn dir(&self) -> TestDir {
        TestDir::below(&self.parent)
    }
}

impl Plan {
    fn room_bytes(&self, part: Part) -> u64 {
        match part {
            Part::Dataset => self.dataset.room_bytes(),
            Part::Stalls => self.stalls.room_bytes(),
            Part::Scale => self.scale.room_bytes(),
            Part::Recovery => self.restart.room_bytes().max(self.joining.room_bytes()),
        }
    }

    fn measure(&self, part: Part) -> Result<Findings, String> {
        match part {
            Part::Dataset => dataset::run(&self.dataset, &self.place),
            Part::Stalls => stalls::run(&self.stalls, &self.place),
            Part::Scale => scale::run(&self.scale, &self.place),
            Part::Recovery => {
                let restart = restart::run(&self.restart, &self.place)?;
                Ok(restart.and(joining::run(&self.joining, &self.place)?))
            }
        }
    }
}

/// Runs the parts; `tell` gets each one's table when it is through. Whether all marks hold.
/// # Errors
/// There is not enough room, a generator failed, or a file cannot be written: one line.
/// # Panics
/// A node does not do what it must.
pub fn run(plan: &Plan, mut tell: impl FnMut(&str)) -> Result<bool, String> {
    for part in &plan.parts {
        room::check(&plan.place.parent, plan.room_bytes(*part))?;
    }
    let mut all_hold = true;
    for part in &plan.parts {
        eprintln!("{}", part.name());
        let machine = Machine::look(Some(&plan.place.parent));
        let findings = plan.measure(*part)?;
        let path = plan.out.join(format!("{}.json", part.name()));
        write(&path, plan, *part, &machine, &findings)?;
        all_hold &= findings.marks.iter().all(|mark| mark.holds);
        tell(&format!("== {}\n{}{}written: {}\n\n", part.name(), doubts(&machine), findings.text(), path.display()));
    }
    Ok(all_hold)
}

/// What makes figures doubtful.
fn doubts(machine: &Machine) -> String {
    let mut text = format!("{} processors, {} MiB of memory, data on {}\n", machine.processors, machine.memory_mib, machine.file_system);
    if cfg!(debug_assertions) {
        text += "This is a debug build; its figures mean nothing.\n";
    }
    if machine.was_busy() {
        text += &format!("The machine was busy before (load {}): something else may have taken part.\n", machine.load_before);
    }
    text
}

fn write(path: &Path, plan: &Plan, part: Part, machine: &Machine, findings: &Findings) -> Result<(), String> {
    let report = json!({ "part": part, "machine": machine, "command": plan.command, "findings": findings });
    let text = serde_json::to_string_pretty(&report).expect("numbers and texts always become JSON") + "\n";
    crate::bench::write(path, &text)
}
