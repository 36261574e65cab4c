//! Answers on their way from the node's threads to the tasks of connections.
//! Waking a task from outside its runtime costs a system call; so the answers of a batch go to one task inside, which wakes the others from
//! there.

use tokio::sync::{mpsc, oneshot};

use super::request::RunResult;
use crate::error::RequestError;

/// Batches on their way; a thread that answers faster than the runtime takes waits.
const BATCHES_MAX: usize = 1024;

/// An answer and who waits for it.
pub(super) enum Answer {
    /// Of a run with writes.
    Run(oneshot::Sender<RunResult>, RunResult),
    /// Whether reads may be evaluated, and the leader's time.
    Read(oneshot::Sender<Result<u64, RequestError>>, Result<u64, RequestError>),
}

/// Sends batches of answers.
#[derive(Clone)]
pub(super) struct Replies {
    batches: mpsc::Sender<Vec<Answer>>,
}

impl Replies {
    /// Starts the task inside the runtime.
    /// # Panics
    /// Panics outside a tokio runtime.
    pub(super) fn start() -> Self {
        let (batches, mut received) = mpsc::channel::<Vec<Answer>>(BATCHES_MAX);
        tokio::spawn(async move {
            while let Some(batch) = received.recv().await {
                for answer in batch {
                    // A client that has gone away wants no answer.
                    match answer {
                        Answer::Run(client, result) => drop(client.send(result)),
                        Answer::Read(client, result) => drop(client.send(result)),
                    }
                }
            }
        });
        Self { batches }
    }

    /// Sends the answers collected, if there are any. From a thread outside the runtime.
    pub(super) fn send(&self, answers: &mut Vec<Answer>) {
        if !answers.is_empty() {
            // Without a runtime there is nobody to answer any more.
            drop(self.batches.blocking_send(std::mem::take(answers)));
        }
    }
}
