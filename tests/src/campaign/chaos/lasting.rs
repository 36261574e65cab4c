//! Faults that last until they are healed: processes that are killed or paused, machines without power, and a network that fails. Two may
//! overlap, so each takes the group as it finds it; healing is one and the same for all. Each has to show that it took effect before it is
//! healed.

use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use super::deck::Mode;
use super::stage::{Missed, Stage, wait_until_some};
use crate::client::{Client, ClientError};
use crate::network::{Delay, Hold};

/// How long a hand lasts: from less to more than it takes to elect a leader.
const LASTS_MS: std::ops::Range<u64> = 1_000..4_000;
/// How long a pause lasts that others shall notice: two election timeouts and more.
const LONG_PAUSE_MS: std::ops::Range<u64> = 2_500..5_000;
/// How long a pause lasts that they need not notice.
const BRIEF_PAUSE_MS: std::ops::Range<u64> = 200..800;
/// How often connections are reset while that lasts.
const RESET_INTERVAL: Duration = Duration::from_millis(250);
/// How much longer a fault lasts if it has not met anything yet.
const EVIDENCE_MAX: Duration = Duration::from_secs(3);
/// How long a node that is not paused may take to answer a PING.
const ANSWER_MAX: Duration = Duration::from_millis(50);
/// What shows a pause.
const UNANSWERED: &str = "pauses without an answer";
/// How late the second of two faults may come, in milliseconds.
const SECOND_LATER_MS: std::ops::Range<u64> = 0..800;

/// What shows that a fault took effect.
#[derive(Debug)]
enum Evidence {
    /// It is there already: so many of these.
    Shown(&'static str, u64),
    /// In each of these directions, as links from and to, more bytes are held up than were before.
    Held { hold: Hold, directions: Vec<Vec<(usize, usize)>>, before: Vec<u64> },
    /// On this connection a paused node owes an answer, until it goes on.
    Silence(Client),
    /// Connections are reset while it lasts.
    Resets,
}

impl Stage {
    /// Begins faults one after the other, lets them last, and heals. What became of each.
    pub(super) fn play_lasting(&mut self, hand: &[Mode]) -> Vec<Result<(), Missed>> {
        let mut begun = Vec::new();
        for mode in hand {
            if !begun.is_empty() {
                self.sleep(SECOND_LATER_MS);
            }
            begun.push(self.begin(*mode));
        }
        let pauses = [Mode::PauseLeader, Mode::PauseFollower].iter().any(|pause| hand.contains(pause));
        let lasts = self.random.random_range(if pauses { LONG_PAUSE_MS } else { LASTS_MS });
        let until = Instant::now() + Duration::from_millis(lasts);
        let mut resets = 0;
        while Instant::now() < until || Instant::now() < until + EVIDENCE_MAX && self.awaits_evidence(&begun, resets) {
            if hand.contains(&Mode::Reset) {
                resets += self.reset_one();
            }
            thread::sleep(RESET_INTERVAL.min((until + EVIDENCE_MAX).saturating_duration_since(Instant::now())));
        }
        let results = hand.iter().zip(begun).map(|(mode, evidence)| self.conclude(*mode, evidence?, resets)).collect();
        self.heal();
        results
    }

    /// Whether a fault could still meet something.
    fn awaits_evidence(&self, begun: &[Result<Evidence, Missed>], resets: u64) -> bool {
        begun.iter().flatten().any(|evidence| match evidence {
            Evidence::Shown(..) | Evidence::Silence(_) => false,
            Evidence::Held { hold, directions, before } => self.held_since(*hold, directions, before).is_none(),
            Evidence::Resets => resets == 0,
        })
    }

    fn conclude(&mut self, mode: Mode, evidence: Evidence, resets: u64) -> Result<(), Missed> {
        let (what, count) = match evidence {
            Evidence::Shown(what, count) => (what, count),
            Evidence::Held { hold, directions, before } => {
                let bytes = self.held_since(hold, &directions, &before);
                ("bytes held", bytes.ok_or_else(|| Missed::because("nothing was held up in one of its directions"))?)
            }
            Evidence::Silence(mut asked) => {
                if !is_silent(&mut asked) {
                    return Err(Missed::because("the node answered while it was paused"));
                }
                (UNANSWERED, 1)
            }
            Evidence::Resets => ("connections reset", resets),
        };
        self.prove(mode, what, count);
        Ok(())
    }

