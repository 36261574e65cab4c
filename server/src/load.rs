//! `redraft load`: how fast is a server that speaks Redis's protocol, and how late are its answers?
//! `options` is the command line; `keys`, `distribution`, `values` and `workload` make the commands; `timing` says when they are due and
//! `pacer` wakes for it; `connection` sends and receives, `worker` drives some connections with one thread; `tally` counts, `collector`
//! adds up while it goes on, `probe` tells when the machine itself stood still; `report` and `histogram` are what remains.
//! The generator shares its machine with the server, mostly, so it is cheap: one task per connection, one write and as few reads as
//! possible per pipeline, and no reply is decoded.
//! A latency counts from when its command was sent, or with a rate from when it was due (see `timing`), to when its reply was read.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod collector;
mod connection;
mod distribution;
mod histogram;
mod keys;
mod options;
mod pacer;
mod probe;
mod report;
mod tally;
#[cfg(test)]
mod tests;
mod timing;
mod values;
mod worker;
mod workload;

pub use distribution::Distribution;
pub use options::{LoadOptions, Test};

use crate::config::{Config, ConfigError, Secret};
use report::Report;
use worker::Plan;

/// Files that the process needs beside its connections: the runtimes' own, standard streams, the report.
const OTHER_FILES: u64 = 64;

/// Why there are no figures, or why they are not to be trusted. Every text is one line.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The environment or the file that it names has a bad option.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address leads nowhere.
    #[error("{address}: {cause}")]
    Address {
        /// As it was given.
        address: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A connection could not be opened before the run.
    #[error("cannot connect to {address}: {cause}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// What the system or the server said.
        #[source]
        cause: io::Error,
    },
    /// The system does not allow so many connections.
    #[error("{needed} open files are needed and {allowed} allowed; see `ulimit -Hn`")]
    OpenFiles {
        /// For all connections.
        needed: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// No command succeeded.
    #[error("no command succeeded: {0}")]
    NothingSucceeded(String),
    /// Some keys were not written, although all were to be.
    #[error("{0} keys were not written")]
    FillIncomplete(u64),
    /// The report cannot be written.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The system refused something: a thread, a timer.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Standard output is closed.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Puts the load on the servers; the figures go to standard output, and to a file if one was named. A password for the servers is taken
/// from where `redraft cluster` takes it: `REDRAFT_REQUIREPASS`.
/// # Errors
/// The load could not be put on, no command succeeded, or not all keys were filled: one line says why.
pub fn run(options: &LoadOptions) -> Result<(), LoadError> {
    let password = Config::from_environment()?.runtime.values().requirepass.clone();
    let report = measure(options, password)?;
    if let Some(path) = &options.json {
        write_json(path, &report)?;
    }
    io::stdout().lock().write_all(report.table().as_bytes())?;
    report.verdict()
}

/// Puts the load on the servers.
fn measure(options: &LoadOptions, password: Option<Secret>) -> Result<Report, LoadError> {
    let addresses = resolve(options)?;
    allow_open_files(u64::from(options.connections) + OTHER_FILES)?;
    let plan = Plan::new(options, addresses, password);
    let outcome = collector::collect(options, plan)?;
    Ok(Report { options: options.clone(), outcome })
}

fn resolve(options: &LoadOptions) -> Result<Vec<SocketAddr>, LoadError> {
    let resolve = |address: &crate::config::Address| {
        let failed = |cause| LoadError::Address { address: address.to_string(), cause };
        let mut found = (address.host(), address.port()).to_socket_addrs().map_err(failed)?;
        found.next().ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound)))
    };
    options.addresses.iter().map(resolve).collect()
}

/// Raises this process's limit of open files as far as it is needed; the hard limit too, where the system lets it.
fn allow_open_files(needed: u64) -> Result<(), LoadError> {
    let limit = getrlimit(Resource::Nofile);
    // Nothing stands for no limit.
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum.map(|maximum| maximum.max(needed)) };
    setrlimit(Resource::Nofile, raised).map_err(|_| LoadError::OpenFiles { needed, allowed: limit.maximum.unwrap_or(u64::MAX) })
}

fn write_json(path: &Path, report: &Report) -> Result<(), LoadError> {
    let text = serde_json::to_string_pretty(&report.json()).expect("numbers and texts always become JSON");
    fs::write(path, text + "\n").map_err(|cause| LoadError::File { path: path.to_owned(), cause })
}
