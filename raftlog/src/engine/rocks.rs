//! The engine on RocksDB.
//! Two ways of being durable. `Wal`: every batch goes through RocksDB's WAL, and `sync` makes the WAL durable. After a crash the engine does
//! without a last record that was never finished (`wal.rs` cuts it off first, as RocksDB's `TolerateCorruptedTailRecords` neither accepts all
//! that a power cut leaves nor refuses all that it should) and refuses a hole, which could hide acknowledged entries.
//! `Flush`: there is no WAL, and `sync` flushes all column families together (`atomic_flush`), so that a crash keeps them at one batch.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use rocksdb::properties::PropName;
use rocksdb::statistics::{StatsLevel, Ticker};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator,
    DBRecoveryMode, Error, ErrorKind, FlushOptions, IngestExternalFileOptions, LruCacheOptions, Options, ReadOptions, ReadTier, Snapshot,
    SstFileWriter, WriteOptions, properties,
};

use super::{
    Cf, Change, Direction, Engine, EngineError, EngineResult, ExportedFile, Figure, Items, KeyRange, View, ViewKind, WriteBatch, files,
};

/// What the engine is used for, with the sizes that follow from the memory budget.
#[derive(Clone, Debug)]
pub struct RocksOptions {
    /// Column family names; a `Cf` is a position in this list.
    pub column_families: Vec<&'static str>,
    /// Those of them in which keys come in ascending order and go in that order too, by `forget`: their files are not merged.
    pub queues: Vec<&'static str>,
    /// Bytes of all memtables together.
    pub memtable_bytes: usize,
    /// Bytes of the block cache; index and filter blocks are in it too.
    pub block_cache_bytes: usize,
    /// How batches become durable.
    pub durability: Durability,
}

/// How batches become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// By a WAL, which is synced. It is recovered completely, but for a last record that was never finished; bad bytes before an intact
    /// record are corruption.
    Wal,
    /// By flushing memtables to files. Another log has what a crash loses.
    Flush,
}

/// A RocksDB instance.
pub struct RocksEngine {
    db: DB,
    names: Vec<&'static str>,
    durability: Durability,
    /// The options hold RocksDB's counters.
    counters: Options,
    /// Held so that it lives as long as the database.
    _cache: Cache,
    /// The lock under which files are looked at and cut; after `db`, so that it is released after the database is closed.
    _directory: File,
}

/// Files kept open at once; each costs a descriptor and its index block.
const OPEN_FILES_MAX: i32 = 1024;
/// Blocks of the SST files.
const BLOCK_BYTES: usize = 8 * 1024;
/// Flushes and compactions at a time: a compaction of level 0 must not wait behind a long one further down.
const BACKGROUND_JOBS: i32 = 4;
/// Files in level 0 at which writes are slowed down, and at which they wait. Each costs a read one look at its filter.
const LEVEL_0_FILES_SLOW: i32 = 40;
const LEVEL_0_FILES_MAX: i32 = 60;
/// Shards of the block cache, as a power of two: enough for the threads that read, few enough to be large.
const CACHE_SHARD_BITS: i32 = 2;
/// Bytes of a file that are written before they are on their way to the disk.
const BYTES_PER_SYNC: u64 = 1 << 20;
/// Size at which an export starts the next file.
const EXPORT_FILE_BYTES: u64 = 64 << 20;

