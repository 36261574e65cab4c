//! The options that `CONFIG SET` may change while the node runs.
//! Readers take an `Arc` of one consistent set; a connection keeps it and asks `generation`, an atomic, whether there is a newer one.
//! A change is all or nothing. It holds for this node until the process ends: nothing is written back to the file.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use super::kind::{Kind, Rejection, Value};
use super::settings::Settings;
use super::source::Source;
use super::table::{Change, OPTIONS, OptionSpec};
use super::{LogLevel, ReadonlyReads, Secret};

/// What `CONFIG GET` shows in the place of a secret that is set.
const HIDDEN: &str = "(hidden)";

/// The values of all options that may change at run time, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeValues {
    /// How long a command may wait for a leader or a majority.
    pub request_timeout: Duration,
    /// What reads see after READONLY.
    pub readonly_reads: ReadonlyReads,
    /// Free disk space, in bytes, below which commands that add data are refused; 0 is off.
    pub disk_reserve: u64,
    /// Password of clients.
    pub requirepass: Option<Secret>,
    /// Whether clients from other machines are refused while there is no password.
    pub protected_mode: bool,
    /// How many clients may be connected.
    pub maxclients: usize,
    /// After how long an idle client is disconnected; `None` is never.
    pub timeout: Option<Duration>,
    /// Interval of TCP's keep-alive; `None` is off.
    pub tcp_keepalive: Option<Duration>,
    /// Longest argument, in bytes.
    pub proto_max_bulk_len: usize,
    /// Most bytes of incomplete commands per client.
    pub client_query_buffer_limit: usize,
    /// Most bytes waiting to be read by a client.
    pub client_output_buffer_limit: usize,
    /// Redis's letters, in Redis's order.
    pub notify_keyspace_events: String,
    /// From when on a command enters the slow log.
    pub slowlog_log_slower_than: Duration,
    /// Most entries of the slow log.
    pub slowlog_max_len: usize,
    /// Least weighty messages in the log.
    pub log_level: LogLevel,
}

impl RuntimeValues {
    fn new(settings: &Settings) -> Self {
        Self {
            request_timeout: settings.milliseconds("request-timeout"),
            readonly_reads: match settings.text("readonly-reads") {
                "local" => ReadonlyReads::Local,
                _ => ReadonlyReads::Linearizable,
            },
            disk_reserve: settings.number("disk-reserve"),
            requirepass: settings.secret("requirepass"),
            protected_mode: settings.flag("protected-mode"),
            maxclients: settings.size("maxclients"),
            timeout: settings.seconds("timeout"),
            tcp_keepalive: settings.seconds("tcp-keepalive"),
            proto_max_bulk_len: settings.size("proto-max-bulk-len"),
            client_query_buffer_limit: settings.size("client-query-buffer-limit"),
            client_output_buffer_limit: settings.size("client-output-buffer-limit"),
            notify_keyspace_events: settings.text("notify-keyspace-events").to_owned(),
            slowlog_log_slower_than: Duration::from_micros(settings.number("slowlog-log-slower-than")),
            slowlog_max_len: settings.size("slowlog-max-len"),
            log_level: LogLevel::from_word(settings.text("log-level")),
        }
    }
}

/// The settings and what follows from them; changed together.
struct State {
    settings: Settings,
    values: Arc<RuntimeValues>,
}

/// What is told when the log level changes.
type LogLevelListener = Box<dyn Fn(LogLevel) + Send + Sync>;

/// The options that may change at run time, and the texts of all others for `CONFIG GET`.
pub struct RuntimeConfig {
    /// Held for a few lines only, by `CONFIG GET`, `CONFIG SET`, and readers that saw a new generation.
    state: RwLock<State>,
    /// Rises with every change.
    generation: AtomicU64,
    log_level_listener: OnceLock<LogLevelListener>,
}

