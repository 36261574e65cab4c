//! Everything that can go wrong, dealt from a shuffled deck to a cluster under load: processes, power, network, clocks, disks, directories, members.
//! Clients on all nodes record a history, and a ledger of what was acknowledged. After each hand all must be well again within a bound, and
//! the replicas hold the same; at the end the history must be linearizable, nothing acknowledged may be missing, and a client must read the
//! same from each replica. A fault that cannot show that it took effect has not happened. Only what leaves a majority recoverable is dealt:
//! at most one node at a time loses data.
//! The seed decides what is dealt and to whom, not what the processes make of it. `deck` has the modes, `stage` the cluster; `lasting`,
//! `clocks`, `full_disk`, `directories`, `damage` and `members` carry the modes out; `clients` make the history, `wire` is how they speak,
//! `replicas` compares, and `report` counts.

mod clients;
mod clocks;
mod damage;
mod deck;
mod directories;
mod full_disk;
mod lasting;
mod members;
mod replicas;
mod report;
mod stage;
mod wire;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use self::clients::{Clients, ClientsPlan, Journal};
use self::deck::Deck;
pub use self::deck::Mode;
use self::report::Hand;
pub use self::report::{Report, Row};
use self::stage::{CLIENT_PATIENCE, Missed, Stage};
use crate::linearizability::{self, Limits, Recorded, Violation, multi};
use crate::load::{Load, LoadPlan, Record, Shape};
use crate::wait::PATIENCE;

/// Clients of the history.
const CLIENTS: usize = 12;
/// Pause of the ledger's writers.
const LEDGER_PAUSE: Duration = Duration::from_millis(5);
/// How often the modes that did not happen are dealt again.
const ATTEMPTS: usize = 4;
/// The load alone, before the first hand and after the last.
const UNDISTURBED: Duration = Duration::from_millis(1_000);
/// How far expiry may be from a key's time to live: the leader's clock is trusted up to `clock-skew-max`, and while log time is ahead of
/// it, it advances at half the rate.
const EXPIRY_TOLERANCE: Duration = Duration::from_millis(1_500);
/// Within this time a key expires in the sight of a client: several do on average.
const EXPIRES_WITHIN: Duration = Duration::from_secs(60);

/// A campaign to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes that are members; one more comes and goes.
    pub nodes: usize,
    /// Decides what is dealt.
    pub seed: u64,
    /// Decks are dealt for as long as this; the first one is dealt to its end.
    pub duration: Duration,
    /// The deck.
    pub modes: Vec<Mode>,
    /// How long it may take until every node serves after the last fault.
    pub recovery_max: Duration,
}

/// Runs the campaign.
/// # Panics
/// A promise is broken, or a mode did not happen. The logs of the nodes, the timeline and the history are kept, and their place is printed.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    let mut stage = Stage::start(plan);
    let dir = stage.cluster.dir().to_owned();
    stage.note(&format!("seed {}, {} nodes, files in {}", plan.seed, plan.nodes, dir.display()));
    replicas::settle(&mut stage.cluster.client(0));
    let addresses = stage.cluster.addresses();
    let clients = Clients::start(&ClientsPlan {
        origin: stage.origin,
        addresses: addresses.clone(),
        count: CLIENTS,
        patience: CLIENT_PATIENCE,
        seed: plan.seed,
    });
    let ledger = |name: &str, shape| Load::start(&LoadPlan { name: name.to_owned(), addresses: addresses.clone(), workers: 2, shape });
    let ledgers = [ledger("ledger", Shape::Paced(LEDGER_PAUSE)), ledger("ledger-deep", Shape::Pipelined(2))];

    let mut report = Report { seed: plan.seed, ..Report::default() };
    let mut hands = Vec::new();
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut stage, plan, &mut report, &mut hands)));
    stage.release();
    let journal = clients.stop();
    let records = ledgers.map(Load::stop);
    let judged = played.and_then(|()| catch_unwind(AssertUnwindSafe(|| judge(&mut stage, &journal, &records, &mut report))));
    report.add_hands(&hands, &journal);
    report.duration = stage.origin.elapsed();
    if let Err(panic) = judged {
        eprintln!("{report}");
        keep(&dir, &journal);
        eprintln!("the campaign failed: seed {}, {} nodes, files in {}", plan.seed, plan.nodes, dir.display());
        resume_unwind(panic);
    }
    report
}

/// Deals until the time is over and every mode has happened.
fn play(stage: &mut Stage, plan: &Plan, report: &mut Report, hands: &mut Vec<Hand>) {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let end = Instant::now() + plan.duration;
    let first_term = stage.term();
    report.rows = plan.modes.iter().map(|mode| (*mode, Row::default())).collect();
    thread::sleep(UNDISTURBED);
    let mut decks = 0;
    let mut cards = plan.modes.clone();
    while !cards.is_empty() && (decks < ATTEMPTS || Instant::now() < end) {
        let mut deck = Deck::shuffled(&cards, &mut random);
        decks += 1;
        loop {
            let is_over = Instant::now() >= end && report.missing().is_empty();
            let modes = if is_over { Vec::new() } else { deck.deal(&mut random) };
            if modes.is_empty() {
                break;
            }
            hands.push(play_hand(stage, plan, report, modes));
        }
        cards = if Instant::now() < end { plan.modes.clone() } else { report.missing() };
    }
    thread::sleep(UNDISTURBED);
    report.last_recovery = hands.last().map_or(Duration::ZERO, |hand| hand.recovered);
    (report.terms, report.snapshots) = (stage.term() - first_term, stage.snapshots());
    let missing: Vec<&str> = report.missing().iter().map(|mode| mode.name()).collect();
    assert!(missing.is_empty(), "these modes did not happen: {missing:?}");
}

