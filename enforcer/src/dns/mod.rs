//! Names: our own resolver for upstreams, and the server that answers agents by policy.
// SKELETON: signatures are the contract.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use enforcer_policy::Host;

#[derive(Debug, thiserror::Error)]
pub enum ResolveError { #[error("`{0}` does not exist")] NoName(String), #[error("`{0}` cannot be resolved: {1}")] Failed(String, String) }

/// Asks the configured servers (UDP, then TCP), reads the hosts file first, caches by TTL within bounds. Never getaddrinfo.
pub struct Resolver { _p: () }
impl Resolver {
    pub fn new(servers: Vec<SocketAddr>, hosts: Vec<(String, IpAddr)>, timeout: Duration) -> Self { let _ = (servers, hosts, timeout); todo!() }
    /// Addresses of a name, A and AAAA, at most 16; never empty.
    pub async fn lookup(&self, host: &Host) -> Result<Arc<[IpAddr]>, ResolveError> { let _ = host; todo!() }
}

/// Is this address special (loopback, private, link-local, metadata, multicast, documentation, embedded IPv4 of such …)?
/// Returns the reason. Used on the very address dialled.
pub fn special(address: IpAddr) -> Option<&'static str> { let _ = address; todo!() }
