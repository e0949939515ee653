//! What the caller trusts already: the files that its trust variables name.
//!
//! Runs in the caller's process. The keeper would read with root's rights what the caller may not.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::launch::{CallerTrust, Text};

use super::{ADDING_VARIABLES, BUNDLE_VARIABLES, HOST_BUNDLES, HOST_STORES, certificate};

/// The public roots take a quarter of this; a launch message holds four times as much.
const MAX_ROOTS: usize = 1024 * 1024;
/// wget's own limit is far below.
const MAX_WGETRC: u64 = 64 * 1024;

pub(super) fn read(environment: &[(Text, Text)]) -> CallerTrust {
    let mut trust = CallerTrust::default();
    let value = |name: &str| environment.iter().find(|(key, _)| key.0 == name).map(|(_, value)| &value.0);
    for name in BUNDLE_VARIABLES.iter().chain(&ADDING_VARIABLES) {
        if let Some(path) = value(name) {
            add_file(&mut trust.roots, Path::new(path));
        }
    }
    if let Some(directories) = value("SSL_CERT_DIR") {
        for directory in std::env::split_paths(directories) {
            if HOST_STORES.iter().any(|store| directory == Path::new("/").join(store)) {
                continue;
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                add_file(&mut trust.roots, &entry.path());
            }
        }
    }
    if let Some(path) = value("WGETRC")
        && let Ok(file) = File::open(path)
        && file.take(MAX_WGETRC).read_to_string(&mut trust.wgetrc).is_err()
    {
        trust.wgetrc.clear();
    }
    trust
}

/// Adds the certificates of a file. What cannot be read is what the client could not have read either.
fn add_file(roots: &mut String, path: &Path) {
    // The host's own bundle is in the session's anyway.
    if HOST_BUNDLES.iter().any(|bundle| path == Path::new("/").join(bundle)) {
        return;
    }
    // A pipe or a device would hang or never end.
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return;
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_ROOTS as u64).read_to_end(&mut bytes));
    if read.is_ok() {
        let pem = certificate::to_pem(&certificate::parse_pem(&bytes));
        if roots.len() + pem.len() <= MAX_ROOTS && !roots.contains(&pem) {
            roots.push_str(&pem);
        }
    }
}
