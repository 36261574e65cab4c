//! The layered engine against a map, over the engine in memory.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::engine::MemoryEngine;

const CF_COUNT: usize = 2;
/// So small that layers are handed down all the time.
const LAYER_BYTES: usize = 4000;

type Model = BTreeMap<(u8, u8), u8>;

/// A base that the test keeps a hand on.
struct Base(Arc<MemoryEngine>);

impl Engine for Base {
    fn view(&self, kind: ViewKind) -> Box<dyn View + '_> {
        self.0.view(kind)
    }

    fn write(&self, batch: &WriteBatch) -> EngineResult<()> {
        self.0.write(batch)
    }

    fn sync(&self) -> EngineResult<()> {
        self.0.sync()
    }

    fn export(&self, view: &dyn View, range: &KeyRange, dir: &Path) -> EngineResult<Vec<ExportedFile>> {
        self.0.export(view, range, dir)
    }

    fn import(&self, range: &KeyRange, files: &[ExportedFile]) -> EngineResult<()> {
        self.0.import(range, files)
    }
}

/// A batch of random changes, also made to the model.
fn change(random: &mut SmallRng, model: &mut Model) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for _ in 0..random.random_range(1..12) {
        let (cf, key) = (random.random_range(0..2u8), random.random_range(1..60u8));
        if random.random_range(0..3) == 0 {
            batch.delete(Cf(cf), vec![key]);
            model.remove(&(cf, key));
        } else {
            let value = random.random();
            batch.put(Cf(cf), vec![key], vec![value]);
            model.insert((cf, key), value);
        }
    }
    batch
}

fn all() -> KeyRange {
    KeyRange { from: vec![0], to: vec![0xff] }
}

fn contents(view: &dyn View, direction: Direction) -> Model {
    let mut model = Model::new();
    for cf in 0..2 {
        let mut items: Vec<_> = view.items(Cf(cf), &all(), direction).map(|item| item.expect("memory does not fail")).collect();
        if direction == Direction::Reverse {
            items.reverse();
        }
        assert!(items.is_sorted_by(|(one, _), (other, _)| one < other));
        model.extend(items.into_iter().map(|(key, value)| ((cf, key[0]), value[0])));
    }
    model
}

fn get(view: &dyn View, cf: u8, key: u8) -> EngineResult<Option<u8>> {
    Ok(view.get(Cf(cf), &[key])?.map(|value| value[0]))
}

