//! One connection to a server, from the client's side: commands out, replies in. Blocking, for one conversation at a time.
//! What a reply means, and whom to ask when this server is gone, is the caller's business.
//! After an error the connection is of no use: nobody knows what became of the commands that were sent and not answered.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use resp::{Protocol, ReplyError, ReplyReader, Value, encode_command};

/// Longest reply that is taken, in bytes; the longest value of Redis, and some.
const REPLY_BYTES_MAX: usize = (512 << 20) + 1024;
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// Nobody listens, or the connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server ended the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The deadline has passed.
    #[error("no answer in time")]
    TimedOut,
    /// The server's bytes are no reply.
    #[error(transparent)]
    Malformed(#[from] ReplyError),
}

/// A connection to a server. It speaks RESP2 until `set_protocol`.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    reader: ReplyReader,
}

impl Connection {
    /// Opens a connection.
    /// # Errors
    /// Nobody listens, or it takes too long.
    pub(crate) fn open(address: SocketAddr, patience: Duration) -> Result<Self, ConnectionError> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, reader: ReplyReader::new(Protocol::Resp2, REPLY_BYTES_MAX) })
    }

    /// Sends a command and takes its reply; without a deadline it waits for as long as it takes.
    /// # Errors
    /// There is no reply.
    pub(crate) fn call(&mut self, command: &[impl AsRef<[u8]>], deadline: Option<Instant>) -> Result<Value, ConnectionError> {
        let mut bytes = BytesMut::new();
        encode_command(command, &mut bytes);
        self.send(&bytes, deadline)?;
        self.receive(deadline)
    }

    /// Sends encoded commands.
    /// # Errors
    /// The server does not take them, or not in time.
    pub(crate) fn send(&mut self, commands: &[u8], deadline: Option<Instant>) -> Result<(), ConnectionError> {
        self.stream.set_write_timeout(left(deadline)?)?;
        self.stream.write_all(commands).map_err(timed_out)
    }

    /// Takes the next reply.
    /// # Errors
    /// There is none.
    pub(crate) fn receive(&mut self, deadline: Option<Instant>) -> Result<Value, ConnectionError> {
        let mut piece = [0; READ_BYTES];
        loop {
            if let Some(reply) = self.reader.next_reply()? {
                return Ok(reply);
            }
            self.stream.set_read_timeout(left(deadline)?)?;
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(ConnectionError::Closed),
                Ok(length) => self.reader.buffer_mut().extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error)),
            }
        }
    }

    /// Changes the protocol from the next reply on. To be called when HELLO is sent: its own reply is in the new protocol.
    pub(crate) fn set_protocol(&mut self, protocol: Protocol) {
        self.reader.set_protocol(protocol);
    }

    /// Whether the server has ended the connection while nobody asked it for anything.
    pub(crate) fn is_gone(&self) -> bool {
        let look = || {
            self.stream.set_nonblocking(true)?;
            let seen = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            seen
        };
        match look() {
            Ok(length) => length == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// The time left, in the form in which a socket takes it.
fn left(deadline: Option<Instant>) -> Result<Option<Duration>, ConnectionError> {
    let Some(deadline) = deadline else { return Ok(None) };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ConnectionError::TimedOut) } else { Ok(Some(left)) }
}

/// Tells a deadline that has passed from a connection that broke.
fn timed_out(error: io::Error) -> ConnectionError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ConnectionError::TimedOut,
        _ => ConnectionError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn replies_come_in_pieces_and_a_silent_server_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut connection = Connection::open(listener.local_addr().expect("bound"), PATIENCE).expect("a listener");
        let (mut server, _) = listener.accept().expect("a client");
        for piece in ["+O", "K\r\n:1\r\n", "$1\r\n"] {
            server.write_all(piece.as_bytes()).expect("the client reads");
        }
        let deadline = Some(Instant::now() + PATIENCE);
        assert_eq!(connection.receive(deadline).expect("a reply"), Value::Simple("OK".into()));
        assert_eq!(connection.receive(deadline).expect("a reply"), Value::Integer(1));
        let soon = Some(Instant::now() + Duration::from_millis(50));
        assert!(matches!(connection.receive(soon), Err(ConnectionError::TimedOut)));
    }

    #[test]
    fn an_end_is_noticed_before_anything_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut connection = Connection::open(listener.local_addr().expect("bound"), PATIENCE).expect("a listener");
        let (server, _) = listener.accept().expect("a client");
        assert!(!connection.is_gone());
        drop(server);
        // The kernel tells it after a moment.
        assert!(matches!(connection.receive(Some(Instant::now() + PATIENCE)), Err(ConnectionError::Closed)));
        assert!(connection.is_gone());
    }
}
