//! Digests of all that a group has stored, by which replicas are compared, and the place where two of them begin to differ.
//! A digest says, per column family, how many keys there are, and a hash of everything up to the end of each of a bounded number of chunks.
//! Two digests therefore tell the first chunk with a difference, however many keys each side has; a digest of that chunk alone, in smaller
//! chunks, tells more, until a chunk is one key. All stored keys and values of the group count: they are replicated, every one.
//! Everything here is a function of a view: same data, same digest, on any engine.

use bytes::Bytes;
use raftlog::engine::{Cf, Direction, EngineResult, KeyRange, View};
use raftlog::message::{GroupDigest, Part, RangeDigest};
use sha2::{Digest as _, Sha256};

use super::{COLUMN_FAMILIES, GroupId, group_range};

/// Chunks of a digest. Keys have up to 64 KiB and the first one of each chunk is kept, so this bounds memory as well.
pub const CHUNKS_MAX: u64 = 128;
const _: () = assert!(CHUNKS_MAX.is_power_of_two());

/// Bytes of a hash: the first half of SHA-256, since nobody can choose what is stored so that replicas differ.
const HASH_BYTES: usize = 16;

/// A digest, and what its replica needs to find the parts again.
pub struct Digested {
    /// The digest.
    pub digest: GroupDigest,
    /// Per column family the first key of each chunk.
    first_keys: Vec<Vec<Bytes>>,
}

/// A closer look at a part.
pub struct Detail {
    /// Its digest, in chunks of the size that was asked for, as many as there may be.
    pub digest: RangeDigest,
    /// Its first key, if there is one.
    pub first_key: Option<Bytes>,
}

/// A digest of everything that the group has in the view. `None` when `go_on`, which is asked before each key, said no.
/// # Errors
/// The engine's.
pub fn digest(view: &dyn View, group: GroupId, go_on: &dyn Fn() -> bool) -> EngineResult<Option<Digested>> {
    let mut digested = Digested { digest: GroupDigest::default(), first_keys: Vec::new() };
    for cf in families() {
        let mut chunks = Chunks::new(1);
        for item in view.items(cf, &group_range(group), Direction::Forward) {
            if !go_on() {
                return Ok(None);
            }
            let (key, value) = item?;
            if chunks.is_full() {
                chunks.merge_pairs();
            }
            chunks.push(&key, &value);
        }
        digested.first_keys.push(std::mem::take(&mut chunks.first_keys));
        digested.digest.families.push(chunks.digest());
    }
    Ok(Some(digested))
}

/// A closer look at a part of what was digested. `None` when `go_on`, which is asked before each key, said no.
/// # Errors
/// The engine's.
pub fn detail(view: &dyn View, group: GroupId, digested: &Digested, part: Part, go_on: &dyn Fn() -> bool) -> EngineResult<Option<Detail>> {
    let mut chunks = Chunks::new(part.chunk_items.max(1));
    let at = usize::try_from(part.family).unwrap_or(usize::MAX);
    let known = digested.digest.families.get(at).zip(digested.first_keys.get(at)).zip(families().nth(at));
    let Some(((family, first_keys), cf)) = known.filter(|((family, _), _)| part.first_item < family.items) else {
        return Ok(Some(Detail { digest: chunks.digest(), first_key: None }));
    };
    // Not from the beginning, but from the beginning of the chunk it is in.
    let chunk = part.first_item / family.chunk_items;
    let from = first_keys.get(usize::try_from(chunk).unwrap_or(usize::MAX)).expect("there is a first key of each chunk");
    let range = KeyRange { from: from.to_vec(), ..group_range(group) };
    let mut to_skip = part.first_item - chunk * family.chunk_items;
    for item in view.items(cf, &range, Direction::Forward) {
        if !go_on() {
            return Ok(None);
        }
        let (key, value) = item?;
        if to_skip > 0 {
            to_skip -= 1;
        } else if chunks.is_full() {
            break;
        } else {
            chunks.push(&key, &value);
        }
    }
    let first_key = chunks.first_keys.first().cloned();
    Ok(Some(Detail { digest: chunks.digest(), first_key }))
}

