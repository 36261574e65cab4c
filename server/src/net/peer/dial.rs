//! The calling side of a connection: dialling, proving the secret, and the calls that are one question and one answer.
//! Every call has its own short connection; calls are rare. Nothing is tried twice here: the caller knows whether that makes sense.
//! Invariant: an answer is believed only after its proof was checked.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::metadata::{BinaryMetadataValue, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::connection::HANDSHAKE_DEADLINE;
use super::handshake::{BadSecret, Random, Seal};
use super::wire::service::peer_client::PeerClient as Calls;
use super::wire::{
    Answer, Ask, CallReply, CallRequest, HELLO_HEADER, Hello, HelloOutcome, HelloReply, JoinRequest, Joined, Nothing, ProbeReply, Refused,
    Sealed, Welcome,
};
use super::{AdminAnswer, PeerOptions};
use crate::node::core::{AdminRequest, JoinAnswer, Member, Members};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a silent connection is tried, and how long the other end may take to show that it lives.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a join or an admin request may take: the leader answers within three seconds, after that of the handshake.
const PATIENT_CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Largest answer that is taken: a table with many removed members.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why a call or a stream did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// Nothing came back in time.
    #[error("no answer in time")]
    TimedOut,
    /// The two ends have different secrets, or only one has one.
    #[error("the peer-secret of the two nodes differs")]
    BadSecret,
    /// The other end has proved that it knows the secret, and refused.
    #[error("refused: {}", .0.detail)]
    Refused(Refused),
    /// The connection broke, or what answers there does not speak as a node does.
    #[error("{0}")]
    Broken(String),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self::Broken(format!("{}: {}", status.code(), status.message()))
    }
}

impl From<BadSecret> for CallError {
    fn from(_: BadSecret) -> Self {
        Self::BadSecret
    }
}

/// What a node says to a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormAnswer {
    /// It will found that cluster, now and after any restart.
    Accepted,
    /// It will not; one line why.
    Refused(String),
}

/// Asks other nodes; cheap to clone.
#[derive(Clone)]
pub struct PeerClient {
    seal: Seal,
}

impl PeerClient {
    /// A client with the secret of these options.
    #[must_use]
    pub fn new(options: &PeerOptions) -> Self {
        Self { seal: options.seal.clone() }
    }

