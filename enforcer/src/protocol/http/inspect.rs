//! The body of a request that is looked into before it is sent: held here, then sent as it was read.
//!
//! What was judged and what goes upstream are the same bytes. How much one agent may hold at a time is
//! bounded, since all of it is memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enforcer_policy::{Body, Reader};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gate::{BodySource, Code, Unread};
use crate::proxy::received::Received;

/// An agent that began a body and sends nothing for so long has gone away.
const IDLE: Duration = Duration::from_secs(30);
/// For all of it: it is held in memory meanwhile.
const WHOLE: Duration = Duration::from_secs(120);
/// Space is taken in pieces of this size.
const PIECE: usize = 64 * 1024;

/// A body on its way in.
pub struct Inspected {
    body: Received,
    held: Vec<u8>,
    ended: bool,
    /// The agent's, in pieces.
    space: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

/// What there is to send, and the space that what is held of it takes.
pub struct Rest {
    pub before: Bytes,
    /// `None`: all of it is held.
    pub body: Option<Received>,
    pub taken: Option<OwnedSemaphorePermit>,
}

impl Inspected {
    pub fn new(body: Received, space: Arc<Semaphore>) -> Self {
        Inspected { ended: body.is_end_stream(), body, held: Vec::new(), space, taken: None }
    }

    pub fn into_rest(self) -> Rest {
        let body = (!self.ended).then_some(self.body);
        Rest { before: self.held.into(), body, taken: self.taken }
    }

    fn hold(&mut self, data: &[u8]) -> Result<(), Unread> {
        let has = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needs = (self.held.len() + data.len()).div_ceil(PIECE);
        if let Some(more) = u32::try_from(needs.saturating_sub(has)).ok().filter(|more| *more > 0) {
            let taken = self.space.clone().try_acquire_many_owned(more).map_err(|_error| Unread {
                code: Code::RateLimited,
                reason: "too many bodies of this agent are being looked into; wait for one to end".into(),
            })?;
            match &mut self.taken {
                Some(own) => own.merge(taken),
                None => self.taken = Some(taken),
            }
        }
        self.held.extend_from_slice(data);
        Ok(())
    }

    async fn read_on(&mut self, mut reader: Reader) -> Result<Body, Unread> {
        loop {
            let seen = reader.look(&self.held, self.ended).map_err(|error| Unread {
                code: if error.too_large { Code::TooLarge } else { Code::BodyUnreadable },
                reason: error.to_string(),
            })?;
            if let Some(body) = seen {
                return Ok(body);
            }
            let Ok(frame) = tokio::time::timeout(IDLE, self.body.frame()).await else {
                return Err(broken("the request body stood still for 30 s"));
            };
            match frame {
                None => self.ended = true,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a body that was being looked into ended early");
                    return Err(broken("the agent broke off its request body"));
                }
                // Trailers are not sent on.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.hold(&data)?;
                    }
                }
            }
        }
    }
}

impl BodySource for Inspected {
    async fn read(&mut self, reader: Reader) -> Result<Body, Unread> {
        match tokio::time::timeout(WHOLE, self.read_on(reader)).await {
            Ok(read) => read,
            Err(_elapsed) => Err(broken("the request body took longer than 2 minutes")),
        }
    }
}

fn broken(reason: &str) -> Unread {
    Unread { code: Code::BadRequest, reason: reason.into() }
}
