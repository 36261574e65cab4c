//! A program on a pseudoterminal, as a person has it: keys go in, and what is drawn comes out, control sequences included.
//! The terminal is nobody's controlling terminal, so it sends no signals: Ctrl-C is a byte like any other.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::process::{Process, redraft_binary};
use crate::wait::{PATIENCE, eventually};

/// Its size.
const SIZE: Winsize = Winsize { ws_row: 30, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 };

/// A running program and its terminal.
#[derive(Debug)]
pub struct Terminal {
    process: Process,
    master: File,
    /// The program's end, which keeps its modes when the program has ended.
    end: OwnedFd,
    /// All that was drawn; the thread that reads it adds to it.
    drawn: Arc<Mutex<Vec<u8>>>,
    /// How much of it `expect` has passed.
    passed: usize,
}

impl Terminal {
    /// Starts `redraft` on a terminal of its own, with variables in its environment.
    /// # Panics
    /// The system has no terminal, or the program cannot be started.
    #[must_use]
    pub fn start(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("the terminal is ours");
        tcsetwinsize(&master, SIZE).expect("a terminal has a size");
        let name = ptsname(&master, Vec::new()).expect("a terminal has a name");
        let end = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).expect("a terminal has two ends");
        let streams = [(); 3].map(|()| Stdio::from(end.try_clone().expect("a file can be shared")));
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let kind = [("TERM", "xterm")];
        let variables: Vec<(String, String)> =
            kind.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let process = Process::start_on(&redraft_binary(), &args, &variables, streams);
        let master = File::from(master);
        let drawn = Arc::new(Mutex::new(Vec::new()));
        read_all(master.try_clone().expect("a file can be shared"), Arc::clone(&drawn));
        Self { process, master, end, drawn, passed: 0 }
    }

    /// Types keys.
    /// # Panics
    /// The terminal is gone.
    pub fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until a text is drawn, after what was waited for before. No text is there already.
    /// # Panics
    /// It is not in time.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let found = |drawn: &[u8]| drawn.windows(text.len()).position(|part| part == text.as_bytes());
        let end = eventually(&format!("{text:?} is drawn"), || {
            let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
            found(&drawn[self.passed..]).map(|at| self.passed + at + text.len())
        });
        self.passed = end;
    }

    /// Whether keys are shown and come line by line, as a shell wants it.
    /// # Panics
    /// The terminal is gone.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        let modes = tcgetattr(&self.end).expect("a terminal has modes").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits for the program's end.
    /// # Panics
    /// It does not end in time.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("---- the terminal showed\n{}", drawn.escape_ascii());
        }
    }
}

/// Starts a thread that reads what is drawn until nobody can draw any more.
fn read_all(mut master: File, drawn: Arc<Mutex<Vec<u8>>>) {
    let reading = thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        let mut piece = [0; 4096];
        // The end is an error: the other end is closed.
        while let Ok(length) = master.read(&mut piece) {
            if length == 0 {
                return;
            }
            drawn.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..length]);
        }
    });
    reading.expect("a thread can be started");
}
