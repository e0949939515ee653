//! Bodies in pieces, with what is to go wrong with them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Interval;

const PIECE: usize = 16 * 1024;

/// A body of known bytes.
#[derive(Default)]
pub(crate) struct Pieces {
    left: VecDeque<Bytes>,
    /// Its length is told before.
    sized: bool,
    pace: Option<Interval>,
    /// After so many pieces there comes nothing more, and this is told.
    stops: Option<(usize, Arc<Notify>)>,
    /// Told once all of it is gone.
    finished: Option<Told>,
}

impl Pieces {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let mut rest = Bytes::from(bytes);
        let mut left = VecDeque::new();
        while !rest.is_empty() {
            left.push_back(rest.split_to(rest.len().min(PIECE)));
        }
        Pieces { left, sized: true, ..Pieces::default() }
    }

    /// Pieces that come one by one, with a pause before each.
    pub(crate) fn paced(pieces: impl IntoIterator<Item = Vec<u8>>, pause: Duration) -> Self {
        let left = pieces.into_iter().map(Bytes::from).collect();
        Pieces { left, pace: Some(tokio::time::interval(pause)), ..Pieces::default() }
    }

    pub(crate) fn unsized_if(mut self, so: bool) -> Self {
        self.sized &= !so;
        self
    }

    /// Half of it goes out; then `told` is, and nothing more comes.
    pub(crate) fn stops_midway(mut self, told: Arc<Notify>) -> Self {
        if let [only] = self.left.make_contiguous() {
            let mut rest = only.clone();
            let half = rest.split_to(rest.len() / 2);
            self.left = [half, rest].into();
        }
        self.stops = Some((self.left.len() / 2, told));
        self
    }

    pub(crate) fn then(mut self, finished: Arc<Notify>) -> Self {
        self.finished = Some(Told(finished));
        self
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some((left, told)) = &mut self.stops {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => {
                    told.notify_one();
                    return Poll::Pending;
                }
            }
        }
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_tick(cx));
        }
        Poll::Ready(self.left.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.stops.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.sized {
            true => SizeHint::with_exact(self.left.iter().map(|piece| piece.len() as u64).sum()),
            false => SizeHint::default(),
        }
    }
}

/// Tells when it is dropped.
struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
