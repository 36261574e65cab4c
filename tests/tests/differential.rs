//! Random commands, compared with the real redis-server; see `redraft_tests::differential`.

use std::path::Path;

use redraft_tests::client::{elements, text};
use redraft_tests::differential::{DIFFERENCES, Plan, compare, reference, run};
use redraft_tests::{Client, Node, Value};

#[test]
fn random_commands_are_answered_as_by_redis() {
    let report = run(&Plan { commands: 100_000, seed: 1, mismatches_max: 1 });
    let problems = report.problems();
    assert!(problems.is_empty(), "after {} commands:\n{}", report.commands, problems.join("\n"));
}

#[test]
fn redis_agrees_with_itself() {
    let report = compare(&Plan { commands: 10_000, seed: 1, mismatches_max: 1 }, reference(&[]).address(), reference(&[]).address());
    assert!(report.mismatches.is_empty(), "the comparison sees a difference where there is none: {}", report.mismatches[0]);
}

#[test]
fn what_differs_is_found_and_made_small() {
    let other = reference(&["--databases", "15"]);
    let report = compare(&Plan { commands: 10_000, seed: 1, mismatches_max: 1 }, reference(&[]).address(), other.address());
    let [mismatch] = &report.mismatches[..] else { panic!("no difference in {} commands", report.commands) };
    let (steps, disagreement) = mismatch.small.as_ref().expect("it differs each time");
    assert!(steps.lines().count() <= 3, "{mismatch}");
    assert!([&disagreement.redis, &disagreement.redraft].iter().any(|said| said.contains("out of range")), "{mismatch}");
}

#[test]
fn differences_are_documented() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let page = std::fs::read_to_string(&page).expect("the page can be read");
    for entry in DIFFERENCES {
        assert!(page.contains(entry.documented), "{}: docs/compatibility.md does not say: {}", entry.command, entry.documented);
    }
}

/// What COMMAND INFO says of a command, but for the parts that grew with every version: name, arity, positions of the keys, flags and
/// categories, the last two in alphabetical order.
fn facts(client: &mut Client, name: &str) -> Option<String> {
    let Value::Array(row) = elements(client.must(&["COMMAND", "INFO", name])).remove(0) else { return None };
    let sorted = |value: &Value| {
        let mut words: Vec<String> = elements(value.clone()).iter().map(text).collect();
        words.sort_unstable();
        words.join(" ")
    };
    Some(format!("{} {:?} {:?} [{}] [{}]", text(&row[0]), row[1], &row[3..6], sorted(&row[2]), sorted(&row[6])))
}

/// Commands whose facts are not those of Redis 7.0, and why.
const OTHER_FACTS: &[(&str, &str)] =
    &[("command|getkeys", "takes a command without arguments, since Redis 7.2"), ("wait", "blocks, since Redis 7.2")];

#[test]
fn facts_of_commands_are_those_of_redis() {
    let (redis, node) = (reference(&[]), Node::alone(&[]));
    let mut ours = node.client();
    let mut theirs = Client::connect(redis.address()).expect("redis-server answers");
    let names: Vec<String> = elements(ours.must(&["COMMAND", "LIST"])).iter().map(text).collect();
    let mut different = vec![];
    let mut compared = 0;
    for name in &names {
        let Some(redis) = facts(&mut theirs, name) else { continue };
        let redraft = facts(&mut ours, name).expect("it lists its own commands");
        compared += 1;
        let differs = OTHER_FACTS.iter().any(|(other, _)| other == name);
        if differs != (redis != redraft) {
            different.push(format!("redis    {redis}\nredraft  {redraft}"));
        }
    }
    assert!(compared > 80, "{compared} of {} commands are Redis's", names.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
}
