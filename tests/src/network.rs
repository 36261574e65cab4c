//! The network between nodes, with faults: every node is reached through a proxy, and each link between two nodes can be cut, slowed down or
//! reset. A link is directed: bytes from node A to node B, whichever of them opened the connection.
//! A cut holds bytes back, as a network does that loses packets: no end of a connection learns of it, and after `heal` nothing of the
//! stream is missing. A delay lets bytes arrive later, in their order; a stall lets few of them pass; a reset ends connections at once, with
//! what was under way, and both ends learn of it. What each fault held up is counted, so that a test can tell that it met something.
//! The proxy learns from the kernel who has connected: it looks for the socket in `/proc`. Linux only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rustix::net::{connect_unspec, sockopt};

use crate::address;

/// Bytes read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces of one connection that may be on their way in one direction; then the sender has to wait.
const PIECES_MAX: usize = 64;
/// A stalled link lets bytes pass so many times a second, a few at a time.
const STALL_STEPS_PER_SECOND: u32 = 20;
const STALL_STEP: Duration = Duration::from_millis(1_000 / STALL_STEPS_PER_SECOND as u64);

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

/// How much later bytes arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// At least this.
    pub min: Duration,
    /// And up to this in addition, another time for every piece.
    pub jitter: Duration,
}

/// A fault that lets bytes arrive late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// A cut.
    Cut,
    /// A delay.
    Delay,
    /// A stall.
    Stall,
}

/// A connection that the proxy carries.
#[derive(Debug)]
struct Connection {
    /// From the node that opened it.
    link: Link,
    /// Its sockets: towards the node that opened it, and towards the other one as soon as it is connected.
    ends: Vec<TcpStream>,
}

#[derive(Debug, Default)]
struct State {
    cut: BTreeSet<Link>,
    delays: BTreeMap<Link, Delay>,
    /// Bytes per second that stalled links let pass.
    rates: BTreeMap<Link, u32>,
    /// Bytes that each fault has held up so far.
    held: BTreeMap<(Hold, Link), u64>,
    /// Those that are carried, by a number that is given out once.
    connections: BTreeMap<u64, Connection>,
    connections_ever: u64,
    /// The present process of each node.
    processes: BTreeMap<usize, u32>,
    closed: bool,
}

impl State {
    fn hold(&mut self, hold: Hold, link: Link, bytes: usize) {
        *self.held.entry((hold, link)).or_default() += bytes as u64;
    }
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

    /// Waits with some bytes while a link is cut. False if the connection was reset, or the network is gone.
    /// The begin and the end of a stream count as a byte, as they do in TCP's sequence numbers.
    fn pass(&self, link: Link, connection: u64, bytes: usize) -> bool {
        let goes_on = |state: &State| !state.closed && state.connections.contains_key(&connection);
        let mut state = self.lock();
        if goes_on(&state) && state.cut.contains(&link) {
            state.hold(Hold::Cut, link, bytes.max(1));
        }
        let state = self.changed.wait_while(state, |state| goes_on(state) && state.cut.contains(&link));
        goes_on(&state.unwrap_or_else(PoisonError::into_inner))
    }

    /// When a piece of so many bytes that was sent now arrives.
    fn due(&self, link: Link, bytes: usize) -> Instant {
        let mut state = self.lock();
        let delay = state.delays.get(&link).copied().unwrap_or_default();
        if delay != Delay::default() {
            state.hold(Hold::Delay, link, bytes.max(1));
        }
        Instant::now() + delay.min + rand::rng().random_range(Duration::ZERO..=delay.jitter)
    }

    fn enter(&self, link: Link, end: TcpStream) -> u64 {
        let mut state = self.lock();
        state.connections_ever += 1;
        let connection = state.connections_ever;
        state.connections.insert(connection, Connection { link, ends: vec![end] });
        connection
    }

    /// False if the connection was reset meanwhile.
    fn add_end(&self, connection: u64, end: TcpStream) -> bool {
        let mut state = self.lock();
        state.connections.get_mut(&connection).map(|connection| connection.ends.push(end)).is_some()
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
        self.split(&[position]);
    }

    /// Cuts some nodes off from all others, in both directions; among themselves they reach each other.
    pub fn split(&self, side: &[usize]) {
        for inside in side {
            for outside in (0..self.addresses.len()).filter(|other| !side.contains(other)) {
                self.cut(*inside, outside);
                self.cut(outside, *inside);
            }
        }
    }

    /// Lets what a node sends to another arrive later.
    pub fn delay(&self, from: usize, to: usize, delay: Delay) {
        self.shared.lock().delays.insert(Link { from, to }, delay);
    }

