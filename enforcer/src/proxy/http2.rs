//! What both ends of HTTP/2 need: a body onto a stream, a stream as a socket, and a look whether the peer is there.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::BoxError;
use super::received::ReceiveError;

/// Sends a body to its end. One that breaks off resets its stream: with the code of the stream that it came by, or else with `fault`.
pub async fn send(
    body: impl Body<Data = Bytes, Error: Into<BoxError>>,
    mut to: SendStream<Bytes>,
    fault: Reason,
) {
    let mut body = pin!(body);
    if let Err(error) = pieces(body.as_mut(), &mut to).await {
        let reason = reason(&*error).unwrap_or(fault);
        tracing::debug!(%error, ?reason, "a body was not sent to its end");
        to.send_reset(reason);
    }
}

async fn pieces<B>(mut body: Pin<&mut B>, to: &mut SendStream<Bytes>) -> Result<(), BoxError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    loop {
        let next = poll_fn(|cx| match to.poll_reset(cx) {
            Poll::Ready(reset) => Poll::Ready(Err(gone(reset))),
            Poll::Pending => body.as_mut().poll_frame(cx).map(Ok),
        });
        let Some(frame) = next.await? else {
            return Ok(to.send_data(Bytes::new(), true)?);
        };
        let frame = match frame.map_err(Into::<BoxError>::into)?.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                if !data.is_empty() {
                    room(to).await?;
                }
                to.send_data(data, last)?;
                if last {
                    return Ok(());
                }
                continue;
            }
            Err(frame) => frame,
        };
        if let Ok(trailers) = frame.into_trailers() {
            return Ok(to.send_trailers(trailers)?);
        }
    }
}

/// Waits until the peer takes at least a byte. What does not fit waits in the library, which is one piece at most. Room is asked for when
/// there is something to send, and no sooner: it is taken from other streams.
async fn room(to: &mut SendStream<Bytes>) -> Result<(), BoxError> {
    to.reserve_capacity(1);
    while to.capacity() == 0 {
        let more = poll_fn(|cx| match to.poll_reset(cx) {
            Poll::Ready(reset) => Poll::Ready(Err(gone(reset))),
            Poll::Pending => to.poll_capacity(cx).map(Ok),
        });
        match more.await? {
            Some(more) => more?,
            None => return Err("the stream has ended".into()),
        };
    }
    Ok(())
}

fn gone(reset: Result<Reason, h2::Error>) -> BoxError {
    match reset {
        Ok(reason) => format!("the peer does not want it: {reason}").into(),
        Err(error) => error.into(),
    }
}

/// With what a peer reset the stream that this comes from. Without an error it cannot be passed on as one.
fn reason(error: &(dyn Error + 'static)) -> Option<Reason> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<ReceiveError>() {
            return error.reset().filter(|reason| *reason != Reason::NO_ERROR);
        }
        at = error.source();
    }
    None
}

/// A body that is being sent by a task. Dropped, it is not sent any further.
pub struct Sending(tokio::task::AbortHandle);

impl Sending {
    /// Sends at once what can be; what is left is a task's.
    pub async fn begin<B>(body: B, to: SendStream<Bytes>) -> Option<Self>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        // An agent that breaks off its body has lost interest.
        let mut sending = Box::pin(send(body, to, Reason::CANCEL));
        match poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await {
            Poll::Ready(()) => None,
            Poll::Pending => Some(Sending(tokio::spawn(sending).abort_handle())),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Both halves of a stream after a CONNECT (RFC 8441).
pub struct Duplex {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// Read from the stream and not yet by us.
    rest: Bytes,
}

impl Duplex {
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Duplex { send, receive, rest: Bytes::new() }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(data) => self.rest = data.map_err(broken)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        // It fails on a stream that has ended meanwhile, which needs no window.
        drop(self.receive.flow_control().release_capacity(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(reset) = self.send.poll_reset(cx) {
            let reason = reset.map_err(broken)?;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, reason.to_string())));
        }
        self.send.reserve_capacity(bytes.len());
        let room = loop {
            match self.send.capacity() {
                0 => {}
                room => break room,
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(room) => room.map_err(broken)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        };
        let length = room.min(bytes.len());
        let piece = Bytes::copy_from_slice(&bytes[..length]);
        Poll::Ready(self.send.send_data(piece, false).map(|()| length).map_err(broken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(broken))
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

/// Asks the peer once in a while whether it is there.
pub struct KeepAlive {
    pings: Option<PingPong>,
    every: Duration,
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

impl KeepAlive {
    pub fn new(pings: Option<PingPong>, every: Duration) -> Self {
        KeepAlive { pings, every, timer: Box::pin(tokio::time::sleep(every)), asked: false }
    }

    /// Ready once it has not answered for as long as it is asked again. To be polled with the connection.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            if self.asked && pings.poll_pong(cx).is_ready() {
                self.asked = false;
                self.timer.as_mut().reset(Instant::now() + self.every);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.asked || pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.asked = true;
            self.timer.as_mut().reset(Instant::now() + self.every);
        }
    }
}
