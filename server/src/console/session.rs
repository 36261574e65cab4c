//! A person's session with one of several servers, which outlives the connection: when a server ends or does not answer, the next one
//! that does is told who asks, which protocol is spoken and which database is meant, and the person is told of the change.
//! Invariant: a command is sent again by itself only if it was certainly not executed, or changes nothing.

use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use resp::{Protocol, Value};

use super::connection::{Connection, ConnectionError};
use crate::command::{Handler, table};
use crate::config::{Address, Secret};

/// How long a server may take to let a connection in.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Why a command has no reply. Every text is one line.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No server lets a connection in: each with what it said.
    #[error("cannot connect to {0}")]
    Unreachable(String),
    /// The connection broke before the reply.
    #[error("{server}: {problem}; nobody knows whether the command was executed")]
    Unknown {
        /// The server that was asked.
        server: String,
        /// What happened.
        problem: String,
    },
}

/// What has to be said on every new connection. It has the password, so it cannot be shown.
#[derive(Clone)]
struct Greeting {
    /// AUTH as it was last accepted.
    login: Option<Vec<Bytes>>,
    protocol: Protocol,
    db: u32,
}

/// A session.
pub(super) struct Session {
    servers: Vec<Address>,
    /// The server in use, or to be tried next.
    place: usize,
    connection: Option<Connection>,
    /// Whether there was a connection before.
    has_begun: bool,
    greeting: Greeting,
    /// What the person has to know, a line each.
    notices: Vec<String>,
}

impl Session {
    /// A session that is not connected yet, with one server or more.
    pub(super) fn new(servers: Vec<Address>, password: Option<&Secret>, protocol: Protocol, db: u32) -> Self {
        assert!(!servers.is_empty());
        let login = password.map(|password| ["AUTH", password.expose()].map(|word| Bytes::copy_from_slice(word.as_bytes())).to_vec());
        Self { servers, place: 0, connection: None, has_begun: false, greeting: Greeting { login, protocol, db }, notices: Vec::new() }
    }

    /// What to write in front of a line, as redis-cli does.
    pub(super) fn prompt(&self) -> String {
        match (&self.connection, self.greeting.db) {
            (None, _) => "not connected> ".to_owned(),
            (Some(_), 0) => format!("{}> ", self.server()),
            (Some(_), db) => format!("{}[{db}]> ", self.server()),
        }
    }

    /// Takes what the person has to know.
    pub(super) fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Sees to it that there is a connection which its server has not ended. Starts with the server that was used last.
    /// # Errors
    /// No server lets one in.
    pub(super) fn connect(&mut self) -> Result<(), SessionError> {
        let is_connected = self.connection.is_some();
        if self.connection.take_if(|connection| connection.is_gone()).is_none() && is_connected {
            return Ok(());
        }
        let mut failures = Vec::new();
        for _ in 0..self.servers.len() {
            match self.open() {
                Ok(()) => {
                    if self.has_begun || !failures.is_empty() {
                        let reasons = if failures.is_empty() { String::new() } else { format!(" ({})", failures.join("; ")) };
                        self.notices.push(format!("connected to {}{reasons}", self.server()));
                    }
                    self.has_begun = true;
                    return Ok(());
                }
                Err(error) => failures.push(format!("{}: {error}", self.server())),
            }
            self.place += 1;
        }
        Err(SessionError::Unreachable(failures.join("; ")))
    }

    /// Has a command carried out: its reply, and before it what the server sent unasked.
    /// # Errors
    /// No server lets a connection in, or the connection broke and nobody knows what became of the command.
    pub(super) fn execute(&mut self, command: &[Bytes]) -> Result<Vec<Value>, SessionError> {
        self.connect()?;
        match self.exchange(command) {
            Ok(replies) => Ok(replies),
            Err(error) if changes_nothing(command) => {
                self.notices.push(format!("{}: {error}; asking again", self.server()));
                self.connect()?;
                self.exchange(command).map_err(|error| self.unknown(&error))
            }
            Err(error) => Err(self.unknown(&error)),
        }
    }

    fn server(&self) -> &Address {
        &self.servers[self.place % self.servers.len()]
    }