    /// Lets so many bytes a second pass from a node to another, on each connection.
    /// # Panics
    /// None at all: that is a cut.
    pub fn stall(&self, from: usize, to: usize, bytes_per_second: u32) {
        assert!(bytes_per_second > 0, "a link without any bytes is one that is cut");
        self.shared.lock().rates.insert(Link { from, to }, bytes_per_second);
    }

    /// How many bytes a kind of fault has held up so far of what a node sends to another.
    #[must_use]
    pub fn held(&self, hold: Hold, from: usize, to: usize) -> u64 {
        self.shared.lock().held.get(&(hold, Link { from, to })).copied().unwrap_or_default()
    }

    /// Ends all connections of a node with others at once, in either direction, and says how many those were.
    pub fn reset(&self, position: usize) -> usize {
        let of_node = |connection: &Connection| connection.link.from == position || connection.link.to == position;
        let mut state = self.shared.lock();
        let reset: Vec<(u64, Connection)> = state.connections.extract_if(.., |_, connection| of_node(connection)).collect();
        // Under the lock, so that nobody who notices it at one end closes the other one properly.
        reset.iter().flat_map(|(_, connection)| &connection.ends).for_each(abort);
        drop(state);
        self.shared.changed.notify_all();
        reset.len()
    }

    /// Makes everything pass again, what was held back first.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        state.cut.clear();
        state.delays.clear();
        state.rates.clear();
        drop(state);
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

/// Ends a connection so that its other end sees a reset, although threads of ours still hold the socket.
fn abort(end: &TcpStream) {
    if connect_unspec(end).is_err() {
        // A kernel that does not disconnect under a waiting thread; so the reset follows when the last holder closes it. Sockets that
        // have ended already cannot be shut down.
        drop((sockopt::set_socket_linger(end, Some(Duration::ZERO)), end.shutdown(Shutdown::Both)));
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
    let Ok(end) = stream.try_clone() else { return };
    let link = Link { from, to };
    let connection = shared.enter(link, end);
    if shared.pass(link, connection, 0)
        && let Ok(other) = TcpStream::connect(target)
        && let Ok(end) = other.try_clone()
        && shared.add_end(connection, end)
    {
        let back = Direction { link: link.reverse(), connection, from: &other, to: stream };
        let forth = Direction { link, connection, from: stream, to: &other };
        // They end together, since both sockets are shut down by whichever is first.
        thread::scope(|scope| {
            scope.spawn(|| back.carry(shared));
            forth.carry(shared);
        });
    }
    shared.lock().connections.remove(&connection);
}

/// One direction of a connection.
struct Direction<'a> {
    link: Link,
    connection: u64,
    from: &'a TcpStream,
    to: &'a TcpStream,
}

/// Bytes and when they arrive; no bytes are the end of the stream.
type Piece = (Instant, Vec<u8>);

impl Direction<'_> {
    /// This thread takes bytes in, another gives them out when they are due, so that a delay is no bottleneck.
    fn carry(&self, shared: &Shared) {
        // Sockets that have ended already refuse it.
        drop(self.to.set_nodelay(true));
        let (sender, pieces) = sync_channel::<Piece>(PIECES_MAX);
        thread::scope(|scope| {
            scope.spawn(move || self.give_out(shared, &pieces));
            let mut bytes = vec![0; PIECE_BYTES];
            let mut due = Instant::now();
            loop {
                let mut from = self.from;
                let length = from.read(&mut bytes).unwrap_or(0);
                due = due.max(shared.due(self.link, length));
                if sender.send((due, bytes[..length].to_vec())).is_err() || length == 0 {
                    return;
                }
            }
        });
    }

    fn give_out(&self, shared: &Shared, pieces: &Receiver<Piece>) {
        for (due, bytes) in pieces {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // The end of a stream is news that a cut holds back as well.
            if !shared.pass(self.link, self.connection, bytes.len()) || bytes.is_empty() || !self.write(shared, due, &bytes) {
                break;
            }
        }
        let _no_reset_is_under_way = shared.lock();
        // Sockets that have ended already cannot be shut down.
        drop((self.from.shutdown(Shutdown::Both), self.to.shutdown(Shutdown::Both)));
    }

    /// Writes what was due as fast as the link lets. False if that came to an end.
    fn write(&self, shared: &Shared, due: Instant, mut bytes: &[u8]) -> bool {
        let mut to = self.to;
        while !bytes.is_empty() {
            let rate = shared.lock().rates.get(&self.link).copied();
            let step = rate.map_or(bytes.len(), |rate| (rate / STALL_STEPS_PER_SECOND).max(1) as usize).min(bytes.len());
            // The first step after a rest is in time; what is behind it, in this piece or a later one, waits.
            if rate.is_some() && due.elapsed() >= STALL_STEP / 2 {
                shared.lock().hold(Hold::Stall, self.link, step);
            }
            if !shared.pass(self.link, self.connection, step) || to.write_all(&bytes[..step]).is_err() {
                return false;
            }
            bytes = &bytes[step..];
            if rate.is_some() {
                thread::sleep(STALL_STEP);
            }
        }
        true
    }
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

