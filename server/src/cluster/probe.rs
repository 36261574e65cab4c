//! One node asked over RESP: what INFO says of it, whether it answers a linearizable read, and commands about the group's members.
//! Every question opens a connection of its own and is over by its deadline, so a paused node cannot hold a command up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use resp::{Value, encode_command};

use super::Password;
use crate::console::connection::{Connection, ConnectionError};

/// A key to read: it need not exist.
const PROBE_KEY: &str = "redraft:health";

/// What INFO says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RaftInfo {
    /// 40 hex digits; empty before the node is a member of a cluster.
    pub(super) cluster_id: String,
    /// 0 before the node is a member.
    pub(super) node_id: u64,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub(super) role: String,
    pub(super) term: u64,
    pub(super) applied_index: u64,
    pub(super) commit_index: u64,
    /// The leader that this node follows; 0 if it knows none.
    pub(super) leader_id: u64,
    /// Commands of clients since the node was started.
    pub(super) commands: u64,
    /// Resident memory, in bytes.
    pub(super) memory_bytes: u64,
}

/// A member as a node's table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) node_id: u64,
    /// Where other nodes reach it, as it says.
    pub(super) peer: String,
    pub(super) is_voter: bool,
}

/// Why a node gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// Nobody listens, or the connection broke.
    #[error("{0}")]
    Connection(#[from] std::io::Error),
    /// There is no answer in time, or none that makes sense.
    #[error("{0}")]
    Refused(String),
    /// The node answers with an error: it lives.
    #[error("{0}")]
    ErrorReply(String),
}

impl From<ConnectionError> for ProbeError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Io(error) => Self::Connection(error),
            ConnectionError::Closed => Self::Refused("the node closed the connection".to_owned()),
            ConnectionError::TimedOut | ConnectionError::Malformed(_) => Self::Refused(error.to_string()),
        }
    }
}

/// Asks a node for its part in the Raft group, and what it has done.
/// # Errors
/// It does not answer in time or refuses.
pub(super) fn raft_info(address: SocketAddr, password: Password<'_>, patience: Duration) -> Result<RaftInfo, ProbeError> {
    let reply = carry_out(address, password, &["INFO", "raft", "stats", "memory"], patience)?;
    parse_info(&text(&reply).ok_or_else(|| unexpected("INFO"))?)
}

/// Asks a node for the members of its group.
/// # Errors
/// It does not answer in time or refuses.
pub(super) fn members(address: SocketAddr, password: Password<'_>, patience: Duration) -> Result<Vec<Member>, ProbeError> {
    let reply = carry_out(address, password, &["RAFT", "NODES"], patience)?;
    let member = |map: &Value| {
        let is_voter = number(field(map, "voter")?)? != 0;
        Some(Member { node_id: number(field(map, "node_id")?)?, peer: text(field(map, "peer")?)?, is_voter })
    };
    elements(&reply).and_then(|maps| maps.iter().map(member).collect()).ok_or_else(|| unexpected("RAFT NODES"))
}

/// Has a node carry out a linearizable read.
/// # Errors
/// It does not answer in time or refuses.
pub(super) fn linearizable_read(address: SocketAddr, password: Password<'_>, patience: Duration) -> Result<(), ProbeError> {
    // A new connection has not said READONLY, so its reads are linearizable whatever `readonly-reads` is.
    number(&carry_out(address, password, &["EXISTS", PROBE_KEY], patience)?).map(drop).ok_or_else(|| unexpected("EXISTS"))
}

/// Has a node carry out a command, after the password if there is one, and takes its reply.
/// # Errors
/// It does not answer in time, or with an error.
pub(super) fn carry_out(address: SocketAddr, password: Password<'_>, command: &[&str], patience: Duration) -> Result<Value, ProbeError> {
    let deadline = Some(Instant::now() + patience);
    let mut connection = Connection::open(address, patience)?;
    let mut request = BytesMut::new();
    if let Some(password) = password {
        encode_command(&["AUTH", password.expose()], &mut request);
    }
    encode_command(command, &mut request);
    connection.send(&request, deadline)?;
    let mut receive = || match connection.receive(deadline)? {
        Value::Error(text) => Err(ProbeError::ErrorReply(text)),
        reply => Ok(reply),
    };
    if password.is_some() {
        receive()?;
    }
    receive()
}