impl RocksEngine {
    /// Opens the database at `path`, creating it where it does not exist.
    /// # Errors
    /// `Locked` when another process has it open, `Corruption` or `Io` otherwise.
    pub fn open(path: &Path, options: &RocksOptions) -> EngineResult<Self> {
        let files::Prepared { lock, is_blank } = files::prepare(path, options.durability)?;
        let mut cache_options = LruCacheOptions::default();
        cache_options.set_capacity(options.block_cache_bytes);
        cache_options.set_num_shard_bits(CACHE_SHARD_BITS);
        let cache = Cache::new_lru_cache_opts(&cache_options);
        let mut db_options = Options::default();
        // Of a database that holds something nothing is made anew: what is missing was lost, and RocksDB would delete the rest.
        db_options.create_if_missing(is_blank);
        db_options.create_missing_column_families(is_blank);
        db_options.set_paranoid_checks(true);
        db_options.set_max_open_files(OPEN_FILES_MAX);
        db_options.set_max_background_jobs(BACKGROUND_JOBS);
        db_options.set_max_subcompactions(2);
        db_options.set_db_write_buffer_size(options.memtable_bytes);
        db_options.set_max_total_wal_size(4 * options.memtable_bytes as u64);
        db_options.set_bytes_per_sync(BYTES_PER_SYNC);
        db_options.set_keep_log_file_num(4);
        db_options.set_max_log_file_size(4 << 20);
        db_options.set_recycle_log_file_num(0);
        db_options.enable_statistics();
        db_options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
        // RocksDB's own thread would read the counters at once, and may still do so when the database is closed.
        db_options.set_stats_dump_period_sec(0);
        db_options.set_stats_persist_period_sec(0);
        // Without a WAL, this keeps the families at one batch; with one, it lets go of it as soon as the family with the most data is flushed.
        db_options.set_atomic_flush(true);
        if options.durability == Durability::Wal {
            db_options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
            // A WAL that is missing, or ends too early, is noticed although a newer one is intact.
            db_options.set_track_and_verify_wals_in_manifest(true);
        }
        let descriptors = std::iter::once("default")
            .chain(options.column_families.iter().copied())
            .map(|name| ColumnFamilyDescriptor::new(name, Self::family_options(name, options, &cache)));
        let db = DB::open_cf_descriptors(&db_options, path, descriptors).map_err(|error| {
            let text = error.to_string();
            if text.contains("lock file") || text.contains("lock hold by current process") {
                return EngineError::Locked { path: path.to_owned() };
            }
            match error.kind() {
                // The directory is there; a file or a column family that the rest relies on is not.
                ErrorKind::InvalidArgument | ErrorKind::NotFound => EngineError::Corruption(text),
                _ => failure(&error),
            }
        })?;
        let (names, durability) = (options.column_families.clone(), options.durability);
        Ok(Self { db, names, durability, counters: db_options, _cache: cache, _directory: lock })
    }

    fn family_options(name: &str, options: &RocksOptions, cache: &Cache) -> Options {
        let mut blocks = table_format();
        blocks.set_block_cache(cache);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_pin_top_level_index_and_filter(true);
        let mut family = Options::default();
        family.set_block_based_table_factory(&blocks);
        family.set_write_buffer_size((options.memtable_bytes / 2).max(1 << 20));
        family.set_max_write_buffer_number(4);
        family.set_level_compaction_dynamic_level_bytes(true);
        // As much as gathers in level 0 before it is compacted, so that this is quick.
        family.set_max_bytes_for_level_base(options.memtable_bytes as u64);
        family.set_target_file_size_base((options.memtable_bytes as u64 / 4).max(1 << 20));
        // A flush waits for compaction while it would slow down writes; whoever waits for the flush would be kept for seconds.
        family.set_level_zero_slowdown_writes_trigger(LEVEL_0_FILES_SLOW);
        family.set_level_zero_stop_writes_trigger(LEVEL_0_FILES_MAX);
        if options.queues.contains(&name) {
            // One compression on all levels, and nothing to wait for: then a file moves down as it is, to where it can be dropped.
            family.set_compression_type(DBCompressionType::None);
            family.set_level_zero_file_num_compaction_trigger(1);
            return family;
        }
        family.set_compression_per_level(&[
            DBCompressionType::None,
            DBCompressionType::None,
            DBCompressionType::Lz4,
            DBCompressionType::Lz4,
            DBCompressionType::Lz4,
            DBCompressionType::Zstd,
            DBCompressionType::Zstd,
        ]);
        family
    }

    fn family(&self, cf: Cf) -> &ColumnFamily {
        self.db.cf_handle(self.names[usize::from(cf.0)]).expect("the column family was opened with the database")
    }

    fn write_options(&self) -> WriteOptions {
        let mut options = WriteOptions::default();
        options.disable_wal(self.durability == Durability::Flush);
        options
    }

    fn native(&self, batch: &WriteBatch) -> rocksdb::WriteBatch {
        let mut native = rocksdb::WriteBatch::default();
        for change in &batch.changes {
            match change {
                Change::Put(cf, key, value) => native.put_cf(self.family(*cf), key, value),
                Change::Delete(cf, key) => native.delete_cf(self.family(*cf), key),
                Change::DeleteRange(cf, range) => native.delete_range_cf(self.family(*cf), &range.from, &range.to),
            }
        }
        native
    }

