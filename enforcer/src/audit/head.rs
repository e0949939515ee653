//! Signed heads: "entry N has hash H", signed with Ed25519.
//!
//! A chain alone cannot show that its tail was cut, or that all of it was written anew. A head kept
//! elsewhere (journal, another host, paper) can; a head inside the log stops the rewriting.
//! Left out: where the signing key lives. Whoever opens the log hands it in.

use std::fmt;
use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::chain::Chain;
use super::entry::{Hash, Mark};
use super::record::RequestId;
use crate::text::{hex, unhex};

/// The public keys heads were signed with, one in hex a line, newest last; in the folder of the segments.
pub const KEY_FILE: &str = "head.pub";

/// A new signing key as PKCS#8, for the vault to keep.
pub fn new_key() -> Zeroizing<Vec<u8>> {
    let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())
        .expect("the kernel's random source answers: the vault and TLS could not work without it");
    Zeroizing::new(document.as_ref().to_vec())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let key = unhex(text.trim().as_bytes()).map(PublicKey);
        key.ok_or_else(|| "not a public key: 64 hex digits are needed, as in receipts/head.pub".to_owned())
    }
}

/// All keys of a key file, oldest first. A missing file is no keys; an unreadable line is an error.
pub fn read_keys(file: &Path) -> io::Result<Vec<PublicKey>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let keys: Result<_, _> = lines.map(str::parse).collect();
    keys.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Keeps `key` in the key file.
pub(super) fn keep_key(file: &Path, key: PublicKey) -> io::Result<()> {
    if read_keys(file)?.contains(&key) {
        return Ok(());
    }
    let mut file = fs::OpenOptions::new().create(true).append(true).mode(0o644).open(file)?;
    file.write_all(format!("{key}\n").as_bytes())?;
    file.sync_all()
}

/// "Entry `seq` has hash `hash`." As text: hex of both, and of the signature where there is one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub seq: u64,
    pub(super) hash: Hash,
    pub(super) sig: Option<[u8; 64]>,
}

impl Head {
    fn message(&self) -> Vec<u8> {
        [b"enforcer receipt head 1\n".as_slice(), &self.seq.to_be_bytes(), &self.hash].concat()
    }

    pub fn signed(&self) -> bool {
        self.sig.is_some()
    }

    /// Whether one of `keys` signed this.
    pub fn signed_by(&self, keys: &[PublicKey]) -> bool {
        let Some(sig) = &self.sig else { return false };
        let message = self.message();
        keys.iter().any(|key| UnparsedPublicKey::new(&ED25519, key.0).verify(&message, sig).is_ok())
    }

    pub(super) fn of(mark: &Mark) -> Option<Head> {
        let sig = match &mark.sig {
            Some(sig) => Some(unhex(sig.as_bytes())?),
            None => None,
        };
        Some(Head { seq: mark.seq, hash: unhex(mark.hash.as_bytes())?, sig })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{}", self.seq, hex(&self.hash))?;
        self.sig.map_or(Ok(()), |sig| f.write_str(&hex(&sig)))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({self})")
    }
}

impl FromStr for Head {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().as_bytes();
        let read = || {
            let (seq, rest) = text.split_at_checked(16)?;
            let (hash, sig) = rest.split_at_checked(64)?;
            let sig = if sig.is_empty() { None } else { Some(unhex(sig)?) };
            Some(Head { seq: u64::from_be_bytes(unhex(seq)?), hash: unhex(hash)?, sig })
        };
        read().ok_or_else(|| "not a head: 208 hex digits are needed (80 without a signature), as `enforcer receipts verify` prints them".to_owned())
    }
}

/// Signs heads. Without a key, heads still mark places but prove nothing.
pub(super) struct Signer(Option<Ed25519KeyPair>);

impl Signer {
    pub(super) fn new(pkcs8: Option<&[u8]>) -> Result<Self, String> {
        let pair = pkcs8.map(Ed25519KeyPair::from_pkcs8).transpose();
        pair.map(Signer)
            .map_err(|error| format!("the key for signing receipt heads is not an Ed25519 key: {error}"))
    }

    pub(super) fn key(&self) -> Option<PublicKey> {
        let key = self.0.as_ref()?.public_key().as_ref().try_into();
        Some(PublicKey(key.expect("an Ed25519 public key has 32 bytes")))
    }

    pub(super) fn head(&self, chain: &Chain) -> Head {
        let mut head = Head { seq: chain.seq, hash: chain.hash, sig: None };
        head.sig = self.0.as_ref().map(|pair| {
            pair.sign(&head.message()).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
        });
        head
    }

    pub(super) fn mark(&self, chain: &Chain, open: Option<Vec<(u64, RequestId)>>) -> (Head, Mark) {
        let head = self.head(chain);
        let (key, sig) = (self.key().map(|key| key.to_string()), head.sig.map(|sig| hex(&sig)));
        (head, Mark { seq: head.seq, hash: hex(&head.hash), key, sig, open })
    }
}
