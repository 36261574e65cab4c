//! Configuration: one table of options, and the typed values that the rest of the server reads.
//! `table` has the rows, `kind` reads values, `source` collects them from flags, environment and file, `settings` holds them, `runtime` is
//! the part that `CONFIG SET` changes, `document` renders the documentation. Precedence: flag, environment, file, default.
//! Invariant: a `Config` that exists is within all bounds and consistent in itself; whoever reads it checks nothing again.
//! Whether addresses resolve, ports are free or directories are writable is not asked here.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;

mod address;
mod document;
mod kind;
mod runtime;
mod settings;
mod source;
mod table;

pub use address::Address;
pub use document::{allowed_values, render_docs, render_example};
pub use kind::{Kind, Rejection, Unit, Value, size_text};
pub use runtime::{RuntimeConfig, RuntimeValues};
pub use source::{Source, flags};
pub use table::{Change, OPTIONS, OptionSpec, Section};

use settings::Settings;
use source::Given;

/// Why there is no configuration. Every text is one line and names the place to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is not of its option's kind or out of bounds.
    #[error("{source_of}: {shown} is not {allowed}")]
    Value {
        /// Where the value stands.
        source_of: Source,
        /// The value in quotes, or a word for it if it is secret.
        shown: String,
        /// What is allowed.
        allowed: String,
    },
    /// A value is not UTF-8.
    #[error("{source_of}: the value is not valid UTF-8")]
    NotText {
        /// Where the value stands.
        source_of: Source,
    },
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: line {line}: {problem}", path.display())]
    FileSyntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the TOML reader said.
        problem: String,
    },
    /// The file has a key that is no option.
    #[error("{}: {key}: there is no such option", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// An option for one start stands where it would hold for every start.
    #[error("{source_of}: this option is for one start and taken as a flag only: --{name}")]
    FlagOnly {
        /// Where it stands.
        source_of: Source,
        /// The option.
        name: &'static str,
    },
    /// Values that are right by themselves do not go together.
    #[error("{source_of}: {problem}")]
    Relation {
        /// Where the value stands that should change.
        source_of: Source,
        /// What does not fit.
        problem: String,
    },
}

/// A text that must not be shown: `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What somebody typed; nothing is no secret.
    #[must_use]
    pub(crate) fn typed(text: String) -> Option<Self> {
        (!text.is_empty()).then_some(Self(text))
    }

    /// The text itself, for comparison and proof.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// What reads see after READONLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadonlyReads {
    /// Every acknowledged write.
    Linearizable,
    /// What this node has applied.
    Local,
}

/// Least weighty messages that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What needs an operator.
    Error,
    /// What may need one.
    Warn,
    /// What changes the node's state.
    Info,
    /// What explains decisions.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// The level of a word that the table allows.
    fn from_word(word: &str) -> Self {
        match word {
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => unreachable!("the table allows no level {word}"),
        }
    }

    /// The word for the level.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The configuration of a node. The fields do not change while the process lives; `runtime` has those that may.
#[derive(Debug)]
pub struct Config {
    /// Directory of everything the node stores.
    pub data_dir: PathBuf,
    /// Whether an empty directory becomes a new cluster of one node; see also `bootstraps_alone`.
    pub bootstrap: bool,
    /// How many empty nodes form a new cluster together; `None` is off.
    pub bootstrap_expect: Option<usize>,
    /// Peer addresses to join by.
    pub join: Vec<Address>,
    /// 40 lower-case hex digits of the cluster that the node must belong to.
    pub cluster_id: Option<String>,
    /// Whether the node's data is set aside so that it joins as a new one; for this start. It founds nothing then.
    pub rejoin: bool,
    /// Where clients connect.
    pub listen: Address,
    /// Where peers connect.
    pub peer_listen: Address,
    /// Where the admin port is.
    pub admin_listen: Address,
    /// What clients are told; never unspecified.
    pub advertise: Address,
    /// What peers are told; never unspecified.
    pub advertise_peer: Address,
    /// What is told of the admin port; never unspecified.
    pub advertise_admin: Address,
    /// Further names by which the admin port may be asked, in lower case.
    pub admin_hosts: Vec<String>,
    /// Secret shared by all nodes; present whenever `peer_listen` is not a loopback address.
    pub peer_secret: Option<Secret>,
    /// Voters wanted; odd.
    pub replication_factor: usize,
    /// How long a voter may be gone before a learner takes its place; `None` is for ever.
    pub replace_after: Option<Duration>,
    /// Least silence of a leader before an election; at least three heartbeat intervals.
    pub election_timeout: Duration,
    /// Interval of an idle leader's heartbeats.
    pub heartbeat_interval: Duration,
    /// How far a leader's clock may be from the group's median.
    pub clock_skew_max: Duration,
    /// Size at which a log entry takes no further command.
    pub max_entry_bytes: usize,
    /// Number of commands at which a log entry takes no further one.
    pub max_entry_commands: usize,
    /// Size at which the Raft log is truncated.
    pub raft_log_bytes_max: u64,
    /// Size of a piece of a Raft snapshot.
    pub snapshot_chunk_bytes: usize,
    /// Budget of the block cache.
    pub block_cache_bytes: usize,
    /// Budget of all memtables together.
    pub memtable_bytes: usize,
    /// What `CONFIG SET` may change.
    pub runtime: RuntimeConfig,
}

