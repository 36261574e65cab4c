//! Libraries that stand between a node and the system: small ones in C, since replacing functions of the C library is nothing safe Rust can
//! do. `cc` builds them for each run; the loader puts them before the C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the loader takes libraries from.
const LOADER_VARIABLE: &str = "LD_PRELOAD";

/// A library that was built.
#[derive(Clone, Debug)]
pub struct Library {
    path: PathBuf,
}

impl Library {
    /// Builds a source in a directory.
    /// # Panics
    /// There is no C compiler.
    #[must_use]
    pub fn build(dir: &Path, name: &str, source: &str) -> Self {
        let (source_path, path) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
        fs::write(&source_path, source).expect("the source can be written");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).args([&path, &source_path]).output();
        let output = built.unwrap_or_else(|error| panic!("{name} is built with cc: {error}"));
        assert!(output.status.success(), "{name} is built with cc:\n{}", String::from_utf8_lossy(&output.stderr));
        Self { path }
    }

    /// What makes a process load it, with variables of its own.
    #[must_use]
    pub fn preload(&self, variables: Vec<(&str, &Path)>) -> Preload {
        let variables = variables.into_iter().map(|(name, path)| (name.to_owned(), path.display().to_string())).collect();
        Preload { library: self.path.clone(), variables }
    }
}

/// A library for a process.
#[derive(Clone, Debug)]
pub struct Preload {
    library: PathBuf,
    variables: Vec<(String, String)>,
}

/// What a process needs in its environment to have these libraries.
#[must_use]
pub fn environment(preloads: &[Preload]) -> Vec<(String, String)> {
    let libraries: Vec<String> = preloads.iter().map(|preload| preload.library.display().to_string()).collect();
    let loader = (!libraries.is_empty()).then(|| (LOADER_VARIABLE.to_owned(), libraries.join(":")));
    loader.into_iter().chain(preloads.iter().flat_map(|preload| preload.variables.iter().cloned())).collect()
}
