//! A blocking client: one connection, RESP2 or RESP3, pipelines, and raw bytes for what no client library would send.
//! Every call is over by its deadline. After an error the connection is of no use: what was sent and not answered has an unknown outcome.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use resp::{Protocol, ReplyError, ReplyReader, Value, encode_command};

/// How long a call may take unless told otherwise; longer than the server's `request-timeout`.
const CALL_PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Longest reply that is taken.
const REPLY_BYTES_MAX: usize = 1 << 30;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Prefixes of replies that say that the command was certainly not executed.
const NOT_EXECUTED: [&str; 4] = ["CLUSTERDOWN", "TRYAGAIN", "LOADING", "OOM"];
/// Prefix of the reply that says that nobody knows.
const OUTCOME_UNKNOWN: &str = "TIMEOUT";

/// What an error reply says about its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was certainly not executed.
    NotExecuted,
    /// It may have been executed, or may still be.
    Unknown,
    /// It was refused: for what it asked, not for the state of the group.
    Refused,
}

impl Fate {
    /// What a text says.
    #[must_use]
    pub fn of(error: &str) -> Self {
        match error.split(' ').next().unwrap_or_default() {
            OUTCOME_UNKNOWN => Self::Unknown,
            prefix if NOT_EXECUTED.contains(&prefix) => Self::NotExecuted,
            _ => Self::Refused,
        }
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection could not be opened or broke.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The deadline passed.
    #[error("no reply within {0:?}")]
    TimedOut(Duration),
    /// The server's bytes are no reply.
    #[error(transparent)]
    Malformed(#[from] ReplyError),
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    reader: ReplyReader,
    /// Commands that are not sent yet.
    queued: BytesMut,
    /// Commands whose replies have not been read.
    unanswered: usize,
    patience: Duration,
}

impl Client {
    /// Opens a connection.
    /// # Errors
    /// Nobody listens, or not in time.
    pub fn connect(address: SocketAddr) -> Result<Self, ClientError> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(CALL_PATIENCE))?;
        let reader = ReplyReader::new(Protocol::Resp2, REPLY_BYTES_MAX);
        Ok(Self { stream, reader, queued: BytesMut::new(), unanswered: 0, patience: CALL_PATIENCE })
    }

    /// Sets how long a reply may take.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The address of this end, as CLIENT LIST shows it.
    /// # Panics
    /// Never: the stream is connected.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// Sends one command and reads its reply.
    /// # Errors
    /// There is no reply.
    pub fn call(&mut self, args: &[impl AsRef<[u8]>]) -> Result<Value, ClientError> {
        self.queue(args);
        self.flush()?;
        self.receive()
    }

