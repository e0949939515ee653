//! What an agent does: kinds of work, each at a pace of its own.

use std::time::Duration;

/// One thing that is asked again and again.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// In ids and paths; the policy has a rule for each but `forbidden`.
    pub(crate) name: &'static str,
    pub(crate) post: bool,
    pub(crate) http2: bool,
    /// Bytes of the answer, and of a POST's body: evenly up to this.
    pub(crate) most: usize,
    /// Requests on one connection.
    pub(crate) on_one: usize,
    /// Requests at a time: HTTP/2 alone.
    pub(crate) at_once: usize,
    /// Broken off somewhere.
    pub(crate) broken: bool,
    pub(crate) pause: Duration,
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const ITEM: Kind = Kind {
    name: "item",
    post: false,
    http2: false,
    most: 8 << 10,
    on_one: 200,
    at_once: 1,
    broken: false,
    pause: ms(50),
};
const POST: Kind = Kind { name: "post", post: true, ..ITEM };
const DOWN: Kind = Kind { name: "down", most: 2 << 20, on_one: 10, pause: ms(1200), ..ITEM };
const UP: Kind = Kind { name: "up", post: true, ..DOWN };

pub(crate) const KINDS: &[Kind] = &[
    ITEM,
    POST,
    Kind { on_one: 1, pause: ms(150), ..ITEM },
    Kind { on_one: 1, pause: ms(150), ..POST },
    Kind { http2: true, at_once: 6, pause: ms(120), ..ITEM },
    Kind { http2: true, at_once: 6, pause: ms(120), ..POST },
    DOWN,
    UP,
    Kind { http2: true, ..DOWN },
    Kind { http2: true, ..UP },
    Kind { name: "events", on_one: 20, pause: ms(200), ..ITEM },
    Kind { name: "events", http2: true, at_once: 2, on_one: 20, pause: ms(200), ..ITEM },
    Kind { broken: true, pause: ms(700), ..DOWN },
    Kind { broken: true, pause: ms(700), ..UP },
    Kind { broken: true, http2: true, on_one: 50, at_once: 2, pause: ms(700), ..DOWN },
    Kind { broken: true, http2: true, on_one: 50, at_once: 2, pause: ms(700), ..UP },
    Kind { name: "limited", pause: ms(400), ..ITEM },
    Kind { name: "forbidden", post: true, http2: true, pause: ms(500), ..ITEM },
];
/// Between two WebSockets, and two connections that are relayed unread.
pub(crate) const STREAMS: Duration = ms(200);
/// Where something has failed: whoever serves is to come back first.
pub(crate) const PATIENCE: Duration = ms(100);
