//! The servers that are compared, and which processes they are.

use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use super::cells::Entrance;
use super::generator;
use crate::cluster::Cluster;
use crate::dir::TestDir;
use crate::node::Node;
use crate::redis::RedisServer;

/// What a process is for its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// All of the server.
    Alone,
    /// The leader.
    Leader,
    /// The follower that clients may enter by.
    Entrance,
    /// The other follower.
    Follower,
}

impl Part {
    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Part::Alone => "alone",
            Part::Leader => "leader",
            Part::Entrance => "entrance",
            Part::Follower => "follower",
        }
    }
}

/// All servers, running.
#[derive(Debug)]
pub struct Subjects {
    redis: RedisServer,
    one: Node,
    three: Cluster,
    /// Positions in the cluster.
    leader: usize,
    followers: [usize; 2],
}

impl Subjects {
    /// Starts them, with their data below a directory, or where temporary files go.
    /// # Panics
    /// One does not start.
    #[must_use]
    pub fn start(parent: Option<&Path>) -> Subjects {
        let dir = || parent.map_or_else(TestDir::new, TestDir::below);
        let redis = RedisServer::start(dir());
        let one = Node::alone_in(dir(), &[]);
        let three = Cluster::start_in(dir(), 3, &[]);
        let leader = three.leader();
        let followers = three.others(leader).try_into().expect("two of three");
        Subjects { redis, one, three, leader, followers }
    }

    /// Writes all keys that will be asked for.
    /// # Errors
    /// A server does not take them.
    pub fn fill(&self) -> Result<(), String> {
        [Entrance::Redis, Entrance::One, Entrance::Leader].into_iter().try_for_each(|entrance| generator::fill(self.address(entrance)))
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self, entrance: Entrance) -> SocketAddr {
        match entrance {
            Entrance::Redis => self.redis.address(),
            Entrance::One => self.one.address(),
            Entrance::Leader => self.three[self.leader].address(),
            Entrance::Follower => self.three[self.followers[0]].address(),
        }
    }

    /// The processes that serve whoever enters there, with their ids.
    #[must_use]
    pub fn processes(&self, entrance: Entrance) -> Vec<(Part, u32)> {
        let node = |position: usize| self.three[position].process().pid();
        match entrance {
            Entrance::Redis => vec![(Part::Alone, self.redis.process().pid())],
            Entrance::One => vec![(Part::Alone, self.one.process().pid())],
            Entrance::Leader => {
                vec![
                    (Part::Leader, node(self.leader)),
                    (Part::Follower, node(self.followers[0])),
                    (Part::Follower, node(self.followers[1])),
                ]
            }
            Entrance::Follower => {
                vec![
                    (Part::Leader, node(self.leader)),
                    (Part::Entrance, node(self.followers[0])),
                    (Part::Follower, node(self.followers[1])),
                ]
            }
        }
    }

    /// A directory on the disk that all of them use.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.one.dir()
    }

    /// Whether the node that led at the start leads now. If not, figures of leader and follower are mixed up.
    #[must_use]
    pub fn leader_stayed(&self) -> bool {
        self.three.leader_now() == Some(self.leader)
    }
}
