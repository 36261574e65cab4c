//! Where options come from: flags, environment variables and a TOML file, each turned into text per option.
//! Precedence is flag, environment, file, default. A flag or file key that no row knows is an error; an unknown `REDRAFT_` variable is
//! not, since container platforms make up such names for a service called `redraft`. An empty variable counts as not set.
//! Values are not judged here, so that every source gets the same judgement and the same message.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use super::ConfigError;
use super::kind::Kind;
use super::table::{Change, OPTIONS, OptionSpec};

/// Name of the flag that names the file; its variable is `REDRAFT_CONFIG`.
const FILE_FLAG: &str = "config";
/// Variable that names the file.
const FILE_VARIABLE: &str = "REDRAFT_CONFIG";

/// Where a value came from, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table.
    Default(&'static str),
    /// A key of the file.
    File(PathBuf, String),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(&'static str),
    /// `CONFIG SET`.
    Set(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(name) => write!(f, "{name} (default)"),
            Self::File(path, key) => write!(f, "{}: {key}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Set(name) => write!(f, "CONFIG SET {name}"),
        }
    }
}

/// An option's text as a source gave it; lists are joined by commas.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) spec: &'static OptionSpec,
    pub(super) text: String,
    pub(super) source: Source,
}

/// The flags of the table, and the one that names the file.
#[must_use]
pub fn flags() -> Vec<Arg> {
    let mut flags = vec![
        Arg::new(FILE_FLAG)
            .long(FILE_FLAG)
            .value_name("FILE")
            .help("TOML file with any of the options below as keys, without the dashes [env: REDRAFT_CONFIG]"),
    ];
    for spec in OPTIONS.iter().filter(|spec| spec.change != Change::Never) {
        let arg =
            Arg::new(spec.name).long(spec.name).value_name(spec.kind.placeholder()).help(help(spec)).help_heading(spec.section.heading());
        flags.push(match spec.kind {
            Kind::Flag => arg.num_args(0..=1).default_missing_value("yes").action(ArgAction::Set),
            Kind::Addresses | Kind::HostNames => arg.action(ArgAction::Append),
            Kind::Number { .. }
            | Kind::Choice(_)
            | Kind::Path
            | Kind::Address
            | Kind::OptionalAddress
            | Kind::ClusterId
            | Kind::Secret
            | Kind::EventClasses
            | Kind::Reported => arg.action(ArgAction::Set),
        });
    }
    flags
}

/// The line of `--help`.
fn help(spec: &OptionSpec) -> String {
    let text = spec.text.trim_end_matches('.');
    match spec.kind {
        Kind::Number { .. } | Kind::Choice(_) => format!("{text} [{}; default: {}]", spec.kind.allowed(), spec.default),
        _ if spec.default.is_empty() => text.to_owned(),
        _ => format!("{text} [default: {}]", spec.default),
    }
}

/// What the flags give.
pub(super) fn from_flags(matches: &ArgMatches) -> Vec<Given> {
    let mut given = Vec::new();
    for spec in OPTIONS.iter().filter(|spec| spec.change != Change::Never) {
        if matches.value_source(spec.name) == Some(ValueSource::CommandLine) {
            let values: Vec<&str> = matches.get_many::<String>(spec.name).into_iter().flatten().map(String::as_str).collect();
            given.push(Given { spec, text: values.join(","), source: Source::Flag(spec.name) });
        }
    }
    given
}

/// What the environment gives. `variable` looks a variable up.
pub(super) fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<Given>, ConfigError> {
    let mut given = Vec::new();
    for spec in OPTIONS.iter().filter(|spec| spec.change != Change::Never) {
        let name = spec.variable();
        if let Some(value) = variable(&name).filter(|value| !value.is_empty()) {
            let source = Source::Variable(name);
            let Ok(text) = value.into_string() else { return Err(ConfigError::NotText { source_of: source }) };
            given.push(Given { spec, text, source });
        }
    }
    Ok(given)
}

/// The file that a flag or the environment names.
pub(super) fn file_path(matches: Option<&ArgMatches>, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let flag = matches.and_then(|matches| matches.get_one::<String>(FILE_FLAG)).map(PathBuf::from);
    flag.or_else(|| variable(FILE_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from))
}

/// What the file gives.
pub(super) fn from_file(path: &Path) -> Result<Vec<Given>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::FileUnreadable { path: path.to_owned(), cause })?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        ConfigError::FileSyntax { path: path.to_owned(), line, problem: error.message().replace('\n', " ") }
    })?;
    let mut given = Vec::new();
    for (key, value) in table {
        let Some(spec) = OPTIONS.iter().find(|spec| spec.name == key && spec.change != Change::Never) else {
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key });
        };
        let source = Source::File(path.to_owned(), key);
        let Some(text) = toml_text(&value) else {
            return Err(ConfigError::Value {
                source_of: source,
                shown: format!("a TOML {}", value.type_str()),
                allowed: spec.kind.allowed(),
            });
        };
        given.push(Given { spec, text, source });
    }
    Ok(given)
}

/// A TOML value as the text that a flag would carry; `None` for values that no option has.
fn toml_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(true) => Some("yes".to_owned()),
        toml::Value::Boolean(false) => Some("no".to_owned()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
