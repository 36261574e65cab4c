//! The modes of a campaign, as cards: a shuffled deck has each once, so that every mode happens within a run, in another order and company
//! for every seed.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// A way in which a cluster is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// SIGKILL to the leader.
    KillLeader,
    /// SIGKILL to a voter that follows.
    KillFollower,
    /// SIGKILL to a majority of the voters.
    KillMajority,
    /// SIGKILL to all nodes.
    KillAll,
    /// A machine loses its power: SIGKILL to its node, and a random part of what was not synced is gone.
    PowerCutOne,
    /// All machines lose their power.
    PowerCut,
    /// SIGSTOP to the leader, for longer than it takes to elect another one.
    PauseLeader,
    /// SIGSTOP to the leader, for less than an election timeout.
    PauseLeaderBriefly,
    /// SIGSTOP to a voter that follows.
    PauseFollower,
    /// Nothing passes between the leader and all others.
    IsolateLeader,
    /// Nothing passes between a voter that follows and all others.
    IsolateFollower,
    /// Nothing passes between a majority of the voters and the rest.
    Split,
    /// Nothing passes from one node to another, or from all others to the leader; the way back is open.
    CutOneWay,
    /// Everything between the nodes arrives later.
    Delay,
    /// Little passes from the leader to the others.
    Stall,
    /// Connections between the nodes are reset, again and again.
    Reset,
    /// The clock of a node jumps ahead, and back again.
    ClockForward,
    /// The clock of a node falls back, and catches up again.
    ClockBack,
    /// The clock of a node is a little off, less than is noticed.
    ClockSkew,
    /// The disk of a node is full for a while.
    DiskFull,
    /// A node loses its data directory.
    WipeDirectory,
    /// A node gets an old copy of its data directory.
    RestoreOldCopy,
    /// Two nodes get each other's directory `data`.
    SwapHalves,
    /// Two nodes get each other's data directory.
    SwapDirectories,
    /// Bits of a file are flipped.
    FlipBits,
    /// A file ends too early.
    TruncateFile,
    /// A part of a file is zeroes.
    ZeroFile,
    /// Leadership is transferred, again and again.
    TransferLeadership,
    /// A node joins.
    AddNode,
    /// A node is removed.
    RemoveNode,
    /// All nodes are restarted in order, one after the other.
    RollingRestart,
    /// A node is so far behind that it gets a Raft snapshot.
    Snapshot,
    /// A node is killed while it gets a Raft snapshot, or while it sends one.
    KillDuringSnapshot,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 33] = [
        Self::KillLeader,
        Self::KillFollower,
        Self::KillMajority,
        Self::KillAll,
        Self::PowerCutOne,
        Self::PowerCut,
        Self::PauseLeader,
        Self::PauseLeaderBriefly,
        Self::PauseFollower,
        Self::IsolateLeader,
        Self::IsolateFollower,
        Self::Split,
        Self::CutOneWay,
        Self::Delay,
        Self::Stall,
        Self::Reset,
        Self::ClockForward,
        Self::ClockBack,
        Self::ClockSkew,
        Self::DiskFull,
        Self::WipeDirectory,
        Self::RestoreOldCopy,
        Self::SwapHalves,
        Self::SwapDirectories,
        Self::FlipBits,
        Self::TruncateFile,
        Self::ZeroFile,
        Self::TransferLeadership,
        Self::AddNode,
        Self::RemoveNode,
        Self::RollingRestart,
        Self::Snapshot,
        Self::KillDuringSnapshot,
    ];

    /// How the coverage table names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KillLeader => "kill the leader",
            Self::KillFollower => "kill a follower",
            Self::KillMajority => "kill a majority",
            Self::KillAll => "kill all",
            Self::PowerCutOne => "power cut of one",
            Self::PowerCut => "power cut of all",
            Self::PauseLeader => "pause the leader",
            Self::PauseLeaderBriefly => "pause the leader briefly",
            Self::PauseFollower => "pause a follower",
            Self::IsolateLeader => "isolate the leader",
            Self::IsolateFollower => "isolate a follower",
            Self::Split => "split off a minority",
            Self::CutOneWay => "cut one way",
            Self::Delay => "delay",
            Self::Stall => "stall",
            Self::Reset => "reset connections",
            Self::ClockForward => "clock forward",
            Self::ClockBack => "clock back",
            Self::ClockSkew => "clock skew",
            Self::DiskFull => "disk full",
            Self::WipeDirectory => "wipe a directory",
            Self::RestoreOldCopy => "restore an old copy",
            Self::SwapHalves => "swap halves of directories",
            Self::SwapDirectories => "swap directories",
            Self::FlipBits => "damage: flip bits",
            Self::TruncateFile => "damage: truncate",
            Self::ZeroFile => "damage: zeroes",
            Self::TransferLeadership => "transfer leadership",
            Self::AddNode => "add a node",
            Self::RemoveNode => "remove a node",
            Self::RollingRestart => "rolling restart",
            Self::Snapshot => "snapshot",
            Self::KillDuringSnapshot => "kill during a snapshot",
        }
    }

    /// Whether it lasts until it is healed, and so may meet another one. The others go from a healthy group to a healthy group by
    /// themselves and bear no company: they take something away that the group needs for the time, or rely on the order of their steps.
    #[must_use]
    pub const fn lasts(self) -> bool {
        match self {
            Self::KillLeader
            | Self::KillFollower
            | Self::KillMajority
            | Self::KillAll
            | Self::PowerCutOne
            | Self::PowerCut
            | Self::PauseLeader
            | Self::PauseLeaderBriefly
            | Self::PauseFollower
            | Self::IsolateLeader
            | Self::IsolateFollower
            | Self::Split
            | Self::CutOneWay
            | Self::Delay
            | Self::Stall
            | Self::Reset => true,
            Self::ClockForward
            | Self::ClockBack
            | Self::ClockSkew
            | Self::DiskFull
            | Self::WipeDirectory
            | Self::RestoreOldCopy
            | Self::SwapHalves
            | Self::SwapDirectories
            | Self::FlipBits
            | Self::TruncateFile
            | Self::ZeroFile
            | Self::TransferLeadership
            | Self::AddNode
            | Self::RemoveNode
            | Self::RollingRestart
            | Self::Snapshot
            | Self::KillDuringSnapshot => false,
        }
    }
}

