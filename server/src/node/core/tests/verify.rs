//! The comparison of replicas: equal ones, damaged ones, and what gets lost on the way.

use raftlog::message::{Difference, EntryPosition, VerifiedMember, VerifyResult, VerifyStep, VerifyVerdict};

use super::*;
use crate::keyspace::{META, state_key};

/// From now on the steps for which `is_lost` says so, given their sender, do not arrive.
fn lose(simulation: &mut Simulation, mut is_lost: impl FnMut(u64, &VerifyStep) -> bool + 'static) {
    simulation.is_lost = Box::new(move |from, frame| match &frame.body {
        Some(Body::Verify(verify)) => verify.step.as_ref().is_some_and(|step| is_lost(from, step)),
        _ => false,
    });
}

/// What a client of `at` learns.
fn verify(simulation: &mut Simulation, at: u64) -> VerifyResult {
    simulation.life(at).expect("alive").core.verify(RequestId(7));
    simulation.turn(at);
    run_until(simulation, |simulation| !simulation.compared.is_empty());
    let (node, result) = simulation.compared.pop().expect("there is an answer");
    assert_eq!(node, at);
    result.expect("somebody leads")
}

/// Runs for as long as a verdict may take to arrive and be carried out.
fn let_verdicts_arrive(simulation: &mut Simulation) {
    let until = simulation.now.mono_ms + 3000;
    run_until(simulation, |simulation| simulation.now.mono_ms > until);
}

/// The stored key of a user's key in database 0.
fn stored(key: &str) -> Bytes {
    state_key(GROUP, &format!("\0\0\0\0{key}")).into()
}

fn damage(simulation: &Simulation, id: u64, key: &str, value: &'static [u8]) {
    let mut batch = WriteBatch::default();
    batch.put(META, stored(key), value);
    simulation.nodes[&id].data.write(&batch).expect("memory does not fail");
}

fn member(result: &VerifyResult, id: u64) -> &VerifiedMember {
    result.members.iter().find(|member| member.node_id == id).expect("a member")
}

/// Ids of the members that differ, with the keys at which they begin to.
fn differing(result: &VerifyResult) -> Vec<(u64, Option<Bytes>)> {
    let differing = result.members.iter().filter_map(|member| member.difference.as_ref().map(|difference| (member, difference)));
    differing.map(|(member, difference)| (member.node_id, difference.key.clone())).collect()
}

