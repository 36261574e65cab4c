//! What the plan's faults do. Those that cannot be mended by waiting happen only while everything else is well, so that a majority of the
//! voters keeps its disks.

use super::*;

/// A newcomer is to lead: so often, for a while or, more often, until everything heals, the leader is asked to hand over to it.
const HANDOVERS: [u64; 3] = [6, 120, 120];
/// At these intervals, in ms.
const HANDOVER_EVERY_MS: u64 = 500;

impl World {
    /// Whether a machine can be lost for good now: everything else is well and will be so without it. A change of the configuration that
    /// the others do not know to be committed yet may need the one who knows.
    fn may_lose(&self, slot: Option<usize>) -> bool {
        let Some(leader) = self.machines.iter().find(|machine| machine.leads()) else { return false };
        let group = leader.life.as_ref().expect("it leads").core.group();
        let configuration = group.configuration();
        let is_whole = |node: &u64| {
            let home = self.homes.get(node).filter(|home| !self.is_down(**home));
            let life = home.and_then(|home| self.machines[*home].life.as_ref());
            let known = life.map(|life| life.core.group().configuration());
            known.is_some_and(|known| {
                let has = |id: &u64| configuration.voters.contains(id);
                known.voters_outgoing.is_empty() && known.voters.len() == configuration.voters.len() && known.voters.iter().all(has)
            })
        };
        self.now_ms() >= self.permanent_at_ms + PERMANENT_EVERY_MS
            && group.can_serve_reads()
            && !group.has_pending_change()
            && configuration.voters_outgoing.is_empty()
            && configuration.voters.iter().all(is_whole)
            && self.machines.iter().all(|machine| machine.life.as_ref().is_none_or(|life| life.core.group().term() <= group.term()))
            && slot.is_none_or(|slot| {
                let rest = configuration.voters.iter().filter(|node| self.homes.get(node) != Some(&slot)).count();
                rest > configuration.voters.len() / 2
            })
    }

    fn any_machine(&mut self) -> usize {
        self.random.random_range(0..self.machines.len())
    }

    /// Lets a fault happen, where it can, and counts it.
    pub(super) fn fault(&mut self, fault: Fault) -> Checked {
        let slot = self.any_machine();
        self.trace.note(self.now_us, slot, format_args!("fault: {fault:?}"));
        if self.happens(fault, slot)? {
            self.counts.faults[fault as usize] += 1;
        }
        Ok(())
    }

    /// Whether anything came of it.
    fn happens(&mut self, fault: Fault, slot: usize) -> Result<bool, String> {
        Ok(match fault {
            Fault::Crash => self.crash(slot),
            Fault::CrashAll => (0..self.machines.len()).filter(|slot| self.crash(*slot)).count() > 1,
            Fault::Pause => {
                let us = self.random.random_range(10_000..3_000_000);
                self.conditions[slot].paused_until_us = self.now_us + us;
                !self.is_down(slot)
            }
            Fault::Partition => self.partition(),
            Fault::Reset => {
                let other = self.any_machine();
                let was_up = self.connections.get(&(slot, other, Lane::Append as u8)).is_some_and(|connection| connection.is_up);
                self.disconnect(slot, other);
                self.break_transfers(slot, other);
                was_up
            }
            Fault::Wipe => self.may_lose(Some(slot)) && self.wipe(slot),
            Fault::LostTail => self.may_lose(Some(slot)) && !self.is_down(slot) && self.lose_tail(slot),
            Fault::Removal => self.may_lose(None) && self.remove_a_member()?,
            Fault::Transfer => self.hand_over(slot)?,
            Fault::ClockStep => {
                let step = self.random.random_range(-self.plan.step_ms..=self.plan.step_ms);
                let condition = &mut self.conditions[slot];
                let before = condition.offset_ms;
                condition.offset_ms = if before.abs() > self.plan.skew_ms { 0 } else { before + step };
                self.offsets_ms = (self.offsets_ms.0.min(condition.offset_ms), self.offsets_ms.1.max(condition.offset_ms));
                condition.offset_ms != before
            }
            Fault::Verify => {
                self.serial += 1;
                let (id, now) = (RequestId(self.serial), self.now(slot));
                self.machines[slot].event(now, |core| core.verify(id));
                self.drain(slot)?;
                !self.is_down(slot)
            }
            Fault::Slowness => {
                self.conditions[slot].is_slow = !self.conditions[slot].is_slow;
                true
            }
        })
    }