/// Plays a hand until all are well again.
fn play_hand(stage: &mut Stage, plan: &Plan, report: &mut Report, modes: Vec<Mode>) -> Hand {
    let names: Vec<&str> = modes.iter().map(|mode| mode.name()).collect();
    stage.note(&names.join(" + "));
    let began = stage.origin.elapsed();
    let lasts = modes[0].lasts();
    let results = if lasts { stage.play_lasting(&modes) } else { vec![play_episode(stage, modes[0])] };
    stage.release();
    // Who is replaced or damaged has to read much first; the promise is about faults that pass.
    let recovered = stage.wait_healthy(if lasts { plan.recovery_max } else { PATIENCE });
    stage.note(&format!("  all well after {recovered:.2?}"));
    let asked = *stage.active().choose(&mut stage.random).expect("there are members");
    replicas::verify(&stage.cluster, asked);
    for (mode, result) in modes.iter().zip(results) {
        let row = report.rows.entry(*mode).or_default();
        let proofs = stage.take_proofs(*mode);
        match result.and(proofs) {
            Ok(proofs) => row.add(&proofs),
            Err(Missed(why)) => {
                row.missed += 1;
                stage.note(&format!("  did not happen: {}: {why}", mode.name()));
            }
        }
    }
    Hand { modes, began, ended: stage.origin.elapsed(), recovered }
}

fn play_episode(stage: &mut Stage, mode: Mode) -> Result<(), Missed> {
    match mode {
        Mode::ClockForward | Mode::ClockBack | Mode::ClockSkew => stage.play_clock(mode),
        Mode::DiskFull => stage.play_disk_full(),
        Mode::WipeDirectory => stage.play_wipe(),
        Mode::RestoreOldCopy => stage.play_old_copy(),
        Mode::SwapHalves => stage.play_swap_halves(),
        Mode::SwapDirectories => stage.play_swap_directories(),
        Mode::FlipBits | Mode::TruncateFile | Mode::ZeroFile => stage.play_damage(mode),
        Mode::TransferLeadership => stage.play_transfers(),
        Mode::AddNode => stage.play_add(),
        Mode::RemoveNode => stage.play_remove(),
        Mode::RollingRestart => stage.play_rolling_restart(),
        Mode::Snapshot => stage.play_snapshot(),
        Mode::KillDuringSnapshot => stage.play_kill_during_snapshot(),
        mode => unreachable!("{mode:?} lasts"),
    }
}

/// Checks all promises that can be checked when everything is over.
fn judge(stage: &mut Stage, journal: &Journal, records: &[Record], report: &mut Report) {
    assert!(journal.strange.is_empty(), "replies that no client should see: {:?}", journal.strange);
    report.operations = journal.answers().count();
    report.expiries = journal.expiries();
    assert!(report.expiries > 0 || stage.origin.elapsed() < EXPIRES_WITHIN, "no key was seen to expire");
    stage.wait_healthy(PATIENCE);
    stage.note("the ledger is checked");
    let position = stage.members()[0];
    for record in records {
        let totals = record.check(&mut stage.cluster.client(position));
        report.acknowledged += totals.keys as u64 + totals.increments;
    }
    stage.note("the replicas are compared");
    report.keys = replicas::replicas_agree(&stage.cluster);
    stage.note("the history is checked");
    match linearizability::check(&journal.history, &limits()) {
        Ok(summary) => report.history_keys = summary.keys,
        Err(violation) => panic!("the history is not linearizable: {violation}"),
    }
    for (group, history) in &journal.groups {
        match multi::check(history, &limits()) {
            Ok(summary) => report.history_keys += summary.keys,
            Err(violation) => panic!("the history of the keys {group:?} is not linearizable: {violation}"),
        }
    }
    stage.note("all promises were kept");
}

fn limits() -> Limits {
    Limits { expiry_tolerance_ns: u64::try_from(EXPIRY_TOLERANCE.as_nanos()).expect("a short time"), ..Limits::default() }
}

/// Writes down what the clients saw, for a campaign that failed.
fn keep(dir: &Path, journal: &Journal) {
    let mut operations: Vec<_> = journal.history.iter().collect();
    operations.sort_by(|one, other| (&one.key, one.call_ns).cmp(&(&other.key, other.call_ns)));
    let mut lines: Vec<String> = operations.iter().map(|operation| format!("{operation:?}\n")).collect();
    for history in journal.groups.values() {
        lines.extend(history.iter().map(|operation| format!("{operation:?}\n")));
    }
    // What cannot be written is missing, and the failure itself is told all the same.
    if let Err(error) = fs::write(dir.join("history.log"), lines.concat()) {
        eprintln!("the history cannot be written: {error}");
    }
    if let Err(violation) = linearizability::check(&journal.history, &limits()) {
        draw(dir, &violation);
    }
    if let Some(violation) = journal.groups.values().find_map(|history| multi::check(history, &limits()).err()) {
        draw(dir, &violation);
    }
}

fn draw<O: Recorded>(dir: &Path, violation: &Violation<O>) {
    eprintln!("the history: {violation}");
    match violation.write_to(dir) {
        Ok(files) => eprintln!("timelines: {files:?}"),
        Err(error) => eprintln!("its timeline cannot be written: {error}"),
    }
}
