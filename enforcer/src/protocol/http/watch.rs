//! The clock of one agent connection: how long a head may take, how long it may idle, how long a
//! write may stand, how long it may go on sending what was answered already. hyper has one timer for the first two; they differ by a factor of seven.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::PREFACE;
use super::hints::Hints;
use super::strict::Strict;
use super::strict::head::Fault;
use crate::proxy::Stream;
use crate::proxy::idle::Idle;

/// From the first byte of a request head to its last.
const HEAD: Duration = Duration::from_secs(10);
/// Between requests.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// An agent that does not read for so long holds our buffers for nothing.
const WRITE: Duration = Duration::from_secs(120);

/// What an agent still sends of a body that nobody waits for is read for so long after the answer, and no longer than
/// this between two pieces: a socket closed over unread bytes is reset, and the answer is lost with it.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_IDLE: Duration = Duration::from_secs(5);
/// An agent that has shut its sending side may wait so long between two pieces of its answer. It looks like one that has gone, until a
/// write fails; the kernel, too, keeps what is left of a closed socket for a minute.
const HALF_CLOSED: Duration = Duration::from_secs(60);

/// What reader and requests of one connection tell each other: how many requests began and how many
/// are in flight, whether the last one changed the protocol, and why no more are read.
#[derive(Clone, Default)]
pub struct Activity(Arc<Shared>);

#[derive(Default)]
struct Shared {
    begun: AtomicUsize,
    ended: AtomicUsize,
    opened: AtomicBool,
    fault: OnceLock<Fault>,
    hints: Hints,
    /// Waits for the last request to end, behind the agent's end.
    reader: Mutex<Option<Waker>>,
}

impl Shared {
    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// One request in flight.
pub struct InFlight {
    shared: Arc<Shared>,
    /// Its place among the agent's, once it has one.
    pub place: Option<OwnedSemaphorePermit>,
    /// The space that its body takes, which is kept to be judged again when the policy changes.
    pub body: Option<OwnedSemaphorePermit>,
}

impl Activity {
    pub fn begin(&self) -> InFlight {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        InFlight { shared: self.0.clone(), place: None, body: None }
    }

    /// Something that comes before the answer to the request in flight. HTTP/1 only.
    pub fn hint(&self, head: &http::Response<()>) {
        self.0.hints.add(head);
    }

    /// The request in flight has its answer.
    pub fn answers(&self) {
        self.0.hints.answered();
    }

    /// How many began, and whether one is in flight.
    fn now(&self) -> (usize, bool) {
        let begun = self.0.begun.load(Ordering::Relaxed);
        (begun, begun != self.0.ended.load(Ordering::Relaxed))
    }
}

impl InFlight {
    /// The connection speaks another protocol as soon as this request is answered.
    pub fn opens(&self) {
        self.shared.opened.store(true, Ordering::Release);
    }

    /// Why the last request cannot be read.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.shared.fault.get().copied()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.ended.fetch_add(1, Ordering::Relaxed);
        // Nothing else would: no byte comes any more.
        let reader = self.shared.reader().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// A connection under that clock.
pub struct Watched {
    io: Stream,
    activity: Activity,
    /// In HTTP/1 bytes outside of a request are a head that has begun; in HTTP/2 they may be pings.
    strict: Option<Strict>,
    /// Bytes of HTTP/2 so far, as long as the first frame is not known.
    opening: usize,
    waiting: Waiting,
    /// Requests that had begun when `waiting` was set.
    begun: usize,
    stalled: Option<Idle>,
    half_closes: bool,
    /// The agent will send no more, and waits for its answer.
    half_closed: Option<Idle>,
    linger: Linger,
    /// Of what comes before an answer: not written yet.
    hint: Bytes,
    /// All that was written has gone out.
    flushed: bool,
}

/// After the last answer.
enum Linger {
    NotYet,
    /// Our side is shut; what comes is dropped.
    Reading {
        all: Idle,
        idle: Idle,
    },
}

enum Waiting {
    Busy,
    Idle(Idle),
    Head(Idle),
}

impl Watched {
    /// `plain`: not in TLS, where an end is said by who leaves.
    pub fn http1(io: Stream, activity: Activity, plain: bool) -> Self {
        Watched { half_closes: plain, ..Watched::new(io, activity, Some(Strict::new())) }
    }

