//! The clock of one agent connection: how long a head may take, how long it may idle, how long a
//! write may stand. hyper has one timer for the first two; they differ by a factor of seven.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::proxy::Stream;
use crate::proxy::idle::Idle;

/// From the first byte of a request head to its last.
const HEAD: Duration = Duration::from_secs(10);
/// Between requests.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// An agent that does not read for so long holds our buffers for nothing.
const WRITE: Duration = Duration::from_secs(120);

/// Requests on one connection: how many began, how many are in flight.
#[derive(Clone, Default)]
pub struct Activity(Arc<Counts>);

#[derive(Default)]
struct Counts {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

/// One request in flight.
pub struct InFlight {
    counts: Arc<Counts>,
    /// Its place among the agent's, once it has one.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Activity {
    pub fn begin(&self) -> InFlight {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        InFlight { counts: self.0.clone(), place: None }
    }

    /// How many began, and whether one is in flight.
    fn now(&self) -> (usize, bool) {
        let begun = self.0.begun.load(Ordering::Relaxed);
        (begun, begun != self.0.ended.load(Ordering::Relaxed))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.counts.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection under that clock.
pub struct Watched {
    io: Stream,
    activity: Activity,
    /// In HTTP/1 bytes outside of a request are a head that has begun; in HTTP/2 they may be pings.
    heads: bool,
    waiting: Waiting,
    /// Requests that had begun when `waiting` was set.
    begun: usize,
    stalled: Option<Idle>,
}

enum Waiting {
    Busy,
    Idle(Idle),
    Head(Idle),
}

impl Watched {
    pub fn new(io: Stream, activity: Activity, heads: bool) -> Self {
        Watched { io, activity, heads, waiting: Waiting::Busy, begun: 0, stalled: None }
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match poll {
            Poll::Ready(done) => {
                self.stalled = None;
                Poll::Ready(done)
            }
            Poll::Pending => match self.stalled.get_or_insert_with(|| Idle::new(WRITE)).poll_expired(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the agent has not read its answer for 2 minutes",
                ))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let poll = Pin::new(&mut this.io).poll_read(cx, buf);
        let (begun, in_flight) = this.activity.now();
        if in_flight || begun != this.begun {
            // Whatever was being waited for has come.
            this.waiting = Waiting::Busy;
            this.begun = begun;
        }
        if in_flight {
            return poll;
        }
        match poll {
            Poll::Ready(_) => {
                let arrived = buf.filled().len() > before;
                if arrived && this.heads && !matches!(this.waiting, Waiting::Head(_)) {
                    this.waiting = Waiting::Head(Idle::new(HEAD));
                }
                poll
            }
            Poll::Pending => {
                if matches!(this.waiting, Waiting::Busy) {
                    this.waiting = Waiting::Idle(Idle::new(KEEP_ALIVE));
                }
                match &mut this.waiting {
                    Waiting::Busy => Poll::Pending,
                    // The end of the stream, to hyper: it closes in order.
                    Waiting::Idle(idle) => idle.poll_expired(cx).map(Ok),
                    Waiting::Head(head) => head.poll_expired(cx).map(|()| {
                        Err(io::Error::new(io::ErrorKind::TimedOut, "the request head took over 10 s"))
                    }),
                }
            }
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.wrote(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_flush(cx);
        self.wrote(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