    pub(super) fn crash(&mut self, slot: usize) -> bool {
        let is_up = !self.is_down(slot);
        if is_up {
            self.down(slot);
            let us = self.random.random_range(10_000..3_000_000);
            self.plan_in(us, Event::Start(slot));
        }
        is_up
    }

    /// A machine is asked to hand leadership to any voter. Whether it could.
    pub(super) fn hand_over(&mut self, slot: usize) -> Result<bool, String> {
        let voters = self.machines[slot].life.as_ref().map(|life| life.core.group().configuration().voters).unwrap_or_default();
        let leads = self.machines[slot].leads();
        let Some(to) = voters.choose(&mut self.random).copied() else { return Ok(false) };
        self.administer(slot, AdminRequest::Transfer(to))?;
        Ok(leads && self.homes.get(&to) != Some(&slot))
    }

    /// Crashes that are dealt seldom meet what is short or rare: now and then the power fails in the midst of that.
    pub(super) fn risk_work(&mut self, slot: usize, work: Work, us: u64) {
        let Some(life) = &self.machines[slot].life else { return };
        let risk = match work {
            Work::Generated(_) => 0.05,
            Work::Apply if life.replaces_data() => 0.01,
            Work::Apply => 0.003,
            Work::LogSync if life.core.group().is_installing() && !life.replaces_data() => 0.1,
            Work::Tick | Work::Turn | Work::LogWrite | Work::LogSync | Work::Evaluate(..) | Work::DataSync(_) | Work::Generate(..) => {
                return;
            }
        };
        self.risk(slot, risk, us);
    }

    /// The power may fail within some time, where it ever does.
    pub(super) fn risk(&mut self, slot: usize, risk: f64, us: u64) {
        if self.plan.rates.crash > 0.0 && !self.is_healing && self.random.random_bool(risk) {
            let us = self.random.random_range(0..us);
            self.plan_in(us, Event::PowerFails(slot, self.machines[slot].era));
        }
    }

    fn lose_tail(&mut self, slot: usize) -> bool {
        self.down(slot);
        let is_lost = self.machines[slot].can_lose_tail();
        if is_lost {
            self.permanent_at_ms = self.now_ms();
            self.loses_disks(slot);
            let mut random = fork(&mut self.random);
            self.machines[slot].lose_tail(&mut random);
        }
        self.plan_in(200_000, Event::Start(slot));
        is_lost
    }

    /// Cuts some machines off from the others, or one direction of one link.
    fn partition(&mut self) -> bool {
        let machines = self.machines.len();
        let is_one_way = self.random.random_bool(0.3);
        let side: Vec<bool> = (0..machines).map(|_| self.random.random_bool(0.5)).collect();
        let until_us = self.now_us + self.random.random_range(50_000..5_000_000);
        let mut is_any = false;
        for from in 0..machines {
            for to in (0..machines).filter(|to| side[from] != side[*to]) {
                is_any |= (!is_one_way || side[from]) && self.cut(from, to, until_us);
            }
        }
        if is_any {
            self.counts.incidents.note(if is_one_way { Incident::OneWayCut } else { Incident::TwoWayCut });
        }
        is_any
    }

    /// Whether it was whole.
    fn cut(&mut self, from: usize, to: usize, until_us: u64) -> bool {
        let is_whole = !self.cuts.contains_key(&(from, to));
        if is_whole {
            self.cuts.insert((from, to), until_us);
            self.plan_at(until_us, Event::Mend(from, to));
        }
        is_whole
    }

