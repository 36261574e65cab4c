//! Several nodes that form one group by `--bootstrap-expect`, each started as an operator would on a machine of its own.
//! Nodes are named by their position; ids of members are the group's business and change when a node comes back as a new one.

use std::net::SocketAddr;
use std::ops::{Index, IndexMut};
use std::path::Path;

use crate::client::Client;
use crate::clock::{self, TestClock};
use crate::dir::TestDir;
use crate::network::Network;
use crate::node::{Node, RaftStatus, Role};
use crate::power::{self, Honesty, TestDisk};
use crate::shim::Library;
use crate::wait::eventually;

/// What the nodes of a group have between and within them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Plain,
    Network,
    Disks(Honesty),
    /// Network, clocks, and honest disks.
    Machines,
}

#[derive(Debug)]
struct Disks {
    library: Library,
    honesty: Honesty,
    of_nodes: Vec<TestDisk>,
}

/// A group of nodes.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// What stands between the nodes; `None`: they reach each other directly.
    network: Option<Network>,
    /// What gives them clocks of their own, and those clocks; `None`: they have the machine's.
    clocks: Option<(Library, Vec<TestClock>)>,
    /// The disks that can lose their power, and what makes them; `None`: there is only the machine's.
    disks: Option<Disks>,
    flags: Vec<String>,
    dir: TestDir,
}

impl Cluster {
    /// So many nodes that have formed a group.
    /// # Panics
    /// They do not.
    #[must_use]
    #[track_caller]
    pub fn start(count: usize) -> Self {
        Self::start_with(count, &[])
    }

    /// So many nodes with these options that have formed a group.
    /// # Panics
    /// They do not.
    #[must_use]
    #[track_caller]
    pub fn start_with(count: usize, flags: &[&str]) -> Self {
        Self::form(TestDir::new(), count, flags, Means::Plain)
    }

    /// As `start_with`, in a directory that was chosen.
    /// # Panics
    /// They do not form a group.
    #[must_use]
    #[track_caller]
    pub fn start_in(dir: TestDir, count: usize, flags: &[&str]) -> Self {
        Self::form(dir, count, flags, Means::Plain)
    }

    /// Nodes that reach each other through proxies, so that they can be cut off.
    /// # Panics
    /// They do not form a group.
    #[must_use]
    #[track_caller]
    pub fn start_with_network(count: usize, flags: &[&str]) -> Self {
        Self::form(TestDir::new(), count, flags, Means::Network)
    }

    /// Nodes with disks that can lose their power.
    /// # Panics
    /// They do not form a group.
    #[must_use]
    #[track_caller]
    pub fn start_with_disks(count: usize, flags: &[&str], honesty: Honesty) -> Self {
        Self::form(TestDir::new(), count, flags, Means::Disks(honesty))
    }

    /// Nodes as on machines of their own: they reach each other through proxies, and have clocks and disks of their own.
    /// # Panics
    /// They do not form a group.
    #[must_use]
    #[track_caller]
    pub fn start_on_machines(count: usize, flags: &[&str]) -> Self {
        Self::form(TestDir::new(), count, flags, Means::Machines)
    }

