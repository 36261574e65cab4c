//! Changes merged with the items below them, in the order of an iteration.
//! Both sides yield strictly ordered keys; where both have a key, the change wins, and a deletion hides the item below it.

use std::iter::Peekable;

use bytes::Bytes;

use super::{Direction, EngineResult, Items};

/// An iteration over changes and what stands below them. `None` as a change is a deletion.
pub(super) struct Merged<'a, C: Iterator<Item = (Bytes, Option<Bytes>)>> {
    changes: Peekable<C>,
    base: Peekable<Items<'a>>,
    direction: Direction,
}

impl<'a, C: Iterator<Item = (Bytes, Option<Bytes>)>> Merged<'a, C> {
    /// Merges two iterations in the same direction.
    pub(super) fn new(changes: C, base: Items<'a>, direction: Direction) -> Self {
        Self { changes: changes.peekable(), base: base.peekable(), direction }
    }
}

impl<C: Iterator<Item = (Bytes, Option<Bytes>)>> Iterator for Merged<'_, C> {
    type Item = EngineResult<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((key, _)) = self.changes.peek() else { return self.base.next() };
            match self.base.peek() {
                Some(Err(_)) => return self.base.next(),
                Some(Ok((below, _))) => {
                    let base_is_first = match self.direction {
                        Direction::Forward => below < key,
                        Direction::Reverse => below > key,
                    };
                    if base_is_first {
                        return self.base.next();
                    }
                    if below == key {
                        self.base.next();
                    }
                }
                None => {}
            }
            if let Some((key, Some(value))) = self.changes.next() {
                return Some(Ok((key, value)));
            }
        }
    }
}
