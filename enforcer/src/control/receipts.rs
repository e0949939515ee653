//! Receipts over the control socket: pages, one, a stream, verification, export.
//!
//! What may be asked and what a receipt says is `audit`'s; here are only pages, streams and statuses.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query as UrlQuery, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{Uri, header};
use http_body::Frame;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ControlState;
use super::error::Failure;
use crate::audit::verify::{Report, VerifyRequest};
use crate::audit::{AuditError, AuditLog, Head, Query, Receipt, RequestId, export as write};

/// Receipts read at a time while exporting.
const PAGE: u32 = 1000;
/// Chunks waiting for a slow reader; behind that the log's own bound on followers counts.
const WAITING: usize = 16;

/// Ends streams that would otherwise outlive the daemon's wish to stop.
#[derive(Clone)]
pub(super) struct Ending(pub(super) CancellationToken);

/// For `status`.
pub(super) fn health(audit: &AuditLog) -> Value {
    let stats = audit.stats();
    json!({ "entries": stats.entries, "failures": stats.failures })
}

pub(super) async fn list(
    State(state): State<ControlState>,
    query: Result<UrlQuery<Query>, QueryRejection>,
) -> Result<Json<Vec<Receipt>>, Failure> {
    let UrlQuery(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    state.audit.query(query).await.map(Json).map_err(|error| broken(&error))
}

pub(super) async fn get(
    State(state): State<ControlState>,
    Path(id): Path<String>,
) -> Result<Json<Receipt>, Failure> {
    let found = state.audit.get(RequestId(id.as_str().into())).await.map_err(|error| broken(&error))?;
    found.map(Json).ok_or_else(|| {
        Failure::not_found(format!("there is no receipt `{id}`"))
            .hint("`enforcer logs --denied` lists the refused requests with their ids")
    })
}

/// One JSON object a line, for as long as the reader reads.
pub(super) async fn follow(
    State(state): State<ControlState>,
    Extension(ending): Extension<Ending>,
    query: Result<UrlQuery<Query>, QueryRejection>,
) -> Result<Response, Failure> {
    let UrlQuery(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let mut follow = state.audit.follow(query).await.map_err(|error| broken(&error))?;
    let (sender, stream) = stream("application/x-ndjson");
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = follow.next() => event,
                () = sender.closed() => return,
                () = ending.0.cancelled() => return,
            };
            let Some(event) = event else { return };
            let Ok(mut line) = serde_json::to_vec(&event) else { return };
            line.push(b'\n');
            if sender.send(line.into()).await.is_err() {
                return;
            }
        }
    });
    Ok(stream)
}

pub(super) async fn verify(State(state): State<ControlState>, body: Bytes) -> Result<Json<Report>, Failure> {
    let asked: VerifyRequest = if body.is_empty() {
        VerifyRequest::default()
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| Failure::bad_request(format!("the body cannot be read: {error}")))?
    };
    let expected: Option<Head> = asked
        .head
        .map(|head| head.parse())
        .transpose()
        .map_err(|error: String| Failure::bad_request(error))?;
    let audit = state.audit;
    let verified = tokio::task::spawn_blocking(move || audit.verify(expected.as_ref())).await;
    let report = verified.map_err(|error| Failure::internal(&error))?;
    report.map(Json).map_err(|error| Failure::internal(&error))
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Jsonl,
    Csv,
}

/// Every receipt that was asked for, from the oldest on; pages are read while the client takes them.
pub(super) async fn export(
    State(state): State<ControlState>,
    Extension(ending): Extension<Ending>,
    uri: Uri,
) -> Result<Response, Failure> {
    let (format, mut query) = export_query(&uri)?;
    let left = query.limit;
    query.after_seq = query.after_seq.or(Some(0));
    let (sender, stream) = stream(match format {
        Format::Jsonl => "application/x-ndjson",
        Format::Csv => "text/csv",
    });
    tokio::spawn(async move {
        let mut left = left.unwrap_or(u32::MAX);
        let mut chunk = Vec::new();
        if matches!(format, Format::Csv) && write::csv_header(&mut chunk).is_err() {
            return;
        }
        while left > 0 && !ending.0.is_cancelled() {
            query.limit = Some(left.min(PAGE));
            let page = match state.audit.query(query.clone()).await {
                Ok(page) => page,
                Err(error) => {
                    // The reader sees a stream that breaks off, not one that ends well.
                    tracing::error!(error = &error as &dyn std::error::Error, "export broke off");
                    sender.fail().await;
                    return;
                }
            };
            let written = match format {
                Format::Jsonl => write::jsonl(&mut chunk, &page),
                Format::Csv => write::csv(&mut chunk, &page),
            };
            if written.is_err() || sender.send(std::mem::take(&mut chunk).into()).await.is_err() {
                return;
            }
            let Some(last) = page.last() else { return };
            query.after_seq = Some(last.seq);
            left = left.saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX));
        }
    });
    Ok(stream)
}

/// `format` is ours, the rest is the log's.
fn export_query(uri: &Uri) -> Result<(Format, Query), Failure> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let (ours, theirs): (Vec<&str>, Vec<&str>) = pairs.partition(|pair| pair.starts_with("format="));
    let format = match ours.as_slice() {
        [] | ["format=jsonl"] => Format::Jsonl,
        ["format=csv"] => Format::Csv,
        _ => return Err(Failure::bad_request("`format` is `jsonl` or `csv`")),
    };
    let rest: Uri = format!("/?{}", theirs.join("&"))
        .parse()
        .map_err(|error: http::uri::InvalidUri| Failure::bad_request(error.to_string()))?;
    let UrlQuery(query) =
        UrlQuery::try_from_uri(&rest).map_err(|error| Failure::bad_request(error.body_text()))?;
    Ok((format, query))
}

fn broken(error: &AuditError) -> Failure {
    Failure::internal(error)
}

/// The writing end of a streamed body.
struct Sender(mpsc::Sender<Result<Bytes, BrokenOff>>);

impl Sender {
    async fn send(&self, chunk: Bytes) -> Result<(), ()> {
        self.0.send(Ok(chunk)).await.map_err(|_gone| ())
    }

    async fn fail(&self) {
        if self.0.send(Err(BrokenOff)).await.is_err() {
            tracing::debug!("the reader of a broken stream had left");
        }
    }

    async fn closed(&self) {
        self.0.closed().await;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the receipts cannot be read further")]
struct BrokenOff;

fn stream(kind: &'static str) -> (Sender, Response) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let body = Body::new(Chunks(receiver));
    (Sender(sender), ([(header::CONTENT_TYPE, kind)], body).into_response())
}

struct Chunks(mpsc::Receiver<Result<Bytes, BrokenOff>>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|c| c.map(Frame::data)))
    }
}
