//! The slow log: commands that took long on this node, as Redis's SLOWLOG tells of them.
//! What counts is the time from when a command was read to its reply, with the log and the network in it; Redis counts execution alone, of
//! which there is little here. Commands that travel together are one entry, under the first of them.
//! It lives in memory, in each node by itself, and is bounded in entries and in the bytes of each.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use resp::Reply;

/// Arguments of an entry, and bytes of an argument (Redis's `SLOWLOG_ENTRY_MAX_ARGC` and `SLOWLOG_ENTRY_MAX_STRING`).
const ARGUMENTS_MAX: usize = 32;
const ARGUMENT_BYTES_MAX: usize = 128;

/// A slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowCommand {
    /// Rises by one from entry to entry, also over a RESET.
    pub id: u64,
    /// When it was answered.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// The name and the arguments, shortened as in Redis.
    pub args: Vec<Bytes>,
    /// How many arguments there were, the name included, and their bytes.
    pub arguments: usize,
    /// Bytes of all arguments.
    pub bytes: usize,
    /// Where the client connected from, and the name it gave itself.
    pub client: (String, Bytes),
}

/// The last slow commands.
#[derive(Debug, Default)]
pub struct SlowLog {
    /// Newest last, and the id of the next. Only slow commands take this lock.
    kept: Mutex<(VecDeque<SlowCommand>, u64)>,
}

impl SlowLog {
    /// Adds a command.
    pub fn add(&self, args: &[Bytes], took: Duration, client: (String, Bytes), entries_max: usize) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (entries, next) = &mut *kept;
        let (arguments, bytes) = (args.len(), args.iter().map(Bytes::len).sum());
        entries.push_back(SlowCommand { id: *next, at: SystemTime::now(), took, args: shortened(args), arguments, bytes, client });
        *next += 1;
        while entries.len() > entries_max {
            entries.pop_front();
        }
    }

    /// The newest entries, newest first.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<SlowCommand> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).0.iter().rev().take(count).cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets them.
    pub fn reset(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).0.clear();
    }
}

impl SlowCommand {
    /// As SLOWLOG GET shows it.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let number = |number: u128| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let seconds = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Reply::Array(vec![
            number(self.id.into()),
            number(seconds.into()),
            number(self.took.as_micros()),
            Reply::Array(self.args.iter().cloned().map(Reply::Bulk).collect()),
            Reply::text(self.client.0.as_str()),
            Reply::Bulk(self.client.1.clone()),
        ])
    }
}

/// Copies, since an argument is a view of the buffer it was read into and would keep that alive.
fn shortened(args: &[Bytes]) -> Vec<Bytes> {
    let shown = if args.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { args.len() };
    let short = |arg: &Bytes| match arg.len().checked_sub(ARGUMENT_BYTES_MAX) {
        None | Some(0) => Bytes::copy_from_slice(arg),
        Some(more) => Bytes::from([&arg[..ARGUMENT_BYTES_MAX], format!("... ({more} more bytes)").as_bytes()].concat()),
    };
    let mut short: Vec<_> = args[..shown].iter().map(short).collect();
    if args.len() > shown {
        short.push(Bytes::from(format!("... ({} more arguments)", args.len() - shown)));
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<Bytes> {
        words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let log = SlowLog::default();
        (0..5u32).for_each(|number| log.add(&args(&["GET", &number.to_string()]), Duration::from_micros(7), Default::default(), 3));
        let ids: Vec<_> = log.newest(10).iter().map(|entry| entry.id).collect();
        assert_eq!((ids, log.len()), (vec![4, 3, 2], 3));
        assert_eq!(log.newest(1)[0].args, args(&["GET", "4"]));
        log.reset();
        assert!(log.is_empty());
        log.add(&args(&["PING"]), Duration::ZERO, Default::default(), 3);
        assert_eq!(log.newest(1)[0].id, 5);
    }

    #[test]
    fn long_commands_are_shortened_as_in_redis() {
        let long = "x".repeat(130);
        assert_eq!(shortened(&args(&["SET", &long])), args(&["SET", &format!("{}... (2 more bytes)", &long[..128])]));
        let many = vec!["a"; 40];
        let shown = shortened(&args(&many));
        assert_eq!((shown.len(), &shown[31][..]), (32, &b"... (9 more arguments)"[..]));
        assert_eq!(shortened(&args(&["a"; 32])).len(), 32);
    }
}