impl RuntimeConfig {
    pub(super) fn new(settings: Settings) -> Self {
        let values = Arc::new(RuntimeValues::new(&settings));
        Self { state: RwLock::new(State { settings, values }), generation: AtomicU64::new(0), log_level_listener: OnceLock::new() }
    }

    /// The values now.
    #[must_use]
    pub fn values(&self) -> Arc<RuntimeValues> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).values)
    }

    /// A number that rises with every change: whoever keeps an `Arc` of `values` asks here whether it is old. Read it before `values`.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Names who is told when `log-level` changes. The first caller stays.
    pub fn listen_to_log_level(&self, listener: impl Fn(LogLevel) + Send + Sync + 'static) {
        // A second listener would mean two owners of the log; the first keeps it.
        let _first_stays = self.log_level_listener.set(Box::new(listener));
    }

    /// `CONFIG GET` with one pattern: names and values, in the table's order. A secret's value is never shown.
    #[must_use]
    pub fn get(&self, pattern: &[u8]) -> Vec<(&'static str, String)> {
        let pattern = pattern.to_ascii_lowercase();
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let matching = OPTIONS.iter().filter(|spec| crate::command::glob::matches(&pattern, spec.name.as_bytes()));
        matching.map(|spec| (spec.name, shown(spec, state.settings.value(spec.name)))).collect()
    }

    /// `CONFIG SET`: changes all of the options named, or none.
    /// # Errors
    /// The text of Redis's error reply.
    pub fn set<N: AsRef<[u8]>, V: AsRef<[u8]>>(&self, pairs: &[(N, V)]) -> Result<(), String> {
        let mut changes: Vec<(&'static OptionSpec, Value)> = Vec::with_capacity(pairs.len());
        let mut specs: Vec<&'static OptionSpec> = Vec::with_capacity(pairs.len());
        // All names are looked at before any value, as in Redis.
        for (name, _) in pairs {
            let name = String::from_utf8_lossy(name.as_ref());
            let Some(spec) = OPTIONS.iter().find(|spec| spec.name.eq_ignore_ascii_case(&name)) else {
                return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
            };
            if spec.change != Change::AtRunTime {
                return Err(refusal(spec, "can't set immutable config"));
            }
            if specs.iter().any(|earlier| earlier.name == spec.name) {
                return Err(refusal(spec, "duplicate parameter"));
            }
            specs.push(spec);
        }
        for (spec, (_, value)) in specs.into_iter().zip(pairs) {
            let text = std::str::from_utf8(value.as_ref()).map_err(|_| refusal(spec, &spec.kind.reply(Rejection::Form)))?;
            let value = spec.kind.parse(text).map_err(|rejection| refusal(spec, &spec.kind.reply(rejection)))?;
            changes.push((spec, value));
        }
        self.change(changes);
        Ok(())
    }

    fn change(&self, changes: Vec<(&'static OptionSpec, Value)>) {
        let (old, new) = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for (spec, value) in changes {
                state.settings.put(spec, value, Source::Set(spec.name));
            }
            let new = Arc::new(RuntimeValues::new(&state.settings));
            let old = std::mem::replace(&mut state.values, Arc::clone(&new));
            self.generation.fetch_add(1, Ordering::Release);
            (old, new)
        };
        if old.log_level != new.log_level
            && let Some(listener) = self.log_level_listener.get()
        {
            listener(new.log_level);
        }
    }
}

impl fmt::Debug for RuntimeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values().fmt(f)
    }
}

/// Redis's frame around a reason why an option was not set.
fn refusal(spec: &OptionSpec, reason: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{}') - {reason}", spec.name)
}

