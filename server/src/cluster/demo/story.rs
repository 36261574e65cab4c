//! The story of the demonstration: each step says in a line what it shows, and shows it with commands as a client would send them.
//! What is acknowledged is written down, and looked for after every fault. Nothing waits for a time to pass but for a condition, and all
//! conditions together have `PATIENCE`.

use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use resp::{Value, encode_command};

use super::super::ClusterError;
use super::super::layout::Layout;
use super::super::probe::{self, ProbeError, RaftInfo};
use super::stage::Stage;
use crate::console::connection::Connection;
use crate::console::printer::{Style, render};

/// How long the story may take.
const PATIENCE: Duration = Duration::from_secs(55);
/// How long a node may take to say what it is.
const INFO_PATIENCE: Duration = Duration::from_millis(500);
/// How often a condition is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Keys of the ledger.
const LEDGER_KEYS: usize = 200;
/// How long the session of the story lives.
const SESSION_MS: &str = "600";
/// How long the node without a majority waits for one, in milliseconds.
const REQUEST_TIMEOUT_MS: &str = "1000";
/// The key of the write that no majority agrees to.
const REFUSED_KEY: &str = "refused";

/// Tells the story.
/// # Errors
/// A node does what it should not, or not in time; or the output is closed.
pub(super) fn tell(stage: &Mutex<Stage>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let layout = lock(stage).layout().clone();
    let mut story = Story { stage, layout, out, began: Instant::now(), step: 0, acknowledged: Vec::new() };
    story.nodes_start()?;
    story.every_node_takes_writes_and_reads()?;
    story.a_batch_is_one_entry()?;
    story.keys_are_in_order()?;
    story.keys_expire_everywhere()?;
    story.a_ledger_is_written()?;
    story.the_leader_is_killed()?;
    story.a_majority_is_lost()?;
    story.the_majority_is_back()
}

struct Story<'a> {
    stage: &'a Mutex<Stage>,
    layout: Layout,
    out: &'a mut dyn Write,
    began: Instant,
    step: usize,
    /// Keys and values that a node has acknowledged and that have no deadline.
    acknowledged: Vec<(String, String)>,
}

