//! The life of one connection of the admin listener. Its time is bounded, since no client may keep its place for ever; but what it has asked
//! is answered first, so that a client which keeps its connections sees each of them end between two requests. A client that takes nothing
//! of its answer is given up much sooner: the answer is in memory until then, and memory is short (`budget`).

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::Sleep;

/// How long the head of a request may take, and an idle connection may wait for the next.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head, and its headers.
const HEAD_BYTES_MAX: usize = 192 << 10;
const HEADERS_MAX: usize = 64;

/// How long a connection lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    /// How long it takes further requests.
    pub(super) open: Duration,
    /// How long, after that, what is under way may take.
    pub(super) under_way: Duration,
    /// How long it waits for the client to take a byte of an answer.
    pub(super) untaken: Duration,
}

/// Serves a connection until the client closes it, its time is over, or `shutdown` becomes true or loses its sender.
pub(super) async fn serve<S>(stream: S, router: Router, lifetime: Lifetime, mut shutdown: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    let stream = Patient { stream, patience: lifetime.untaken, gives_up: None };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! {
        // A connection that breaks is the client's affair.
        _ended = &mut connection => return,
        () = tokio::time::sleep(lifetime.open) => {}
        _stop = shutdown.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(tokio::time::timeout(lifetime.under_way, connection).await);
}

/// A stream that fails when nothing could be written for so long.
struct Patient<S> {
    stream: S,
    patience: Duration,
    /// While nothing can be written: when it fails.
    gives_up: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// What has become of an attempt to write.
    fn judge(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.gives_up = None;
            return written;
        }
        let patience = self.patience;
        let gives_up = self.gives_up.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        gives_up.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(50);

    /// All that a client of a handler which takes some time reads until the connection ends.
    async fn read_of(handler_takes: Duration, lifetime: Lifetime) -> String {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let answer = move || async move {
            tokio::time::sleep(handler_takes).await;
            "the answer"
        };
        let (_running, shutdown) = watch::channel(false);
        let served = tokio::spawn(serve(server, Router::new().route("/", get(answer)), lifetime, shutdown));
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the server reads");
        let mut read = String::new();
        client.read_to_string(&mut read).await.expect("the server closes");
        served.await.expect("it does not panic");
        read
    }

    #[tokio::test]
    async fn a_connection_whose_time_is_over_answers_what_is_under_way() {
        let read = read_of(4 * SHORT, Lifetime { open: SHORT, under_way: LONG, untaken: LONG }).await;
        assert!(read.starts_with("HTTP/1.1 200 OK\r\n") && read.ends_with("the answer"), "{read}");
    }

    #[tokio::test]
    async fn what_is_under_way_does_not_last_for_ever() {
        assert_eq!(read_of(LONG, Lifetime { open: SHORT, under_way: SHORT, untaken: LONG }).await, "");
    }

    #[tokio::test]
    async fn who_takes_nothing_of_an_answer_is_given_up() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let (_running, shutdown) = watch::channel(false);
        let router = Router::new().route("/", get(async || "x".repeat(1 << 20)));
        let lifetime = Lifetime { open: LONG, under_way: LONG, untaken: 4 * SHORT };
        let served = tokio::spawn(serve(server, router, lifetime, shutdown));
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("the server reads");
        // Longer in all than it would wait for a byte, but never without one.
        let mut taken = [0; 1 << 10];
        for _ in 0..8 {
            client.read_exact(&mut taken).await.expect("it goes on while something is taken");
            tokio::time::sleep(SHORT).await;
        }
        served.await.expect("it does not panic");
    }

    #[tokio::test]
    async fn an_idle_connection_ends_when_its_time_is_over() {
        let read = read_of(Duration::ZERO, Lifetime { open: 4 * SHORT, under_way: LONG, untaken: LONG }).await;
        assert!(read.ends_with("the answer"), "{read}");
    }
}
