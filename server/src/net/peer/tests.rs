//! Two and more nodes' networks over real sockets on the loopback interface. Nothing here waits but for a condition, with a deadline.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftlog::message::{Body, Frame};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::dial::{self, CallError};
use super::wire::service::lanes_client::LanesClient;
use super::wire::{
    Answer, Ask, CallReply, CallRequest, Hello, HelloReply, JoinRequest, Joined, Nothing, Part, ProbeReply, Purpose, Refused, Sealed,
    SnapshotChunk, SnapshotFile, SnapshotHeader, SnapshotPart, SnapshotState, Welcome,
};
use super::{
    AdminAnswer, Dropped, Gate, Identity, OutgoingSnapshot, PeerClient, PeerEvent, PeerNetwork, PeerOptions, PeerServer, Reason, Seal,
    SnapshotError,
};
use crate::node::core::{Addresses, AdminRequest, JoinAnswer, LEVEL, Lane, Member, Members};
use crate::node::{PeerRecord, SnapshotSent, Starts};

const CLUSTER: &str = "00112233445566778899aabbccddeeff00112233";
const DEADLINE: Duration = Duration::from_secs(20);

/// Members 1 to 3, and 4, which was removed. Incarnations are 100 more than ids.
fn table() -> Members {
    let nodes = (101..=103).map(|incarnation| (incarnation, Addresses::default()));
    Members { removed: vec![4], ..Members::initial(CLUSTER.to_owned(), LEVEL, nodes) }
}

fn identity(node_id: u64, boot: u64) -> Identity {
    Identity {
        cluster_id: CLUSTER.to_owned(),
        node_id,
        incarnation: 100 + node_id,
        starts: Starts { boot, nonces: vec![1000 * node_id + boot] },
        addresses: Addresses::default(),
    }
}

/// Makes a good hello a bad one.
type Spoil = fn(&mut Hello);

/// A node's side of the peer network.
struct Node {
    options: PeerOptions,
    gate: Gate,
    network: PeerNetwork,
    events: mpsc::Receiver<PeerEvent>,
    address: String,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    directory: Arc<TempDir>,
}

impl Node {
    async fn start(identity: Identity, secret: Option<&str>) -> Self {
        let directory = Arc::new(TempDir::new().expect("temporary directory"));
        Self::start_at("127.0.0.1:0", identity, secret, directory, 1000).await
    }

    /// On a loopback address of its own, where no other test takes the port while the node restarts.
    async fn start_alone(host: u8, identity: Identity) -> Self {
        let directory = Arc::new(TempDir::new().expect("temporary directory"));
        Self::start_at(&format!("127.0.1.{host}:0"), identity, None, directory, 1000).await
    }

    async fn start_at(listen: &str, identity: Identity, secret: Option<&str>, directory: Arc<TempDir>, events_max: usize) -> Self {
        let options = PeerOptions {
            seal: Seal::new(secret.map(str::as_bytes)),
            snapshot_chunk_bytes: 1 << 16,
            snapshots_dir: directory.path().join("snapshots"),
        };
        let gate = Gate::default();
        gate.set_identity(identity, &table(), PeerRecord::in_memory());
        let (sender, events) = mpsc::channel(events_max);
        let server = PeerServer::bind(listen, options.clone(), gate.clone(), sender.clone()).await.expect("a free port");
        let address = server.local_addr().expect("bound").to_string();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            server.serve(shutdown).await.expect("serving");
        });
        let network = PeerNetwork::new(options.clone(), gate.clone(), sender);
        Self { options, gate, network, events, address, stop: Some(stop), served, directory }
    }

    async fn stop(mut self) -> (String, Arc<TempDir>) {
        drop(self.stop.take());
        self.served.await.expect("no panic");
        (self.address, self.directory)
    }

    async fn next(&mut self) -> PeerEvent {
        tokio::time::timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("the network lives")
    }

    async fn wait_for<T>(&mut self, mut wanted: impl FnMut(PeerEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().await) {
                return found;
            }
        }
    }

    async fn wait_lane_up(&mut self, wanted: Lane) {
        self.wait_for(|event| matches!(event, PeerEvent::LaneUp { lane, .. } if lane == wanted).then_some(())).await;
    }

    async fn wait_hello(&mut self) {
        self.wait_for(|event| matches!(event, PeerEvent::Hello { .. }).then_some(())).await;
    }

    /// The numbers of the next frames.
    async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            numbers.push(self.wait_for(|event| number_of(&event)).await);
        }
        numbers
    }
}

