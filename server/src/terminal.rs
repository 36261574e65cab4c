//! The terminal's modes, for what must not show: secrets.
//! Invariant: whatever is changed here is as before when its value is dropped.

use std::io::{self, BufRead, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Asks for a line that is not shown.
/// # Errors
/// Standard input is no terminal, or has ended.
pub(crate) fn read_secret(prompt: &str) -> io::Result<String> {
    let quiet = Modes::without(LocalModes::ECHO)?;
    // Not on standard output, which may go elsewhere.
    let mut out = io::stderr();
    write!(out, "{prompt}")?;
    out.flush()?;
    let mut line = String::new();
    let length = io::stdin().lock().read_line(&mut line)?;
    drop(quiet);
    writeln!(out)?;
    if length == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(line.trim_end_matches(['\r', '\n']).to_owned()) }
}

/// The modes of the terminal at standard input, changed until this is dropped.
struct Modes {
    former: Termios,
}

impl Modes {
    fn without(modes: LocalModes) -> io::Result<Self> {
        let former = tcgetattr(io::stdin())?;
        let mut changed = former.clone();
        changed.local_modes.remove(modes);
        tcsetattr(io::stdin(), OptionalActions::Now, &changed)?;
        Ok(Self { former })
    }
}

impl Drop for Modes {
    fn drop(&mut self) {
        // A terminal that is gone has no modes.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.former);
    }
}
