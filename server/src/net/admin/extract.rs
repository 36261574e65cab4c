//! What handlers take out of a request, with refusals in the form of all errors.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use tokio_stream::StreamExt;

use super::budget::Share;
use super::error::ApiError;
use super::{ANSWER_PATIENCE, Admin};
use crate::keyspace::STRING_BYTES_MAX;

/// Bytes of a body: the longest value in JSON, where a byte may take two, and some.
const BODY_BYTES_MAX: usize = 2 * STRING_BYTES_MAX + (1 << 20);
/// How long a body may take to arrive: less than all of a request, so that what was not begun is known as such.
const BODY_PATIENCE: Duration = ANSWER_PATIENCE;
/// How often a body may be in memory: itself, the JSON in it, and the string in that.
pub(super) const BODY_COPIES: usize = 3;

/// The query string.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(params)| Self(params)).map_err(|rejection| ApiError::bad_request(rejection.body_text()))
    }
}

/// The bytes of a parameter in the query string, which need not be UTF-8 as those in `Params` are taken to be.
pub(super) fn param_bytes(uri: &Uri, name: &str) -> Option<Vec<u8>> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).collect::<Vec<u8>>();
    let mut pairs = uri.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(found, _)| decoded(found) == name.as_bytes()).map(|(_, value)| decoded(value))
}

impl FromRequestParts<Arc<Admin>> for Share {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Infallible> {
        Ok(admin.share())
    }
}

/// The body, if it is not too large, and the memory that is held for it and what is made of it.
pub(super) struct Body(pub(super) Bytes, pub(super) Share);

impl FromRequest<Arc<Admin>> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, admin: &Arc<Admin>) -> Result<Self, ApiError> {
        within(BODY_PATIENCE, read_body(request, admin.share())).await
    }
}

/// A body, unless it takes longer than that.
async fn within(patience: Duration, body: impl Future<Output = Result<Body, ApiError>>) -> Result<Body, ApiError> {
    tokio::time::timeout(patience, body).await.unwrap_or_else(|_| Err(ApiError::body_timeout()))
}

async fn read_body(request: Request, mut share: Share) -> Result<Body, ApiError> {
    let announced = announced_bytes(request.headers());
    let bytes_max = announced.unwrap_or(BODY_BYTES_MAX);
    if bytes_max > BODY_BYTES_MAX {
        return Err(too_large());
    }
    let mut chunks = request.into_body().into_data_stream();
    let mut body: Vec<u8> = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| ApiError::bad_request(format!("the body did not arrive: {error}")))?;
        let needed = body.len() + chunk.len();
        if needed > BODY_BYTES_MAX {
            return Err(too_large());
        }
        if needed > body.capacity() {
            // Never by the length that was announced alone: who sends slowly would hold memory for others in vain.
            let capacity = (2 * needed).min(bytes_max).max(needed);
            share.hold(BODY_COPIES * capacity).await?;
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Body(body.into(), share))
}

fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large() -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large")
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::net::admin::budget::Budget;

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let body = axum::body::Body::from_stream(tokio_stream::pending::<Result<Bytes, Infallible>>());
        let share = Budget::new().share(Duration::ZERO);
        let refusal = within(Duration::from_millis(1), read_body(Request::new(body), share)).await.err().expect("nothing arrives");
        assert_eq!(refusal.into_response().status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[test]
    fn parameters_may_be_any_bytes() {
        let check = |query: &str, expected: Option<&[u8]>| {
            let uri: Uri = format!("/kv?{query}").parse().expect("a URI");
            assert_eq!(param_bytes(&uri, "start").as_deref(), expected, "{query}");
        };
        check("start=a%2Bb+c", Some(b"a+b c"));
        check("limit=1&start=%00%ff%C3%BC", Some(b"\x00\xff\xc3\xbc"));
        check("st%61rt=x&end=y", Some(b"x"));
        check("start=%zz=", Some(b"%zz="));
        check("start", Some(b""));
        check("started=x", None);
        check("", None);
    }
}
