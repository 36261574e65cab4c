//! The network: who may connect to whom, what arrives when, and what a break or a cut does to it.
//! Frames of a connection keep their order, unless the plan has loss, duplication or overtaking on Raft's lanes. A cut holds back what is
//! under way; a break loses it. Of what was under way from a machine that goes down, a first part arrives.

use super::*;

impl World {
    fn peer_id(&self, at: usize, of: usize) -> Option<u64> {
        let members = &self.machines[at].life.as_ref()?.members;
        // A replaced member and its successor may share an address for a moment; the later one counts.
        members.members.iter().rev().find(|member| member.addresses.peer == address(of)).map(|member| member.node_id)
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    pub(super) fn connect(&mut self, from: usize, to: usize) -> Checked {
        let is_down = LANES.iter().any(|lane| !self.connections.entry((from, to, *lane as u8)).or_default().is_up);
        if !is_down || self.is_cut(from, to) || self.is_cut(to, from) || self.is_paused(from).is_some() || self.is_paused(to).is_some() {
            return Ok(());
        }
        let Some(peer) = self.peer_id(from, to) else { return Ok(()) };
        let Some(node) = self.machines[from].life.as_ref().map(|life| life.identity.node_id) else { return Ok(()) };
        if self.machines[to].life.as_ref().is_none_or(|life| life.identity.node_id != peer) {
            return Ok(());
        }
        for (judge, judged) in [(to, from), (from, to)] {
            match self.admits(judge, judged) {
                Admission::Welcome => {}
                Admission::Refused => return Ok(()),
                Admission::Removed => {
                    self.removed(judged);
                    return Ok(());
                }
            }
        }
        self.trace.note(self.now_us, from, format_args!("node {node} connects to node {peer}"));
        for lane in LANES {
            let connection = self.connections.entry((from, to, lane as u8)).or_default();
            if !connection.is_up {
                connection.is_up = true;
                connection.epoch += 1;
                connection.last_us = self.now_us;
                connection.newest_us = 0;
                let now = self.now(from);
                self.machines[from].lane_up(now, peer, lane);
                self.drain(from)?;
            }
        }
        Ok(())
    }

    /// As the gate of the product does it: judged by table and record, and on record before anything is let in.
    fn admits(&self, at: usize, from: usize) -> Admission {
        let (Some(host), Some(guest)) = (&self.machines[at].life, &self.machines[from].life) else { return Admission::Refused };
        let node_id = guest.identity.node_id;
        if self.bug == Some(Bug::ReusedNodeId) && host.members.get(node_id).is_some() {
            return Admission::Welcome;
        }
        let mut record = read_peers(self.machines[at].log.as_ref()).expect("memory does not fail");
        let seen = record.processes.iter().copied().find(|known| known.node_id == node_id);
        match judge(&host.members, seen, node_id, guest.identity.incarnation, &guest.starts) {
            Ok(false) => Admission::Welcome,
            Ok(true) => {
                record.raise(guest.process());
                persist_peers(self.machines[at].log.as_ref(), &record).expect("memory does not fail");
                Admission::Welcome
            }
            Err(Unwelcome::Removed) => Admission::Removed,
            Err(_) => Admission::Refused,
        }
    }

    pub(super) fn lets_in(&self, judge: usize, judged: usize) -> bool {
        matches!(self.admits(judge, judged), Admission::Welcome)
    }

    /// Whether a process is the latest of a member that a machine has let in.
    pub(super) fn is_current(&self, at: usize, process: PeerProcess) -> bool {
        let is_member = self.machines[at].life.as_ref().is_some_and(|life| life.members.get(process.node_id).is_some());
        let record = read_peers(self.machines[at].log.as_ref()).expect("memory does not fail");
        is_member && record.processes.iter().all(|known| known.node_id != process.node_id || *known == process)
    }

    pub(super) fn send(&mut self, from: usize, peer: u64, lane: Lane, frame: Frame) -> Checked {
        if let Some(Body::Raft(bytes)) = &frame.body {
            let message = Message::parse_from_bytes(bytes).map_err(|error| format!("a frame cannot be read: {error}"))?;
            let incarnation = self.machines[from].life.as_ref().map_or(0, |life| life.identity.incarnation);
            self.checks.spoken(incarnation, &message)?;
            if matches!(message.get_msg_type(), MessageType::MsgRequestVote | MessageType::MsgRequestVoteResponse) {
                self.risk(from, 0.05, 20_000);
            }
        }
        let Some(life) = self.machines[from].life.as_ref() else { return Ok(()) };
        let sender = life.process();
        let to = life.members.get(peer).and_then(|member| slot_of(&member.addresses.peer));
        let connection = to.and_then(|to| self.connections.get(&(from, to, lane as u8)).copied()).filter(|connection| connection.is_up);
        let (Some(to), Some(connection)) = (to, connection) else {
            if let Some(life) = &mut self.machines[from].life {
                match lane {
                    Lane::Append => life.core.unreachable(peer),
                    Lane::Forward => life.core.forward_dropped(),
                    Lane::Control => {}
                }
            }
            return Ok(());
        };
        let is_rafts = lane != Lane::Forward;
        let mut copies = 1;
        if is_rafts && self.random.random_bool(self.plan.loss) && !self.is_healing {
            self.counts.incidents.note(Incident::Loss);
            copies = 0;
        } else if is_rafts && self.random.random_bool(self.plan.duplication) && !self.is_healing {
            self.counts.incidents.note(Incident::Duplication);
            copies = 2;
        }
        for _ in 0..copies {
            let mut at_us = self.now_us + self.random.random_range(50..=self.plan.delay_ms * 1_000);
            if is_rafts && self.random.random_bool(self.plan.reordering) && !self.is_healing {
                at_us += self.random.random_range(0..10 * self.plan.delay_ms * 1_000);
            } else {
                at_us = at_us.max(connection.last_us);
                self.connections.entry((from, to, lane as u8)).or_default().last_us = at_us;
            }
            let frame = frame.clone();
            let shipment = Shipment { from, to, lane, sender, epoch: connection.epoch, sent_us: self.now_us, is_late: false, frame };
            self.plan_at(at_us, Event::Deliver(Box::new(shipment)));
        }
        Ok(())
    }

    pub(super) fn deliver(&mut self, mut shipment: Box<Shipment>) -> Checked {
        let Shipment { from, to, lane, sender, epoch, sent_us, is_late, .. } = *shipment;
        let connection = self.connections.get(&(from, to, lane as u8)).copied().unwrap_or_default();
        let is_open = connection.is_up && connection.epoch == epoch;
        let are_last_words = connection.last_words.is_some_and(|(of, until_us)| epoch == of && sent_us <= until_us);
        if !(is_open || are_last_words && self.is_current(to, sender)) {
            if is_late {
                self.counts.incidents.note(Incident::HeldBackForEver);
            }
            return Ok(());
        }
        if let Some(until) = self.cuts.get(&(from, to)).copied() {
            shipment.is_late = true;
            self.plan_at(until, Event::Deliver(shipment));
            return Ok(());
        }
        if self.machines[to].life.as_ref().is_none_or(|life| life.members.get(sender.node_id).is_none()) {
            self.disconnect(from, to);
            return Ok(());
        }
        self.note_arrival(&shipment, is_open);
        self.trace.frame(self.now_us, from, to, &shipment.frame);
        let now = self.now(to);
        self.machines[to].frame(now, sender.node_id, shipment.frame);
        self.drain(to)
    }

    /// Counts what is remarkable about a frame that arrives.
    fn note_arrival(&mut self, shipment: &Shipment, is_open: bool) {
        let Shipment { from, to, lane, sent_us, is_late, .. } = *shipment;
        let incidents = &mut self.counts.incidents;
        if is_late {
            incidents.note(Incident::HeldBack);
        }
        if !is_open {
            incidents.note(if self.machines[from].life.is_some() { Incident::LastWordsAfterRestart } else { Incident::LastWords });
        }
        let connection = self.connections.entry((from, to, lane as u8)).or_default();
        if is_open && sent_us < connection.newest_us {
            incidents.note(Incident::Overtaking);
        }
        connection.newest_us = connection.newest_us.max(sent_us);
    }

    /// A machine goes down: what it had sent still arrives, up to some moment, also after it was started again, until its new process has
    /// come in.
    pub(super) fn fall_silent(&mut self, slot: usize, other: usize) {
        let lanes = LANES.map(|lane| (lane, self.connections.get(&(slot, other, lane as u8)).copied().unwrap_or_default()));
        self.disconnect(slot, other);
        for (lane, connection) in lanes {
            let until_us = self.now_us.saturating_sub(self.random.random_range(0..=2 * self.plan.delay_ms * 1_000));
            if connection.is_up {
                let words = Some((connection.epoch, until_us));
                self.connections.entry((slot, other, lane as u8)).or_default().last_words = words;
            }
        }
    }

    /// A table has changed: connections of those who are in it no longer are closed, and when they connect again they are told why.
    pub(super) fn turn_strangers_away(&mut self, slot: usize) {
        let Some(members) = self.machines[slot].life.as_ref().map(|life| Arc::clone(&life.members)) else { return };
        for other in (0..self.machines.len()).filter(|other| *other != slot) {
            let node_id = self.machines[other].life.as_ref().map(|life| life.identity.node_id);
            if node_id.is_some_and(|node_id| members.get(node_id).is_none()) {
                self.disconnect(slot, other);
            }
        }
    }

    pub(super) fn disconnect(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            for lane in LANES {
                let connection = self.connections.entry((from, to, lane as u8)).or_default();
                connection.is_up = false;
                connection.epoch += 1;
                connection.last_words = None;
            }
        }
    }
}

enum Admission {
    Welcome,
    Refused,
    Removed,
}
