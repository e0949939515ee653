//! The body of an answer on its way to the agent, and the end of its record.
//!
//! Whatever happens to the stream (end, error, an agent that hangs up, a yes taken back), the record
//! is finished once and says which it was.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::headers;
use super::watch::InFlight;
use crate::audit::{Outcome, RecordGuard, RequestId};
use crate::gate::lifeline::{Cause, Cutoff, Lifeline};
use crate::gate::limit::places::Place;
use crate::gate::limit::{Meter, NotTaken};
use crate::proxy::BoxError;
use crate::proxy::body::Progress;
use crate::proxy::idle::Idle;
use crate::proxy::pool::Lease;
use crate::proxy::received::Received;
use crate::redact::ScrubbedBody;

/// Between two pieces of an answer. Event streams send comments more often than this.
const IDLE: Duration = Duration::from_secs(600);

/// The receipt of an admitted request, with what has become known of its outcome. The request is
/// under way, and can be cut, for as long as its record is open.
pub struct Record {
    id: RequestId,
    /// `None`: closed.
    guard: Option<RecordGuard>,
    lifeline: Lifeline,
    _place: Place,
    download: Meter,
    start: Instant,
    outcome: Outcome,
    progress: Arc<Progress>,
    relayed: u64,
}

impl Record {
    pub fn new(
        guard: RecordGuard,
        lifeline: Lifeline,
        place: Place,
        download: Meter,
        start: Instant,
    ) -> Self {
        Record {
            id: guard.id().clone(),
            guard: Some(guard),
            lifeline,
            _place: place,
            download,
            start,
            outcome: Outcome::default(),
            progress: Arc::default(),
            relayed: 0,
        }
    }

    pub fn id(&self) -> &RequestId {
        &self.id
    }

    pub fn lifeline(&self) -> &Lifeline {
        &self.lifeline
    }

    /// Why it was cut, if it was.
    pub fn cause(&self) -> Option<&Cause> {
        self.lifeline.cause()
    }

    pub fn cutoff(&self) -> Cutoff {
        self.lifeline.cutoff()
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

    /// Bytes of the answer, before they go to the agent.
    pub fn pass(&mut self, bytes: u64) -> Result<(), NotTaken> {
        self.download.take(bytes)?;
        self.outcome.response_bytes += bytes;
        Ok(())
    }

    pub fn download(&self) -> Meter {
        self.download.clone()
    }

    /// Bytes that passed in both directions after an upgrade.
    pub fn relayed(&mut self, up: u64, down: u64) {
        self.relayed = up;
        self.outcome.response_bytes = down;
    }

    pub fn scrubbed(&mut self, secrets: u32, redacted: u32) {
        self.outcome.scrubbed = secrets;
        self.outcome.redacted = redacted;
    }

    pub fn refused(&mut self, status: u16) {
        self.outcome.status = Some(status);
    }

    /// `end` is one of the words of `audit::Outcome`.
    pub fn finish(mut self, end: &str, error: Option<String>) {
        self.close(end, error);
    }

    fn close(&mut self, end: &str, error: Option<String>) {
        let Some(guard) = self.guard.take() else { return };
        let (end, error) = match self.lifeline.cause() {
            // Whatever the end looked like from there, this is what ended it.
            Some(cause) if end != "done" => {
                self.progress.stop();
                ("cut", Some(cause.text()))
            }
            _ => (end, error),
        };
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.end = end.to_owned();
        outcome.error = error;
        outcome.request_bytes = self.progress.bytes() + self.relayed;
        outcome.total_us = micros(self.start);
        guard.finish(outcome);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.close("cancelled", None);
    }
}

fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What the agent gets.
pub enum Reply {
    Text(Full<Bytes>, #[allow(dead_code, reason = "held until the text is sent")] Option<InFlight>),
    Stream(Box<Tail<ScrubbedBody<Received>>>),
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
    /// What its rule took out.
    fn redacted(&self) -> u32;
}

impl Scrubbed for ScrubbedBody<Received> {
    fn count(&self) -> u32 {
        self.scrubbed().load(std::sync::atomic::Ordering::Relaxed)
    }

