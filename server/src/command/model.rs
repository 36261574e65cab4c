//! Random histories of commands against a model: maps from keys to values and deadlines.
//! The model never removes a due key by itself; it treats it as missing, as Redis's description of expiry does.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::harness::Session;

const SEEDS: u64 = 30;
const STEPS: usize = 400;
const DATABASES: usize = 3;

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    value: String,
    deadline: Option<u64>,
}

struct Model {
    databases: Vec<BTreeMap<String, Entry>>,
    db: usize,
    now: u64,
}

impl Model {
    fn get(&self, key: &str) -> Option<&Entry> {
        self.get_in(self.db, key)
    }

    fn get_in(&self, db: usize, key: &str) -> Option<&Entry> {
        self.databases[db].get(key).filter(|entry| entry.deadline.is_none_or(|deadline| deadline > self.now))
    }

    fn put(&mut self, db: usize, key: &str, value: &str, deadline: Option<u64>) {
        self.databases[db].insert(key.to_owned(), Entry { value: value.to_owned(), deadline });
    }

    fn remove(&mut self, key: &str) -> bool {
        let existed = self.get(key).is_some();
        self.databases[self.db].remove(key);
        existed
    }

    /// The reply to a command, in the words of the harness.
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let db = self.db;
        let entry = words.get(1).and_then(|key| self.get(key)).cloned();
        let number = |at: usize| words[at].parse::<i64>().expect("a number");
        let integer = |condition: bool| i64::from(condition).to_string();
        let bulk = |entry: &Option<Entry>| entry.as_ref().map_or("nil".to_owned(), |entry| format!("'{}'", entry.value));
        match (words[0], entry) {
            ("get", entry) => bulk(&entry),
            ("pttl", entry) => match entry {
                None => "-2".to_owned(),
                Some(Entry { deadline: None, .. }) => "-1".to_owned(),
                Some(Entry { deadline: Some(deadline), .. }) => (deadline - self.now).to_string(),
            },
            ("set", _) if words.len() == 3 => {
                self.put(db, words[1], words[2], None);
                "OK".to_owned()
            }
            ("set", entry) if words[3] == "keepttl" => {
                self.put(db, words[1], words[2], entry.and_then(|entry| entry.deadline));
                "OK".to_owned()
            }
            ("set", entry) if words[3] == "nx" => {
                if entry.is_none() {
                    self.put(db, words[1], words[2], None);
                    return "OK".to_owned();
                }
                "nil".to_owned()
            }
            ("set", _) => {
                self.put(db, words[1], words[2], Some(self.now + number(4) as u64));
                "OK".to_owned()
            }
            ("append", entry) => {
                let (before, deadline) = entry.map_or((String::new(), None), |entry| (entry.value, entry.deadline));
                let value = before + words[2];
                self.put(db, words[1], &value, deadline);
                value.len().to_string()
            }
            ("del", _) => integer(self.remove(words[1])),
            ("getdel", entry) => {
                self.remove(words[1]);
                bulk(&entry)
            }
            ("pexpire", None) | ("persist", None | Some(Entry { deadline: None, .. })) => "0".to_owned(),
            ("pexpire", Some(entry)) => {
                // A deadline in the past stays in the model, where it means the same as no entry.
                let deadline = self.now.checked_add_signed(number(2)).expect("in range");
                self.put(db, words[1], &entry.value, Some(deadline));
                "1".to_owned()
            }
            ("persist", Some(entry)) => {
                self.put(db, words[1], &entry.value, None);
                "1".to_owned()
            }
            ("rename", None) => "ERR no such key".to_owned(),
            ("rename", Some(entry)) => {
                self.remove(words[1]);
                self.put(db, words[2], &entry.value, entry.deadline);
                "OK".to_owned()
            }
            ("copy", entry) => {
                let to = number(4) as usize;
                if (db, words[1]) == (to, words[2]) {
                    return "ERR source and destination objects are the same".to_owned();
                }
                match entry {
                    Some(entry) if self.get_in(to, words[2]).is_none() => {
                        self.put(to, words[2], &entry.value, entry.deadline);
                        "1".to_owned()
                    }
                    Some(_) | None => "0".to_owned(),
                }
            }
            ("move", entry) => {
                let to = number(2) as usize;
                if db == to {
                    return "ERR source and destination objects are the same".to_owned();
                }
                match entry {
                    Some(entry) if self.get_in(to, words[1]).is_none() => {
                        self.remove(words[1]);
                        self.put(to, words[1], &entry.value, entry.deadline);
                        "1".to_owned()
                    }
                    Some(_) | None => "0".to_owned(),
                }
            }
            ("flushdb", _) => {
                self.databases[db].clear();
                "OK".to_owned()
            }
            ("flushall", _) => {
                self.databases.iter_mut().for_each(BTreeMap::clear);
                "OK".to_owned()
            }
            ("swapdb", _) => {
                self.databases.swap(number(1) as usize, number(2) as usize);
                "OK".to_owned()
            }
            (other, _) => panic!("the model does not know {other}"),
        }
    }

    fn alive(&self) -> Vec<(&String, &Entry)> {
        self.databases[self.db].iter().filter(|(key, _)| self.get(key).is_some()).collect()
    }
}

