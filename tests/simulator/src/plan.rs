//! What a seed decides before the run begins: sizes, and which faults there are and how often (swarm testing: Groce et al., ISSTA 2012).
//! Each seed has a random subset of the faults, since some bugs hide behind others' faults. Times in milliseconds, rates per second.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use redraft::node::core::BATCH_BYTES;

/// Wall clocks step by up to this, where their steps are small: keys can outlive such a difference.
const SMALL_STEP_MS: i64 = 300;

/// The sizes of nodes: small, so that every bound is reached often.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Ticks of an election timeout.
    pub election_ticks: usize,
    /// Bytes of entries in an append message.
    pub append_bytes_max: u64,
    /// Bytes of committed entries handed out at once.
    pub committed_bytes_max: u64,
    /// Bytes of runs in an entry.
    pub entry_bytes_max: usize,
    /// Bytes of changes after which apply writes a batch.
    pub batch_bytes: usize,
    /// Bytes of log after which half of it is truncated.
    pub log_bytes_max: usize,
    /// Voters wanted.
    pub replication_factor: usize,
    /// A leader whose clock is off by more resigns.
    pub clock_skew_max_ms: u64,
    /// Silence after which a member counts as dead, in ms.
    pub silence_max_ms: u64,
    /// How long a voter may be gone before a learner takes its place, in ms.
    pub replace_after_ms: Option<u64>,
}

