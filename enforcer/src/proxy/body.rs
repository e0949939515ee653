//! A request body on its way upstream: counted, bounded, searched for placeholders, never kept.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::idle::Idle;
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
    /// `None`: nothing (more) to send.
    inner: Option<Incoming>,
    guard: BodyGuard,
    limit: Option<u64>,
    meter: Option<Meter>,
    idle: Idle,
    progress: Arc<Progress>,
}

impl Outgoing {
    pub fn new(inner: Incoming, guard: BodyGuard, limit: Option<u64>, meter: Meter) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        let inner = (!inner.is_end_stream()).then_some(inner);
        let body = Outgoing {
            inner,
            guard,
            limit,
            meter: Some(meter),
            idle: Idle::new(IDLE),
            progress: progress.clone(),
        };
        (body, progress)
    }

    /// For a request that has none (an upgrade).
    pub fn none(guard: BodyGuard) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        let idle = Idle::new(IDLE);
        (
            Outgoing { inner: None, guard, limit: None, meter: None, idle, progress: progress.clone() },
            progress,
        )
    }

    fn cut(&mut self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.inner = None;
        *self.progress.cut.lock().unwrap_or_else(|e| e.into_inner()) = Some(cut.clone());
        Poll::Ready(Some(Err(cut)))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
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
                let sent =
                    this.progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
                if let Some(limit) = this.limit.filter(|limit| sent > *limit) {
                    return this.cut(Cut::TooLarge(limit));
                }
                if let Some(Err(not)) = this.meter.as_ref().map(|meter| meter.take(data.len() as u64)) {
                    return this.cut(not.into());
                }
                if let Err(error) = this.guard.check(data) {
                    return this.cut(Cut::Placeholder(told(&error)));
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
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A credential error as the agent may read it: names of credentials are its own, names of secrets are not.
pub fn told(error: &CredentialError) -> String {
    match error {
        CredentialError::Misplaced { .. }
        | CredentialError::Required { .. }
        | CredentialError::Unfit { .. } => error.to_string(),
        CredentialError::Secret { .. } => "the credential of this rule cannot be read".into(),
    }
}
