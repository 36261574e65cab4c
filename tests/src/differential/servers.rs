//! The two servers, and what is done to both: sequences, one after the other, each on empty databases and fresh connections.
//! A pipeline goes to both at once, and the next when all its replies are there: so commands of several connections have one order.
//! After each sequence the whole content of both is compared.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use resp::Value;

use super::compare::{agree, full_name};
use super::differences::{self, DIFFERENCES, Exchange};
use super::sequence::{Action, CONNECTIONS, Command, Step, line, shown};
use super::wire::{Wire, decoded};

/// Databases of a server.
const DATABASES: usize = 16;
/// Commands that go out at once at most.
const PIPELINE_MAX: usize = 200;
/// Pages after which an iteration does not end.
const PAGES_MAX: usize = 10_000;

/// The same connection to both servers.
struct Pair {
    redis: Wire,
    redraft: Wire,
}

/// Where the servers do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// What was asked.
    pub asked: String,
    /// What redis-server answered.
    pub redis: String,
    /// What redraft answered.
    pub redraft: String,
}

/// Both servers, with what has been found so far.
#[derive(Debug)]
pub(super) struct Servers {
    redis: SocketAddr,
    redraft: SocketAddr,
    /// How often each entry of `DIFFERENCES` was needed.
    pub(super) uses: Vec<u64>,
}

impl Servers {
    pub(super) fn new(redis: SocketAddr, redraft: SocketAddr) -> Self {
        Self { redis, redraft, uses: vec![0; DIFFERENCES.len()] }
    }

    /// Carries a sequence out on empty databases; the number of commands if the servers agree on all of it.
    pub(super) fn play(&mut self, steps: &[Step]) -> Result<u64, Disagreement> {
        let mut connections = (0..CONNECTIONS).map(|_| self.connect()).collect::<Result<Vec<_>, _>>()?;
        self.exchange(&mut connections[0], &[&Command::new(vec!["FLUSHALL".into()])])?;
        let mut commands = 0;
        let mut pipeline: Vec<&Command> = vec![];
        let mut on = 0;
        for step in steps {
            if step.alone || step.connection != on || pipeline.len() >= PIPELINE_MAX {
                self.flush(&mut connections[on], &mut pipeline)?;
            }
            on = step.connection;
            match &step.action {
                Action::Commands(together) => {
                    commands += together.len() as u64;
                    pipeline.extend(together);
                    if together.iter().any(Command::is_quit) {
                        self.flush(&mut connections[on], &mut pipeline)?;
                        connections[on] = self.connect()?;
                    }
                }
                Action::Iteration { options } => {
                    self.flush(&mut connections[on], &mut pipeline)?;
                    commands += iterate(&mut connections[on], options)?;
                }
            }
        }
        self.flush(&mut connections[on], &mut pipeline)?;
        self.compare_contents()?;
        Ok(commands)
    }

    fn connect(&self) -> Result<Pair, Disagreement> {
        let (redis, redraft) = both(|| "to connect".to_owned(), Wire::connect(self.redis), Wire::connect(self.redraft))?;
        Ok(Pair { redis, redraft })
    }

    fn flush(&mut self, pair: &mut Pair, pipeline: &mut Vec<&Command>) -> Result<(), Disagreement> {
        self.exchange(pair, pipeline)?;
        pipeline.clear();
        Ok(())
    }

    /// Sends commands to both and compares the replies. All are read, whatever they are, so that nothing of this sequence is carried out
    /// after it.
    fn exchange(&mut self, pair: &mut Pair, commands: &[&Command]) -> Result<Vec<[Bytes; 2]>, Disagreement> {
        let args = || commands.iter().map(|command| command.args.as_slice());
        both(|| "to take commands".to_owned(), pair.redis.send(args()), pair.redraft.send(args()))?;
        let mut replies = vec![];
        let mut judgement = Ok(());
        for command in commands.iter().filter(|command| !command.is_silent) {
            let asked = || line(&command.args);
            let (redis, redraft) = both(asked, pair.redis.receive(), pair.redraft.receive())?;
            judgement = judgement.and_then(|()| self.judge(&command.args, &redis, &redraft));
            replies.push([redis, redraft]);
        }
        judgement?;
        match (pair.redis.surplus(), pair.redraft.surplus()) {
            (b"", b"") => Ok(replies),
            (redis, redraft) => Err(Disagreement { asked: "nothing more".to_owned(), redis: shown(redis), redraft: shown(redraft) }),
        }
    }

