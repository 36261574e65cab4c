//! Generates the gRPC services between nodes. Their messages are Rust types with prost's derive (`src/net/peer/wire.rs`): no protoc, and
//! `bytes` fields are `Bytes`.

use tonic_build::manual::{Builder, Method, Service};

const CODEC: &str = "tonic_prost::ProstCodec";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let wire = |name: &str| format!("crate::net::peer::wire::{name}");
    let unary = |name: &str, route: &str, input: &str, output: &str| {
        Method::builder().name(name).route_name(route).input_type(wire(input)).output_type(wire(output)).codec_path(CODEC).build()
    };
    let streams = |name: &str, route: &str, input: String, output: &str| {
        let method = Method::builder().name(name).route_name(route).input_type(input).output_type(wire(output)).codec_path(CODEC);
        method.client_streaming().server_streaming().build()
    };
    let peer = Service::builder()
        .package("redraft")
        .name("Peer")
        .method(unary("challenge", "Challenge", "Nothing", "Challenge"))
        .method(unary("call", "Call", "Sealed", "Sealed"))
        .build();
    let lanes = Service::builder()
        .package("redraft")
        .name("Lanes")
        .method(streams("stream", "Stream", "raftlog::message::Frame".to_owned(), "Sealed"))
        .method(streams("snapshot", "Snapshot", wire("SnapshotPart"), "SnapshotReply"))
        .build();
    Builder::new().compile(&[peer, lanes]);
}
