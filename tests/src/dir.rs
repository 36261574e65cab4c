//! A directory of a test: gone when the test has passed; of a test that failed, the logs stay.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use tempfile::TempDir;

/// Set to anything: directories stay, data included.
const KEEP_VARIABLE: &str = "REDRAFT_KEEP";

/// A directory that is removed when it is dropped. Files directly in it are logs; everything else is data.
#[derive(Debug)]
pub struct TestDir {
    dir: Option<TempDir>,
}

impl TestDir {
    /// A directory where temporary files go.
    /// # Panics
    /// It cannot be created.
    #[must_use]
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// A directory below another, for tests that want a certain disk.
    /// # Panics
    /// It cannot be created.
    #[must_use]
    pub fn below(parent: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("redraft-test-").tempdir_in(parent).expect("a directory can be created");
        Self { dir: Some(dir) }
    }

    /// Its path.
    /// # Panics
    /// Never: the directory is there until the drop.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.as_ref().expect("there until the drop").path()
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }
}

impl Default for TestDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let keep_all = std::env::var_os(KEEP_VARIABLE).is_some();
        if !keep_all && !thread::panicking() {
            return;
        }
        let path = self.dir.take().expect("there until the drop").keep();
        if !keep_all && let Ok(entries) = fs::read_dir(&path) {
            for data in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
                // What cannot be removed is reported with the rest.
                drop(fs::remove_dir_all(data));
            }
        }
        eprintln!("kept {} (with {KEEP_VARIABLE}=1 the data, too)", path.display());
    }
}

/// Copies a directory that nobody changes.
/// # Panics
/// It cannot.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be created");
    for entry in fs::read_dir(from).expect("the directory can be read") {
        let path = entry.expect("the directory can be read").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).expect("the file can be copied");
        }
    }
}
