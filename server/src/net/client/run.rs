//! Runs: consecutive commands of one connection that go to the node together.
//! A run keeps the order of all that was asked: commands for the group, and between them commands that are answered already because
//! their arguments were wrong. It decides when it is full, and what each command is answered when the node is done.
//! Invariant: `len` is the number of requests and of answered commands together, and the positions in `answered` rise.

use std::time::Duration;

use bytes::Bytes;
use resp::Reply;

use crate::command::{CommandSpec, Keys, flags};
use crate::error::RequestError;
use crate::metrics::{Distribution, Metric, Metrics};
use crate::node::{Request, RunResult};

/// What an argument adds to a request in a log entry, in bytes, besides its own: its length.
const ARGUMENT_OVERHEAD_BYTES: usize = 4;

/// When a run is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Most bytes of arguments (`max-entry-bytes`); a single larger command makes a run of its own.
    pub bytes_max: usize,
    /// Most commands (`max-entry-commands`).
    pub commands_max: usize,
}

/// Which of the node's paths a run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// It has a write: through the log.
    Write,
    /// Reads alone.
    Read,
}

/// What a run's end means for the commands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// They go on.
    GoOn,
    /// Every command that had been received by then is answered with the same error: the client may retry the whole pipeline, and then
    /// nothing of it must have been executed behind a command that was not.
    FailReceived(RequestError),
}

/// A run while it is collected.
#[derive(Default)]
pub struct Run {
    requests: Vec<Request>,
    /// Replies that are known already, with their position in the run.
    answered: Vec<(usize, Reply)>,
    bytes: usize,
    writes: usize,
    /// Whether the only request is one that walks over many keys.
    iterates: bool,
}

/// A run that is with the node: what is needed to answer its commands.
pub struct Pending {
    /// The rows of the requests, with the number of consecutive requests that have them.
    groups: Vec<(&'static CommandSpec, usize)>,
    /// The arguments of the first request.
    first: Vec<Bytes>,
    answered: Vec<(usize, Reply)>,
}

impl Run {
    /// Whether nothing was collected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.answered.is_empty()
    }

    /// Whether the request may join, or else the run must be executed first. An iterating read is alone, so that it neither holds up
    /// others nor runs beside apply.
    #[must_use]
    pub fn accepts(&self, request: &Request, limits: RunLimits) -> bool {
        if self.requests.is_empty() {
            return true;
        }
        !self.iterates
            && !request.spec.flags.contains(flags::ITERATES)
            && self.requests.len() < limits.commands_max
            && self.bytes + request_bytes(request) <= limits.bytes_max
    }

    /// Adds a command for the group.
    /// # Panics
    /// Panics if an iterating read would not be alone.
    pub fn push(&mut self, request: Request) {
        assert!(!self.iterates, "an iterating read is alone");
        self.iterates = request.spec.flags.contains(flags::ITERATES) && !request.spec.is_write();
        self.bytes += request_bytes(&request);
        self.writes += usize::from(request.spec.is_write());
        self.requests.push(request);
    }

    /// Adds a command whose reply is known.
    pub fn push_answered(&mut self, reply: Reply) {
        self.answered.push((self.requests.len() + self.answered.len(), reply));
    }

    /// Takes the run for the node and leaves an empty one. Without requests there is nothing to ask the node.
    pub fn take(&mut self) -> (Vec<Request>, Path, Pending) {
        let run = std::mem::take(self);
        let path = if run.writes > 0 { Path::Write } else { Path::Read };
        let mut groups: Vec<(&'static CommandSpec, usize)> = Vec::with_capacity(1);
        for request in &run.requests {
            match groups.last_mut() {
                Some((spec, count)) if std::ptr::eq(*spec, request.spec) => *count += 1,
                Some(_) | None => groups.push((request.spec, 1)),
            }
        }
        let first = run.requests.first().map_or_else(Vec::new, |request| request.args.clone());
        (run.requests, path, Pending { groups, first, answered: run.answered })
    }
}

impl Pending {
    /// The arguments of the first request; none if there is no request.
    #[must_use]
    pub fn first(&self) -> &[Bytes] {
        &self.first
    }

