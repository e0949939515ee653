//! The upstream-facing side: whom we believe, and with which settings we ask.
//!
//! There is no switch that turns verification off. Session caches are never shared: each
//! [`ClientTls::config`] is made for one pool and dies with it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{TlsError, provider};

/// Tickets kept per pool; a pool is one host.
const SESSIONS: usize = 8;

/// The roots upstream certificates are checked against.
#[derive(Clone)]
pub struct ClientTls {
    roots: Arc<RootCertStore>,
}

impl ClientTls {
    /// The host's store and the files named in the settings. When the host has no store, the roots
    /// compiled in stand in for it.
    pub fn load(extra: &[PathBuf]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let host = rustls_native_certs::load_native_certs();
        for error in &host.errors {
            tracing::warn!(%error, "a root certificate of the host cannot be used");
        }
        let (added, ignored) = roots.add_parsable_certificates(host.certs);
        if added == 0 {
            tracing::warn!(ignored, "the host has no usable root certificates; using the built-in ones");
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for path in extra {
            let fail = |why: String| TlsError::Roots { path: path.display().to_string(), why };
            let mut found = 0;
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| fail(e.to_string()))? {
                let certificate = certificate.map_err(|e| fail(e.to_string()))?;
                roots.add(certificate).map_err(|e| fail(e.to_string()))?;
                found += 1;
            }
            if found == 0 {
                return Err(fail("it holds no certificate".into()));
            }
        }
        Ok(ClientTls { roots: Arc::new(roots) })
    }

    /// Only these roots.
    pub fn with_roots(roots: RootCertStore) -> Self {
        ClientTls { roots: Arc::new(roots) }
    }

    /// A configuration with a session cache of its own.
    pub fn config(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Settings)?
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }
}
