//! The description of the interface, computed from what stands at the handlers.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{self};

use super::{console, kv, node};

#[derive(OpenApi)]
#[openapi(
    info(title = "redraft", description = "Every node answers. Requests about keys are linearizable; an error says whether something may have been executed."),
    paths(kv::put, kv::get, kv::delete, kv::batch, kv::page, node::stats, node::live, node::ready, node::info, node::cluster,
        node::replication, node::config, node::slow_log, console::command),
    modifiers(&Security),
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

/// The document.
pub(super) async fn document() -> Json<openapi::OpenApi> {
    Json(Document::openapi())
}
