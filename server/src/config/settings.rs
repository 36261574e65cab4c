//! One value per option, with its source. Typed access is by the option's name; a name or kind that the table does not have is a bug of
//! ours and panics, which every test that builds a configuration would show.

use std::time::Duration;

use super::Secret;
use super::address::Address;
use super::kind::Value;
use super::source::Source;
use super::table::{OPTIONS, OptionSpec};

/// Values and sources, in the order of `OPTIONS`.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    values: Vec<(Value, Source)>,
}

impl Settings {
    /// The defaults.
    pub(super) fn defaults() -> Self {
        let default = |spec: &OptionSpec| spec.kind.parse(spec.default).expect("a test checks every default");
        Self { values: OPTIONS.iter().map(|spec| (default(spec), Source::Default(spec.name))).collect() }
    }

    pub(super) fn put(&mut self, spec: &OptionSpec, value: Value, source: Source) {
        self.values[position(spec.name)] = (value, source);
    }

    pub(super) fn value(&self, name: &str) -> &Value {
        &self.values[position(name)].0
    }

    pub(super) fn source(&self, name: &str) -> &Source {
        &self.values[position(name)].1
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Number(number) => *number,
            Value::Flag(_) | Value::Text(_) | Value::Addresses(_) => unreachable!("{name} is no number"),
        }
    }

    /// A number that counts things in memory.
    pub(super) fn size(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).expect("bounds fit 64-bit machines, the only ones RocksDB is built for here")
    }

    pub(super) fn milliseconds(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    /// Seconds, of which 0 means never.
    pub(super) fn seconds(&self, name: &str) -> Option<Duration> {
        Some(self.number(name)).filter(|seconds| *seconds != 0).map(Duration::from_secs)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Flag(flag) => *flag,
            Value::Number(_) | Value::Text(_) | Value::Addresses(_) => unreachable!("{name} is no flag"),
        }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(text) => text,
            Value::Number(_) | Value::Flag(_) | Value::Addresses(_) => unreachable!("{name} is no text"),
        }
    }

    /// A text of which the empty one means none.
    pub(super) fn optional_text(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.optional_text(name).map(Secret)
    }

    pub(super) fn addresses(&self, name: &str) -> &[Address] {
        match self.value(name) {
            Value::Addresses(addresses) => addresses,
            Value::Number(_) | Value::Flag(_) | Value::Text(_) => unreachable!("{name} is no address"),
        }
    }
}

fn position(name: &str) -> usize {
    OPTIONS.iter().position(|spec| spec.name == name).unwrap_or_else(|| unreachable!("no option is called {name}"))
}