    #[track_caller]
    fn form(dir: TestDir, count: usize, flags: &[&str], means: Means) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let network = matches!(means, Means::Network | Means::Machines).then(Network::new);
        let clocks = (means == Means::Machines).then(|| (clock::library(dir.path()), Vec::new()));
        let honesty = match means {
            Means::Plain | Means::Network => None,
            Means::Disks(honesty) => Some(honesty),
            Means::Machines => Some(Honesty::Honest),
        };
        let disks = honesty.map(|honesty| Disks { library: power::library(dir.path()), honesty, of_nodes: Vec::new() });
        let mut cluster = Self { nodes: Vec::new(), network, clocks, disks, flags, dir };
        let expect = count.to_string();
        for _ in 0..count {
            cluster.create_node(&["--bootstrap-expect", &expect]);
        }
        let join = cluster.peer_addresses().join(",");
        for node in &mut cluster.nodes {
            node.add_flags(&["--join", &join]);
        }
        for position in 0..count {
            cluster.start_node(position);
        }
        cluster.wait_converged();
        cluster
    }

    /// A node that is not started, nor told whom to join.
    fn create_node(&mut self, flags: &[&str]) {
        let position = self.nodes.len();
        let all: Vec<&str> = self.flags.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let mut node = Node::new(self.dir.join(format!("node-{}", position + 1)), &all);
        if let Some(network) = &mut self.network {
            let address = network.add_proxy(position, node.peer_address()).to_string();
            node.add_flags(&["--advertise-peer", &address]);
        }
        if let Some((library, clocks)) = &mut self.clocks {
            let clock = TestClock::new(library, node.dir().with_extension("clock"));
            node.preload(clock.preload());
            clocks.push(clock);
        }
        if let Some(disks) = &mut self.disks {
            let disk = TestDisk::new(&disks.library, node.dir(), node.dir().with_extension("disk"), disks.honesty);
            node.preload(disk.preload());
            disks.of_nodes.push(disk);
        }
        self.nodes.push(node);
    }

    /// Where nodes reach each other.
    fn peer_addresses(&self) -> Vec<String> {
        let address = |position: usize| match &self.network {
            Some(network) => network.address(position).to_string(),
            None => self.nodes[position].peer_address().to_string(),
        };
        (0..self.nodes.len()).map(address).collect()
    }

    /// Starts a node that does not run. It answers some time later.
    #[track_caller]
    pub fn start_node(&mut self, position: usize) {
        self.nodes[position].start();
        if let Some(network) = &self.network {
            network.set_process(position, self.nodes[position].process().pid());
        }
    }

    /// Adds a node that is told to join the group and is not started yet; its position.
    pub fn add_spare(&mut self) -> usize {
        let join = self.peer_addresses().join(",");
        self.create_node(&["--join", &join]);
        self.nodes.len() - 1
    }

    /// Adds a node that joins the group, and waits until it has what the group had before; its position. A write through it before that
    /// may end as unknown, since the node gets the write's result within a snapshot.
    #[track_caller]
    pub fn add_node(&mut self) -> usize {
        let position = self.add_spare();
        self.start_node(position);
        self.nodes[position].wait_ready();
        self.wait_caught_up(position);
        position
    }

    /// What stands between the nodes.
    /// # Panics
    /// They reach each other directly.
    #[must_use]
    #[track_caller]
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("the cluster was started with a network")
    }

    /// The clock of a node.
    /// # Panics
    /// It has the machine's.
    #[must_use]
    #[track_caller]
    pub fn clock(&self, position: usize) -> &TestClock {
        let (_, clocks) = self.clocks.as_ref().expect("the cluster was started with clocks");
        &clocks[position]
    }

    /// The disk of a node.
    /// # Panics
    /// It has the machine's.
    #[must_use]
    #[track_caller]
    pub fn disk(&self, position: usize) -> &TestDisk {
        &self.disks.as_ref().expect("the cluster was started with disks").of_nodes[position]
    }

    /// The directory of all of it. Files directly in it are kept when a test fails.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Positions of the nodes.
    #[must_use]
    pub fn positions(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    /// Positions of all nodes but one.
    #[must_use]
    pub fn others(&self, position: usize) -> Vec<usize> {
        self.positions().filter(|other| *other != position).collect()
    }

    /// Where clients connect, node by node.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// Where clients connect to some of the nodes.
    #[must_use]
    pub fn addresses_of(&self, positions: &[usize]) -> Vec<SocketAddr> {
        positions.iter().map(|position| self.nodes[*position].address()).collect()
    }

    /// A connection to a node.
    #[must_use]
    #[track_caller]
    pub fn client(&self, position: usize) -> Client {
        self.nodes[position].client()
    }

    /// Waits for a leader that a majority of the members follows; its position.
    /// # Panics
    /// There is none in time.
    #[must_use]
    #[track_caller]
    pub fn leader(&self) -> usize {
        eventually("a majority follows one leader", || self.leader_now())
    }

    /// The leader that a majority of the members follows, if there is one now.
    #[must_use]
    pub fn leader_now(&self) -> Option<usize> {
        let statuses = self.statuses();
        let leads = |(_, status): &&(usize, RaftStatus)| status.role == Role::Leader;
        let (position, leader) = statuses.iter().filter(leads).max_by_key(|(_, status)| status.term)?;
        let voters = leader.voters();
        let follows = |(_, status): &&(usize, RaftStatus)| {
            status.leader_id == leader.node_id && status.term == leader.term && voters.contains(&status.node_id)
        };
        (statuses.iter().filter(follows).count() > voters.len() / 2).then_some(*position)
    }

    /// What the nodes that run say, with their positions.
    #[must_use]
    pub fn statuses(&self) -> Vec<(usize, RaftStatus)> {
        self.nodes.iter().enumerate().filter_map(|(position, node)| Some((position, node.try_status()?))).collect()
    }

    /// Positions of the followers and learners.
    /// # Panics
    /// There is no leader in time.
    #[must_use]
    #[track_caller]
    pub fn followers(&self) -> Vec<usize> {
        self.others(self.leader())
    }

    /// Waits until all nodes that run follow one leader and have applied all of its log.
    /// # Panics
    /// They have not in time.
    #[track_caller]
    pub fn wait_converged(&self) -> RaftStatus {
        let active: Vec<usize> = self.positions().filter(|position| self.nodes[*position].is_active()).collect();
        eventually("all nodes have applied one leader's log", || {
            let statuses = self.statuses();
            let (_, leader) = statuses.iter().find(|(_, status)| status.role == Role::Leader)?;
            let equal = statuses.iter().all(|(_, status)| {
                (status.leader_id, status.term, status.applied_index) == (leader.node_id, leader.term, leader.last_index)
            });
            (equal && statuses.len() == active.len()).then(|| leader.clone())
        })
    }

    /// Waits until a node has applied what the group had committed when this was called.
    /// # Panics
    /// It has not in time.
    #[track_caller]
    pub fn wait_caught_up(&self, position: usize) {
        let commit_index = self.statuses().iter().map(|(_, status)| status.commit_index).max().unwrap_or(0);
        eventually("the node has caught up", || {
            self.nodes[position].try_status().filter(|status| status.leader_id != 0 && status.applied_index >= commit_index)
        });
    }

    /// Starts a node that does not run, and waits until it has caught up.
    #[track_caller]
    pub fn bring_back(&mut self, position: usize) {
        self.start_node(position);
        self.nodes[position].wait_ready();
        self.wait_caught_up(position);
    }

    /// The id that a node has as a member.
    #[must_use]
    #[track_caller]
    pub fn node_id(&self, position: usize) -> u64 {
        self.nodes[position].status().node_id
    }
}

impl Index<usize> for Cluster {
    type Output = Node;

    fn index(&self, position: usize) -> &Node {
        &self.nodes[position]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, position: usize) -> &mut Node {
        &mut self.nodes[position]
    }
}
