//! The network between nodes, with faults: every node is reached through a proxy, and links between two nodes can be cut in each direction.
//! A cut holds bytes back, as a network does that loses packets: no end of a connection learns of it, and after `heal` nothing of the
//! stream is missing. A link is directed: bytes from node A to node B, whichever of them opened the connection.
//! The proxy learns from the kernel who has connected: it looks for the socket in `/proc`. Linux only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::address;

/// Bytes read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// A directed link between two nodes, by their positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    from: usize,
    to: usize,
}

impl Link {
    const fn reverse(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

#[derive(Debug, Default)]
struct State {
    cut: BTreeSet<Link>,
    /// The present process of each node.
    processes: BTreeMap<usize, u32>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while a link is cut. False if the network is gone.
    fn pass(&self, link: Link) -> bool {
        let state = self.lock();
        let state = self.changed.wait_while(state, |state| !state.closed && state.cut.contains(&link));
        !state.unwrap_or_else(PoisonError::into_inner).closed
    }
}

/// The proxies of all nodes, and the faults.
#[derive(Debug, Default)]
pub struct Network {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

impl Network {
    /// A network without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a proxy before the node at `position`, which listens on `target`; the address that others must use.
    /// # Panics
    /// Positions are not given in their order, or there is no port.
    pub fn add_proxy(&mut self, position: usize, target: SocketAddr) -> SocketAddr {
        assert_eq!(position, self.addresses.len(), "nodes are added in their order");
        let address = address::reserve();
        let listener = TcpListener::bind(address).expect("a reserved port is free");
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || accept(&listener, &shared, position, target));
        self.addresses.push(address);
        address
    }

    /// The proxy's address of a node.
    #[must_use]
    pub fn address(&self, position: usize) -> SocketAddr {
        self.addresses[position]
    }

    /// Says which process is the node, to be called at every start.
    pub fn set_process(&self, position: usize, pid: u32) {
        self.shared.lock().processes.insert(position, pid);
    }

    /// Holds back what a node sends to another.
    pub fn cut(&self, from: usize, to: usize) {
        self.shared.lock().cut.insert(Link { from, to });
    }

    /// Cuts a node off from all others, in both directions.
    pub fn isolate(&self, position: usize) {
        for other in (0..self.addresses.len()).filter(|other| *other != position) {
            self.cut(position, other);
            self.cut(other, position);
        }
    }

    /// Makes everything pass again, what was held back first.
    pub fn heal(&self) {
        self.shared.lock().cut.clear();
        self.shared.changed.notify_all();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        for address in &self.addresses {
            // Wakes the thread that accepts; it has gone if nobody answers.
            drop(TcpStream::connect(address));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, to: usize, target: SocketAddr) {
    for stream in listener.incoming() {
        if shared.lock().closed {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || serve(&stream, &shared, to, target));
    }
}

/// Carries one connection until one of its ends closes.
fn serve(stream: &TcpStream, shared: &Arc<Shared>, to: usize, target: SocketAddr) {
    // A node that has ended since is of no interest.
    let Some(from) = source_of(stream, shared) else { return };
    let link = Link { from, to };
    if !shared.pass(link) {
        return;
    }
    let Ok(other) = TcpStream::connect(target) else { return };
    let (Ok(stream_back), Ok(other_back)) = (stream.try_clone(), other.try_clone()) else { return };
    let back = {
        let shared = Arc::clone(shared);
        thread::spawn(move || carry(other_back, stream_back, &shared, link.reverse()))
    };
    let Ok(forth) = stream.try_clone() else { return };
    carry(forth, other, shared, link);
    // It ends by itself, since both sockets are shut down.
    drop(back.join());
}

fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Shared, link: Link) {
    drop((from.set_nodelay(true), to.set_nodelay(true)));
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if !shared.pass(link) || to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    // The end of a connection is news that a cut holds back as well. Sockets that are closed already cannot be shut down.
    shared.pass(link);
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}

/// The node whose process opened a connection.
fn source_of(stream: &TcpStream, shared: &Shared) -> Option<usize> {
    let (SocketAddr::V4(source), SocketAddr::V4(own)) = (stream.peer_addr().ok()?, stream.local_addr().ok()?) else { return None };
    let inode = socket_inode(&fs::read_to_string("/proc/net/tcp").ok()?, source, own)?;
    let processes = shared.lock().processes.clone();
    processes.into_iter().find(|(_, pid)| has_socket(*pid, inode)).map(|(position, _)| position)
}

/// The inode of the socket with these two addresses, from `/proc/net/tcp` (proc_net_tcp(5)).
fn socket_inode(table: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u64> {
    let wanted = (hexadecimal(local), hexadecimal(remote));
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let found = *fields.get(1)? == wanted.0 && *fields.get(2)? == wanted.1;
        if found { fields.get(9)?.parse().ok() } else { None }
    })
}

/// An address as the kernel prints it: the four bytes as one number of this machine, then the port.
fn hexadecimal(address: SocketAddrV4) -> String {
    let ip: Ipv4Addr = *address.ip();
    format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())
}

fn has_socket(pid: u32, inode: u64) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| fs::metadata(entry.path()).is_ok_and(|metadata| metadata.ino() == inode))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::wait::{PATIENCE, wait_until};

    #[test]
    fn the_process_behind_a_connection_is_found() {
        let listener = TcpListener::bind((address::own_ip(), 0)).expect("a port");
        let _near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (far, _) = listener.accept().expect("accepts");
        let network = Network::new();
        assert_eq!(source_of(&far, &network.shared), None);
        network.set_process(4, std::process::id());
        assert_eq!(source_of(&far, &network.shared), Some(4));
    }

    #[test]
    fn a_cut_link_holds_bytes_back_until_it_is_healed() {
        let target = TcpListener::bind((address::own_ip(), 0)).expect("a port");
        let mut network = Network::new();
        // Position 0 is the target, 1 is this process as the one that connects.
        let address = network.add_proxy(0, target.local_addr().expect("bound"));
        network.set_process(1, std::process::id());
        let mut near = TcpStream::connect(address).expect("the proxy listens");
        let (mut far, _) = target.accept().expect("the proxy connects");
        let mut byte = [0];
        near.write_all(b"a").expect("open");
        far.read_exact(&mut byte).expect("open");
        network.cut(1, 0);
        near.write_all(b"b").expect("open");
        far.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        assert!(far.read(&mut byte).is_err(), "nothing passes");
        // The other direction is open.
        far.write_all(b"c").expect("open");
        near.read_exact(&mut byte).expect("open");
        assert_eq!(&byte, b"c");
        network.heal();
        let arrived = wait_until(Instant::now() + PATIENCE, || far.read(&mut byte).is_ok());
        assert_eq!((arrived, &byte), (true, b"b"));
    }
}
