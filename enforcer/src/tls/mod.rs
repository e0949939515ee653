//! Both sides of TLS: the certificates we make for agents, and the ones we check at upstreams.
//!
//! [`authority`] makes root, intermediates and leaves; [`leaf`] keeps leaves ready; [`server`] holds
//! one configuration per agent; [`client`] the roots and settings towards upstreams; [`distrust`] who does not trust us. No sockets here.

pub mod authority;
pub mod client;
pub mod distrust;
pub mod leaf;
pub mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use authority::{Authority, Intermediate};
pub use client::ClientTls;
pub use distrust::Distrust;
pub use server::{AgentServer, OpenRoot, Servers};

/// What can go wrong in making or loading certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot make a certificate for {what}")]
    Certificate {
        what: String,
        #[source]
        error: rcgen::Error,
    },
    #[error("the sealed root is damaged: {0}; remove it from the vault to make a new one")]
    SealedRoot(&'static str),
    #[error("cannot open the root key: {0}")]
    OpenRoot(String),
    #[error("agent `{0}` has no allowed host, so nothing can be certified for it")]
    NoHosts(String),
    #[error("`{0}` is not among the hosts this agent may reach")]
    NotPermitted(String),
    #[error("no random bytes from the system")]
    Random,
    #[error("TLS settings are refused")]
    Settings(#[source] rustls::Error),
    #[error("cannot read root certificates from {path}: {why}")]
    Roots { path: String, why: String },
}

/// The one place that chooses the cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
