//! Sending one authorized request. There is no way in without a permit.
//!
//! Pools are kept per (agent, credential and version, scheme, host, port). A request is sent twice
//! only when it was provably never begun; nothing is followed, nothing else is repeated.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use enforcer_policy::{AgentName, CredentialName, Endpoint, Host, Relay, Scheme};
use http::{HeaderValue, Request, Response};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use super::BoxError;
use super::body::{Outgoing, Progress};
use super::dial::{self, DialError};
use super::interim::Early;
use super::opening::Opening;
use super::pool::{Answered, Bounds, Lease, Pool, Unanswered};
use super::received::Received;
use super::wire::Wire;
use crate::credential::Authorized;
use crate::dns::Resolver;
use crate::gate::lifeline::Lifelines;
use crate::gate::{Code, TunnelPermit};
use crate::tls::{ClientTls, TlsError};

/// A model may think this long before it answers; beyond, the connection is taken for dead.
const ANSWER: Duration = Duration::from_secs(600);

/// Waiting connections that may turn out dead before a new one is opened.
const MAX_DEAD: u32 = 3;

/// How often upstream connections that waited too long are closed.
const SWEEP: Duration = Duration::from_secs(15);
/// Pools that are never too many to be looked through only then.
const MANY: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error(transparent)]
    Dial(DialError),
    #[error("the server did not begin to speak HTTP: {0}")]
    Begin(#[source] BoxError),
    #[error("the connection failed before the request was sent: {0}")]
    Unsent(#[source] BoxError),
    #[error("the connection failed after the request was begun: {0}")]
    Broken(#[source] BoxError),
    #[error("the server did not answer within 10 minutes")]
    Silent,
    #[error("the server sent more than 8 informational answers (1xx) and no other")]
    Informational,
    #[error("TLS settings: {0}")]
    Settings(#[source] TlsError),
    #[error("`{0}` cannot be written as a host header")]
    Authority(String),
}

impl UpstreamError {
    pub fn code(&self) -> Code {
        match self {
            UpstreamError::Dial(DialError::Resolve(_)) => Code::NameUnresolved,
            UpstreamError::Dial(DialError::Special { .. }) => Code::SpecialAddress,
            UpstreamError::Dial(DialError::Connect { .. } | DialError::Handshake { .. }) => {
                Code::UpstreamUnreachable
            }
            UpstreamError::Dial(DialError::Certificate { .. }) => Code::UpstreamCertificate,
            UpstreamError::Begin(_)
            | UpstreamError::Unsent(_)
            | UpstreamError::Broken(_)
            | UpstreamError::Informational => Code::UpstreamFailed,
            UpstreamError::Silent => Code::UpstreamTimeout,
            UpstreamError::Settings(_) | UpstreamError::Authority(_) => Code::UpstreamFailed,
        }
    }
}

/// Where a request goes.
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) host: Host,
    pub(super) port: u16,
    /// `host[:port]` as a header value.
    pub(super) authority: HeaderValue,
}

/// Whose connection it is. Two requests share connections only if all of this is equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    agent: AgentName,
    credential: Option<CredentialName>,
    /// Names and versions of the secrets in the request.
    secrets: Vec<(String, u32)>,
    scheme: Scheme,
    host: Host,
    port: u16,
}

/// An answer's head with its body still to come.
pub struct Sent {
    pub response: Response<Received>,
    /// The server agreed to speak something else.
    pub opening: Option<Opening>,
    pub address: SocketAddr,
    pub lease: Lease,
}

/// How the agent's side wants it carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// HTTP/1.
    Single,
    /// HTTP/2 where the origin offers it.
    Multiplexed,
    /// A WebSocket: HTTP/1 on a new connection that will not come back.
    Upgrade,
    /// The same for an agent that speaks HTTP/2: on a stream, if the origin opens them there (RFC 8441).
    Connect,
}

/// All pools.
pub struct Upstreams {
    resolver: Arc<Resolver>,
    tls: ClientTls,
    lifelines: Arc<Lifelines>,
    pools: Mutex<Pools>,
}