impl Config {
    /// Reads the configuration of this process: the parsed flags of `redraft server`, its environment, and the file they name.
    /// # Errors
    /// A value that is not allowed, a file that cannot be read, or values that contradict each other.
    pub fn load(matches: &ArgMatches) -> Result<Self, ConfigError> {
        Self::load_from(Some(matches), |name| std::env::var_os(name))
    }

    /// Reads the configuration without flags: what a process started with this environment would take as its base.
    /// # Errors
    /// As `load`.
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::load_from(None, |name| std::env::var_os(name))
    }

    /// The defaults with some options set, as if by flags: for tests and for nodes inside a process.
    /// # Errors
    /// As `load`. An unknown name is an error of the caller.
    /// # Panics
    /// A name is no option.
    pub fn from_options(options: &[(&str, &str)]) -> Result<Self, ConfigError> {
        let given = options.iter().map(|(name, text)| {
            let spec = OPTIONS.iter().find(|spec| spec.name == *name).unwrap_or_else(|| unreachable!("no option is called {name}"));
            Given { spec, text: (*text).to_owned(), source: Source::Flag(spec.name) }
        });
        Self::new(settle(given)?)
    }

    /// `CONFIG GET` with one pattern; see `RuntimeConfig::get`.
    #[must_use]
    pub fn get(&self, pattern: &[u8]) -> Vec<(&'static str, String)> {
        self.runtime.get(pattern)
    }

    /// `CONFIG SET`; see `RuntimeConfig::set`.
    /// # Errors
    /// The text of Redis's error reply; nothing was changed.
    pub fn set<N: AsRef<[u8]>, V: AsRef<[u8]>>(&self, pairs: &[(N, V)]) -> Result<(), String> {
        self.runtime.set(pairs)
    }

    /// Whether an empty directory becomes a cluster of one node: asked for, or certainly an experiment on this machine alone.
    #[must_use]
    pub fn bootstraps_alone(&self) -> bool {
        let local = self.listen.is_loopback() && self.peer_listen.is_loopback() && self.admin_listen.is_loopback();
        self.bootstrap || (local && self.join.is_empty() && self.cluster_id.is_none())
    }

    fn load_from(matches: Option<&ArgMatches>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let file = source::file_path(matches, &variable);
        let mut given = file.map_or_else(|| Ok(Vec::new()), |path| source::from_file(&path))?;
        given.extend(source::from_environment(variable)?);
        given.extend(matches.map(source::from_flags).unwrap_or_default());
        Self::new(settle(given)?)
    }

    fn new(settings: Settings) -> Result<Self, ConfigError> {
        check_relations(&settings)?;
        let one = |name: &str| settings.addresses(name).first().cloned();
        let listener = |name: &str| one(name).expect("the kind has exactly one address");
        Ok(Self {
            data_dir: PathBuf::from(settings.text("data-dir")),
            bootstrap: settings.flag("bootstrap"),
            bootstrap_expect: Some(settings.size("bootstrap-expect")).filter(|count| *count != 0),
            join: settings.addresses("join").to_vec(),
            cluster_id: settings.optional_text("cluster-id"),
            rejoin: settings.flag("rejoin"),
            listen: listener("listen"),
            peer_listen: listener("peer-listen"),
            admin_listen: listener("admin-listen"),
            advertise: one("advertise").unwrap_or_else(|| listener("listen")),
            advertise_peer: one("advertise-peer").unwrap_or_else(|| listener("peer-listen")),
            advertise_admin: one("advertise-admin").unwrap_or_else(|| listener("admin-listen")),
            admin_hosts: settings.optional_text("admin-hosts").iter().flat_map(|names| names.split(',')).map(str::to_owned).collect(),
            peer_secret: settings.secret("peer-secret"),
            replication_factor: settings.size("replication-factor"),
            replace_after: settings.seconds("replace-after"),
            election_timeout: settings.milliseconds("election-timeout"),
            heartbeat_interval: settings.milliseconds("heartbeat-interval"),
            clock_skew_max: settings.milliseconds("clock-skew-max"),
            max_entry_bytes: settings.size("max-entry-bytes"),
            max_entry_commands: settings.size("max-entry-commands"),
            raft_log_bytes_max: settings.number("raft-log-bytes-max"),
            snapshot_chunk_bytes: settings.size("snapshot-chunk-bytes"),
            block_cache_bytes: settings.size("block-cache-bytes"),
            memtable_bytes: settings.size("memtable-bytes"),
            runtime: RuntimeConfig::new(settings),
        })
    }
}

