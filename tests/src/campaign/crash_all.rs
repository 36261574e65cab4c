//! All nodes and their supervisor are killed at once under load, again and again; `redraft cluster start` is all that is done about it.
//! Everything acknowledged must be there each time.

use std::time::{Duration, Instant};

use crate::load::{Load, LoadPlan, Record, Shape, Totals};
use crate::supervised::Supervised;

/// Size of the campaign.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Times that everything is killed.
    pub cycles: usize,
    /// Clients that write.
    pub workers: usize,
    /// Acknowledged batches before each crash.
    pub writes_between: usize,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How long `cluster start` took, cycle by cycle.
    pub starts: Vec<Duration>,
    /// What was told and was true, cycle by cycle.
    pub totals: Vec<Totals>,
}

/// Runs the campaign.
/// # Panics
/// A promise is broken.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    let cluster = Supervised::start();
    let mut report = Report::default();
    let mut records: Vec<Record> = Vec::new();
    for cycle in 1..=plan.cycles {
        let shape = if cycle % 2 == 0 { Shape::Pipelined(10) } else { Shape::Single };
        let plan_of_load = LoadPlan { name: format!("cycle{cycle}"), addresses: cluster.addresses(), workers: plan.workers, shape };
        let load = Load::start(&plan_of_load);
        load.wait_for(plan.writes_between);
        cluster.kill_everything();
        let record = load.stop();
        let began = Instant::now();
        cluster.start_again();
        report.starts.push(began.elapsed());
        let totals = record.check(&mut cluster.client(cycle % 3));
        eprintln!("cycle {cycle} of {}: started again in {:.2?}, {totals:?}", plan.cycles, began.elapsed());
        records.push(record);
        report.totals.push(totals);
    }
    // What was there after its own crash must be there after all later ones.
    let mut client = cluster.client(0);
    let again: Vec<Totals> = records.iter().map(|record| record.check(&mut client)).collect();
    assert_eq!(again, report.totals, "later crashes change nothing");
    report
}