/// What stands for all of a digest.
#[must_use]
pub fn hash(digest: &GroupDigest) -> Bytes {
    let mut hasher = Sha256::new();
    for family in &digest.families {
        hasher.update(family.items.to_be_bytes());
        hasher.update(last_hash(family));
    }
    Bytes::copy_from_slice(&hasher.finalize()[..HASH_BYTES])
}

/// Whether a digest from outside makes sense: as many column families as there are, as many hashes as chunks.
#[must_use]
pub fn is_valid(digest: &GroupDigest) -> bool {
    digest.families.len() == COLUMN_FAMILIES.len() && digest.families.iter().all(is_valid_range)
}

/// Whether a digest from outside makes sense: as many hashes as chunks.
#[must_use]
pub fn is_valid_range(digest: &RangeDigest) -> bool {
    let chunks = digest.items.div_ceil(digest.chunk_items.max(1));
    digest.chunk_items.is_power_of_two() && chunks <= CHUNKS_MAX && digest.hashes.len() as u64 == chunks * HASH_BYTES as u64
}

/// The first chunk in which two valid digests differ.
#[must_use]
pub fn first_differing_part(one: &GroupDigest, other: &GroupDigest) -> Option<Part> {
    (0..).zip(one.families.iter().zip(&other.families)).find_map(|(family, (one, other))| {
        first_differing_chunk(one, other).map(|(first_item, chunk_items)| Part { family, first_item, chunk_items })
    })
}

/// How the search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look closer at this part.
    Examine(Part),
    /// The first key of the part is the one, where both have it; else the one that comes first.
    Found,
    /// The two do not differ there.
    Lost,
}

/// The part in which to look for the difference that is in a chunk.
#[must_use]
pub fn closer(chunk: Part) -> Part {
    Part { chunk_items: (chunk.chunk_items / CHUNKS_MAX).max(1), ..chunk }
}

/// How the search goes on after both replicas had a closer look at `part`.
#[must_use]
pub fn next(part: Part, one: &RangeDigest, other: &RangeDigest) -> Next {
    match first_differing_chunk(one, other) {
        None => Next::Lost,
        Some((0, 1)) => Next::Found,
        Some((first_item, chunk_items)) => {
            Next::Examine(closer(Part { first_item: part.first_item.saturating_add(first_item), chunk_items, ..part }))
        }
    }
}

/// How many keys come before the first chunk that differs, and how large it is. Hashes go over all that comes before, so of two digests in
/// chunks of different sizes the finer one is read at the coarser one's ends.
fn first_differing_chunk(one: &RangeDigest, other: &RangeDigest) -> Option<(u64, u64)> {
    let chunk_items = one.chunk_items.max(other.chunk_items);
    let chunks = one.items.max(other.items).div_ceil(chunk_items);
    (0..chunks).map(|chunk| chunk * chunk_items).find_map(|first_item| {
        let differs = hash_of_chunk(one, first_item, chunk_items) != hash_of_chunk(other, first_item, chunk_items);
        differs.then_some((first_item, chunk_items))
    })
}

fn hash_of_chunk(digest: &RangeDigest, first_item: u64, chunk_items: u64) -> Option<&[u8]> {
    if first_item >= digest.items {
        return None;
    }
    let last_item = first_item.saturating_add(chunk_items).min(digest.items) - 1;
    let at = usize::try_from(last_item / digest.chunk_items).ok()? * HASH_BYTES;
    // Of two that end at different places within a chunk, the hashes differ as well.
    digest.hashes.get(at..at + HASH_BYTES)
}

fn last_hash(digest: &RangeDigest) -> &[u8] {
    &digest.hashes[digest.hashes.len().saturating_sub(HASH_BYTES)..]
}

fn families() -> impl Iterator<Item = Cf> {
    (0u8..).take(COLUMN_FAMILIES.len()).map(Cf)
}

