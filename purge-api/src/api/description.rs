//! The description of the API in OpenAPI 3.1, written by hand and checked by tests.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// `GET /v1/openapi.json`.
pub(super) async fn description() -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (headers, DESCRIPTION).into_response()
}

/// The description.
pub(super) const DESCRIPTION: &str = include_str!("openapi.json");