/// Puts what the sources give over the defaults; later ones win. Every value is judged, also one that a stronger source overrides, so that
/// a bad file does not lie in wait behind a flag.
fn settle(given: impl IntoIterator<Item = Given>) -> Result<Settings, ConfigError> {
    let mut settings = Settings::defaults();
    for Given { spec, text, source } in given {
        if spec.change == Change::OneStart && !matches!(source, Source::Flag(_)) {
            return Err(ConfigError::FlagOnly { source_of: source, name: spec.name });
        }
        match spec.kind.parse(&text) {
            Ok(value) => settings.put(spec, value, source),
            Err(_) => {
                let shown = if spec.kind == Kind::Secret { "the value".to_owned() } else { format!("'{}'", text.escape_debug()) };
                return Err(ConfigError::Value { source_of: source, shown, allowed: spec.kind.allowed() });
            }
        }
    }
    Ok(settings)
}

/// Checks what no row can say by itself.
fn check_relations(settings: &Settings) -> Result<(), ConfigError> {
    let wrong = |name: &str, problem: String| Err(ConfigError::Relation { source_of: settings.source(name).clone(), problem });

    if settings.number("replication-factor").is_multiple_of(2) {
        return wrong("replication-factor", format!("'{}' is not an odd number", settings.number("replication-factor")));
    }
    let (heartbeat, election) = (settings.number("heartbeat-interval"), settings.number("election-timeout"));
    if election < 3 * heartbeat {
        return wrong("election-timeout", format!("'{election}' is less than three times the heartbeat-interval of {heartbeat} ms"));
    }
    // Who comes back founds nothing, so what the node was founded with may stand beside it.
    let alone = settings.flag("bootstrap") && !settings.flag("rejoin");
    if alone && !settings.addresses("join").is_empty() {
        return wrong("bootstrap", "a node cannot form a cluster of its own and join another: give bootstrap or join".to_owned());
    }
    if alone && settings.number("bootstrap-expect") != 0 {
        return wrong("bootstrap", "a node cannot form a cluster alone and with others: give bootstrap or bootstrap-expect".to_owned());
    }
    if settings.number("bootstrap-expect") != 0 && settings.addresses("join").is_empty() && !settings.flag("rejoin") {
        return wrong("bootstrap-expect", "needs join with the peer addresses of all nodes".to_owned());
    }
    for [listen, advertise] in [["listen", "advertise"], ["peer-listen", "advertise-peer"], ["admin-listen", "advertise-admin"]] {
        let (name, told) = if settings.addresses(advertise).is_empty() { (listen, listen) } else { (advertise, advertise) };
        if settings.addresses(told).iter().any(Address::is_unspecified) {
            let address = &settings.addresses(told)[0];
            return wrong(name, format!("others cannot connect to '{address}': set {advertise} to an address that they can reach"));
        }
    }
    for [one, other] in [["peer-listen", "listen"], ["admin-listen", "listen"], ["admin-listen", "peer-listen"]] {
        if settings.addresses(one) == settings.addresses(other) {
            return wrong(one, format!("'{}' is the address of {other}, too", settings.addresses(one)[0]));
        }
    }
    if !settings.addresses("peer-listen").iter().all(Address::is_loopback) && settings.text("peer-secret").is_empty() {
        let address = &settings.addresses("peer-listen")[0];
        return wrong("peer-listen", format!("'{address}' can be reached from other machines: set peer-secret, the same on all nodes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
