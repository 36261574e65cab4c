//! `cluster verify`: has the group compare all data of all members, and shows what each replica is worth.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use resp::Value;

use super::probe::{self, elements, field, number, text};
use super::status::{self, NodeReport, read_running};
use super::{ClusterError, Password, table};

/// How long a comparison may take: every node reads all that it has.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What RAFT VERIFY answers.
#[derive(Debug, PartialEq, Eq)]
struct Comparison {
    index: u64,
    /// `equal`, `differs`, `undecided` or `incomplete`.
    result: String,
    members: Vec<Compared>,
}

/// A member in the answer.
#[derive(Debug, PartialEq, Eq)]
struct Compared {
    node_id: u64,
    /// `equal`, `differs` or `missing`.
    state: String,
    /// Empty if it was not compared.
    hash: String,
    /// Column family and stored key where its data begin to differ; empty if they do not.
    place: String,
}

/// `cluster verify`.
/// # Errors
/// The cluster does not run or has no leader, the comparison does not come about, or not all members have the same data.
pub(super) fn verify(dir: &Path, password: Password<'_>, out: &mut dyn Write) -> Result<(), ClusterError> {
    let state = read_running(dir)?;
    let reports = status::look(&state, &state.layout(dir)?, password);
    let (asked, _) = status::led(&reports)?[0];
    let refused = |error: probe::ProbeError| ClusterError::Refused { node: asked.node, problem: error.to_string() };
    let reply = probe::carry_out(asked.listen(), password, &["RAFT", "VERIFY"], PATIENCE).map_err(refused)?;
    let comparison = Comparison::read(&reply).ok_or_else(|| refused(probe::unexpected("RAFT VERIFY")))?;
    out.write_all(comparison.table(&reports).as_bytes())?;
    writeln!(out, "as of index {}: {}", comparison.index, comparison.result)?;
    out.flush()?;
    comparison.judge()
}

impl Comparison {
    fn read(reply: &Value) -> Option<Self> {
        let member = |map: &Value| {
            let or_empty = |name| field(map, name).map(|value| text(value).unwrap_or_default());
            let key = match field(map, "key")? {
                Value::Bulk(key) => format!(" {}", key.escape_ascii()),
                _ => String::new(),
            };
            Some(Compared {
                node_id: number(field(map, "node_id")?)?,
                state: text(field(map, "state")?)?,
                hash: or_empty("hash")?,
                place: or_empty("cf")? + &key,
            })
        };
        Some(Self {
            index: number(field(reply, "index")?)?,
            result: text(field(reply, "result")?)?,
            members: elements(field(reply, "members")?)?.iter().map(member).collect::<Option<_>>()?,
        })
    }

    fn table(&self, reports: &[NodeReport]) -> String {
        let node = |id| {
            let found = reports.iter().find(|report| report.info.as_ref().is_ok_and(|info| info.node_id == id));
            table::number(found.map(|report| report.node as u64))
        };
        let rows = self.members.iter().map(|member| {
            let hash = if member.hash.is_empty() { "-" } else { &member.hash };
            vec![node(member.node_id), member.node_id.to_string(), member.state.clone(), hash.to_owned(), member.place.clone()]
        });
        table::render(&["NODE", "ID", "STATE", "HASH", "DIFFERS FROM"], rows.collect())
    }

    fn judge(&self) -> Result<(), ClusterError> {
        match self.result.as_str() {
            "equal" => Ok(()),
            "incomplete" => Err(ClusterError::Unhealthy("not all members could be compared".to_owned())),
            _ => Err(ClusterError::Unhealthy("not all members have the same data".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, Value)]) -> Value {
        Value::Array(fields.iter().flat_map(|(name, value)| [Value::Bulk((*name).into()), value.clone()]).collect())
    }

    fn reply(result: &'static str) -> Value {
        let equal = [
            ("node_id", Value::Integer(1)),
            ("state", Value::Bulk("equal".into())),
            ("hash", Value::Bulk("ab".into())),
            ("cf", Value::Null),
            ("key", Value::Null),
        ];
        let mut differs = equal.clone();
        differs[0].1 = Value::Integer(2);
        differs[1].1 = Value::Bulk("differs".into());
        differs[3].1 = Value::Bulk("meta".into());
        differs[4].1 = Value::Bulk("\0k".into());
        let members = Value::Array(vec![map(&equal), map(&differs)]);
        map(&[("index", Value::Integer(9)), ("result", Value::Bulk(result.into())), ("members", members)])
    }

    #[test]
    fn a_comparison_is_read_shown_and_judged() {
        let comparison = Comparison::read(&reply("differs")).expect("an answer");
        assert_eq!((comparison.index, comparison.members[0].place.as_str()), (9, ""));
        let table = comparison.table(&[]);
        assert!(table.lines().nth(2).is_some_and(|line| line.ends_with("differs  ab    meta \\x00k")), "{table}");
        for (result, expected) in [("equal", true), ("differs", false), ("undecided", false), ("incomplete", false)] {
            assert_eq!(Comparison::read(&reply(result)).expect("an answer").judge().is_ok(), expected, "{result}");
        }
        assert_eq!(Comparison::read(&Value::Null), None);
    }
}
