//! A write load that remembers what it was told, and checks afterwards that all of it was true.
//! Each worker writes, over and over: a key of its own (SET), a register of its own (SET, overwritten every time), and a counter that all
//! workers share (INCR). Every command ends in one of three ways: acknowledged, not executed, or unknown (the reply says so, or there is
//! none). Then: acknowledged keys are there; a register holds the last acknowledged value or an unknown later one; what was not executed
//! has left no trace; and the counter lies between the acknowledged increments and those plus the unknown ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use resp::Value;

use crate::client::{Client, ClientError, Fate, integer};
use crate::wait::eventually;

/// Pause before a worker without a connection tries the next node.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Keys read at once when a record is checked.
const CHECK_BATCH: usize = 500;

/// How a worker sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One command at a time.
    Single,
    /// One command at a time, with a pause after each.
    Paced(Duration),
    /// So many rounds of the three commands in one pipeline.
    Pipelined(usize),
}

/// A load to be.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Prefix of all keys; another one for every load of a test.
    pub name: String,
    /// Nodes to write to. Worker i begins at the i-th, and goes on to the next when its connection breaks.
    pub addresses: Vec<SocketAddr>,
    /// Number of workers.
    pub workers: usize,
    /// How they send.
    pub shape: Shape,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    NotExecuted,
    Unknown,
}

/// When an acknowledged batch was sent, and when its last reply was there.
type Acknowledgement = (Instant, Instant);

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    acknowledgements: Mutex<Vec<Acknowledgement>>,
}

impl Shared {
    fn acknowledgements(&self) -> MutexGuard<'_, Vec<Acknowledgement>> {
        self.acknowledgements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load that goes on.
#[derive(Debug)]
pub struct Load {
    name: String,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<WorkerRecord>>,
}

impl Load {
    /// Starts writing.
    /// # Panics
    /// There is no node or no worker.
    #[must_use]
    pub fn start(plan: &LoadPlan) -> Self {
        assert!(!plan.addresses.is_empty(), "a load needs a node");
        assert!(plan.workers > 0, "a load needs a worker");
        let shared = Arc::new(Shared::default());
        let worker = |number: usize| {
            let (plan, shared) = (plan.clone(), Arc::clone(&shared));
            thread::spawn(move || Worker::new(plan, number, shared).run())
        };
        Self { name: plan.name.clone(), workers: (0..plan.workers).map(worker).collect(), shared }
    }

    /// Starts single-command writers on some nodes.
    #[must_use]
    pub fn on(name: &str, addresses: Vec<SocketAddr>, workers: usize) -> Self {
        Self::start(&LoadPlan { name: name.to_owned(), addresses, workers, shape: Shape::Single })
    }

    /// How many batches were acknowledged whole so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledgements().len()
    }

    /// Waits for so many more acknowledged batches.
    /// # Panics
    /// There are none in time.
    #[track_caller]
    pub fn wait_for(&self, more: usize) {
        let target = self.acknowledged() + more;
        eventually("the load is acknowledged", || (self.acknowledged() >= target).then_some(()));
    }

    /// Time from a moment until the first acknowledgement of something that was sent after it; `None` if there is none yet.
    #[must_use]
    pub fn first_acknowledged_after(&self, moment: Instant) -> Option<Duration> {
        let acknowledgements = self.shared.acknowledgements();
        // They are in the order of their ends, and a batch ends after it began.
        let later = acknowledgements.iter().rev().take_while(|(_, ended)| *ended > moment);
        later.filter(|(began, _)| *began >= moment).map(|(_, ended)| *ended - moment).min()
    }

    /// Waits for the first acknowledgement of something that was sent after a moment, and says how long after it came.
    /// # Panics
    /// There is none in time.
    #[track_caller]
    pub fn wait_acknowledged_after(&self, moment: Instant) -> Duration {
        eventually("a write is acknowledged again", || self.first_acknowledged_after(moment))
    }

    /// Stops writing; what was told.
    /// # Panics
    /// A worker has panicked.
    #[must_use]
    pub fn stop(mut self) -> Record {
        self.shared.stop.store(true, Ordering::Relaxed);
        let workers = std::mem::take(&mut self.workers);
        let workers = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect();
        Record { name: self.name.clone(), workers }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// What one worker was told.
#[derive(Debug, Default)]
struct WorkerRecord {
    number: usize,
    /// Outcome of every SET of an own key, by round.
    keys: Vec<Outcome>,
    /// Last acknowledged value of the register.
    register: Option<usize>,
    /// Values that were sent since, and whose outcome is unknown.
    register_maybe: BTreeSet<usize>,
    /// Values of the counter that acknowledged increments returned, in order.
    increments: Vec<i64>,
    increments_unknown: u64,
    /// Replies other than acknowledgements, with their number.
    errors: BTreeMap<String, u64>,
    /// Commands without a reply.
    unanswered: u64,
}

struct Worker {
    plan: LoadPlan,
    shared: Arc<Shared>,
    client: Option<Client>,
    /// Position in the plan's addresses.
    place: usize,
    record: WorkerRecord,
}

/// The commands of one round, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Key(usize),
    Register(usize),
    Increment,
}

impl Worker {
    fn new(plan: LoadPlan, number: usize, shared: Arc<Shared>) -> Self {
        let place = number % plan.addresses.len();
        Self { plan, shared, client: None, place, record: WorkerRecord { number, ..WorkerRecord::default() } }
    }

