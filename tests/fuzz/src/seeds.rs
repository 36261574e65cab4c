//! The inputs that fuzzing starts from, by target: sound ones, and those at the borders. They stand in the corpus as files; the test `corpus`
//! writes them there when `REDRAFT_WRITE_CORPUS` is set.

use bytes::Bytes;
use prost::Message;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, MessageType};
use raftlog::message::{Body, Frame};
use redraft::command::{Handler, codec, table};
use redraft::net::peer::wire::{
    Answer, Ask, CallReply, CallRequest, Hello, HelloOutcome, HelloReply, JoinRequest, Part, Purpose, Reason, Refused, Sealed,
    SnapshotChunk, SnapshotFile, SnapshotHeader, SnapshotPart, Welcome,
};
use redraft::node::Starts;
use redraft::node::core::{Addresses, Change, LEVEL, Member, Members};

/// A seed: its target, its name, the input.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// All seeds.
#[must_use]
pub fn all() -> Vec<Seed> {
    [requests(), replies(), handshakes(), frames(), entries(), commands(), records(), wal(), snapshots(), config(), patterns()].concat()
}

/// A string as an `Input` reads it.
fn string(bytes: &[u8]) -> Vec<u8> {
    match u8::try_from(bytes.len()) {
        Ok(length) if length < 255 => [&[length][..], bytes].concat(),
        _ => [&[255][..], &u16::try_from(bytes.len()).expect("seeds are short").to_be_bytes(), bytes].concat(),
    }
}

