//! Where secret values come from: an async handle to the vault's own thread.
//!
//! Callers get an [`enforcer_vault::Secret`] for one decided use; metadata calls serve `control`.
// SKELETON: signatures are the contract.

use std::path::Path;
use std::sync::Arc;

use enforcer_vault::{Binding, Entry, Secret, VaultError, VaultKey};

#[derive(Clone)]
pub struct Secrets { _p: Arc<()> }
impl Secrets {
    /// Opens the vault on a thread of its own behind a bounded channel.
    pub fn open(path: &Path, key: VaultKey) -> Result<Self, VaultError> { let _ = (path, key); todo!() }
    /// The value and its version for one use; cached in memory for a short time per (secret, binding), dropped on set/remove.
    pub async fn fetch(&self, agent: &str, secret: &str, scheme: &str, host: &str, port: u16) -> Result<Arc<Fetched>, VaultError> { let _ = (agent, secret, scheme, host, port); todo!() }
    pub async fn set(&self, name: String, hosts: Vec<Binding>, secret: Secret) -> Result<u32, VaultError> { let _ = (name, hosts, secret); todo!() }
    pub async fn list(&self) -> Result<Vec<Entry>, VaultError> { todo!() }
    pub async fn entry(&self, name: String) -> Result<Entry, VaultError> { let _ = name; todo!() }
    pub async fn remove(&self, name: String) -> Result<(), VaultError> { let _ = name; todo!() }
    pub async fn seal_own(&self, name: &'static str, bytes: zeroize::Zeroizing<Vec<u8>>) -> Result<(), VaultError> { let _ = (name, bytes); todo!() }
    pub async fn open_own(&self, name: &'static str) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, VaultError> { let _ = name; todo!() }
}
pub struct Fetched { pub secret: Secret, pub name: String, pub version: u32 }