    /// Sends commands at once and reads all replies.
    /// # Errors
    /// A reply is missing.
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: impl IntoIterator<Item = impl AsRef<[A]>>) -> Result<Vec<Value>, ClientError> {
        for command in commands {
            self.queue(command.as_ref());
        }
        self.flush()?;
        (0..self.unanswered).map(|_| self.receive()).collect()
    }

    /// Adds a command to those that `flush` sends.
    pub fn queue(&mut self, args: &[impl AsRef<[u8]>]) {
        encode_command(args, &mut self.queued);
        self.unanswered += 1;
    }

    /// Sends what was queued.
    /// # Errors
    /// The server does not take it.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        let bytes = self.queued.split();
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Reads the next reply.
    /// # Errors
    /// There is none.
    pub fn receive(&mut self) -> Result<Value, ClientError> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(reply) = self.reader.next_reply()? {
                self.unanswered = self.unanswered.saturating_sub(1);
                return Ok(reply);
            }
            let mut piece = [0; READ_BYTES];
            match self.read(&mut piece, deadline)? {
                0 => return Err(ClientError::Closed),
                length => self.reader.buffer_mut().extend_from_slice(&piece[..length]),
            }
        }
    }

    /// Sends bytes as they are.
    /// # Errors
    /// The server does not take them.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// All bytes until the server closes the connection. A reset counts as a close.
    /// # Errors
    /// It does not close in time.
    pub fn read_to_close(&mut self) -> Result<Vec<u8>, ClientError> {
        let deadline = Instant::now() + self.patience;
        let mut bytes = self.reader.buffer_mut().split().to_vec();
        let mut piece = [0; READ_BYTES];
        loop {
            match self.read(&mut piece, deadline) {
                Ok(0) => return Ok(bytes),
                Ok(length) => bytes.extend_from_slice(&piece[..length]),
                Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(bytes),
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&mut self, piece: &mut [u8], deadline: Instant) -> Result<usize, ClientError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut(self.patience));
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(piece) {
                Ok(length) => return Ok(length),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Calls that must succeed.
impl Client {
    /// Sends one command that must have a reply, whatever it is.
    /// # Panics
    /// There is no reply.
    #[track_caller]
    pub fn ask(&mut self, args: &[impl AsRef<[u8]>]) -> Value {
        self.call(args).unwrap_or_else(|error| panic!("{}: {error}", shown(args)))
    }

    /// Sends one command that must have a reply that is no error.
    /// # Panics
    /// It has not.
    #[track_caller]
    pub fn must(&mut self, args: &[impl AsRef<[u8]>]) -> Value {
        match self.ask(args) {
            Value::Error(text) => panic!("{}: {text}", shown(args)),
            reply => reply,
        }
    }

    /// Sends one command that must be refused; the text of the error.
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn refused(&mut self, args: &[impl AsRef<[u8]>]) -> String {
        match self.ask(args) {
            Value::Error(text) => text,
            reply => panic!("{} is not refused: {reply:?}", shown(args)),
        }
    }

    /// SET.
    /// # Panics
    /// It is not answered OK.
    #[track_caller]
    pub fn set(&mut self, key: &str, value: impl AsRef<[u8]>) {
        let reply = self.must(&[b"SET".as_slice(), key.as_bytes(), value.as_ref()]);
        assert_eq!(reply, Value::Simple(Bytes::from_static(b"OK")));
    }

    /// GET.
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn get(&mut self, key: &str) -> Option<Bytes> {
        match self.must(&["GET", key]) {
            Value::Bulk(value) => Some(value),
            Value::Null => None,
            reply => panic!("GET {key}: {reply:?}"),
        }
    }

    /// INCR.
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn incr(&mut self, key: &str) -> i64 {
        integer(&self.must(&["INCR", key]))
    }

    /// HELLO 3: RESP3 from now on. Its reply.
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn hello3(&mut self) -> Value {
        self.reader.set_protocol(Protocol::Resp3);
        self.must(&["HELLO", "3"])
    }
}

/// An integer that a reply must be, or spell.
/// # Panics
/// It is none.
#[must_use]
#[track_caller]
pub fn integer(reply: &Value) -> i64 {
    match reply {
        Value::Integer(value) => *value,
        Value::Bulk(text) => String::from_utf8_lossy(text).parse().unwrap_or_else(|_| panic!("no integer: {reply:?}")),
        _ => panic!("no integer: {reply:?}"),
    }
}

/// The text that a reply must be.
/// # Panics
/// It is none.
#[must_use]
#[track_caller]
pub fn text(reply: &Value) -> String {
    match reply {
        Value::Simple(text) | Value::Bulk(text) | Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        _ => panic!("no text: {reply:?}"),
    }
}

/// The elements of the array that a reply must be.
/// # Panics
/// It is none.
#[must_use]
#[track_caller]
pub fn elements(reply: Value) -> Vec<Value> {
    match reply {
        Value::Array(elements) => elements,
        _ => panic!("no array: {reply:?}"),
    }
}

/// A bulk string, to compare replies with.
#[must_use]
pub fn bulk(text: impl AsRef<[u8]>) -> Value {
    Value::Bulk(Bytes::copy_from_slice(text.as_ref()))
}

/// `+OK`, to compare replies with.
#[must_use]
pub fn ok() -> Value {
    Value::Simple(Bytes::from_static(b"OK"))
}

/// A command as a failed test shows it, long arguments cut.
fn shown(args: &[impl AsRef<[u8]>]) -> String {
    let arg = |arg: &[u8]| arg[..arg.len().min(64)].escape_ascii().to_string();
    args.iter().map(|one| arg(one.as_ref())).collect::<Vec<_>>().join(" ")
}