    fn families(&self) -> impl Iterator<Item = Cf> {
        (0u8..).take(self.names.len()).map(Cf)
    }
}

/// How SST files are laid out, also those that are made for other nodes.
fn table_format() -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(BLOCK_BYTES);
    // In parts, of which the cache keeps those in use: the whole filter of a large file is read again for nearly every key once it does not
    // fit the cache beside the data.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(BLOCK_BYTES);
    blocks.set_format_version(6);
    blocks
}

/// RocksDB's error as ours. Everything that is not a cache miss ends the engine's life.
fn failure(error: &Error) -> EngineError {
    match error.kind() {
        ErrorKind::Incomplete => EngineError::WouldBlock,
        ErrorKind::Corruption => EngineError::Corruption(error.to_string()),
        // Of a file that the database relies on.
        ErrorKind::IOError if error.to_string().contains("No such file or directory") => EngineError::Corruption(error.to_string()),
        _ => EngineError::Io(error.to_string()),
    }
}

impl Engine for RocksEngine {
    fn view(&self, kind: ViewKind) -> Box<dyn View + '_> {
        let mut reads = ReadOptions::default();
        let snapshot = match kind {
            ViewKind::Latest | ViewKind::CachedLatest => None,
            ViewKind::Snapshot | ViewKind::CachedSnapshot | ViewKind::Bulk => Some(self.db.snapshot()),
        };
        if let Some(snapshot) = &snapshot {
            reads.set_snapshot(snapshot);
        }
        if matches!(kind, ViewKind::CachedLatest | ViewKind::CachedSnapshot) {
            reads.set_read_tier(ReadTier::BlockCache);
        }
        reads.fill_cache(kind != ViewKind::Bulk);
        Box::new(RocksView { engine: self, kind, reads, snapshot })
    }

    fn write(&self, batch: &WriteBatch) -> EngineResult<()> {
        self.db.write_opt(self.native(batch), &self.write_options()).map_err(|error| failure(&error))
    }

    /// With a WAL, no other record comes between the two: RocksDB lets the next one wait for this one's sync.
    fn write_synced(&self, batch: &WriteBatch) -> EngineResult<()> {
        if self.durability == Durability::Flush {
            self.write(batch)?;
            return self.sync();
        }
        let mut options = self.write_options();
        options.set_sync(true);
        self.db.write_opt(self.native(batch), &options).map_err(|error| failure(&error))
    }

    fn sync(&self) -> EngineResult<()> {
        match self.durability {
            Durability::Wal => self.db.flush_wal(true),
            Durability::Flush => {
                let families: Vec<_> = self.families().map(|cf| self.family(cf)).collect();
                self.db.flush_cfs_opt(&families, &FlushOptions::default())
            }
        }
        .map_err(|error| failure(&error))
    }

    fn forget(&self, cf: Cf, range: &KeyRange) -> EngineResult<()> {
        self.db.delete_file_in_range_cf(self.family(cf), &range.from, &range.to).map_err(|error| failure(&error))
    }

    fn check(&self) -> EngineResult<()> {
        let errors = self.db.property_int_value(rocksdb::properties::BACKGROUND_ERRORS).map_err(|error| failure(&error))?;
        // Only their number is given out, also of failures that have passed. Of one that has not, every write is told.
        if errors.unwrap_or(0) == 0 { Ok(()) } else { self.write(&WriteBatch::default()) }
    }

    fn figures(&self) -> Vec<Figure> {
        let mut levels: BTreeMap<i32, (u64, u64)> = BTreeMap::new();
        for file in self.db.live_files().unwrap_or_default() {
            let (files, bytes) = levels.entry(file.level).or_insert((0, 0));
            (*files, *bytes) = (*files + 1, *bytes + file.size as u64);
        }
        let level = |level: i32| vec![("level", level.to_string())];
        let files = levels.iter().map(|(number, (files, _))| gauge("rocksdb_level_files", "Files.", level(*number), *files));
        let bytes = levels.iter().map(|(number, (_, bytes))| gauge("rocksdb_level_bytes", "Bytes of files.", level(*number), *bytes));
        let properties = PROPERTIES.iter().map(|(name, text, property, scope)| {
            let values = self.families().map(|cf| self.db.property_int_value_cf(self.family(cf), *property).ok().flatten().unwrap_or(0));
            let value = match scope {
                Scope::Family => values.sum(),
                Scope::Database => values.max().unwrap_or(0),
            };
            gauge(name, text, Vec::new(), value)
        });
        let counters = COUNTERS.iter().map(|(name, text, ticker)| counter(name, text, self.counters.get_ticker_count(*ticker)));
        files.chain(bytes).chain(properties).chain(counters).collect()
    }

    fn export(&self, view: &dyn View, range: &KeyRange, dir: &Path) -> EngineResult<Vec<ExportedFile>> {
        let mut files = Vec::new();
        let mut options = Options::default();
        options.set_block_based_table_factory(&table_format());
        options.set_compression_type(DBCompressionType::Lz4);
        // Else a sync of the log, which shares the file system's journal, would wait for all of it.
        options.set_bytes_per_sync(BYTES_PER_SYNC);
        for cf in self.families() {
            let mut items = view.items(cf, range, Direction::Forward).peekable();
            let mut part = 0;
            while items.peek().is_some() {
                let path = dir.join(format!("{}-{part}.sst", self.names[usize::from(cf.0)]));
                let mut writer = SstFileWriter::create(&options);
                writer.open(&path).map_err(|error| failure(&error))?;
                while writer.file_size() < EXPORT_FILE_BYTES
                    && let Some(item) = items.next()
                {
                    let (key, value) = item?;
                    writer.put(key, value).map_err(|error| failure(&error))?;
                }
                writer.finish().map_err(|error| failure(&error))?;
                files.push(ExportedFile { cf, path, bytes: writer.file_size() });
                part += 1;
            }
        }
        Ok(files)
    }

    fn import(&self, range: &KeyRange, files: &[ExportedFile]) -> EngineResult<()> {
        for cf in self.families() {
            let family = self.family(cf);
            self.db.delete_file_in_range_cf(family, &range.from, &range.to).map_err(|error| failure(&error))?;
            self.db.delete_range_cf_opt(family, &range.from, &range.to, &self.write_options()).map_err(|error| failure(&error))?;
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        for cf in self.families() {
            // RocksDB takes over the second name of each file; the first stays for a repetition after a crash.
            let mut links = Vec::new();
            for file in files.iter().filter(|file| file.cf == cf) {
                let link = file.path.with_extension("ingest");
                match std::fs::remove_file(&link) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(EngineError::Io(error.to_string())),
                    _ => {}
                }
                std::fs::hard_link(&file.path, &link).map_err(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => EngineError::Corruption(format!("{}: {error}", file.path.display())),
                    _ => EngineError::Io(error.to_string()),
                })?;
                links.push(link);
            }
            if !links.is_empty() {
                self.db.ingest_external_file_cf_opts(self.family(cf), &options, links).map_err(|error| failure(&error))?;
            }
        }
        self.sync()
    }
}

