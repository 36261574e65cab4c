//! The WAL of RocksDB after a crash, of any contents: a torn tail is cut from the newest file, or nothing is changed and the file is refused.
//! What is cut was never a file of intact records, and after one call there is nothing left to cut.
//! Input: up to three files, each made of intact fragments, bytes, zeros, and steps to the end of a block.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use raftlog::engine::{EngineError, cut_torn_tail};
use tempfile::TempDir;

use crate::input::Input;

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;
/// The type of a fragment that is a whole record.
const WHOLE: u8 = 1;
const FILE_BYTES_MAX: usize = 4 * BLOCK_BYTES;
const FILES: [&str; 3] = ["000004.log", "000009.log", "000010.log"];

thread_local! {
    static DIRECTORY: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

pub(crate) fn run(input: &[u8]) {
    DIRECTORY.with_borrow_mut(|directory| {
        let directory = directory.get_or_insert_with(crate::directory);
        check(directory.path(), &mut Input::new(input));
    });
}

fn check(directory: &Path, input: &mut Input<'_>) {
    let paths = FILES.map(|name| directory.join(name));
    let files: Vec<File> = (0..FILES.len()).map(|_| File::build(input)).collect();
    for (path, file) in paths.iter().zip(&files) {
        fs::write(path, &file.bytes).expect("a temporary file can be written");
    }
    let outcome = cut_torn_tail(directory);
    let after = contents(&paths);
    match outcome {
        Ok(()) => {
            // Files that became empty, and the newest that did not.
            let newest = after.iter().rposition(|bytes| !bytes.is_empty()).unwrap_or(0);
            for (at, (file, bytes)) in files.iter().zip(&after).enumerate() {
                assert!(file.bytes.starts_with(bytes), "a file is cut at its end");
                assert!(bytes == &file.bytes || (at >= newest && !file.is_sound), "only the newest file is cut, if it has to be");
            }
            assert!(cut_torn_tail(directory).is_ok());
            assert_eq!(contents(&paths), after, "one cut is enough");
        }
        // A file whose bad record is not the end of all, newest or not; what stood behind it may have been cut before it was found.
        Err(EngineError::Corruption(_)) => {
            assert!(files.iter().any(|file| !file.is_sound));
            assert!(files.iter().zip(&after).all(|(file, bytes)| file.bytes.starts_with(bytes)), "a file is cut at its end");
        }
        Err(error) => panic!("{error}"),
    }
}

fn contents(paths: &[PathBuf]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| fs::read(path).expect("a temporary file can be read")).collect()
}

struct File {
    bytes: Vec<u8>,
    /// Made of whole records alone.
    is_sound: bool,
}

impl File {
    fn build(input: &mut Input<'_>) -> Self {
        let mut file = Self { bytes: Vec::new(), is_sound: true };
        for _ in 0..input.byte() % 24 {
            match input.byte() % 8 {
                0 => file.damage(input.string()),
                1 => file.damage(&vec![0; usize::from(input.short())]),
                2 => file.flip(usize::from(input.short())),
                3 => {
                    let part = input.byte();
                    file.fragment(part, input);
                }
                _ => file.fragment(WHOLE, input),
            }
            if file.bytes.len() > FILE_BYTES_MAX {
                break;
            }
        }
        file
    }

    /// Appends a fragment with the right checksum, no longer than what is left of the block.
    fn fragment(&mut self, part: u8, input: &mut Input<'_>) {
        self.is_sound &= part == WHOLE;
        let mut left = BLOCK_BYTES - self.bytes.len() % BLOCK_BYTES;
        if left < HEADER_BYTES {
            self.bytes.resize(self.bytes.len() + left, 0);
            left = BLOCK_BYTES;
        }
        let length = usize::from(input.short()).min(left - HEADER_BYTES);
        let mut checked = vec![part];
        checked.resize(1 + length, input.byte());
        let checksum = crc32c::crc32c(&checked).rotate_right(15).wrapping_add(0xa282_ead8);
        self.bytes.extend(checksum.to_le_bytes());
        self.bytes.extend((length as u16).to_le_bytes());
        self.bytes.extend(checked);
    }

    fn damage(&mut self, bytes: &[u8]) {
        self.is_sound &= bytes.is_empty();
        self.bytes.extend(bytes);
    }

    fn flip(&mut self, at: usize) {
        let length = self.bytes.len();
        if length > 0 {
            self.bytes[at % length] ^= 0x10;
            self.is_sound = false;
        }
    }
}
