//! A deadline that moves on with every sign of life, for streams that may be long but not silent.
//!
//! Cheap to touch: the timer is set again only when it fires, not on every frame.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

pub struct Idle {
    limit: Duration,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    pub fn new(limit: Duration) -> Self {
        Idle { limit, last: Instant::now(), timer: None }
    }

    /// Something moved.
    pub fn touch(&mut self) {
        self.last = Instant::now();
    }

    /// Ready once nothing has moved for the limit. To be polled while waiting, and only then.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.last + self.limit;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            match timer.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if Instant::now() >= due => {
                    self.timer = None;
                    return Poll::Ready(());
                }
                Poll::Ready(()) => timer.as_mut().reset(due),
            }
        }
    }
}