/// Cards that are left.
#[derive(Debug)]
pub(super) struct Deck {
    cards: Vec<Mode>,
}

impl Deck {
    /// These modes, shuffled.
    pub(super) fn shuffled(modes: &[Mode], random: &mut StdRng) -> Self {
        let mut cards = modes.to_vec();
        cards.shuffle(random);
        Self { cards }
    }

    /// The next mode, or, half of the time where they may, the next two; empty when the deck is.
    pub(super) fn deal(&mut self, random: &mut StdRng) -> Vec<Mode> {
        let mut hand: Vec<Mode> = self.cards.pop().into_iter().collect();
        if hand.iter().all(|mode| mode.lasts())
            && random.random_bool(0.5)
            && let Some(place) = self.cards.iter().rposition(|mode| mode.lasts())
        {
            hand.push(self.cards.remove(place));
        }
        hand
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_mode_is_dealt_once_and_the_seed_decides_how() {
        let hands = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            let mut deck = Deck::shuffled(&Mode::ALL, &mut random);
            let hands: Vec<Vec<Mode>> = std::iter::from_fn(|| Some(deck.deal(&mut random)).filter(|hand| !hand.is_empty())).collect();
            hands
        };
        for seed in 0..20 {
            let dealt = hands(seed);
            assert_eq!(dealt, hands(seed));
            assert!(dealt.iter().all(|hand| hand.len() == 1 || hand.iter().all(|mode| mode.lasts())));
            let modes: Vec<Mode> = dealt.concat();
            assert_eq!((modes.len(), modes.into_iter().collect::<BTreeSet<_>>().len()), (Mode::ALL.len(), Mode::ALL.len()));
        }
        assert_ne!(hands(1), hands(2));
    }

    #[test]
    fn names_tell_modes_apart() {
        let names: BTreeSet<&str> = Mode::ALL.iter().map(|mode| mode.name()).collect();
        assert_eq!(names.len(), Mode::ALL.len());
    }
}