    fn run(mut self) -> WorkerRecord {
        let mut round = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let rounds = match self.plan.shape {
                Shape::Single | Shape::Paced(_) => 1,
                Shape::Pipelined(rounds) => rounds,
            };
            let writes: Vec<Write> =
                (round..round + rounds).flat_map(|round| [Write::Key(round), Write::Register(round), Write::Increment]).collect();
            round += rounds;
            match self.plan.shape {
                Shape::Single => writes.chunks(1).for_each(|write| self.send(write)),
                Shape::Paced(pause) => writes.chunks(1).for_each(|write| {
                    self.send(write);
                    thread::sleep(pause);
                }),
                Shape::Pipelined(_) => self.send(&writes),
            }
        }
        self.record
    }

    /// Sends a batch, once there is a connection, and notes what became of it.
    fn send(&mut self, writes: &[Write]) {
        let Some(mut client) = self.connection() else {
            // Nothing was sent: as if the worker had not tried.
            writes.iter().for_each(|write| self.note(*write, Outcome::NotExecuted, None));
            return;
        };
        let began = Instant::now();
        for write in writes {
            client.queue(&self.command(*write));
        }
        let mut broken = client.flush().is_err();
        let mut acknowledged = true;
        for write in writes {
            let reply = if broken { Err(ClientError::Closed) } else { client.receive() };
            let outcome = match &reply {
                Ok(Value::Error(text)) => self.note_error(text),
                Ok(_) => Outcome::Acknowledged,
                Err(_) => {
                    broken = true;
                    self.record.unanswered += 1;
                    Outcome::Unknown
                }
            };
            acknowledged &= outcome == Outcome::Acknowledged;
            self.note(*write, outcome, reply.ok());
        }
        if acknowledged {
            self.shared.acknowledgements().push((began, Instant::now()));
        }
        if broken {
            self.place += 1;
        } else {
            self.client = Some(client);
        }
    }

    /// A connection to the present node, or to the next that takes one. `None` when the load is over.
    fn connection(&mut self) -> Option<Client> {
        loop {
            if let Some(client) = self.client.take() {
                return Some(client);
            }
            if self.shared.stop.load(Ordering::Relaxed) {
                return None;
            }
            self.client = Client::connect(self.plan.addresses[self.place % self.plan.addresses.len()]).ok();
            if self.client.is_none() {
                self.place += 1;
                thread::sleep(RECONNECT_PAUSE);
            }
        }
    }

    fn command(&self, write: Write) -> Vec<String> {
        let (name, number) = (&self.plan.name, self.record.number);
        match write {
            Write::Key(round) => vec!["SET".into(), key(name, number, round), value(number, round)],
            Write::Register(round) => vec!["SET".into(), register(name, number), round.to_string()],
            Write::Increment => vec!["INCR".into(), counter(name)],
        }
    }

    fn note_error(&mut self, text: &str) -> Outcome {
        *self.record.errors.entry(text.to_owned()).or_default() += 1;
        match Fate::of(text) {
            Fate::NotExecuted => Outcome::NotExecuted,
            // A refusal is told by `Record::check`: it may not come.
            Fate::Unknown | Fate::Refused => Outcome::Unknown,
        }
    }

    fn note(&mut self, write: Write, outcome: Outcome, reply: Option<Value>) {
        let record = &mut self.record;
        match (write, outcome) {
            (Write::Key(round), outcome) => {
                assert_eq!(record.keys.len(), round, "every round is noted once");
                record.keys.push(outcome);
            }
            (Write::Register(round), Outcome::Acknowledged) => {
                record.register = Some(round);
                record.register_maybe.clear();
            }
            (Write::Register(round), Outcome::Unknown) => drop(record.register_maybe.insert(round)),
            (Write::Increment, Outcome::Acknowledged) => record.increments.push(integer(&reply.expect("it was acknowledged"))),
            (Write::Increment, Outcome::Unknown) => record.increments_unknown += 1,
            (Write::Register(_) | Write::Increment, Outcome::NotExecuted) => {}
        }
    }
}

fn key(name: &str, worker: usize, round: usize) -> String {
    format!("{name}:{worker}:{round}")
}