    pub fn http2(io: Stream, activity: Activity) -> Self {
        Watched::new(io, activity, None)
    }

    fn new(io: Stream, activity: Activity, strict: Option<Strict>) -> Self {
        Watched {
            io,
            activity,
            strict,
            opening: 0,
            waiting: Waiting::Busy,
            begun: 0,
            stalled: None,
            half_closes: false,
            half_closed: None,
            linger: Linger::NotYet,
            hint: Bytes::new(),
            flushed: true,
        }
    }

    /// Writes what comes before an answer.
    fn poll_hint(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.hint.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.hint)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(wrote) => self.hint.advance(wrote),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Before bytes of the library's.
    fn poll_before(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.strict.is_some() && self.hint.is_empty() {
            self.hint = self.activity.0.hints.before_write(self.flushed).into();
        }
        ready!(self.poll_hint(cx))?;
        self.flushed = false;
        Poll::Ready(Ok(()))
    }

    /// Reads, and says whether bytes came in, whole requests or not.
    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> (Poll<io::Result<()>>, bool) {
        let Some(strict) = &mut self.strict else {
            let before = buf.filled().len();
            let poll = Pin::new(&mut self.io).poll_read(cx, buf);
            let came = buf.filled().get(before..).unwrap_or_default();
            if let Err(fault) = first_frame(&mut self.opening, came) {
                buf.set_filled(before);
                return (Poll::Ready(Err(fault)), true);
            }
            return (poll, buf.filled().len() > before);
        };
        let told = &self.activity.0;
        if told.opened.load(Ordering::Acquire) {
            strict.open();
        }
        let mut arrived = false;
        let refuse = |fault| {
            // One connection has at most one: nothing is read after it.
            told.fault.get_or_init(|| fault);
        };
        let poll = strict.poll_read(&mut self.io, cx, buf, &mut arrived, refuse);
        (poll, arrived)
    }

