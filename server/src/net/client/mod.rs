//! Clients: the listener, and what all connections share.
//! Owns who may connect (`maxclients`, `protected-mode`) and the start and end of connections. `connection` is the life of one of them,
//! `run` how its commands become runs for the node, `execute` the commands about the connection or the node, `registry` what clients
//! can see of each other.
//! The accept loop never ends because of an error: without descriptors it waits and tries again.

mod answers;
mod connection;
mod execute;
mod registry;
mod run;
mod session;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use resp::{Protocol, Reply};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::config::Config;
use crate::error::RefusedClient;
use crate::info::ServerFacts;
use crate::metrics::{Metric, Metrics};
use crate::node::NodeHandle;
use crate::slow_log::SlowLog;
pub(crate) use answers::ARGUMENTS_MAX;
pub(crate) use session::same_secret;

use connection::Connection;
use registry::Registry;
use run::RunLimits;

/// Connections that wait to be accepted (Redis's `tcp-backlog`).
const BACKLOG: u32 = 511;

/// How long to wait after a failed accept: time for a descriptor to be closed.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How often a thing that clients can cause at will is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How often idle clients are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Unanswered keep-alive probes after which TCP gives a client up, as in Redis.
const KEEPALIVE_PROBES: u32 = 3;

/// Why the port for clients could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", plain(source))]
pub struct ListenError {
    /// What was asked for.
    pub address: String,
    /// What the system said.
    pub source: io::Error,
}

/// What the system said, in the words of an operator.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has the address".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// What all connections share.
pub(crate) struct Services {
    node: NodeHandle,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    registry: Registry,
    run_limits: RunLimits,
    server: ServerFacts,
    slow_log: SlowLog,
    /// When somebody was last turned away by protected mode, and when somebody last spoke HTTP, as far as the log knows.
    refusals_logged: LogInterval,
    http_logged: LogInterval,
}

/// Lets a message into the log once per `LOG_INTERVAL`.
#[derive(Default)]
pub(crate) struct LogInterval(Mutex<Option<Instant>>);

impl LogInterval {
    /// Whether it is time for the message.
    pub(crate) fn is_due(&self) -> bool {
        let mut logged_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = logged_at.is_none_or(|at| now - at >= LOG_INTERVAL);
        if due {
            *logged_at = Some(now);
        }
        due
    }
}

/// The server for clients, bound to its port.
pub struct ClientServer {
    listener: TcpListener,
    services: Arc<Services>,
    shutdown: watch::Receiver<bool>,
}

