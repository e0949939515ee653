//! Leaves minted for the names that clients ask for, by an authority of one run, over one shared key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};

pub struct Leaves {
    authority: CertifiedIssuer<'static, KeyPair>,
    key: KeyPair,
    signer: Arc<dyn SigningKey>,
    minted: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Leaves {
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let signer = rustls::crypto::ring::sign::any_ecdsa_type(
            &PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )?;
        Ok(Leaves { authority, key, signer, minted: Mutex::default() })
    }

    fn leaf(&self, name: &str) -> Result<Arc<CertifiedKey>> {
        let mut minted = self.minted.lock().unwrap_or_else(|broken| broken.into_inner());
        if let Some(leaf) = minted.get(name) {
            return Ok(leaf.clone());
        }
        let leaf = CertificateParams::new(vec![name.to_owned()])?.signed_by(&self.key, &self.authority)?;
        let leaf = Arc::new(CertifiedKey::new(vec![leaf.der().clone()], self.signer.clone()));
        minted.insert(name.to_owned(), leaf.clone());
        Ok(leaf)
    }
}

impl ResolvesServerCert for Leaves {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf(hello.server_name()?).context("mint a leaf").ok()
    }
}

impl std::fmt::Debug for Leaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leaves")
    }
}