    /// Takes off what belongs to the first `count` requests, with the known replies before the last of them.
    fn take_groups(&mut self, count: usize) -> Vec<(&'static CommandSpec, usize)> {
        let (mut taken, mut left) = (Vec::new(), count);
        while left > 0 {
            let (spec, size) = self.groups.first_mut().expect("the node answers no more than it was asked");
            let share = left.min(*size);
            taken.push((*spec, share));
            *size -= share;
            left -= share;
            if *size == 0 {
                self.groups.remove(0);
            }
        }
        taken
    }

    /// Splits off the first `count` requests; what stands behind them stays.
    /// # Panics
    /// Panics if there are fewer.
    pub fn split_first(&mut self, count: usize) -> Pending {
        let groups = self.take_groups(count);
        // The i-th known reply at position `at` has `at - i` requests before it.
        let moved = self.answered.iter().enumerate().take_while(|(index, (at, _))| at - index < count).count();
        let rest = self.answered.split_off(moved);
        let answered = std::mem::replace(&mut self.answered, rest);
        for (at, _) in &mut self.answered {
            *at -= count + moved;
        }
        Pending { groups, first: self.first.clone(), answered }
    }

    /// Gives every command its reply, in order, counts them, and says what becomes of the commands behind.
    /// # Panics
    /// Panics if the node gave another number of replies than it was asked for.
    pub fn resolve(self, result: RunResult, elapsed: Duration, metrics: &Metrics, mut answer: impl FnMut(&Reply)) -> Aftermath {
        let asked: usize = self.groups.iter().map(|(_, count)| count).sum();
        let total = asked + self.answered.len();
        let mut answered = self.answered.into_iter().peekable();
        let mut position = 0;
        // Replies that stand before the next one of the node.
        let mut known = |position: &mut usize, answer: &mut dyn FnMut(&Reply)| {
            while let Some((_, reply)) = answered.next_if(|(at, _)| at == position) {
                answer(&reply);
                *position += 1;
            }
        };
        let share = elapsed / u32::try_from(asked.max(1)).unwrap_or(u32::MAX);
        for (spec, count) in &self.groups {
            let share = share.saturating_mul(u32::try_from(*count).unwrap_or(u32::MAX));
            metrics.executed(spec, *count as u64, share, Some(elapsed));
        }
        metrics.add(Metric::TotalCommandsProcessed, asked as u64);
        let writes = self.groups.iter().any(|(spec, _)| spec.is_write());
        metrics.took(if writes { Distribution::WriteTime } else { Distribution::ReadTime }, elapsed, asked as u64);
        let rows = self.groups.iter().flat_map(|(spec, count)| std::iter::repeat_n(*spec, *count));
        let aftermath = match result {
            Ok(replies) => {
                assert_eq!(replies.len(), asked, "one reply per command");
                let mut found = Lookups::default();
                for (spec, reply) in rows.zip(&replies) {
                    known(&mut position, &mut answer);
                    if matches!(reply, Reply::Error(_)) {
                        metrics.failed(spec);
                    }
                    found.count(spec, reply);
                    answer(reply);
                    position += 1;
                }
                found.add_to(metrics);
                Aftermath::GoOn
            }
            Err(error) => {
                let reply = Reply::from(error.clone());
                for spec in rows {
                    known(&mut position, &mut answer);
                    metrics.failed(spec);
                    answer(&reply);
                    position += 1;
                }
                let counter = if error == RequestError::Unknown { Metric::UnknownOutcomeReplies } else { Metric::NotExecutedReplies };
                metrics.add(counter, asked as u64);
                aftermath(error)
            }
        };
        known(&mut position, &mut answer);
        assert_eq!(position, total, "every command has its reply");
        aftermath
    }
}

/// Only an error for want of a leader stops the commands behind: after *unknown* nobody can retry the pipeline as a whole, and when the
/// disk is full the commands behind may be the deletes that help.
fn aftermath(error: RequestError) -> Aftermath {
    match error {
        RequestError::NoLeader | RequestError::TryAgain(_) | RequestError::Loading => Aftermath::FailReceived(error),
        RequestError::DiskFull | RequestError::Refused(_) | RequestError::Unknown => Aftermath::GoOn,
    }
}

fn request_bytes(request: &Request) -> usize {
    request.args.iter().map(|argument| argument.len() + ARGUMENT_OVERHEAD_BYTES).sum()
}

/// Keys that reads found or did not, by what was answered. Redis counts the look-ups themselves; the reply tells the same for reads of
/// one key and for MGET, and is nearer to what users want to know of the rest.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lookups {
    hits: u64,
    misses: u64,
}

