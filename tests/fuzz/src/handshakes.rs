//! Messages between nodes that are not frames: what decodes is the same after it was encoded again, so nothing is read in two ways.
//! Input: a byte that chooses the message, then its bytes.

use std::fmt::Debug;

use prost::Message;
use raftlog::message::Frame;
use redraft::net::peer::wire::{CallReply, CallRequest, Hello, HelloReply, Sealed, SnapshotPart, SnapshotReply};
use redraft::node::PeerProcesses;
use redraft::node::core::Members;

use crate::input::Input;

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    match input.byte() % 9 {
        0 => check::<Sealed>(input.rest()),
        1 => check::<Hello>(input.rest()),
        2 => check::<HelloReply>(input.rest()),
        3 => check::<CallRequest>(input.rest()),
        4 => check::<CallReply>(input.rest()),
        5 => check::<SnapshotPart>(input.rest()),
        6 => check::<SnapshotReply>(input.rest()),
        7 => check::<Frame>(input.rest()),
        _ => {
            check::<PeerProcesses>(input.rest());
            check::<Members>(input.rest());
        }
    }
}

fn check<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let encoded = message.encode_to_vec();
        assert_eq!(encoded.len(), message.encoded_len());
        assert_eq!(M::decode(&encoded[..]), Ok(message));
    }
}
