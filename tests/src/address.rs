//! Addresses for nodes, given out so that tests that run beside each other never meet.
//! The system chooses the ports, on a loopback address that belongs to this process alone: it follows from the process's id. Another
//! process can then not take a port between the moment it was found free and the moment the node binds it, and neither can an outgoing
//! connection, whose own end is on 127.0.0.1. Within the process a port is given out once. Linux only: all of 127.0.0.0/8 is loopback.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Ports on this process's address, and first ports of clusters, that were given out.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// First ports that `redraft cluster` is given: below those that the system chooses, also with 10,000 added.
const BASE_PORT_MIN: u16 = 10_010;
/// Distance of two of them; more than the nodes of a cluster.
const BASE_PORT_STEP: u16 = 10;
/// How many there are. The admin ports begin 1,000 above the first, so that no cluster's meet another's.
const BASE_PORTS: u16 = 98;
/// What `redraft cluster` adds for the admin and the peer ports.
const CLUSTER_PORT_OFFSETS: [u16; 3] = [0, 1_000, 10_000];

/// The loopback address of this process.
#[must_use]
pub fn own_ip() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    // The largest id of a process on Linux has 22 bits.
    Ipv4Addr::new(127, 64 + (high & 0x3f), middle, low)
}

/// An address that nobody listens on, and that is not given out again.
/// # Panics
/// The system has no port left.
#[must_use]
pub fn reserve() -> SocketAddr {
    loop {
        let listener = TcpListener::bind((own_ip(), 0)).expect("the system has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(address.port()) {
            return address;
        }
    }
}

/// A base port for `redraft cluster start`, whose nodes listen on 127.0.0.1.
/// # Panics
/// All are in use.
#[must_use]
pub fn reserve_base_port(nodes: u16) -> u16 {
    // Processes that run beside each other have ids near each other, and so begin at different places.
    let first = (std::process::id() % u32::from(BASE_PORTS)) as u16;
    let candidates = (0..BASE_PORTS).map(|step| BASE_PORT_MIN + (first + step) % BASE_PORTS * BASE_PORT_STEP);
    let is_free = |base_port: &u16| {
        let ports = (0..nodes).flat_map(|node| CLUSTER_PORT_OFFSETS.map(|offset| base_port + node + offset));
        let sockets: Vec<_> = ports.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
        sockets.iter().all(Result::is_ok) && GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(*base_port)
    };
    candidates.into_iter().find(is_free).expect("a base port is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_out_once() {
        let addresses: BTreeSet<SocketAddr> = (0..100).map(|_| reserve()).collect();
        assert_eq!(addresses.len(), 100);
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && TcpListener::bind(address).is_ok()));
    }

    #[test]
    fn base_ports_leave_room_for_a_cluster() {
        let one = reserve_base_port(3);
        let other = reserve_base_port(3);
        assert!(one.abs_diff(other) >= BASE_PORT_STEP, "{one} {other}");
    }
}
