//! Log entries of any contents: apply executes them or halts with a reason. What was applied can be opened again and says the same.
//! Input: entries, each with a byte that says how much of it is well formed.

use bytes::Bytes;
use raft::eraftpb::EntryType;
use raftlog::entry::{ENVELOPE_VERSION, EntryKind, Envelope, Run};
use redraft::command::codec;
use redraft::node::core::LEVEL;

use crate::input::Input;
use crate::replica::{self, BOOT, ELSEWHERE, HERE, Replica, envelope, may_be_large};

/// Where log time begins.
const NOW_MS: u64 = 1_000_000_000_000;

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut replica = Replica::found();
    let mut now_ms = NOW_MS;
    let mut sequences = [0, 0];
    while !input.is_empty() {
        let operation = input.byte();
        let mut kind = EntryType::EntryNormal;
        let mut context = Bytes::new();
        let data = match operation % 9 {
            0 => input.bytes(),
            1 | 2 => {
                // A run that is executed, of commands that may be none.
                let origin = usize::from(operation / 9 % 2);
                sequences[origin] += 1;
                now_ms += u64::from(input.byte());
                let (node_id, payload) = ([HERE, ELSEWHERE][origin], input.bytes());
                let run = Run { node_id, boot: BOOT, sequence: sequences[origin], payload, commands: 1 };
                envelope(EntryKind::Commands, now_ms, vec![run], Bytes::new())
            }
            3 => {
                let run = Run {
                    node_id: input.number(),
                    boot: input.number(),
                    sequence: input.number(),
                    payload: input.bytes(),
                    commands: u32::from(input.short()),
                };
                let kind = i32::from(input.byte());
                let (now_ms, payload) = (input.number(), input.bytes());
                let level = LEVEL + u32::from(input.byte() == 1);
                Envelope { version: ENVELOPE_VERSION, level, kind, now_ms, seed: input.number(), runs: vec![run], payload }
                    .encode_to_bytes()
            }
            4 => envelope(EntryKind::Purge, now_ms + input.number() % 100_000, Vec::new(), Bytes::new()),
            5 => envelope(EntryKind::Sweep, now_ms, Vec::new(), Bytes::new()),
            6 => envelope(EntryKind::Membership, now_ms, Vec::new(), input.bytes()),
            7 => {
                kind = if operation < 128 { EntryType::EntryConfChangeV2 } else { EntryType::EntryConfChange };
                context = input.bytes();
                input.bytes()
            }
            _ => {
                kind = EntryType::EntryConfChangeV2;
                context = envelope(EntryKind::Configuration, now_ms, Vec::new(), input.bytes());
                Bytes::new()
            }
        };
        if contains_large(&data) || replica.apply(kind, data, context).is_err() {
            // A replica that has halted is not used any further.
            return;
        }
    }
    let mut applied = replica.machine.take_applied();
    applied.gap = false;
    assert_eq!(replica::open(&replica.engine).applied(), &applied);
}

/// Whether a command in an entry `may_be_large`.
fn contains_large(data: &Bytes) -> bool {
    let Ok(envelope) = Envelope::read(data.clone()) else { return false };
    envelope.runs.into_iter().any(|mut run| {
        let commands = std::iter::from_fn(|| codec::decode(&mut run.payload).ok());
        commands.into_iter().any(|command| may_be_large(&command.args))
    })
}