/// The first key, with its column family, that one of two views lacks or that has different values in them; for views at hand.
/// # Errors
/// The engines'.
pub fn first_difference(one: &dyn View, other: &dyn View, group: GroupId) -> EngineResult<Option<(Cf, Bytes)>> {
    for cf in families() {
        if let Some(key) = first_difference_in(one, other, cf, &group_range(group))? {
            return Ok(Some((cf, key)));
        }
    }
    Ok(None)
}

fn first_difference_in(one: &dyn View, other: &dyn View, cf: Cf, range: &KeyRange) -> EngineResult<Option<Bytes>> {
    let mut items = (one.items(cf, range, Direction::Forward), other.items(cf, range, Direction::Forward));
    loop {
        match (items.0.next().transpose()?, items.1.next().transpose()?) {
            (None, None) => return Ok(None),
            (Some(one), Some(other)) if one == other => {}
            (one, other) => return Ok(first_key(one.map(|(key, _)| key), other.map(|(key, _)| key))),
        }
    }
}

/// The one that comes first of keys that begin a difference.
#[must_use]
pub fn first_key(one: Option<Bytes>, other: Option<Bytes>) -> Option<Bytes> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Chunks while they are filled.
struct Chunks {
    chunk_items: u64,
    items: u64,
    hasher: Sha256,
    /// Of all chunks but the last one while it is not full.
    hashes: Vec<u8>,
    first_keys: Vec<Bytes>,
}

impl Chunks {
    fn new(chunk_items: u64) -> Self {
        Self { chunk_items, items: 0, hasher: Sha256::new(), hashes: Vec::new(), first_keys: Vec::new() }
    }

    /// Whether a further key would begin a chunk too many.
    fn is_full(&self) -> bool {
        self.items == CHUNKS_MAX.saturating_mul(self.chunk_items)
    }

    fn push(&mut self, key: &Bytes, value: &[u8]) {
        if self.items.is_multiple_of(self.chunk_items) {
            self.first_keys.push(key.clone());
        }
        self.hasher.update((key.len() as u64).to_be_bytes());
        self.hasher.update(key);
        self.hasher.update((value.len() as u64).to_be_bytes());
        self.hasher.update(value);
        self.items += 1;
        if self.items.is_multiple_of(self.chunk_items) {
            self.end_chunk();
        }
    }

    fn end_chunk(&mut self) {
        self.hashes.extend_from_slice(&self.hasher.clone().finalize()[..HASH_BYTES]);
    }

    /// Makes one chunk of two each. All of them are full.
    fn merge_pairs(&mut self) {
        assert!(self.is_full());
        self.chunk_items *= 2;
        self.hashes = self.hashes.chunks_exact(2 * HASH_BYTES).flat_map(|pair| &pair[HASH_BYTES..]).copied().collect();
        self.first_keys = std::mem::take(&mut self.first_keys).into_iter().step_by(2).collect();
    }

    fn digest(mut self) -> RangeDigest {
        if !self.items.is_multiple_of(self.chunk_items) {
            self.end_chunk();
        }
        RangeDigest { items: self.items, chunk_items: self.chunk_items, hashes: self.hashes.into() }
    }
}

#[cfg(test)]
mod tests {
    use raftlog::engine::{Durability, Engine, LayeredEngine, MemoryEngine, RocksEngine, RocksOptions, ViewKind, WriteBatch};
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::keyspace::{META, STATE, VALUE, state_key};

    const GROUP: GroupId = GroupId(1);

    fn memory() -> MemoryEngine {
        MemoryEngine::new(COLUMN_FAMILIES.len())
    }

    fn put(engine: &dyn Engine, cf: Cf, key: &str, value: &str) {
        let mut batch = WriteBatch::default();
        batch.put(cf, state_key(GROUP, key), value.as_bytes().to_vec());
        engine.write(&batch).expect("the engine works");
    }