#[test]
fn views_keep_their_moment_while_layers_are_handed_down() {
    let mut random = SmallRng::seed_from_u64(11);
    for _ in 0..20 {
        let engine = LayeredEngine::new(Box::new(MemoryEngine::new(CF_COUNT)), CF_COUNT, LAYER_BYTES);
        let mut model = Model::new();
        let mut views: Vec<(Box<dyn View + '_>, ViewKind, Model)> = Vec::new();
        let mut would_block = 0;
        for _ in 0..300 {
            engine.write(&change(&mut random, &mut model)).expect("memory does not fail");
            if random.random_range(0..4) == 0 {
                let kind = if random.random() { ViewKind::Snapshot } else { ViewKind::CachedSnapshot };
                views.push((engine.view(kind), kind, model.clone()));
            }
            if views.len() > 20 {
                views.swap_remove(random.random_range(0..20));
            }
            let (cf, key) = (random.random_range(0..2u8), random.random_range(1..60u8));
            assert_eq!(get(engine.view(ViewKind::Latest).as_ref(), cf, key).expect("memory"), model.get(&(cf, key)).copied());
            for (view, kind, model) in &views {
                match (get(view.as_ref(), cf, key), kind) {
                    (Ok(value), _) => assert_eq!(value, model.get(&(cf, key)).copied()),
                    (Err(EngineError::WouldBlock), ViewKind::CachedSnapshot) => would_block += 1,
                    (Err(error), kind) => panic!("{kind:?}: {error}"),
                }
            }
        }
        for (view, kind, model) in &views {
            if *kind == ViewKind::Snapshot {
                assert_eq!(contents(view.as_ref(), Direction::Forward), *model);
                assert_eq!(contents(view.as_ref(), Direction::Reverse), *model);
            }
        }
        assert!(would_block > 0, "old cached views notice that the base ran ahead");
        assert_eq!(contents(engine.view(ViewKind::Latest).as_ref(), Direction::Forward), model);
    }
}

#[test]
fn a_crash_leaves_the_end_of_a_batch_and_loses_nothing_synced() {
    let mut random = SmallRng::seed_from_u64(12);
    for round in 0..100 {
        let base = Arc::new(MemoryEngine::new(CF_COUNT));
        let engine = LayeredEngine::new(Box::new(Base(Arc::clone(&base))), CF_COUNT, LAYER_BYTES);
        let mut model = Model::new();
        let mut states = vec![model.clone()];
        let mut synced = 0;
        for batch in 1..=random.random_range(1..120) {
            engine.write(&change(&mut random, &mut model)).expect("memory does not fail");
            states.push(model.clone());
            if random.random_range(0..40) == 0 {
                engine.sync().expect("memory does not fail");
                synced = batch;
            }
        }
        drop(engine);
        base.crash(random.random_range(0..3));
        let left = contents(base.view(ViewKind::Latest).as_ref(), Direction::Forward);
        assert!(states[synced..].contains(&left), "round {round}");
    }
}

#[test]
fn readers_on_other_threads_see_batches_whole() {
    let engine = LayeredEngine::new(Box::new(MemoryEngine::new(CF_COUNT)), CF_COUNT, LAYER_BYTES);
    let has_ended = AtomicBool::new(false);
    let write = |value: u8| {
        let mut batch = WriteBatch::default();
        (1..200u8).for_each(|key| batch.put(Cf(key % 2), vec![key], vec![value]));
        engine.write(&batch).expect("memory does not fail");
    };
    write(0);
    std::thread::scope(|scope| {
        for kind in [ViewKind::Snapshot, ViewKind::CachedSnapshot] {
            let (engine, has_ended) = (&engine, &has_ended);
            scope.spawn(move || {
                while !has_ended.load(Ordering::Relaxed) {
                    let view = engine.view(kind);
                    let mut seen = (1..200u8).map_while(|key| get(view.as_ref(), key % 2, key).ok());
                    let first = seen.next();
                    assert!(seen.all(|value| Some(value) == first), "a batch is seen whole");
                    if kind == ViewKind::Snapshot {
                        let values = contents(view.as_ref(), Direction::Forward).into_values().collect::<std::collections::BTreeSet<_>>();
                        assert_eq!(values.len(), 1);
                    }
                }
            });
        }
        (0..=255).cycle().take(2000).for_each(write);
        has_ended.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_goes_to_the_base_itself_replaces_the_layers() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut random = SmallRng::seed_from_u64(13);
    let engine = LayeredEngine::new(Box::new(MemoryEngine::new(CF_COUNT)), CF_COUNT, 1 << 20);
    let mut model = Model::new();
    engine.write(&change(&mut random, &mut model)).expect("memory does not fail");
    let exported = model.clone();
    let files = engine.export(engine.view(ViewKind::Snapshot).as_ref(), &all(), dir.path()).expect("export");
    for _ in 0..50 {
        engine.write(&change(&mut random, &mut model)).expect("memory does not fail");
    }
    let cached = engine.view(ViewKind::CachedSnapshot);
    let gone = (1..60).find(|key| !model.contains_key(&(0, *key)) && exported.contains_key(&(0, *key)));
    engine.import(&all(), &files).expect("import");
    assert_eq!(contents(engine.view(ViewKind::Snapshot).as_ref(), Direction::Forward), exported);
    if let Some(key) = gone {
        assert!(!matches!(get(cached.as_ref(), 0, key), Ok(Some(_))), "a view from before does not see the import");
    }
    let mut batch = WriteBatch::default();
    batch.delete_range(Cf(0), all());
    batch.put(Cf(0), vec![7], vec![7]);
    engine.write(&batch).expect("memory does not fail");
    let expected: Model = exported.into_iter().filter(|((cf, _), _)| *cf == 1).chain([((0, 7), 7)]).collect();
    assert_eq!(contents(engine.view(ViewKind::Latest).as_ref(), Direction::Forward), expected);
}

#[test]
fn a_failed_base_fails_whoever_comes_next() {
    struct Failing;
    impl Engine for Failing {
        fn view(&self, _: ViewKind) -> Box<dyn View + '_> {
            unreachable!("nothing is read")
        }
        fn write(&self, _: &WriteBatch) -> EngineResult<()> {
            Err(EngineError::Io("No space left on device".into()))
        }
        fn sync(&self) -> EngineResult<()> {
            unreachable!("a failed write is not synced")
        }
        fn export(&self, _: &dyn View, _: &KeyRange, _: &Path) -> EngineResult<Vec<ExportedFile>> {
            unreachable!("nothing is exported")
        }
        fn import(&self, _: &KeyRange, _: &[ExportedFile]) -> EngineResult<()> {
            unreachable!("nothing is imported")
        }
    }
    let engine = LayeredEngine::new(Box::new(Failing), CF_COUNT, LAYER_BYTES);
    let mut random = SmallRng::seed_from_u64(14);
    let failed = std::iter::repeat_with(|| engine.write(&change(&mut random, &mut Model::new()))).find_map(Result::err);
    assert!(failed.expect("a writer is told").is_disk_full());
    assert!(engine.sync().expect_err("nothing is synced any more").is_disk_full());
}
