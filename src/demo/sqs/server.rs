//! Connections, each served by hyper: the AWS JSON protocol around the operations.

use std::sync::Arc;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::log::Operation;
use super::service::{self, Answer, Refusal};
use super::state::State;

/// Longest request: SQS takes messages of up to a MiB.
const LONGEST: usize = 2 << 20;

/// Serves one connection until it ends.
pub(super) async fn serve(stream: TcpStream, state: Arc<State>) {
    let answer = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { respond(&state, request).await }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "embedded SQS connection ended early");
    }
}

async fn respond(state: &State, request: Request<Incoming>) -> Result<Response<Body>, anyhow::Error> {
    let (head, body) = request.into_parts();
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let Some(op) = target.and_then(Operation::of_target) else {
        return refuse(&bad("InvalidAction", "The action is not known to this server."));
    };
    // Signatures are not checked; a request without one is refused all the same.
    if !head.headers.contains_key(AUTHORIZATION) {
        return refuse(&Refusal {
            status: StatusCode::FORBIDDEN,
            code: "MissingAuthenticationToken",
            message: "The request has no signature.",
        });
    }
    let bytes = axum::body::to_bytes(Body::new(body), LONGEST).await?;
    let Ok(input) = serde_json::from_slice::<Value>(&bytes) else {
        return refuse(&bad("SerializationException", "The request is no JSON."));
    };
    let url = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    match service::answer(state, op, input).await {
        Answer::Json(status, mut value) => {
            if let Some(Value::String(path)) = value.get_mut("QueueUrl") {
                *path = format!("http://{url}/{path}");
            }
            respond_json(status, &value, None)
        }
        Answer::Error(refusal) => refuse(&refusal),
        Answer::Page(status) => {
            let page = "<!DOCTYPE html><html><head><title>Log in</title></head><body>Welcome<br></body></html>";
            Ok(Response::builder().status(status).header(CONTENT_TYPE, "text/html").body(Body::from(page))?)
        }
        // An error instead of an answer makes hyper close the connection: the client never learns the outcome.
        Answer::Nothing => Err(anyhow::anyhow!("a fault rule closed the connection")),
    }
}

fn bad(code: &'static str, message: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, code, message }
}

fn refuse(refusal: &Refusal) -> Result<Response<Body>, anyhow::Error> {
    // Clients ask for it by `x-amzn-query-mode`: the code as the older protocol knows it.
    let query_code = match refusal.code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue",
        code => code,
    };
    let body = json!({ "__type": format!("com.amazonaws.sqs#{}", refusal.code), "message": refusal.message });
    let fault = if refusal.status.is_server_error() { "Receiver" } else { "Sender" };
    respond_json(refusal.status, &body, Some(format!("{query_code};{fault}")))
}

fn respond_json(
    status: StatusCode,
    value: &Value,
    query_error: Option<String>,
) -> Result<Response<Body>, anyhow::Error> {
    let mut response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/x-amz-json-1.0")
        .header("x-amzn-requestid", uuid::Uuid::new_v4().to_string());
    if let Some(error) = query_error {
        response = response.header("x-amzn-query-error", error);
    }
    Ok(response.body(Body::from(value.to_string()))?)
}
