//! Sealing one record: AES-256-GCM under a key of the record's own.
//!
//! The subkey is HKDF-SHA256 of the master key, salted with the database id and named by the
//! record's random id, so every sealing has its own key and a nonce is never used twice with one.
//! What identifies the record is associated data, length-prefixed so that no two records read the
//! same: moved, renamed, re-bound or foreign ciphertext does not open.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::{VaultError, VaultKey};

pub(crate) const TAG_LEN: usize = 16;
pub(crate) const ID_LEN: usize = 16;
pub(crate) type Id = [u8; ID_LEN];

/// Keys of one database.
pub(crate) struct Sealer {
    database: Id,
    root: hkdf::Prk,
    head: hmac::Key,
}

/// What a ciphertext is for. Everything here is authenticated with it.
#[derive(Clone, Copy)]
pub(crate) struct Label<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) version: u32,
    pub(crate) hosts: &'a str,
    pub(crate) created: i64,
}

/// A sealed value as it is stored.
pub(crate) struct Sealed {
    pub(crate) id: Id,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) ciphertext: Vec<u8>,
}

/// The value did not authenticate. Nothing more is known, by design.
#[derive(Debug)]
pub(crate) struct NotAuthentic;

impl Sealer {
    pub(crate) fn new(key: &VaultKey, database: Id) -> Self {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, &database).extract(key.bytes());
        let mut bytes = Zeroizing::new([0; 32]);
        expand(&root, &[b"enforcer vault 1 head"], &mut bytes);
        let head = hmac::Key::new(hmac::HMAC_SHA256, &*bytes);
        Sealer { database, root, head }
    }

    pub(crate) fn seal(&self, label: Label<'_>, value: &[u8]) -> Result<Sealed, VaultError> {
        let (mut id, mut nonce) = ([0; ID_LEN], [0; NONCE_LEN]);
        random(&mut id)?;
        random(&mut nonce)?;
        // Room for the tag from the start: growing would leave a copy of the value behind.
        let mut ciphertext = Vec::with_capacity(value.len() + TAG_LEN);
        ciphertext.extend_from_slice(value);
        self.subkey(&id)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.associated(&id, label)),
                &mut ciphertext,
            )
            .map_err(|e| VaultError::storage("seal the value", e))?;
        Ok(Sealed { id, nonce, ciphertext })
    }

    pub(crate) fn open(&self, label: Label<'_>, sealed: Sealed) -> Result<Zeroizing<Vec<u8>>, NotAuthentic> {
        let mut bytes = Zeroizing::new(sealed.ciphertext);
        let aad = Aad::from(self.associated(&sealed.id, label));
        let nonce = Nonce::assume_unique_for_key(sealed.nonce);
        let length = match self.subkey(&sealed.id).open_in_place(nonce, aad, &mut bytes) {
            Ok(value) => value.len(),
            Err(ring::error::Unspecified) => return Err(NotAuthentic),
        };
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Authenticates the set of records that are in force.
    pub(crate) fn sign_head(&self, listing: &[u8]) -> [u8; 32] {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.head, listing).as_ref());
        mac
    }

    pub(crate) fn check_head(&self, listing: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&self.head, listing, mac).is_ok()
    }

    fn subkey(&self, record: &Id) -> LessSafeKey {
        let mut bytes = Zeroizing::new([0; 32]);
        expand(&self.root, &[b"enforcer vault 1 record", record], &mut bytes);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*bytes).expect("the key has the algorithm's length"))
    }

    fn associated(&self, record: &Id, label: Label<'_>) -> Vec<u8> {
        let mut aad = Vec::with_capacity(128 + label.hosts.len());
        for part in [
            b"enforcer vault 1".as_slice(),
            &self.database,
            record,
            label.namespace.as_bytes(),
            label.name.as_bytes(),
            &label.version.to_be_bytes(),
            label.hosts.as_bytes(),
            &label.created.to_be_bytes(),
        ] {
            push(&mut aad, part);
        }
        aad
    }
}

/// Appends with its length, so that neighbours cannot run into each other.
pub(crate) fn push(to: &mut Vec<u8>, part: &[u8]) {
    to.extend_from_slice(&(part.len() as u64).to_be_bytes());
    to.extend_from_slice(part);
}

pub(crate) fn random(bytes: &mut [u8]) -> Result<(), VaultError> {
    SystemRandom::new().fill(bytes).map_err(|e| VaultError::storage("get random bytes from the system", e))
}

fn expand(root: &hkdf::Prk, info: &[&[u8]], out: &mut [u8; 32]) {
    root.expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(out))
        .expect("32 bytes are far below HKDF's limit, and the length is the algorithm's own");
}
