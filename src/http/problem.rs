//! Errors as RFC 9457 `application/problem+json`, those of the libraries below us included.

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

const PROBLEM_JSON: &str = "application/problem+json";

/// One error answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem that its status says all about.
    pub(super) fn new(status: StatusCode) -> Self {
        let mut members = Map::new();
        members.insert("type".to_owned(), json!("about:blank"));
        members.insert("title".to_owned(), json!(status.canonical_reason().unwrap_or("Error")));
        members.insert("status".to_owned(), json!(status.as_u16()));
        Self { status, members }
    }

    /// Adds a member: `detail`, or one of our own.
    pub(super) fn with(mut self, member: &str, value: Value) -> Self {
        self.members.insert(member.to_owned(), value);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let body = Value::Object(self.members).to_string();
        (self.status, [(CONTENT_TYPE, PROBLEM_JSON)], body).into_response()
    }
}

/// Gives an error answer that is no problem yet the body of one, and keeps its other headers (such as `Allow`).
pub(super) async fn as_problem(response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let is_problem = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let (_, body) = Problem::new(status).into_response().into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    Response::from_parts(parts, body)
}
