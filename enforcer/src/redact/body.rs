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
use enforcer_policy::ResponseRules;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::ScrubError;
use super::coding::Decoder;
use super::content::{self, Content};
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
    content: Option<Content>,
    rules: Option<Arc<ResponseRules>>,
    redacted: Arc<AtomicU32>,
    /// bytes that may still be passed on, and all that may be
    limit: Option<(u64, u64)>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, Box<dyn Error + Send + Sync>>>>;

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
        let redacted = Arc::default();
        ScrubbedBody {
            inner,
            state,
            needles,
            scanner,
            trailers: None,
            cut,
            content: None,
            rules: None,
            redacted,
            limit: None,
        }
    }

    /// Under a rule's `response`: read by `content` before it is searched, and counted in `redacted`.
    pub(super) fn under(
        mut self,
        rules: Option<&Arc<ResponseRules>>,
        content: Option<Content>,
        redacted: Arc<AtomicU32>,
    ) -> Self {
        self.limit = rules.and_then(|rules| rules.max_body).map(|limit| (limit, limit));
        self.rules = rules.cloned();
        self.content = content;
        self.redacted = redacted;
        self
    }

    fn clean(&self, trailers: &mut HeaderMap) {
        if let Some(rules) = &self.rules {
            content::headers(rules, trailers, &self.redacted);
        }
        head::clean(trailers, &self.needles, &self.cut);
    }

    /// How much a rule took out so far, headers included.
    pub fn redacted(&self) -> u32 {
        self.redacted.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn pass(&mut self, data: Bytes) -> Result<Bytes, ScrubError> {
        let data = match &mut self.content {
            Some(content) => content.feed(&data)?,
            None => data,
        };
        Ok(self.scanner.feed(data))
    }

    /// What was held back, once the body has ended.
    fn rest(&mut self) -> Result<Bytes, ScrubError> {
        let mut rest = Vec::new();
        if let Some(content) = &mut self.content {
            let last = content.finish()?;
            rest.extend_from_slice(&self.scanner.feed(last));
        }
        rest.extend_from_slice(&self.scanner.finish());
        Ok(rest.into())
    }

    fn count(&mut self, data: Bytes) -> Result<Bytes, ScrubError> {
        if let Some((left, all)) = &mut self.limit {
            *left = left.checked_sub(data.len() as u64).ok_or(ScrubError::TooLarge(*all))?;
        }
        Ok(data)
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
    /// Ends in an error, and nothing comes after it.
    fn broken(&mut self, error: Box<dyn Error + Send + Sync>) -> Polled {
        self.state = State::Ended;
        self.trailers = None;
        self.content = None;
        Poll::Ready(Some(Err(error)))
    }

    /// The next piece of data; `None` once there is none, with trailers put aside.
    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn Error + Send + Sync>>>> {
        loop {
            if let State::Decoding(decoder) = &mut self.state
                && let Some(decoded) = decoder.next()?
            {
                let passed = self.pass(decoded)?;
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
                    let passed = self.pass(data)?;
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
                let mut frame = ready!(Pin::new(&mut this.inner).poll_frame(context));
                if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut()) {
                    this.clean(trailers);
                }
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref().cloned()
                    && let Err(error) = this.count(data)
                {
                    return this.broken(error.into());
                }
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            }
            State::Plain | State::Decoding(_) => match ready!(this.poll_data(context)) {
                Some(Ok(data)) => {
                    return match this.count(data) {
                        Ok(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                        Err(error) => this.broken(error.into()),
                    };
                }
                Some(Err(error)) => return this.broken(error),
                None => {
                    this.state = State::Ended;
                    let rest = match this.rest().and_then(|rest| this.count(rest)) {
                        Ok(rest) => rest,
                        Err(error) => return this.broken(error.into()),
                    };
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
            },
            State::Ended => {}
        }
        Poll::Ready(this.trailers.take().map(|mut trailers| {
            this.clean(&mut trailers);
            Ok(Frame::trailers(trailers))
        }))
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Untouched => self.inner.is_end_stream(),
            State::Plain => self.content.is_none() && self.inner.is_end_stream() && self.scanner.held() == 0,
            // Whether the coding ended as it should is known only after the last poll.
            State::Decoding(_) => false,
            State::Ended => self.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Untouched => self.inner.size_hint(),
            State::Plain if self.content.is_some() => SizeHint::default(),
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
