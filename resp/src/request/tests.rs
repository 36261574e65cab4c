//! What a reader makes of bytes, whole and in pieces.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const LIMITS: Limits = Limits {
    bulk_bytes_max: 512 << 20,
    arguments_max: i32::MAX as usize,
    request_bytes_max: 1 << 30,
    authentication: Authentication::Done,
};
const UNAUTHENTICATED: Limits = Limits { authentication: Authentication::Pending, ..LIMITS };

/// All requests in the pieces, and the error that ends them, if any.
type Outcome = (Vec<Vec<Bytes>>, Option<ProtocolError>);

fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Outcome {
    let mut reader = RequestReader::new();
    let mut requests = Vec::new();
    for piece in pieces {
        reader.buffer_mut().extend_from_slice(piece);
        loop {
            match reader.next(limits) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fn read(input: &[u8], limits: &Limits) -> Outcome {
    read_pieces([input], limits)
}

/// Appends as a socket does: never beyond the free space. Returns how often the buffer was replaced by a larger one.
fn fill(reader: &mut RequestReader, mut bytes: &[u8]) -> usize {
    let mut growths = 0;
    while !bytes.is_empty() {
        let capacity_before = reader.buffer.capacity();
        let buffer = reader.buffer_mut();
        growths += usize::from(buffer.capacity() > capacity_before);
        let (now, later) = bytes.split_at(bytes.len().min(buffer.capacity() - buffer.len()));
        assert!(!now.is_empty(), "there is always free space");
        buffer.extend_from_slice(now);
        bytes = later;
    }
    growths
}

/// Inputs with the number of requests in them and the text of the error after these, or "".
fn cases() -> Vec<(Vec<u8>, usize, &'static str)> {
    let line = |bytes: usize| [&vec![b'a'; bytes][..], b"\r\n"].concat();
    let header = |start: &str, bytes: usize| [start.as_bytes(), &vec![b'1'; bytes][..]].concat();
    let fixed: &[(&[u8], usize, &str)] = &[
        (b"", 0, ""),
        (b"*1\r\n$4\r\nPING\r\n", 1, ""),
        (b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n", 2, ""),
        (b"*2\r\n$3\r\nGET\r\n$4\r\n\r\n\r\n\r\n", 1, ""),
        (b"*2\r\n$3\r\nGET\r\n$3\r\nke", 0, ""),
        (b"PING\r\nECHO \"a b\"\nGET 'k'\r\n", 3, ""),
        (b"*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nPING\r\n", 3, ""),
        // Nothing to execute is skipped, also between requests.
        (b"\r\n\n  \r\n*0\r\n*-1\r\n*-10\r\n", 0, ""),
        (b"*0\r\nPING\r\n*-1\r\n\r\n*1\r\n$4\r\nPING\r\n*0\r\n \nPING\n", 3, ""),
        // Redis looks neither for the line feed nor at what ends an argument.
        (b"*1\rx$4\rxPINGxx*1\r\n$4\r\nPING\r\n", 2, ""),
        (b"*1\r\n$1\r\na\n\n", 1, ""),
        // Counts.
        (b"*a\r\n", 0, "invalid multibulk length"),
        (b"*\r\n", 0, "invalid multibulk length"),
        (b"* 1\r\n", 0, "invalid multibulk length"),
        (b"*+1\r\n", 0, "invalid multibulk length"),
        (b"*01\r\n", 0, "invalid multibulk length"),
        (b"*-0\r\n", 0, "invalid multibulk length"),
        (b"*1\n$4\nPING\n\r\n", 0, "invalid multibulk length"),
        (b"*2147483648\r\n", 0, "invalid multibulk length"),
        (b"*3000000000\r\n", 0, "invalid multibulk length"),
        (b"*99999999999999999999\r\n", 0, "invalid multibulk length"),
        (b"PING\r\n*x\r\nPING\r\n", 1, "invalid multibulk length"),
        // Lengths.
        (b"*1\r\nfoo\r\n", 0, "expected '$', got 'f'"),
        (b"*1\r\n\r\n", 0, "expected '$', got '\r'"),
        (b"*1\r\n*1\r\n", 0, "expected '$', got '*'"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", 0, "expected '$', got 'f'"),
        (b"*1\r\n$\r\n", 0, "invalid bulk length"),
        (b"*1\r\n$-1\r\n", 0, "invalid bulk length"),
        (b"*1\r\n$blabla\r\n", 0, "invalid bulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", 0, "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", 0, "invalid bulk length"),
        (b"*1\r\n$9223372036854775807\r\n", 0, "invalid bulk length"),
        (b"*1\r\n$18446744073709551615\r\n", 0, "invalid bulk length"),
        // Inline commands.
        (b"set \"\"\"key\"\"\" value\r\n", 0, "unbalanced quotes in request"),
        (b"PING\r\nget 'key\r\n", 1, "unbalanced quotes in request"),
    ];
    let mut cases: Vec<_> = fixed.iter().map(|(input, requests, error)| (input.to_vec(), *requests, *error)).collect();
    cases.extend([
        (line(LINE_BYTES_MAX - 1), 1, ""),
        (line(LINE_BYTES_MAX), 0, "too big inline request"),
        (vec![0; LINE_BYTES_MAX + 1], 0, "too big inline request"),
        (header("*", LINE_BYTES_MAX - 1), 0, ""),
        (header("*", LINE_BYTES_MAX), 0, "too big mbulk count string"),
        (header("*1\r\n$", LINE_BYTES_MAX - 1), 0, ""),
        (header("*1\r\n$", LINE_BYTES_MAX), 0, "too big bulk count string"),
    ]);
    cases
}

#[test]
fn requests_and_errors_are_those_of_redis() {
    for (input, requests, error) in cases() {
        let shown = input[..input.len().min(60)].escape_ascii();
        let outcome = read(&input, &LIMITS);
        assert_eq!(outcome.0.len(), requests, "{shown}");
        let text = if error.is_empty() { String::new() } else { format!("Protocol error: {error}") };
        assert_eq!(outcome.1.map_or(String::new(), |error| error.to_string()), text, "{shown}");
    }
}

#[test]
fn arguments_are_taken_verbatim() {
    let (requests, error) = read(b"*3\r\n$3\r\nSET\r\n$4\r\n\r\n\0\xff\r\n$0\r\n\r\nset \"a\\x00\" ''\r\n", &LIMITS);
    assert_eq!(requests, [[&b"SET"[..], b"\r\n\0\xff", b""], [b"set", b"a\0", b""]]);
    assert_eq!(error, None);
}

#[test]
fn pieces_do_not_change_the_requests() {
    let mut rng = StdRng::seed_from_u64(1);
    for (input, ..) in cases() {
        let expected = read(&input, &LIMITS);
        if input.len() < 1000 {
            for at in 0..=input.len() {
                assert_eq!(read_pieces([&input[..at], &input[at..]], &LIMITS), expected, "{} cut at {at}", input.escape_ascii());
            }
            assert_eq!(read_pieces(input.chunks(1), &LIMITS), expected, "{} byte by byte", input.escape_ascii());
        }
        for _ in 0..20 {
            let mut cuts: Vec<_> = (0..rng.random_range(1..9)).map(|_| rng.random_range(0..=input.len())).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]);
            assert_eq!(read_pieces(pieces, &LIMITS), expected, "{} cut at {cuts:?}", input[..input.len().min(60)].escape_ascii());
        }
    }
}

#[test]
fn unauthenticated_clients_have_small_limits() {
    let check = |input: &str, error: Option<ProtocolError>| assert_eq!(read(input.as_bytes(), &UNAUTHENTICATED).1, error, "{input}");
    check("*10\r\n$16384\r\n", None);
    check("*11\r\n", Some(ProtocolError::UnauthenticatedMultibulkLength));
    check("*1\r\n$16385\r\n", Some(ProtocolError::UnauthenticatedBulkLength));
    check("*2147483648\r\n", Some(ProtocolError::InvalidMultibulkLength));
    check("*1\r\n$536870913\r\n", Some(ProtocolError::InvalidBulkLength));
    assert_eq!(ProtocolError::UnauthenticatedMultibulkLength.to_string(), "Protocol error: unauthenticated multibulk length");
    assert_eq!(ProtocolError::UnauthenticatedBulkLength.to_string(), "Protocol error: unauthenticated bulk length");

    let mut reader = RequestReader::new();
    reader.buffer_mut().extend_from_slice(b"AUTH secret\r\n*11\r\n");
    assert!(reader.next(&UNAUTHENTICATED).unwrap().is_some());
    assert_eq!(reader.next(&LIMITS), Ok(None), "the limits are those of the moment");
}

#[test]
fn configured_limits_hold_exactly() {
    let limits = Limits { bulk_bytes_max: 5, arguments_max: 3, request_bytes_max: 30, ..LIMITS };
    let check = |input: &str, error: Option<ProtocolError>| assert_eq!(read(input.as_bytes(), &limits).1, error, "{input}");
    check("*3\r\n$5\r\n", None);
    check("*4\r\n", Some(ProtocolError::InvalidMultibulkLength));
    check("*1\r\n$6\r\n", Some(ProtocolError::InvalidBulkLength));
    // 4 bytes of header, then 4 of header and 7 of argument twice make 26 bytes; an empty third one needs 6 more.
    check("*3\r\n$5\r\nabcde\r\n$5\r\nabcde\r\n", None);
    check("*3\r\n$5\r\nabcde\r\n$5\r\nabcde\r\n$0\r\n", Some(ProtocolError::RequestTooLarge));
    check("*3\r\n$5\r\nabcde\r\n$5\r\nabc\r\n\r\n$5", None);
    check(&format!("{}\n", "a".repeat(29)), None);
    check(&format!("{}\n", "a".repeat(30)), Some(ProtocolError::RequestTooLarge));
    check(&"*1\r\n$4\r\nPING\r\n".repeat(100), None);
    check(&"PING\r\n".repeat(100), None);
    check(&"*0\r\n".repeat(100), None);
}

#[test]
fn small_pieces_of_a_large_array_cost_linear_time() {
    const ARGUMENTS: usize = 100_000;
    let argument = b"$8\r\nargument\r\n";
    let mut reader = RequestReader::new();
    fill(&mut reader, format!("*{ARGUMENTS}\r\n").as_bytes());
    let mut growths = 0;
    for _ in 0..ARGUMENTS / 10 {
        assert_eq!(reader.next(&LIMITS), Ok(None));
        // One call looks at what is buffered, at most. As nothing stays, each byte is looked at once, in one call.
        assert_eq!(reader.buffered(), 0);
        growths += fill(&mut reader, &argument.repeat(10));
    }
    let request = reader.next(&LIMITS).unwrap().unwrap();
    assert_eq!(request.len(), ARGUMENTS);
    assert!(request.iter().all(|argument| argument == "argument"));
    // Buffers are used up before the next is taken, though the arguments hold all of them.
    assert!(growths <= ARGUMENTS * argument.len() / (FIRST_READ_BYTES - FIRST_READ_BYTES / SPARE_PART) + 1, "{growths}");
}

#[test]
fn a_line_in_pieces_is_scanned_once() {
    let mut reader = RequestReader::new();
    for _ in 0..LINE_BYTES_MAX {
        fill(&mut reader, b"a");
        assert_eq!(reader.next(&LIMITS), Ok(None));
        assert_eq!(reader.scanned, reader.buffered());
    }
    fill(&mut reader, b"\n");
    assert_eq!(reader.next(&LIMITS).unwrap().unwrap()[0].len(), LINE_BYTES_MAX);
}

#[test]
fn a_buffer_is_small_until_a_client_fills_it() {
    let mut reader = RequestReader::new();
    for _ in 0..1000 {
        assert!(reader.buffer_mut().capacity() <= FIRST_READ_BYTES);
        fill(&mut reader, b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
        assert!(reader.next(&LIMITS).unwrap().is_some());
    }
    for _ in 0..4 {
        let spare = reader.buffer_mut().capacity() - reader.buffered();
        fill(&mut reader, "\n".repeat(spare).as_bytes());
        assert_eq!(reader.next(&LIMITS), Ok(None));
    }
    assert_eq!(reader.buffer_mut().capacity(), READ_BYTES);
}

#[test]
fn announced_lengths_allocate_nothing() {
    let mut reader = RequestReader::new();
    fill(&mut reader, b"*1000000000\r\n");
    assert_eq!(reader.next(&LIMITS), Ok(None));
    assert!(reader.arguments.capacity() <= ARGUMENTS_RESERVED_MAX);
    fill(&mut reader, b"$536870912\r\nabc");
    assert_eq!(reader.next(&LIMITS), Ok(None));
    assert!(reader.buffer_mut().capacity() <= READ_BYTES);
}

#[test]
fn a_large_argument_is_copied_a_bounded_number_of_times() {
    const BULK_BYTES: usize = 60 << 20;
    let mut reader = RequestReader::new();
    fill(&mut reader, format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n${BULK_BYTES}\r\n").as_bytes());
    let piece = [b'v'; 10_000];
    let mut growths = 0;
    let mut left = BULK_BYTES;
    while left > 0 {
        assert_eq!(reader.next(&LIMITS), Ok(None));
        let bytes = left.min(piece.len());
        growths += fill(&mut reader, &piece[..bytes]);
        left -= bytes;
        assert!(reader.buffer.capacity() <= READ_BYTES.max(2 * reader.buffered()));
    }
    fill(&mut reader, b"\r\n");
    // Each growth doubles the buffer.
    assert!(growths <= 17, "{growths}");
    let request = reader.next(&LIMITS).unwrap().unwrap();
    assert_eq!(request[1], "key");
    assert_eq!(request[2].len(), BULK_BYTES);
    assert!(request[2].iter().all(|byte| *byte == b'v'));

    // The next request gets a small buffer, whether the large argument is still in use or not.
    drop(request);
    assert!(reader.buffer_mut().capacity() <= READ_BYTES);
}

#[test]
fn buffers_are_reused_when_the_arguments_are_gone() {
    let mut reader = RequestReader::new();
    let mut addresses = std::collections::HashSet::new();
    for _ in 0..10_000 {
        fill(&mut reader, b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
        let request = reader.next(&LIMITS).unwrap().unwrap();
        addresses.insert(request[0].as_ptr() as usize / READ_BYTES);
    }
    assert!(addresses.len() <= 2, "one allocation, which may lie across a boundary");
}

#[test]
fn garbage_never_panics() {
    const ALPHABET: &[u8] = b"*$0123456789-\r\n\r\n\r\n \"'\\xaA\0\xff";
    let limits = Limits { bulk_bytes_max: 100, arguments_max: 100, request_bytes_max: 1000, ..LIMITS };
    let mut rng = StdRng::seed_from_u64(2);
    for _ in 0..200_000 {
        let input: Vec<u8> = (0..rng.random_range(0..40)).map(|_| ALPHABET[rng.random_range(0..ALPHABET.len())]).collect();
        let at = rng.random_range(0..=input.len());
        let expected = read(&input, &limits);
        assert_eq!(read_pieces([&input[..at], &input[at..]], &limits), expected, "{} cut at {at}", input.escape_ascii());
    }
}
