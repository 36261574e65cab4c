//! What the replicas hold: as they compare it themselves, by RAFT VERIFY, and as a client reads it from each without asking the others.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Instant;

use crate::Value;
use crate::client::{Client, ClientError};
use crate::cluster::Cluster;
use crate::node::Node;
use crate::verify::try_compare;
use crate::wait::{PATIENCE, wait_until};

/// Keys read at once.
const PAGE_KEYS: &str = "2000";
/// Keys that are written at the start of a campaign and never again.
const SETTLED: usize = 1_000;
/// Some of their values are stored apart from what is known of the key.
const SETTLED_BYTES: [usize; 2] = [20, 2_000];

/// What a replica holds, in brief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) keys: u64,
    hash: u64,
}

/// Writes what shall never change again.
/// # Panics
/// It is not acknowledged.
pub(super) fn settle(client: &mut Client) {
    let command = |number: usize| ["SET".to_owned(), settled_key(number), settled_value(number)];
    for reply in client.pipeline((0..SETTLED).map(command)).expect("the node answers") {
        assert_eq!(reply, crate::client::ok());
    }
}

fn settled_key(number: usize) -> String {
    format!("settled:{number}")
}

fn settled_value(number: usize) -> String {
    let mut value = format!("{number}:").repeat(SETTLED_BYTES[1]);
    value.truncate(SETTLED_BYTES[number % SETTLED_BYTES.len()]);
    value
}

/// Reads what never changed, as this node has it.
/// # Errors
/// The node does not answer, or has not got so far.
/// # Panics
/// It says something else.
pub(super) fn settled_are_right(node: &Node) -> Result<(), String> {
    let mut client = local_reader(node)?;
    let replies = client.pipeline((0..SETTLED).map(|number| ["GET".to_owned(), settled_key(number)]));
    for (number, reply) in replies.map_err(|error| error.to_string())?.into_iter().enumerate() {
        match reply {
            Value::Bulk(value) => assert!(value == settled_value(number), "{} is {value:?}", settled_key(number)),
            Value::Error(text) => return Err(text),
            // A new replica has nothing until its snapshot is there.
            other => return Err(format!("{} is {other:?}", settled_key(number))),
        }
    }
    Ok(())
}

/// A connection that reads what the node has, and asks nobody.
fn local_reader(node: &Node) -> Result<Client, String> {
    let mut client = node.try_client().ok_or("it takes no connection")?;
    for command in [&["CONFIG", "SET", "readonly-reads", "local"] as &[&str], &["READONLY"]] {
        match client.call(command) {
            Ok(Value::Error(text)) => return Err(text),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(client)
}

/// Reads all keys and values of a node.
/// # Errors
/// The node does not answer.
pub(super) fn read_all(node: &Node) -> Result<Digest, String> {
    let mut hasher = DefaultHasher::new();
    let mut keys = 0;
    walk(node, |key, value| {
        keys += 1;
        (shown(key), shown(value)).hash(&mut hasher);
    })?;
    Ok(Digest { keys, hash: hasher.finish() })
}

fn walk(node: &Node, mut see: impl FnMut(&Value, &Value)) -> Result<(), String> {
    let mut client = local_reader(node)?;
    let mut cursor = "0".to_owned();
    loop {
        let reply = client.call(&["RANGE", "-", "+", "COUNT", PAGE_KEYS, "WITHVALUES", "CURSOR", &cursor]);
        let page = match reply.map_err(|error: ClientError| error.to_string())? {
            Value::Array(page) => page,
            other => return Err(format!("RANGE: {other:?}")),
        };
        let [Value::Bulk(next), Value::Array(elements)] = page.as_slice() else { return Err(format!("a page of RANGE: {page:?}")) };
        for pair in elements.chunks(2) {
            see(&pair[0], &pair[1]);
        }
        cursor = String::from_utf8_lossy(next).into_owned();
        if cursor == "0" {
            return Ok(());
        }
    }
}

fn shown(value: &Value) -> &[u8] {
    match value {
        Value::Bulk(bytes) => bytes,
        _ => b"",
    }
}

/// Has the replicas compare all that they have stored, under whatever load there is.
/// # Panics
/// They hold different things, or do not come to compare.
pub(super) fn verify(cluster: &Cluster, asked: usize) {
    let mut last = None;
    let equal = wait_until(Instant::now() + PATIENCE, || {
        let Some(mut client) = cluster[asked].try_client() else { return false };
        let Some(comparison) = try_compare(&mut client) else { return false };
        // Who has just come back may not have answered in time.
        let decided = comparison.result != "incomplete";
        assert!(!decided || comparison.is_equal(), "the replicas hold different data: {comparison:?}");
        last = Some(comparison);
        decided
    });
    assert!(equal, "the replicas are not compared: {last:?}");
}

/// Has all replicas but one that is down compare what they have stored.
/// # Panics
/// They hold different things, or do not come to compare.
pub(super) fn verify_without(cluster: &Cluster, down: usize) {
    let mut last = None;
    let equal = wait_until(Instant::now() + PATIENCE, || {
        let statuses = cluster.statuses();
        let active = cluster.positions().filter(|position| cluster[*position].is_active()).count();
        let Some((asked, _)) = statuses.first().filter(|_| statuses.len() == active) else { return false };
        let Some(comparison) = cluster[*asked].try_client().and_then(|mut client| try_compare(&mut client)) else { return false };
        let state = |node_id: u64| comparison.members.iter().find(|member| member.node_id == node_id).map(|member| member.state.as_str());
        let wrong = matches!(comparison.result.as_str(), "differs" | "undecided");
        assert!(!wrong, "the replicas without the one at {down} hold different data: {comparison:?}");
        let decided = statuses.iter().all(|(_, status)| state(status.node_id) == Some("equal"));
        last = Some(comparison);
        decided
    });
    assert!(equal, "the replicas without the one at {down} are not compared: {last:?}");
}

/// Waits until all nodes that run have applied the same, and compares what a client reads from each. Nobody may write meanwhile; keys that
/// expire are waited for.
/// # Panics
/// They hold different things.
pub(super) fn replicas_agree(cluster: &Cluster) -> u64 {
    let active: Vec<usize> = cluster.positions().filter(|position| cluster[*position].is_active()).collect();
    let mut digests: Vec<Digest> = Vec::new();
    let quiet = wait_until(Instant::now() + PATIENCE, || {
        let before = cluster.wait_converged();
        digests = active.iter().filter_map(|position| read_all(&cluster[*position]).ok()).collect();
        let after = cluster.wait_converged();
        digests.len() == active.len() && (after.applied_index, after.term) == (before.applied_index, before.term)
    });
    assert!(quiet, "the nodes come to rest and can be read");
    for (position, digest) in active.iter().zip(&digests) {
        if *digest != digests[0] {
            let difference = first_difference(&cluster[active[0]], &cluster[*position]);
            panic!("the nodes at {} and {position} hold different data: {:?} {digest:?}, {difference}", active[0], digests[0]);
        }
    }
    digests[0].keys
}

fn first_difference(one: &Node, other: &Node) -> String {
    let [one, other] = [one, other].map(|node| {
        let mut all = Vec::new();
        walk(node, |key, value| all.push((key.clone(), value.clone()))).map(|()| all)
    });
    let (Ok(one), Ok(other)) = (one, other) else { return "which cannot be read again".to_owned() };
    let length = one.len().max(other.len());
    let place = (0..length).find(|place| one.get(*place) != other.get(*place));
    place.map_or("which is gone".to_owned(), |place| format!("first {:?} and {:?}", one.get(place), other.get(place)))
}
