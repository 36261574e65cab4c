//! Requests from the bytes of a client: arrays of bulk strings, and inline commands.
//! The reader is resumable. It takes every argument out of the buffer as soon as it is complete and remembers where it stands inside
//! the request, so no byte is looked at twice and a request costs linear time however small the pieces are in which it arrives.
//! What is accepted and what is answered are Redis 7.2's (`processInlineBuffer`, `processMultibulkBuffer` in its `networking.c`).
//!
//! Memory: an argument is a view of the buffer it was read into, not a copy. A small one keeps up to `READ_BYTES` alive, which it
//! shares with its neighbours: whoever stores arguments for long copies them. One that outgrows the buffer ends in an allocation of
//! its own and of its size, which the reader lets go with it. An announced length never leads to an allocation larger than twice what has
//! arrived (`READ_BYTES` at least).

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::inline;
use crate::number::parse_integer;

/// Bytes of a line, inline command or header, that Redis waits for its end in (`PROTO_INLINE_MAX_SIZE`).
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Most arguments, and longest argument in bytes, of a client that has yet to authenticate. Constants in Redis too.
const UNAUTHENTICATED_ARGUMENTS_MAX: usize = 10;
const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * 1024;
/// Size of a fresh buffer: at first, so that thousands of idle clients are cheap, and at most (`PROTO_IOBUF_LEN`), for clients whose
/// pipelines fill smaller ones.
const FIRST_READ_BYTES: usize = 2 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// Reading into less free space than this part of a fresh buffer is not worth a system call.
const SPARE_PART: usize = 4;
/// Arguments to make room for at once; more room is made as they arrive.
const ARGUMENTS_RESERVED_MAX: usize = 16;
/// Length of the line end after headers and arguments.
const CRLF_BYTES: usize = 2;

/// What a request may measure. What exceeds a limit is refused as soon as its length is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest argument, in bytes (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// Most arguments of an array. Redis accepts `i32::MAX`.
    pub arguments_max: usize,
    /// Longest request, in bytes on the wire (`client-query-buffer-limit`).
    pub request_bytes_max: usize,
    /// Whether Redis's small limits for clients without a password apply as well: 10 arguments of 16,384 bytes.
    pub authentication: Authentication,
}

/// Whether a client has shown that it may use the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The server wants a password and the client has not given it.
    Pending,
    /// The client has authenticated, or need not.
    Done,
}

/// Why a client's bytes are not a request. The text is what follows `-ERR ` in the reply, after which the connection is closed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// The number of arguments is not a number, or exceeds `arguments_max`.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The line with the number of arguments has no end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkCountTooBig,
    /// More arguments than a client may send before it has authenticated.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// An argument does not begin with `$`, but with this byte.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    /// The length of an argument is not a number, is negative, or exceeds `bulk_bytes_max`.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// The line with the length of an argument has no end.
    #[error("Protocol error: too big bulk count string")]
    BulkCountTooBig,
    /// A longer argument than a client may send before it has authenticated.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// An inline command has no end.
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// A quote in an inline command is not closed, or something follows its end.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The request exceeds `request_bytes_max`. Redis closes the connection without a reply then.
    #[error("Protocol error: request exceeds client-query-buffer-limit")]
    RequestTooLarge,
}

/// The bytes of one client, and the position inside its present request.
///
/// Read into [`buffer_mut`](Self::buffer_mut), then call [`next`](Self::next) until it has no more requests.
#[derive(Debug, Default)]
pub struct RequestReader {
    /// What has arrived and is not consumed. Starts at a request, or at a header or the content of an argument.
    buffer: BytesMut,
    /// Size of the last fresh buffer; 0 before the first.
    read_bytes: usize,
    /// Bytes at the start of `buffer` that are known not to contain the line end that is looked for.
    scanned: usize,
    /// Arguments of the present request so far.
    arguments: Vec<Bytes>,
    /// Arguments that the present request lacks; 0 between requests and while its first line is read.
    arguments_missing: usize,
    /// Length of the argument whose content `buffer` starts with; `None` while a line is read.
    bulk_bytes: Option<usize>,
    /// Bytes of the present request that are consumed or announced.
    request_bytes: usize,
}

