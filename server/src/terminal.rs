//! The terminal's modes, for what lines are too coarse for: secrets that must not show, and keys that count at once.
//! Invariant: whatever is changed here is as before when its value is dropped.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Another screen without a cursor, and back.
const ENTER_SCREEN: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE_SCREEN: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// Whether a person sits at both ends.
pub(crate) fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

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

/// A screen of its own for text that is drawn again and again.
pub(crate) struct Screen {
    /// Keys are not shown, and come without waiting for a line's end.
    _modes: Modes,
}

impl Screen {
    /// Takes the terminal.
    /// # Errors
    /// There is none.
    pub(crate) fn enter() -> io::Result<Self> {
        let modes = Modes::without(LocalModes::ECHO | LocalModes::ICANON)?;
        write_out(ENTER_SCREEN)?;
        Ok(Self { _modes: modes })
    }

    /// Shows lines, as many and as much of each as there is room for.
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn show(&self, lines: &[String]) -> io::Result<()> {
        let (rows, columns) = tcgetwinsize(io::stdout()).map_or((0, 0), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        write_out(&frame(lines, rows, columns))
    }

    /// Waits for a key; `None` if there was none in time.
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn key(&self, patience: Duration) -> io::Result<Option<u8>> {
        let stdin = io::stdin();
        let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut key = [0];
        match rustix::io::read(&stdin, &mut key)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(Some(key[0])),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no order.
        drop(write_out(LEAVE_SCREEN));
    }
}

/// What draws lines over those that were there before. Without a size everything is drawn.
fn frame(lines: &[String], rows: usize, columns: usize) -> Vec<u8> {
    let (rows, columns) = (if rows == 0 { usize::MAX } else { rows }, if columns == 0 { usize::MAX } else { columns });
    let mut out = b"\x1b[H".to_vec();
    for (row, line) in lines.iter().take(rows).enumerate() {
        // A line end behind the last row would scroll the first one away.
        out.extend_from_slice(if row == 0 { "" } else { "\r\n" }.as_bytes());
        out.extend(line.chars().take(columns).collect::<String>().bytes());
        out.extend_from_slice(b"\x1b[K");
    }
    out.extend_from_slice(b"\x1b[J");
    out
}

fn write_out(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal_and_leaves_nothing_of_the_one_before() {
        let lines = ["abc", "d\u{e9}f", "ghi"].map(str::to_owned);
        let check = |rows, columns, expected: &str| {
            assert_eq!(String::from_utf8(frame(&lines, rows, columns)).expect("text"), format!("\x1b[H{expected}\x1b[J"));
        };
        check(0, 0, "abc\x1b[K\r\nd\u{e9}f\x1b[K\r\nghi\x1b[K");
        check(2, 2, "ab\x1b[K\r\nd\u{e9}\x1b[K");
        check(9, 80, "abc\x1b[K\r\nd\u{e9}f\x1b[K\r\nghi\x1b[K");
    }
}
