//! Who may ask: host, origin and password, before anything else is looked at; and the headers that keep a browser from being used by others.
//! A page of another site can make a browser send requests to this port. It cannot choose their `Host` and `Origin`: the first must name this
//! node (against names that are made to point here), the second, where there is one, a node of this cluster. Tools send no `Origin`.
//! The page of one node may ask the others, when its own is gone: their origins are let in, and told so (CORS).

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::ApiError;
use super::{ANSWER_PATIENCE, Admin, VERIFY_PATIENCE};
use crate::error::RequestError;
use crate::net::client::same_secret;

/// What browsers may do with an answer that is no page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// Requests' headers that a page of another node may send.
const CORS_HEADERS: &str = "authorization, content-type, if-match, if-none-match, accept";
/// Headers of answers that it may read.
const CORS_EXPOSED: &str = "etag, redraft-ttl";

/// Lets a request through that may come in.
pub(super) async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let origin = headers.get(header::ORIGIN).cloned();
    let is_navigation = headers.get("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    let mut answer = match admitted(&admin, headers, request.method(), request.uri().path()) {
        Err(refusal) => refusal.into_response(),
        Ok(()) if origin.is_some() && request.method() == Method::OPTIONS => preflight(),
        Ok(()) => {
            let patience = admin.services.config().runtime.values().request_timeout + ANSWER_PATIENCE;
            // How long a command may take, its handler knows.
            let patience = if request.uri().path() == "/command" { patience + VERIFY_PATIENCE } else { patience };
            let method = request.method().clone();
            let answer = tokio::time::timeout(patience, next.run(request)).await;
            answer.unwrap_or_else(|_| too_late(&method).into_response())
        }
    };
    if !is_navigation {
        // The page asks itself; the browser's own question would stand over it.
        answer.headers_mut().remove(header::WWW_AUTHENTICATE);
    }
    with_headers(answer, origin.filter(|origin| is_ours(&admin, origin)))
}

/// The error of a request that was not answered in time. Its body has arrived: bodies have less time.
fn too_late(method: &Method) -> ApiError {
    if method.is_safe() { ApiError::read_timeout() } else { RequestError::Unknown.into() }
}

fn admitted(admin: &Admin, headers: &HeaderMap, method: &Method, path: &str) -> Result<(), ApiError> {
    let forbidden = |message: &str| ApiError::new(StatusCode::FORBIDDEN, "forbidden", message);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let password = admin.services.config().runtime.values().requirepass.clone();
    // With a password, a page under a foreign name that points here gets nowhere: it does not know it, and the browser keeps it by name.
    if password.is_none() && !host.is_some_and(|host| may_name_us(admin, host)) {
        return Err(forbidden("the host is not an address of this node"));
    }
    let own = |origin: &HeaderValue| origin.to_str().ok().zip(host).is_some_and(|(origin, host)| is_page_of(origin, host));
    if headers.get(header::ORIGIN).is_some_and(|origin| !own(origin) && !is_ours(admin, origin)) {
        return Err(forbidden("a page of another site may not ask"));
    }
    // Whoever looks after a node must learn how it is without being able to do anything else.
    if method == Method::OPTIONS || path.starts_with("/health/") || is_page(path) {
        return Ok(());
    }
    let Some(password) = password else { return Ok(()) };
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(presented);
    if shown.is_some_and(|shown| same_secret(password.expose().as_bytes(), &shown)) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "the password is needed"))
}

/// Whether an origin is that of the page at this host, perhaps behind a proxy that has TLS. A page of another site has another host, which
/// the browser tells.
fn is_page_of(origin: &str, host: &str) -> bool {
    let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    place.is_some_and(|place| place.eq_ignore_ascii_case(host))
}

/// The page's own files hold nothing that is secret, and the page asks for the password itself.
fn is_page(path: &str) -> bool {
    path == "/" || path.starts_with("/assets/")
}

/// The password in an `Authorization` header.
fn presented(value: &str) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(rest.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Whether a `Host` is one that only somebody who means this node uses: an address, this machine's own name for itself, a name that a
/// member has told, or one of `admin-hosts`.
fn may_name_us(admin: &Admin, host: &str) -> bool {
    let name = host_name(host);
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_local = name.eq_ignore_ascii_case("localhost");
    let is_configured = admin.services.config().admin_hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    is_address || is_local || is_configured || admin.admin_addresses().iter().any(|address| host_name(address).eq_ignore_ascii_case(name))
}

fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// Whether an origin is a member's admin address.
fn is_ours(admin: &Admin, origin: &HeaderValue) -> bool {
    let Some(host) = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")) else { return false };
    admin.admin_addresses().iter().any(|address| address == host || same_place(address, host))
}

/// `localhost` and the loopback address are one place.
fn same_place(one: &str, other: &str) -> bool {
    let plain = |host: &str| host.replacen("localhost", "127.0.0.1", 1);
    plain(one) == plain(other)
}

fn preflight() -> Response {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, PUT, POST, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, CORS_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, allowed, Body::empty()).into_response()
}

fn with_headers(mut answer: Response, origin: Option<HeaderValue>) -> Response {
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-site"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(CORS_EXPOSED));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::admin::error::Executed;

    #[test]
    fn passwords_are_presented_in_two_ways() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let check = |value: &str, expected: Option<&str>| assert_eq!(presented(value).as_deref(), expected.map(str::as_bytes), "{value}");
        check("Bearer secret", Some("secret"));
        check("bearer s e c", Some("s e c"));
        check(&basic("anybody:secret"), Some("secret"));
        check(&basic(":a:b"), Some("a:b"));
        check(&basic("no colon"), None);
        check("Basic ???", None);
        check("Digest x", None);
        check("secret", None);
    }

    #[test]
    fn a_read_that_takes_too_long_has_changed_nothing() {
        for (method, executed) in [(Method::GET, Executed::No), (Method::HEAD, Executed::No), (Method::PUT, Executed::Unknown)] {
            assert_eq!(too_late(&method).executed(), executed, "{method}");
        }
    }

    #[test]
    fn a_host_has_a_name_and_perhaps_a_port() {
        for (host, expected) in [("a", "a"), ("a:80", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a:b", "a:b")] {
            assert_eq!(host_name(host), expected, "{host}");
        }
    }

    #[test]
    fn a_page_may_stand_behind_tls() {
        let check = |origin: &str, host: &str, expected: bool| assert_eq!(is_page_of(origin, host), expected, "{origin} {host}");
        check("http://a:8379", "a:8379", true);
        check("https://redraft.example", "Redraft.example", true);
        check("https://redraft.example", "redraft.example:8379", false);
        check("https://redraft.example.evil", "redraft.example", false);
        check("ftp://a", "a", false);
        check("null", "null", false);
    }

    #[test]
    fn this_machine_has_two_names() {
        assert!(same_place("localhost:8001", "127.0.0.1:8001"));
        assert!(!same_place("localhost:8001", "127.0.0.1:8002"));
        assert!(!same_place("localhost.example:1", "127.0.0.1:1"));
    }
}
