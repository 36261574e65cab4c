//! The description of the interface, computed from what stands at the handlers.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, Parameter, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{self, ContentBuilder, Ref, Required, Response, ResponseBuilder};

use super::{console, exposition, kv, node};

#[derive(OpenApi)]
#[openapi(
    info(title = "redraft", description = "Every node answers. Requests about keys are linearizable; an error says whether something may have been executed."),
    paths(kv::put, kv::get, kv::delete, kv::batch, kv::page, node::stats, node::live, node::ready, node::info, node::cluster,
        node::replication, node::config, node::slow_log, console::command, exposition::metrics),
    modifiers(&KeysInQuery, &Security, &Refusals),
    security((), ("basic" = []), ("bearer" = []))
)]
struct Document;

/// The key is part of the path, or `key64` takes its place at the path without it: two paths, of the same handlers.
struct KeysInQuery;

impl utoipa::Modify for KeysInQuery {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let paths = &mut document.paths.paths;
        let in_path = paths.get_mut("/kv/{key}").expect("kv stands at this path");
        let mut in_query = in_path.clone();
        keep_parameters(in_path, |parameter| parameter.name != "key64");
        keep_parameters(&mut in_query, |parameter| parameter.name != "key");
        for operation in operations(&mut in_query) {
            operation.operation_id = operation.operation_id.take().map(|id| format!("{id}_by_key64"));
            let key64 = operation.parameters.iter_mut().flatten().filter(|parameter| parameter.name == "key64");
            key64.for_each(|parameter| parameter.required = Required::True);
        }
        paths.insert("/kv/".to_owned(), in_query);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().flatten()
}

fn keep_parameters(item: &mut PathItem, keeps: impl Fn(&Parameter) -> bool) {
    for operation in operations(item) {
        operation.parameters.iter_mut().for_each(|parameters| parameters.retain(&keeps));
    }
}

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

/// How `access` refuses, before a handler is asked, and what takes too long.
struct Refusals;

impl utoipa::Modify for Refusals {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            for operation in operations(item) {
                let responses = &mut operation.responses.responses;
                responses.entry("504".to_owned()).or_insert_with(|| refusal("There was no answer in time").into());
                if operation.request_body.is_some() {
                    responses.insert("408".to_owned(), refusal("The body did not arrive in time").into());
                }
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