    fn delete(engine: &dyn Engine, cf: Cf, key: &str) {
        let mut batch = WriteBatch::default();
        batch.delete(cf, state_key(GROUP, key));
        engine.write(&batch).expect("the engine works");
    }

    fn digested(engine: &dyn Engine) -> Digested {
        digest(engine.view(ViewKind::Snapshot).as_ref(), GROUP, &|| true).expect("the engine works").expect("not interrupted")
    }

    fn fill(engine: &dyn Engine, keys: u32) {
        for key in 0..keys {
            put(engine, META, &format!("key{key:06}"), &format!("value{key}"));
        }
    }

    /// What two replicas and a comparer find out by digests alone.
    fn search(one: &dyn Engine, other: &dyn Engine) -> Option<(Cf, Option<Bytes>)> {
        let (known_one, known_other) = (digested(one), digested(other));
        assert!(is_valid(&known_one.digest) && is_valid(&known_other.digest));
        let differs = hash(&known_one.digest) != hash(&known_other.digest);
        let chunk = first_differing_part(&known_one.digest, &known_other.digest);
        assert_eq!(chunk.is_some(), differs);
        let mut part = closer(chunk?);
        let look = |engine: &dyn Engine, known: &Digested, part| {
            detail(engine.view(ViewKind::Snapshot).as_ref(), GROUP, known, part, &|| true)
                .expect("the engine works")
                .expect("not interrupted")
        };
        for _ in 0..8 {
            let (seen_one, seen_other) = (look(one, &known_one, part), look(other, &known_other, part));
            assert!(is_valid_range(&seen_one.digest) && is_valid_range(&seen_other.digest));
            match next(part, &seen_one.digest, &seen_other.digest) {
                Next::Found => return Some((Cf(part.family as u8), first_key(seen_one.first_key, seen_other.first_key))),
                Next::Examine(closer) => part = closer,
                Next::Lost => panic!("the difference is in {part:?}"),
            }
        }
        panic!("the search does not end");
    }

