//! A signed file: one line of JSON, and one line with the key and the signature over the bytes of the first.
//!
//! The key is this host's, made at the first proof, and root's alone: the daemon's worker cannot sign. Beside it lies
//! the public half, for everybody.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::text::{hex, unhex};

const PRIVATE: &str = "key.pk8";
const PUBLIC: &str = "key.pub";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    key: String,
    signature: String,
}

/// What was signed, and by which key (hex).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) body: String,
    pub(super) key: String,
}

/// Signs and writes; whole or not at all.
pub(super) fn write(folder: &Path, name: &str, body: &str) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let pair = key(folder)?;
    let seal =
        Seal { key: hex(pair.public_key().as_ref()), signature: hex(pair.sign(body.as_bytes()).as_ref()) };
    let text = format!("{body}\n{}\n", serde_json::to_string(&seal)?);
    let (path, fresh) = (folder.join(name), folder.join(format!(".{name}")));
    place(&fresh, 0o644, text.as_bytes())?;
    fs::rename(&fresh, &path)?;
    Ok(path)
}

/// Checks against the key named, or this host's own: the key inside the file proves nothing.
pub(super) fn read(file: &Path, named: Option<&str>, folder: &Path) -> Result<Signed, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("it cannot be read: {error}"))?;
    let own = folder.join(PUBLIC);
    let key = match named {
        Some(key) => key.to_owned(),
        None => fs::read_to_string(&own)
            .map_err(|error| format!("{} cannot be read: {error}; name the key with --key", own.display()))?,
    };
    let key = key.trim();
    let public: [u8; 32] = unhex(key.as_bytes()).ok_or("the key is not 64 hex digits")?;
    let mut lines = text.split_inclusive('\n');
    let (Some(body), Some(seal), None) = (lines.next(), lines.next(), lines.next()) else {
        return Err("it is not a proof: two lines are expected".to_owned());
    };
    let body = body.trim_end_matches('\n');
    let seal: Seal =
        serde_json::from_str(seal).map_err(|error| format!("its seal cannot be read: {error}"))?;
    let signature: [u8; 64] =
        unhex(seal.signature.as_bytes()).ok_or("its signature is not 128 hex digits")?;
    if seal.key != key {
        return Err(format!("it is signed with another key, {}", seal.key.escape_debug()));
    }
    UnparsedPublicKey::new(&ED25519, public)
        .verify(body.as_bytes(), &signature)
        .map_err(|_unspecified| "the signature is wrong: it was changed after it was signed")?;
    Ok(Signed { body: body.to_owned(), key: seal.key })
}

/// This host's key; the first call makes it.
fn key(folder: &Path) -> io::Result<Ed25519KeyPair> {
    let path = folder.join(PRIVATE);
    let document = match fs::read(&path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())
                .map_err(|_unspecified| io::Error::other("the kernel's random source does not answer"))?;
            place(&path, 0o600, made.as_ref())?;
            Zeroizing::new(made.as_ref().to_vec())
        }
        Err(error) => return Err(error),
    };
    let damaged = |rejected| io::Error::other(format!("{} is damaged: {rejected}", path.display()));
    let pair = Ed25519KeyPair::from_pkcs8(&document).map_err(damaged)?;
    let public = hex(pair.public_key().as_ref());
    if fs::read_to_string(folder.join(PUBLIC)).ok().as_deref().map(str::trim) != Some(&public) {
        let fresh = folder.join(".key.pub");
        place(&fresh, 0o644, format!("{public}\n").as_bytes())?;
        fs::rename(&fresh, folder.join(PUBLIC))?;
    }
    Ok(pair)
}

/// A new file with exactly this mode, on disk.
fn place(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}
