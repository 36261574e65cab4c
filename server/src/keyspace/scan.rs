//! Iteration over the scan index: pages of SCAN, and the choice of RANDOMKEY.
//! A cursor names the position to continue from, so it holds across nodes, restarts and failovers, and a key that exists from the first
//! page to the last is returned exactly once. Keys that share a position stand in one page.
//! Work is bounded by the number of keys examined and by the bytes of a page; both bounds give way to the end of a position only.

use bytes::Bytes;
use raftlog::engine::{Direction, EngineResult, KeyRange};

use super::encoding::{KeyType, decode_scan_key, decode_scan_value, namespace_range, scan_key};
use super::position::Position;
use super::reader::{ReadError, Reader};
use super::{Namespace, SCAN};

/// A page of SCAN ends, at the next position, once its keys have this many bytes.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A page of SCAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPage {
    /// Where the next page begins; none after the last.
    pub next: Option<Position>,
    /// The keys of this page that exist and were accepted.
    pub keys: Vec<Bytes>,
}

impl Reader<'_> {
    /// The keys from a position on, of which `accepts` decides by key and type. At least `examined_max` keys are examined, unless there
    /// are fewer, and more only where they share a position.
    /// # Errors
    /// `TimeNeeded`, and the engine's.
    pub fn scan(
        &self,
        from: Position,
        examined_max: usize,
        mut accepts: impl FnMut(&[u8], KeyType) -> bool,
    ) -> Result<ScanPage, ReadError> {
        let database = self.database()?;
        let mut page = ScanPage { next: None, keys: Vec::new() };
        let mut bytes = 0;
        let mut last = None;
        for (examined, item) in self.index(database.namespace, from, None).enumerate() {
            let (position, key, key_type) = item?;
            if (examined >= examined_max || bytes >= PAGE_BYTES_MAX) && last != Some(position) {
                page.next = Some(position);
                break;
            }
            last = Some(position);
            // Where no key has a deadline, no key needs a look at its metadata.
            if accepts(&key, key_type) && (database.expires == 0 || self.metadata(&key)?.is_some()) {
                bytes += key.len();
                page.keys.push(key);
            }
        }
        Ok(page)
    }

    /// An existing key, chosen by `seed`; none if the database is empty. Keys are as likely as the gap before their position is wide.
    /// # Errors
    /// `TimeNeeded`, and the engine's.
    pub fn random_key(&self) -> Result<Option<Bytes>, ReadError> {
        let database = self.database()?;
        let middle = Position::from_bits(self.seed());
        let from_middle = self.index(database.namespace, middle, None);
        let up_to_middle = self.index(database.namespace, Position::from_bits(0), Some(middle));
        for item in from_middle.chain(up_to_middle) {
            let (_, key, _) = item?;
            if database.expires == 0 || self.metadata(&key)?.is_some() {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The index from one position up to another, or to its end.
    fn index(
        &self,
        namespace: Namespace,
        from: Position,
        to: Option<Position>,
    ) -> impl Iterator<Item = EngineResult<(Position, Bytes, KeyType)>> {
        let group = self.context.group;
        let start = |position| scan_key(group, namespace, position, b"");
        let range = KeyRange { from: start(from), to: to.map_or_else(|| namespace_range(group, namespace).to, start) };
        let items = (range.from < range.to).then(|| self.view.items(SCAN, &range, Direction::Forward));
        items.into_iter().flatten().map(|item| {
            let (record, value) = item?;
            let (position, key) = decode_scan_key(&record)?;
            Ok((position, key, decode_scan_value(&value)?))
        })
    }
}
