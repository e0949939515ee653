//! What the programs here share.
#![forbid(unsafe_code)]

pub mod leaf;

use anyhow::{Context, Result};
pub use bytes::Bytes;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The certificates of a PEM file, to be trusted.
pub fn roots(path: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).with_context(|| format!("read {path}"))? {
        roots.add(certificate?)?;
    }
    Ok(roots)
}