/// What a property of RocksDB is about.
enum Scope {
    /// A column family; they are added up.
    Family,
    /// The database; each column family tells the same.
    Database,
}

/// Name, text and RocksDB's property.
const PROPERTIES: &[(&str, &str, &PropName, Scope)] = &[
    ("rocksdb_memtable_bytes", "Memory of memtables.", properties::CUR_SIZE_ALL_MEM_TABLES, Scope::Family),
    (
        "rocksdb_pending_compaction_bytes",
        "Bytes that compactions have to rewrite.",
        properties::ESTIMATE_PENDING_COMPACTION_BYTES,
        Scope::Family,
    ),
    ("rocksdb_running_compactions", "Compactions under way.", properties::NUM_RUNNING_COMPACTIONS, Scope::Database),
    (
        "rocksdb_delayed_write_bytes_per_second",
        "The rate to which writes are held back; 0 is not at all.",
        properties::ACTUAL_DELAYED_WRITE_RATE,
        Scope::Database,
    ),
    ("rocksdb_write_stopped", "Whether no writes are taken until a compaction is done.", properties::IS_WRITE_STOPPED, Scope::Database),
];

/// Name, text and RocksDB's counter.
const COUNTERS: &[(&str, &str, Ticker)] = &[
    ("rocksdb_put_bytes", "Bytes of keys and values that were put or deleted.", Ticker::BytesWritten),
    ("rocksdb_flush_written_bytes", "Bytes that flushes wrote.", Ticker::FlushWriteBytes),
    ("rocksdb_compaction_read_bytes", "Bytes that compactions read.", Ticker::CompactReadBytes),
    ("rocksdb_compaction_written_bytes", "Bytes that compactions wrote.", Ticker::CompactWriteBytes),
    ("rocksdb_block_cache_hits", "Blocks that were found in the cache.", Ticker::BlockCacheHit),
    ("rocksdb_block_cache_misses", "Blocks that had to be read from files.", Ticker::BlockCacheMiss),
    ("rocksdb_filter_useful", "Looks into a file that a filter made needless.", Ticker::BloomFilterUseful),
];

