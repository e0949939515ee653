//! A request body on its way upstream: counted, bounded, searched for placeholders, never kept.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::idle::Idle;
use super::received::Received;
use crate::credential::{BodyGuard, CredentialError};
use crate::gate::Code;
use crate::gate::limit::{Meter, NotTaken};

/// An agent that began a body and sends nothing for so long has gone away.
const IDLE: Duration = Duration::from_secs(30);

/// Why a body was cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    #[error("the request body is larger than the {0} bytes the policy allows")]
    TooLarge(u64),
    #[error("{0}")]
    Placeholder(String),
    #[error("{0}")]
    Decoy(String),
    #[error("the request body stood still for 30 s")]
    Idle,
    #[error("the agent broke off its request body")]
    BrokenOff,
    #[error("the request was cut")]
    Withdrawn,
    #[error("{reason}")]
    Metered { code: Code, reason: String, wait: Option<Duration> },
}

impl From<NotTaken> for Cut {
    fn from(not: NotTaken) -> Self {
        Cut::Metered { code: not.code(), reason: not.to_string(), wait: not.wait() }
    }
}

/// Shared between the body, which travels with the connection, and the exchange, which answers.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    cut: Mutex<Option<Cut>>,
    stopped: AtomicBool,
}

impl Progress {
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Not one more frame goes out.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn cut(&self) -> Option<Cut> {
        self.cut.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// The body of a request being sent.
pub struct Outgoing {
    /// What was held back to be judged; sent first.
    before: Bytes,
    /// `None`: nothing (more) to send.
    inner: Option<Received>,
    /// `None`: there is nothing to look at.
    guard: Option<BodyGuard>,
    limit: Option<u64>,
    meter: Option<Meter>,
    idle: Idle,
    progress: Arc<Progress>,
}

impl Outgoing {
    /// `before`: of this body, already read; `rest`: what comes after it.
    pub fn new(
        before: Bytes,
        rest: Option<Received>,
        guard: BodyGuard,
        limit: Option<u64>,
        meter: Option<Meter>,
    ) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        let inner = rest.filter(|rest| !rest.is_end_stream());
        let (guard, idle) = (Some(guard), Idle::new(IDLE));
        let body = Outgoing { before, inner, guard, limit, meter, idle, progress: progress.clone() };
        (body, progress)
    }

    /// For a request that has none (an upgrade).
    pub fn none() -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        let (before, idle) = (Bytes::new(), Idle::new(IDLE));
        let (inner, guard, limit, meter) = (None, None, None, None);
        (Outgoing { before, inner, guard, limit, meter, idle, progress: progress.clone() }, progress)
    }

    /// Counts, bounds and searches what goes out next.
    fn pass(&mut self, data: &Bytes) -> Result<(), Cut> {
        let length = data.len() as u64;
        let sent = self.progress.bytes.fetch_add(length, Ordering::Relaxed) + length;
        if let Some(limit) = self.limit.filter(|limit| sent > *limit) {
            return Err(Cut::TooLarge(limit));
        }
        if let Some(meter) = &self.meter {
            meter.take(length)?;
        }
        let Some(guard) = &mut self.guard else { return Ok(()) };
        guard.check(data).map_err(|error| match error {
            CredentialError::Decoy { .. } => Cut::Decoy(told(&error)),
            CredentialError::Misplaced { .. }
            | CredentialError::Required { .. }
            | CredentialError::Unfit { .. }
            | CredentialError::Secret { .. } => Cut::Placeholder(told(&error)),
        })
    }

    fn cut(&mut self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.inner = None;
        self.before.clear();
        *self.progress.cut.lock().unwrap_or_else(|e| e.into_inner()) = Some(cut.clone());
        Poll::Ready(Some(Err(cut)))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        if !this.before.is_empty() {
            if this.progress.stopped.load(Ordering::Relaxed) {
                return this.cut(Cut::Withdrawn);
            }
            let before = std::mem::take(&mut this.before);
            return match this.pass(&before) {
                Ok(()) => Poll::Ready(Some(Ok(Frame::data(before)))),
                Err(cut) => this.cut(cut),
            };
        }
        loop {
            let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
            let frame = match Pin::new(inner).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(this.idle.poll_expired(cx));
                    return this.cut(Cut::Idle);
                }
            };
            this.idle.touch();
            if this.progress.stopped.load(Ordering::Relaxed) {
                return this.cut(Cut::Withdrawn);
            }
            let frame = match frame {
                None => {
                    this.inner = None;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the agent's request body ended early");
                    return this.cut(Cut::BrokenOff);
                }
                Some(Ok(frame)) => frame,
            };
            if let Some(data) = frame.data_ref() {
                if let Err(cut) = this.pass(data) {
                    return this.cut(cut);
                }
            } else {
                // Trailers. No client needs them (gRPC's requests have none), and a server may take
                // them for headers that nobody cleaned.
                continue;
            }
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.before.is_empty() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let before = self.before.len() as u64;
        let rest = self.inner.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(before.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(before)) {
            hint.set_upper(upper);
        }
        hint
    }
}

/// A credential error as the agent may read it: names of credentials are its own, names of secrets are not.
pub fn told(error: &CredentialError) -> String {
    match error {
        CredentialError::Misplaced { .. }
        | CredentialError::Decoy { .. }
        | CredentialError::Required { .. }
        | CredentialError::Unfit { .. } => error.to_string(),
        CredentialError::Secret { .. } => "the credential of this rule cannot be read".into(),
    }
}
