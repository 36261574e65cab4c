//! The story of a run: every step goes into a hash, so that two runs of one seed can be compared, and, where it is asked for, onto standard
//! error for a reader.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher};

use protobuf::Message as _;
use raft::eraftpb::Message;
use raftlog::message::{Body, Frame};

/// The story so far.
#[derive(Default)]
pub struct Trace {
    hasher: DefaultHasher,
    is_told: bool,
}

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.hasher.write(text.as_bytes());
        if self.is_told {
            eprint!("{text}");
        }
        Ok(())
    }
}

impl Trace {
    /// A story that is told as it happens.
    pub fn told() -> Self {
        Self { is_told: true, ..Self::default() }
    }

    /// A step on a machine.
    pub fn note(&mut self, now_us: u64, slot: usize, what: fmt::Arguments<'_>) {
        writeln!(self, "{:>10.3} machine {slot}: {what}", now_us as f64 / 1e3).expect("hashing does not fail");
    }

    /// A frame arrives.
    pub fn frame(&mut self, now_us: u64, from: usize, to: usize, frame: &Frame) {
        self.note(now_us, to, format_args!("from machine {from}: {}", describe(frame)));
    }

    /// A number for everything that happened.
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

fn describe(frame: &Frame) -> String {
    match &frame.body {
        Some(Body::Raft(bytes)) => Message::parse_from_bytes(bytes).map_or_else(
            |_| "an unreadable message".into(),
            |message| {
                format!(
                    "{:?} {}->{} term {} index {} (term {}) commit {} entries {} reject {} context {:?}",
                    message.get_msg_type(),
                    message.from,
                    message.to,
                    message.term,
                    message.index,
                    message.log_term,
                    message.commit,
                    message.entries.len(),
                    message.reject,
                    message.context
                )
            },
        ),
        Some(Body::Forward(forward)) => {
            let run = forward.run.as_ref().map_or((0, 0, 0), |run| (run.node_id, run.boot, run.sequence));
            format!("run {run:?}, attempt {}", forward.attempt)
        }
        Some(other) => format!("{other:?}"),
        None => "an empty frame".into(),
    }
}
