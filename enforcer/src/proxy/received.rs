//! The body of a message as it comes in, from either side and in either version.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http2::Sending;

/// Unlike in the library's own type, a stream that is reset is never a body that has ended.
pub enum Received {
    /// There is none: a CONNECT, whose stream carries something else.
    Nothing,
    Http1(Incoming),
    Http2(Http2),
}

/// The receiving half of a stream.
pub struct Http2 {
    stream: RecvStream,
    /// What is left of the announced length; the library holds the peer to it.
    left: Option<u64>,
    data_done: bool,
    /// The request that this is the answer to, if it is still being sent.
    _sending: Option<Sending>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("{0}")]
    Http1(#[source] hyper::Error),
    #[error("{0}")]
    Http2(#[source] h2::Error),
}

impl ReceiveError {
    /// The code with which the peer reset its stream.
    pub fn reset(&self) -> Option<Reason> {
        match self {
            ReceiveError::Http2(error) if error.is_reset() && error.is_remote() => error.reason(),
            ReceiveError::Http1(_) | ReceiveError::Http2(_) => None,
        }
    }
}

impl Received {
    pub fn http2(headers: &HeaderMap, stream: RecvStream) -> Self {
        Received::answer(headers, stream, None)
    }

    /// Dropped, it ends what is still being sent of the request as well.
    pub fn answer(headers: &HeaderMap, stream: RecvStream, sending: Option<Sending>) -> Self {
        let left = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let left = if stream.is_end_stream() { left.or(Some(0)) } else { left };
        Received::Http2(Http2 { stream, left, data_done: false, _sending: sending })
    }
}

impl Http2 {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    let length = data.len();
                    // It fails on a stream that has ended meanwhile, which needs no window.
                    drop(self.stream.flow_control().release_capacity(length));
                    self.left = self.left.map(|left| left.saturating_sub(length as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_done = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        match self.get_mut() {
            Received::Nothing => Poll::Ready(None),
            Received::Http1(body) => Pin::new(body).poll_frame(cx).map_err(ReceiveError::Http1),
            Received::Http2(body) => body.poll_frame(cx).map_err(ReceiveError::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Received::Nothing => true,
            Received::Http1(body) => body.is_end_stream(),
            Received::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Received::Nothing => SizeHint::with_exact(0),
            Received::Http1(body) => body.size_hint(),
            Received::Http2(body) => body.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
