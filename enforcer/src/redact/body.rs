//! The response body as it goes to the agent.
//!
//! Whatever goes wrong on the way ends it in an error, so that a body that was cut is never taken
//! for a whole one. At most one buffer and the beginning of a match are kept.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::coding::Decoder;
use super::head;
use super::needles::Needles;
use super::scan::Scanner;

/// An `http_body::Body<Data = Bytes>` without the values that were looked for.
pub struct ScrubbedBody<B> {
    inner: B,
    state: State,
    needles: Arc<Needles>,
    scanner: Scanner,
    trailers: Option<HeaderMap>,
    cut: Arc<AtomicU32>,
}

enum State {
    Untouched,
    Plain,
    Decoding(Box<Decoder>),
    /// The inner body has ended; trailers may be left.
    Ended,
}

impl<B> ScrubbedBody<B> {
    pub(super) fn untouched(inner: B, needles: Arc<Needles>, cut: Arc<AtomicU32>) -> Self {
        Self::new(inner, needles, cut, State::Untouched)
    }

    pub(super) fn plain(inner: B, needles: Arc<Needles>, cut: Arc<AtomicU32>) -> Self {
        Self::new(inner, needles, cut, State::Plain)
    }

    pub(super) fn decoding(inner: B, needles: Arc<Needles>, cut: Arc<AtomicU32>, decoder: Decoder) -> Self {
        Self::new(inner, needles, cut, State::Decoding(Box::new(decoder)))
    }

    fn new(inner: B, needles: Arc<Needles>, cut: Arc<AtomicU32>, state: State) -> Self {
        let scanner = Scanner::new(needles.clone(), cut.clone());
        ScrubbedBody { inner, state, needles, scanner, trailers: None, cut }
    }

    /// How many values were cut so far, headers included; shared, and final once the body has ended.
    pub fn scrubbed(&self) -> Arc<AtomicU32> {
        self.cut.clone()
    }

    #[cfg(test)]
    pub(super) fn inner_for_test(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B> ScrubbedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// The next piece of data; `None` once there is none, with trailers put aside.
    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn Error + Send + Sync>>>> {
        loop {
            if let State::Decoding(decoder) = &mut self.state
                && let Some(decoded) = decoder.next()?
            {
                let passed = self.scanner.feed(decoded);
                if !passed.is_empty() {
                    return Poll::Ready(Some(Ok(passed)));
                }
                continue;
            }
            let arrived = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(data),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        None
                    }
                },
                None => None,
            };
            match (&mut self.state, arrived) {
                (State::Decoding(decoder), Some(data)) => decoder.push(data),
                (State::Decoding(decoder), None) => {
                    decoder.end()?;
                    return Poll::Ready(None);
                }
                (_, Some(data)) => {
                    let passed = self.scanner.feed(data);
                    if !passed.is_empty() {
                        return Poll::Ready(Some(Ok(passed)));
                    }
                }
                (_, None) => return Poll::Ready(None),
            }
        }
    }
}

impl<B> Body for ScrubbedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match this.state {
            State::Untouched => {
                return Pin::new(&mut this.inner).poll_frame(context).map_err(Into::into);
            }
            State::Plain | State::Decoding(_) => match ready!(this.poll_data(context)) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Err(error)) => {
                    this.state = State::Ended;
                    this.trailers = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.state = State::Ended;
                    let rest = this.scanner.finish();
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
            },
            State::Ended => {}
        }
        Poll::Ready(this.trailers.take().map(|mut trailers| {
            head::clean(&mut trailers, &this.needles, &this.cut);
            Ok(Frame::trailers(trailers))
        }))
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Untouched => self.inner.is_end_stream(),
            State::Plain => self.inner.is_end_stream() && self.scanner.held() == 0,
            // Whether the coding ended as it should is known only after the last poll.
            State::Decoding(_) => false,
            State::Ended => self.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Untouched => self.inner.size_hint(),
            State::Plain => {
                // Masks keep the length.
                let (inner, held) = (self.inner.size_hint(), self.scanner.held() as u64);
                let mut hint = SizeHint::new();
                if let Some(upper) = inner.upper() {
                    hint.set_upper(upper + held);
                }
                hint.set_lower(inner.lower() + held);
                hint
            }
            State::Decoding(_) => SizeHint::default(),
            State::Ended => SizeHint::with_exact(0),
        }
    }
}