#[derive(Default)]
struct Pools {
    open: HashMap<Identity, Arc<Pool>>,
    bounds: HashMap<AgentName, Weak<Bounds>>,
    /// With so many open, those that nobody uses are looked for: twice what was left the last time.
    many: usize,
}

impl Upstreams {
    pub fn new(resolver: Arc<Resolver>, tls: ClientTls, lifelines: Arc<Lifelines>) -> Self {
        Upstreams { resolver, tls, lifelines, pools: Mutex::default() }
    }

    /// Sends the request and waits for the head of the answer. `progress` belongs to `body`; `early` gets what comes before it.
    pub async fn send(
        &self,
        authorized: Authorized,
        body: Outgoing,
        progress: &Progress,
        private: &[IpNet],
        carriage: Carriage,
        early: &mut Early<'_>,
    ) -> Result<Sent, UpstreamError> {
        let Authorized { permit, parts, injected, guarded: _ } = authorized;
        let asked = permit.request();
        let identity = Identity {
            agent: permit.agent().name.clone(),
            credential: permit.credential().map(|spec| spec.name.clone()),
            secrets: injected.iter().map(|fetched| (fetched.name.clone(), fetched.version)).collect(),
            scheme: asked.scheme,
            host: asked.host.clone(),
            port: asked.port,
        };
        let origin = Origin::of(&identity)?;
        let pool = self.pool(identity)?;
        let mut request = Request::from_parts(parts, body);
        let mut dead = 0;
        loop {
            let taken = match carriage {
                _ if dead >= MAX_DEAD => pool.fresh(&origin, &self.resolver, private).await?,
                Carriage::Single => pool.take(&origin, &self.resolver, private, false).await?,
                Carriage::Multiplexed => pool.take(&origin, &self.resolver, private, true).await?,
                Carriage::Upgrade => pool.fresh(&origin, &self.resolver, private).await?,
                Carriage::Connect => pool.websocket(&origin, &self.resolver, private).await?,
            };
            let (address, reused) = (taken.address, taken.reused);
            let sending = taken.send(&pool, &origin, request, early);
            match answered(sending, progress).await? {
                Ok(Answered { response, opening, lease }) => {
                    return Ok(Sent { response, opening, address, lease });
                }
                Err(Unanswered::Flooded) => return Err(UpstreamError::Informational),
                // On a connection that had died while it waited: provably unused.
                Err(Unanswered::Unsent(unsent, _error)) if reused => {
                    request = *unsent;
                    dead += 1;
                }
                Err(Unanswered::Unsent(_, error)) => return Err(UpstreamError::Unsent(error)),
                Err(Unanswered::Broken(error)) => return Err(UpstreamError::Broken(error)),
            }
        }
    }

    /// The other end of an admitted connection, and the address it is at.
    pub(super) async fn open(
        &self,
        permit: &TunnelPermit,
        private: &[IpNet],
        cut: &CancellationToken,
    ) -> Result<(Wire, SocketAddr), UpstreamError> {
        let Endpoint { relay, host, port } = permit.endpoint();
        // Kept while it dials: so long it is the one of all that this agent opens.
        let bounds = self.pools().bounds(&permit.agent().name);
        let _dial = bounds.dials.acquire().await.expect("the semaphore is never closed");
        let (stream, address) = match relay {
            Relay::Passthrough => dial::tcp(&self.resolver, host, *port, private).await?,
            Relay::Raw { address } => dial::address(host, SocketAddr::new(*address, *port), private).await?,
        };
        Ok((Wire::upstream(stream, cut.clone()), address))
    }

    /// Is this one of the host's addresses, now or a while ago?
    pub(super) async fn leads_to(&self, host: &Host, address: IpAddr) -> bool {
        self.resolver.leads_to(host, address).await
    }