    #[test]
    fn equal_data_have_equal_digests_on_all_engines() {
        let dir = tempfile::tempdir().expect("a directory");
        let rocks = |name: &str| {
            let options = RocksOptions {
                column_families: COLUMN_FAMILIES.to_vec(),
                queues: Vec::new(),
                memtable_bytes: 4 << 20,
                block_cache_bytes: 1 << 20,
                durability: Durability::Flush,
            };
            RocksEngine::open(&dir.path().join(name), &options).expect("a fresh database")
        };
        let engines: [Box<dyn Engine>; 4] = [
            Box::new(memory()),
            Box::new(rocks("plain")),
            Box::new(LayeredEngine::new(Box::new(rocks("below")), COLUMN_FAMILIES.len(), 4000)),
            Box::new(LayeredEngine::new(Box::new(memory()), COLUMN_FAMILIES.len(), 1 << 30)),
        ];
        let mut digests = Vec::new();
        for engine in &engines {
            fill(engine.as_ref(), 700);
            put(engine.as_ref(), VALUE, "key000007", &"x".repeat(600));
            delete(engine.as_ref(), META, "key000008");
            put(engine.as_ref(), META, "key000009", "another");
            // What belongs to the node or to another group does not count.
            let mut batch = WriteBatch::default();
            batch.put(STATE, state_key(GroupId(0), "node/boot"), digests.len().to_be_bytes().to_vec());
            batch.put(META, state_key(GroupId(2), "k"), digests.len().to_be_bytes().to_vec());
            engine.write(&batch).expect("the engine works");
            digests.push(digested(engine.as_ref()).digest);
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]));
        assert_eq!(digests[0].families.iter().map(|family| family.items).collect::<Vec<_>>(), [0, 699, 1, 0, 0]);
    }

    #[test]
    fn the_hash_of_known_data_does_not_change() {
        let engine = memory();
        put(&engine, META, "a", "1");
        put(&engine, META, "b", "2");
        let digest = digested(&engine).digest;
        assert_eq!(digest.families[1].hashes.len(), 2 * HASH_BYTES);
        let hex: String = hash(&digest).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "d443804e44e4dca8b1df6e8abb8beb90");
    }

    #[test]
    fn where_one_key_ends_and_its_value_begins_makes_a_difference() {
        let (one, other) = (memory(), memory());
        put(&one, META, "ab", "c");
        put(&other, META, "a", "bc");
        assert_eq!(search(&one, &other), Some((META, Some(state_key(GROUP, "a").into()))));
    }

    #[test]
    fn chunks_stay_bounded_and_cover_everything() {
        for keys in [0, 1, 127, 128, 129, 255, 256, 257, 5000] {
            let engine = memory();
            fill(&engine, keys);
            let Digested { digest, first_keys } = digested(&engine);
            let family = &digest.families[1];
            assert_eq!(family.items, u64::from(keys));
            assert!(is_valid(&digest));
            assert_eq!(first_keys[1].len() as u64, family.items.div_ceil(family.chunk_items));
        }
    }

    #[test]
    fn the_first_differing_key_is_found() {
        let mut random = SmallRng::seed_from_u64(7);
        for round in 0..60 {
            let (one, other) = (memory(), memory());
            let keys = [1, 2, 127, 128, 129, 1000, 40_000][round % 7];
            fill(&one, keys);
            fill(&other, keys);
            for _ in 0..random.random_range(1..4) {
                let key = format!("key{:06}", random.random_range(0..keys));
                let engine = if random.random() { &one } else { &other };
                match random.random_range(0..4) {
                    0 => put(engine, META, &key, "changed"),
                    1 => delete(engine, META, &key),
                    2 => put(engine, META, &format!("{key}+"), "more"),
                    _ => fill(engine, 2 * keys),
                }
            }
            let expected = first_difference(one.view(ViewKind::Latest).as_ref(), other.view(ViewKind::Latest).as_ref(), GROUP);
            let expected = expected.expect("memory does not fail").map(|(cf, key)| (cf, Some(key)));
            assert_eq!(search(&one, &other), expected, "round {round}");
        }
    }

    #[test]
    fn a_digest_can_be_interrupted() {
        let engine = memory();
        fill(&engine, 10);
        let view = engine.view(ViewKind::Snapshot);
        let known = digested(&engine);
        assert!(digest(view.as_ref(), GROUP, &|| false).expect("memory does not fail").is_none());
        let part = Part { family: 1, first_item: 0, chunk_items: 1 };
        assert!(detail(view.as_ref(), GROUP, &known, part, &|| false).expect("memory does not fail").is_none());
    }

    #[test]
    fn parts_that_do_not_exist_are_empty() {
        let engine = memory();
        fill(&engine, 300);
        let known = digested(&engine);
        for (family, first_item, chunk_items) in [(0, 0, 1), (9, 0, 1), (1, 300, 1), (1, u64::MAX, 1), (u32::MAX, 5, 0)] {
            let part = Part { family, first_item, chunk_items };
            let seen = detail(engine.view(ViewKind::Snapshot).as_ref(), GROUP, &known, part, &|| true);
            let seen = seen.expect("memory does not fail").expect("not interrupted");
            assert_eq!((seen.digest.items, seen.first_key), (0, None), "{part:?}");
        }
    }

    #[test]
    fn digests_that_make_no_sense_are_refused() {
        let check = |items, chunk_items, hash_bytes: usize, valid| {
            let digest = RangeDigest { items, chunk_items, hashes: vec![0; hash_bytes].into() };
            assert_eq!(is_valid_range(&digest), valid, "{digest:?}");
        };
        check(0, 1, 0, true);
        check(3, 2, 32, true);
        check(3, 2, 16, false);
        check(3, 2, 31, false);
        check(3, 3, 16, false);
        check(0, 0, 0, false);
        check(129, 1, 129 * 16, false);
        check(u64::MAX, 1 << 63, 32, true);
        assert!(!is_valid(&GroupDigest::default()));
    }
}
