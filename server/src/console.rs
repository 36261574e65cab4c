//! `redraft cli`: an interactive client for any server that speaks Redis's protocol, for machines without redis-cli.
//! `options` is the command line, `connection` one connection, `session` what outlives it; `printer` shows replies, `editor` reads lines
//! with the help of `guide`. What it accepts and prints is redis-cli's.
//! One command is in flight at a time. One that may have changed something is never sent again by itself.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use resp::{Protocol, Value, split_arguments};

pub(crate) mod connection;
mod editor;
mod guide;
mod options;
pub(crate) mod printer;
mod session;

pub use options::{ConsoleOptions, PasswordSource};
pub use session::SessionError;

use crate::config::{Config, ConfigError, Secret};
use crate::terminal;
use editor::{Input, LineEditor};
use printer::{Style, render};
use session::Session;

/// A reply that took so long is told how long it took.
const WORTH_TELLING: Duration = Duration::from_millis(500);

/// What became of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// None was answered with an error.
    Fine,
    /// One was.
    ErrorReply,
}

/// Why there is no conversation, or why it ended. Every text is one line.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The environment or the file that it names has a bad option.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A command has no reply.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The terminal cannot be used.
    #[error("cannot read from the terminal: {0}")]
    Terminal(String),
    /// Standard input or output failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Runs the command of the command line, or those of standard input: one after the other, or as a person types them.
/// # Errors
/// Nobody answers, or the terminal cannot be used. Error replies are printed as replies, and told by the verdict.
pub fn run(options: &ConsoleOptions) -> Result<Verdict, ConsoleError> {
    let password = password(options.password_from)?;
    let protocol = if options.resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
    let mut console = Console {
        session: Session::new(options.servers(), password.as_ref(), protocol, options.db),
        style: if options.no_raw || (!options.raw && io::stdout().is_terminal()) { Style::ForPeople } else { Style::Raw },
        verdict: Verdict::Fine,
    };
    if !options.command.is_empty() {
        let word = |word: &OsString| Bytes::copy_from_slice(word.as_bytes());
        console.execute(&options.command.iter().map(word).collect::<Vec<_>>())?;
    } else if io::stdin().is_terminal() {
        console.converse()?;
        // What a person saw needs no verdict.
        return Ok(Verdict::Fine);
    } else {
        console.run_lines(io::stdin().lock())?;
    }
    Ok(console.verdict)
}

fn password(source: PasswordSource) -> Result<Option<Secret>, ConsoleError> {
    match source {
        // As for the nodes themselves, and for whoever else asks them.
        PasswordSource::Env => Ok(Config::from_environment()?.runtime.values().requirepass.clone()),
        PasswordSource::Prompt => {
            let text = terminal::read_secret("password: ").map_err(|error| ConsoleError::Terminal(error.to_string()))?;
            Ok(Secret::typed(text))
        }
    }
}

struct Console {
    session: Session,
    style: Style,
    verdict: Verdict,
}

impl Console {
    /// Has a command carried out and prints what came of it.
    fn execute(&mut self, command: &[Bytes]) -> Result<(), ConsoleError> {
        let outcome = self.session.execute(command);
        self.tell_notices();
        let style = self.style.of_reply_to(command);
        let mut out = io::stdout().lock();
        for reply in outcome? {
            if matches!(reply, Value::Error(_)) {
                self.verdict = Verdict::ErrorReply;
            }
            out.write_all(&render(&reply, style))?;
        }
        Ok(out.flush()?)
    }

    /// Runs the commands on the lines of an input.
    fn run_lines(&mut self, input: impl BufRead) -> Result<(), ConsoleError> {
        for line in input.split(b'\n') {
            match split_arguments(&line?) {
                Some(words) if words.is_empty() => {}
                Some(words) if is_farewell(&words) => break,
                Some(words) => self.execute(&words)?,
                None => complain()?,
            }
        }
        Ok(())
    }

    /// Runs the commands that a person types.
    fn converse(&mut self) -> Result<(), ConsoleError> {
        let mut editor = LineEditor::new().map_err(|error| ConsoleError::Terminal(error.to_string()))?;
        if let Err(error) = self.session.connect() {
            eprintln!("{error}");
        }
        loop {
            self.tell_notices();
            let input = editor.read(&self.session.prompt()).map_err(|error| ConsoleError::Terminal(error.to_string()))?;
            let Input::Line(line) = input else { return Ok(()) };
            editor.remember(&line);
            match split_arguments(line.as_bytes()) {
                Some(words) if words.is_empty() => {}
                Some(words) if is_farewell(&words) => return Ok(()),
                Some(words) => self.execute_for_a_person(&words)?,
                None => complain()?,
            }
        }
    }

    /// As `execute`; a command without a reply is told, and the conversation goes on.
    fn execute_for_a_person(&mut self, command: &[Bytes]) -> Result<(), ConsoleError> {
        let began = Instant::now();
        match self.execute(command) {
            Ok(()) => {}
            Err(ConsoleError::Session(error)) => eprintln!("{error}"),
            Err(error) => return Err(error),
        }
        let took = began.elapsed();
        if took >= WORTH_TELLING && self.style == Style::ForPeople {
            writeln!(io::stdout(), "({:.2}s)", took.as_secs_f64())?;
        }
        Ok(())
    }

    /// Tells what the person has to know beside the replies, and apart from them.
    fn tell_notices(&mut self) {
        for notice in self.session.take_notices() {
            eprintln!("{notice}");
        }
    }
}

/// Whether a line ends the conversation.
fn is_farewell(words: &[Bytes]) -> bool {
    words.first().is_some_and(|word| word.eq_ignore_ascii_case(b"quit") || word.eq_ignore_ascii_case(b"exit"))
}

/// What redis-cli says to a line with quotes that do not match.
fn complain() -> io::Result<()> {
    writeln!(io::stdout(), "Invalid argument(s)")
}