/// An address at which nobody answers.
async fn unused_address() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.1.4:0").await.expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

fn frame(number: u64) -> Frame {
    Frame { group: 1, wall_ms: 0, body: Some(Body::Raft(Bytes::copy_from_slice(&number.to_be_bytes()))) }
}

fn number_of(event: &PeerEvent) -> Option<u64> {
    match event {
        PeerEvent::Frame { frame: Frame { body: Some(Body::Raft(bytes)), .. }, .. } => {
            Some(u64::from_be_bytes(bytes[..].try_into().expect("eight bytes")))
        }
        PeerEvent::Frame { .. }
        | PeerEvent::LaneUp { .. }
        | PeerEvent::LaneDown { .. }
        | PeerEvent::Hello { .. }
        | PeerEvent::SnapshotReceived { .. }
        | PeerEvent::RemovedFromCluster { .. }
        | PeerEvent::Disowned { .. }
        | PeerEvent::Join { .. }
        | PeerEvent::Admin { .. } => None,
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn hello(attempt: u64) -> Hello {
    let Identity { cluster_id, node_id, incarnation, starts, addresses } = identity(2, 5);
    Hello { cluster_id, node_id, incarnation, starts, level: LEVEL, to_node_id: 1, purpose: Purpose::Append.into(), addresses, attempt }
}

/// A stream by hand: what the server says to a hello, and where frames may be put in.
async fn open(
    address: &str,
    secret: Option<&str>,
    hello: &Hello,
) -> (Result<Welcome, CallError>, mpsc::Sender<Frame>, tonic::Streaming<Sealed>) {
    let seal = Seal::new(secret.map(str::as_bytes));
    let channel = dial::connect(address).await.expect("connected");
    let challenge = dial::challenge(&channel).await.expect("challenged");
    let (sender, frames) = mpsc::channel(8);
    let (request, sealed) = dial::greeted(&seal, &challenge, hello, ReceiverStream::new(frames));
    let mut replies = LanesClient::new(channel).stream(request).await.expect("answered").into_inner();
    let reply = replies.message().await.expect("a reply");
    (dial::read_hello_reply(&seal, &sealed, reply), sender, replies)
}

fn reason<T>(outcome: Result<T, CallError>) -> Option<Reason> {
    match outcome {
        Ok(_) => None,
        Err(CallError::BadSecret) => Some(Reason::BadSecret),
        Err(CallError::Refused(refused)) => Some(refused.reason()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn strangers_are_refused_before_a_frame_is_read() {
    let mut node = Node::start(identity(1, 7), Some("secret")).await;
    let seen = open(&node.address, Some("secret"), &hello(1)).await.0;
    assert_eq!(seen.map(|welcome| welcome.starts), Ok(identity(1, 7).starts));
    assert!(matches!(node.network.send(2, Lane::Append, frame(1)), Err(Dropped::NotConnected)));

    let cases: [(Option<&str>, Reason, Spoil); 10] = [
        (Some("other"), Reason::BadSecret, |_| {}),
        (None, Reason::BadSecret, |_| {}),
        (Some(""), Reason::BadSecret, |_| {}),
        (Some("secret"), Reason::WrongCluster, |hello| hello.cluster_id = "f".repeat(40)),
        (Some("secret"), Reason::WrongNode, |hello| hello.to_node_id = 3),
        (Some("secret"), Reason::NotMember, |hello| hello.node_id = 9),
        (Some("secret"), Reason::Removed, |hello| hello.node_id = 4),
        (Some("secret"), Reason::WrongIncarnation, |hello| hello.incarnation = 9),
        (Some("secret"), Reason::OldBoot, |hello| hello.starts.boot = 4),
        (Some("secret"), Reason::DuplicateIncarnation, |hello| hello.starts.nonces = vec![1]),
    ];
    for (secret, expected, change) in cases {
        let mut hello = hello(2);
        change(&mut hello);
        let (outcome, frames, mut replies) = open(&node.address, secret, &hello).await;
        assert_eq!(reason(outcome), Some(expected), "{hello:?}");
        // The stream is over, whatever is sent on it.
        drop(frames.send(frame(666)).await);
        assert!(!matches!(replies.message().await, Ok(Some(_))));
    }

    let (outcome, frames, _replies) = open(&node.address, Some("secret"), &hello(2)).await;
    assert_eq!(reason(outcome), None);
    frames.send(frame(1)).await.expect("open");
    assert_eq!(node.numbers(1).await, [1], "nothing came in from those who were refused");
}

#[tokio::test]
async fn a_challenge_serves_once() {
    let node = Node::start(identity(1, 7), Some("secret")).await;
    let seal = Seal::new(Some(b"secret"));
    let channel = dial::connect(&node.address).await.expect("connected");
    let challenge = dial::challenge(&channel).await.expect("challenged");
    let outcome = async |challenge| {
        let (_sender, frames) = mpsc::channel(1);
        let (request, sealed) = dial::greeted(&seal, challenge, &hello(1), ReceiverStream::new(frames));
        let mut replies = LanesClient::new(channel.clone()).stream(request).await?.into_inner();
        let reply = replies.message().await?;
        dial::read_hello_reply(&seal, &sealed, reply)
    };
    assert!(outcome(&challenge).await.is_ok());
    let again = outcome(&challenge).await;
    assert!(matches!(&again, Err(CallError::Broken(text)) if text.contains("challenge")), "{again:?}");
}

#[tokio::test]
async fn garbage_on_the_port_harms_nobody() {
    let mut node = Node::start(identity(1, 7), Some("secret")).await;
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let floods = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 1 << 20],
        preface.to_vec(),
        [preface, &[0xff; 1000]].concat(),
        [preface, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0; 1 << 20]].concat(),
    ];
    for flood in &floods {
        let mut stream = TcpStream::connect(&node.address).await.expect("connected");
        // The other end may close at any byte.
        drop(stream.write_all(flood).await);
        drop(stream.shutdown().await);
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the connection is closed: {:?}", &flood[..flood.len().min(30)]);
    }
    let (outcome, frames, _replies) = open(&node.address, Some("secret"), &hello(1)).await;
    assert_eq!(reason(outcome), None);
    frames.send(frame(1)).await.expect("open");
    assert_eq!(node.numbers(1).await, [1]);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let node = Node::start(identity(1, 7), None).await;
    let mut stream = TcpStream::connect(&node.address).await.expect("connected");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "no handshake, no connection");
}

#[tokio::test]
async fn frames_arrive_in_order_and_a_new_connection_is_announced() {
    let (mut a, mut b) = (Node::start(identity(1, 7), None).await, Node::start_alone(1, identity(2, 5)).await);
    a.network.set_peers(1, &[(2, b.address.clone())]);
    a.wait_lane_up(Lane::Append).await;
    for number in 0..1000 {
        assert_eq!(a.network.send(2, Lane::Append, frame(number)), Ok(()));
    }
    assert_eq!(b.numbers(1000).await, (0..1000).collect::<Vec<_>>());

    let (address, directory) = b.stop().await;
    a.wait_for(|event| matches!(event, PeerEvent::LaneDown { peer: 2, lane: Lane::Append }).then_some(())).await;
    assert_eq!(a.network.send(2, Lane::Append, frame(5000)), Err(Dropped::NotConnected));
    let mut b = Node::start_at(&address, identity(2, 6), None, directory, 1000).await;
    a.wait_lane_up(Lane::Append).await;
    for number in 6000..6100 {
        assert_eq!(a.network.send(2, Lane::Append, frame(number)), Ok(()));
    }
    assert_eq!(b.numbers(100).await, (6000..6100).collect::<Vec<_>>(), "what was dropped stays dropped");
}

#[tokio::test]
async fn a_peer_is_followed_to_its_new_address_and_forgotten_when_it_is_gone() {
    let (mut a, b) = (Node::start(identity(1, 7), None).await, Node::start(identity(2, 5), None).await);
    a.network.set_peers(1, &[(2, b.address.clone())]);
    a.wait_lane_up(Lane::Control).await;
    let mut moved = Node::start(identity(2, 6), None).await;
    a.network.set_peers(1, &[(2, moved.address.clone())]);
    a.wait_for(|event| matches!(event, PeerEvent::LaneDown { lane: Lane::Control, .. }).then_some(())).await;
    a.wait_lane_up(Lane::Control).await;
    assert_eq!(a.network.send(2, Lane::Control, frame(1)), Ok(()));
    let boot = moved.wait_for(|event| match event {
        PeerEvent::Hello { member, boot } => Some((member.node_id, member.level, boot)),
        _ => None,
    });
    assert_eq!(boot.await, (1, LEVEL, 7));
    assert_eq!(moved.numbers(1).await, [1]);

    // The third time only the peer itself says so, and a table without news does not take that back.
    let known = moved.address.clone();
    let mut moved_again = Node::start(identity(2, 7), None).await;
    a.network.follow(2, &moved_again.address);
    a.network.set_peers(1, &[(2, known)]);
    moved_again.wait_hello().await;
    a.network.set_peers(1, &[]);
    assert_eq!(a.network.send(2, Lane::Control, frame(2)), Err(Dropped::NotConnected));
}

#[tokio::test]
async fn a_peer_is_found_whichever_of_the_table_and_the_peer_itself_knows_better() {
    let (mut a, nobody) = (Node::start(identity(1, 7), None).await, unused_address().await);
    // It moved twice, and the table of a log that is replayed is at the middle address.
    let mut b = Node::start(identity(2, 5), None).await;
    a.network.set_peers(1, &[(2, unused_address().await)]);
    a.network.follow(2, &b.address);
    a.wait_lane_up(Lane::Append).await;
    b.wait_hello().await;
    a.network.set_peers(1, &[(2, nobody.clone())]);
    let (address, directory) = b.stop().await;
    a.wait_for(|event| matches!(event, PeerEvent::LaneDown { lane: Lane::Append, .. }).then_some(())).await;
    let mut b = Node::start_at(&address, identity(2, 6), None, directory, 1000).await;
    a.wait_lane_up(Lane::Append).await;
    assert_eq!(a.network.send(2, Lane::Append, frame(1)), Ok(()));

    // The table has caught up: the lane stays.
    a.network.set_peers(1, &[(2, address.clone())]);
    a.network.follow(2, &address);
    assert_eq!(a.network.send(2, Lane::Append, frame(2)), Ok(()));
    assert_eq!(b.numbers(2).await, [1, 2]);
    while let Ok(event) = a.events.try_recv() {
        assert!(!matches!(event, PeerEvent::LaneDown { .. }), "{event:?}");
    }

    // It moved again and told others, from whom the table has it.
    let _stopped = b.stop().await;
    let mut b = Node::start(identity(2, 7), None).await;
    a.network.set_peers(1, &[(2, b.address.clone())]);
    b.wait_hello().await;
    a.wait_lane_up(Lane::Append).await;
    // What was said before is forgotten: the table is followed again.
    let mut moved = Node::start(identity(2, 8), None).await;
    a.network.set_peers(1, &[(2, moved.address.clone())]);
    moved.wait_hello().await;
}

#[tokio::test]
async fn nodes_that_changed_places_find_each_other() {
    let mut a = Node::start(identity(1, 7), None).await;
    let (b, c) = (Node::start(identity(2, 5), None).await, Node::start(identity(3, 5), None).await);
    a.network.set_peers(1, &[(1, b.address.clone()), (2, c.address.clone()), (3, a.address.clone())]);
    let mut found = std::collections::BTreeSet::new();
    while found.len() < 2 {
        found.insert(a.wait_for(|event| if let PeerEvent::LaneUp { peer, .. } = event { Some(peer) } else { None }).await);
    }
}

#[tokio::test]
async fn a_lane_leaves_a_process_that_another_one_has_followed() {
    let (mut a, b) = (Node::start(identity(1, 7), None).await, Node::start(identity(2, 5), None).await);
    a.network.set_peers(1, &[(2, b.address.clone())]);
    a.wait_lane_up(Lane::Append).await;
    let newer = Node::start(identity(2, 6), None).await;
    newer.network.set_peers(2, &[(1, a.address.clone())]);
    a.wait_for(|event| matches!(event, PeerEvent::LaneDown { lane: Lane::Append, .. }).then_some(())).await;
    a.network.follow(2, &newer.address);
    a.wait_lane_up(Lane::Append).await;
}

#[tokio::test]
async fn a_frame_may_be_large() {
    let (mut a, mut b) = (Node::start(identity(1, 7), Some("s")).await, Node::start(identity(2, 5), Some("s")).await);
    a.network.set_peers(1, &[(2, b.address.clone())]);
    a.wait_lane_up(Lane::Append).await;
    let large = Bytes::from((0..80_u32 << 20).map(|n| n.to_le_bytes()[n as usize % 3]).collect::<Vec<_>>());
    assert_eq!(a.network.send(2, Lane::Append, Frame { group: 1, wall_ms: 0, body: Some(Body::Raft(large.clone())) }), Ok(()));
    let received = b.wait_for(|event| match event {
        PeerEvent::Frame { from: 1, boot: 7, frame: Frame { body: Some(Body::Raft(bytes)), .. } } => Some(bytes),
        _ => None,
    });
    assert!(received.await == large);
}

#[tokio::test]
async fn a_slow_receiver_fills_the_queue_and_nothing_is_reordered() {
    let mut a = Node::start(identity(1, 7), None).await;
    let directory = Arc::new(TempDir::new().expect("temporary directory"));
    let mut b = Node::start_at("127.0.0.1:0", identity(2, 5), None, directory, 1).await;
    a.network.set_peers(1, &[(2, b.address.clone())]);
    a.wait_lane_up(Lane::Append).await;
    let megabyte = |number: u64| {
        let bytes = [&number.to_be_bytes()[..], &[0; 1 << 20]].concat();
        Frame { group: 1, wall_ms: 0, body: Some(Body::Raft(bytes.into())) }
    };
    let sent = (0..1000).take_while(|number| a.network.send(2, Lane::Append, megabyte(*number)) == Ok(())).count();
    assert!((60..200).contains(&sent), "{sent} frames of 1 MiB were taken");
    assert_eq!(a.network.send(2, Lane::Append, megabyte(0)), Err(Dropped::Full));
    let mut numbers = Vec::new();
    while numbers.len() < sent {
        numbers.push(
            b.wait_for(|event| match event {
                PeerEvent::Frame { frame: Frame { body: Some(Body::Raft(bytes)), .. }, .. } => {
                    Some(u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes")))
                }
                _ => None,
            })
            .await,
        );
    }
    assert_eq!(numbers, (0..sent as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_newer_process_silences_the_older() {
    let mut node = Node::start(identity(1, 7), None).await;
    let (outcome, older, mut older_replies) = open(&node.address, None, &hello(1)).await;
    assert_eq!(reason(outcome), None);
    older.send(frame(1)).await.expect("open");
    assert_eq!(node.numbers(1).await, [1]);
    // With as many starts as a directory remembers.
    let mut often = Starts::default();
    (0..1000).for_each(|_| often.begin(u64::MAX));
    let (outcome, newer, mut newer_replies) = open(&node.address, None, &Hello { starts: often.clone(), ..hello(1) }).await;
    assert_eq!(reason(outcome), None);
    // The end of the older stream may overtake this.
    drop(older.send(frame(2)).await);
    assert!(!matches!(older_replies.message().await, Ok(Some(_))), "the older stream is ended");
    newer.send(frame(3)).await.expect("open");
    assert_eq!(node.numbers(1).await, [3]);

    let mut members = table();
    members.members.retain(|member| member.node_id != 2);
    members.removed.push(2);
    node.gate.set_members(&members);
    assert!(!matches!(newer_replies.message().await, Ok(Some(_))), "a removed member is cut off");
}

#[tokio::test]
async fn a_removed_node_is_told() {
    let (mut removed, other) = (Node::start(identity(2, 5), Some("s")).await, Node::start(identity(1, 7), Some("s")).await);
    let mut members = table();
    members.members.retain(|member| member.node_id != 2);
    members.removed.push(2);
    other.gate.set_members(&members);
    removed.network.set_peers(2, &[(1, other.address.clone())]);
    assert_eq!(
        removed
            .wait_for(|event| match event {
                PeerEvent::RemovedFromCluster { by } => Some(by),
                _ => None,
            })
            .await,
        1
    );
}

#[tokio::test]
async fn calls_are_answered_by_the_node() {
    let mut node = Node::start(identity(1, 7), Some("s")).await;
    let client = PeerClient::new(&node.options);
    let address = node.address.clone();
    let probe = client.probe(&address).await.expect("an answer");
    assert_eq!((probe.node_id, probe.incarnation, probe.cluster_id.as_str()), (1, 101, CLUSTER));

    let joiner =
        Member { node_id: 0, incarnation: 9, addresses: Addresses { peer: "h:1".to_owned(), ..Addresses::default() }, level: LEVEL };
    let wrong = client.join(&address, Some(&"f".repeat(40)), &joiner).await;
    assert!(matches!(wrong, Ok(JoinAnswer::Refused(_))), "the node is not even asked");
    let answered = tokio::spawn(async move {
        node.wait_for(|event| match event {
            PeerEvent::Join { cluster_id, node, reply } => {
                let answer = JoinAnswer::Joined { node_id: node.incarnation, members: table() };
                Some((cluster_id, reply.send(answer).is_ok()))
            }
            _ => None,
        })
        .await;
        node.wait_for(|event| match event {
            PeerEvent::Admin { request, reply } => {
                assert_eq!(request, AdminRequest::Remove(3));
                reply.send(AdminAnswer::Leader("h:2".to_owned())).ok()
            }
            _ => None,
        })
        .await;
        // Nobody answers this one.
        node.wait_for(|event| matches!(event, PeerEvent::Join { .. }).then_some(())).await;
        node
    });
    assert_eq!(client.join(&address, None, &joiner).await, Ok(JoinAnswer::Joined { node_id: 9, members: table() }));
    assert_eq!(client.admin(&address, AdminRequest::Remove(3)).await, Ok(AdminAnswer::Leader("h:2".to_owned())));
    assert_eq!(client.join(&address, Some(CLUSTER), &joiner).await, Ok(JoinAnswer::Wait));
    drop(answered.await.expect("no panic"));

    let stranger = PeerClient::new(&PeerOptions { seal: Seal::new(Some(b"t")), ..Node::start(identity(2, 1), None).await.options });
    let node = Node::start(identity(1, 7), Some("s")).await;
    assert_eq!(stranger.probe(&node.address).await, Err(CallError::BadSecret));
    let (address, _directory) = node.stop().await;
    assert!(matches!(client.probe(&address).await, Err(CallError::Unreachable(_))));
}

// Snapshots.

fn outgoing(directory: &Path) -> OutgoingSnapshot {
    let sizes = [(0, 300_000), (2, 0), (2, 1), (5, 1 << 16)];
    let files = sizes.iter().enumerate().map(|(number, (cf, bytes))| {
        let path = directory.join(format!("out-{number}"));
        let content: Vec<u8> = (0..*bytes).map(|position: u32| position.to_le_bytes()[number % 2] ^ 0x5a).collect();
        fs::write(&path, content).expect("written");
        (*cf, path)
    });
    OutgoingSnapshot { group: 1, index: 77, message: Bytes::from_static(b"metadata"), files: files.collect(), count: Arc::default() }
}

fn names_in(node: &Node) -> Vec<String> {
    let Ok(entries) = fs::read_dir(&node.options.snapshots_dir) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_snapshot_arrives_whole_and_twice() {
    let (a, mut b) = (Node::start(identity(1, 7), Some("s")).await, Node::start(identity(2, 5), Some("s")).await);
    assert!(matches!(a.network.send_snapshot(2, outgoing(a.directory.path())).await, Err(SnapshotError::NoSuchPeer)));
    a.network.set_peers(1, &[(2, b.address.clone())]);
    let mut dirs = Vec::new();
    for _ in 0..2 {
        let sent = outgoing(a.directory.path());
        let contents = |files: &[(u8, std::path::PathBuf)]| -> Vec<(u8, Vec<u8>)> {
            files.iter().map(|(cf, path)| (*cf, fs::read(path).expect("readable"))).collect()
        };
        let expected = contents(&sent.files);
        a.network.send_snapshot(2, sent.clone()).await.expect("sent");
        let received = b.wait_for(|event| match event {
            PeerEvent::SnapshotReceived { from: 1, snapshot } => Some(snapshot),
            _ => None,
        });
        let received = received.await;
        assert_eq!((received.group, received.index, received.message), (1, 77, sent.message));
        let bytes = 300_000 + 1 + (1 << 16);
        assert_eq!(sent.count.get(), SnapshotSent { sent_bytes: bytes, total_bytes: bytes });
        assert_eq!(contents(&received.files), expected);
        assert!(sent.files.iter().all(|(_, path)| !path.exists()), "what was sent takes up no room");
        assert!(received.files.iter().all(|(_, path)| path.starts_with(&received.dir)));
        dirs.push(received.dir);
    }
    assert_eq!(names_in(&b), ["in-g1-1-77", "in-g1-1-77-2"]);
    super::remove_received_snapshots(&b.options.snapshots_dir, Some(&dirs[1])).expect("deleted");
    assert_eq!(names_in(&b), ["in-g1-1-77-2"]);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_or_taken_fails() {
    let (a, b) = (Node::start(identity(1, 7), None).await, Node::start(identity(2, 5), None).await);
    a.network.set_peers(1, &[(2, b.address.clone())]);
    let mut snapshot = outgoing(a.directory.path());
    snapshot.files.push((0, a.directory.path().join("absent")));
    assert!(matches!(a.network.send_snapshot(2, snapshot).await, Err(SnapshotError::Read(_))));
    b.gate.set_members(&Members { members: vec![table().members[1].clone()], ..table() });
    let refused = a.network.send_snapshot(2, outgoing(a.directory.path())).await;
    assert!(matches!(refused, Err(SnapshotError::Call(CallError::Refused(_)))), "{refused:?}");
    assert!(names_in(&b).is_empty());
}

/// A transfer by hand: the parts, and what the receiver says in the end.
async fn transfer(node: &Node, parts: Vec<Part>) -> Option<SnapshotState> {
    let seal = Seal::new(None);
    let channel = dial::connect(&node.address).await.expect("connected");
    let challenge = dial::challenge(&channel).await.expect("challenged");
    let (sender, stream) = mpsc::channel(parts.len().max(1));
    for part in parts {
        sender.send(SnapshotPart { part: Some(part) }).await.expect("room");
    }
    drop(sender);
    let hello = Hello { purpose: Purpose::Snapshot.into(), ..hello(1) };
    let (request, _): (Request<_>, _) = dial::greeted(&seal, &challenge, &hello, ReceiverStream::new(stream));
    let mut replies = LanesClient::new(channel).snapshot(request).await.expect("answered").into_inner();
    let mut last = None;
    while let Ok(Some(reply)) = replies.message().await {
        last = reply.state;
    }
    last
}

#[tokio::test]
async fn a_snapshot_that_is_not_as_declared_leaves_nothing() {
    let node = Node::start(identity(1, 7), None).await;
    let header = |files: &[(u32, u64)]| {
        let files = files.iter().map(|(cf, bytes)| SnapshotFile { cf: *cf, bytes: *bytes }).collect();
        Part::Header(SnapshotHeader { group: 1, index: 5, message: Bytes::new(), files })
    };
    let chunk = |file: u32, offset: u64, data: &'static [u8]| SnapshotChunk {
        file,
        offset,
        crc32: crc32fast::hash(data),
        data: Bytes::from_static(data),
    };
    let good = |file, offset, data| Part::Chunk(chunk(file, offset, data));
    let corrupt = Part::Chunk(SnapshotChunk { data: Bytes::from_static(b"abcX"), ..chunk(0, 0, b"abcd") });
    let cases = [
        ("no header", vec![]),
        ("no header", vec![good(0, 0, b"abcd")]),
        ("a second header", vec![header(&[(0, 4)]), header(&[(0, 4)])]),
        ("broke off", vec![header(&[(0, 4)])]),
        ("broke off", vec![header(&[(0, 4), (1, 4)]), good(0, 0, b"abcd")]),
        ("broke off", vec![header(&[(0, 8)]), good(0, 0, b"abcd")]),
        ("bad checksum", vec![header(&[(0, 4)]), corrupt]),
        ("was due", vec![header(&[(0, 4)]), good(1, 0, b"abcd")]),
        ("was due", vec![header(&[(0, 8)]), good(0, 4, b"abcd")]),
        ("was due", vec![header(&[(0, 8)]), good(0, 0, b"abcd"), good(0, 0, b"abcd")]),
        ("not declared", vec![header(&[(0, 3)]), good(0, 0, b"abcd")]),
        ("not declared", vec![header(&[(0, 3)]), good(0, 0, b"")]),
        ("more bytes", vec![header(&[(0, 4)]), good(0, 0, b"abcd"), good(1, 0, b"a")]),
        ("column family", vec![header(&[(256, 4)])]),
    ];
    for (expected, parts) in cases {
        match transfer(&node, parts).await {
            Some(SnapshotState::Failed(text)) => assert!(text.contains(expected), "'{text}' does not say '{expected}'"),
            other => panic!("{expected}: {other:?}"),
        }
        assert!(names_in(&node).is_empty(), "{expected}");
    }
    assert!(matches!(transfer(&node, vec![header(&[(0, 4)]), good(0, 0, b"abcd")]).await, Some(SnapshotState::Done(_))));
}

#[tokio::test]
async fn a_sender_that_dies_leaves_nothing_and_blocks_nobody() {
    let node = Node::start_alone(2, identity(1, 7)).await;
    let seal = Seal::new(None);
    let channel = dial::connect(&node.address).await.expect("connected");
    let challenge = dial::challenge(&channel).await.expect("challenged");
    let (sender, stream) = mpsc::channel(1);
    let hello = Hello { purpose: Purpose::Snapshot.into(), ..hello(1) };
    let (request, _) = dial::greeted(&seal, &challenge, &hello, ReceiverStream::new(stream));
    let mut replies = LanesClient::new(channel).snapshot(request).await.expect("answered").into_inner();
    let files = vec![SnapshotFile { cf: 0, bytes: 10 }];
    let header = SnapshotHeader { group: 1, index: 5, message: Bytes::new(), files };
    sender.send(SnapshotPart { part: Some(Part::Header(header)) }).await.expect("open");
    assert!(matches!(replies.message().await, Ok(Some(_))), "welcome");
    eventually("the transfer begins", || names_in(&node) == ["in-g1-2-5.part"]).await;
    assert!(matches!(transfer(&node, vec![Part::Header(SnapshotHeader { group: 1, ..SnapshotHeader::default() })]).await,
        Some(SnapshotState::Failed(text)) if text.contains("another snapshot")));
    drop((sender, replies));
    eventually("the transfer is cleaned up", || names_in(&node).is_empty()).await;

    // What a crash leaves is deleted at the next start; what is whole stays.
    let (address, directory) = node.stop().await;
    let snapshots = directory.path().join("snapshots");
    fs::create_dir_all(snapshots.join("in-g1-2-5.part")).expect("created");
    fs::create_dir_all(snapshots.join("in-g1-2-5")).expect("created");
    let node = Node::start_at(&address, identity(1, 8), None, directory, 1000).await;
    assert_eq!(names_in(&node), ["in-g1-2-5"]);
}

/// The tags of a oneof stand in two places; one that is missing in the first makes the variant unreadable, one too many a panic.
#[test]
fn every_call_and_every_answer_is_read_as_it_was_sent() {
    use prost::Message;

    let refused = Refused { reason: Reason::NotReady.into(), detail: "d".to_owned() };
    let asks = [Ask::Probe(Nothing {}), Ask::Form(table()), Ask::Join(JoinRequest::default()), Ask::Remove(2), Ask::Transfer(3)];
    for ask in asks {
        let request = CallRequest { ask: Some(ask) };
        assert_eq!(CallRequest::decode(request.encode_to_vec().as_slice()), Ok(request));
    }
    let answers = [
        Answer::Probe(ProbeReply::default()),
        Answer::Done(Nothing {}),
        Answer::Joined(Joined { node_id: 1, members: table() }),
        Answer::Leader("h:1".to_owned()),
        Answer::Wait(Nothing {}),
        Answer::Refused("r".to_owned()),
        Answer::NotHeard(refused),
    ];
    for answer in answers {
        let reply = CallReply { answer: Some(answer) };
        assert_eq!(CallReply::decode(reply.encode_to_vec().as_slice()), Ok(reply));
    }
    for tag in 0..=20_u8 {
        // Whatever else another binary may send is unknown to this one, and no more.
        drop((CallRequest::decode(&[tag << 3 | 2, 0][..]), CallReply::decode(&[tag << 3 | 2, 0][..])));
    }
}

#[test]
fn bytes_of_a_hello_do_not_change() {
    use prost::Message;

    let addresses = Addresses { listen: "a".to_owned(), peer: "b".to_owned(), admin: "c".to_owned() };
    let hello = Hello { cluster_id: "id".to_owned(), addresses, level: 1, ..hello(9) };
    let golden: &[u8] =
        b"\x0a\x02id\x10\x02\x18\x66\x30\x01\x38\x01\x40\x02\x4a\x09\x0a\x01a\x12\x01b\x1a\x01c\x50\x09\x5a\x0c\x08\x05\x12\x08\xd5\x07\0\0\0\0\0\0";
    assert_eq!(hello.encode_to_vec(), golden);
    assert_eq!(Hello::decode(golden), Ok(hello));
    let sealed = Sealed { body: Bytes::from_static(b"b"), salt: Bytes::from_static(b"s"), proof: Bytes::from_static(b"p") };
    assert_eq!(sealed.encode_to_vec(), b"\x0a\x01b\x12\x01s\x1a\x01p");
    assert!(HelloReply::decode(&b"\xff"[..]).is_err());
}
