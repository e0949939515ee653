//! Leaves ready to serve: minted once per host, kept, made again before they expire.
//!
//! One intermediate has one [`Leaves`]; when the intermediate changes, its leaves go with it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quick_cache::sync::Cache;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Intermediate, TlsError};

/// More names than this under a wildcard are minted again when they return.
const CAPACITY: usize = 4096;
/// Minted again when this much of its life is left, so no client sees one expire.
const RENEW_BEFORE: Duration = Duration::from_secs(2 * 3600);

/// The key all leaves of this process share: minting is then one signature (15 us), and stolen
/// leaves are worth no more than this process's memory is.
pub struct LeafKey {
    pair: KeyPair,
    signing: Arc<dyn SigningKey>,
}

impl LeafKey {
    pub fn generate() -> Result<Self, TlsError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| TlsError::Certificate { what: "leaves".into(), error })?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let signing = rustls::crypto::ring::sign::any_supported_type(&der).map_err(TlsError::Settings)?;
        Ok(LeafKey { pair, signing })
    }
}

struct Leaf {
    certified: Arc<CertifiedKey>,
    renew: SystemTime,
}

/// The leaves under one intermediate.
pub struct Leaves {
    intermediate: Intermediate,
    key: Arc<LeafKey>,
    ready: Cache<Arc<str>, Arc<Leaf>>,
}

impl Leaves {
    pub fn new(intermediate: Intermediate, key: Arc<LeafKey>) -> Self {
        Leaves { intermediate, key, ready: Cache::new(CAPACITY) }
    }

    /// The leaf for a host that the caller has found allowed. A host outside the intermediate's
    /// constraints is refused here a second time.
    pub fn leaf(&self, host: &str, now: SystemTime) -> Result<Arc<CertifiedKey>, TlsError> {
        if let Some(leaf) = self.ready.get(host)
            && leaf.renew > now
        {
            return Ok(leaf.certified.clone());
        }
        let certificate = self.intermediate.leaf(host, &self.key.pair, now)?;
        let chain = vec![certificate, self.intermediate.der().clone()];
        let certified = Arc::new(CertifiedKey::new(chain, self.key.signing.clone()));
        let renew = now + super::authority::LEAF_VALIDITY - RENEW_BEFORE;
        self.ready.insert(host.into(), Arc::new(Leaf { certified: certified.clone(), renew }));
        Ok(certified)
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaves").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Leaves {
    /// No leaf, no handshake: rustls then answers `access_denied`.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name()?.to_ascii_lowercase();
        self.leaf(&host, SystemTime::now()).ok()
    }
}

/// Serves one address: for clients that send no name because they dialled a number.
#[derive(Debug)]
pub(super) struct ForAddress {
    pub(super) leaves: Arc<Leaves>,
    pub(super) address: IpAddr,
}

impl ResolvesServerCert for ForAddress {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaves.leaf(&self.address.to_string(), SystemTime::now()).ok()
    }
}

/// Serves nobody. A handshake with it ends in the alert `access_denied`.
#[derive(Debug)]
pub(super) struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
