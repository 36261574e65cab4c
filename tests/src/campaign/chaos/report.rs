//! What a campaign has done and seen, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::clients::{Journal, Trouble};
use super::deck::Mode;

/// A hand that was played.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    pub(super) modes: Vec<Mode>,
    /// From the first fault until all was well, since the start of the campaign.
    pub(super) began: Duration,
    pub(super) ended: Duration,
    /// From the end of the last fault until all was well.
    pub(super) recovered: Duration,
}

/// What showed that a mode took effect, and how many of these there were.
pub(super) type Proofs = BTreeMap<&'static str, u64>;

/// A mode in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// How often it happened.
    pub times: usize,
    /// How often it was dealt and did not happen.
    pub missed: usize,
    /// What showed that it happened.
    pub proofs: Proofs,
    /// Commands that clients of the history sent again in its hands, since they were certainly not executed.
    pub retries: u64,
    /// Commands that may have been executed, in its hands.
    pub unknown: u64,
    /// Longest time without an answer to any client of the history, in its hands.
    pub longest_gap: Duration,
    /// Longest time from the end of the fault until every node served.
    pub longest_recovery: Duration,
}

/// The coverage table and the figures of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Replays what was dealt.
    pub seed: u64,
    /// Length of the run.
    pub duration: Duration,
    /// Modes that were in the deck.
    pub rows: BTreeMap<Mode, Row>,
    /// Terms that began.
    pub terms: u64,
    /// Raft snapshots that were installed.
    pub snapshots: usize,
    /// Operations of the history that have an answer.
    pub operations: usize,
    /// Keys of the history.
    pub history_keys: usize,
    /// Keys that were seen to expire.
    pub expiries: u64,
    /// Commands that were certainly not executed, and sent again.
    pub retries: u64,
    /// Commands that may have been executed.
    pub unknown: u64,
    /// Connections that no node took.
    pub unreachable: u64,
    /// Acknowledged writes of the ledger, all of which were there.
    pub acknowledged: u64,
    /// Keys that all replicas agree about.
    pub keys: u64,
    /// Longest time without an answer to any client of the history.
    pub longest_gap: Duration,
    /// From the end of the last fault until every node served.
    pub last_recovery: Duration,
}

impl Row {
    /// Counts one time more.
    pub(super) fn add(&mut self, proofs: &Proofs) {
        self.times += 1;
        for (what, count) in proofs {
            *self.proofs.entry(what).or_default() += count;
        }
    }
}

impl Report {
    /// Modes that were dealt and never happened.
    #[must_use]
    pub fn missing(&self) -> Vec<Mode> {
        self.rows.iter().filter(|(_, row)| row.times == 0).map(|(mode, _)| *mode).collect()
    }

    /// Adds what hands say, with the gaps of the history in their time.
    pub(super) fn add_hands(&mut self, hands: &[Hand], journal: &Journal) {
        let gaps = gaps(journal);
        self.longest_gap = gaps.iter().map(|(from, to)| *to - *from).max().unwrap_or_default();
        self.retries = journal.troubles(Trouble::NotExecuted, Duration::ZERO..Duration::MAX);
        self.unknown = journal.troubles(Trouble::Unknown, Duration::ZERO..Duration::MAX);
        self.unreachable = journal.troubles(Trouble::Unreachable, Duration::ZERO..Duration::MAX);
        for hand in hands {
            // Of a gap, the part that lies in the hand.
            let inside = gaps.iter().map(|(from, to)| (*to).min(hand.ended).saturating_sub((*from).max(hand.began)));
            let gap = inside.max().unwrap_or_default();
            let [retries, unknown] =
                [Trouble::NotExecuted, Trouble::Unknown].map(|trouble| journal.troubles(trouble, hand.began..hand.ended));
            for mode in &hand.modes {
                let row = self.rows.entry(*mode).or_default();
                row.retries += retries;
                row.unknown += unknown;
                row.longest_gap = row.longest_gap.max(gap);
                row.longest_recovery = row.longest_recovery.max(hand.recovered);
            }
        }
    }
}

/// Times between two answers, in order.
fn gaps(journal: &Journal) -> Vec<(Duration, Duration)> {
    let mut answers: Vec<u64> = journal.answers().collect();
    answers.sort_unstable();
    answers.windows(2).map(|pair| (Duration::from_nanos(pair[0]), Duration::from_nanos(pair[1]))).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let heads = ["times", "missed", "retries", "unknown", "longest gap", "recovery"];
        let [times, missed, retries, unknown, gap, recovery] = heads;
        writeln!(out, "{:<28} {times:>6} {missed:>7} {retries:>8} {unknown:>8} {gap:>12} {recovery:>12}  shown by", "mode")?;
        for (mode, row) in &self.rows {
            let Row { times, missed, retries, unknown, .. } = row;
            let (gap, recovery) = (seconds(row.longest_gap), seconds(row.longest_recovery));
            let proofs: Vec<String> = row.proofs.iter().map(|(what, count)| format!("{what} {count}")).collect();
            write!(out, "{:<28} {times:>6} {missed:>7} {retries:>8} {unknown:>8} {gap:>12} {recovery:>12}", mode.name())?;
            writeln!(out, "  {}", proofs.join(", "))?;
        }
        let rows: [(&str, &dyn fmt::Display); 14] = [
            ("seed", &self.seed),
            ("length", &seconds(self.duration)),
            ("terms that began", &self.terms),
            ("Raft snapshots installed", &self.snapshots),
            ("operations with an answer", &self.operations),
            ("keys of the history", &self.history_keys),
            ("keys seen to expire", &self.expiries),
            ("retries: not executed", &self.retries),
            ("outcome unknown", &self.unknown),
            ("connections not taken", &self.unreachable),
            ("acknowledged and there", &self.acknowledged),
            ("keys on all replicas", &self.keys),
            ("longest time without answer", &seconds(self.longest_gap)),
            ("recovery after last fault", &seconds(self.last_recovery)),
        ];
        rows.iter().try_for_each(|(name, value)| writeln!(out, "{name:<28} {value}"))
    }
}