/// A value as clients see it.
fn shown(spec: &OptionSpec, value: &Value) -> String {
    let text = value.text();
    if spec.kind == Kind::Secret && !text.is_empty() { HIDDEN.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn runtime() -> RuntimeConfig {
        Config::from_options(&[]).expect("the defaults are valid").runtime
    }

    #[test]
    fn get_matches_globs_in_any_case() {
        let names = |pattern: &str| runtime().get(pattern.as_bytes()).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("MaxClients"), ["maxclients"]);
        assert_eq!(names("client-*-limit"), ["client-query-buffer-limit", "client-output-buffer-limit"]);
        assert_eq!(names("nope"), Vec::<&str>::new());
        assert_eq!(names("*").len(), OPTIONS.len());
    }

    #[test]
    fn get_shows_values_as_redis_does() {
        let check = |name: &str, value: &str| assert_eq!(runtime().get(name.as_bytes())[0].1, value, "{name}");
        check("save", "");
        check("appendonly", "yes");
        check("databases", "16");
        check("proto-max-bulk-len", "67108864");
        check("requirepass", "");
    }

    #[test]
    fn set_changes_values_and_generation() {
        let runtime = runtime();
        let before = runtime.generation();
        runtime.set(&[("MAXCLIENTS", "7"), ("timeout", "3"), ("proto-max-bulk-len", "2mb")]).expect("allowed");
        let values = runtime.values();
        assert_eq!((values.maxclients, values.timeout, values.proto_max_bulk_len), (7, Some(Duration::from_secs(3)), 2 << 20));
        assert!(runtime.generation() > before);
        assert_eq!(runtime.get(b"proto-max-bulk-len")[0].1, "2097152");
    }

    #[test]
    fn secrets_are_set_but_never_shown() {
        let runtime = runtime();
        runtime.set(&[("requirepass", "swordfish")]).expect("allowed");
        assert_eq!(runtime.values().requirepass.as_ref().map(Secret::expose), Some("swordfish"));
        assert_eq!(runtime.get(b"requirepass"), [("requirepass", HIDDEN.to_owned())]);
        assert!(!format!("{runtime:?}").contains("swordfish"));
        runtime.set(&[("requirepass", "")]).expect("allowed");
        assert_eq!(runtime.values().requirepass, None);
    }

    #[test]
    fn set_answers_errors_as_redis_does_and_changes_nothing() {
        let failed = |name: &str, reason: &str| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
        let check = |pairs: &[(&str, &str)], expected: String| {
            let runtime = runtime();
            assert_eq!(runtime.set(pairs), Err(expected));
            assert_eq!((runtime.generation(), runtime.values().timeout), (0, None));
        };
        check(&[("timeout", "5"), ("nope", "1")], "ERR Unknown option or number of arguments for CONFIG SET - 'nope'".to_owned());
        check(&[("timeout", "5"), ("databases", "3")], failed("databases", "can't set immutable config"));
        check(&[("data-dir", "/x")], failed("data-dir", "can't set immutable config"));
        check(&[("timeout", "5"), ("timeout", "6")], failed("timeout", "duplicate parameter"));
        check(&[("timeout", "-1")], failed("timeout", "argument must be between 0 and 2147483647 inclusive"));
        check(&[("timeout", "x")], failed("timeout", "argument couldn't be parsed into an integer"));
        check(&[("proto-max-bulk-len", "1x")], failed("proto-max-bulk-len", "argument must be a memory value"));
        check(&[("proto-max-bulk-len", "1")], failed("proto-max-bulk-len", "argument must be between 1048576 and 536870912 inclusive"));
        check(&[("protected-mode", "maybe")], failed("protected-mode", "argument must be 'yes' or 'no'"));
        check(
            &[("timeout", "5"), ("readonly-reads", "never")],
            failed("readonly-reads", "argument(s) must be one of the following: linearizable, local"),
        );
        check(
            &[("notify-keyspace-events", "Q")],
            failed("notify-keyspace-events", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
        );
    }

    #[test]
    fn a_new_log_level_is_told_once() {
        let runtime = runtime();
        let (sender, told) = std::sync::mpsc::channel();
        runtime.listen_to_log_level(move |level| sender.send(level).expect("the test listens"));
        runtime.set(&[("log-level", "DEBUG")]).expect("allowed");
        runtime.set(&[("log-level", "debug"), ("timeout", "1")]).expect("allowed");
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [LogLevel::Debug]);
    }
}