    fn pool(&self, identity: Identity) -> Result<Arc<Pool>, UpstreamError> {
        let mut pools = self.pools();
        if let Some(pool) = pools.open.get(&identity).filter(|pool| !pool.is_cut()) {
            return Ok(pool.clone());
        }
        // An agent may ask for origin after origin. Not each time: with many agents that would be a look at all for each.
        if pools.open.len() >= pools.many {
            pools.forget_unused(Instant::now());
        }
        let bounds = pools.bounds(&identity.agent);
        let secrets = identity.secrets.iter().map(|(name, _version)| name.clone()).collect();
        let lifeline = self.lifelines.upstream(&identity.agent, secrets);
        let pool = Arc::new(Pool::new(&self.tls, lifeline, bounds)?);
        pools.open.insert(identity, pool.clone());
        Ok(pool)
    }

    /// Closes connections that have waited too long, every few seconds, for all agents together. Never returns.
    pub async fn keep_swept(&self) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            sweep.tick().await;
            self.pools().forget_unused(Instant::now());
        }
    }

    /// How many pools are left when it is as late as this.
    #[cfg(test)]
    pub(crate) fn left_at(&self, now: Instant) -> usize {
        let mut pools = self.pools();
        pools.forget_unused(now);
        pools.open.len()
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        // A panic between two of its parts loses a bound that is made again.
        self.pools.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Pools {
    /// Those that nobody uses at this moment. A pool keeps its TLS session cache for as long as it has a connection.
    fn forget_unused(&mut self, now: Instant) {
        self.open.retain(|_identity, pool| pool.sweep(now) || Arc::strong_count(pool) > 1);
        self.bounds.retain(|_agent, bounds| bounds.strong_count() > 0);
        self.many = (2 * self.open.len()).max(MANY);
    }

    /// Shared by all pools of the agent, where it has any.
    fn bounds(&mut self, agent: &AgentName) -> Arc<Bounds> {
        if let Some(bounds) = self.bounds.get(agent).and_then(Weak::upgrade) {
            return bounds;
        }
        let bounds = Arc::<Bounds>::default();
        self.bounds.insert(agent.clone(), Arc::downgrade(&bounds));
        bounds
    }
}

/// Waits for the answer as long as the request still moves, then for [`ANSWER`].
async fn answered<T>(sending: impl Future<Output = T>, progress: &Progress) -> Result<T, UpstreamError> {
    tokio::pin!(sending);
    loop {
        let before = progress.bytes();
        match tokio::time::timeout(ANSWER, sending.as_mut()).await {
            Ok(answer) => return Ok(answer),
            Err(_elapsed) if progress.bytes() > before => {}
            Err(_elapsed) => return Err(UpstreamError::Silent),
        }
    }
}

impl Origin {
    fn of(identity: &Identity) -> Result<Self, UpstreamError> {
        let Identity { scheme, host, port, .. } = identity;
        let name = match host.ip() {
            Some(ip) if ip.is_ipv6() => format!("[{ip}]"),
            _ => host.to_string(),
        };
        let text = if *port == scheme.default_port() { name } else { format!("{name}:{port}") };
        let authority = HeaderValue::try_from(&text).map_err(|_error| UpstreamError::Authority(text))?;
        Ok(Origin { scheme: *scheme, host: host.clone(), port: *port, authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_one_bound_on_dials_over_all_its_origins() {
        let resolver = Arc::new(Resolver::new(Vec::new(), Vec::new(), Duration::from_secs(1)));
        let upstreams =
            Upstreams::new(resolver, ClientTls::with_roots(rustls::RootCertStore::empty()), Arc::default());
        let pool = |agent: &str, host: &str| {
            let identity = Identity {
                agent: AgentName::parse(agent).unwrap(),
                credential: None,
                secrets: Vec::new(),
                scheme: Scheme::Https,
                host: Host::parse(host).unwrap(),
                port: 443,
            };
            upstreams.pool(identity).unwrap()
        };
        let (first, second, other) = (pool("one", "a.test"), pool("one", "b.test"), pool("two", "a.test"));
        assert!(Arc::ptr_eq(&first.bounds, &second.bounds));
        assert!(!Arc::ptr_eq(&first.bounds, &other.bounds));
        assert_eq!(first.bounds.dials.available_permits(), crate::proxy::pool::DIALS);
    }
}
