//! The line that a person edits: keys, completion and hints by rustyline, and a history that outlives the session.
//! The history is in the person's home, readable for nobody else. What might hold a secret, or begins with a blank, is not in it.
//! A history that cannot be read or written keeps nobody from working.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use resp::split_arguments;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::guide;

/// The history in the home directory.
const HISTORY_FILE: &str = ".redraft_history";
/// Lines that it keeps.
const HISTORY_LINES_MAX: usize = 1000;

/// What a person did at the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Typed a line.
    Line(String),
    /// Wants to leave: the end of the input, or Ctrl-C.
    End,
}

/// The editor of lines.
pub(super) struct LineEditor {
    editor: Editor<Assistant, DefaultHistory>,
    history: Option<PathBuf>,
}

impl LineEditor {
    /// An editor on the terminal, with the history of earlier sessions.
    /// # Errors
    /// The terminal cannot be used.
    pub(super) fn new() -> Result<Self, ReadlineError> {
        let config =
            Config::builder().max_history_size(HISTORY_LINES_MAX)?.completion_type(CompletionType::List).auto_add_history(false).build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Assistant));
        let history = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(HISTORY_FILE));
        if let Some(path) = &history {
            // It may not exist yet, and must be the person's alone from its first byte.
            drop(OpenOptions::new().create(true).append(true).mode(0o600).open(path));
            drop(editor.load_history(path));
        }
        Ok(Self { editor, history })
    }

    /// Has the person type a line.
    /// # Errors
    /// The terminal cannot be used.
    pub(super) fn read(&mut self, prompt: &str) -> Result<Input, ReadlineError> {
        match self.editor.readline(prompt) {
            Ok(line) => Ok(Input::Line(line)),
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(Input::End),
            Err(error) => Err(error),
        }
    }

    /// Adds a line to the history, unless it is nobody's business.
    pub(super) fn remember(&mut self, line: &str) {
        if !is_worth_keeping(line) {
            return;
        }
        let added = self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(path) = self.history.as_ref().filter(|_| added) {
            drop(self.editor.append_history(path));
        }
    }
}

/// Whether a line goes into the history. What is no command is not judged, and so not kept.
fn is_worth_keeping(line: &str) -> bool {
    let Some(words) = split_arguments(line.as_bytes()) else { return false };
    let is = |position: usize, name: &str| words.get(position).is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let has = |part: &[u8]| words.iter().skip(1).any(|word| word.to_ascii_lowercase().windows(part.len()).any(|bytes| bytes == part));
    let is_secret =
        is(0, "auth") || (is(0, "hello") && has(b"auth")) || (is(0, "config") && is(1, "set") && (has(b"pass") || has(b"secret")));
    !words.is_empty() && !line.starts_with(char::is_whitespace) && !is_secret
}

/// What rustyline asks while a line is edited.
struct Assistant;

impl Helper for Assistant {}

impl Validator for Assistant {}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> Result<(usize, Vec<String>), ReadlineError> {
        Ok(guide::completions(&line[..position]))
    }
}

impl Hinter for Assistant {
    type Hint = Remark;

    fn hint(&self, line: &str, position: usize, _: &Context<'_>) -> Option<Remark> {
        guide::hint(line).filter(|_| position == line.len()).map(Remark)
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        // Grey, as in redis-cli.
        Cow::Owned(format!("\x1b[90m{hint}\x1b[0m"))
    }
}

/// A hint that is read and never taken over into the line.
struct Remark(String);

impl Hint for Remark {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_private_lines_are_not_kept() {
        for line in ["GET k", "set auth v", "hello 3", "config get requirepass", "config set maxclients 5", "get \"a b\""] {
            assert!(is_worth_keeping(line), "{line}");
        }
        for line in [
            "",
            "  ",
            " GET k",
            "auth pw",
            "AUTH user pw",
            "\"auth\" pw",
            "hello 3 AUTH default pw",
            "config set requirepass pw",
            "CONFIG SET maxclients 5 RequirePass pw",
            "config set peer-secret pw",
            "auth \"pw",
        ] {
            assert!(!is_worth_keeping(line), "{line}");
        }
    }
}