fn counter(name: &'static str, text: &'static str, value: u64) -> Figure {
    Figure { name, text, labels: Vec::new(), value: value as f64, rises: true }
}

fn gauge(name: &'static str, text: &'static str, labels: Vec<(&'static str, String)>, value: u64) -> Figure {
    Figure { name, text, labels, value: value as f64, rises: false }
}

/// A state of the database.
struct RocksView<'a> {
    engine: &'a RocksEngine,
    kind: ViewKind,
    reads: ReadOptions,
    snapshot: Option<Snapshot<'a>>,
}

impl View for RocksView<'_> {
    fn get(&self, cf: Cf, key: &[u8]) -> EngineResult<Option<Bytes>> {
        let found = self.engine.db.get_pinned_cf_opt(self.engine.family(cf), key, &self.reads).map_err(|error| failure(&error))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn items(&self, cf: Cf, range: &KeyRange, direction: Direction) -> Items<'_> {
        if matches!(self.kind, ViewKind::CachedLatest | ViewKind::CachedSnapshot) {
            return Box::new(std::iter::once(Err(EngineError::WouldBlock)));
        }
        let mut reads = ReadOptions::default();
        reads.fill_cache(self.kind != ViewKind::Bulk);
        if let Some(snapshot) = &self.snapshot {
            reads.set_snapshot(snapshot);
        }
        reads.set_iterate_lower_bound(range.from.clone());
        reads.set_iterate_upper_bound(range.to.clone());
        let mut cursor = self.engine.db.raw_iterator_cf_opt(self.engine.family(cf), reads);
        match direction {
            Direction::Forward => cursor.seek_to_first(),
            Direction::Reverse => cursor.seek_to_last(),
        }
        Box::new(RocksItems { cursor, direction, ended: false })
    }
}

/// An iteration over a range.
struct RocksItems<'a> {
    cursor: DBRawIterator<'a>,
    direction: Direction,
    ended: bool,
}

