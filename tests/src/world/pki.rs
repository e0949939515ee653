//! A certificate authority for the servers outside, made anew for each stage.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::plan;

/// Writes `ca.pem`, `server.{pem,key}` for every good name and `bad.{pem,key}`, self-signed.
pub(super) fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Authority of the stage");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(dir.join("ca.pem"), ca.pem())?;

    let many = format!("*.{}", plan::MANY_ZONE);
    let names =
        [plan::API, plan::OTHER, plan::GIT, plan::PLAIN, plan::SHOP, plan::INTERNAL, plan::REBOUND, &many];
    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(names.map(str::to_owned).to_vec())?;
    server.distinguished_name.push(DnType::CommonName, "Server of the stage");
    let certificate = server.signed_by(&key, &ca)?;
    fs::write(dir.join("server.pem"), certificate.pem())?;
    fs::write(dir.join("server.key"), key.serialize_pem())?;

    let key = KeyPair::generate()?;
    let bad = CertificateParams::new(vec![plan::BAD_CERTIFICATE.to_owned()])?.self_signed(&key)?;
    fs::write(dir.join("bad.pem"), bad.pem())?;
    fs::write(dir.join("bad.key"), key.serialize_pem())?;
    Ok(())
}
