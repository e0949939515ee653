//! The agent-facing side: one `ServerConfig` per agent.
//!
//! Tickets and session storage belong to that configuration, so a session resumes with the agent it
//! began with or not at all. An agent's configuration is made anew when its policy's hosts change or
//! its intermediate grows old; the root key is opened only then.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use enforcer_policy::AgentPolicy;
use rustls::ServerConfig;
use rustls::server::{ResolvesServerCert, ServerSessionMemoryCache};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::leaf::{ForAddress, LeafKey, Leaves, Nobody};
use super::{Authority, TlsError, provider};

/// A leaf made on the intermediate's last day must outlive it by nothing.
const RENEW_BEFORE: Duration = Duration::from_secs(2 * 24 * 3600);
/// TLS 1.2 session ids kept per agent; 1.3 uses tickets, which take no memory here.
const SESSIONS: usize = 1024;

/// Opens the sealed root for one signature. Errors are text for the log.
pub type OpenRoot =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Zeroizing<Vec<u8>>, String>> + Send>> + Send + Sync>;

/// Every agent's server side.
pub struct Servers {
    authority: Arc<Authority>,
    open_root: OpenRoot,
    key: Arc<LeafKey>,
    refusing: Arc<ServerConfig>,
    agents: Mutex<HashMap<String, Arc<AgentServer>>>,
}

impl Servers {
    pub fn new(authority: Arc<Authority>, open_root: OpenRoot) -> Result<Self, TlsError> {
        Ok(Servers {
            authority,
            open_root,
            key: Arc::new(LeafKey::generate()?),
            refusing: Arc::new(config(Arc::new(Nobody))?),
            agents: Mutex::default(),
        })
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The configuration for this agent under this policy.
    pub async fn agent(&self, policy: &AgentPolicy, now: SystemTime) -> Result<Arc<AgentServer>, TlsError> {
        self.of(policy.name.as_str(), policy.revision(), || policy.allowed_hosts(), now).await
    }

    /// Fails every handshake with `access_denied`.
    pub fn refusing(&self) -> Arc<ServerConfig> {
        self.refusing.clone()
    }

    pub(crate) async fn of(
        &self,
        agent: &str,
        revision: &str,
        hosts: impl FnOnce() -> Vec<String>,
        now: SystemTime,
    ) -> Result<Arc<AgentServer>, TlsError> {
        // Held while signing: a second connection of a new policy waits for the first one's work.
        let mut agents = self.agents.lock().await;
        let known = agents.get(agent).filter(|server| server.renew > now);
        if let Some(server) = known.filter(|server| server.revision == revision) {
            return Ok(server.clone());
        }
        let mut hosts = hosts();
        hosts.sort();
        hosts.dedup();
        let server = match known.filter(|server| server.hosts == hosts) {
            // Rules changed, hosts did not: the chain and its sessions stay good.
            Some(server) => AgentServer { revision: revision.into(), ..AgentServer::clone(server) },
            None => {
                let sealed = (self.open_root)().await.map_err(TlsError::OpenRoot)?;
                let intermediate = self.authority.intermediate(&sealed, agent, &hosts, now)?;
                let renew = intermediate.expires() - RENEW_BEFORE;
                let leaves = Arc::new(Leaves::new(intermediate, self.key.clone()));
                let config = Arc::new(config(leaves.clone())?);
                AgentServer { config, leaves, hosts, revision: revision.into(), renew }
            }
        };
        let server = Arc::new(server);
        agents.insert(agent.into(), server.clone());
        Ok(server)
    }
}

/// One agent's server side.
#[derive(Clone)]
pub struct AgentServer {
    config: Arc<ServerConfig>,
    leaves: Arc<Leaves>,
    hosts: Vec<String>,
    revision: String,
    renew: SystemTime,
}

impl AgentServer {
    /// Chooses the leaf by the name in the ClientHello.
    pub fn by_name(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// For a client that dialled an address and sends no name.
    pub fn for_address(&self, address: IpAddr) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::new(ForAddress { leaves: self.leaves.clone(), address });
        Arc::new(config)
    }
}

fn config(resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Settings)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::Settings)?;
    // One ticket saves the client a write of 500 bytes per handshake; agents open few at a time.
    config.send_tls13_tickets = 1;
    // A replayed request would be a second use of the credential (RFC 8446, 8).
    config.max_early_data_size = 0;
    Ok(config)
}
