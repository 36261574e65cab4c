//! The listener for other nodes: judges who comes in, and hands what they send to the node.
//! Back-pressure is the event channel: while it is full nothing more is read, and the sender's window closes. While the node has no
//! identity only calls are answered: probes and forms by formation, joins with `Wait`.
//! Invariant: every message from a connection is either sealed and checked, or comes after such a one on the same stream.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use raftlog::message::Frame;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::connection::{Connection, Door};
use super::dial::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};
use super::gate::{FormCall, Ticket};
use super::handshake::{BadSecret, Random};
use super::snapshot::{self, Receiving};
use super::wire::service::lanes_server::{Lanes, LanesServer};
use super::wire::service::peer_server::{Peer, PeerServer as Calls};
use super::wire::{
    Answer, Ask, CallReply, CallRequest, Challenge, HELLO_HEADER, Hello, HelloOutcome, HelloReply, JoinRequest, Joined, Nothing, Purpose,
    Reason, Refused, Sealed, SnapshotPart, SnapshotReply, SnapshotState,
};
use super::{AdminAnswer, FRAME_BYTES_MAX, Gate, PeerEvent, PeerOptions};
use crate::node::core::{AdminRequest, JoinAnswer, Member, Members};

/// Connections at a time; a further one is closed at once. A cluster of a hundred nodes needs 300.
const CONNECTIONS_MAX: usize = 1024;
/// Streams at a time of one connection: a call or a stream, and the challenge before it.
const STREAMS_MAX: u32 = 8;
/// Largest call: a form with the largest table.
const CALL_BYTES_MAX: usize = 128 << 10;
/// Bytes of headers: a hello with the longest addresses.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// What may be under way to us on a connection, so that large appends stream without pauses.
const WINDOW_BYTES: u32 = 16 << 20;
/// Bytes of a piece in which HTTP/2 carries a large message.
const HTTP2_FRAME_BYTES: u32 = 256 << 10;
/// How long the node may take to answer a join or admin request; it gives up waiting after three seconds itself.
const NODE_DEADLINE: Duration = Duration::from_secs(8);
/// How long open calls may take to end when the listener stops.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Pause after a failed accept, which means that this process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound listener of this node.
pub struct PeerServer {
    listener: TcpListener,
    door_keeper: DoorKeeper,
}

impl PeerServer {
    /// Binds the listener and deletes what broken transfers of snapshots left behind. Events go to `events`; nothing is answered before
    /// `serve`.
    /// # Errors
    /// The address cannot be bound, or leftovers not be deleted.
    pub async fn bind(listen: impl ToSocketAddrs, options: PeerOptions, gate: Gate, events: mpsc::Sender<PeerEvent>) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let directory: PathBuf = options.snapshots_dir.clone();
        snapshot::remove_broken(&directory, None)?;
        let receiving = Receiving::new(directory);
        Ok(Self { listener, door_keeper: DoorKeeper { inner: Arc::new(Inner { options, gate, events, receiving }) } })
    }

    /// The address that was bound.
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is done; then ends all streams, and delivers nothing more.
    /// # Errors
    /// The listener cannot go on.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let gate = self.door_keeper.inner.gate.clone();
        let calls = Calls::new(self.door_keeper.clone()).max_decoding_message_size(CALL_BYTES_MAX);
        let lanes = LanesServer::new(self.door_keeper).max_decoding_message_size(FRAME_BYTES_MAX);
        let router = Server::builder()
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(calls)
            .add_service(lanes);
        let incoming = Incoming { listener: self.listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), pause: None };
        let (stop, stopped) = oneshot::channel::<()>();
        let mut serving = pin!(router.serve_with_incoming_shutdown(incoming, async {
            // Either way there is nothing more to serve.
            let _ = stopped.await;
        }));
        tokio::select! {
            outcome = &mut serving => return outcome.map_err(io::Error::other),
            () = shutdown => {}
        }
        gate.close();
        drop(stop);
        // Connections that outlive the grace deliver nothing, since the gate is closed.
        tokio::time::timeout(STOP_GRACE, serving).await.unwrap_or(Ok(())).map_err(io::Error::other)
    }
}

