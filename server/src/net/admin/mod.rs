//! The admin listener: HTTP for applications without a Redis client, for operators, for Prometheus, and for the page in a browser.
//! `access` decides who may ask, `kv` is the keys, `node` what is told of the node and the cluster, `console` any command, `exposition` the
//! metrics, `page` the files of the page, `openapi` the description of it all, `extract` what handlers take out of a request, `json` what goes
//! in and out, `work` where it is made, `connection` what carries it. All of them ask the same `Services` that clients' connections use, so nothing can be done here that
//! cannot be done there.
//! Everything has a limit: connections, the time for a request's head and for its answer, headers, bodies, and (`budget`) the memory that
//! all requests hold together.

mod access;
mod budget;
mod connection;
mod console;
mod error;
mod events;
mod exposition;
mod extract;
mod json;
mod kv;
mod node;
mod openapi;
mod page;
mod places;
mod work;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use resp::Reply;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};

use self::budget::{Budget, Share};
use self::connection::Lifetime;
use self::error::ApiError;
use self::events::Recorder;
use self::places::Places;
use crate::metrics::Metric;
use crate::net::client::{ListenError, LogInterval, Services};
use crate::node::Request;

/// Connections at a time; a further one is closed.
const CONNECTIONS_MAX: u32 = 256;
/// Connections at a time from one address.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 192;
const _: () = assert!(CONNECTIONS_PER_ADDRESS_MAX < CONNECTIONS_MAX as usize);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// How long a connection lasts: five minutes, and what is under way then as long as the longest answer. Less would cut off a comparison, and
/// whatever else is under way has limits of its own.
const CONNECTION_LIFETIME: Lifetime =
    Lifetime { open: Duration::from_secs(300), under_way: VERIFY_PATIENCE, untaken: Duration::from_secs(30) };
/// Bytes of an answer that the kernel holds for a connection. It tells that some were taken only when a third of them were: with as many as
/// it likes, a client that takes some kilobytes a second would seem to take none.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// How long an answer may take beyond `request-timeout`.
const ANSWER_PATIENCE: Duration = Duration::from_secs(120);
/// How long a comparison of the replicas may take: all their data are read.
const VERIFY_PATIENCE: Duration = Duration::from_secs(3600);
/// How long requests under way may take when the node stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait after a failed accept: time for a descriptor to be closed.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What all requests share.
pub(crate) struct Admin {
    services: Arc<Services>,
    recorder: Recorder,
    budget: Budget,
}

impl Admin {
    /// Has the group execute commands together; an error reply of the first that has one is the error.
    async fn run(&self, db: u8, commands: Vec<Vec<Bytes>>) -> Result<Vec<Reply>, ApiError> {
        let mut requests = Vec::with_capacity(commands.len());
        for args in commands {
            let spec = self.services.checked(&args).map_err(|refusal| self.error_of(&refusal))?;
            requests.push(Request { spec, args, db });
        }
        let result = self.services.run(requests).await;
        let replies = result.inspect_err(|error| self.services.note_error(&error.clone().into()))?;
        match replies.iter().find(|reply| matches!(reply, Reply::Error(_))) {
            Some(reply) => Err(self.error_of(reply)),
            None => Ok(replies),
        }
    }

    /// The answer to an error reply, which is counted.
    fn error_of(&self, reply: &Reply) -> ApiError {
        self.services.note_error(reply);
        if let Reply::Error(text) = reply { ApiError::of_reply(text) } else { ApiError::unexpected() }
    }

    /// The share of a new request in the memory that there is for all.
    fn share(&self) -> Share {
        self.budget.share(self.services.config().runtime.values().request_timeout)
    }

    /// The admin addresses of all members, this node's included.
    fn admin_addresses(&self) -> Vec<String> {
        let members = self.services.node().status();
        let own = self.services.config().advertise_admin.to_string();
        members.members.iter().map(|member| member.admin.clone()).chain([own]).collect()
    }
}

/// The listener, bound to its port.
pub struct AdminServer {
    listener: TcpListener,
    services: Arc<Services>,
    router: Router,
    shutdown: watch::Receiver<bool>,
}

impl AdminServer {
    /// Listens on the port that was reserved. `shutdown` becoming true, or its sender going away, ends `serve`.
    /// # Errors
    /// `ListenError`.
    pub(crate) fn listen(port: TcpSocket, services: Arc<Services>, shutdown: watch::Receiver<bool>) -> Result<Self, ListenError> {
        let address = services.config().admin_listen.to_string();
        let listener = port.listen(BACKLOG).map_err(|source| ListenError { address, source })?;
        let recorder = Recorder::start(services.node().clone(), Arc::clone(services.metrics()));
        let router = router(Arc::new(Admin { services: Arc::clone(&services), recorder, budget: Budget::new() }));
        Ok(Self { listener, services, router, shutdown })
    }

    /// Serves until it is told to stop.
    pub async fn serve(mut self) {
        let refusals_logged = LogInterval::default();
        let places = Places::new(CONNECTIONS_PER_ADDRESS_MAX);
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = self.shutdown.wait_for(|stop| *stop) => break,
            };
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            // Nobody who cannot be served is left to wait: who looks after the node must learn at once that it is overrun.
            let permit = Arc::clone(&connections).try_acquire_owned().ok();
            let Some(taken) = permit.zip(places.take(address.ip().to_canonical())) else {
                self.services.metrics().add(Metric::AdminRejectedConnections, 1);
                if refusals_logged.is_due() {
                    tracing::warn!(%address, "refused a connection to the admin listener: there are too many, in all or from this address");
                }
                continue;
            };
            if !self.services.admits(address) {
                continue;
            }
            if let Err(error) = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES) {
                tracing::debug!(%error, "cannot set the send buffer of a connection to the admin listener");
            }
            let served = connection::serve(stream, self.router.clone(), CONNECTION_LIFETIME, self.shutdown.clone());
            tokio::spawn(async move {
                served.await;
                drop(taken);
            });
        }
        drop(self.listener);
        // What takes longer ends with the process.
        drop(tokio::time::timeout(STOP_PATIENCE, connections.acquire_many(CONNECTIONS_MAX)).await);
    }
}

fn router(admin: Arc<Admin>) -> Router {
    let key = || get(kv::get).put(kv::put).delete(kv::delete);
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{name}", get(page::asset))
        .route("/kv", get(kv::page))
        .route("/kv/", key())
        .route("/kv/{*key}", key())
        .route("/kv/batch", key().post(kv::batch))
        .route("/stats", get(node::stats))
        .route("/health/live", get(node::live))
        .route("/health/ready", get(node::ready))
        .route("/info", get(node::info))
        .route("/cluster", get(node::cluster))
        .route("/debug/replication", get(node::replication))
        .route("/debug/config", get(node::config))
        .route("/debug/slowlog", get(node::slow_log))
        .route("/command", post(console::command))
        .route("/metrics", get(exposition::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path has no such method")
        })
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&admin), access::guard))
        .with_state(admin)
}
