//! A Raft snapshot that comes in: any header and any chunks. What is taken has the bytes that were declared and sent; of what is not taken
//! nothing stays on the disk.
//! Input: parts, each either well formed but for one thing, or any bytes.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use prost::Message;
use redraft::net::peer::Transfer;
use redraft::net::peer::wire::{Part, SnapshotChunk, SnapshotFile, SnapshotHeader, SnapshotPart};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::input::Input;

/// The member that sends.
const FROM: u64 = 2;
/// More files would be slow, and show nothing more.
const FILES_MAX: usize = 20;

thread_local! {
    static DIRECTORY: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

pub(crate) fn run(input: &[u8]) {
    DIRECTORY.with_borrow_mut(|directory| {
        let directory = directory.get_or_insert_with(crate::directory);
        check(directory.path(), &mut Input::new(input));
    });
}

fn check(parent: &Path, input: &mut Input<'_>) {
    let Some(header) = header(input) else { return };
    if header.files.len() > FILES_MAX {
        return;
    }
    let chunks = chunks(&header, input);
    let Ok(mut transfer) = Transfer::new(parent, FROM, header.clone()) else { return };
    let (sender, mut receiver) = mpsc::channel(chunks.len().max(1));
    for chunk in &chunks {
        sender.try_send(chunk.clone()).expect("the channel has room for all");
    }
    drop(sender);
    match transfer.write(&mut receiver, || ()) {
        Ok(snapshot) => {
            assert_eq!((snapshot.group, snapshot.index, &snapshot.message), (header.group, header.index, &header.message));
            assert_eq!(snapshot.files.len(), header.files.len());
            for (number, (declared, (cf, path))) in (0..).zip(header.files.iter().zip(&snapshot.files)) {
                let of_file = chunks.iter().filter(|chunk| chunk.file == number);
                let sent: Vec<u8> = of_file.flat_map(|chunk| chunk.data.iter().copied()).collect();
                let stored = fs::read(path).expect("a snapshot that was taken is there");
                assert_eq!((u32::from(*cf), stored.len() as u64), (declared.cf, declared.bytes));
                assert_eq!(stored, sent);
            }
            fs::remove_dir_all(snapshot.dir).expect("a snapshot that was taken is there");
        }
        Err(reason) => {
            assert!(!reason.contains('\n'), "one line: {reason:?}");
            transfer.discard();
        }
    }
    assert!(fs::read_dir(parent).expect("the directory is there").next().is_none(), "nothing stays");
}

fn header(input: &mut Input<'_>) -> Option<SnapshotHeader> {
    if input.byte() == 0 {
        let part = SnapshotPart::decode(input.string()).ok()?.part?;
        return match part {
            Part::Header(header) => Some(header),
            Part::Chunk(_) => None,
        };
    }
    let files = (0..input.byte() % 5).map(|_| SnapshotFile { cf: u32::from(input.byte()), bytes: input.number() }).collect();
    Some(SnapshotHeader { group: input.number() as u32, index: input.number(), message: input.bytes(), files })
}

/// Chunks in their order, of which each may be wrong in one way.
fn chunks(header: &SnapshotHeader, input: &mut Input<'_>) -> Vec<SnapshotChunk> {
    let mut chunks = Vec::new();
    let (mut file, mut offset) = (0, 0);
    while !input.is_empty() {
        let operation = input.byte();
        if operation == 0 {
            if let Ok(SnapshotPart { part: Some(Part::Chunk(chunk)) }) = SnapshotPart::decode(input.string()) {
                chunks.push(chunk);
            }
            continue;
        }
        let data = input.bytes();
        let mut chunk = SnapshotChunk { file, offset, crc32: crc32fast::hash(&data), data };
        match operation {
            1 => chunk.file = input.number() as u32,
            2 => chunk.offset = input.number(),
            3 => chunk.crc32 ^= 1,
            _ => {}
        }
        offset += chunk.data.len() as u64;
        chunks.push(chunk);
        while header.files.get(file as usize).is_some_and(|declared| declared.bytes <= offset) {
            (file, offset) = (file + 1, 0);
        }
    }
    chunks
}
