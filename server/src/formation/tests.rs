//! Decisions as tables, and whole formations over real listeners on the loopback interface.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::net::peer::{Identity, PeerEvent, PeerOptions, PeerServer, Seal};
use crate::node::{PeerRecord, Starts};

const CLUSTER: &str = "00112233445566778899aabbccddeeff00112233";
const OTHER: &str = "ffeeddccbbaa99887766554433221100ffeeddcc";
const DEADLINE: Duration = Duration::from_secs(30);

fn addresses(peer: &str) -> Addresses {
    Addresses { listen: "l:1".to_owned(), peer: peer.to_owned(), admin: "a:1".to_owned() }
}

fn newcomer(incarnation: u64, peer: &str) -> Newcomer {
    Newcomer { incarnation, addresses: addresses(peer) }
}

fn config(options: &[(&str, &str)]) -> Config {
    let secret = [("peer-secret", "s")];
    let options: Vec<_> = secret.iter().chain(options).copied().collect();
    Config::from_options(&options).expect("good options")
}

fn form_of(cluster_id: &str, incarnations: &[u64]) -> Members {
    let founders = incarnations.iter().map(|incarnation| (*incarnation, addresses("x:1")));
    Members::initial(cluster_id.to_owned(), LEVEL, founders)
}

#[test]
fn options_say_what_an_empty_node_becomes() {
    let outside = ("peer-listen", "10.0.0.1:1");
    let together = |roster: &[&str]| Course::Together { roster: roster.iter().map(ToString::to_string).collect() };
    let join = |cluster_id: Option<&str>| Course::Join { cluster_id: cluster_id.map(str::to_owned) };
    let check = |options: &[(&str, &str)], expected: Result<Course, &str>| {
        let decided = course(&config(options), &newcomer(1, "me:1"), None);
        match (decided, expected) {
            (Ok(decided), Ok(expected)) => assert_eq!(decided, expected, "{options:?}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{options:?}: '{error}' does not say '{part}'"),
            (decided, _) => panic!("{options:?}: {decided:?}"),
        }
    };
    check(&[], Ok(Course::Alone));
    check(&[("bootstrap", "yes"), outside], Ok(Course::Alone));
    check(&[outside], Err("say with bootstrap, join or bootstrap-expect"));
    check(&[("cluster-id", CLUSTER)], Err("give join"));
    check(&[("cluster-id", CLUSTER), ("bootstrap", "yes")], Err("give join"));
    check(&[("cluster-id", CLUSTER), ("join", "a:1")], Ok(join(Some(CLUSTER))));
    check(&[("cluster-id", CLUSTER), ("join", "a:1,b:1"), ("bootstrap-expect", "2")], Ok(join(Some(CLUSTER))));
    check(&[("join", "a:1")], Ok(join(None)));
    check(&[("join", "b:1,me:1,a:1"), ("bootstrap-expect", "3")], Ok(together(&["a:1", "b:1", "me:1"])));
    check(&[("join", "b:1,a:1"), ("bootstrap-expect", "3")], Ok(together(&["a:1", "b:1", "me:1"])));
    check(&[("join", "b:1,a:1,b:1"), ("bootstrap-expect", "3")], Ok(together(&["a:1", "b:1", "me:1"])));
    check(&[("join", "a:1"), ("bootstrap-expect", "3")], Err("bootstrap-expect is 3, but join has 1"));
    check(&[("join", "a:1,b:1,c:1,d:1"), ("bootstrap-expect", "3")], Err("but join has 4"));

    let pending = form_of(CLUSTER, &[1, 2]);
    let decided = course(&config(&[("cluster-id", OTHER)]), &newcomer(1, "me:1"), Some(pending.clone()));
    assert_eq!(decided.expect("decided"), Course::Continue(pending), "what was accepted counts, whatever the options say now");
}

