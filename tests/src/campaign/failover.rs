//! The leader is killed, again and again, under a steady write load. Everything acknowledged must be there at the end, and what is
//! measured is how long nobody could write: from the kill to the first acknowledgement of something sent after it.

use std::time::{Duration, Instant};

use super::{median, percentile};
use crate::cluster::Cluster;
use crate::load::{Load, LoadPlan, Shape, Totals};

/// Size of the campaign.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Times that a leader is killed.
    pub kills: usize,
    /// Clients that write.
    pub workers: usize,
    /// Acknowledged writes between two kills.
    pub writes_between: usize,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Times without an acknowledged write, kill by kill.
    pub gaps: Vec<Duration>,
    /// What was told, and was true.
    pub totals: Totals,
}

impl Report {
    /// The time in the middle.
    #[must_use]
    pub fn median(&self) -> Duration {
        median(&self.gaps)
    }

    /// The time that one kill in a hundred exceeds.
    #[must_use]
    pub fn p99(&self) -> Duration {
        percentile(&self.gaps, 99)
    }

    /// The longest time.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.gaps.iter().copied().max().unwrap_or_default()
    }
}

/// Runs the campaign.
/// # Panics
/// A promise is broken.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    let mut cluster = Cluster::start(3);
    let addresses = cluster.addresses();
    let load = Load::start(&LoadPlan { name: "failover".to_owned(), addresses, workers: plan.workers, shape: Shape::Single });
    let mut gaps = Vec::with_capacity(plan.kills);
    for kill in 1..=plan.kills {
        load.wait_for(plan.writes_between);
        let leader = cluster.leader();
        let killed_at = Instant::now();
        cluster[leader].kill();
        let gap = load.wait_acknowledged_after(killed_at);
        gaps.push(gap);
        eprintln!("kill {kill} of {}: node {}, written again after {gap:.2?}", plan.kills, leader + 1);
        cluster.bring_back(leader);
    }
    let record = load.stop();
    cluster.wait_converged();
    let totals = record.check(&mut cluster.client(0));
    Report { gaps, totals }
}
