//! From an accepted socket to a protocol, and from a permit to an upstream.
//!
//! [`listener`] accepts for one session, [`connection`] finds out whose connection it is, [`sniff`]
//! what it speaks; a [`Protocol`] then serves it and asks [`upstream`] for each admitted request.
//! [`tunnel`] carries what nobody reads, [`forward`] relays what no protocol is spoken for. This layer knows no protocol by
//! name: the table is handed in with [`Shared`].

pub mod body;
pub mod connection;
pub mod dial;
pub mod forward;
pub mod http2;
pub mod idle;
pub mod interim;
pub mod listener;
pub mod opening;
pub mod pool;
pub mod received;
pub mod relay;
pub mod sniff;
pub mod stream;
mod streams;
pub mod tunnel;
pub mod upstream;
pub mod wire;

use std::collections::HashMap;
use std::future::Future;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};

use enforcer_capture::records::{Origin, OriginalDst, RecordError, Records};
use enforcer_policy::{AgentName, Host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Caller};
use crate::credential::Placeholders;
use crate::gate::Gate;
use crate::secret::Secrets;
use crate::tls::{Distrust, Servers};

pub use listener::serve_session;
pub use stream::Stream;
pub use upstream::Upstreams;

/// Connections of one agent. Each may take a second descriptor towards an upstream.
pub(crate) const CONNECTIONS: usize = 512;
/// As many as these could carry with HTTP/1.
pub(crate) const REQUESTS: usize = CONNECTIONS;
/// 32 MiB in pieces of 64 KiB: what bodies that are looked into may hold of one agent, before they are parsed.
pub(crate) const BODIES: usize = 512;

/// What a connection of HTTP/1 reads at a time, and holds for writing: the largest head fits. The library's own 408 KiB would stay with a
/// connection for as long as it is kept once a large body has passed.
pub(crate) const BUFFER: usize = 72 * 1024;

/// What every session is served with. Built once, by `app`.
pub struct Shared {
    pub gate: Gate,
    pub servers: Servers,
    /// Clients that do not trust what `servers` shows them.
    pub distrust: Arc<Distrust>,
    pub secrets: Secrets,
    pub placeholders: Placeholders,
    pub upstreams: Upstreams,
    pub origins: Box<dyn Origins>,
    pub protocols: &'static [&'static dyn Protocol],
    /// Set once: accept no more, finish what runs, then end.
    pub shutdown: CancellationToken,
    pub caps: Caps,
}

/// A session to serve: the agent, and the listeners inside its namespace.
pub struct Session {
    pub agent: Arc<Agent>,
    pub listeners: Vec<tokio::net::TcpListener>,
}

/// Where an accepted connection was going. The kernel's records in life, a table in tests.
pub trait Origins: Send + Sync {
    fn take(&self, accepted: BorrowedFd<'_>, agent: &Agent) -> Result<Origin, RecordError>;
}

impl Origins for Records {
    fn take(&self, accepted: BorrowedFd<'_>, agent: &Agent) -> Result<Origin, RecordError> {
        Records::take(self, accepted, agent.cgroup.0, agent.netns.0)
    }
}

/// Something an agent may speak.
pub trait Protocol: Send + Sync {
    fn name(&self) -> &'static str;
    /// Do these first bytes begin this protocol? Asked again with more bytes after `Unsure`.
    fn begins(&self, first: &[u8]) -> Begins;
    /// Serves the connection to its end. Every request in it is judged by the gate.
    fn serve(&self, stream: Stream, connection: Connection) -> Serving;
}

/// The future of [`Protocol::serve`].
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    Yes,
    No,
    Unsure,
}

/// One identified connection, handed from layer to layer of protocol.
#[derive(Clone)]
pub struct Connection {
    pub caller: Caller,
    pub destination: OriginalDst,
    /// Set once TLS has been terminated.
    pub tls: Option<Terminated>,
    pub shared: Arc<Shared>,
    /// Ends whatever was spawned for this connection when it is cut or its session is dropped.
    pub ended: CancellationToken,
    /// Whatever outlives the protocol (a relay after an upgrade) keeps it, and so still counts.
    pub slot: Slot,
}

/// One of an agent's connections, for as long as anything of it is held.
#[derive(Clone)]
pub struct Slot {
    pub cap: Arc<Cap>,
    _connection: Arc<OwnedSemaphorePermit>,
}

/// The outcome of a handshake with an agent.
#[derive(Clone, Debug)]
pub struct Terminated {
    /// The server name, or the dialled address where none was sent.
    pub host: Host,
    pub alpn: Option<Alpn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    H2,
    Http11,
}

/// What one agent may hold at a time, over all of its sessions.
pub struct Cap {
    pub connections: Arc<Semaphore>,
    /// Requests from their head to the end of their answer. HTTP/2 would multiply them by its streams.
    pub requests: Arc<Semaphore>,
    /// Bodies that are held to be judged, in pieces of 64 KiB.
    pub bodies: Arc<Semaphore>,
}

/// The caps by agent. That of an agent without sessions is forgotten sooner or later.
#[derive(Default)]
pub struct Caps {
    agents: Mutex<HashMap<AgentName, Weak<Cap>>>,
}

impl Caps {
    pub(crate) fn of(&self, agent: &AgentName) -> Arc<Cap> {
        let mut agents = self.agents.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(cap) = agents.get(agent).and_then(Weak::upgrade) {
            return cap;
        }
        // Not for each: with many agents that would be a look at all for every new one.
        if agents.len() == agents.capacity() {
            agents.retain(|_agent, cap| cap.strong_count() > 0);
        }
        let cap = Arc::new(Cap {
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            requests: Arc::new(Semaphore::new(REQUESTS)),
            bodies: Arc::new(Semaphore::new(BODIES)),
        });
        agents.insert(agent.clone(), Arc::downgrade(&cap));
        cap
    }
}

/// An error of a body, a stream or a peer, whatever its type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