    /// A connection from this process, as node 1, through the proxy of node 0; the two ends that nodes would have.
    fn connection(network: &mut Network) -> [TcpStream; 2] {
        let target = TcpListener::bind((address::own_ip(), 0)).expect("a port");
        let address = network.add_proxy(0, target.local_addr().expect("bound"));
        network.set_process(1, std::process::id());
        let near = TcpStream::connect(address).expect("the proxy listens");
        let (far, _) = target.accept().expect("the proxy connects");
        [&near, &far].into_iter().for_each(|end| end.set_read_timeout(Some(PATIENCE)).expect("a timeout"));
        [near, far]
    }

    /// Sends bytes, and says how long it took until all were there.
    fn send(mut from: &TcpStream, mut to: &TcpStream, bytes: &[u8]) -> Duration {
        let began = Instant::now();
        let mut received = vec![0; bytes.len()];
        from.write_all(bytes).expect("the connection is open");
        to.read_exact(&mut received).expect("the bytes arrive");
        assert!(received == bytes, "as they were sent");
        began.elapsed()
    }

    #[test]
    fn a_cut_link_holds_bytes_back_until_it_is_healed() {
        let mut network = Network::new();
        let [mut near, mut far] = connection(&mut network);
        send(&near, &far, b"a");
        network.cut(1, 0);
        near.write_all(b"b").expect("open");
        far.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        assert!(far.read(&mut [0]).is_err(), "nothing passes");
        assert_eq!((network.held(Hold::Cut, 1, 0), network.held(Hold::Cut, 0, 1)), (1, 0));
        // The other direction is open.
        send(&far, &near, b"c");
        network.heal();
        let mut byte = [0];
        let arrived = wait_until(Instant::now() + PATIENCE, || far.read(&mut byte).is_ok());
        assert_eq!((arrived, &byte), (true, b"b"));
        send(&near, &far, b"d");
        assert_eq!(network.held(Hold::Cut, 1, 0), 1, "what passes at once is not held");
    }

    #[test]
    fn a_delay_is_no_bottleneck_and_keeps_the_order() {
        let mut network = Network::new();
        let [near, far] = connection(&mut network);
        let delay = Delay { min: Duration::from_millis(100), jitter: Duration::from_millis(100) };
        network.delay(1, 0, delay);
        let began = Instant::now();
        assert!(send(&near, &far, b"a") >= delay.min, "it takes its time");
        let pieces: Vec<u8> = (0..50).collect();
        for piece in &pieces {
            (&near).write_all(&[*piece]).expect("open");
            thread::sleep(Duration::from_millis(1));
        }
        let mut received = vec![0; pieces.len()];
        (&far).read_exact(&mut received).expect("open");
        assert_eq!(received, pieces);
        // One after the other they would take five seconds at least.
        assert!(began.elapsed() < Duration::from_secs(4), "they travel beside each other: {:?}", began.elapsed());
        network.heal();
        send(&near, &far, b"b");
        assert_eq!([Hold::Delay, Hold::Cut].map(|hold| network.held(hold, 1, 0)), [1 + pieces.len() as u64, 0]);
    }

    #[test]
    fn a_stalled_link_lets_few_bytes_pass_until_it_is_healed() {
        let mut network = Network::new();
        let [near, far] = connection(&mut network);
        network.stall(1, 0, 10_000);
        let took = send(&near, &far, &[7; 5_000]);
        assert!(took >= Duration::from_millis(400), "half a second's worth took {took:?}");
        assert_eq!(network.held(Hold::Stall, 1, 0), 4_500, "all but the first step");
        (&near).write_all(&vec![7; 1 << 20]).expect("open");
        network.heal();
        (&far).read_exact(&mut vec![0; 1 << 20]).expect("the rest arrives at once, not in a hundred seconds");
    }

    #[test]
    fn a_reset_is_seen_by_both_ends_at_once() {
        let mut network = Network::new();
        let ends = connection(&mut network);
        send(&ends[0], &ends[1], b"a");
        // Also by what is held back.
        network.cut(1, 0);
        (&ends[0]).write_all(b"lost").expect("open");
        assert_eq!(network.reset(0), 1);
        for mut end in &ends {
            let error = end.read(&mut [0]).expect_err("the connection is gone");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert_eq!(network.reset(0), 0, "it is gone for good");
    }
}
