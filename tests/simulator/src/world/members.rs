//! Machines that start, join, go down and are removed.

use super::*;

impl World {
    pub(super) fn start(&mut self, slot: usize) -> Checked {
        if self.machines[slot].life.is_some() || self.machines[slot].blank.is_some() {
            return Ok(());
        }
        let mut random = fork(&mut self.random);
        let now = self.now(slot);
        let installs = self.machines[slot].durable_installation().is_some();
        self.risk_start(slot, if installs { 0.5 } else { 0.1 });
        let started = self.machines[slot].start(now, &mut random);
        if installs && matches!(started, Started::Interrupted) {
            self.counts.incidents.note(Incident::CrashFinishingInstallation);
        }
        self.started(slot, started)
    }

    /// The power may fail while a node starts or becomes a member.
    fn risk_start(&mut self, slot: usize, risk: f64) {
        if self.plan.rates.crash > 0.0 && !self.is_healing && self.random.random_bool(risk) {
            let (in_log, in_data) = (self.random.random_range(0..8), self.random.random_range(0..60));
            self.machines[slot].log.light_fuse(in_log);
            self.machines[slot].data.light_fuse(in_data);
        }
    }

    fn started(&mut self, slot: usize, started: Started) -> Checked {
        match started {
            Started::Running if self.machines[slot].damaged && self.bug.is_none() => {
                Err(format!("lost tail: machine {slot} runs on a log that has lost its end"))
            }
            Started::Running => {
                let life = self.machines[slot].life.as_ref().expect("it runs");
                let node = life.identity.node_id;
                self.trace.note(self.now_us, slot, format_args!("starts as node {node}, boot {}", life.starts.boot));
                self.homes.insert(node, slot);
                let era = self.machines[slot].era;
                self.plan_in(ANNOUNCE_EVERY_MS * 1_000, Event::Announce(slot, era));
                self.drain(slot)
            }
            Started::Blank => {
                self.trace.note(self.now_us, slot, format_args!("starts blank"));
                let era = self.machines[slot].era;
                self.plan_in(10_000, Event::AskToJoin(slot, era, None));
                Ok(())
            }
            Started::Interrupted => {
                self.trace.note(self.now_us, slot, format_args!("loses power while it starts"));
                self.counts.incidents.note(Incident::CrashInStart);
                let mut random = fork(&mut self.random);
                self.machines[slot].crash(&mut random);
                let us = self.random.random_range(10_000..500_000);
                self.plan_in(us, Event::Start(slot));
                Ok(())
            }
            Started::Refused(reason) if self.machines[slot].damaged => {
                self.trace.note(self.now_us, slot, format_args!("refuses to start: {reason}"));
                self.counts.incidents.note(Incident::RefusalOfShortLog);
                self.loses_disks(slot);
                self.plan_in(500_000, Event::Rejoin(slot));
                Ok(())
            }
            Started::Refused(reason) => Err(format!("refusal to start: {reason} (machine {slot})")),
        }
    }

    pub(super) fn ask_to_join(&mut self, slot: usize, era: u64, of: Option<usize>) -> Checked {
        let incarnation = self.machines[slot].blank.as_ref().map(|storage| storage.identity().incarnation);
        let Some(incarnation) = incarnation.filter(|_| self.machines[slot].era == era) else { return Ok(()) };
        if of.is_none() {
            self.plan_in(JOIN_EVERY_MS * 1_000, Event::AskToJoin(slot, era, None));
        }
        let others: Vec<usize> = (0..self.machines.len()).filter(|other| *other != slot).collect();
        let Some(asked) = of.or_else(|| others.choose(&mut self.random).copied()) else { return Ok(()) };
        if !self.reaches(slot, asked) {
            return Ok(());
        }
        let member = Member { node_id: 0, incarnation, addresses: addresses(slot), level: LEVEL };
        self.ask(slot, era, asked, Some(CLUSTER), member)
    }