/// Accepted connections.
struct Incoming {
    listener: TcpListener,
    places: Arc<Semaphore>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match std::task::ready!(self.listener.poll_accept(cx)) {
                Ok((stream, from)) => {
                    let Ok(place) = self.places.clone().try_acquire_owned() else {
                        tracing::debug!(%from, "too many connections on the peer port");
                        continue;
                    };
                    // Without it small frames wait, which is slow and not wrong.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%from, %error, "TCP_NODELAY was not set");
                    }
                    return Poll::Ready(Some(Ok(Connection::new(stream, place))));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the peer port");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

struct Inner {
    options: PeerOptions,
    gate: Gate,
    events: mpsc::Sender<PeerEvent>,
    receiving: Receiving,
}

/// The services; one for all connections.
#[derive(Clone)]
struct DoorKeeper {
    inner: Arc<Inner>,
}

type Replies<T> = ReceiverStream<Result<T, Status>>;

/// What came of a hello.
type Verdict = Result<(Ticket, Hello), Refused>;

/// Somebody who wants a stream: the door of the connection, the challenge that was given to it last, and the hello that answers it.
struct Knock {
    door: Door,
    challenge: Random,
    hello: Sealed,
}

impl Knock {
    fn read<T>(request: &Request<T>) -> Result<Self, Status> {
        let (door, challenge) = door_and_challenge(request)?;
        let header = request.metadata().get_bin(HELLO_HEADER).and_then(|header| header.to_bytes().ok());
        let hello = header.and_then(|header| Sealed::decode(header).ok()).ok_or_else(|| Status::invalid_argument("no hello"))?;
        Ok(Self { door, challenge, hello })
    }
}

/// The door of a request's connection, and the challenge that was given to it last.
fn door_and_challenge<T>(request: &Request<T>) -> Result<(Door, Random), Status> {
    let door = request.extensions().get::<Door>().ok_or_else(|| Status::internal("a connection without a door"))?;
    let challenge = door.take_challenge().ok_or_else(|| Status::unauthenticated("ask for a challenge first"))?;
    Ok((door.clone(), challenge))
}

fn refused(reason: Reason, detail: &str) -> Refused {
    Refused { reason: reason.into(), detail: detail.to_owned() }
}

impl DoorKeeper {
    /// Judges who knocks; the reply is sealed.
    async fn judge(&self, Knock { door, challenge, hello: sealed }: Knock) -> (Sealed, Verdict) {
        let Inner { options, gate, .. } = &*self.inner;
        let verdict = match options.seal.open_request(&challenge, &sealed) {
            Err(BadSecret) => Err(refused(Reason::BadSecret, "the peer-secret of the two nodes differs")),
            Ok(body) => match Hello::decode(body) {
                Err(_) => Err(refused(Reason::Malformed, "the hello cannot be read")),
                Ok(hello) => gate.admit(&hello).await.map(|admitted| (admitted, hello)),
            },
        };
        let outcome = match &verdict {
            Ok(((_, welcome), _)) => {
                door.trust();
                HelloOutcome::Welcome(welcome.clone())
            }
            Err(refused) => {
                tracing::debug!(reason = ?refused.reason(), detail = refused.detail, "a stream was refused");
                HelloOutcome::Refused(refused.clone())
            }
        };
        let reply = HelloReply { outcome: Some(outcome) }.encode_to_vec();
        (options.seal.seal_reply(&sealed, reply.into()), verdict.map(|((ticket, _), hello)| (ticket, hello)))
    }

    /// Delivers the frames of a lane until it ends or something newer has taken its place.
    async fn carry(&self, ticket: Ticket, hello: Hello, mut frames: Streaming<Frame>) -> Status {
        let Inner { gate, events, .. } = &*self.inner;
        let Ticket { node_id: from, boot, .. } = ticket;
        let mut changes = gate.watch();
        let Hello { node_id, incarnation, addresses, level, .. } = hello;
        let member = Member { node_id, incarnation, addresses, level };
        let mut next = (ticket.is_for(Purpose::Control)).then_some(PeerEvent::Hello { member, boot });
        loop {
            if !gate.is_current(&ticket) {
                return Status::aborted("this connection is out of date");
            }
            if next.is_none() {
                next = tokio::select! {
                    // `message` loses nothing when it is cancelled.
                    frame = frames.message() => match frame {
                        Ok(Some(frame)) if frame.body.is_some() => Some(PeerEvent::Frame { from, boot, frame }),
                        Ok(Some(_unknown)) => continue,
                        Ok(None) => return Status::ok(""),
                        Err(status) => return status,
                    },
                    _ = changes.changed() => continue,
                };
            }
            tokio::select! {
                permit = events.reserve() => match (permit, next.take()) {
                    (Ok(permit), Some(event)) => if !gate.deliver(&ticket, permit, event) { continue },
                    (Ok(_), None) => {}
                    (Err(_), _) => return Status::unavailable("the node is stopping"),
                },
                _ = changes.changed() => {}
            }
        }
    }

    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Probe(Nothing {}) => match self.inner.gate.probe() {
                Some(reply) => Answer::Probe(reply),
                None => Answer::NotHeard(refused(Reason::NotReady, "the node is starting")),
            },
            Ask::Form(members) => match self.form(members).await {
                Ok(()) => Answer::Done(Nothing {}),
                Err(text) => Answer::Refused(text),
            },
            Ask::Join(request) => self.join(request).await,
            Ask::Remove(node) => self.admin(AdminRequest::Remove(node)).await,
            Ask::Transfer(node) => self.admin(AdminRequest::Transfer(node)).await,
        }
    }

    async fn form(&self, members: Members) -> Result<(), String> {
        let gate = &self.inner.gate;
        let starting = || "the node is starting".to_owned();
        if let Some(forms) = gate.forms() {
            let (reply, answer) = oneshot::channel();
            forms.send(FormCall { members, reply }).await.map_err(|_| starting())?;
            return answer.await.unwrap_or_else(|_| Err(starting()));
        }
        // A cluster id is drawn for one form only, so the id tells whether it is the form this node was founded or taken in by.
        match gate.identity() {
            Some(own) if own.cluster_id == members.cluster_id => Ok(()),
            Some(own) => Err(format!("the node belongs to cluster {}", own.cluster_id)),
            None => Err(starting()),
        }
    }

