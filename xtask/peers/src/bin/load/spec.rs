//! What can be asked of the generator.

use std::net::SocketAddr;

use serde::Deserialize;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Requests on connections that stay.
    Keep,
    /// A request on each connection, which then stays idle.
    Idle,
    /// A connection for each request.
    Fresh,
    /// One large body from there.
    Down,
    /// One large body to there.
    Up,
    /// Server-sent events.
    Events,
    /// Tries until there is an answer.
    First,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    pub(crate) kind: Kind,
    /// Where to connect to.
    pub(crate) address: SocketAddr,
    /// The authority that a forward proxy is asked for; `{name}` stands for the server's name.
    #[serde(default)]
    pub(crate) connect: Option<String>,
    /// Server name.
    pub(crate) name: String,
    /// Of the authority.
    pub(crate) port: u16,
    /// 0: `name` itself. Otherwise so many names below it, in turn, from `n{first}` on.
    #[serde(default)]
    pub(crate) names: usize,
    #[serde(default)]
    pub(crate) first: usize,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) h2: bool,
    #[serde(default = "one")]
    pub(crate) connections: usize,
    /// Requests at a time on each.
    #[serde(default = "one")]
    pub(crate) streams: usize,
    #[serde(default)]
    pub(crate) seconds: f64,
    /// So many requests, and not so many seconds.
    #[serde(default)]
    pub(crate) requests: usize,
    /// Requests a second of each connection; 0: one after the other.
    #[serde(default)]
    pub(crate) rate: f64,
    /// Offer what earlier connections left.
    #[serde(default)]
    pub(crate) resume: bool,
    /// Of a body.
    #[serde(default)]
    pub(crate) bytes: u64,
}

fn one() -> usize {
    1
}

impl Spec {
    pub(crate) fn name(&self, index: usize) -> String {
        match self.names {
            0 => self.name.clone(),
            names => format!("n{}.{}", self.first + index % names, self.name),
        }
    }
}