/// The text that a reply is.
pub(super) fn text(reply: &Value) -> Option<String> {
    match reply {
        Value::Bulk(text) | Value::Text(text) | Value::Simple(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

/// The number that a reply is, or spells.
pub(super) fn number(reply: &Value) -> Option<u64> {
    match reply {
        Value::Integer(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    }
}

/// The elements of the array that a reply is.
pub(super) fn elements(reply: &Value) -> Option<&[Value]> {
    match reply {
        Value::Array(elements) => Some(elements),
        _ => None,
    }
}

/// A field of a map as RESP2 has it: names and values in turn.
pub(super) fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let mut pairs = elements(map)?.chunks_exact(2);
    pairs.find(|pair| text(&pair[0]).as_deref() == Some(name)).map(|pair| &pair[1])
}

/// A reply that a node of this kind does not give.
pub(super) fn unexpected(command: &str) -> ProbeError {
    ProbeError::Refused(format!("an unexpected reply to {command}"))
}

fn parse_info(text: &str) -> Result<RaftInfo, ProbeError> {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        let value = lines.find(|(field, _)| *field == name).map(|(_, value)| value.trim().to_owned());
        value.ok_or_else(|| ProbeError::Refused(format!("INFO has no {name}: is this a redraft node?")))
    };
    let number = |name: &str| field(name)?.parse().map_err(|_| ProbeError::Refused(format!("INFO has a {name} that is no number")));
    Ok(RaftInfo {
        cluster_id: field("cluster_id")?,
        node_id: number("node_id")?,
        role: field("raft_role")?,
        term: number("term")?,
        applied_index: number("applied_index")?,
        commit_index: number("commit_index")?,
        leader_id: number("leader_id")?,
        commands: number("total_commands_processed")?,
        memory_bytes: number("used_memory")?,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::config::Config;

    const PATIENCE: Duration = Duration::from_secs(5);
    const INFO: &str = "# Memory\r\nused_memory:4096\r\n\r\n# Stats\r\ntotal_commands_processed:9\r\n\r\n\
                        # Raft\r\ncluster_id:ab\r\nnode_id:2\r\nraft_role:follower\r\nterm:7\r\napplied_index:11\r\n\
                        commit_index:12\r\nleader_id:1\r\n";

    /// A listener that answers its first connection with `answer`, whatever it is asked, and hands out what it was asked.
    fn stub(answer: String) -> (SocketAddr, std::thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("the client reads");
            request.truncate(length);
            request
        });
        (address, asked)
    }

    fn bulk(text: &str) -> String {
        format!("${}\r\n{text}\r\n", text.len())
    }

    #[test]
    fn info_is_read_into_its_fields() {
        let (address, asked) = stub(bulk(INFO));
        let info = raft_info(address, None, PATIENCE).expect("an answer");
        let expected = RaftInfo {
            cluster_id: "ab".to_owned(),
            node_id: 2,
            role: "follower".to_owned(),
            term: 7,
            applied_index: 11,
            commit_index: 12,
            leader_id: 1,
            commands: 9,
            memory_bytes: 4096,
        };
        assert_eq!(info, expected);
        assert_eq!(asked.join().expect("asked"), b"*4\r\n$4\r\nINFO\r\n$4\r\nraft\r\n$5\r\nstats\r\n$6\r\nmemory\r\n");
    }

    #[test]
    fn members_are_read_from_their_maps() {
        let member =
            |id: u64, vote: u8| format!("*6\r\n{}:{id}\r\n{}{}{}:{vote}\r\n", bulk("node_id"), bulk("peer"), bulk("h:1"), bulk("voter"));
        let (address, _asked) = stub(format!("*2\r\n{}{}", member(4, 1), member(5, 0)));
        let members = members(address, None, PATIENCE).expect("an answer");
        let expected = [(4, true), (5, false)].map(|(node_id, is_voter)| Member { node_id, peer: "h:1".to_owned(), is_voter });
        assert_eq!(members, expected);
        let (address, _asked) = stub("*1\r\n*2\r\n$4\r\npeer\r\n$0\r\n\r\n".to_owned());
        assert_eq!(super::members(address, None, PATIENCE).expect_err("no id").to_string(), "an unexpected reply to RAFT NODES");
    }

    #[test]
    fn a_password_goes_first() {
        let config = Config::from_options(&[("requirepass", "pw")]).expect("allowed");
        let password = config.runtime.values().requirepass.clone();
        let (address, asked) = stub("+OK\r\n:0\r\n".to_owned());
        linearizable_read(address, password.as_ref(), PATIENCE).expect("an answer");
        assert!(asked.join().expect("asked").starts_with(b"*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n*2\r\n"));
    }

    #[test]
    fn refusals_say_why() {
        let check = |answer: String, expected: &str| {
            let (address, _asked) = stub(answer);
            assert_eq!(raft_info(address, None, PATIENCE).expect_err(expected).to_string(), expected);
        };
        check("-NOAUTH Authentication required.\r\n".to_owned(), "NOAUTH Authentication required.");
        check(":1\r\n".to_owned(), "an unexpected reply to INFO");
        check(String::new(), "the node closed the connection");
        check(bulk("# Server\r\nredis_version:7.2.0\r\n"), "INFO has no cluster_id: is this a redraft node?");
        check(bulk(&INFO.replace("term:7", "term:x")), "INFO has a term that is no number");
    }

    #[test]
    fn a_node_that_says_nothing_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let start = Instant::now();
        assert_eq!(linearizable_read(address, None, Duration::from_millis(50)).expect_err("silent").to_string(), "no answer in time");
        assert!(start.elapsed() < PATIENCE);
        drop(listener);
        assert!(matches!(linearizable_read(address, None, PATIENCE), Err(ProbeError::Connection(_))));
    }
}