impl Iterator for RocksItems<'_> {
    type Item = EngineResult<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let Some((key, value)) = self.cursor.item() else {
            self.ended = true;
            return self.cursor.status().err().map(|error| Err(failure(&error)));
        };
        let item = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        match self.direction {
            Direction::Forward => self.cursor.next(),
            Direction::Reverse => self.cursor.prev(),
        }
        Some(Ok(item))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use super::*;

    const STATE: Cf = Cf(0);

    /// A small database without a WAL, with these queues behind `STATE`.
    fn options(queues: &[&'static str]) -> RocksOptions {
        RocksOptions {
            column_families: [&["state"], queues].concat(),
            queues: queues.to_vec(),
            memtable_bytes: 8 << 20,
            block_cache_bytes: 1 << 20,
            durability: Durability::Flush,
        }
    }

    fn write_round(engine: &RocksEngine, round: u8) -> EngineResult<()> {
        let mut batch = WriteBatch::default();
        for key in 0..200u8 {
            batch.put(STATE, vec![key], vec![key.wrapping_mul(round); 500]);
        }
        engine.write(&batch)?;
        engine.sync()
    }

    #[test]
    fn damage_that_a_compaction_meets_is_told() {
        let dir = TempDir::new().expect("temporary directory");
        let options = options(&[]);
        let engine = RocksEngine::open(dir.path(), &options).expect("open");
        write_round(&engine, 1).expect("write");
        drop(engine);
        let is_table = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "sst");
        let table = std::fs::read_dir(dir.path()).expect("read").flatten().map(|entry| entry.path()).find(is_table).expect("a file");
        let mut bytes = std::fs::read(&table).expect("read");
        bytes[40_000] ^= 1;
        std::fs::write(&table, bytes).expect("write");

        let engine = RocksEngine::open(dir.path(), &options).expect("the damage lies in a block that opening does not read");
        engine.check().expect("nobody has met it");
        // As many files as make RocksDB compact level 0. A write that comes later is told as well.
        drop((2..12).try_for_each(|round| write_round(&engine, round)));
        let deadline = Instant::now() + Duration::from_secs(60);
        let told = loop {
            match engine.check() {
                Err(error) => break error,
                Ok(()) => assert!(Instant::now() < deadline, "nothing is told"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let name = table.file_name().expect("a file has a name").to_string_lossy().into_owned();
        assert!(matches!(&told, EngineError::Corruption(text) if text.contains(&name)), "{told}");
    }

    #[test]
    fn what_rocksdb_does_is_counted() {
        let dir = TempDir::new().expect("temporary directory");
        let engine = RocksEngine::open(dir.path(), &options(&[])).expect("open");
        let value = |name: &str| {
            let figures = engine.figures();
            figures.iter().find(|figure| figure.name == name).unwrap_or_else(|| panic!("no {name}")).value
        };
        assert_eq!(value("rocksdb_put_bytes"), 0.0);
        write_round(&engine, 1).expect("write");
        let read = |key: u8| engine.view(ViewKind::Latest).get(STATE, &[key]).expect("read").expect("it is there");
        assert_eq!(read(7), read(7));
        for (name, least) in [
            ("rocksdb_put_bytes", 200.0 * 500.0),
            ("rocksdb_flush_written_bytes", 10_000.0),
            ("rocksdb_block_cache_misses", 1.0),
            ("rocksdb_block_cache_hits", 1.0),
        ] {
            assert!(value(name) >= least, "{name}: {}", value(name));
        }
    }

    /// Else each look for a key that is not there would read a block, until compactions have rewritten all that a snapshot brought.
    #[test]
    fn files_from_another_node_have_filters() {
        let dir = TempDir::new().expect("temporary directory");
        let open = |name: &str| RocksEngine::open(&dir.path().join(name), &options(&[])).expect("open");
        let (from, to) = (open("from"), open("to"));
        write_round(&from, 1).expect("write");
        let all = KeyRange { from: vec![0], to: vec![0xff] };
        let files = from.export(from.view(ViewKind::Bulk).as_ref(), &all, dir.path()).expect("export");
        to.import(&all, &files).expect("import");
        let tables = to.db.property_value_cf(to.family(STATE), properties::AGGREGATED_TABLE_PROPERTIES).expect("read").expect("known");
        let filter_bytes = tables.split(';').find_map(|property| property.trim().strip_prefix("filter block size="));
        assert!(filter_bytes.is_some_and(|bytes| bytes.parse::<u64>().is_ok_and(|bytes| bytes > 0)), "{tables}");
    }

    #[test]
    fn files_of_a_queue_go_without_having_been_merged() {
        const ROUNDS: u8 = 8;
        let dir = TempDir::new().expect("temporary directory");
        let engine = RocksEngine::open(dir.path(), &options(&["queue"])).expect("open");
        let queue = Cf(1);
        for round in 0..ROUNDS {
            let mut batch = WriteBatch::default();
            (0..100).for_each(|key| batch.put(queue, vec![round, key], vec![key; 500]));
            engine.write(&batch).and_then(|()| engine.sync()).expect("write");
        }
        let files = || {
            let files = std::fs::read_dir(dir.path()).expect("read").flatten().map(|entry| entry.path());
            files.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).collect::<std::collections::BTreeSet<_>>()
        };
        let before = files();
        assert_eq!(before.len(), usize::from(ROUNDS));
        let deadline = Instant::now() + Duration::from_secs(60);
        // A file that has not moved down yet stays for the next time.
        while files().len() > 2 {
            assert!(Instant::now() < deadline, "files stay: {:?}", files());
            engine.forget(queue, &KeyRange { from: vec![0], to: vec![ROUNDS - 2, 50] }).expect("forget");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(files().is_subset(&before));
        let left = engine.view(ViewKind::Latest).items(queue, &KeyRange { from: vec![0], to: vec![0xff] }, Direction::Forward).count();
        assert_eq!(left, 200, "a file that holds more than the range stays whole");
    }
}
