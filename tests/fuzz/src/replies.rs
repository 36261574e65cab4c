//! The reader of servers' replies, in both protocols: the pieces in which bytes arrive change nothing.
//! Input: a byte that chooses the limit, a length of pieces, then what the server sends.

use resp::{Protocol, ReplyReader};

use crate::input::Input;

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let bytes_max = if input.byte() & 1 == 0 { 64 } else { 1 << 20 };
    let length = usize::from(input.byte()) + 1;
    let sent = input.rest();
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let whole = read(protocol, bytes_max, [sent]);
        assert_eq!(read(protocol, bytes_max, sent.chunks(length)), whole, "the pieces change nothing");
    }
}

/// The replies and the error that ends them, as text: NaN is not equal to itself.
fn read<'a>(protocol: Protocol, bytes_max: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut reader = ReplyReader::new(protocol, bytes_max);
    let mut replies = Vec::new();
    for piece in pieces {
        reader.buffer_mut().extend_from_slice(piece);
        loop {
            match reader.next_reply() {
                Ok(Some(reply)) => replies.push(format!("{reply:?}")),
                Ok(None) => break,
                Err(error) => {
                    replies.push(format!("{error:?}"));
                    return replies;
                }
            }
        }
    }
    replies
}