    fn judge(&mut self, args: &[Bytes], redis: &[u8], redraft: &[u8]) -> Result<(), Disagreement> {
        let name = full_name(args);
        if agree(&name, args, redis, redraft) {
            return Ok(());
        }
        match differences::find(&Exchange { name: &name, args, redis, redraft }) {
            Some(entry) => self.uses[entry] += 1,
            None => return Err(Disagreement { asked: line(args), redis: shown(redis), redraft: shown(redraft) }),
        }
        Ok(())
    }

    /// Compares the number of keys of every database, and name, type, value and deadline of every key.
    fn compare_contents(&mut self) -> Result<(), Disagreement> {
        let command = |words: &[&str]| Command::new(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect());
        let mut pair = self.connect()?;
        let overview: Vec<Command> =
            (0..DATABASES).flat_map(|db| [command(&["SELECT", &db.to_string()]), command(&["KEYS", "*"]), command(&["DBSIZE"])]).collect();
        let replies = self.exchange(&mut pair, &overview.iter().collect::<Vec<_>>())?;
        for (db, replies) in replies.chunks(3).enumerate() {
            let Some(Value::Array(keys)) = decoded(&replies[1][0]) else { continue };
            let mut commands = vec![command(&["SELECT", &db.to_string()])];
            for key in keys {
                let Value::Bulk(key) = key else { continue };
                let about = |name: &'static str| Command::new(vec![Bytes::from_static(name.as_bytes()), key.clone()]);
                commands.extend(["GET", "TYPE", "STRLEN", "PTTL", "PEXPIRETIME"].map(about));
            }
            self.exchange(&mut pair, &commands.iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// SCAN to the end on both, and whether both have met the same keys. The number of pages.
fn iterate(pair: &mut Pair, options: &[Bytes]) -> Result<u64, Disagreement> {
    let asked = || format!("SCAN <all> {}", line(options));
    let (redis, redraft) = both(asked, all_keys(&mut pair.redis, options), all_keys(&mut pair.redraft, options))?;
    let names = |keys: &BTreeSet<Bytes>| shown(&keys.iter().flat_map(|key| [b" ", &key[..]].concat()).collect::<Vec<u8>>());
    if redis.0 == redraft.0 {
        Ok(redis.1.max(redraft.1))
    } else {
        Err(Disagreement { asked: asked(), redis: names(&redis.0), redraft: names(&redraft.0) })
    }
}

/// The keys that an iteration returns, and the number of its pages.
fn all_keys(wire: &mut Wire, options: &[Bytes]) -> Result<(BTreeSet<Bytes>, u64), String> {
    let mut keys = BTreeSet::new();
    let mut cursor = Bytes::from_static(b"0");
    for page in 1..=PAGES_MAX {
        let args: Vec<Bytes> = ["SCAN".into(), cursor].into_iter().chain(options.iter().cloned()).collect();
        match wire.ask(&args)? {
            Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([Value::Bulk(next), Value::Array(found)]) => {
                    keys.extend(found.into_iter().filter_map(|key| if let Value::Bulk(key) = key { Some(key) } else { None }));
                    if next == "0" {
                        return Ok((keys, page as u64));
                    }
                    cursor = next;
                }
                other => return Err(format!("not a page: {other:?}")),
            },
            other => return Err(format!("not a page: {other:?}")),
        }
    }
    Err(format!("no end after {PAGES_MAX} pages"))
}

/// What both servers gave, unless one of them failed.
fn both<T>(asked: impl Fn() -> String, redis: Result<T, String>, redraft: Result<T, String>) -> Result<(T, T), Disagreement> {
    let said = |result: &Result<T, String>| result.as_ref().err().cloned().unwrap_or_else(|| "it answers".to_owned());
    match (redis, redraft) {
        (Ok(redis), Ok(redraft)) => Ok((redis, redraft)),
        (redis, redraft) => Err(Disagreement { asked: asked(), redis: said(&redis), redraft: said(&redraft) }),
    }
}
