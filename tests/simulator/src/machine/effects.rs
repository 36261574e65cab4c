//! What the core wants done, handed to the workers and to the world.

use super::*;

impl Machine {
    pub(super) fn carry_out(&mut self) {
        loop {
            let Some(life) = &mut self.life else { return };
            let effects = life.core.effects();
            assert_ne!(life.core.patience_ms(), Some(0), "the core would turn without a pause");
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out_one(effect);
            }
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        let Some(life) = &mut self.life else { return };
        match effect {
            Effect::Send(to, lane, frame) => {
                if let Some(Body::ReadRequest(request)) = &frame.body
                    && request.round > 0
                {
                    life.asked_round = request.round;
                }
                self.out.push(Out::Send(to, lane, frame));
            }
            Effect::Persist(persist) => self.persist(persist),
            Effect::Track(id, sequence) => {
                let requests = life.runs.get(&id).expect("a run is sent once").requests.clone();
                life.tracked.push(TrackedRun { id, sequence, requests });
            }
            Effect::Apply(entries) => {
                self.out.push(Out::Committed(entries.clone()));
                let entries = if self.bug == Some(Bug::LocalClock) {
                    entries.iter().map(|entry| planted::stamped(entry, life.now.wall_ms)).collect()
                } else {
                    entries
                };
                life.apply_later(entries, &mut self.out);
            }
            Effect::Configure(configuration) => {
                let view = self.data.view(ViewKind::Latest);
                self.configuration_before = view.get(STATE, &state_key(GROUP, "raft/configuration")).expect("memory does not fail");
                life.task(ApplyTask::Configure(configuration), &mut self.out);
            }
            Effect::Install(snapshot) => {
                self.installed_index = snapshot.get_metadata().index;
                life.install(&snapshot, &mut self.out);
            }
            Effect::FailRun(id, error) => {
                life.runs.remove(&id);
                self.out.push(Out::RunDone(id, Err(error)));
            }
            Effect::GiveUp(sequence) => {
                life.apply_later(Vec::new(), &mut self.out);
                life.task(ApplyTask::GiveUp(sequence), &mut self.out);
            }
            Effect::ReadReady { id, now_ms } => self.may_read(id, now_ms),
            Effect::FailRead(id, error) => {
                life.reads.remove(&id);
                self.out.push(Out::ReadDone(id, Err(error)));
            }
            Effect::GenerateSnapshot(to, id) => self.out.push(Out::Later(Work::Generate(to, id))),
            Effect::SendSnapshot(id, message) => {
                let files = life.outgoing.remove(&id).expect("the core sends what was generated, once");
                self.out.push(Out::Stream(id, Box::new(message), files));
            }
            Effect::DropSnapshot(id) => {
                if let Some(files) = life.outgoing.remove(&id) {
                    remove_dir(&files.dir);
                }
            }
            Effect::SyncData if self.bug == Some(Bug::TruncateBeforeSync) => {
                life.finished.data_synced = true;
                life.schedule_turn(&mut self.out);
            }
            Effect::SyncData => self.out.push(Out::Later(Work::DataSync(self.data.unsynced()))),
            Effect::Truncate(to) => life.log_task(LogTask::Truncate(to), &mut self.out),
            Effect::AnswerJoin(id, answer) => self.out.push(Out::JoinDone(id, answer)),
            // Digests that differ are a finding, wherever the difference is.
            Effect::ExaminePart(entry, part) => self.out.push(Out::Differs(format!("at {entry:?} in {part:?}"))),
            Effect::StopDiverged(divergence) => self.out.push(Out::Differs(format!("{divergence:?}"))),
            Effect::AnswerVerify(_, result) => self.out.push(Out::Compared(result.map(|_| ()))),
            Effect::Verified(_) => {}
            Effect::AnswerAdmin(_, result) => self.out.push(Out::AdminDone(result)),
        }
    }

    fn persist(&mut self, mut persist: Persist) {
        let Some(life) = &mut self.life else { return };
        self.out.push(Out::Logged(persist.entries.clone()));
        if self.bug == Some(Bug::VoteInMemory) {
            persist.hard_state = persist.hard_state.as_ref().map(planted::without_vote);
        }
        if self.bug == Some(Bug::EarlyVotes) {
            let is_vote =
                |message: &mut Message| matches!(message.get_msg_type(), MessageType::MsgRequestVote | MessageType::MsgRequestVoteResponse);
            for message in persist.messages.extract_if(.., is_vote) {
                let (to, lane, frame) = raft_frame(&message, life.now.wall_ms);
                self.out.push(Out::Send(to, lane, frame));
            }
        }
        for snapshot in persist.messages.extract_if(.., |message| message.get_msg_type() == MessageType::MsgSnapshot) {
            life.core.send_snapshot(snapshot);
        }
        let going = life.persists.push(persist);
        life.persist_later(going, &mut self.out);
    }

    pub(super) fn flush(&mut self) {
        let Some(life) = &mut self.life else { return };
        let going = life.persists.flush();
        life.persist_later(going, &mut self.out);
    }

    /// A client's reads may be evaluated by this time of a leader.
    pub(super) fn may_read(&mut self, id: ReadId, now_ms: u64) {
        if let Some(life) = &mut self.life {
            let applied = life.applied().position.index;
            if let Some(reading) = life.reads.get_mut(&id) {
                reading.allowed_at.get_or_insert(applied);
            }
        }
        self.out.push(Out::ReadStamped(id, now_ms));
        self.out.push(Out::Later(Work::Evaluate(id, now_ms)));
    }

    /// Evaluates a client's reads on the data as it is now, by the leader's time. As in a process, this is on another thread and so some time
    /// after the node was allowed to; and what has to come from the disk is evaluated later still, on a view of its own.
    pub(super) fn evaluate(&mut self, id: ReadId, now_ms: u64) {
        let Some(life) = &mut self.life else { return };
        let Some(mut reading) = life.reads.remove(&id) else { return };
        if life.replaces_data() {
            self.out.push(Out::ReadDone(id, Err(RequestError::Loading)));
            return;
        }
        let view = self.data.view(ViewKind::Snapshot);
        let state = KeyspaceState::load(view.as_ref(), GROUP).expect("good data");
        let applied = life.applied().position.index;
        if reading.replies.is_empty() && reading.allowed_at.is_some_and(|allowed_at| allowed_at < applied) {
            self.incidents.note(Incident::LateRead);
        }
        if !reading.replies.is_empty() && reading.begun_at.is_some_and(|begun_at| begun_at < applied) {
            self.incidents.note(Incident::ReadInParts);
        }
        reading.begun_at.get_or_insert(applied);
        for request in &reading.requests[reading.replies.len()..] {
            if life.random.random_bool(0.05) {
                self.out.push(Out::Later(Work::Evaluate(id, now_ms)));
                life.reads.insert(id, reading);
                return;
            }
            let context =
                ReadContext { group: GROUP, db: request.db, now: Some(UnixMillis(now_ms)), log_time: None, state: Some(&state), seed: 0 };
            match request.spec.read(&request.args, &Reader::new(view.as_ref(), context)) {
                Ok(reply) => reading.replies.push(reply),
                Err(ReadError::TimeNeeded(time)) => {
                    life.reads.insert(id, reading);
                    life.core.read(id, life.now.mono_ms + REQUEST_TIMEOUT_MS, time.0);
                    life.schedule_turn(&mut self.out);
                    return;
                }
                Err(ReadError::Engine(error)) => panic!("memory does not fail: {error}"),
            }
        }
        self.out.push(Out::ReadDone(id, Ok(reading.replies)));
    }
}