    /// A machine has become a member. Now and then another one is cut off before it hears of that, and the newcomer is to lead meanwhile.
    pub(super) fn risk_ignorance(&mut self, joiner: usize) {
        let machines = self.machines.len();
        // With fewer, whoever is left is no majority beside a member that is gone.
        let is_possible = machines >= 4 && self.plan.rates.partition > 0.0 && !self.is_healing;
        if !is_possible || !self.random.random_bool(0.9) {
            return;
        }
        let followers: Vec<usize> = (0..machines).filter(|slot| *slot != joiner && !self.machines[*slot].leads()).collect();
        let Some(slot) = followers.choose(&mut self.random).copied() else { return };
        self.trace.note(self.now_us, slot, format_args!("is cut off before it hears of machine {joiner}"));
        let handovers = HANDOVERS.choose(&mut self.random).copied().expect("there are some");
        let until_us = self.now_us + handovers * HANDOVER_EVERY_MS * 1_000;
        for other in (0..machines).filter(|other| *other != slot) {
            self.cut(slot, other, until_us);
            self.cut(other, slot, until_us);
        }
        for attempt in 1..=handovers {
            self.plan_in(attempt * HANDOVER_EVERY_MS * 1_000, Event::HandOverTo(joiner));
        }
    }

    /// The leader is asked to hand over to a machine.
    pub(super) fn hand_over_to(&mut self, slot: usize) -> Checked {
        let node = self.machines[slot].life.as_ref().map(|life| life.identity.node_id);
        let leader = self.machines.iter().position(Machine::leads);
        match (leader, node) {
            (Some(leader), Some(node)) if leader != slot && !self.is_healing => self.administer(leader, AdminRequest::Transfer(node)),
            _ => Ok(()),
        }
    }

    /// A link is whole again: what was held back comes through, unless the connection has broken meanwhile.
    pub(super) fn mend(&mut self, from: usize, to: usize) {
        if self.cuts.remove(&(from, to)).is_some() && self.random.random_bool(0.4) {
            self.disconnect(from, to);
            self.break_transfers(from, to);
        }
    }

    fn wipe(&mut self, slot: usize) -> bool {
        let node = self.machines[slot].life.as_ref().map(|life| (life.identity.node_id, life.members.clone()));
        self.permanent_at_ms = self.now_ms();
        self.down(slot);
        self.loses_disks(slot);
        self.machines[slot].wipe();
        if let (Some(Bug::ReusedNodeId), Some((node_id, members))) = (self.bug, node) {
            let incarnation = self.random.random();
            self.machines[slot].impersonate(&members, node_id, incarnation);
        }
        let us = self.random.random_range(10_000..1_000_000);
        self.plan_in(us, Event::Start(slot));
        true
    }

    fn remove_a_member(&mut self) -> Result<bool, String> {
        let Some(leader) = self.machines.iter().position(Machine::leads) else { return Ok(false) };
        let life = self.machines[leader].life.as_ref().expect("it leads");
        let voters = life.core.group().configuration().voters.len();
        let ids: Vec<u64> = life.members.members.iter().map(|member| member.node_id).collect();
        let Some(node) = ids.choose(&mut self.random).copied().filter(|_| voters > 2) else { return Ok(false) };
        self.permanent_at_ms = self.now_ms();
        self.administer(leader, AdminRequest::Remove(node))?;
        Ok(true)
    }

    fn administer(&mut self, slot: usize, request: AdminRequest) -> Checked {
        self.serial += 1;
        let id = RequestId(self.serial);
        let now = self.now(slot);
        self.trace.note(self.now_us, slot, format_args!("asked to {request:?}"));
        self.machines[slot].event(now, |core| core.admin(id, request));
        self.drain(slot)
    }
}