/// The steps.
impl Story<'_> {
    fn nodes_start(&mut self) -> Result<(), ClusterError> {
        let places: Vec<String> = self.layout.nodes().map(|node| self.layout.listen(node).to_string()).collect();
        self.explain(&format!("Three nodes start, on {}. They find each other and elect a leader.", places.join(", ")))?;
        for node in self.layout.nodes() {
            lock(self.stage).start(node)?;
        }
        self.wait_for_all()?;
        let (leader, info) = self.wait_for_leader()?;
        self.remark(format_args!("node {leader} leads in term {}, after {}", info.term, seconds(self.began.elapsed())))
    }

    fn every_node_takes_writes_and_reads(&mut self) -> Result<(), ClusterError> {
        self.explain("Every node takes writes and reads, and a read sees every write that was acknowledged before.")?;
        self.write(1, "greeting", "hello")?;
        self.ask(2, &["GET", "greeting"])?;
        let reply = self.ask(3, &["INCR", "visits"])?;
        self.expect(reply == Value::Integer(1), "the first INCR is 1")?;
        self.acknowledged.push(("visits".to_owned(), "1".to_owned()));
        Ok(())
    }

    fn a_batch_is_one_entry(&mut self) -> Result<(), ClusterError> {
        self.explain("A batch is one entry of the log: all of it happens, or nothing.")?;
        let fruit = [("fruit:apple", "3"), ("fruit:cherry", "40"), ("fruit:banana", "7")];
        let words: Vec<&str> = ["MSET"].into_iter().chain(fruit.iter().flat_map(|(key, value)| [*key, *value])).collect();
        let reply = self.ask(1, &words)?;
        self.expect(is_ok(&reply), "the batch is acknowledged")?;
        self.acknowledged.extend(fruit.map(|(key, value)| (key.to_owned(), value.to_owned())));
        Ok(())
    }

    fn keys_are_in_order(&mut self) -> Result<(), ClusterError> {
        self.explain("Keys are stored in order, so a range of them is read page by page.")?;
        self.ask(2, &["RANGE", "[fruit:", "(fruit;", "WITHVALUES"]).map(drop)
    }

    fn keys_expire_everywhere(&mut self) -> Result<(), ClusterError> {
        self.explain("A key with a deadline goes at the same place of the log on every node.")?;
        self.ask(1, &["SET", "session", "abc", "PX", SESSION_MS])?;
        self.ask(2, &["PTTL", "session"])?;
        self.wait("the session expires", |story| story.call(3, &["EXISTS", "session"]).is_ok_and(|reply| reply == Value::Integer(0)))?;
        self.ask(3, &["GET", "session"]).map(drop)
    }

    fn a_ledger_is_written(&mut self) -> Result<(), ClusterError> {
        self.explain("A ledger to watch: each write is on the disks of two nodes before it is acknowledged.")?;
        let entries: Vec<(String, String)> =
            (0..LEDGER_KEYS).map(|number| (format!("ledger:{number:03}"), (number * 7).to_string())).collect();
        let began = Instant::now();
        let mut commands = BytesMut::new();
        for (key, value) in &entries {
            encode_command(&["SET", key.as_str(), value.as_str()], &mut commands);
        }
        let mut connection = self.connect(1)?;
        connection.send(&commands, self.deadline()).map_err(|error| self.broke_off(1, &error))?;
        for entry in entries {
            let reply = connection.receive(self.deadline()).map_err(|error| self.broke_off(1, &error))?;
            self.expect(is_ok(&reply), "every write is acknowledged")?;
            self.acknowledged.push(entry);
        }
        self.remark(format_args!("{LEDGER_KEYS} writes in a pipeline, acknowledged after {}", seconds(began.elapsed())))
    }

    fn the_leader_is_killed(&mut self) -> Result<(), ClusterError> {
        let (leader, before) = self.wait_for_leader()?;
        let others: Vec<usize> = self.layout.nodes().filter(|node| *node != leader).collect();
        self.explain(&format!("The leader, node {leader}, is killed (kill -9), and at once node {} is asked to write.", others[0]))?;
        let began = Instant::now();
        lock(self.stage).kill(leader);
        self.write(others[0], "after:failover", "yes")?;
        let took = began.elapsed();
        let (successor, info) = self.wait_for_leader()?;
        self.expect(info.term > before.term, "the new leader has a higher term")?;
        self.remark(format_args!("node {successor} leads in term {}; the write waited for it, {} in all", info.term, seconds(took)))?;
        for node in others {
            self.check_all(node)?;
        }
        self.explain(&format!("Node {leader} comes back with its data and catches up."))?;
        lock(self.stage).start(leader)?;
        self.wait_for_all()?;
        self.check_all(leader)
    }

    fn a_majority_is_lost(&mut self) -> Result<(), ClusterError> {
        let (leader, _) = self.wait_for_leader()?;
        let survivor = self.layout.nodes().find(|node| *node != leader).expect("there are three");
        let killed: Vec<usize> = self.layout.nodes().filter(|node| *node != survivor).collect();
        self.explain(&format!(
            "Two of three are killed, nodes {} and {}. Node {survivor} alone is no majority, so it must not answer.",
            killed[0], killed[1]
        ))?;
        let reply = self.call(survivor, &["CONFIG", "SET", "request-timeout", REQUEST_TIMEOUT_MS])?;
        self.expect(is_ok(&reply), "the patience of a node can be changed")?;
        killed.into_iter().for_each(|node| lock(self.stage).kill(node));
        // Before, it would hand the write to a leader that it does not know to be gone, and could not say what became of it.
        self.wait("the survivor gives its leader up", |story| story.info(survivor).is_ok_and(|info| info.leader_id == 0))?;
        for command in [&["SET", REFUSED_KEY, "lost?"][..], &["GET", "greeting"]] {
            let reply = self.ask(survivor, command)?;
            self.expect(matches!(reply, Value::Error(_)), "a node without a majority answers with an error")?;
        }
        self.remark("the write did not happen, and the error says so; an old value is not passed off as the present one")
    }

    fn the_majority_is_back(&mut self) -> Result<(), ClusterError> {
        self.explain("The two come back, and with them the majority. Nothing has to be repaired by hand.")?;
        let began = Instant::now();
        for node in self.layout.nodes() {
            let mut stage = lock(self.stage);
            if !stage.runs(node) {
                stage.start(node)?;
            }
        }
        self.wait_for_all()?;
        self.remark(format_args!("all three serve again after {}", seconds(began.elapsed())))?;
        let reply = self.ask(1, &["EXISTS", REFUSED_KEY])?;
        self.expect(reply == Value::Integer(0), "the refused write has not happened")?;
        for node in self.layout.nodes() {
            self.check_all(node)?;
        }
        self.explain(&format!("That was it, in {}. The nodes are stopped and their directory is removed.", seconds(self.began.elapsed())))
    }
}