fn random_line(random: &mut SmallRng) -> String {
    let key = random.random_range(0..12);
    let other = random.random_range(0..12);
    let db = random.random_range(0..DATABASES);
    let value = "v".repeat(if random.random_range(0..8) == 0 { 600 } else { random.random_range(1..9) });
    match random.random_range(0..24) {
        0..=4 => format!("set {key} {value}"),
        5..=7 => format!("set {key} {value} px {}", random.random_range(1..200)),
        8 => format!("set {key} {value} keepttl"),
        9 => format!("set {key} {value} nx"),
        10 | 11 => format!("append {key} {value}"),
        12 | 13 => format!("del {key}"),
        14 => format!("getdel {key}"),
        15 | 16 => format!("pexpire {key} {}", random.random_range(-20..200)),
        17 => format!("persist {key}"),
        18 | 19 => format!("rename {key} {other}"),
        20 => format!("copy {key} {other} db {db}"),
        21 => format!("move {key} {db}"),
        22 => match random.random_range(0..6) {
            0 => "flushall".to_owned(),
            1 => "flushdb".to_owned(),
            _ => format!("swapdb {db} {}", random.random_range(0..DATABASES)),
        },
        _ => format!("get {key}"),
    }
}

/// Compares everything a client can see of the selected database.
fn compare(session: &mut Session, model: &mut Model, context: &str) {
    for key in 0..12 {
        for line in [format!("get {key}"), format!("pttl {key}")] {
            assert_eq!(session.line(&line), model.run(&line), "{context}: {line}");
        }
    }
    let expected: Vec<String> = model.alive().iter().map(|(key, _)| format!("'{key}'")).collect();
    assert_eq!(session.line("keys *"), format!("[{}]", expected.join(" ")), "{context}");
    assert_eq!(session.line("range - +"), format!("['0' [{}]]", expected.join(" ")), "{context}");
    let scanned = session.line("scan 0 count 100");
    let scanned: BTreeSet<&str> =
        scanned.trim_start_matches("['0' [").trim_end_matches(']').split(' ').filter(|key| !key.is_empty()).collect();
    assert_eq!(scanned, expected.iter().map(String::as_str).collect(), "{context}");
    // DBSIZE counts keys that are due but not yet purged.
    let size: usize = session.line("dbsize").parse().expect("a number");
    assert!(size >= expected.len(), "{context}");
}

#[test]
fn random_histories_agree_with_the_model() {
    for seed in 0..SEEDS {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut session = Session::new();
        let mut model = Model { databases: vec![BTreeMap::new(); DATABASES], db: 0, now: session.now.0 };
        for step in 0..STEPS {
            match random.random_range(0..20) {
                0 => {
                    let passed = random.random_range(0..60);
                    session.sleep(passed);
                    model.now += passed;
                }
                1 => {
                    let db = random.random_range(0..DATABASES);
                    session.db = db as u8;
                    model.db = db;
                }
                2 => {
                    session.write(|writer| writer.purge_expired(random.random_range(1..4))).expect("memory does not fail");
                }
                3 => {
                    session.write(|writer| writer.sweep(random.random_range(1..4))).expect("memory does not fail");
                }
                4 => {
                    while session.write(|writer| writer.purge_expired(3)).expect("memory does not fail").more {}
                    let size = session.line("dbsize");
                    assert_eq!(size, model.alive().len().to_string(), "seed {seed}, step {step}: after a purge DBSIZE is exact");
                }
                _ => {
                    let line = random_line(&mut random);
                    assert_eq!(session.line(&line), model.run(&line), "seed {seed}, step {step}: {line}");
                }
            }
            if step % 20 == 0 {
                compare(&mut session, &mut model, &format!("seed {seed}, step {step}"));
            }
        }
    }
}
