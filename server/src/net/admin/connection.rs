//! The life of one connection of the admin listener. Its time is bounded, since no client may keep its place for ever; but what it has asked
//! is answered first, so that a client which keeps its connections sees each of them end between two requests.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

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
}

/// Serves a connection until the client closes it, its time is over, or `shutdown` becomes true or loses its sender.
pub(super) async fn serve<S>(stream: S, router: Router, lifetime: Lifetime, mut shutdown: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
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
        let read = read_of(4 * SHORT, Lifetime { open: SHORT, under_way: LONG }).await;
        assert!(read.starts_with("HTTP/1.1 200 OK\r\n") && read.ends_with("the answer"), "{read}");
    }

    #[tokio::test]
    async fn what_is_under_way_does_not_last_for_ever() {
        assert_eq!(read_of(LONG, Lifetime { open: SHORT, under_way: SHORT }).await, "");
    }

    #[tokio::test]
    async fn an_idle_connection_ends_when_its_time_is_over() {
        let read = read_of(Duration::ZERO, Lifetime { open: 4 * SHORT, under_way: LONG }).await;
        assert!(read.ends_with("the answer"), "{read}");
    }
}
