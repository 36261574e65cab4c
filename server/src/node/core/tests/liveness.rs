//! A group with a healthy majority goes on, and loses no member that lives.

use super::*;

fn raft_type(frame: &Frame) -> Option<MessageType> {
    let Some(Body::Raft(bytes)) = &frame.body else { return None };
    Message::parse_from_bytes(bytes).ok().map(|message| message.get_msg_type())
}

fn run_for(simulation: &mut Simulation, ms: u64) {
    let until = simulation.now.mono_ms + ms;
    run_until(simulation, |simulation| simulation.now.mono_ms >= until);
}

#[test]
fn a_leader_whose_disk_does_not_answer_hands_over() {
    let (mut simulation, stuck) = settled(21);
    simulation.write(stuck);
    simulation.turn(stuck);
    run_without_disk(&mut simulation, Some(stuck), |simulation| leader(simulation).is_some_and(|leader| leader != stuck));
}

#[test]
fn what_follows_a_snapshot_stays_until_its_receiver_has_caught_up() {
    let (mut simulation, leader) = settled(22);
    let [behind, _] = followers(leader);
    let core = &mut simulation.life(leader).expect("alive").core;
    let (id, index) = (SnapshotId(77), core.applied_state().position.index);
    core.snapshots.push(SnapshotOut { id, to: behind, index, sending: true });
    core.snapshot_sent(id, Ok(()));
    // It lives, and is still at the installation.
    simulation.is_lost = Box::new(move |from, frame| from == behind && raft_type(frame) == Some(MessageType::MsgAppendResponse));
    let log = |simulation: &mut Simulation| {
        let log = simulation.life(leader).expect("alive").core.group().log();
        (log.first(), log.bytes())
    };
    let limit = core_config(leader, 1, 1).log_bytes_max;
    while log(&mut simulation).1 < 2 * limit {
        simulation.write(leader);
        run_for(&mut simulation, 50);
    }
    run_for(&mut simulation, 2 * CHORES_INTERVAL_MS);
    assert!(log(&mut simulation).0 <= index + 1, "the log begins at {}", log(&mut simulation).0);
    simulation.crash(behind);
    run_for(&mut simulation, 3000);
    assert!(log(&mut simulation).0 > index + 1, "whoever is gone does not keep the log");
}

#[test]
fn a_living_member_is_not_replaced_by_a_joiner_at_its_address() {
    let (mut simulation, leader) = settled(23);
    let [holder, _] = followers(leader);
    let joiner = Member {
        incarnation: 99,
        level: LEVEL,
        addresses: Addresses { peer: format!("p{holder}"), ..Addresses::default() },
        ..Member::default()
    };
    let ask = |simulation: &mut Simulation| {
        simulation.life(leader).expect("alive").core.join(RequestId(1), Some("cluster"), joiner.clone());
        simulation.turn(leader);
        run_for(simulation, 10);
        let members = Arc::clone(&simulation.life(leader).expect("alive").core.applied_state().members);
        (members.get(holder).is_some(), members.by_incarnation(99).is_some(), members.removed.len())
    };
    for _ in 0..300 {
        assert_eq!(ask(&mut simulation), (true, false, 0));
    }
    simulation.crash(holder);
    let mut asked = 0;
    while ask(&mut simulation) != (false, true, 1) {
        asked += 1;
        assert!(asked < 1000, "the joiner takes the place of the dead member");
    }
}

#[test]
fn a_removal_that_may_still_happen_is_told_as_unknown() {
    let (mut simulation, leader) = settled(24);
    let [wanted, _] = followers(leader);
    simulation.life(leader).expect("alive").core.admin(RequestId(1), AdminRequest::Remove(wanted));
    simulation.turn(leader);
    simulation.is_lost = Box::new(move |from, _| from != leader);
    run_until(&mut simulation, |simulation| !simulation.administered.is_empty());
    assert_eq!(simulation.administered, [Err(RequestError::Unknown)]);
}

#[test]
fn a_member_that_tells_its_addresses_while_it_is_removed_gets_no_new_id() {
    let (mut simulation, leader) = settled(26);
    let [removed, _] = followers(leader);
    let core = &mut simulation.life(leader).expect("alive").core;
    let member = core.applied_state().members.get(removed).expect("a member").clone();
    let addresses = Addresses { peer: "elsewhere".to_owned(), ..member.addresses.clone() };
    core.admin(RequestId(1), AdminRequest::Remove(removed));
    core.join(RequestId(2), None, Member { addresses, ..member.clone() });
    simulation.turn(leader);
    run_for(&mut simulation, 3000);
    let members = Arc::clone(&simulation.life(leader).expect("alive").core.applied_state().members);
    assert_eq!(members.removed, [removed]);
    assert!(members.by_incarnation(member.incarnation).is_none());
}

#[test]
fn a_leader_that_leads_no_longer_sends_no_snapshot() {
    let (mut simulation, leader) = settled(25);
    let [one, _] = followers(leader);
    let core = &mut simulation.life(leader).expect("alive").core;
    core.snapshots.push(SnapshotOut { id: SnapshotId(77), to: one, index: 1, sending: true });
    core.resign();
    run_until(&mut simulation, |simulation| super::leader(simulation).is_some_and(|now| now != leader));
    assert!(simulation.life(leader).expect("alive").core.snapshots.is_empty());
    assert_eq!(simulation.dropped, [SnapshotId(77)]);
}

