//! Answers that are not the answer yet (1xx; RFC 9110, 15.2): counted, and passed on as they come.

use std::sync::{Mutex, MutexGuard};

use http::{HeaderMap, Response, StatusCode};
use tokio::sync::Notify;

use super::pool::Unanswered;

/// To one request. Servers send one or two.
const MAX: usize = 8;

/// Takes them on their way to the agent.
pub type Early<'a> = dyn FnMut(Response<()>) + Send + 'a;

#[derive(Default)]
pub(super) struct Interim {
    heads: Mutex<Heads>,
    /// There are some to pass on.
    pub(super) came: Notify,
}

#[derive(Default)]
struct Heads {
    waiting: Vec<Response<()>>,
    count: usize,
}

impl Interim {
    fn heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn add(&self, status: StatusCode, headers: &HeaderMap) {
        let mut heads = self.heads();
        heads.count += 1;
        // Whoever waits for `100 Continue` has had it from us.
        if heads.count <= MAX && !matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            let mut head = Response::new(());
            *head.status_mut() = status;
            *head.headers_mut() = headers.clone();
            heads.waiting.push(head);
        }
        self.came.notify_one();
    }

    /// Passes on what has come, unless it is a flood.
    pub(super) fn pass(&self, early: &mut Early<'_>) -> Result<(), Unanswered> {
        let (waiting, count) = {
            let mut heads = self.heads();
            (std::mem::take(&mut heads.waiting), heads.count)
        };
        if count > MAX {
            return Err(Unanswered::Flooded);
        }
        waiting.into_iter().for_each(early);
        Ok(())
    }
}
