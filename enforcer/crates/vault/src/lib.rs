//! Stored secrets: sealed at rest, bound to hosts, and given out one decided use at a time.
//!
//! Synchronous; callers own the thread. Plaintext exists as one type, [`Secret`].
#![forbid(unsafe_code)]
// SKELETON: signatures are the contract.

use std::path::Path;
use zeroize::Zeroizing;

/// A secret value in memory: zeroed on drop, never Debug, Clone, PartialEq, Display or Serialize.
pub struct Secret(Zeroizing<Vec<u8>>);
impl Secret {
    /// Takes the bytes. Errors: empty, over 64 KiB, CR, LF, NUL or non-ASCII (they would break a header).
    pub fn new(bytes: Vec<u8>) -> Result<Self, SecretError> { let _ = bytes; todo!() }
    /// Only for `credential/` and `redact/`.
    pub fn expose(&self) -> &[u8] { &self.0 }
}
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SecretError(pub &'static str);

/// The master key (32 bytes), read from a descriptor the keeper opened.
pub struct VaultKey(#[allow(dead_code, reason = "skeleton")] Zeroizing<[u8; 32]>);
impl VaultKey {
    pub fn read(source: impl std::io::Read) -> Result<Self, VaultError> { let _ = source; todo!() }
    /// Makes a key file (0600, O_EXCL) with fresh random bytes.
    pub fn create(path: &Path) -> Result<(), VaultError> { let _ = path; todo!() }
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Binding { /* scheme, host or wildcard, port */ text: String }
impl Binding {
    /// `api.github.com`, `https://api.example.com:8443`, `*.example.com` (only with `wildcard`), `http://…` (only with `plaintext`).
    pub fn parse(text: &str, dangers: Dangers) -> Result<Self, VaultError> { let _ = (text, dangers); todo!() }
    pub fn covers(&self, scheme: &str, host: &str, port: u16) -> bool { let _ = (scheme, host, port); todo!() }
}
#[derive(Debug, Clone, Copy, Default)]
pub struct Dangers { pub wildcard: bool, pub plaintext: bool }
impl TryFrom<String> for Binding { type Error = VaultError; fn try_from(s: String) -> Result<Self, VaultError> { let _ = s; todo!() } }
impl From<Binding> for String { fn from(b: Binding) -> String { b.text } }

/// Metadata; never the value.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Entry { pub name: String, pub version: u32, pub hosts: Vec<Binding>, pub created: i64, pub last_used: Option<i64>, pub length: usize }

/// What a decided request wants the secret for.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> { pub agent: &'a str, pub secret: &'a str, pub scheme: &'a str, pub host: &'a str, pub port: u16 }

pub struct Vault { _p: () }
impl Vault {
    /// Opens or creates the database and checks that the key opens it.
    pub fn open(path: &Path, key: VaultKey) -> Result<Self, VaultError> { let _ = (path, key); todo!() }
    /// Stores a new version; returns it.
    pub fn set(&mut self, name: &str, hosts: &[Binding], secret: Secret, now: i64) -> Result<u32, VaultError> { let _ = (name, hosts, secret, now); todo!() }
    pub fn list(&self) -> Result<Vec<Entry>, VaultError> { todo!() }
    pub fn entry(&self, name: &str) -> Result<Entry, VaultError> { let _ = name; todo!() }
    pub fn remove(&mut self, name: &str) -> Result<(), VaultError> { let _ = name; todo!() }
    /// The value, if and only if the binding (authenticated with the ciphertext) covers the use.
    pub fn fetch(&mut self, usage: Use<'_>, now: i64) -> Result<(Secret, u32), VaultError> { let _ = (usage, now); todo!() }
    /// The daemon's own keys (CA root, receipt key): another namespace, not listed, not fetchable.
    pub fn seal_own(&mut self, name: &str, bytes: &[u8]) -> Result<(), VaultError> { let _ = (name, bytes); todo!() }
    pub fn open_own(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> { let _ = name; todo!() }
}
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("no secret is called `{0}`")] NotFound(String),
    #[error("secret `{secret}` may not be sent to {scheme}://{host}:{port}; it is bound to {allowed}")] NotBound { secret: String, scheme: String, host: String, port: u16, allowed: String },
    #[error("{0}")] Other(String),
}
