//! `redraft health`: whether a node is ready, for containers and scripts that have no HTTP client.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::config::Address;

/// How long each step may take; the node itself gives up after two seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Asks a node's admin listener whether it can serve a linearizable read.
/// # Errors
/// It is not ready, or does not answer: one line.
pub fn ask(admin: &Address) -> Result<(), String> {
    let answer = exchange(&admin.to_string()).map_err(|error| format!("{admin} does not answer: {error}"))?;
    let status = answer.split(' ').nth(1).unwrap_or("");
    if status == "200" {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let reason = serde_json::from_str::<serde_json::Value>(body).ok().and_then(|body| body["reason"].as_str().map(str::to_owned));
    Err(format!("{admin} is not ready: {}", reason.unwrap_or_else(|| format!("status {status}"))))
}

fn exchange(admin: &str) -> std::io::Result<String> {
    let address = admin.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("the host has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /health/ready HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Somebody who answers every request with this.
    fn answering(answer: &'static str) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut piece = [0; 1024];
                // Its end is not waited for: a request of this length comes at once.
                if stream.read(&mut piece).is_ok() {
                    drop(stream.write_all(answer.as_bytes()));
                }
            }
        });
        Address::parse(&address.to_string()).expect("an address")
    }

    #[test]
    fn only_a_node_that_is_ready_is_healthy() {
        ask(&answering("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ready\"}")).expect("ready");
        let not_ready = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"not ready\",\"reason\":\"no leader\"}");
        assert_eq!(ask(&not_ready), Err(format!("{not_ready} is not ready: no leader")));
        let other = answering("HTTP/1.1 403 Forbidden\r\n\r\n");
        assert_eq!(ask(&other), Err(format!("{other} is not ready: status 403")));
    }
}
