//! `redraft demo`: three nodes in a temporary directory, and a story that shows what they promise: writes, failover, a lost majority, and that
//! nothing acknowledged is lost. There is no supervisor, so a killed node stays down until the story starts it again.
//! `stage` has the nodes, `story` tells. The story has a thread of its own, so that a signal ends everything at once, whatever it waits for.
//! Invariant: when this returns, no node runs and the directory is gone.

use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};

mod stage;
mod story;

use super::{ClusterError, signals};
use stage::Stage;

/// Why the demonstration is over.
enum Ending {
    /// The story was told, or broke off.
    Told(Result<(), ClusterError>),
    /// A signal.
    Stopped,
}

/// Runs the demonstration.
/// # Errors
/// The nodes do not start, do what they should not, or are not in time; or a signal ended it.
pub(super) fn run() -> Result<(), ClusterError> {
    // Shared, since the story starts and kills nodes while a signal may end them all. Held for one start or kill at a time.
    let stage = Arc::new(Mutex::new(Stage::set_up()?));
    let (sender, endings) = sync_channel(1);
    let signalled = sender.clone();
    signals::listen(move || signalled.send(Ending::Stopped))?;
    let told = Arc::clone(&stage);
    signals::start_thread("story".to_owned(), move || {
        let outcome = story::tell(&told, &mut io::stdout());
        // Nobody listens any more when a signal has ended it.
        drop(sender.send(Ending::Told(outcome)));
    })?;
    let ending = endings.recv().expect("the thread for signals keeps a sender");
    stage.lock().unwrap_or_else(PoisonError::into_inner).strike();
    match ending {
        Ending::Told(outcome) => outcome,
        Ending::Stopped => Err(ClusterError::Interrupted),
    }
}
