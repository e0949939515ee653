//! The daemon's own keys: made once, sealed in the vault, opened at start.
//!
//! The root's signing key is not kept open: [`open_root`] opens it for one signature.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use ring::rand::SecureRandom as _;
use zeroize::Zeroizing;

use crate::audit::head;
use crate::secret::Secrets;
use crate::tls::{Authority, OpenRoot};

const ROOT: &str = "ca-root";
const PLACEHOLDERS: &str = "placeholder-key";
const RECEIPTS: &str = "receipt-key";

pub(super) struct OwnKeys {
    pub(super) authority: Arc<Authority>,
    pub(super) placeholders: Zeroizing<[u8; 32]>,
    pub(super) receipts: Zeroizing<Vec<u8>>,
}

impl OwnKeys {
    pub(super) async fn open(secrets: &Secrets) -> anyhow::Result<Self> {
        Ok(OwnKeys {
            authority: Arc::new(authority(secrets).await?),
            placeholders: placeholders(secrets).await?,
            receipts: open_or_make(secrets, RECEIPTS, || Ok(head::new_key())).await?,
        })
    }
}

/// Opens the sealed root anew at each call, for `tls::Servers`.
pub(super) fn open_root(secrets: Secrets) -> OpenRoot {
    Arc::new(move || {
        let secrets = secrets.clone();
        Box::pin(async move {
            match secrets.open_own(ROOT).await {
                Ok(Some(sealed)) => Ok(sealed),
                Ok(None) => Err("the root key is not in the vault any more".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
    })
}

async fn authority(secrets: &Secrets) -> anyhow::Result<Authority> {
    let sealed = open_or_make(secrets, ROOT, || {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Authority::create(&hostname, SystemTime::now())?.1)
    })
    .await?;
    Authority::open(&sealed).context("cannot use the root certificate in the vault")
}

async fn placeholders(secrets: &Secrets) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let bytes = open_or_make(secrets, PLACEHOLDERS, || {
        let mut key = Zeroizing::new(vec![0; 32]);
        ring::rand::SystemRandom::new()
            .fill(&mut key)
            .map_err(|_unspecified| anyhow::anyhow!("the system has no randomness to give"))?;
        Ok(key)
    })
    .await?;
    let mut key = Zeroizing::new([0; 32]);
    anyhow::ensure!(
        bytes.len() == key.len(),
        "the placeholder key in the vault has {} bytes instead of 32",
        bytes.len()
    );
    key.copy_from_slice(&bytes);
    Ok(key)
}

async fn open_or_make(
    secrets: &Secrets,
    name: &'static str,
    make: impl FnOnce() -> anyhow::Result<Zeroizing<Vec<u8>>>,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if let Some(bytes) =
        secrets.open_own(name).await.with_context(|| format!("cannot open the daemon's own `{name}`"))?
    {
        return Ok(bytes);
    }
    let bytes = make()?;
    secrets
        .seal_own(name, bytes.clone())
        .await
        .with_context(|| format!("cannot store the daemon's own `{name}`"))?;
    Ok(bytes)
}