    /// Bytes that links hold up, in each direction.
    fn held(&self, hold: Hold, directions: &[Vec<(usize, usize)>]) -> Vec<u64> {
        let network = self.cluster.network();
        directions.iter().map(|links| links.iter().map(|(from, to)| network.held(hold, *from, *to)).sum()).collect()
    }

    /// How many more these are by now; `None` if in one direction there are none.
    fn held_since(&self, hold: Hold, directions: &[Vec<(usize, usize)>], before: &[u64]) -> Option<u64> {
        let more: Vec<u64> = self.held(hold, directions).iter().zip(before).map(|(now, before)| now - before).collect();
        more.iter().all(|more| *more > 0).then(|| more.iter().sum())
    }

    fn will_hold(&self, hold: Hold, directions: Vec<Vec<(usize, usize)>>) -> Evidence {
        Evidence::Held { hold, before: self.held(hold, &directions), directions }
    }

    fn sleep(&mut self, range_ms: std::ops::Range<u64>) {
        thread::sleep(Duration::from_millis(self.random.random_range(range_ms)));
    }

    fn begin(&mut self, mode: Mode) -> Result<Evidence, Missed> {
        match mode {
            Mode::KillLeader => self.leader().map(|leader| self.kill(&[leader])),
            Mode::KillFollower => self.follower().map(|follower| self.kill(&[follower])),
            Mode::KillMajority => self.begin_kill_majority(),
            Mode::KillAll => {
                let active = self.active();
                Ok(self.kill(&active))
            }
            Mode::PowerCutOne => self.begin_power_cut_of_one(),
            Mode::PowerCut => {
                let members = self.members();
                Ok(self.cut_power(&members))
            }
            Mode::PauseLeader => self.leader().and_then(|leader| self.pause(leader)).map(Evidence::Silence),
            Mode::PauseLeaderBriefly => {
                let leader = self.leader()?;
                let mut asked = self.pause(leader)?;
                self.sleep(BRIEF_PAUSE_MS);
                let silent = is_silent(&mut asked);
                self.cluster[leader].resume();
                Ok(Evidence::Shown(UNANSWERED, silent.into()))
            }
            Mode::PauseFollower => self.follower().and_then(|follower| self.pause(follower)).map(Evidence::Silence),
            Mode::IsolateLeader => self.leader().map(|leader| self.split(&[leader])),
            Mode::IsolateFollower => self.follower().map(|follower| self.split(&[follower])),
            Mode::Split => self.begin_split(),
            Mode::CutOneWay => self.begin_cut_one_way(),
            Mode::Delay => Ok(self.begin_delay()),
            Mode::Stall => self.begin_stall(),
            Mode::Reset => Ok(Evidence::Resets),
            mode => unreachable!("{mode:?} does not last"),
        }
    }

    fn kill(&mut self, positions: &[usize]) -> Evidence {
        self.note(&format!("  killed: {positions:?}"));
        for position in positions {
            self.cluster[*position].kill();
        }
        Evidence::Shown("processes killed", positions.len() as u64)
    }

    /// The leader's machine, or any other that runs.
    fn begin_power_cut_of_one(&mut self) -> Result<Evidence, Missed> {
        let active = self.active();
        let leader = self.cluster.leader_now().filter(|_| self.random.random_bool(0.5));
        let position = leader.or_else(|| active.choose(&mut self.random).copied());
        Ok(self.cut_power(&[position.ok_or_else(|| Missed::because("no node runs"))?]))
    }

    /// Also of nodes that were killed: their machines ran. A cut that takes nothing from any disk is no more than a kill.
    fn cut_power(&mut self, positions: &[usize]) -> Evidence {
        self.check_processes();
        for position in positions {
            if self.cluster[*position].is_started() {
                self.cluster[*position].kill();
            }
        }
        let mut lost = 0;
        for position in positions {
            let changes = self.cluster.disk(*position).cut_with_loss(&mut self.random).len();
            self.note(&format!("  without power: {position}; {changes} files and names have lost something"));
            lost += changes as u64;
        }
        Evidence::Shown("files and names that lost something", lost)
    }

