//! An incoming connection that is let in step by step: until somebody has proved on it that they know the secret, it lives for a few
//! seconds and may send a few kilobytes. So strangers cost little, whatever they send, and large windows are open to members only.
//! The challenge belongs to the connection and serves once.
//! Units: bytes as read from the socket, the HTTP/2 framing included.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::handshake::{Random, random};

/// How long a connection may take to prove itself.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// What a connection may send before that: a `Form` with the largest table fits, and HTTP/2's own frames.
const STRANGER_BYTES_MAX: usize = 256 << 10;

/// What the services know of the connection a request came on.
#[derive(Clone, Debug, Default)]
pub(super) struct Door {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    trusted: AtomicBool,
    challenge: Mutex<Option<Random>>,
}

impl Door {
    /// A new challenge in place of the last one.
    pub(super) fn challenge(&self) -> Random {
        let challenge = random();
        *self.shared.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge);
        challenge
    }

    /// The challenge given last, once.
    pub(super) fn take_challenge(&self) -> Option<Random> {
        self.shared.challenge.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Somebody has proved themselves: the connection may stay.
    pub(super) fn trust(&self) {
        self.shared.trusted.store(true, Ordering::Release);
    }

    fn is_trusted(&self) -> bool {
        self.shared.trusted.load(Ordering::Acquire)
    }
}

/// An accepted connection.
pub(super) struct Connection {
    stream: TcpStream,
    door: Door,
    deadline: Pin<Box<Sleep>>,
    bytes: usize,
    /// Given back when the connection closes.
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        let deadline = Box::pin(tokio::time::sleep(HANDSHAKE_DEADLINE));
        Self { stream, door: Door::default(), deadline, bytes: 0, _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = Door;

    fn connect_info(&self) -> Door {
        self.door.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.door.is_trusted() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no handshake in time")));
        }
        if self.bytes >= STRANGER_BYTES_MAX {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "too much before the handshake")));
        }
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.bytes += buf.filled().len() - before;
        outcome
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