/// Takes a port, on which nobody can connect before it is listened on. A server that listens there already is noticed now, one that comes in
/// between when we listen.
/// # Errors
/// `ListenError`, also when the host has no address.
pub async fn reserve(address: &str) -> Result<TcpSocket, ListenError> {
    let failed = |source| ListenError { address: address.to_owned(), source };
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for candidate in tokio::net::lookup_host(address).await.map_err(failed)? {
        match bind_socket(candidate) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn bind_socket(address: std::net::SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted node takes its port back although connections of its former life are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

impl ClientServer {
    /// Listens on the port that was reserved for clients; `serve` begins to accept them. `shutdown` becoming true, or its sender going away,
    /// ends `serve`.
    /// # Errors
    /// `ListenError`.
    pub fn listen(
        port: TcpSocket,
        config: Arc<Config>,
        node: NodeHandle,
        metrics: Arc<Metrics>,
        shutdown: watch::Receiver<bool>,
    ) -> Result<Self, ListenError> {
        let listener = port.listen(BACKLOG).map_err(|source| ListenError { address: config.listen.to_string(), source })?;
        let (started, started_at) = (Instant::now(), SystemTime::now());
        let server = ServerFacts { run_id: random_id(), port: config.listen.port(), started, started_at };
        let run_limits = RunLimits { bytes_max: config.max_entry_bytes, commands_max: config.max_entry_commands };
        let services = Services {
            node,
            config,
            metrics,
            registry: Registry::new(),
            run_limits,
            server,
            slow_log: SlowLog::default(),
            refusals_logged: LogInterval::default(),
            http_logged: LogInterval::default(),
        };
        Ok(Self { listener, services: Arc::new(services), shutdown })
    }

    /// What its connections share, for whoever else answers for the node.
    pub(crate) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Accepts clients until the shutdown; then answers everything that was read from them, closes them, and returns.
    pub async fn serve(mut self) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        let mut retry_at: Option<Instant> = None;
        let errors_logged = LogInterval::default();
        loop {
            tokio::select! {
                biased;
                // An error means that the sender is gone, and with it everybody who could ask for a shutdown later.
                _stop = self.shutdown.wait_for(|stop| *stop) => break,
                _ = sweep.tick() => {
                    if let Some(timeout) = self.services.config.runtime.values().timeout {
                        self.services.registry.kill_idle(timeout);
                    }
                }
                () = sleep_until(retry_at.unwrap_or_else(Instant::now).into()), if retry_at.is_some() => retry_at = None,
                accepted = self.listener.accept(), if retry_at.is_none() => match accepted {
                    Ok((stream, _)) => welcome(&self.services, stream),
                    Err(error) => {
                        retry_at = Some(Instant::now() + ACCEPT_RETRY);
                        if errors_logged.is_due() {
                            tracing::warn!(%error, "cannot accept a client");
                        }
                    }
                },
            }
        }
        let Self { listener, services, .. } = self;
        drop(listener);
        services.registry.drain().await;
    }
}

/// Starts the connection's task, or turns the client away.
fn welcome(services: &Arc<Services>, stream: TcpStream) {
    let metrics = &services.metrics;
    metrics.add(Metric::TotalConnectionsReceived, 1);
    let (Ok(address), Ok(local_address)) = (stream.peer_addr(), stream.local_addr()) else {
        // Gone before we looked.
        return;
    };
    let values = services.config.runtime.values();
    if services.registry.count() >= values.maxclients {
        metrics.add(Metric::RejectedConnections, 1);
        return refuse(&stream, RefusedClient::TooMany);
    }
    if !services.admits(address) {
        if services.refusals_logged.is_due() {
            tracing::warn!(%address, "refused a client from another machine: protected-mode is on and requirepass is not set");
        }
        return refuse(&stream, RefusedClient::Protected);
    }
    configure(&stream, values.tcp_keepalive);
    let client = services.registry.enter(address, local_address, stream.as_raw_fd());
    metrics.add(Metric::ConnectedClients, 1);
    let services = Arc::clone(services);
    tokio::spawn(async move {
        Connection::new(stream, Arc::clone(&client), Arc::clone(&services)).serve().await;
        services.registry.leave(&client);
        services.metrics.subtract(Metric::ConnectedClients, 1);
    });
}

/// Tells the client why it is turned away. Written past tokio, which does not know yet that the new socket is writable. The socket's
/// buffer is empty, so the text fits; if not, the client learns less.
fn refuse(stream: &TcpStream, reason: RefusedClient) {
    let mut out = BytesMut::new();
    Reply::Error(reason.to_string().into()).encode(Protocol::Resp2, &mut out);
    if let Err(error) = socket2::SockRef::from(stream).send(&out) {
        tracing::debug!(%error, "cannot tell a client why it is refused");
    }
}

/// Sets the socket's options. A connection works without them, so a failure is logged and no more.
fn configure(stream: &TcpStream, keepalive: Option<Duration>) {
    let mut set = stream.set_nodelay(true);
    if let Some(time) = keepalive {
        let interval = (time / KEEPALIVE_PROBES).max(Duration::from_secs(1));
        let keepalive = socket2::TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(KEEPALIVE_PROBES);
        set = set.and(socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive));
    }
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set options of a client's socket");
    }
}

/// 40 hex digits.
fn random_id() -> String {
    rand::random::<[u8; 20]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = reserve("127.0.0.1:0").await.map(|port| port.listen(1).expect("it is ours")).expect("some port is free");
        let port = first.local_addr().expect("it is bound").port();
        let error = reserve(&format!("127.0.0.1:{port}")).await.expect_err("the port is taken");
        assert_eq!(error.to_string(), format!("cannot listen on 127.0.0.1:{port}: address in use"));
    }

    #[tokio::test]
    async fn a_foreign_address_is_named() {
        let error = reserve("203.0.113.7:7001").await.expect_err("a documentation address is nobody's");
        assert_eq!(error.to_string(), "cannot listen on 203.0.113.7:7001: no interface of this machine has the address");
    }

    #[test]
    fn ids_are_forty_hex_digits() {
        let id = random_id();
        assert!(id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(id, random_id());
    }
}