    /// Asks the node at a peer address who it is.
    /// # Errors
    /// No answer, or none that can be believed.
    pub async fn probe(&self, address: &str) -> Result<ProbeReply, CallError> {
        match self.call(address, Ask::Probe(Nothing {}), HANDSHAKE_DEADLINE).await? {
            Answer::Probe(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the node at a peer address to found a cluster with this table.
    /// # Errors
    /// No answer, or none that can be believed: it may have accepted.
    pub async fn form(&self, address: &str, members: &Members) -> Result<FormAnswer, CallError> {
        match self.call(address, Ask::Form(members.clone()), HANDSHAKE_DEADLINE).await? {
            Answer::Done(Nothing {}) => Ok(FormAnswer::Accepted),
            Answer::Refused(text) => Ok(FormAnswer::Refused(text)),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the node at a peer address for membership in its cluster, which must be `cluster_id` if that is given; or, as a member, whose
    /// id is in `node` then, to take over its addresses.
    /// # Errors
    /// No answer, or none that can be believed: the node may have become a member, and finds out by asking again.
    pub async fn join(&self, address: &str, cluster_id: Option<&str>, node: &Member) -> Result<JoinAnswer, CallError> {
        let request = JoinRequest {
            cluster_id: cluster_id.unwrap_or_default().to_owned(),
            incarnation: node.incarnation,
            addresses: node.addresses.clone(),
            level: node.level,
            node_id: node.node_id,
        };
        match self.call(address, Ask::Join(request), PATIENT_CALL_DEADLINE).await? {
            Answer::Joined(Joined { node_id, members }) => Ok(JoinAnswer::Joined { node_id, members }),
            Answer::Leader(address) => Ok(JoinAnswer::Leader(address)),
            Answer::Wait(Nothing {}) => Ok(JoinAnswer::Wait),
            Answer::Refused(text) => Ok(JoinAnswer::Refused(text)),
            other => Err(unexpected(&other)),
        }
    }

    /// Hands an administrator's request to the node at a peer address.
    /// # Errors
    /// No answer, or none that can be believed: the request may have been carried out.
    pub async fn admin(&self, address: &str, request: AdminRequest) -> Result<AdminAnswer, CallError> {
        let ask = match request {
            AdminRequest::Remove(node) => Ask::Remove(node),
            AdminRequest::Transfer(node) => Ask::Transfer(node),
        };
        match self.call(address, ask, PATIENT_CALL_DEADLINE).await? {
            Answer::Done(Nothing {}) => Ok(AdminAnswer::Done),
            Answer::Leader(address) => Ok(AdminAnswer::Leader(address)),
            Answer::Refused(text) => Ok(AdminAnswer::Refused(text)),
            other => Err(unexpected(&other)),
        }
    }

    async fn call(&self, address: &str, ask: Ask, deadline: Duration) -> Result<Answer, CallError> {
        within(deadline, async {
            let channel = connect(address).await?;
            let challenge = challenge(&channel).await?;
            let request = self.seal.seal_request(&challenge, CallRequest { ask: Some(ask) }.encode_to_vec().into());
            let mut calls = Calls::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            let reply = calls.call(Request::new(request.clone())).await?.into_inner();
            let reply = decode::<CallReply>(self.seal.open_reply(&request, &reply)?)?;
            match reply.answer {
                Some(Answer::NotHeard(refused)) => Err(CallError::Refused(refused)),
                Some(answer) => Ok(answer),
                None => Err(CallError::Broken("an empty answer".to_owned())),
            }
        })
        .await
    }
}

fn unexpected(answer: &Answer) -> CallError {
    let name = match answer {
        Answer::Probe(_) => "probe",
        Answer::Done(_) => "done",
        Answer::Joined(_) => "joined",
        Answer::Leader(_) => "leader",
        Answer::Wait(_) => "wait",
        Answer::Refused(_) => "refused",
        Answer::NotHeard(_) => "not heard",
    };
    CallError::Broken(format!("'{name}' is no answer to what was asked"))
}

/// Bounds the time of a conversation.
pub(super) async fn within<T>(deadline: Duration, talk: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    tokio::time::timeout(deadline, talk).await.unwrap_or(Err(CallError::TimedOut))
}

/// A connection of its own to a peer address.
pub(super) async fn connect(address: &str) -> Result<Channel, CallError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| CallError::Unreachable(error.to_string()))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|error| CallError::Unreachable(deepest(&error)))
}

/// The cause at the end of the chain: "Connection refused" rather than "transport error".
fn deepest(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// The challenge of a connection.
pub(super) async fn challenge(channel: &Channel) -> Result<Random, CallError> {
    let challenge = Calls::new(channel.clone()).challenge(Request::new(Nothing {})).await?.into_inner();
    Random::try_from(&challenge.random[..]).map_err(|_| CallError::Broken("a challenge of the wrong length".to_owned()))
}

/// A stream request that begins with a sealed hello, and the seal for checking its reply.
pub(super) fn greeted<S>(seal: &Seal, challenge: &Random, hello: &Hello, stream: S) -> (Request<S>, Sealed) {
    let sealed = seal.seal_request(challenge, hello.encode_to_vec().into());
    let header: BinaryMetadataValue = MetadataValue::from_bytes(&sealed.encode_to_vec());
    let mut request = Request::new(stream);
    request.metadata_mut().insert_bin(HELLO_HEADER, header);
    (request, sealed)
}

/// What the other end says to a hello.
pub(super) fn read_hello_reply(seal: &Seal, sealed: &Sealed, reply: Option<Sealed>) -> Result<Welcome, CallError> {
    let reply = reply.ok_or_else(|| CallError::Broken("the stream ended without a word".to_owned()))?;
    match decode::<HelloReply>(seal.open_reply(sealed, &reply)?)?.outcome {
        Some(HelloOutcome::Welcome(welcome)) => Ok(welcome),
        Some(HelloOutcome::Refused(refused)) => Err(CallError::Refused(refused)),
        None => Err(CallError::Broken("an empty answer".to_owned())),
    }
}

fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, CallError> {
    M::decode(bytes).map_err(|error| CallError::Broken(error.to_string()))
}
