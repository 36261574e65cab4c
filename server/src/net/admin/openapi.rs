//! The description of the interface, computed from what stands at the handlers.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{self, ContentBuilder, Ref, Response, ResponseBuilder};

use super::{console, exposition, kv, node};

#[derive(OpenApi)]
#[openapi(
    info(title = "redraft", description = "Every node answers. Requests about keys are linearizable; an error says whether something may have been executed."),
    paths(kv::put, kv::get, kv::delete, kv::batch, kv::page, node::stats, node::live, node::ready, node::info, node::cluster,
        node::replication, node::config, node::slow_log, console::command, exposition::metrics),
    modifiers(&Security, &Refusals),
    security((), ("basic" = []), ("bearer" = []))
)]
struct Document;

/// With a password set, it is needed.
struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        for (name, scheme) in [("basic", HttpAuthScheme::Basic), ("bearer", HttpAuthScheme::Bearer)] {
            components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
        }
    }
}

/// How `access` refuses, before a handler is asked.
struct Refusals;

impl utoipa::Modify for Refusals {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let PathItem { get, put, post, delete, .. } = item;
            for operation in [get, put, post, delete].into_iter().flatten() {
                let responses = &mut operation.responses.responses;
                responses.insert("403".to_owned(), refusal("The host is not this node's, or a page of another site asks").into());
                if !path.starts_with("/health/") {
                    responses.insert("401".to_owned(), refusal("The password is needed").into());
                }
            }
        }
    }
}

fn refusal(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    ResponseBuilder::new().description(description).content("application/json", content).build()
}

/// The document.
pub(super) async fn document() -> Json<openapi::OpenApi> {
    Json(Document::openapi())
}
