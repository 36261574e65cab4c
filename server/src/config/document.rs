//! Documentation made from the table: `docs/configuration.md` and the example file. A test compares both with what is in the checkout.

use std::fmt::Write;

use super::kind::{Kind, Unit, size_text};
use super::table::{Change, OPTIONS, OptionSpec, Section};

/// Width at which comments of the example file break.
const COMMENT_COLUMNS: usize = 100;

const INTRODUCTION: &str = "\
<!-- Made from the table in server/src/config/table.rs; edit that. -->
# Configuration

Every option can be given in four ways; the first that gives it wins:

1. a flag of `redraft server`: `--request-timeout 3000`;
2. an environment variable: `REDRAFT_REQUEST_TIMEOUT=3000` (an empty one counts as not set);
3. a key of the TOML file that `--config FILE` or `REDRAFT_CONFIG` names: `request-timeout = 3000`;
4. its default.

An option marked *one start* is taken as a flag only: from a file or the environment it would act at every start.

`CONFIG GET` shows every option under the same name, except for the values of secrets. `CONFIG SET` changes those marked *run time*, on
the one node that is asked, until its process ends.

Sizes take Redis's units: `1k` is 1000 bytes, `1kb` is 1024, likewise `m`, `mb`, `g`, `gb`. `yes` and `no` may be written `true` and
`false`; a flag without a value means `yes`. Lists are separated by commas, or are arrays in the file; the flag may be repeated.
[redraft.example.toml](redraft.example.toml) has every option that a file may give, with its default.

The nodes of `redraft cluster start` take their options from the environment (and so from `REDRAFT_CONFIG`), except for directories,
addresses and what concerns joining, which the supervisor sets. With a `requirepass`, `redraft cluster` needs it in its environment, too.
";

/// `docs/configuration.md`.
#[must_use]
pub fn render_docs() -> String {
    let mut out = INTRODUCTION.to_owned();
    for section in Section::ALL {
        writeln!(out, "\n## {}\n", section.heading()).expect("a String takes everything");
        if section == Section::Compatibility {
            out.push_str("Tools ask for these; they cannot be set.\n\n| name | value | why |\n|---|---|---|\n");
        } else {
            out.push_str("| name | default | values | changes | |\n|---|---|---|---|---|\n");
        }
        for spec in OPTIONS.iter().filter(|spec| spec.section == section) {
            out.push_str(&docs_row(spec));
        }
    }
    out
}

fn docs_row(spec: &OptionSpec) -> String {
    let default = if spec.default.is_empty() { String::new() } else { format!("`{}`", spec.default) };
    let changes = match spec.change {
        Change::Never => return format!("| `{}` | {default} | {} |\n", spec.name, spec.text),
        Change::AtStart => "start",
        Change::AtRunTime => "run time",
        Change::OneStart => "one start",
    };
    format!("| `{}` | {default} | {} | {changes} | {} |\n", spec.name, allowed_values(&spec.kind), spec.text)
}

/// The values of a kind in a few words.
#[must_use]
pub fn allowed_values(kind: &Kind) -> String {
    match kind {
        Kind::Number { min, max, unit: Unit::Plain } => format!("{min} to {max}"),
        Kind::Number { min, max, unit: Unit::Milliseconds } => format!("{min} to {max} ms"),
        Kind::Number { min, max, unit: Unit::Seconds } => format!("{min} to {max} s"),
        Kind::Number { min, max, unit: Unit::Bytes } => format!("{} to {}", size_text(*min), size_text(*max)),
        Kind::Flag => "`yes`, `no`".to_owned(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Path => "path".to_owned(),
        Kind::Address | Kind::OptionalAddress => "host:port".to_owned(),
        Kind::Addresses => "list of host:port".to_owned(),
        Kind::HostNames => "list of host names".to_owned(),
        Kind::ClusterId => "40 hex digits".to_owned(),
        Kind::Secret => "secret, up to 512 bytes".to_owned(),
        Kind::EventClasses => "letters".to_owned(),
        Kind::Reported => "text".to_owned(),
    }
}

/// `docs/redraft.example.toml`: every option that a file may give, commented out, with its default.
#[must_use]
pub fn render_example() -> String {
    let mut out = "# Options of redraft with their defaults. Start a node with: redraft server --config FILE\n\
                   # Made from the table in server/src/config/table.rs; docs/configuration.md explains the rules.\n"
        .to_owned();
    for section in Section::ALL.into_iter().filter(|section| *section != Section::Compatibility) {
        writeln!(out, "\n# ---- {} ----", section.heading()).expect("a String takes everything");
        for spec in OPTIONS.iter().filter(|spec| spec.section == section && spec.change != Change::OneStart) {
            out.push('\n');
            for line in wrap(spec.text, COMMENT_COLUMNS) {
                writeln!(out, "# {line}").expect("a String takes everything");
            }
            writeln!(out, "#{} = {}", spec.name, toml_default(spec)).expect("a String takes everything");
        }
    }
    out
}

/// The default as TOML writes it.
fn toml_default(spec: &OptionSpec) -> String {
    match spec.kind {
        Kind::Number { .. } if spec.default.bytes().all(|b| b.is_ascii_digit()) => spec.default.to_owned(),
        Kind::Flag => (spec.default == "yes").to_string(),
        Kind::Addresses | Kind::HostNames if spec.default.is_empty() => "[]".to_owned(),
        Kind::Number { .. }
        | Kind::Choice(_)
        | Kind::Path
        | Kind::Address
        | Kind::OptionalAddress
        | Kind::Addresses
        | Kind::HostNames
        | Kind::ClusterId
        | Kind::Secret
        | Kind::EventClasses
        | Kind::Reported => format!("\"{}\"", spec.default),
    }
}

/// Breaks a text between words into lines of at most `columns`.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