/// What the steps are made of.
impl Story<'_> {
    fn explain(&mut self, text: &str) -> Result<(), ClusterError> {
        self.step += 1;
        writeln!(self.out, "{}{}. {text}", if self.step == 1 { "" } else { "\n" }, self.step)?;
        Ok(self.out.flush()?)
    }

    fn remark(&mut self, text: impl Display) -> Result<(), ClusterError> {
        writeln!(self.out, "   {text}")?;
        Ok(self.out.flush()?)
    }

    /// Asks a node, and shows the question and the answer as redis-cli would.
    fn ask(&mut self, node: usize, command: &[&str]) -> Result<Value, ClusterError> {
        self.remark(format_args!("{}> {}", self.layout.listen(node), command.join(" ")))?;
        let reply = self.call(node, command)?;
        for line in String::from_utf8_lossy(&render(&reply, Style::ForPeople)).lines() {
            self.remark(line)?;
        }
        Ok(reply)
    }

    /// Writes a key that has to be there from now on.
    fn write(&mut self, node: usize, key: &str, value: &str) -> Result<(), ClusterError> {
        let reply = self.ask(node, &["SET", key, value])?;
        self.expect(is_ok(&reply), "the write is acknowledged")?;
        self.acknowledged.push((key.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Reads everything that was acknowledged from a node.
    fn check_all(&mut self, node: usize) -> Result<(), ClusterError> {
        let words: Vec<&str> = ["MGET"].into_iter().chain(self.acknowledged.iter().map(|(key, _)| key.as_str())).collect();
        let reply = self.call(node, &words)?;
        let values = probe::elements(&reply).unwrap_or_default().iter().map(probe::text);
        let is_whole = values.eq(self.acknowledged.iter().map(|(_, value)| Some(value.clone())));
        self.expect(is_whole, "everything acknowledged is there")?;
        self.remark(format_args!("node {node} has all {} keys that were acknowledged", self.acknowledged.len()))
    }

    /// Breaks off if what must be is not.
    fn expect(&self, holds: bool, what: &str) -> Result<(), ClusterError> {
        if holds { Ok(()) } else { Err(ClusterError::Unhealthy(format!("not true: {what}; {}", lock(self.stage).last_words()))) }
    }

    fn wait_for_all(&self) -> Result<(), ClusterError> {
        self.wait("all nodes answer", |story| {
            story.layout.nodes().all(|node| probe::linearizable_read(story.layout.listen(node), None, INFO_PATIENCE).is_ok())
        })
    }

    /// The leader of the highest term, and what it says.
    fn wait_for_leader(&self) -> Result<(usize, RaftInfo), ClusterError> {
        let mut found = None;
        self.wait("a node leads", |story| {
            let infos = story.layout.nodes().filter_map(|node| Some((node, story.info(node).ok()?)));
            found = infos.filter(|(_, info)| info.role == "leader").max_by_key(|(_, info)| info.term);
            found.is_some()
        })?;
        Ok(found.expect("it was waited for"))
    }

    fn wait(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) -> Result<(), ClusterError> {
        while !condition(self) {
            if self.began.elapsed() > PATIENCE {
                return Err(ClusterError::TooSlow(format!("not in time: {what}; {}", lock(self.stage).last_words())));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    fn info(&self, node: usize) -> Result<RaftInfo, ProbeError> {
        probe::raft_info(self.layout.listen(node), None, INFO_PATIENCE)
    }

    fn call(&self, node: usize, command: &[&str]) -> Result<Value, ClusterError> {
        self.connect(node)?.call(command, self.deadline()).map_err(|error| self.broke_off(node, &error))
    }

    fn connect(&self, node: usize) -> Result<Connection, ClusterError> {
        Connection::open(self.layout.listen(node), PATIENCE).map_err(|error| self.broke_off(node, &error))
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.began + PATIENCE)
    }

    fn broke_off(&self, node: usize, error: &dyn Display) -> ClusterError {
        ClusterError::Refused { node, problem: format!("{error}; {}", lock(self.stage).last_words()) }
    }
}

fn lock(stage: &Mutex<Stage>) -> std::sync::MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_ok(reply: &Value) -> bool {
    matches!(reply, Value::Simple(text) if *text == "OK")
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
