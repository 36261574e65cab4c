//! A connection that hands out each reply as the bytes it came in: no decoder between the two servers forgives a difference.
//! Owns where a reply ends, and the decoding of the few replies that are not compared byte for byte. Never more than a pipeline is under
//! way, so what a server answers stays in the buffers of the system and nobody waits for the other to read.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use resp::{Protocol, ReplyReader, Value, encode_command};

/// How long a reply may take. On a loaded machine, a pipeline of writes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    received: BytesMut,
}

impl Wire {
    /// Opens one.
    pub(super) fn connect(address: SocketAddr) -> Result<Self, String> {
        let open = || {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(Self { stream, received: BytesMut::new() })
        };
        open().map_err(|error: std::io::Error| format!("no connection: {error}"))
    }

    /// Sends commands at once.
    pub(super) fn send<'a>(&mut self, commands: impl Iterator<Item = &'a [Bytes]>) -> Result<(), String> {
        let mut bytes = BytesMut::new();
        commands.for_each(|args| encode_command(args, &mut bytes));
        self.stream.write_all(&bytes).map_err(|error| format!("it takes no commands: {error}"))
    }

    /// The next reply.
    pub(super) fn receive(&mut self) -> Result<Bytes, String> {
        let mut piece = [0; READ_BYTES];
        loop {
            if let Some(end) = reply_end(&self.received) {
                return Ok(self.received.split_to(end).freeze());
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err("it closed the connection".to_owned()),
                Ok(length) => self.received.extend_from_slice(&piece[..length]),
                Err(error) => return Err(format!("no reply: {error}; so far {:?}", self.received.chunk().escape_ascii().to_string())),
            }
        }
    }

    /// Bytes that no command has asked for.
    pub(super) fn surplus(&self) -> &[u8] {
        &self.received
    }

    /// Sends one command and decodes its reply.
    pub(super) fn ask(&mut self, args: &[Bytes]) -> Result<Value, String> {
        self.send(std::iter::once(args))?;
        let reply = self.receive()?;
        decoded(&reply).ok_or_else(|| format!("no reply of the protocol: {}", reply.escape_ascii()))
    }
}

/// Where the first reply ends, if all of it is here.
fn reply_end(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut values_left) = (0, 1);
    while values_left > 0 {
        let line_end = at + bytes.get(at..)?.windows(2).position(|pair| pair == b"\r\n")?;
        let (kind, text) = (bytes[at], std::str::from_utf8(&bytes[at + 1..line_end]).ok());
        // The length of a null is negative; a number that is none belongs to a kind without a length.
        let length: usize = text.and_then(|text| text.parse().ok()).unwrap_or(0);
        let is_null = text.is_some_and(|text| text.starts_with('-'));
        at = line_end + 2;
        values_left -= 1;
        match kind {
            b'$' | b'=' | b'!' if !is_null => at += length + 2,
            b'*' | b'~' | b'>' => values_left += length,
            b'%' => values_left += 2 * length,
            b'|' => values_left += 2 * length + 1,
            _ => {}
        }
    }
    (at <= bytes.len()).then_some(at)
}

/// The value of a reply, in whichever protocol it is.
pub(super) fn decoded(reply: &[u8]) -> Option<Value> {
    [Protocol::Resp2, Protocol::Resp3].into_iter().find_map(|protocol| {
        let mut reader = ReplyReader::new(protocol, usize::MAX);
        reader.buffer_mut().extend_from_slice(reply);
        reader.next_reply().ok().flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_where_its_last_value_does() {
        for reply in
            ["+OK\r\n", "$-1\r\n", "*-1\r\n", "_\r\n", ":-7\r\n", "$2\r\n\r\n\r\n", "*2\r\n$1\r\na\r\n*1\r\n:1\r\n", "%1\r\n+a\r\n*0\r\n"]
        {
            let following = [reply.as_bytes(), b"+more\r\n"].concat();
            assert_eq!(reply_end(&following), Some(reply.len()), "{reply:?}");
            for cut in 0..reply.len() {
                assert_eq!(reply_end(&following[..cut]), None, "{reply:?} cut at {cut}");
            }
            assert!(decoded(reply.as_bytes()).is_some(), "{reply:?}");
        }
    }
}