fn requests() -> Vec<Seed> {
    let seed = |name, choice: u8, sent: &[u8]| ("requests", name, [&[choice, 0, 2, 6, 200][..], sent].concat());
    vec![
        seed("array", 2, b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"),
        seed("inline", 2, b"SET \"a b\\x00\\n\" 'c\\'d'\r\n\r\nPING\n"),
        seed("nothing-to-do", 2, b"*0\r\n*-1\r\n\r\n*1\r\n$4\r\nPING\r\n"),
        seed("empty-argument", 0, b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n"),
        seed("huge-count", 2, b"*2147483647\r\n$536870912\r\nabc"),
        seed("unauthenticated", 3, b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*11\r\n"),
    ]
}

fn replies() -> Vec<Seed> {
    let seed = |name, sent: &[u8]| ("replies", name, [&[1, 3][..], sent].concat());
    vec![
        seed("resp2", b"+OK\r\n-ERR no\r\n:-12\r\n$3\r\nabc\r\n$-1\r\n*-1\r\n*2\r\n$0\r\n\r\n*1\r\n:1\r\n"),
        seed("resp3", b"_\r\n#t\r\n,1.5\r\n,inf\r\n(123456789012345678901234567890\r\n=8\r\ntxt:text\r\n!3\r\nERR\r\n"),
        seed("aggregates", b"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n:2\r\n>2\r\n+message\r\n$1\r\nx\r\n|1\r\n+ttl\r\n:3\r\n:4\r\n"),
        seed("deep", &b"*1\r\n".repeat(33)),
    ]
}

fn addresses() -> Addresses {
    Addresses { listen: "n1:7379".into(), peer: "n1:7380".into(), admin: "n1:7381".into() }
}

fn member() -> Member {
    Member { node_id: 2, incarnation: 77, addresses: addresses(), level: LEVEL }
}

fn handshakes() -> Vec<Seed> {
    let seed = |name, choice: u8, message: Vec<u8>| ("handshakes", name, [vec![choice], message].concat());
    let hello = Hello {
        cluster_id: "0123456789".repeat(4),
        node_id: 2,
        incarnation: 77,
        starts: Starts { boot: 3, nonces: vec![u64::MAX, 0, 7] },
        level: LEVEL,
        to_node_id: 1,
        purpose: Purpose::Append.into(),
        addresses: addresses(),
        attempt: 9,
    };
    let sealed = Sealed { body: hello.encode_to_vec().into(), salt: vec![5; 32].into(), proof: vec![6; 32].into() };
    let welcome = HelloOutcome::Welcome(Welcome { incarnation: 1, starts: Starts { boot: 2, nonces: vec![3] }, level: LEVEL });
    let refused = Refused { reason: Reason::OldBoot.into(), detail: "boot 4 was seen".into() };
    let join = JoinRequest { cluster_id: String::new(), incarnation: 8, addresses: addresses(), level: LEVEL, node_id: 0 };
    let members = Members::initial("c".into(), LEVEL, [(77, addresses()), (78, addresses())]);
    let chunk = SnapshotChunk { file: 1, offset: 300, crc32: 7, data: Bytes::from_static(b"data") };
    let frame = Frame { group: 1, wall_ms: 5, body: Some(Body::Raft(raft_message())) };
    vec![
        seed("sealed", 0, sealed.encode_to_vec()),
        seed("hello", 1, hello.encode_to_vec()),
        seed("welcome", 2, HelloReply { outcome: Some(welcome) }.encode_to_vec()),
        seed("refused", 2, HelloReply { outcome: Some(HelloOutcome::Refused(refused)) }.encode_to_vec()),
        seed("join", 3, CallRequest { ask: Some(Ask::Join(join)) }.encode_to_vec()),
        seed("form", 3, CallRequest { ask: Some(Ask::Form(members.clone())) }.encode_to_vec()),
        seed("leader", 4, CallReply { answer: Some(Answer::Leader("n2:7380".into())) }.encode_to_vec()),
        seed("transfer", 3, CallRequest { ask: Some(Ask::Transfer(2)) }.encode_to_vec()),
        seed("unknown-answer", 4, vec![8 << 3 | 2, 0]),
        seed("chunk", 5, SnapshotPart { part: Some(Part::Chunk(chunk)) }.encode_to_vec()),
        seed("raft", 7, frame.encode_to_vec()),
        seed("members", 8, members.encode_to_vec()),
    ]
}

fn raft_message() -> Bytes {
    let mut message = raft::eraftpb::Message { from: 2, to: 1, term: 6, index: 5, ..Default::default() };
    message.set_msg_type(MessageType::MsgAppendResponse);
    protobuf::Message::write_to_bytes(&message).expect("a small message").into()
}

/// Logged commands, one after the other.
fn payload(lines: &[&str]) -> Vec<u8> {
    let mut payload = Vec::new();
    for line in lines {
        let args: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let spec = table::resolve(&args).expect("a command of the table");
        let Handler::Write { id, .. } = spec.handler else { panic!("{line} is not logged") };
        codec::encode(id, 1, &args, &mut payload);
    }
    payload
}

fn frames() -> Vec<Seed> {
    let incr = payload(&["incr n", "set k v px 10"]);
    // Operation, attempt, boot, sequence, commands, payload.
    let forward = |sequence: u8| [&[1, 0, 1, sequence, 2][..], &string(&incr)].concat();
    let frame = Frame { group: 1, wall_ms: 1_000_000_000_500, body: Some(Body::Raft(Bytes::from_static(b"\x08\x12\x10\x01"))) };
    vec![
        ("frames", "forwards", [forward(1), forward(2), vec![7], forward(2), forward(4), vec![5, 100], forward(3)].concat()),
        (
            "frames",
            "last-sequence",
            [&[1, 0, 1, 254, 0, 254, 0, 0][..], &[1, 0, 1, 0, 254, 0, 0], &[2, 0, 1, 1, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0]].concat(),
        ),
        ("frames", "unreadable-payload", [&[1, 0, 1, 1, 1][..], &string(b"\xff\xff\xff")].concat()),
        ("frames", "reads", vec![3, 1, 1, 0, 7, 3, 2, 1, 200, 5, 50, 131, 3, 1, 0, 254, 0, 4, 1, 1, 1, 1, 1, 1]),
        ("frames", "lanes-and-time", vec![6, 0, 7, 5, 252, 0, 200, 6, 2, 7, 5, 20]),
        ("frames", "raw", [vec![0], string(&frame.encode_to_vec())].concat()),
    ]
}

fn entries() -> Vec<Seed> {
    let run = |operation: u8, lines: &[&str]| [vec![operation, 10], string(&payload(lines))].concat();
    let change = |change: Change| string(&change.encode_to_bytes());
    let mut single = ConfChangeSingle { node_id: 2, ..ConfChangeSingle::default() };
    single.set_change_type(ConfChangeType::AddNode);
    let conf_change = ConfChangeV2 { changes: vec![single].into(), ..ConfChangeV2::default() };
    let conf_change = protobuf::Message::write_to_bytes(&conf_change).expect("a small message");
    let register = Change::Register(member());
    let remove = Change::Remove(redraft::node::core::Ids { ids: vec![2, 3] });
    vec![
        (
            "entries",
            "commands",
            [run(1, &["set a 1 px 5", "incr n", "rename n m"]), run(10, &["getdel a", "swapdb 0 1"]), vec![0, 0]].concat(),
        ),
        (
            "entries",
            "long-values",
            [run(1, &["setrange a 600 x", "append a y", "copy a b db 3"]), run(1, &["flushall", "mset a 1 b 2"])].concat(),
        ),
        (
            "entries",
            "rounds",
            [run(1, &["psetex a 1 x", "set b 1", "flushdb"]), vec![4, 252, 255, 255, 5, 5], run(1, &["set b 1"])].concat(),
        ),
        ("entries", "members", [vec![6], change(register.clone()), vec![6], change(Change::Level(1)), vec![6], change(remove)].concat()),
        ("entries", "configuration", [vec![7, 0], string(&conf_change), vec![8], change(register)].concat()),
        ("entries", "any-envelope", [vec![3, 1, 1, 1], string(&payload(&["incr n"])), vec![0, 1, 1, 254, 0, 0, 0, 3]].concat()),
    ]
}

/// Commands as the target `commands` reads them, in database 0.
fn command_lines(lines: &[&str]) -> Vec<u8> {
    let mut input = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let row = table::all().position(|spec| spec.name == words[0]).expect("a command of the table");
        input.extend([u8::try_from(row).expect("fewer than 256 rows"), 0, u8::try_from(words.len() - 1).expect("few words")]);
        for word in &words[1..] {
            input.push(2);
            input.extend(string(word.as_bytes()));
        }
    }
    input
}

fn commands() -> Vec<Seed> {
    let seed = |name, lines: &[&str]| ("commands", name, command_lines(lines));
    vec![
        seed(
            "strings",
            &["set k v nx ex 10 get", "getex k persist", "getrange k 0 -1", "setrange k 5 x", "append k y", "strlen k", "mget k j"],
        ),
        seed("numbers", &["set n 9223372036854775806", "incr n", "incr n", "decrby n -9223372036854775808", "incrbyfloat f 1e17", "get f"]),
        seed("expiry", &["set k v", "pexpire k 100 gt", "expireat k 99999999999 xx", "pexpiretime k", "persist k", "ttl k"]),
        seed(
            "keys",
            &["mset a 1 b 2", "copy a c db 1 replace", "rename a d", "scan 0 match *[a-c] count 3", "range [a + rev count 1", "keys ?"],
        ),
        seed("databases", &["set a 1", "swapdb 0 1", "move a 1", "flushdb async", "dbsize", "randomkey"]),
        seed(
            "node",
            &["hello 3 auth u p setname n", "client list type normal", "config set a b", "command info get", "wait 1 0", "info all"],
        ),
    ]
}

fn records() -> Vec<Seed> {
    let entry = |term: u8, data: &[u8]| [&[33, term, 0][..], &string(data)].concat();
    vec![
        ("records", "sound", [vec![2, 7, 2, 6, 1, 2, 2, 1, 6, 2, 5, 1], entry(1, b"a"), entry(2, b"b")].concat()),
        ("records", "blank", vec![0, 0, 0, 0, 0]),
        ("records", "tail-lost", [vec![2, 9, 2, 6, 1, 2, 2, 1, 6, 2, 5, 1], entry(1, b"a")].concat()),
        ("records", "last-index", [vec![0, 254, 0, 1, 2, 2, 1, 254, 0, 2, 254, 0, 1], entry(1, b"a")].concat()),
        (
            "records",
            "any-bytes",
            vec![1, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 0, 0, 1, 2, 1, 1, 1, 1, 1, 0, 3, 1, 0, 9],
        ),
    ]
}

fn wal() -> Vec<Seed> {
    let whole = |length: u16| [&[4][..], &length.to_be_bytes(), b"x"].concat();
    let torn = [vec![0], string(b"\x01\x02\x03\x04\x05\x00\x01abcde")].concat();
    vec![
        ("wal", "intact", [vec![2], whole(20), whole(300), vec![0, 0]].concat()),
        ("wal", "torn", [vec![0, 2], whole(20), torn.clone(), vec![1], whole(9)].concat()),
        ("wal", "damaged", [vec![0, 0, 3], whole(20), torn.clone(), whole(9)].concat()),
        ("wal", "blocks", [vec![0, 3], whole(32_000), whole(754), whole(40), vec![1], torn].concat()),
        ("wal", "zeros", [vec![0, 0, 2], whole(100), vec![1, 0x10, 0]].concat()),
        ("wal", "fragments", vec![0, 0, 4, 3, 2, 0, 9, b'a', 3, 3, 0, 9, b'b', 3, 4, 0, 9, b'c', 2, 0, 30]),
    ]
}

fn snapshots() -> Vec<Seed> {
    let chunk = |operation: u8, data: &[u8]| [vec![operation], string(data)].concat();
    // Two files, of column families 1 and 4, of group 1 at index 9.
    let header = [&[1, 2, 1, 5, 4, 3, 1, 9][..], &string(&raft_message())].concat();
    let files = vec![SnapshotFile { cf: 0, bytes: u64::MAX }, SnapshotFile { cf: 1, bytes: 1 }];
    let raw = SnapshotPart { part: Some(Part::Header(SnapshotHeader { group: 1, index: 9, message: Bytes::new(), files })) };
    vec![
        ("snapshots", "whole", [header.clone(), chunk(9, b"abc"), chunk(9, b"de"), chunk(9, b"xyz")].concat()),
        ("snapshots", "cut-short", [header.clone(), chunk(9, b"abc")].concat()),
        ("snapshots", "too-much", [header.clone(), chunk(9, b"abcde"), chunk(9, b"xyz"), chunk(9, b"!")].concat()),
        ("snapshots", "bad-checksum", [header.clone(), chunk(3, b"abcde"), chunk(9, b"xyz")].concat()),
        ("snapshots", "out-of-order", [header, chunk(9, b"abc"), [chunk(2, b"de"), vec![1]].concat()].concat()),
        ("snapshots", "longer-than-any-disk", [vec![0], string(&raw.encode_to_vec())].concat()),
    ]
}

fn config() -> Vec<Seed> {
    let seed = |name, text: &str| ("config", name, text.as_bytes().to_vec());
    vec![
        seed(
            "all-kinds",
            "listen = \"127.0.0.1:7000\"\njoin = [\"a:1\", \"b:2\"]\nrequest-timeout = 3000\nbootstrap = false\nmemtable-bytes = \"64mb\"\n",
        ),
        seed(
            "strings",
            "data-dir = \"\"\"x\ny\"\"\"\npeer-secret = 'p'\ncluster-id = \"0123456789012345678901234567890123456789\"\nnotify-keyspace-events = \"KEA\"\n",
        ),
        seed("relations", "listen = \"0.0.0.0:1\"\nreplication-factor = 4\nelection-timeout = 100\nheartbeat-interval = 99\n"),
        seed("unknown", "rejoin = true\nnobody = 1.5\n[table]\na = 1979-05-27\n"),
        seed("broken", "listen = \"a\nb"),
    ]
}

fn patterns() -> Vec<Seed> {
    let seed = |name, pattern: &str, text: &str| ("patterns", name, [string(pattern.as_bytes()), text.as_bytes().to_vec()].concat());
    vec![
        seed("stars", "a*b*?c", "axbxyc"),
        seed("class", "[^a-c]*[x\\]]", "dd]"),
        seed("open-class", "[a-", "-"),
        seed("escape", "a\\", "a\\"),
        seed("hostile", "*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa"),
    ]
}
