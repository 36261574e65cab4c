//! Commands of the table with any arguments, as a connection takes them: every one is refused or answered, a logged one decodes to what was
//! encoded, and a client reads every reply that the server writes, in both protocols.
//! Input: commands, each a byte for its row, a byte for its database, a byte for the number of arguments, and these.

use bytes::{Bytes, BytesMut};
use raft::eraftpb::EntryType;
use raftlog::engine::{Engine, ViewKind};
use raftlog::entry::{EntryKind, Run};
use redraft::command::{CommandSpec, Handler, codec, table};
use redraft::keyspace::{DATABASES, ReadContext, Reader, UnixMillis};
use redraft::node::Request;
use redraft::node::core::{GROUP, RunId, TrackedRun};
use resp::{Protocol, Reply, ReplyReader};

use crate::input::Input;
use crate::replica::{BOOT, HERE, Replica, envelope, may_be_large};

const NOW_MS: u64 = 1_000_000_000_000;
/// Commands in one run.
const RUN_COMMANDS: usize = 8;
/// What of a reply is looked at: arguments repeat in it.
const REPLY_BYTES_MAX: usize = 1 << 20;

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let rows: Vec<&CommandSpec> = table::all().collect();
    let mut node = Client { replica: Replica::found(), sequence: 0, now_ms: NOW_MS };
    let mut run = Vec::new();
    while !input.is_empty() {
        let name = rows[usize::from(input.byte()) % rows.len()].name;
        let db = input.byte() % DATABASES;
        let mut args = vec![Bytes::from_static(name.as_bytes())];
        for _ in 0..input.byte() % 16 {
            args.push(argument(&mut input));
        }
        let spec = match table::resolve(&args) {
            Ok(spec) => spec,
            Err(error) => {
                check_reply(&error.into());
                continue;
            }
        };
        match spec.handler {
            Handler::Read { check, .. } | Handler::Write { check, .. } => match check(&args) {
                Ok(()) if spec.is_write() && may_be_large(&args) => {}
                Ok(()) => run.push(Request { spec, args, db }),
                Err(error) => check_reply(&error.into()),
            },
            Handler::Node(parse) => {
                if let Err(error) = parse(&args) {
                    check_reply(&error.into());
                }
            }
            Handler::Container => unreachable!("a container is not resolved to"),
        }
        if run.len() == RUN_COMMANDS {
            node.execute(std::mem::take(&mut run), &mut input);
        }
    }
    node.execute(run, &mut input);
}

fn argument(input: &mut Input<'_>) -> Bytes {
    match input.byte() % 4 {
        0 => Bytes::from(input.number().cast_signed().to_string()),
        1 => Bytes::from(vec![input.byte(); usize::from(input.short())]),
        _ => input.bytes(),
    }
}

struct Client {
    replica: Replica,
    sequence: u64,
    now_ms: u64,
}

impl Client {
    /// Executes a run through the log, then its reads once more on their own.
    fn execute(&mut self, requests: Vec<Request>, input: &mut Input<'_>) {
        self.now_ms += input.number() % 10_000;
        self.sequence += 1;
        let mut payload = Vec::new();
        for request in &requests {
            if let Handler::Write { id, .. } = request.spec.handler {
                let from = payload.len();
                codec::encode(id, request.db, &request.args, &mut payload);
                let mut encoded = Bytes::copy_from_slice(&payload[from..]);
                let decoded = codec::decode(&mut encoded).expect("what was encoded decodes");
                assert!(encoded.is_empty());
                assert_eq!((decoded.spec.name, decoded.db, &decoded.args), (request.spec.name, request.db, &request.args));
            }
        }
        let reads: Vec<Request> = requests.iter().filter(|request| !request.spec.is_write()).cloned().collect();
        let count = requests.len();
        self.replica.machine.track(TrackedRun { id: RunId(self.sequence), sequence: self.sequence, requests });
        let run = Run { node_id: HERE, boot: BOOT, sequence: self.sequence, payload: payload.into(), commands: 1 };
        let data = envelope(EntryKind::Commands, self.now_ms, vec![run], Bytes::new());
        self.replica.apply(EntryType::EntryNormal, data, Bytes::new()).expect("what a client sent can be applied");
        for (_, result) in self.replica.machine.take_replies() {
            let replies = result.expect("the run was executed");
            assert_eq!(replies.len(), count);
            replies.iter().for_each(check_reply);
        }
        let view = self.replica.engine.view(ViewKind::Snapshot);
        for Request { spec, args, db } in reads {
            let now = Some(UnixMillis(self.now_ms + input.number() % 10_000));
            let context = ReadContext { group: GROUP, db, now, log_time: None, state: None, seed: input.number() };
            // A key that is due but not purged asks for a later log time instead.
            if let Ok(reply) = spec.read(&args, &Reader::new(view.as_ref(), context)) {
                check_reply(&reply);
            }
        }
    }
}

fn check_reply(reply: &Reply) {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut bytes = BytesMut::new();
        reply.encode(protocol, &mut bytes);
        if bytes.len() <= REPLY_BYTES_MAX {
            let mut reader = ReplyReader::new(protocol, REPLY_BYTES_MAX);
            reader.buffer_mut().extend_from_slice(&bytes);
            assert!(matches!(reader.next_reply(), Ok(Some(_))), "a client reads the reply: {}", bytes.escape_ascii());
            assert_eq!(reader.buffered(), 0, "the reply is one: {}", bytes.escape_ascii());
        }
    }
}
