//! The reader of clients' requests: the pieces in which bytes arrive change nothing, memory stays in proportion to what has arrived, and
//! what was read is written and read again.
//! Input: a byte that chooses limits, four lengths of pieces, then what the client sends.

use bytes::Bytes;
use resp::{Authentication, Limits, ProtocolError, RequestReader, encode_command};

use crate::input::Input;

/// What the reader may hold at once beside twice what has arrived: a fresh buffer.
const BUFFER_BYTES: usize = 16 * 1024;

const WIDE: Limits = Limits {
    bulk_bytes_max: 512 << 20,
    arguments_max: i32::MAX as usize,
    request_bytes_max: 1 << 30,
    authentication: Authentication::Done,
};

type Outcome = (Vec<Vec<Bytes>>, Option<ProtocolError>);

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let choice = input.byte();
    let authentication = if choice & 1 == 0 { Authentication::Done } else { Authentication::Pending };
    let limits = match choice >> 1 & 3 {
        0 => Limits { bulk_bytes_max: 20, arguments_max: 4, request_bytes_max: 60, authentication },
        _ => Limits { authentication, ..WIDE },
    };
    let lengths: [usize; 4] = std::array::from_fn(|_| usize::from(input.byte()) + 1);
    let sent = input.rest();

    let whole = read([sent], &limits);
    let mut rest = sent;
    let pieces = lengths.iter().cycle().map_while(|length| {
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(read(pieces, &limits), whole, "the pieces change nothing");

    let mut again = RequestReader::new();
    for request in &whole.0 {
        assert!(!request.is_empty(), "a request has a name");
        encode_command(request, again.buffer_mut());
        assert_eq!(again.next(&WIDE).as_ref(), Ok(&Some(request.clone())), "what was read is written and read again");
    }
    assert_eq!(again.buffered(), 0);
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Outcome {
    let mut reader = RequestReader::new();
    let mut requests = Vec::new();
    let mut arrived = 0;
    for mut piece in pieces {
        while !piece.is_empty() {
            // As a socket fills it: never beyond the free space.
            let buffer = reader.buffer_mut();
            let (now, later) = piece.split_at(piece.len().min(buffer.capacity() - buffer.len()));
            assert!(!now.is_empty(), "there is room for more");
            buffer.extend_from_slice(now);
            arrived += now.len();
            assert!(buffer.capacity() <= BUFFER_BYTES.max(2 * arrived), "an announced length allocates nothing");
            piece = later;
            loop {
                match reader.next(limits) {
                    Ok(Some(request)) => requests.push(request),
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                }
            }
        }
    }
    (requests, None)
}