    /// Reads until the agent closes or had its time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Linger::Reading { all, idle } = &mut self.linger else { return Poll::Ready(()) };
        let mut scrap = [0; 8 * 1024];
        loop {
            if all.poll_expired(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut scrap);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => idle.touch(),
                Poll::Ready(_closed) => return Poll::Ready(()),
                Poll::Pending => return idle.poll_expired(cx),
            }
        }
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match poll {
            Poll::Ready(done) => {
                self.stalled = None;
                if let Some(waits) = &mut self.half_closed {
                    waits.touch();
                }
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

/// Behind the preface stands SETTINGS (RFC 9113, 3.4), which the library does not insist on. `so_far`: bytes before these.
fn first_frame(so_far: &mut usize, came: &[u8]) -> io::Result<()> {
    // Behind three bytes of length.
    const KIND: usize = PREFACE.len() + 3;
    const SETTINGS: u8 = 4;
    let kind = KIND.checked_sub(*so_far).and_then(|at| came.get(at));
    *so_far = so_far.saturating_add(came.len());
    match kind {
        Some(kind) if *kind != SETTINGS => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the first frame is not SETTINGS"))
        }
        _ => Ok(()),
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
        let (poll, arrived) = this.read(cx, buf);
        let ended = matches!(poll, Poll::Ready(Ok(()))) && buf.filled().len() == before;
        let (begun, in_flight) = this.activity.now();
        if in_flight || begun != this.begun {
            // Whatever was being waited for has come.
            this.waiting = Waiting::Busy;
            this.begun = begun;
        }
        if in_flight {
            // The library takes an end for the agent's leaving.
            return match &this.strict {
                Some(strict) if ended && this.half_closes && !strict.owes() => {
                    *this.activity.0.reader() = Some(cx.waker().clone());
                    // It may have ended before it knew whom to wake.
                    if !this.activity.now().1 {
                        return poll;
                    }
                    let waits = this.half_closed.get_or_insert_with(|| Idle::new(HALF_CLOSED));
                    waits.poll_expired(cx).map(Ok)
                }
                _ => poll,
            };
        }
        // No head comes any more: the connection speaks another protocol, which has clocks of its own.
        if this.activity.0.opened.load(Ordering::Acquire) {
            return poll;
        }
        if arrived && this.strict.is_some() && !matches!(this.waiting, Waiting::Head(_)) {
            this.waiting = Waiting::Head(Idle::new(HEAD));
        }
        match poll {
            Poll::Ready(_) => poll,
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
        let poll = match self.poll_before(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.io).poll_write(cx, bytes),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        self.wrote(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = match self.poll_before(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.io).poll_write_vectored(cx, bytes),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        self.wrote(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// The library flushes what it has written out, and only then (`hints`).
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = true;
        if self.strict.is_some() && self.hint.is_empty() {
            self.hint = self.activity.0.hints.after_all().into();
        }
        let poll = match self.poll_hint(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.io).poll_flush(cx),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        self.wrote(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.linger, Linger::NotYet) {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.strict.as_ref().is_some_and(Strict::owes) {
                return Poll::Ready(Ok(()));
            }
            this.linger = Linger::Reading { all: Idle::new(LINGER), idle: Idle::new(LINGER_IDLE) };
        }
        this.poll_linger(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn an_end_is_one_when_the_answer_is_there_or_does_not_come() {
        let (mut agent, io) = tokio::io::duplex(1024);
        let activity = Activity::default();
        let mut watched = Watched::http1(Stream::new(Bytes::new(), Box::new(io)), activity.clone(), true);
        agent.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        agent.shutdown().await.unwrap();
        let mut request = [0; 27];
        watched.read_exact(&mut request).await.unwrap();
        let in_flight = activity.begin();
        let moment = Duration::from_millis(50);
        assert!(tokio::time::timeout(moment, watched.read_u8()).await.is_err(), "taken for gone");
        drop(in_flight);
        assert_eq!(watched.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        let _in_flight = activity.begin();
        watched.half_closed = Some(Idle::new(moment));
        assert_eq!(watched.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn hints_go_out_between_answers_and_not_into_them() {
        let (mut agent, io) = tokio::io::duplex(10);
        let activity = Activity::default();
        let mut watched = Watched::http1(Stream::new(Bytes::new(), Box::new(io)), activity.clone(), true);
        let mut hint = http::Response::new(());
        *hint.status_mut() = http::StatusCode::EARLY_HINTS;
        let reading = tokio::spawn(async move {
            let mut all = String::new();
            agent.read_to_string(&mut all).await.unwrap();
            all
        });
        // An answer of which the library holds a part back, and the next request is served meanwhile.
        let first = watched.write(b"[the first answer]").await.unwrap();
        assert!(first < 18);
        activity.hint(&hint);
        watched.write_all(&b"[the first answer]"[first..]).await.unwrap();
        watched.flush().await.unwrap();
        activity.hint(&hint);
        activity.answers();
        watched.write_all(b"[the second]").await.unwrap();
        // Too late for one that is behind bytes which are still held back.
        activity.hint(&hint);
        activity.answers();
        watched.write_all(b"[the third]").await.unwrap();
        watched.flush().await.unwrap();
        watched.shutdown().await.unwrap();
        let early = "HTTP/1.1 103 Early Hints\r\n\r\n";
        assert_eq!(
            reading.await.unwrap(),
            format!("[the first answer]{early}{early}[the second][the third]")
        );
    }
}
