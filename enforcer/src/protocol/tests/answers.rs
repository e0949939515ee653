//! What the upstream of the stage answers, by path.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use super::world::{Answer, Seen};
use crate::proxy::BoxError;

pub(super) async fn answer(
    mut request: Request<Incoming>,
    connection: usize,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<Answer, BoxError> {
    let line = format!("{} {} {:?}", request.method(), request.uri(), request.version());
    let path = request.uri().path().to_owned();
    let last = path.rsplit('/').next().unwrap_or_default().to_owned();
    let headers = request.headers().clone();
    if last == "websocket" {
        note(&seen, connection, line, headers.clone(), Bytes::new());
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(super::sockets::serve(upgraded, path, seen));
        let key = headers["sec-websocket-key"].to_str().unwrap();
        return Ok(Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", crate::protocol::http::upgrade::accept_of(key))
            .body(full(""))
            .unwrap());
    }
    let body = request.into_body().collect().await.unwrap_or_default();
    let trailers = format!("{:?}", body.trailers());
    let body = body.to_bytes();
    note(&seen, connection, line, headers.clone(), body.clone());
    Ok(match last.as_str() {
        // The credential, everywhere a server may put it.
        "echo" => {
            let value = headers.get("authorization").or(headers.get("x-api-key")).cloned();
            let text = format!("you sent {value:?} and {} bytes", body.len());
            let mut response = Response::new(full(&text));
            if let Some(value) = value {
                response.headers_mut().insert("x-echo", value);
            }
            response.headers_mut().insert("alt-svc", "h3=\":443\"".parse().unwrap());
            response.headers_mut().insert("connection", "keep-alive".parse().unwrap());
            response
        }
        "person" => {
            let value =
                headers.get("authorization").map(|value| value.to_str().unwrap_or_default().to_owned());
            let text = serde_json::json!({ "name": "Ann", "email": "ann@example.com", "said": value });
            let mut response = Response::new(full(&text.to_string()));
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            response.headers_mut().insert("x-user", "ann".parse().unwrap());
            response
        }
        // What somebody sent before, for whoever asks.
        "stored" => {
            let earlier = seen.lock().unwrap().first().map(|seen| format!("{:?}", seen.headers));
            Response::builder()
                .header("x-range", headers.get("range").cloned().unwrap_or("none".parse().unwrap()))
                .body(full(&earlier.unwrap_or_default()))
                .unwrap()
        }
        "trailers" => Response::new(full(&trailers)),
        "events" => stream(vec![("data: 1\n\n", 0), ("data: 2\n\n", 300), ("data: 3\n\n", 300)], End::Whole),
        "endless" => stream(vec![("first", 0)], End::Never),
        "cut" => stream(vec![("half", 0)], End::Broken),
        "grpc" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let body = Full::new(Bytes::from_static(b"\0\0\0\0\0")).map_err(|never| match never {});
            let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
            Response::builder().header("content-type", "application/grpc").body(body.boxed_unsync()).unwrap()
        }
        "big" => Response::new(full(&"0123456789abcdef".repeat(64 * 1024))),
        "silence" => std::future::pending().await,
        // More than any window holds.
        "huge" => Response::new(full(&"0123456789abcdef".repeat(1024 * 1024))),
        "close" => return Err("closed without an answer".into()),
        _ => Response::new(full("ok")),
    })
}

pub(super) fn note(
    seen: &Mutex<Vec<Seen>>,
    connection: usize,
    line: String,
    headers: HeaderMap,
    body: Bytes,
) {
    seen.lock().unwrap().push(Seen { connection, line, headers, body });
}

fn full(text: &str) -> http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError> {
    Full::new(Bytes::copy_from_slice(text.as_bytes()))
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

#[derive(PartialEq)]
enum End {
    Whole,
    Broken,
    Never,
}

/// Pieces, each after a pause in milliseconds.
fn stream(pieces: Vec<(&'static str, u64)>, end: End) -> Answer {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        for (piece, pause) in pieces {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if sender.send(Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).await.is_err() {
                return;
            }
        }
        match end {
            End::Whole => {}
            End::Broken => drop(sender.send(Err("broken".into())).await),
            End::Never => sender.closed().await,
        }
    });
    let body = Channel(receiver).boxed_unsync();
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}

struct Channel(tokio::sync::mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

impl Body for Channel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context)
    }
}