    async fn join(&self, JoinRequest { cluster_id, incarnation, addresses, level, node_id }: JoinRequest) -> Answer {
        let Some(own) = self.inner.gate.identity() else { return Answer::Wait(Nothing {}) };
        if !cluster_id.is_empty() && cluster_id != own.cluster_id {
            return Answer::Refused(format!("this is cluster {}, not {cluster_id}", own.cluster_id));
        }
        let cluster_id = Some(cluster_id).filter(|id| !id.is_empty());
        let node = Member { node_id, incarnation, addresses, level };
        match self.ask_node(|reply| PeerEvent::Join { cluster_id, node, reply }).await {
            Some(JoinAnswer::Joined { node_id, members }) => Answer::Joined(Joined { node_id, members }),
            Some(JoinAnswer::Leader(address)) => Answer::Leader(address),
            Some(JoinAnswer::Wait) | None => Answer::Wait(Nothing {}),
            Some(JoinAnswer::Refused(text)) => Answer::Refused(text),
        }
    }

    async fn admin(&self, request: AdminRequest) -> Answer {
        if self.inner.gate.identity().is_none() {
            return Answer::Refused("CLUSTERDOWN the node belongs to no cluster yet; not executed".to_owned());
        }
        match self.ask_node(|reply| PeerEvent::Admin { request, reply }).await {
            Some(AdminAnswer::Done) => Answer::Done(Nothing {}),
            Some(AdminAnswer::Leader(address)) => Answer::Leader(address),
            Some(AdminAnswer::Refused(text)) => Answer::Refused(text),
            None => Answer::Refused("TIMEOUT outcome unknown".to_owned()),
        }
    }

    async fn ask_node<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> PeerEvent) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.inner.events.send(event(reply)).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(NODE_DEADLINE, asked).await.ok().flatten()
    }
}

#[tonic::async_trait]
impl Peer for DoorKeeper {
    async fn challenge(&self, request: Request<Nothing>) -> Result<Response<Challenge>, Status> {
        let door = request.extensions().get::<Door>().ok_or_else(|| Status::internal("a connection without a door"))?;
        Ok(Response::new(Challenge { random: Bytes::copy_from_slice(&door.challenge()) }))
    }

    async fn call(&self, request: Request<Sealed>) -> Result<Response<Sealed>, Status> {
        let seal = &self.inner.options.seal;
        let (door, challenge) = door_and_challenge(&request)?;
        let sealed = request.into_inner();
        let answer = match seal.open_request(&challenge, &sealed) {
            Err(BadSecret) => Answer::NotHeard(refused(Reason::BadSecret, "the peer-secret of the two nodes differs")),
            Ok(body) => {
                door.trust();
                match CallRequest::decode(body).ok().and_then(|request| request.ask) {
                    Some(ask) => self.answer(ask).await,
                    None => Answer::NotHeard(refused(Reason::Malformed, "the request cannot be read")),
                }
            }
        };
        let reply = CallReply { answer: Some(answer) }.encode_to_vec();
        Ok(Response::new(seal.seal_reply(&sealed, reply.into())))
    }
}

#[tonic::async_trait]
impl Lanes for DoorKeeper {
    type StreamStream = Replies<Sealed>;
    type SnapshotStream = Replies<SnapshotReply>;

    async fn stream(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::StreamStream>, Status> {
        let (hello_reply, verdict) = self.judge(Knock::read(&request)?).await;
        let (replies, stream) = mpsc::channel(2);
        replies.try_send(Ok(hello_reply)).expect("the channel is empty");
        if let Ok((ticket, hello)) = verdict {
            let (keeper, frames) = (self.clone(), request.into_inner());
            tokio::spawn(async move {
                let status = keeper.carry(ticket, hello, frames).await;
                // The other end may be gone, and then nobody is left to be told.
                let _ = replies.send(Err(status)).await;
            });
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotPart>>) -> Result<Response<Self::SnapshotStream>, Status> {
        let (hello_reply, verdict) = self.judge(Knock::read(&request)?).await;
        let (replies, stream) = mpsc::channel(8);
        replies.try_send(Ok(state(SnapshotState::Hello(hello_reply)))).expect("the channel is empty");
        if let Ok((ticket, _)) = verdict {
            let (inner, parts) = (self.inner.clone(), request.into_inner());
            tokio::spawn(async move {
                let outcome = inner.receiving.receive(&inner.gate, &inner.events, ticket, parts, &replies).await;
                let last = outcome.map_or_else(SnapshotState::Failed, |()| SnapshotState::Done(Nothing {}));
                // As above.
                let _ = replies.send(Ok(state(last))).await;
            });
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn state(state: SnapshotState) -> SnapshotReply {
    SnapshotReply { state: Some(state) }
}