impl RequestReader {
    /// A reader for a new connection. Allocates nothing yet.
    #[must_use]
    pub fn new() -> RequestReader {
        RequestReader::default()
    }

    /// The buffer to append the client's bytes to, with free space worth a read. To be filled up to its capacity only, so that
    /// growth stays in the reader's hands.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        let len = self.buffer.len();
        let spare = self.buffer.capacity() - len;
        // What the present argument still lacks. Of a line nobody knows, nor of what comes next if the argument is here already.
        let missing = self.bulk_bytes.map(|bulk_bytes| (bulk_bytes + CRLF_BYTES).saturating_sub(len));
        let missing = missing.filter(|missing| *missing > 0).unwrap_or(usize::MAX);
        if spare == 0 {
            // There may be more than it could take.
            self.read_bytes = (2 * self.read_bytes).clamp(FIRST_READ_BYTES, READ_BYTES);
        }
        if spare < missing.min(self.read_bytes / SPARE_PART) {
            // Doubling keeps the copying linear; stopping at the argument's end gives it an allocation of its own.
            let capacity = len.saturating_add(missing).min(len * 2).max(self.read_bytes);
            if !self.buffer.try_reclaim(capacity - len) {
                let mut larger = BytesMut::with_capacity(capacity);
                larger.extend_from_slice(&self.buffer);
                self.buffer = larger;
            }
        }
        &mut self.buffer
    }

    /// Bytes that have arrived and are not consumed. Complete arguments of an incomplete request count as consumed.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next request: a command's name and its arguments, never empty. `None` if more bytes are needed. Empty lines and empty
    /// arrays are skipped, as in Redis. Limits may change from request to request.
    ///
    /// # Errors
    /// If the bytes are not a request, or exceed a limit. Nobody knows then where the next request begins: the reader must be dropped.
    pub fn next(&mut self, limits: &Limits) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.arguments_missing > 0 {
                return self.read_arguments(limits);
            }
            self.request_bytes = 0;
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(arguments) = self.read_array_header(limits)? else { return Ok(None) };
                    self.arguments_missing = arguments;
                    self.arguments.reserve(arguments.min(ARGUMENTS_RESERVED_MAX));
                }
                Some(_) => {
                    let Some(arguments) = self.read_inline(limits)? else { return Ok(None) };
                    if !arguments.is_empty() {
                        return Ok(Some(arguments));
                    }
                }
            }
        }
    }

    /// Goes on with the arguments of an array; yields them when none is missing.
    fn read_arguments(&mut self, limits: &Limits) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        while self.arguments_missing > 0 {
            let bulk_bytes = match self.bulk_bytes {
                Some(bulk_bytes) => bulk_bytes,
                None => {
                    let Some(bulk_bytes) = self.read_bulk_header(limits)? else { return Ok(None) };
                    self.bulk_bytes = Some(bulk_bytes);
                    bulk_bytes
                }
            };
            if self.buffer.len() < bulk_bytes + CRLF_BYTES {
                return Ok(None);
            }
            let argument = self.buffer.split_to(bulk_bytes).freeze();
            // Redis does not look at these two bytes either.
            self.buffer.advance(CRLF_BYTES);
            self.arguments.push(argument);
            self.arguments_missing -= 1;
            self.bulk_bytes = None;
            self.release_grown_buffer(bulk_bytes);
        }
        Ok(Some(std::mem::take(&mut self.arguments)))
    }

    /// Consumes `*<arguments>`; a negative number counts as none.
    fn read_array_header(&mut self, limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let Some(line_bytes) = self.header_bytes(ProtocolError::MultibulkCountTooBig)? else { return Ok(None) };
        let announced = parse_integer(&self.buffer[1..line_bytes]).ok_or(ProtocolError::InvalidMultibulkLength)?;
        let arguments = usize::try_from(announced).unwrap_or(0);
        if arguments > limits.arguments_max {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if arguments > UNAUTHENTICATED_ARGUMENTS_MAX && limits.authentication == Authentication::Pending {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.count_bytes(line_bytes + CRLF_BYTES, limits)?;
        self.consume_line(line_bytes + CRLF_BYTES);
        Ok(Some(arguments))
    }

    /// Consumes `$<bytes>`, and counts the bytes announced towards the request at once.
    fn read_bulk_header(&mut self, limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let Some(line_bytes) = self.header_bytes(ProtocolError::BulkCountTooBig)? else { return Ok(None) };
        if self.buffer[0] != b'$' {
            return Err(ProtocolError::ExpectedBulk(self.buffer[0]));
        }
        let announced = parse_integer(&self.buffer[1..line_bytes]).ok_or(ProtocolError::InvalidBulkLength)?;
        let bulk_bytes = usize::try_from(announced).map_err(|_| ProtocolError::InvalidBulkLength)?;
        if bulk_bytes > limits.bulk_bytes_max {
            return Err(ProtocolError::InvalidBulkLength);
        }
        if bulk_bytes > UNAUTHENTICATED_BULK_BYTES_MAX && limits.authentication == Authentication::Pending {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        self.count_bytes(line_bytes + CRLF_BYTES, limits)?;
        self.count_bytes(bulk_bytes.saturating_add(CRLF_BYTES), limits)?;
        self.consume_line(line_bytes + CRLF_BYTES);
        Ok(Some(bulk_bytes))
    }

    /// Consumes a line and splits it; the line may turn out to be empty.
    fn read_inline(&mut self, limits: &Limits) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let Some(line_bytes) = self.line_bytes(b'\n', ProtocolError::InlineTooBig)? else { return Ok(None) };
        self.count_bytes(line_bytes + 1, limits)?;
        // A carriage return before the end needs no care: it is a blank.
        let arguments = inline::split(&self.buffer[..line_bytes]).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.consume_line(line_bytes + 1);
        Ok(Some(arguments))
    }

    /// Length of the header at the start of the buffer, if it is there with both bytes of its end. Like Redis, looks for the first of
    /// them only.
    fn header_bytes(&mut self, too_big: ProtocolError) -> Result<Option<usize>, ProtocolError> {
        let line_bytes = self.line_bytes(b'\r', too_big)?;
        Ok(line_bytes.filter(|line_bytes| line_bytes + CRLF_BYTES <= self.buffer.len()))
    }

    /// Length of the line at the start of the buffer, without the byte that ends it. Goes on where the last call stopped. The limit
    /// holds for a line that arrives whole, too, so that the answer does not depend on the pieces.
    fn line_bytes(&mut self, end: u8, too_big: ProtocolError) -> Result<Option<usize>, ProtocolError> {
        let line = &self.buffer[..self.buffer.len().min(LINE_BYTES_MAX + 1)];
        let found = line[self.scanned..].iter().position(|byte| *byte == end).map(|at| self.scanned + at);
        if found.is_none() && line.len() > LINE_BYTES_MAX {
            return Err(too_big);
        }
        self.scanned = found.unwrap_or(line.len());
        Ok(found)
    }

    fn consume_line(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.scanned = 0;
        self.release_grown_buffer(bytes);
    }

    /// Lets go of a buffer that grew for what has just been consumed. The reader would reuse it else, and small arguments in it would
    /// keep all of it alive.
    fn release_grown_buffer(&mut self, consumed_bytes: usize) {
        if consumed_bytes > READ_BYTES && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    fn count_bytes(&mut self, bytes: usize, limits: &Limits) -> Result<(), ProtocolError> {
        self.request_bytes = self.request_bytes.saturating_add(bytes);
        if self.request_bytes > limits.request_bytes_max { Err(ProtocolError::RequestTooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