#[test]
fn a_round_of_probes_decides() {
    let roster = ["a:1", "b:1", "me:1"].map(str::to_owned);
    let unformed = |peer: &str, incarnation: u64| {
        let reply = introduction(&newcomer(incarnation, peer), &Course::Together { roster: roster.to_vec() });
        (peer.to_owned(), reply)
    };
    let formed = |peer: &str, cluster_id: &str| {
        let (address, reply) = unformed(peer, 9);
        (address, ProbeReply { cluster_id: cluster_id.to_owned(), node_id: 1, roster: Vec::new(), ..reply })
    };
    let told_otherwise = |peer: &str, incarnation: u64| {
        let (address, reply) = unformed(peer, incarnation);
        (address, ProbeReply { roster: vec!["a:1".to_owned(), "c:1".to_owned(), "me:1".to_owned()], ..reply })
    };
    let check = |answers: &[(String, ProbeReply)], expected: &str| {
        let decided = format!("{:?}", next_step(&newcomer(5, "me:1"), &roster, answers));
        assert!(decided.contains(expected), "{answers:?}: {decided} is not {expected}");
    };
    check(&[], "1 of 3 nodes are there");
    check(&[unformed("a:1", 7)], "2 of 3");
    check(&[unformed("a:1", 7), unformed("me:1", 5)], "2 of 3");
    check(&[unformed("a:1", 7), unformed("b:1", 7)], "2 of 3");
    check(&[unformed("a:1", 7), unformed("b:1", 3)], "b:1 coordinates");
    check(&[unformed("a:1", 7), told_otherwise("b:1", 6)], "b:1 has another join");
    check(&[told_otherwise("a:1", 7), formed("b:1", CLUSTER)], r#"Join(["b:1"])"#);
    check(&[formed("a:1", CLUSTER), formed("b:1", CLUSTER)], r#"Join(["a:1", "b:1"])"#);
    check(&[formed("a:1", CLUSTER), formed("b:1", OTHER)], "TwoClusters");
    for answers in [[unformed("a:1", 7), unformed("b:1", 6)], [unformed("b:1", 6), unformed("a:1", 7)]] {
        match next_step(&newcomer(5, "me:1"), &roster, &answers) {
            Step::Coordinate { level: LEVEL, founders } => {
                let founders: Vec<_> = founders.iter().map(|(incarnation, addresses)| (*incarnation, addresses.peer.as_str())).collect();
                assert_eq!(founders, [(5, "me:1"), (6, "b:1"), (7, "a:1")]);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_form_is_taken_only_from_those_who_mean_this_node() {
    let together = Course::Together { roster: ["a:1", "b:1", "me:1"].map(str::to_owned).to_vec() };
    let joins = |cluster_id: Option<&str>| Course::Join { cluster_id: cluster_id.map(str::to_owned) };
    let good = form_of(CLUSTER, &[4, 5, 6]);
    let check =
        |course: &Course, form: &Members, expected: Result<(), &str>| match (judge_form(&newcomer(5, "me:1"), course, form), expected) {
            (Ok(()), Ok(())) => {}
            (Err(text), Err(part)) => assert!(text.contains(part), "'{text}' does not say '{part}'"),
            (judged, _) => panic!("{form:?}: {judged:?}"),
        };
    check(&together, &good, Ok(()));
    check(&joins(Some(CLUSTER)), &good, Ok(()));
    check(&joins(Some(OTHER)), &good, Err("belongs to cluster ffee"));
    check(&joins(None), &good, Err("founds no cluster"));
    check(&Course::Alone, &good, Err("founds no cluster"));
    check(&together, &form_of(CLUSTER, &[4, 6, 7]), Err("not among the founders"));
    check(&together, &form_of(CLUSTER, &[4, 5]), Err("2 founders"));
    check(&together, &form_of(CLUSTER, &[5, 5, 6]), Err("malformed"));
    check(&together, &form_of("abc", &[4, 5, 6]), Err("malformed"));
    check(&together, &form_of(&CLUSTER.replace('a', "A"), &[4, 5, 6]), Err("malformed"));
    check(&together, &Members { removed: vec![9], ..good.clone() }, Err("malformed"));
    check(&together, &Members { next_id: 9, ..good.clone() }, Err("malformed"));
    let newer = Members { level: LEVEL + 1, ..good.clone() };
    check(&together, &newer, Err("malformed"));
    let founders = [4, 5, 6].map(|incarnation| (incarnation, addresses("x:1")));
    check(&together, &Members::initial(CLUSTER.to_owned(), LEVEL + 1, founders), Err("feature level"));
}

/// A node as the server starts it, without a node behind it.
struct Node {
    address: String,
    incarnation: u64,
    gate: Gate,
    client: PeerClient,
    events: mpsc::Receiver<PeerEvent>,
    /// What was made durable.
    form: Arc<Mutex<Option<Members>>>,
    stop: oneshot::Sender<()>,
    _directory: TempDir,
}

impl Node {
    async fn listen(incarnation: u64) -> Self {
        Self::listen_at("127.0.0.1:0", incarnation).await
    }

    async fn listen_at(listen: &str, incarnation: u64) -> Self {
        let directory = TempDir::new().expect("temporary directory");
        let options =
            PeerOptions { seal: Seal::new(Some(b"s")), snapshot_chunk_bytes: 1 << 16, snapshots_dir: directory.path().join("snapshots") };
        let gate = Gate::default();
        let (sender, events) = mpsc::channel(100);
        let server = PeerServer::bind(listen, options.clone(), gate.clone(), sender).await.expect("a free port");
        let address = server.local_addr().expect("bound").to_string();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.serve(async { drop(stopped.await) }));
        let client = PeerClient::new(&options);
        Self { address, incarnation, gate, client, events, form: Arc::default(), stop, _directory: directory }
    }

    /// Forms, and takes on what came of it, as the server does.
    fn form(&self, options: &[(&str, &str)], pending: Option<Members>) -> tokio::task::JoinHandle<Result<Formed, FormationError>> {
        let (config, own) = (config(options), addresses(&self.address));
        let (gate, client, incarnation, stored) = (self.gate.clone(), self.client.clone(), self.incarnation, self.form.clone());
        tokio::spawn(async move {
            let persist = |form: &Members| {
                let before = stored.lock().expect("no panic").replace(form.clone());
                assert_eq!(before, None, "a node accepts one form in its life");
                Ok(())
            };
            let formed = super::form(&config, incarnation, &own, &gate, &client, pending, persist).await?;
            let (cluster_id, node_id) = (formed.members.cluster_id.clone(), formed.node_id);
            let identity = Identity { cluster_id, node_id, incarnation, starts: first_start(), addresses: own };
            gate.set_identity(identity, &formed.members, PeerRecord::in_memory());
            Ok(formed)
        })
    }

    /// Stands as a member of a cluster.
    fn belong_to(&self, members: &Members) {
        let member = members.by_incarnation(self.incarnation).expect("a member");
        let identity = Identity {
            cluster_id: members.cluster_id.clone(),
            node_id: member.node_id,
            incarnation: self.incarnation,
            starts: first_start(),
            addresses: addresses(&self.address),
        };
        self.gate.set_identity(identity, members, PeerRecord::in_memory());
    }
}

fn first_start() -> Starts {
    let mut starts = Starts::default();
    starts.begin(rand::random());
    starts
}

async fn outcome<T>(task: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(DEADLINE, task).await.expect("in time").expect("no panic")
}

async fn eventually_accepted(node: &Node, client: &PeerClient, form: &Members) {
    let accepted = async { while client.form(&node.address, form).await != Ok(FormAnswer::Accepted) {} };
    tokio::time::timeout(DEADLINE, accepted).await.expect("in time");
}

#[tokio::test]
async fn three_empty_nodes_form_one_cluster() {
    let nodes = [Node::listen(30).await, Node::listen(10).await, Node::listen(20).await];
    let join = nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(",");
    let options = [("bootstrap-expect", "3"), ("join", join.as_str())];
    let mut formed = Vec::new();
    for task in nodes.iter().map(|node| node.form(&options, None)).collect::<Vec<_>>() {
        formed.push(outcome(task).await.expect("formed"));
    }
    // Ids follow the addresses.
    let mut addresses: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    addresses.sort_unstable();
    let id = |node: &Node| addresses.iter().zip(1..).find(|(address, _)| **address == node.address).map(|(_, id)| id);
    let expected: Vec<_> = nodes.iter().map(|node| (id(node).expect("it is one of them"), true)).collect();
    assert_eq!(formed.iter().map(|formed| (formed.node_id, formed.founding)).collect::<Vec<_>>(), expected);
    assert!(formed.iter().all(|other| other.members == formed[0].members));
    for (node, formed) in nodes.iter().zip(&formed) {
        assert_eq!(node.form.lock().expect("no panic").as_ref(), Some(&formed.members), "durable");
        assert_eq!(formed.members.get(formed.node_id).map(|member| member.addresses.peer.as_str()), Some(node.address.as_str()));
    }
    let client = &nodes[0].client;
    assert_eq!(client.form(&nodes[2].address, &formed[0].members).await, Ok(FormAnswer::Accepted), "the same form again");
    let another = form_of(OTHER, &[10, 20, 30]);
    assert!(matches!(client.form(&nodes[2].address, &another).await, Ok(FormAnswer::Refused(_))), "and no other one");
}

#[tokio::test]
async fn a_founder_that_was_stopped_continues_with_its_form() {
    let nodes = [Node::listen(10).await, Node::listen(20).await, Node::listen(30).await];
    let join = nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(",");
    let options = [("bootstrap-expect", "3"), ("join", join.as_str())];
    let founders = nodes.iter().map(|node| (node.incarnation, addresses(&node.address)));
    let form = Members::initial(CLUSTER.to_owned(), LEVEL, founders);
    // The first one knows of the form from an earlier life; the second was started with the cluster's id by a supervisor since.
    let first = outcome(nodes[0].form(&[("join", join.as_str())], Some(form.clone()))).await.expect("formed");
    let second = outcome(nodes[1].form(&[("join", join.as_str()), ("cluster-id", CLUSTER)], None)).await.expect("formed");
    let third = outcome(nodes[2].form(&options, None)).await;
    assert_eq!(first, Formed { members: form.clone(), node_id: 1, founding: true });
    assert_eq!(second, Formed { members: form.clone(), node_id: 2, founding: true });
    assert_eq!(third.expect("formed"), Formed { members: form.clone(), node_id: 3, founding: true });

    let foreign = Node::listen(99).await;
    let refused = outcome(foreign.form(&[], Some(form))).await;
    assert!(matches!(refused, Err(FormationError::ForeignForm)), "{refused:?}");
}

#[tokio::test]
async fn a_founder_hands_the_form_on_until_all_have_it() {
    let first = Node::listen(10).await;
    // Where no other test takes the port meanwhile.
    let late = Node::listen_at("127.0.1.3:0", 20).await;
    let late_address = late.address.clone();
    let founders = [(10, addresses(&first.address)), (20, addresses(&late_address))];
    let form = Members::initial(CLUSTER.to_owned(), LEVEL, founders);
    drop(late.stop);
    outcome(first.form(&[], Some(form.clone()))).await.expect("formed");
    let late = {
        let deadline = Instant::now() + DEADLINE;
        while tokio::net::TcpStream::connect(&late_address).await.is_ok() {
            assert!(Instant::now() < deadline, "the port is free in time");
        }
        Node::listen_at(&late_address, 20).await
    };
    let join = format!("{},{late_address}", first.address);
    let formed = outcome(late.form(&[("bootstrap-expect", "2"), ("join", &join)], None)).await.expect("formed");
    assert_eq!(formed, Formed { members: form.clone(), node_id: 2, founding: true });
    eventually_accepted(&late, &first.client, &form).await;
}

#[tokio::test]
async fn a_joiner_finds_the_leader() {
    let members = form_of(CLUSTER, &[10, 20]);
    let mut nodes = [Node::listen(10).await, Node::listen(20).await];
    nodes.iter().for_each(|node| node.belong_to(&members));
    let joiner = Node::listen(30).await;
    let nobody = "127.0.0.1:1";
    let join = format!("{nobody},{}", nodes[0].address);
    let task = joiner.form(&[("join", &join)], None);
    let mut joined = members.clone();
    joined.apply(&crate::node::core::Change::Register(Member {
        node_id: 0,
        incarnation: 30,
        addresses: addresses(&joiner.address),
        level: LEVEL,
    }));
    let leader = nodes[1].address.clone();
    let answers = [(0, JoinAnswer::Wait), (0, JoinAnswer::Leader(leader)), (1, JoinAnswer::Joined { node_id: 3, members: joined.clone() })];
    for (node, answer) in answers {
        let event = tokio::time::timeout(DEADLINE, nodes[node].events.recv()).await.expect("in time");
        match event {
            Some(PeerEvent::Join { cluster_id: None, node, reply }) => {
                assert_eq!((node.incarnation, node.addresses.peer.as_str()), (30, joiner.address.as_str()));
                assert_eq!(reply.send(answer), Ok(()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(outcome(task).await.expect("joined"), Formed { members: joined, node_id: 3, founding: false });
    assert_eq!(*joiner.form.lock().expect("no panic"), None);
}

#[tokio::test]
async fn a_joiner_of_another_cluster_is_refused() {
    let member = Node::listen(10).await;
    member.belong_to(&form_of(CLUSTER, &[10]));
    let joiner = Node::listen(30).await;
    let refused = outcome(joiner.form(&[("join", &member.address), ("cluster-id", OTHER)], None)).await;
    match refused {
        Err(error @ FormationError::Refused { .. }) => {
            let text = error.to_string();
            assert!(text.contains(&member.address) && text.contains(CLUSTER) && !text.contains('\n'), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_alone_founds_at_once() {
    let node = Node::listen(10).await;
    let formed = outcome(node.form(&[], None)).await.expect("formed");
    assert_eq!((formed.node_id, formed.founding, formed.members.members.len()), (1, true, 1));
    assert_eq!(formed.members.cluster_id.len(), 40);
    let refused = node.client.form(&node.address, &form_of(OTHER, &[10, 20])).await;
    assert!(matches!(refused, Ok(FormAnswer::Refused(_))), "{refused:?}");
}
