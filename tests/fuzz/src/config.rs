//! The configuration file: any text is a configuration or an error of one line that names the file.
//! Input: the file.

use std::cell::RefCell;
use std::fs;

use clap::{ArgMatches, Command};
use redraft::config::{Config, flags};
use tempfile::TempDir;

thread_local! {
    static FILE: RefCell<Option<(TempDir, ArgMatches)>> = const { RefCell::new(None) };
}

pub(crate) fn run(input: &[u8]) {
    FILE.with_borrow_mut(|file| {
        let (dir, matches) = file.get_or_insert_with(|| {
            let dir = crate::directory();
            let path = dir.path().join("redraft.toml");
            let words = ["redraft".as_ref(), "--config".as_ref(), path.as_os_str()];
            let matches = Command::new("redraft").args(flags()).get_matches_from(words);
            (dir, matches)
        });
        fs::write(dir.path().join("redraft.toml"), input).expect("a temporary file can be written");
        match Config::load(matches) {
            Ok(config) => {
                for (name, _) in config.get(b"*") {
                    assert!(!name.is_empty());
                }
            }
            Err(error) => {
                let text = error.to_string();
                assert!(!text.contains('\n'), "one line: {text:?}");
            }
        }
    });
}
