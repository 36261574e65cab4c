//! The files of the page, which are part of the binary.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::error::ApiError;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file: name, type, content.
type File = (&'static str, &'static str, &'static str);

macro_rules! scripts {
    ($($name:literal),* $(,)?) => { &[$(($name, SCRIPT, include_str!(concat!("page/", $name)))),*] };
}

const SCRIPTS: &[File] = scripts![
    "api.js",
    "app.js",
    "bytes.js",
    "command_line.js",
    "configuration.js",
    "console.js",
    "dialog.js",
    "dom.js",
    "format.js",
    "keys.js",
    "member.js",
    "members.js",
    "overview.js",
    "plot.js",
    "session.js",
    "slow_log.js",
    "status.js",
    "theme.js",
    "watch.js",
];

const OTHERS: &[File] = &[
    ("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// A newer binary may serve other files at the next request.
const CACHE: (header::HeaderName, &str) = (header::CACHE_CONTROL, "no-cache");

/// The page.
pub(super) async fn index(State(admin): State<Arc<Admin>>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, CACHE.1.to_owned()),
        (header::CONTENT_SECURITY_POLICY, content_security_policy(&admin.admin_addresses())),
    ];
    (headers, include_str!("page/index.html")).into_response()
}

/// What a browser may do with the page: it may ask the nodes of the cluster, at these addresses, and nobody else.
fn content_security_policy(nodes: &[String]) -> String {
    let origins = nodes.iter().flat_map(|address| [address.clone(), address.replacen("127.0.0.1", "localhost", 1)]);
    let origins: BTreeSet<String> = origins.map(|address| format!("http://{address}")).collect();
    let origins: Vec<String> = origins.into_iter().collect();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' {}; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        origins.join(" ")
    )
}

/// One of its files.
pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, ApiError> {
    let file = SCRIPTS.iter().chain(OTHERS).find(|(known, ..)| *known == name);
    let (_, content_type, content) = file.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "not_found", "the page has no such file"))?;
    Ok(([(header::CONTENT_TYPE, *content_type), CACHE], *content).into_response())
}
