//! What happened in a run, for summaries, and to see that everything that can go wrong did.
//! A `Fault` is dealt by the plan; an `Incident` comes by chance, or from where a fault met the work. Whatever the documentation says of the
//! simulator is one of both. Counting draws no chance and leaves no trace: no story depends on it.

use crate::world::Fault;

/// What comes besides the faults that the plan deals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// A machine begins with a wall clock that is off.
    ClockApart,
    /// A frame is lost.
    Loss,
    /// A frame arrives twice.
    Duplication,
    /// A frame arrives after one of its connection that was sent later.
    Overtaking,
    /// Machines are cut off in one direction.
    OneWayCut,
    /// Machines are cut off in both.
    TwoWayCut,
    /// What a cut has held back comes through.
    HeldBack,
    /// What a cut has held back is lost.
    HeldBackForEver,
    /// A frame of a crashed machine arrives while that is down.
    LastWords,
    /// A frame of a machine arrives that it has sent before its last start.
    LastWordsAfterRestart,
    /// The connection of a snapshot breaks.
    SnapshotBroken,
    /// A snapshot has arrived whose sender leads no longer.
    SnapshotOfEarlierLeader,
    /// A snapshot has arrived, and its sender has more committed by then.
    SnapshotBehindCommit,
    /// A crash while a snapshot is made.
    CrashMakingSnapshot,
    /// A crash of a snapshot's sender.
    CrashSendingSnapshot,
    /// A crash of a snapshot's receiver when it has a part.
    CrashReceivingSnapshot,
    /// A crash when the snapshot has arrived and nothing is installed.
    CrashBeforeInstallation,
    /// A crash while the data are replaced.
    CrashReplacingData,
    /// A crash between the last of the data and the end of the marker.
    CrashBeforeMarkerGoes,
    /// A crash of a start that finishes an installation.
    CrashFinishingInstallation,
    /// Reads are evaluated when more is applied than when they were allowed.
    LateRead,
    /// Commands of a pipeline of reads are evaluated with different entries applied.
    ReadInParts,
    /// A crash loses of the log what was not synced.
    LostLogBatch,
    /// A crash loses of the data what was not synced.
    LostDataBatch,
    /// A crash in the middle of the log writer's batch.
    CrashInLogBatch,
    /// A crash in the middle of apply.
    CrashInApply,
    /// A crash of a start.
    CrashInStart,
    /// A crash leaves an earlier high-water mark.
    MarkFallsBack,
    /// A node refuses to start on a log that has lost its end.
    RefusalOfShortLog,
    /// A node stops since it was removed.
    Removed,
}

impl Incident {
    /// All of them, in their order.
    pub const ALL: [Self; 30] = [
        Self::ClockApart,
        Self::Loss,
        Self::Duplication,
        Self::Overtaking,
        Self::OneWayCut,
        Self::TwoWayCut,
        Self::HeldBack,
        Self::HeldBackForEver,
        Self::LastWords,
        Self::LastWordsAfterRestart,
        Self::SnapshotBroken,
        Self::SnapshotOfEarlierLeader,
        Self::SnapshotBehindCommit,
        Self::CrashMakingSnapshot,
        Self::CrashSendingSnapshot,
        Self::CrashReceivingSnapshot,
        Self::CrashBeforeInstallation,
        Self::CrashReplacingData,
        Self::CrashBeforeMarkerGoes,
        Self::CrashFinishingInstallation,
        Self::LateRead,
        Self::ReadInParts,
        Self::LostLogBatch,
        Self::LostDataBatch,
        Self::CrashInLogBatch,
        Self::CrashInApply,
        Self::CrashInStart,
        Self::MarkFallsBack,
        Self::RefusalOfShortLog,
        Self::Removed,
    ];
}

/// How often each incident happened, in the order of `Incident::ALL`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Incidents([u64; Incident::ALL.len()]);

impl Incidents {
    /// It has happened.
    pub fn note(&mut self, incident: Incident) {
        self.0[incident as usize] += 1;
    }
}

impl std::ops::AddAssign for Incidents {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

/// What happened in a run, or in many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Terms with a leader.
    pub elections: u64,
    /// Snapshots that arrived.
    pub snapshots: u64,
    /// Faults that had something to happen to, in the order of `Fault::ALL`.
    pub faults: [u64; Fault::ALL.len()],
    /// What came besides.
    pub incidents: Incidents,
    /// Members that joined after the founding.
    pub joins: u64,
    /// Comparisons of the replicas that came to their end.
    pub comparisons: u64,
    /// Requests answered, refused, and without an outcome.
    pub answered: u64,
    /// See `answered`.
    pub refused: u64,
    /// See `answered`.
    pub unknown: u64,
    /// Runs in which keys were given times to live.
    pub expiry: u64,
    /// Runs of these in which every time to live was longer than the tolerance that its end was judged with.
    pub expiry_judged: u64,
}

impl Counts {
    /// Every kind of fault, with how often it happened.
    pub fn kinds(&self) -> Vec<(String, u64)> {
        let faults = Fault::ALL.iter().zip(self.faults).map(|(fault, count)| (format!("{fault:?}"), count));
        let incidents = Incident::ALL.iter().zip(self.incidents.0).map(|(incident, count)| (format!("{incident:?}"), count));
        let work = [("Snapshot", self.snapshots), ("Join", self.joins), ("Comparison", self.comparisons)];
        faults.chain(incidents).chain(work.map(|(name, count)| (name.to_owned(), count))).collect()
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.elections += other.elections;
        self.snapshots += other.snapshots;
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
        self.incidents += other.incidents;
        self.joins += other.joins;
        self.comparisons += other.comparisons;
        self.answered += other.answered;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.expiry += other.expiry;
        self.expiry_judged += other.expiry_judged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_counted_at_its_place() {
        for (place, incident) in Incident::ALL.into_iter().enumerate() {
            assert_eq!(incident as usize, place, "{incident:?}");
        }
        for (place, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, place, "{fault:?}");
        }
    }
}
