//! RAFT VERIFY as a client sees it.

use bytes::Bytes;
use resp::Value;

use crate::client::{Client, elements, integer, text};

/// The reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The index at which the replicas were compared.
    pub index: u64,
    /// `equal`, `differs`, `undecided` or `incomplete`.
    pub result: String,
    /// The members, by id.
    pub members: Vec<Compared>,
}

/// A member in the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Its id.
    pub node_id: u64,
    /// `equal`, `differs` or `missing`.
    pub state: String,
    /// The hash of its data, if it was compared.
    pub hash: Option<String>,
    /// Where its data begin to differ: column family and stored key.
    pub place: Option<(String, Option<Bytes>)>,
}

impl Comparison {
    /// Whether all members have the same data.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.result == "equal"
            && self.members.iter().all(|member| member.state == "equal" && member.place.is_none() && member.hash == self.members[0].hash)
    }
}

/// Has the replicas compared.
/// # Panics
/// They are not, or the reply is another than it should be.
#[must_use]
#[track_caller]
pub fn compare(client: &mut Client) -> Comparison {
    read(client.must(&["RAFT", "VERIFY"]))
}

/// Has the replicas compared, if the group can do that now.
/// # Panics
/// The reply is another than it should be.
#[must_use]
#[track_caller]
pub fn try_compare(client: &mut Client) -> Option<Comparison> {
    match client.call(&["RAFT", "VERIFY"]).ok()? {
        Value::Error(_) => None,
        reply => Some(read(reply)),
    }
}

#[track_caller]
fn read(reply: Value) -> Comparison {
    let [index, result, members] = fields(reply, ["index", "result", "members"]);
    let members = elements(members).into_iter().map(|member| {
        let [node_id, state, hash, cf, key] = fields(member, ["node_id", "state", "hash", "cf", "key"]);
        let key = match key {
            Value::Bulk(key) => Some(key),
            _ => None,
        };
        let filled = |value: &Value| (*value != Value::Null).then(|| text(value));
        Compared { node_id: integer(&node_id) as u64, state: text(&state), hash: filled(&hash), place: filled(&cf).map(|cf| (cf, key)) }
    });
    Comparison { index: integer(&index) as u64, result: text(&result), members: members.collect() }
}

/// The values of a map that must have exactly these names, in RESP2's form or RESP3's.
#[track_caller]
fn fields<const N: usize>(reply: Value, names: [&str; N]) -> [Value; N] {
    let pairs: Vec<(Value, Value)> = match reply {
        Value::Map(pairs) => pairs,
        Value::Array(flat) => flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
        other => panic!("no map: {other:?}"),
    };
    assert_eq!(pairs.iter().map(|(name, _)| text(name)).collect::<Vec<_>>(), names);
    let values: Vec<Value> = pairs.into_iter().map(|(_, value)| value).collect();
    values.try_into().expect("as many values as names")
}