    fn redacted(&self) -> u32 {
        ScrubbedBody::redacted(self)
    }
}

/// The rest of an answer.
pub struct Tail<B: Scrubbed> {
    shared: Arc<Mutex<Shared<B>>>,
    _in_flight: InFlight,
}

struct Shared<B: Scrubbed> {
    /// `None`: it was cut.
    rest: Option<Rest<B>>,
    reader: Option<Waker>,
}

struct Rest<B: Scrubbed> {
    body: B,
    idle: Idle,
    lease: Option<Lease>,
    record: Option<Record>,
}

impl<B: Scrubbed + Send + 'static> Tail<B> {
    pub fn new(body: B, lease: Lease, record: Record, in_flight: InFlight) -> Self {
        let cutoff = record.cutoff();
        let mut rest = Rest { body, idle: Idle::new(IDLE), lease: Some(lease), record: Some(record) };
        rest.note_end();
        let open = rest.record.is_some();
        let shared = Arc::new(Mutex::new(Shared { rest: Some(rest), reader: None }));
        if open {
            // Also while the agent does not read.
            let cut = Arc::downgrade(&shared);
            cutoff.when_cut(move || cut_off(&cut));
        }
        Tail { shared, _in_flight: in_flight }
    }
}

/// Drops the rest once the request is cut; whoever reads it finds out.
fn cut_off<B: Scrubbed>(shared: &Weak<Mutex<Shared<B>>>) {
    let Some(shared) = shared.upgrade() else { return };
    let (rest, reader) = {
        let mut shared = lock(&shared);
        (shared.rest.take(), shared.reader.take())
    };
    if let Some(mut rest) = rest {
        rest.close("cut", None);
    }
    if let Some(reader) = reader {
        reader.wake();
    }
}

fn lock<B: Scrubbed>(shared: &Mutex<Shared<B>>) -> MutexGuard<'_, Shared<B>> {
    // After a panic in a body its connection is given up; nothing else can see it.
    shared.lock().unwrap_or_else(|e| e.into_inner())
}

impl<B: Scrubbed> Rest<B> {
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
            record.scrubbed(self.body.count(), self.body.redacted());
            record.finish(end, error);
        }
    }

    /// The connection it came on is not used again: its lease is dropped.
    fn fail(&mut self, error: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.lease = None;
        self.close("upstream_failed", Some(format!("the answer broke off: {error}")));
        Poll::Ready(Some(Err(error)))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    return match self.idle.poll_expired(cx) {
                        Poll::Ready(()) => self.fail("the server sent nothing for 10 minutes".into()),
                        Poll::Pending => Poll::Pending,
                    };
                }
                Poll::Ready(None) => {
                    self.complete();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => return self.fail(error.into()),
                Poll::Ready(Some(Ok(mut frame))) => {
                    self.idle.touch();
                    if let Some(data) = frame.data_ref()
                        && let Some(Err(not)) = self.record.as_mut().map(|r| r.pass(data.len() as u64))
                    {
                        return self.fail(not.to_string().into());
                    }
                    if let Some(trailers) = frame.trailers_mut() {
                        headers::clean_trailers(trailers);
                        if trailers.is_empty() {
                            continue;
                        }
                    }
                    self.note_end();
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
    }
}

impl<B: Scrubbed> Body for Tail<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut shared = lock(&self.shared);
        let Shared { rest, reader } = &mut *shared;
        let Some(rest) = rest else { return Poll::Ready(Some(Err("the request was cut".into()))) };
        let poll = rest.poll_frame(cx);
        if poll.is_pending() {
            match reader {
                Some(reader) => reader.clone_from(cx.waker()),
                None => *reader = Some(cx.waker().clone()),
            }
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.shared).rest.as_ref().is_some_and(|rest| rest.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.shared).rest.as_ref().map_or_else(SizeHint::default, |rest| rest.body.size_hint())
    }
}

impl<B: Scrubbed> Drop for Tail<B> {
    fn drop(&mut self) {
        if let Some(mut rest) = lock(&self.shared).rest.take() {
            let error = "the agent closed the connection before the end of the answer";
            rest.close("cancelled", Some(error.into()));
        }
    }
}