    /// Pauses a node; a connection on which it owes an answer.
    fn pause(&mut self, position: usize) -> Result<Client, Missed> {
        let asked = self.client(position).ok_or_else(|| Missed::because("the node takes no connection"))?;
        let mut asked = asked.with_patience(ANSWER_MAX);
        self.note(&format!("  paused: {position}"));
        self.cluster[position].pause();
        // Its threads may run on for a moment.
        let silent = wait_until_some(ANSWER_MAX * 20, || {
            asked.queue(&["PING"]);
            asked.flush().ok().filter(|()| is_silent(&mut asked))
        });
        silent.map(|()| asked).ok_or_else(|| Missed::because("the paused node goes on answering"))
    }

    fn split(&mut self, side: &[usize]) -> Evidence {
        self.note(&format!("  cut off: {side:?}"));
        let others = self.cluster.positions().filter(|other| !side.contains(other));
        let out: Vec<(usize, usize)> = others.flat_map(|other| side.iter().map(move |inside| (*inside, other))).collect();
        let back = out.iter().map(|(inside, outside)| (*outside, *inside)).collect();
        let evidence = self.will_hold(Hold::Cut, vec![out, back]);
        self.cluster.network().split(side);
        evidence
    }

    fn begin_kill_majority(&mut self) -> Result<Evidence, Missed> {
        let mut voters = self.voters()?;
        voters.shuffle(&mut self.random);
        voters.truncate(self.factor / 2 + 1);
        if voters.len() <= self.factor / 2 {
            return Err(Missed::because("a majority is down already"));
        }
        Ok(self.kill(&voters))
    }

    /// A minority of the voters, and any of the others with it.
    fn begin_split(&mut self) -> Result<Evidence, Missed> {
        let voters = self.voters()?;
        let mut side: Vec<usize> = voters.sample(&mut self.random, self.factor / 2).copied().collect();
        let others: Vec<usize> = self.members().into_iter().filter(|position| !voters.contains(position)).collect();
        for other in others {
            if self.random.random_bool(0.5) {
                side.push(other);
            }
        }
        Ok(self.split(&side))
    }

    /// From all others to the leader, from the leader to all others, or from one node to another.
    fn begin_cut_one_way(&mut self) -> Result<Evidence, Missed> {
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
        let evidence = self.will_hold(Hold::Cut, vec![links.clone()]);
        for (from, to) in links {
            self.cluster.network().cut(from, to);
        }
        Ok(evidence)
    }

    fn begin_delay(&mut self) -> Evidence {
        let delay = Delay {
            min: Duration::from_millis(self.random.random_range(5..120)),
            jitter: Duration::from_millis(self.random.random_range(0..120)),
        };
        self.note(&format!("  everything arrives later: {delay:?}"));
        let positions = self.cluster.positions();
        let links: Vec<(usize, usize)> =
            positions.flat_map(|from| self.cluster.others(from).into_iter().map(move |to| (from, to))).collect();
        let evidence = self.will_hold(Hold::Delay, vec![links.clone()]);
        for (from, to) in links {
            self.cluster.network().delay(from, to, delay);
        }
        evidence
    }

    fn begin_stall(&mut self) -> Result<Evidence, Missed> {
        let leader = self.leader()?;
        let bytes_per_second = *[2_000, 20_000, 200_000].choose(&mut self.random).expect("there are rates");
        self.note(&format!("  {bytes_per_second} bytes a second from {leader}"));
        let others = self.cluster.others(leader);
        let evidence = self.will_hold(Hold::Stall, vec![others.iter().map(|other| (leader, *other)).collect()]);
        for other in others {
            self.cluster.network().stall(leader, other, bytes_per_second);
        }
        Ok(evidence)
    }

    /// Resets the connections of a member, and says how many those were.
    fn reset_one(&mut self) -> u64 {
        let members = self.members();
        let position = *members.choose(&mut self.random).expect("there are members");
        self.cluster.network().reset(position) as u64
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

/// Whether a node leaves something unanswered that it has been asked.
fn is_silent(asked: &mut Client) -> bool {
    matches!(asked.receive(), Err(ClientError::TimedOut(_)))
}

/// A part of healing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Network,
    Paused,
    Down,
}
