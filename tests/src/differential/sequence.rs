//! A sequence of steps, what a client does one after the other, and how it is shown to a reader.

use std::fmt::{self, Display, Write};

use bytes::Bytes;

use super::arguments::Source;
use super::generators;

/// Connections of a sequence.
pub(super) const CONNECTIONS: usize = 3;
/// Steps of a sequence.
const STEPS: usize = 300;
/// How often of a hundred times a step may be on another connection than the step before it.
const SWITCH_PERCENT: u32 = 3;
/// Longest text of an argument or a reply that is shown whole.
const SHOWN_BYTES_MAX: usize = 300;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) args: Vec<Bytes>,
    /// Whether it gets no reply, because of CLIENT REPLY.
    pub(super) is_silent: bool,
}

impl Command {
    pub(super) fn new(args: Vec<Bytes>) -> Self {
        Self { args, is_silent: false }
    }

    pub(super) fn silent(args: Vec<Bytes>) -> Self {
        Self { args, is_silent: true }
    }

    /// Whether the connection ends with it.
    pub(super) fn is_quit(&self) -> bool {
        self.args[0].eq_ignore_ascii_case(b"quit")
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Commands that stay together.
    Commands(Vec<Command>),
    /// SCAN from its beginning to its end.
    Iteration {
        /// What follows the cursor.
        options: Vec<Bytes>,
    },
}

/// A step of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) connection: usize,
    /// Whether it waits for the replies to all before it; otherwise it goes with them in one pipeline, if that is on its connection.
    pub(super) alone: bool,
    pub(super) action: Action,
}

/// The sequence of a seed.
pub(super) fn generate(seed: u64) -> Vec<Step> {
    let mut source = Source::new(seed);
    // Pipelines of one command, of about ten, and of about thirty.
    let alone_percent = match source.below(20) {
        0 => 100,
        1..7 => 10,
        _ => 1,
    };
    let mut connection = 0;
    let step = |_| {
        if source.percent(SWITCH_PERCENT) {
            connection = source.below(CONNECTIONS);
        }
        Step { connection, alone: source.percent(alone_percent), action: generators::action(&mut source) }
    };
    (0..STEPS).map(step).collect()
}

/// Bytes as a reader sees them: printable, and cut if there are many.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string();
    if bytes.len() > SHOWN_BYTES_MAX { format!("{text}... ({} bytes)", bytes.len()) } else { text }
}

/// Arguments as a line of redis-cli.
pub(super) fn line(args: &[Bytes]) -> String {
    let quoted = |arg: &Bytes| {
        let plain = !arg.is_empty() && arg.iter().all(|byte| byte.is_ascii_alphanumeric() || b"*{}.+-_".contains(byte));
        if plain { shown(arg) } else { format!("\"{}\"", shown(arg)) }
    };
    args.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// A line per command. A step that goes with those before it is marked with `|`.
impl Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.alone { ' ' } else { '|' };
        let mut lines = String::new();
        match &self.action {
            Action::Commands(commands) => {
                for command in commands {
                    let silent = if command.is_silent { "  (no reply)" } else { "" };
                    writeln!(lines, "{}{mark} {}{silent}", self.connection, line(&command.args))?;
                }
            }
            Action::Iteration { options } => writeln!(lines, "{}  SCAN <all> {}", self.connection, line(options))?,
        }
        formatter.write_str(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence() {
        assert_eq!(generate(7), generate(7));
        assert_ne!(generate(7), generate(8));
    }
}