    /// Opens a connection to the server whose turn it is, and says on it what was said on the former one.
    fn open(&mut self) -> Result<(), ConnectionError> {
        let mut failure = ConnectionError::Closed;
        let addresses = (self.server().host(), self.server().port()).to_socket_addrs()?;
        for address in addresses {
            match Connection::open(address, CONNECT_PATIENCE) {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return self.greet();
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn greet(&mut self) -> Result<(), ConnectionError> {
        let wanted = self.greeting.clone();
        (self.greeting.protocol, self.greeting.db) = (Protocol::Resp2, 0);
        let greeted = self.say(&wanted);
        if greeted.is_err() {
            self.greeting = wanted;
        }
        greeted
    }

    /// Says who asks and what is meant. A refusal is told, and the person can do something about it.
    fn say(&mut self, wanted: &Greeting) -> Result<(), ConnectionError> {
        let words = |words: [&str; 2]| words.map(|word| Bytes::copy_from_slice(word.as_bytes())).to_vec();
        let hello = (wanted.protocol == Protocol::Resp3).then(|| words(["HELLO", "3"]));
        let select = (wanted.db != 0).then(|| words(["SELECT", &wanted.db.to_string()]));
        let deadline = Some(Instant::now() + CONNECT_PATIENCE);
        for command in [wanted.login.clone(), hello, select].into_iter().flatten() {
            if let Some(Value::Error(text)) = self.exchange_until(&command, deadline)?.last() {
                self.notices.push(format!("{} failed: {text}", String::from_utf8_lossy(&command[0])));
            }
        }
        Ok(())
    }

    fn exchange(&mut self, command: &[Bytes]) -> Result<Vec<Value>, ConnectionError> {
        self.exchange_until(command, None)
    }

    /// Sends a command and takes its reply. After an error there is no connection any more.
    fn exchange_until(&mut self, command: &[Bytes], deadline: Option<Instant>) -> Result<Vec<Value>, ConnectionError> {
        let Some(mut connection) = self.connection.take() else { return Err(ConnectionError::Closed) };
        let wanted = wanted_protocol(command);
        connection.set_protocol(wanted.unwrap_or(self.greeting.protocol));
        let mut replies = vec![connection.call(command, deadline)?];
        while let Some(Value::Push(_)) = replies.last() {
            replies.push(connection.receive(deadline)?);
        }
        if !matches!(replies.last(), Some(Value::Error(_))) {
            self.remember(command);
        }
        connection.set_protocol(self.greeting.protocol);
        self.connection = Some(connection);
        Ok(replies)
    }

    /// Remembers what was accepted and holds for one connection only.
    fn remember(&mut self, command: &[Bytes]) {
        let Some(name) = command.first() else { return };
        let is = |name: &[u8], expected: &str| name.eq_ignore_ascii_case(expected.as_bytes());
        if is(name, "auth") {
            self.greeting.login = Some(command.to_vec());
        } else if is(name, "select") {
            self.greeting.db = command.get(1).and_then(|db| std::str::from_utf8(db).ok()?.parse().ok()).unwrap_or(0);
        } else if is(name, "hello") {
            self.greeting.protocol = wanted_protocol(command).unwrap_or(self.greeting.protocol);
            if let Some(at) = command.iter().position(|word| is(word, "auth")) {
                self.greeting.login = Some(command[at..].iter().take(3).cloned().collect());
            }
        } else if is(name, "reset") {
            self.greeting.protocol = Protocol::Resp2;
            self.greeting.db = 0;
        }
    }

    /// The error for a command without a reply. A server is looked for at once, so that the prompt tells the truth.
    fn unknown(&mut self, error: &ConnectionError) -> SessionError {
        let failure = SessionError::Unknown { server: self.server().to_string(), problem: error.to_string() };
        if let Err(error) = self.connect() {
            self.notices.push(error.to_string());
        }
        failure
    }
}

/// The protocol that HELLO asks for.
fn wanted_protocol(command: &[Bytes]) -> Option<Protocol> {
    match command {
        [name, version, ..] if name.eq_ignore_ascii_case(b"hello") => match version.as_ref() {
            b"2" => Some(Protocol::Resp2),
            b"3" => Some(Protocol::Resp3),
            _ => None,
        },
        _ => None,
    }
}

/// Whether it makes no difference how often a command is executed.
fn changes_nothing(command: &[Bytes]) -> bool {
    !command.is_empty() && table::resolve(command).is_ok_and(|spec| matches!(spec.handler, Handler::Read { .. }))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    fn words(line: &str) -> Vec<Bytes> {
        line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    /// A server that gives its connections these answers, one per request, and then ends each; what it was asked, a line per request.
    fn stub(connections: Vec<Vec<&'static str>>) -> (Address, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = Address::parse(&listener.local_addr().expect("bound").to_string()).expect("an address");
        let server = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answers in connections {
                let (mut stream, _) = listener.accept().expect("a client");
                for answer in answers {
                    let mut request = [0; 4096];
                    let length = stream.read(&mut request).expect("a request");
                    let text = String::from_utf8_lossy(&request[..length]).into_owned();
                    asked.push(text.split("\r\n").skip(2).step_by(2).collect::<Vec<_>>().join(" "));
                    stream.write_all(answer.as_bytes()).expect("the client reads");
                }
            }
            asked
        });
        (address, server)
    }

    fn dead() -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Address::parse(&listener.local_addr().expect("bound").to_string()).expect("an address")
    }

    #[test]
    fn a_session_says_who_asks_and_what_is_meant_on_every_connection() {
        let ok = "+OK\r\n";
        let (address, server) = stub(vec![vec![ok, ok, "+PONG\r\n", ok, ok], vec![ok, ok, "$1\r\nv\r\n"]]);
        let config = crate::config::Config::from_options(&[("requirepass", "pw")]).expect("allowed");
        let password = config.runtime.values().requirepass.clone();
        let mut session = Session::new(vec![address.clone()], password.as_ref(), Protocol::Resp2, 3);
        assert_eq!(session.prompt(), "not connected> ");
        session.connect().expect("a server");
        assert_eq!(session.prompt(), format!("{address}[3]> "));
        session.execute(&words("PING")).expect("a reply");
        session.execute(&words("SELECT 4")).expect("a reply");
        session.execute(&words("AUTH user other")).expect("a reply");
        assert_eq!(session.prompt(), format!("{address}[4]> "));
        // The server has ended the connection, or does so while it is asked: a read is asked again.
        assert_eq!(session.execute(&words("GET k")).expect("a reply"), [Value::Bulk("v".into())]);
        let expected = ["AUTH pw", "SELECT 3", "PING", "SELECT 4", "AUTH user other", "AUTH user other", "SELECT 4", "GET k"];
        assert_eq!(server.join().expect("served"), expected);
        assert!(session.take_notices().iter().any(|notice| *notice == format!("connected to {address}")));
    }

    #[test]
    fn the_next_server_takes_over_and_the_person_is_told() {
        let (address, server) = stub(vec![vec!["+PONG\r\n"]]);
        let gone = dead();
        let mut session = Session::new(vec![gone.clone(), address.clone()], None, Protocol::Resp2, 0);
        session.execute(&words("PING")).expect("a reply");
        assert_eq!(session.prompt(), format!("{address}> "));
        let notices = session.take_notices();
        assert!(notices.len() == 1 && notices[0].starts_with(&format!("connected to {address} ({gone}: ")), "{notices:?}");
        server.join().expect("served");
        let mut session = Session::new(vec![gone.clone()], None, Protocol::Resp2, 0);
        let error = session.execute(&words("PING")).expect_err("nobody").to_string();
        assert!(error.starts_with(&format!("cannot connect to {gone}: ")), "{error}");
    }

    #[test]
    fn what_may_have_been_executed_is_not_sent_again() {
        let (address, server) = stub(vec![vec![""], vec!["+PONG\r\n"]]);
        let mut session = Session::new(vec![address.clone()], None, Protocol::Resp2, 0);
        let error = session.execute(&words("INCR n")).expect_err("no reply").to_string();
        assert!(error.starts_with(&format!("{address}: ")) && error.ends_with("nobody knows whether the command was executed"), "{error}");
        session.execute(&words("PING")).expect("a reply");
        assert_eq!(server.join().expect("served"), ["INCR n", "PING"]);
    }

    #[test]
    fn commands_that_change_nothing_are_known() {
        for (line, expected) in [("GET k", true), ("get k", true), ("SCAN 0", true), ("SET k v", false), ("PING", false), ("GET", false)] {
            assert_eq!(changes_nothing(&words(line)), expected, "{line}");
        }
        assert!(!changes_nothing(&[]));
    }

    #[test]
    fn hello_changes_the_protocol_for_good() {
        let map = "%1\r\n+proto\r\n:3\r\n";
        let (address, server) = stub(vec![vec![map, "_\r\n", "-NOPROTO no\r\n", "_\r\n"]]);
        let mut session = Session::new(vec![address], None, Protocol::Resp3, 0);
        for line in ["GET k", "HELLO 4", "GET k"] {
            session.execute(&words(line)).expect("a reply");
        }
        assert_eq!(server.join().expect("served"), ["HELLO 3", "GET k", "HELLO 4", "GET k"]);
    }
}
