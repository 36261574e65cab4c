//! Digests of this replica's data, computed beside its work: one thread per verification, one verification at a time.
//! The apply worker begins one between two entries and goes on as soon as the thread has its view; the core asks for closer looks. A view
//! keeps obsolete data alive and must not see a snapshot being installed, so it is given up when nothing was asked for `VIEW_TIMEOUT`, when
//! the next verification begins, and before an installation.
//! What a digest means is the business of `keyspace::digest` and `core::verify`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftlog::engine::{EngineError, View, ViewKind};
use raftlog::log::LogPosition;
use raftlog::message::Part;

use super::completions::Completions;
use super::core::GROUP;
use super::exit::stop_for;
use super::handle::Shared;
use super::priority::step_back;
use super::shell::spawn;
use crate::keyspace::digest::{self, Digested};
use crate::metrics::Metric;

/// How long a view is kept for the next question.
const VIEW_TIMEOUT: Duration = Duration::from_secs(30);
/// Closer looks that wait; those beyond are asked for again.
const PARTS_MAX: usize = 2;

/// Begins and ends verifications of this replica. Shared by the apply worker, which begins them, and the core's thread, which asks.
pub(super) struct Verifier {
    shared: Arc<Shared>,
    completions: Arc<Completions>,
    /// Held for a few lines.
    current: Mutex<Option<Current>>,
}

/// A verification whose thread may be running.
struct Current {
    entry: LogPosition,
    cancelled: Arc<AtomicBool>,
    parts: SyncSender<Part>,
}

impl Verifier {
    pub(super) fn new(shared: Arc<Shared>, completions: Arc<Completions>) -> Self {
        Self { shared, completions, current: Mutex::default() }
    }

    /// Takes a view of the data as they are now, and digests it in the background. The verification before it, if any, is given up.
    pub(super) fn begin(&self, entry: LogPosition) {
        let cancelled = Arc::new(AtomicBool::new(false));
        let (parts, asked) = sync_channel(PARTS_MAX);
        let (view_taken, taken) = sync_channel(1);
        self.replace(Some(Current { entry, cancelled: Arc::clone(&cancelled), parts }));
        let (shared, completions) = (Arc::clone(&self.shared), Arc::clone(&self.completions));
        spawn("verify", move || {
            // No installation may pull the data away under the view.
            let _whole = shared.whole.read().expect("no holder of this lock panics");
            let view = shared.data.view(ViewKind::Bulk);
            completions.digested(entry, None);
            // Who waits for it has the other end, so it arrives.
            let _ = view_taken.send(());
            step_back();
            let examination = Examination { entry, view: view.as_ref(), cancelled: &cancelled, completions: &completions };
            if let Err(error) = examination.run(&shared, &asked) {
                stop_for(&error, &format!("the data cannot be verified: {error}"));
            }
        });
        taken.recv().expect("the thread takes its view");
    }

    /// Asks for a closer look. It is forgotten when that verification is over or others are waited for.
    pub(super) fn examine(&self, entry: LogPosition, part: Part) {
        let current = self.current.lock().expect("no holder of this lock panics");
        if let Some(current) = current.as_ref().filter(|current| current.entry == entry) {
            // The core asks again.
            let _ = current.parts.try_send(part);
        }
    }

    /// Gives up the verification, so that its view goes.
    pub(super) fn cancel(&self) {
        self.replace(None);
    }

    fn replace(&self, next: Option<Current>) {
        let previous = std::mem::replace(&mut *self.current.lock().expect("no holder of this lock panics"), next);
        if let Some(previous) = previous {
            previous.cancelled.store(true, Ordering::Relaxed);
        }
    }
}

/// What the thread has.
struct Examination<'a> {
    entry: LogPosition,
    view: &'a dyn View,
    cancelled: &'a AtomicBool,
    completions: &'a Completions,
}

impl Examination<'_> {
    fn run(&self, shared: &Shared, asked: &Receiver<Part>) -> Result<(), EngineError> {
        let go_on = || !self.cancelled.load(Ordering::Relaxed);
        let Some(digested) = digest::digest(self.view, GROUP, &go_on)? else { return Ok(()) };
        shared.metrics.set(Metric::VerifyLastIndex, self.entry.index);
        self.completions.digested(self.entry, Some(digested.digest.clone()));
        // It ends when the sender is dropped, too.
        while let Ok(part) = asked.recv_timeout(VIEW_TIMEOUT) {
            if self.look(&digested, part, &go_on)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn look(&self, digested: &Digested, part: Part, go_on: &dyn Fn() -> bool) -> Result<Option<()>, EngineError> {
        let Some(detail) = digest::detail(self.view, GROUP, digested, part, go_on)? else { return Ok(None) };
        self.completions.examined(self.entry, part, detail);
        Ok(Some(()))
    }
}
