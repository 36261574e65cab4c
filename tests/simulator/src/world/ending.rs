//! After the faults: everything heals, comes to rest, serves, and holds the same data.

use super::*;

impl World {
    pub(super) fn heal(&mut self) {
        self.trace.note(self.now_us, 0, format_args!("everything heals"));
        self.is_healing = true;
        for (from, to) in self.cuts.keys().copied().collect::<Vec<_>>() {
            self.mend(from, to);
        }
        for slot in 0..self.machines.len() {
            self.conditions[slot] = Condition::default();
            if self.is_down(slot) && self.machines[slot].blank.is_none() {
                self.plan_in(0, Event::Start(slot));
            }
        }
    }

    fn lives(&self) -> impl Iterator<Item = &Life> {
        self.machines.iter().filter_map(|machine| machine.life.as_ref())
    }

    pub(super) fn is_settled(&self) -> bool {
        let mut positions = self.lives().map(|life| life.applied().position);
        let first = positions.next();
        let members = self.lives().map(|life| life.members.members.len()).max();
        self.lives().count() == self.machines.len()
            && members == Some(self.machines.len())
            && self.clients.are_idle()
            && self.machines.iter().any(Machine::leads)
            && positions.all(|position| Some(position) == first)
            && self.lives().all(|life| life.under_way().is_empty())
    }

    pub(super) fn describe(&self) -> String {
        let describe = |machine: &Machine| match &machine.life {
            None => format!("machine {} is {}", machine.slot, if machine.blank.is_some() { "blank" } else { "down" }),
            Some(life) => {
                let group = life.core.group();
                let configuration = group.configuration();
                format!(
                    "node {} on machine {}: {:?} in term {} of leader {:?}, applied {} of {} committed and {} logged, voters {:?} and {:?}, \
                     learners {:?}, members {:?}, under way {:?}",
                    life.identity.node_id,
                    machine.slot,
                    group.role(),
                    group.term(),
                    group.leader(),
                    life.applied().position.index,
                    group.commit_index(),
                    group.last_index(),
                    configuration.voters,
                    configuration.voters_outgoing,
                    configuration.learners,
                    life.members.members.iter().map(|member| (member.node_id, &member.addresses.peer)).collect::<Vec<_>>(),
                    life.under_way()
                )
            }
        };
        self.machines.iter().map(describe).collect::<Vec<_>>().join("; ")
    }

    /// Every machine reads every key and writes one; what it says is part of the history.
    pub(super) fn serve_everywhere(&mut self) -> Checked {
        let keys = self.clients.keys();
        let answered_before = self.clients.answered;
        let client = self.clients.slots.len();
        let mut asked = 0;
        for slot in 0..self.machines.len() {
            let reads = Question::Pipeline(keys.iter().map(|key| (key.clone(), Command::Get)).collect());
            let write = Question::Pipeline(vec![("last".into(), Command::Incr { by: 1 })]);
            for question in [vec![write, reads], self.clients.last_of_several()].concat() {
                asked += 1;
                let (now, ns) = (self.now(slot), self.ns());
                if !self.clients.send(client + slot, &mut self.machines[slot], now, ns, question) {
                    return self.clients.complain(format!("service: machine {slot} is not there at the end"));
                }
                self.drain(slot)?;
            }
        }
        let end_ms = self.now_ms() + 10_000;
        while self.now_ms() < end_ms && !self.is_settled() {
            self.run_until(self.now_ms() + 10)?;
        }
        let answered = usize::try_from(self.clients.answered - answered_before).expect("few requests");
        if answered < asked {
            let unanswered = format!("service: {answered} of the {asked} last requests were answered: {}", self.describe());
            return self.clients.complain(unanswered);
        }
        if !self.is_settled() {
            return Err(format!("not at rest: after the last requests: {}", self.describe()));
        }
        Ok(())
    }

    pub(super) fn compare_data(&self) -> Checked {
        let mut all = self.machines.iter().map(|machine| contents_of(machine.data.view(ViewKind::Snapshot).as_ref()));
        let first = all.next().expect("there is a machine");
        for (slot, other) in (1..).zip(all) {
            if first != other {
                let differs = first.iter().zip(&other).find(|(one, other)| one != other);
                return Err(format!("different data: machines 0 and {slot} differ at the same applied index, first here: {differs:?}"));
            }
        }
        Ok(())
    }
}
