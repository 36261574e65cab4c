//! Places for connections, of which no address may take all: whoever looks after the node must get in when one client leaves its connections
//! open. How many there are in all, the listener sees to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections by address, of those that have any. Shared with the places that are taken, which give themselves back.
#[derive(Clone, Debug)]
pub(super) struct Places {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_address_max: usize,
}

/// A place, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    pub(super) fn new(per_address_max: usize) -> Self {
        Self { taken: Arc::default(), per_address_max }
    }

    /// A place for a connection from this address; none if it has as many as it may.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= self.per_address_max {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get_mut(&self.address).expect("the address has this place");
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_has_only_so_many_places() {
        let places = Places::new(2);
        let [one, other] = [1, 2].map(|last| IpAddr::from(Ipv4Addr::new(192, 0, 2, last)));
        let first = places.take(one).expect("there is none yet");
        let second = places.take(one).expect("there is one");
        assert!(places.take(one).is_none());
        let third = places.take(other).expect("another address has its own");
        drop(first);
        let fourth = places.take(one).expect("one was given back");
        drop((second, third, fourth));
        assert_eq!(places.taken.lock().expect("nobody panicked").len(), 0);
    }
}