#[test]
fn equal_replicas_are_found_equal_from_any_node() {
    let (mut simulation, leader) = settled(1);
    for at in 1..=NODES {
        let result = verify(&mut simulation, at);
        assert_eq!(result.members.iter().map(|member| member.node_id).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(result.members.iter().all(|member| !member.hash.is_empty() && member.hash == result.members[0].hash));
        assert!(result.has_majority && differing(&result).is_empty(), "led by {leader}: {result:?}");
    }
    let_verdicts_arrive(&mut simulation);
    assert_eq!(simulation.diverged, []);
}

#[test]
fn a_damaged_follower_is_found_and_stops() {
    let (mut simulation, leader) = settled(2);
    let [damaged, other] = followers(leader);
    damage(&simulation, damaged, "m", b"never written");
    damage(&simulation, damaged, "x", b"nor this");
    let result = verify(&mut simulation, other);
    assert!(result.has_majority);
    assert_eq!(differing(&result), [(damaged, Some(stored("m")))]);
    assert_eq!(member(&result, leader).hash, member(&result, other).hash);
    let_verdicts_arrive(&mut simulation);
    let difference = Difference { family: u32::from(META.0), key: Some(stored("m")) };
    assert_eq!(simulation.diverged, [(damaged, Divergence { index: result.index, difference })]);
}

#[test]
fn a_damaged_leader_answers_hands_over_and_stops() {
    let (mut simulation, leader) = settled(3);
    damage(&simulation, leader, "n", b"another value of the counter");
    let result = verify(&mut simulation, leader);
    assert_eq!(differing(&result), [(leader, Some(stored("n")))]);
    let_verdicts_arrive(&mut simulation);
    assert_eq!(simulation.diverged.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [leader]);
    assert_ne!(super::leader(&simulation), Some(leader));
}

#[test]
fn whatever_gets_lost_is_asked_for_again() {
    for seed in 10..16 {
        let (mut simulation, leader) = settled(seed);
        let [damaged, other] = followers(leader);
        damage(&simulation, damaged, "m", b"never written");
        // The first two of each kind of each sender do not arrive.
        let mut sent: HashMap<_, u32> = HashMap::new();
        lose(&mut simulation, move |from, step| {
            let count = sent.entry((from, std::mem::discriminant(step))).or_default();
            *count += 1;
            *count <= 2
        });
        let result = verify(&mut simulation, other);
        assert_eq!(differing(&result), [(damaged, Some(stored("m")))], "seed {seed}");
        let_verdicts_arrive(&mut simulation);
        assert_eq!(simulation.diverged.len(), 1, "seed {seed}");
    }
}

#[test]
fn a_replica_that_got_a_snapshot_since_does_not_stop() {
    for before_the_verdict in [true, false] {
        let (mut simulation, leader) = settled(9);
        let [damaged, other] = followers(leader);
        damage(&simulation, damaged, "m", b"never written");
        let replace = |simulation: &mut Simulation, index| simulation.life(damaged).expect("alive").core.data_replaced(index);
        if before_the_verdict {
            lose(&mut simulation, |_, step| matches!(step, VerifyStep::Verdict(_)));
        }
        let result = verify(&mut simulation, other);
        assert_eq!(differing(&result), [(damaged, Some(stored("m")))]);
        if !before_the_verdict {
            let is_told = |simulation: &Simulation| simulation.nodes[&damaged].life.as_ref().is_some_and(|life| life.core.is_condemned());
            run_until(&mut simulation, is_told);
        }
        replace(&mut simulation, result.index + 1);
        lose(&mut simulation, |_, _| false);
        let_verdicts_arrive(&mut simulation);
        assert_eq!(simulation.diverged, []);
    }
}

#[test]
fn a_silent_member_is_missing_and_not_wrong() {
    let (mut simulation, leader) = settled(4);
    let [silent, other] = followers(leader);
    lose(&mut simulation, move |from, step| from == silent && matches!(step, VerifyStep::Report(_)));
    let result = verify(&mut simulation, other);
    assert!(result.has_majority && member(&result, silent).hash.is_empty());
    assert_eq!(differing(&result), []);
    let_verdicts_arrive(&mut simulation);
    assert_eq!(simulation.diverged, []);
}

#[test]
fn without_a_majority_nobody_stops() {
    let (mut simulation, leader) = settled(5);
    let [one, other] = followers(leader);
    damage(&simulation, one, "m", b"1");
    damage(&simulation, other, "o", b"2");
    let result = verify(&mut simulation, other);
    assert!(!result.has_majority);
    let mut expected = [(one, Some(stored("m"))), (other, Some(stored("o")))];
    expected.sort();
    assert_eq!(differing(&result), expected);
    // One against one, with the third silent, is no majority either.
    lose(&mut simulation, move |from, step| from == other && matches!(step, VerifyStep::Report(_)));
    let result = verify(&mut simulation, leader);
    assert!(!result.has_majority);
    assert_eq!(differing(&result), [(one, Some(stored("m")))]);
    let_verdicts_arrive(&mut simulation);
    assert_eq!(simulation.diverged, []);
}

#[test]
fn a_new_leader_begins_anew() {
    let (mut simulation, leader) = settled(6);
    let [at, _] = followers(leader);
    simulation.life(at).expect("alive").core.verify(RequestId(1));
    simulation.turn(at);
    run_until(&mut simulation, |simulation| simulation.nodes[&leader].life.as_ref().is_some_and(|life| life.digested.is_some()));
    simulation.crash(leader);
    run_until(&mut simulation, |simulation| !simulation.compared.is_empty());
    let result = simulation.compared[0].1.clone().expect("somebody leads");
    assert!(member(&result, leader).hash.is_empty() && result.has_majority);
}

#[test]
fn without_a_leader_the_client_is_told() {
    let (mut simulation, leader) = settled(7);
    let [at, other] = followers(leader);
    simulation.crash(leader);
    simulation.crash(other);
    simulation.life(at).expect("alive").core.verify(RequestId(1));
    run_until(&mut simulation, |simulation| !simulation.compared.is_empty());
    assert_eq!(simulation.compared, [(at, Err(RequestError::NoLeader))]);
}

#[test]
fn a_verdict_that_does_not_repeat_what_was_reported_is_not_believed() {
    let (mut simulation, leader) = settled(8);
    let result = verify(&mut simulation, leader);
    let [follower, _] = followers(leader);
    let term = simulation.life(leader).expect("alive").core.group().term();
    let entry = EntryPosition { index: result.index, term };
    let difference = Difference { family: 0, key: None };
    let good = member(&result, follower).hash.clone();
    let life = simulation.life(follower).expect("alive");
    for (from, entry, hash) in [
        (leader, entry, Bytes::from_static(b"something else")),
        (leader, EntryPosition { index: entry.index + 1, ..entry }, good.clone()),
        (follower, entry, good),
    ] {
        life.core.verify_step(from, VerifyStep::Verdict(VerifyVerdict { entry, hash, difference: difference.clone() }));
    }
    let_verdicts_arrive(&mut simulation);
    assert_eq!(simulation.diverged, []);
}