fn value(worker: usize, round: usize) -> String {
    format!("value of {worker} in {round}")
}

fn register(name: &str, worker: usize) -> String {
    format!("{name}:register:{worker}")
}

fn counter(name: &str) -> String {
    format!("{name}:counter")
}

/// What a load was told.
#[derive(Debug)]
pub struct Record {
    name: String,
    workers: Vec<WorkerRecord>,
}

/// A record in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Acknowledged keys.
    pub keys: usize,
    /// Acknowledged increments.
    pub increments: u64,
    /// Increments whose outcome is unknown.
    pub increments_unknown: u64,
    /// What the counter holds; 0 before `check`.
    pub counter: u64,
}

impl Record {
    /// Error replies, with their number.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (text, count) in self.workers.iter().flat_map(|worker| &worker.errors) {
            *all.entry(text.clone()).or_default() += count;
        }
        all
    }

    /// Commands that were sent and have no reply.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.workers.iter().map(|worker| worker.unanswered).sum()
    }

    /// Checks that no command failed in any way.
    /// # Panics
    /// One did.
    #[track_caller]
    pub fn check_no_errors(&self) {
        assert_eq!((self.errors(), self.unanswered()), (BTreeMap::new(), 0), "clients of {} see no error", self.name);
    }

    /// Checks that everything told is true, against any node.
    /// # Panics
    /// Something is not.
    #[track_caller]
    pub fn check(&self, client: &mut Client) -> Totals {
        let strange: Vec<String> = self.errors().into_keys().filter(|text| Fate::of(text) == Fate::Refused).collect();
        assert!(strange.is_empty(), "{}: errors that a load must not see: {strange:?}", self.name);
        self.workers.iter().for_each(|worker| self.check_keys(worker, client));
        self.workers.iter().for_each(|worker| self.check_register(worker, client));
        self.check_counter(client)
    }

    #[track_caller]
    fn check_keys(&self, worker: &WorkerRecord, client: &mut Client) {
        let rounds: Vec<usize> = (0..worker.keys.len()).collect();
        let mut wrong = Vec::new();
        for batch in rounds.chunks(CHECK_BATCH) {
            let replies = client.pipeline(batch.iter().map(|round| vec!["GET".to_owned(), key(&self.name, worker.number, *round)]));
            for (round, reply) in batch.iter().zip(replies.expect("a node that answers")) {
                let expected = value(worker.number, *round);
                let right = match (&reply, worker.keys[*round]) {
                    (Value::Bulk(found), Outcome::Acknowledged | Outcome::Unknown) => *found == expected,
                    (Value::Null, Outcome::NotExecuted | Outcome::Unknown) => true,
                    _ => false,
                };
                if !right {
                    wrong.push(format!("{} ({:?}): {reply:?}", key(&self.name, worker.number, *round), worker.keys[*round]));
                }
            }
        }
        let shown = &wrong[..wrong.len().min(10)];
        assert!(wrong.is_empty(), "{} of {} keys are not as they were told, such as {shown:#?}", wrong.len(), worker.keys.len());
    }

    #[track_caller]
    fn check_register(&self, worker: &WorkerRecord, client: &mut Client) {
        let found = client.get(&register(&self.name, worker.number));
        let found = found.map(|value| String::from_utf8_lossy(&value).parse::<usize>().expect("a round"));
        let right = found == worker.register || found.is_some_and(|round| worker.register_maybe.contains(&round));
        let (last, maybe) = (worker.register, &worker.register_maybe);
        assert!(right, "register {}:{} is {found:?}, told was {last:?}, perhaps {maybe:?}", self.name, worker.number);
    }

    #[track_caller]
    fn check_counter(&self, client: &mut Client) -> Totals {
        let found = client.get(&counter(&self.name)).map_or(0, |value| integer(&Value::Bulk(value)));
        let mut returned = BTreeSet::new();
        for worker in &self.workers {
            assert!(worker.increments.is_sorted(), "increments of one client come back in their order");
            for value in &worker.increments {
                assert!(returned.insert(*value), "{} increments returned {value} twice", self.name);
            }
        }
        let totals = Totals {
            keys: self.workers.iter().flat_map(|worker| &worker.keys).filter(|outcome| **outcome == Outcome::Acknowledged).count(),
            increments: returned.len() as u64,
            increments_unknown: self.workers.iter().map(|worker| worker.increments_unknown).sum(),
            counter: u64::try_from(found).expect("a counter that only rises"),
        };
        assert!(totals.counter >= totals.increments, "acknowledged increments of {} are missing: {totals:?}", self.name);
        let most = totals.increments + totals.increments_unknown;
        assert!(totals.counter <= most, "more increments of {} than could be: {totals:?}", self.name);
        totals
    }
}
