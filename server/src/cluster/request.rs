//! What a command asks of the supervisor while it runs: an empty file in the cluster's directory, since a signal cannot say which node is
//! meant. The supervisor looks for such files, removes them, and does what they say; `cluster.json` shows what came of it.
//! Invariant: a request that nobody took up is withdrawn, by the command or by the next supervisor, so that nothing happens unasked.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{ClusterError, NODES_MAX};

/// What is asked; each names its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Take a node in that is not there yet, under this number.
    Add(usize),
    /// Stop a node for good and set its directory aside.
    Remove(usize),
    /// Start a node once as a new one.
    Rejoin(usize),
}

impl Request {
    /// Leaves the request for the supervisor.
    /// # Errors
    /// The directory cannot be written.
    pub(super) fn leave(self, dir: &Path) -> Result<(), ClusterError> {
        let path = self.path(dir);
        File::create(&path).map(drop).map_err(|cause| ClusterError::File { path, cause })
    }

    /// Withdraws the request; whether it was still there.
    /// # Errors
    /// It cannot be removed.
    pub(super) fn withdraw(self, dir: &Path) -> Result<bool, ClusterError> {
        let path = self.path(dir);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(ClusterError::File { path, cause }),
        }
    }

    /// The node that is meant.
    pub(super) fn node(self) -> usize {
        match self {
            Self::Add(node) | Self::Remove(node) | Self::Rejoin(node) => node,
        }
    }

    /// The file that stands for the request.
    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Self::Add(node) => format!("add-{node}"),
            Self::Remove(node) => format!("remove-{node}"),
            Self::Rejoin(node) => format!("rejoin-{node}"),
        })
    }

    /// All that can be asked.
    fn all() -> impl Iterator<Item = Self> {
        (1..=usize::from(NODES_MAX)).flat_map(|node| [Self::Add(node), Self::Remove(node), Self::Rejoin(node)])
    }
}

/// Takes up what is asked.
pub(super) fn take_all(dir: &Path) -> Vec<Request> {
    // What cannot be removed would be taken up again and again.
    let taken =
        |request: &Request| request.withdraw(dir).inspect_err(|error| tracing::error!(%error, "cannot take up a request")).unwrap_or(false);
    Request::all().filter(taken).collect()
}

/// Withdraws what an earlier supervisor did not take up.
/// # Errors
/// A request cannot be removed.
pub(super) fn withdraw_all(dir: &Path) -> Result<(), ClusterError> {
    Request::all().try_for_each(|request| request.withdraw(dir).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_up_once_and_does_not_outlive_its_supervisor() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(take_all(dir.path()), []);
        let requests = [Request::Rejoin(2), Request::Add(4), Request::Remove(9)];
        requests.iter().for_each(|request| request.leave(dir.path()).expect("writable"));
        assert_eq!(take_all(dir.path()), requests);
        assert_eq!(take_all(dir.path()), []);
        Request::Add(3).leave(dir.path()).expect("writable");
        assert!(Request::Add(3).withdraw(dir.path()).expect("removable") && !Request::Add(3).withdraw(dir.path()).expect("none"));
        Request::Add(3).leave(dir.path()).expect("writable");
        withdraw_all(dir.path()).expect("withdrawn");
        assert_eq!(take_all(dir.path()), []);
    }
}