/// How often a fault happens, per second of simulated time; 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// A machine loses power.
    pub crash: f64,
    /// All machines lose power at once.
    pub crash_all: f64,
    /// A machine stands still.
    pub pause: f64,
    /// Machines are cut off from each other, in one direction or both.
    pub partition: f64,
    /// Connections between two machines break.
    pub reset: f64,
    /// A machine gets new disks.
    pub wipe: f64,
    /// The log's disk loses what was synced.
    pub lost_tail: f64,
    /// A member is removed.
    pub removal: f64,
    /// Leadership is handed over.
    pub transfer: f64,
    /// A wall clock steps.
    pub clock_step: f64,
    /// A machine's disks and processor become slow, or fast again.
    pub slowness: f64,
    /// The replicas are compared; no fault, but it must do no harm.
    pub verify: f64,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of everything.
    pub seed: u64,
    /// Machines that found the cluster.
    pub founders: usize,
    /// Machines that join it.
    pub joiners: usize,
    /// Sizes of the nodes.
    pub sizes: Sizes,
    /// Faults.
    pub rates: Rates,
    /// One unit of Raft's time.
    pub tick_ms: u64,
    /// Longest usual delay of a frame.
    pub delay_ms: u64,
    /// Share of frames on raft's lanes that are lost, that arrive twice, and that overtake others.
    pub loss: f64,
    /// See `loss`.
    pub duplication: f64,
    /// See `loss`.
    pub reordering: f64,
    /// Share of snapshots whose transfer breaks off.
    pub broken_snapshots: f64,
    /// Longest usual sync.
    pub sync_ms: u64,
    /// Wall clocks differ by up to this from the start.
    pub skew_ms: i64,
    /// Steps of wall clocks are up to this.
    pub step_ms: i64,
    /// Clients per machine.
    pub clients: usize,
    /// Pause of a client between two requests.
    pub think_ms: u64,
    /// Keys used at a time.
    pub keys: usize,
    /// Share of requests that set a deadline.
    pub expiry: f64,
    /// Every time to live is longer than this.
    pub ttl_ms: u64,
    /// Whether there are commands on several keys.
    pub has_several: bool,
    /// Length of the time with faults.
    pub faults_ms: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x7265_6472_6166_7400);
        let random = &mut random;
        let founders = *[1, 2, 3, 3, 3, 3, 5].choose(random).expect("not empty");
        let joiners = if founders < 5 { *[0, 1, 2, 2].choose(random).expect("not empty") } else { 0 };
        let mut rate = |likely: f64, seconds: f64| {
            let is_on = random.random_bool(likely);
            if is_on { random.random_range(0.5..1.5) / seconds } else { 0.0 }
        };
        let rates = Rates {
            crash: rate(0.6, 2.0),
            crash_all: rate(0.2, 6.0),
            pause: rate(0.4, 3.0),
            partition: rate(0.6, 2.0),
            reset: rate(0.5, 1.0),
            wipe: rate(0.3, 5.0),
            lost_tail: rate(0.25, 3.0),
            removal: rate(0.3, 5.0),
            transfer: rate(0.4, 2.0),
            clock_step: rate(0.3, 3.0),
            slowness: rate(0.3, 3.0),
            verify: rate(0.5, 2.0),
        };
        let mut share = |likely: f64, most: f64| if random.random_bool(likely) { random.random_range(0.0..most) } else { 0.0 };
        let (loss, duplication, reordering) = (share(0.4, 0.1), share(0.4, 0.1), share(0.4, 0.1));
        let (broken_snapshots, expiry) = (share(0.5, 0.6), share(0.6, 0.4));
        let tick_ms = random.random_range(10..=50);
        let mut plan = Self {
            seed,
            founders,
            joiners,
            sizes: Sizes {
                election_ticks: 20,
                append_bytes_max: *[200, 2_000, 100_000].choose(random).expect("not empty"),
                committed_bytes_max: *[300, 3_000, 100_000].choose(random).expect("not empty"),
                entry_bytes_max: *[50, 400, 5_000].choose(random).expect("not empty"),
                batch_bytes: BATCH_BYTES,
                log_bytes_max: *[2_000, 5_000, 20_000, 1_000_000].choose(random).expect("not empty"),
                replication_factor: *[1, 3, 3, 5, 5].choose(random).expect("not empty"),
                clock_skew_max_ms: 500,
                silence_max_ms: 40 * tick_ms,
                replace_after_ms: [None, Some(100 * tick_ms)][usize::from(random.random_bool(0.3))],
            },
            rates,
            tick_ms,
            delay_ms: random.random_range(1..=tick_ms * 2),
            loss,
            duplication,
            reordering,
            broken_snapshots,
            sync_ms: *[1, 5, 20, 60].choose(random).expect("not empty"),
            skew_ms: *[0, 100, 450].choose(random).expect("not empty"),
            step_ms: *[SMALL_STEP_MS, 5_000, 100_000].choose(random).expect("not empty"),
            clients: random.random_range(1..=3),
            think_ms: *[5, 20, 100].choose(random).expect("not empty"),
            keys: random.random_range(2..=5) + (founders + joiners),
            expiry,
            ttl_ms: 0,
            faults_ms: random.random_range(8_000..20_000),
            has_several: random.random_bool(0.3),
        };
        // Drawn last, so that the rest of a seed's plan is what it was before there was this.
        plan.sizes.batch_bytes = *[64, 1_024, BATCH_BYTES].choose(random).expect("not empty");
        if plan.expiry == 0.0 && random.random_bool(0.6) {
            plan.expiry = random.random_range(0.05..0.4);
        }
        plan.ttl_ms = plan.expected_tolerance_ms();
        plan
    }

    /// What two leaders' times may differ by, so that keys are to live for longer. Large steps of clocks differ by more than any key should
    /// live: with them keys live as long as with clocks that agree, and when they go is judged by little.
    fn expected_tolerance_ms(&self) -> u64 {
        let has_steps = self.rates.clock_step > 0.0;
        match self.step_ms {
            SMALL_STEP_MS if has_steps => 2 * (self.skew_ms + SMALL_STEP_MS).unsigned_abs(),
            _ if has_steps => 0,
            _ => 2 * self.skew_ms.unsigned_abs(),
        }
    }

    /// Machines altogether.
    pub fn machines(&self) -> usize {
        self.founders + self.joiners
    }
}
