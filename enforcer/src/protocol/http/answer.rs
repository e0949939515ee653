//! The body of an answer on its way to the agent, and the end of its record.
//!
//! Whatever happens to the stream (end, error, an agent that hangs up), the record is finished once
//! and says which it was.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use super::watch::InFlight;
use crate::audit::{Outcome, RecordGuard, RequestId};
use crate::proxy::BoxError;
use crate::proxy::body::Progress;
use crate::proxy::idle::Idle;
use crate::proxy::pool::Lease;
use crate::redact::ScrubbedBody;

/// Between two pieces of an answer. Event streams send comments more often than this.
const IDLE: Duration = Duration::from_secs(600);

/// The receipt of an admitted request, with what has become known of its outcome.
pub struct Record {
    guard: RecordGuard,
    start: Instant,
    outcome: Outcome,
    progress: Arc<Progress>,
    relayed: u64,
}

impl Record {
    pub fn new(guard: RecordGuard, start: Instant) -> Self {
        Record { guard, start, outcome: Outcome::default(), progress: Arc::default(), relayed: 0 }
    }

    pub fn id(&self) -> &RequestId {
        self.guard.id()
    }

    /// Counts the request's bytes from here.
    pub fn sending(&mut self, progress: Arc<Progress>) {
        self.progress = progress;
    }

    /// The head of the answer has come.
    pub fn answered(&mut self, status: u16, upstream: String) {
        self.outcome.status = Some(status);
        self.outcome.upstream = Some(upstream);
        self.outcome.first_byte_us = Some(micros(self.start));
    }

    /// What was attached, as `name@version`.
    pub fn attached(&mut self, credential: String) {
        self.outcome.credential = Some(credential);
    }

    pub fn passed(&mut self, bytes: u64) {
        self.outcome.response_bytes += bytes;
    }

    /// Bytes that passed in both directions after an upgrade.
    pub fn relayed(&mut self, up: u64, down: u64) {
        self.relayed = up;
        self.outcome.response_bytes = down;
    }

    pub fn scrubbed(&mut self, count: u32) {
        self.outcome.scrubbed = count;
    }

    pub fn refused(&mut self, status: u16) {
        self.outcome.status = Some(status);
    }

    /// `end` is one of the words of `audit::Outcome`.
    pub fn finish(self, end: &str, error: Option<String>) {
        let Record { guard, start, mut outcome, progress, relayed } = self;
        outcome.end = end.to_owned();
        outcome.error = error;
        outcome.request_bytes = progress.bytes() + relayed;
        outcome.total_us = micros(start);
        guard.finish(outcome);
    }
}

fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What the agent gets.
pub enum Reply {
    Text(Full<Bytes>, #[allow(dead_code, reason = "held until the text is sent")] InFlight),
    Stream(Box<Tail<ScrubbedBody<Incoming>>>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Reply::Text(text, _) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Reply::Stream(tail) => Pin::new(tail.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Text(text, _) => text.is_end_stream(),
            Reply::Stream(tail) => tail.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Text(text, _) => text.size_hint(),
            Reply::Stream(tail) => tail.size_hint(),
        }
    }
}

/// A body that can say how many values were cut out of it.
pub trait Scrubbed: Body<Data = Bytes, Error: Into<BoxError>> + Unpin {
    fn count(&self) -> u32;
}

impl Scrubbed for ScrubbedBody<Incoming> {
    fn count(&self) -> u32 {
        self.scrubbed().load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Resolves when the policy no longer allows the request.
pub type Revoked = Pin<Box<dyn Future<Output = ()> + Send>>;
pub const REVOKED: &str = "the policy no longer allows this request";

/// The rest of an answer.
pub struct Tail<B: Scrubbed> {
    body: B,
    /// Pass trailers on (gRPC); otherwise they are dropped.
    trailers: bool,
    idle: Idle,
    lease: Option<Lease>,
    record: Option<Record>,
    revoked: Revoked,
    _in_flight: InFlight,
}

impl<B: Scrubbed> Tail<B> {
    pub fn new(
        body: B,
        trailers: bool,
        lease: Lease,
        record: Record,
        revoked: Revoked,
        in_flight: InFlight,
    ) -> Self {
        let idle = Idle::new(IDLE);
        let (lease, record) = (Some(lease), Some(record));
        let mut tail = Tail { body, trailers, idle, lease, record, revoked, _in_flight: in_flight };
        tail.note_end();
        tail
    }

    /// hyper stops asking once the body says that it is at its end.
    fn note_end(&mut self) {
        if self.body.is_end_stream() {
            self.complete();
        }
    }

    fn complete(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        self.close("done", None);
    }

    fn close(&mut self, end: &str, error: Option<String>) {
        if let Some(mut record) = self.record.take() {
            record.scrubbed(self.body.count());
            record.finish(end, error);
        }
    }

    /// The connection it came on is not used again: its lease is dropped.
    fn fail(&mut self, error: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.cut("upstream_failed", format!("the answer broke off: {error}"), error)
    }

    fn cut(
        &mut self,
        end: &str,
        why: String,
        error: BoxError,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.lease = None;
        self.close(end, Some(why));
        Poll::Ready(Some(Err(error)))
    }
}

impl<B: Scrubbed> Body for Tail<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => {
                    if this.record.is_some() && this.revoked.as_mut().poll(cx).is_ready() {
                        return this.cut("refused", REVOKED.to_owned(), REVOKED.into());
                    }
                    return match this.idle.poll_expired(cx) {
                        Poll::Ready(()) => this.fail("the server sent nothing for 10 minutes".into()),
                        Poll::Pending => Poll::Pending,
                    };
                }
                Poll::Ready(None) => {
                    this.complete();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => return this.fail(error.into()),
                Poll::Ready(Some(Ok(frame))) => {
                    this.idle.touch();
                    match frame.data_ref() {
                        Some(data) => {
                            if let Some(record) = &mut this.record {
                                record.passed(data.len() as u64);
                            }
                        }
                        None if !this.trailers => continue,
                        None => {}
                    }
                    this.note_end();
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Scrubbed> Drop for Tail<B> {
    fn drop(&mut self) {
        self.close("cancelled", Some("the agent closed the connection before the end of the answer".into()));
    }
}