/// Whom a leader has asked, and nobody has heard it yet.
fn asked(simulation: &mut Simulation, leader: u64) -> Vec<u64> {
    simulation.turn(leader);
    let is_question = |frame: &Frame| match &frame.body {
        Some(Body::Raft(bytes)) => Message::parse_from_bytes(bytes).is_ok_and(|message| !message.context.is_empty()),
        _ => false,
    };
    let frames = simulation.network.iter().filter(|(path, _)| path.0 == leader);
    frames.filter(|(_, frames)| frames.iter().any(is_question)).map(|(path, _)| path.1).collect()
}

#[test]
fn a_read_asks_as_many_followers_as_it_needs_and_the_others_when_they_take_too_long() {
    let (mut simulation, leader) = settled(26);
    simulation.read(leader);
    run_until(&mut simulation, |simulation| simulation.reads_answered == 1);
    simulation.network.clear();
    simulation.read(leader);
    let first = asked(&mut simulation, leader);
    assert_eq!(first.len(), 1, "one answer and the leader are a majority of three");
    let other = followers(leader).into_iter().find(|follower| *follower != first[0]).expect("two followers");
    let patience_ms = simulation.life(leader).expect("alive").core.patience_ms().expect("somebody is not asked yet");
    simulation.crash(first[0]);
    simulation.now.mono_ms += patience_ms - 1;
    assert_eq!(asked(&mut simulation, leader), [0; 0], "what it was asked is lost with it");
    assert_eq!(simulation.life(leader).expect("alive").core.patience_ms(), Some(1), "a turn in between does not begin it anew");
    simulation.now.mono_ms += 1;
    assert_eq!(asked(&mut simulation, leader), [other]);
    run_until(&mut simulation, |simulation| simulation.reads_answered == 2);
    simulation.network.clear();
    simulation.read(leader);
    assert_eq!(asked(&mut simulation, leader), [other], "the one that answered last");
}

#[test]
fn reads_do_not_wait_for_a_question_that_was_lost_with_its_connection() {
    let (mut simulation, leader) = settled(28);
    let [follower, _] = followers(leader);
    let questions = |simulation: &mut Simulation| {
        simulation.turn(follower);
        let frames = simulation.network.remove(&(follower, leader, Lane::Control as u8)).unwrap_or_default();
        frames.iter().filter(|frame| matches!(frame.body, Some(Body::ReadRequest(_)))).count()
    };
    simulation.read(follower);
    assert_eq!((questions(&mut simulation), questions(&mut simulation)), (1, 0));
    simulation.life(follower).expect("alive").core.lane_up(leader, Lane::Control);
    assert_eq!(questions(&mut simulation), 1);
}

#[test]
fn others_are_asked_while_a_configuration_change_becomes_durable() {
    let (mut simulation, leader) = settled(30);
    simulation.read(leader);
    run_until(&mut simulation, |simulation| simulation.reads_answered == 1);
    simulation.network.clear();
    simulation.read(leader);
    assert_eq!(asked(&mut simulation, leader).len(), 1);
    let core = &mut simulation.life(leader).expect("alive").core;
    core.change_in_progress = true;
    let patience_ms = core.patience_ms().expect("somebody is not asked yet");
    simulation.now.mono_ms += patience_ms;
    assert_eq!(asked(&mut simulation, leader).len(), 2);
    assert_eq!(simulation.life(leader).expect("alive").core.patience_ms(), None, "nothing is left to be patient for");
}

#[test]
fn the_answer_to_a_heartbeat_does_not_wait_for_the_disk() {
    let (mut simulation, leader) = settled(29);
    let [stuck, other] = followers(leader);
    simulation.crash(other);
    simulation.write(leader);
    simulation.read(leader);
    run_without_disk(&mut simulation, Some(stuck), |simulation| simulation.reads_answered == 1);
}

#[test]
fn an_answer_that_is_not_needed_any_more_moves_nobody_to_the_front() {
    for in_one_turn in [false, true] {
        let (mut simulation, leader) = settled(27);
        simulation.network.clear();
        simulation.read(leader);
        assert_eq!(asked(&mut simulation, leader), followers(leader), "nobody has answered yet");
        let lane = Lane::Control as u8;
        let [quick, slow] = followers(leader);
        for follower in [quick, slow] {
            for frame in simulation.network.remove(&(leader, follower, lane)).expect("a question") {
                simulation.life(follower).expect("alive").core.frame(leader, frame);
            }
            simulation.turn(follower);
            while simulation.life(follower).is_some_and(|life| !life.persists.is_empty()) {
                simulation.persist_one(follower);
            }
        }
        for follower in [quick, slow] {
            for frame in simulation.network.remove(&(follower, leader, lane)).expect("an answer") {
                simulation.life(leader).expect("alive").core.frame(follower, frame);
            }
            if !in_one_turn {
                simulation.turn(leader);
            }
        }
        simulation.turn(leader);
        assert_eq!(simulation.reads_answered, 1);
        simulation.network.clear();
        simulation.read(leader);
        assert_eq!(asked(&mut simulation, leader), [quick]);
    }
}
