//! Faults that last until they are healed: processes that are killed or paused, and a network that fails. Two may overlap, so each takes the
//! group as it finds it; healing is one and the same for all.

use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use super::deck::Mode;
use super::stage::{Missed, Stage};
use crate::network::Delay;

/// How long a hand lasts: from less to more than it takes to elect a leader.
const LASTS_MS: std::ops::Range<u64> = 1_000..4_000;
/// How long a pause lasts that others shall notice: two election timeouts and more.
const LONG_PAUSE_MS: std::ops::Range<u64> = 2_500..5_000;
/// How long a pause lasts that they need not notice.
const BRIEF_PAUSE_MS: std::ops::Range<u64> = 200..800;
/// How often connections are reset while that lasts.
const RESET_INTERVAL: Duration = Duration::from_millis(250);
/// How late the second of two faults may come, in milliseconds.
const SECOND_LATER_MS: std::ops::Range<u64> = 0..800;

impl Stage {
    /// Begins faults one after the other, lets them last, and heals. What became of each.
    pub(super) fn play_lasting(&mut self, hand: &[Mode]) -> Vec<Result<(), Missed>> {
        let mut results = Vec::new();
        for mode in hand {
            if !results.is_empty() {
                self.sleep(SECOND_LATER_MS);
            }
            results.push(self.begin(*mode));
        }
        let pauses = [Mode::PauseLeader, Mode::PauseFollower].iter().any(|pause| hand.contains(pause));
        let lasts = self.random.random_range(if pauses { LONG_PAUSE_MS } else { LASTS_MS });
        let until = Instant::now() + Duration::from_millis(lasts);
        while Instant::now() < until {
            if hand.contains(&Mode::Reset) {
                self.reset_one();
            }
            thread::sleep(RESET_INTERVAL.min(until.saturating_duration_since(Instant::now())));
        }
        self.heal();
        results
    }

    fn sleep(&mut self, range_ms: std::ops::Range<u64>) {
        thread::sleep(Duration::from_millis(self.random.random_range(range_ms)));
    }

    fn begin(&mut self, mode: Mode) -> Result<(), Missed> {
        match mode {
            Mode::KillLeader => self.leader().map(|leader| self.kill(&[leader])),
            Mode::KillFollower => self.follower().map(|follower| self.kill(&[follower])),
            Mode::KillMajority => self.begin_kill_majority(),
            Mode::KillAll => {
                let active = self.active();
                self.kill(&active);
                Ok(())
            }
            Mode::PauseLeader => self.leader().map(|leader| self.pause(leader)),
            Mode::PauseLeaderBriefly => {
                let leader = self.leader()?;
                self.pause(leader);
                self.sleep(BRIEF_PAUSE_MS);
                self.cluster[leader].resume();
                Ok(())
            }
            Mode::PauseFollower => self.follower().map(|follower| self.pause(follower)),
            Mode::IsolateLeader => self.leader().map(|leader| self.split(&[leader])),
            Mode::IsolateFollower => self.follower().map(|follower| self.split(&[follower])),
            Mode::Split => self.begin_split(),
            Mode::CutOneWay => self.begin_cut_one_way(),
            Mode::Delay => {
                self.begin_delay();
                Ok(())
            }
            Mode::Stall => self.begin_stall(),
            Mode::Reset => {
                self.reset_one();
                Ok(())
            }
            mode => unreachable!("{mode:?} does not last"),
        }
    }

    fn kill(&mut self, positions: &[usize]) {
        self.note(&format!("  killed: {positions:?}"));
        for position in positions {
            self.cluster[*position].kill();
        }
    }

    fn pause(&mut self, position: usize) {
        self.note(&format!("  paused: {position}"));
        self.cluster[position].pause();
    }

    fn split(&mut self, side: &[usize]) {
        self.note(&format!("  cut off: {side:?}"));
        self.cluster.network().split(side);
    }

    fn begin_kill_majority(&mut self) -> Result<(), Missed> {
        let mut voters = self.voters()?;
        voters.shuffle(&mut self.random);
        voters.truncate(self.factor / 2 + 1);
        if voters.len() <= self.factor / 2 {
            return Err(Missed::because("a majority is down already"));
        }
        self.kill(&voters);
        Ok(())
    }

    /// A minority of the voters, and any of the others with it.
    fn begin_split(&mut self) -> Result<(), Missed> {
        let voters = self.voters()?;
        let mut side: Vec<usize> = voters.sample(&mut self.random, self.factor / 2).copied().collect();
        let others: Vec<usize> = self.members().into_iter().filter(|position| !voters.contains(position)).collect();
        for other in others {
            if self.random.random_bool(0.5) {
                side.push(other);
            }
        }
        self.split(&side);
        Ok(())
    }

    /// From all others to the leader, from the leader to all others, or from one node to another.
    fn begin_cut_one_way(&mut self) -> Result<(), Missed> {
        let voters = self.voters()?;
        let leader = voters[0];
        let others = self.cluster.others(leader);
        let links: Vec<(usize, usize)> = match self.random.random_range(0..3) {
            0 => others.iter().map(|other| (*other, leader)).collect(),
            1 => others.iter().map(|other| (leader, *other)).collect(),
            _ => {
                let two: Vec<usize> = voters.sample(&mut self.random, 2).copied().collect();
                let [from, to] = two.try_into().map_err(|_| Missed::because("there are no two voters"))?;
                vec![(from, to)]
            }
        };
        self.note(&format!("  cut, from and to: {links:?}"));
        for (from, to) in links {
            self.cluster.network().cut(from, to);
        }
        Ok(())
    }

    fn begin_delay(&mut self) {
        let delay = Delay {
            min: Duration::from_millis(self.random.random_range(5..120)),
            jitter: Duration::from_millis(self.random.random_range(0..120)),
        };
        self.note(&format!("  everything arrives later: {delay:?}"));
        for from in self.cluster.positions() {
            for to in self.cluster.others(from) {
                self.cluster.network().delay(from, to, delay);
            }
        }
    }

    fn begin_stall(&mut self) -> Result<(), Missed> {
        let leader = self.leader()?;
        let bytes_per_second = *[2_000, 20_000, 200_000].choose(&mut self.random).expect("there are rates");
        self.note(&format!("  {bytes_per_second} bytes a second from {leader}"));
        for other in self.cluster.others(leader) {
            self.cluster.network().stall(leader, other, bytes_per_second);
        }
        Ok(())
    }

    fn reset_one(&mut self) {
        let members = self.members();
        let position = *members.choose(&mut self.random).expect("there are members");
        self.cluster.network().reset(position);
    }

    /// Undoes everything, in any order.
    fn heal(&mut self) {
        let mut steps = [Step::Network, Step::Paused, Step::Down];
        steps.shuffle(&mut self.random);
        self.note(&format!("  healed: {steps:?}"));
        for step in steps {
            match step {
                Step::Network => self.cluster.network().heal(),
                Step::Paused => {
                    for position in self.members() {
                        if self.cluster[position].is_paused() {
                            self.cluster[position].resume();
                        }
                    }
                }
                Step::Down => {
                    self.check_processes();
                    for position in self.members() {
                        if !self.cluster[position].is_started() {
                            self.cluster.start_node(position);
                        }
                    }
                }
            }
        }
    }
}

/// A part of healing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Network,
    Paused,
    Down,
}
