//! Signals that ask this process to stop, as calls of a function.

use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use super::ClusterError;

/// Starts a thread that calls a function for each such signal, until it returns an error: then nobody wants to know any more. The runtime
/// in the thread serves signals alone: installing a handler by hand is unsafe code.
/// # Errors
/// The system refuses.
pub(super) fn listen<E>(mut call: impl FnMut() -> Result<(), E> + Send + 'static) -> Result<(), ClusterError> {
    let failed = |cause| ClusterError::System { what: "cannot listen to signals", cause };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let guard = runtime.enter();
    let mut signals = Vec::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        signals.push(signal(kind).map_err(failed)?);
    }
    drop(guard);
    let [mut terminate, mut interrupt, mut hangup] = signals.try_into().expect("three were asked for");
    start_thread("signals".to_owned(), move || {
        loop {
            runtime.block_on(async {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {}, _ = hangup.recv() => {} }
            });
            if call().is_err() {
                return;
            }
        }
    })
}

/// Starts a thread that nobody waits for.
/// # Errors
/// The system refuses.
pub(super) fn start_thread(name: String, body: impl FnOnce() + Send + 'static) -> Result<(), ClusterError> {
    let started = thread::Builder::new().name(name).spawn(body);
    started.map(drop).map_err(|cause| ClusterError::System { what: "cannot start a thread", cause })
}