impl Lookups {
    fn count(&mut self, spec: &CommandSpec, reply: &Reply) {
        if spec.is_write() || matches!(spec.keys, Keys::None) {
            return;
        }
        match (reply, spec.keys) {
            (Reply::Error(_), _) => {}
            (Reply::Array(elements), Keys::Range { .. }) => elements.iter().for_each(|element| self.count_one(element)),
            (one, _) => self.count_one(one),
        }
    }

    fn count_one(&mut self, reply: &Reply) {
        match reply {
            Reply::Null | Reply::NullArray | Reply::Integer(0 | -2) | Reply::Simple("none") => self.misses += 1,
            _ => self.hits += 1,
        }
    }

    fn add_to(self, metrics: &Metrics) {
        if self.hits > 0 {
            metrics.add(Metric::KeyspaceHits, self.hits);
        }
        if self.misses > 0 {
            metrics.add(Metric::KeyspaceMisses, self.misses);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::command::table;

    const LIMITS: RunLimits = RunLimits { bytes_max: 100, commands_max: 3 };

    fn request(line: &str) -> Request {
        let args: Vec<_> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        Request { spec: table::resolve(&args).expect("a valid line"), args, db: 0 }
    }

    /// The runs that lines make: `W` or `R` and the first argument of each command. `!` is a command that is answered already.
    fn runs(lines: &[&str]) -> Vec<String> {
        let mut runs = vec![];
        let mut run = Run::default();
        let close = |run: &mut Run, runs: &mut Vec<String>| {
            let (requests, path, pending) = run.take();
            let mut words: Vec<_> = requests.iter().map(|request| String::from_utf8_lossy(&request.args[0]).into_owned()).collect();
            for (position, _) in pending.answered {
                words.insert(position, "!".to_owned());
            }
            runs.push(format!("{path:?}: {}", words.join(" ")));
        };
        for line in lines {
            if *line == "!" {
                run.push_answered(Reply::OK);
                continue;
            }
            let request = request(line);
            if !run.accepts(&request, LIMITS) {
                close(&mut run, &mut runs);
            }
            run.push(request);
        }
        if !run.is_empty() {
            close(&mut run, &mut runs);
        }
        runs
    }

    #[test]
    fn reads_and_writes_share_a_run() {
        assert_eq!(runs(&["get a", "get b"]), ["Read: get get"]);
        assert_eq!(runs(&["get a", "set a 1", "get a"]), ["Write: get set get"]);
        assert_eq!(runs(&[]), Vec::<String>::new());
    }

    #[test]
    fn runs_close_at_their_limits() {
        assert_eq!(runs(&["get a"; 7]), ["Read: get get get", "Read: get get get", "Read: get"]);
        let large = format!("set a {}", "x".repeat(80));
        assert_eq!(runs(&["get a", &large, "get a"]), ["Read: get", "Write: set", "Read: get"]);
        let larger_than_any = format!("set a {}", "x".repeat(800));
        assert_eq!(runs(&[&larger_than_any, "get a"]), ["Write: set", "Read: get"]);
    }

    #[test]
    fn iterating_reads_are_alone() {
        assert_eq!(runs(&["set a 1", "keys *", "get a", "scan 0"]), ["Write: set", "Read: keys", "Read: get", "Read: scan"]);
    }

    #[test]
    fn answered_commands_do_not_split_a_run() {
        assert_eq!(runs(&["!", "set a 1", "!", "!", "get a", "!"]), ["Write: ! set ! ! get !"]);
    }

    /// What the commands `! set ! get` are answered for a result of the node.
    #[test]
    fn a_run_is_answered_in_parts() {
        let metrics = Metrics::default();
        let mut run = Run::default();
        for name in ["a", "b"] {
            run.push_answered(Reply::text(format!("before {name}")));
            run.push(request(&format!("get {name}")));
            run.push(request("ttl x"));
        }
        run.push_answered(Reply::Simple("last"));
        let (_, _, mut rest) = run.take();
        let mut texts = Vec::new();
        for part in [1, 2] {
            let replies = (0..part).map(Reply::Integer).collect();
            rest.split_first(usize::try_from(part).expect("small"))
                .resolve(Ok(replies), Duration::ZERO, &metrics, |reply| texts.push(reply.clone()));
        }
        rest.resolve(Ok(vec![Reply::Integer(9)]), Duration::ZERO, &metrics, |reply| texts.push(reply.clone()));
        let expected = [
            Reply::text("before a"),
            Reply::Integer(0),
            Reply::Integer(0),
            Reply::text("before b"),
            Reply::Integer(1),
            Reply::Integer(9),
            Reply::Simple("last"),
        ];
        assert_eq!(texts, expected);
    }

    fn resolved(result: RunResult) -> (Vec<Reply>, Aftermath, Metrics) {
        let mut run = Run::default();
        run.push_answered(Reply::Simple("first"));
        run.push(request("set a 1"));
        run.push_answered(Reply::Simple("third"));
        run.push(request("get a"));
        let (requests, path, pending) = run.take();
        assert_eq!((requests.len(), path), (2, Path::Write));
        assert!(run.is_empty());
        let mut replies = vec![];
        let metrics = Metrics::new();
        let aftermath = pending.resolve(result, Duration::from_millis(2), &metrics, |reply| replies.push(reply.clone()));
        (replies, aftermath, metrics)
    }

    #[test]
    fn replies_keep_the_order_of_the_commands() {
        let (replies, aftermath, metrics) = resolved(Ok(vec![Reply::OK, Reply::Null]));
        assert_eq!(replies, [Reply::Simple("first"), Reply::OK, Reply::Simple("third"), Reply::Null]);
        assert_eq!(aftermath, Aftermath::GoOn);
        assert_eq!((metrics.get(Metric::TotalCommandsProcessed), metrics.get(Metric::KeyspaceMisses)), (2, 1));
    }

    #[test]
    fn an_error_answers_the_whole_run() {
        for (error, text, fails_the_rest) in [
            (RequestError::NoLeader, "CLUSTERDOWN no leader was reached in time; not executed", true),
            (RequestError::TryAgain("stepping down".into()), "TRYAGAIN stepping down; not executed", true),
            (RequestError::Loading, "LOADING redraft is loading the dataset in memory", true),
            (RequestError::DiskFull, "OOM command not allowed when the disk is nearly full; not executed", false),
            (RequestError::Unknown, "TIMEOUT outcome unknown", false),
        ] {
            let (replies, aftermath, _) = resolved(Err(error.clone()));
            let failed = Reply::Error(text.into());
            assert_eq!(replies, [Reply::Simple("first"), failed.clone(), Reply::Simple("third"), failed]);
            assert_eq!(aftermath, if fails_the_rest { Aftermath::FailReceived(error) } else { Aftermath::GoOn });
        }
    }

    #[test]
    fn found_keys_are_told_from_missing_ones() {
        let check = |line: &str, reply: Reply, hits, misses| {
            let mut lookups = Lookups::default();
            lookups.count(request(line).spec, &reply);
            assert_eq!(lookups, Lookups { hits, misses }, "{line}");
        };
        check("get a", Reply::text(""), 1, 0);
        check("get a", Reply::Null, 0, 1);
        check("get a", Reply::Error("WRONGTYPE".into()), 0, 0);
        check("mget a b", Reply::Array(vec![Reply::text("x"), Reply::Null]), 1, 1);
        check("entry a", Reply::Array(vec![Reply::text("string"), Reply::text("x"), Reply::Integer(1), Reply::Integer(0)]), 1, 0);
        check("entry a", Reply::Null, 0, 1);
        check("exists a", Reply::Integer(0), 0, 1);
        check("ttl a", Reply::Integer(-2), 0, 1);
        check("ttl a", Reply::Integer(-1), 1, 0);
        check("type a", Reply::Simple("none"), 0, 1);
        check("set a 1", Reply::OK, 0, 0);
        check("dbsize", Reply::Integer(0), 0, 0);
    }
}