    /// A node that does not lead asks a member that it knows for the newest table.
    pub(super) fn announce(&mut self, slot: usize, era: u64, of: Option<usize>) -> Checked {
        let Some(life) = self.machines[slot].life.as_ref().filter(|_| self.machines[slot].era == era) else { return Ok(()) };
        let Identity { node_id, incarnation, .. } = life.identity;
        let member = Member { node_id, incarnation, addresses: addresses(slot), level: LEVEL };
        let known: Vec<usize> = life.members.members.iter().filter_map(|member| slot_of(&member.addresses.peer)).collect();
        let leads = self.machines[slot].leads();
        if of.is_none() {
            self.plan_in(ANNOUNCE_EVERY_MS * 1_000, Event::Announce(slot, era));
        }
        let Some(asked) = of.or_else(|| known.choose(&mut self.random).copied()).filter(|asked| *asked != slot) else { return Ok(()) };
        if leads || !self.reaches(slot, asked) {
            return Ok(());
        }
        self.ask(slot, era, asked, None, member)
    }

    pub(super) fn reaches(&self, slot: usize, other: usize) -> bool {
        !self.is_cut(slot, other) && !self.is_cut(other, slot) && self.is_paused(other).is_none() && self.machines[other].life.is_some()
    }

    fn ask(&mut self, slot: usize, era: u64, asked: usize, cluster: Option<&str>, member: Member) -> Checked {
        self.serial += 1;
        let id = RequestId(self.serial);
        self.joins.insert((asked, id), (slot, era));
        let now = self.now(asked);
        self.machines[asked].event(now, |core| core.join(id, cluster, member));
        self.drain(asked)
    }

    pub(super) fn join_answered(&mut self, slot: usize, era: u64, answer: JoinAnswer) -> Checked {
        if self.machines[slot].era != era {
            return Ok(());
        }
        if let Some(life) = &mut self.machines[slot].life {
            return match answer {
                JoinAnswer::Joined { members, .. } => {
                    if self.bug != Some(Bug::OldMembers) {
                        life.hear_of(Arc::new(members));
                        self.turn_strangers_away(slot);
                    }
                    Ok(())
                }
                JoinAnswer::Leader(address) => self.announce(slot, era, slot_of(&address)),
                JoinAnswer::Wait | JoinAnswer::Refused(_) => Ok(()),
            };
        }
        match answer {
            JoinAnswer::Joined { node_id, members } => {
                self.counts.joins += 1;
                let now = self.now(slot);
                let mut random = fork(&mut self.random);
                self.risk_start(slot, 0.1);
                let started = self.machines[slot].joined(&members, node_id, now, &mut random);
                self.started(slot, started)
            }
            JoinAnswer::Leader(address) => self.ask_to_join(slot, era, slot_of(&address)),
            JoinAnswer::Wait => Ok(()),
            JoinAnswer::Refused(reason) => Err(format!("refusal to join: {reason} (machine {slot})")),
        }
    }

    pub(super) fn down(&mut self, slot: usize) {
        self.leave_transfers(slot);
        let mut random = fork(&mut self.random);
        self.machines[slot].crash(&mut random);
        for other in 0..self.machines.len() {
            self.fall_silent(slot, other);
        }
        self.joins.retain(|(at, _), _| *at != slot);
        self.conditions[slot].paused_until_us = 0;
        for client in self.clients.machine_down(slot) {
            self.client_goes_on(Some(client));
        }
    }

    /// A node has learned that it was removed: it stops, and comes back as a new one.
    pub(super) fn removed(&mut self, slot: usize) {
        self.trace.note(self.now_us, slot, format_args!("was removed"));
        self.counts.incidents.note(Incident::Removed);
        self.down(slot);
        self.loses_disks(slot);
        let us = self.random.random_range(100_000..2_000_000);
        self.plan_in(us, Event::Rejoin(slot));
    }

    /// What a machine has on its disks counts no more, nor does its node come back.
    pub(super) fn loses_disks(&mut self, slot: usize) {
        for (node, _) in self.homes.extract_if(.., |_, home| *home == slot) {
            self.checks.loses(node, &self.machines[slot]);
        }
    }

    pub(super) fn is_down(&self, slot: usize) -> bool {
        self.machines[slot].life.is_none()
    }
}
