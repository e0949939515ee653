//! What makes clients trust the injector: bundles, a hashed directory, a Java store, and variables.
//!
//! Everything is made in one directory per session, which the agent's mount namespace shows at
//! `run_dir/trust` and over the host's own stores. The host's stores themselves are never touched.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::launch::{CallerTrust, Text};

mod browser;
mod caller;
mod certificate;
mod java;

use certificate::Certificate;

/// Bundles of the distributions, in one file each; the first that exists is the host's set of public roots.
const HOST_BUNDLES: [&str; 6] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "var/lib/ca-certificates/ca-bundle.pem",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];
/// Trees that hold trust in the distributions; each gets a copy with our root in it, mounted over it.
const HOST_STORES: [&str; 5] = [
    "etc/ssl/certs",
    "etc/pki/tls/certs",
    "etc/pki/ca-trust/extracted",
    "etc/pki/ca-trust/source/anchors",
    "var/lib/ca-certificates",
];
/// Bundles that lie in the open, outside of those trees.
const HOST_FILES: [&str; 2] = ["etc/ssl/cert.pem", "etc/ssl/ca-bundle.pem"];
/// Names of bundles inside the trees.
const BUNDLE_NAMES: [&str; 5] =
    ["ca-certificates.crt", "ca-bundle.crt", "tls-ca-bundle.pem", "ca-bundle.pem", "cert.pem"];
/// Names of Java stores inside the trees.
const JAVA_NAMES: [&str; 2] = ["cacerts", "java-cacerts"];

/// These name a file that replaces the client's store: the bundle.
const BUNDLE_VARIABLES: [&str; 13] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "npm_config_cafile",
    "NIX_SSL_CERT_FILE",
    "HTTPLIB2_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "PERL_LWP_SSL_CA_FILE",
];
/// These name a file that adds to the client's store.
const ADDING_VARIABLES: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// A file or directory of the session, and where the agent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bind {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
}

/// What was made for one session.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The whole directory; the agent sees it at `shown_at`.
    pub(crate) dir: PathBuf,
    pub(crate) binds: Vec<Bind>,
    pub(crate) environment: Vec<(String, String)>,
    java_store_bound: bool,
}

/// Which of the stores that we know are on the host at `host`.
pub(crate) fn stores_of(host: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = HOST_BUNDLES
        .iter()
        .chain(&HOST_STORES)
        .map(|store| host.join(store))
        .filter(|p| p.exists())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// A bundle or a Java store, by its name: such files are read through links.
pub(crate) fn is_store_name(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| BUNDLE_NAMES.contains(&name) || JAVA_NAMES.contains(&name))
}

/// Builds the directory `dir` from the stores of the host at `host` (`/`, but for tests).
pub(crate) fn build(
    dir: &Path,
    shown_at: &Path,
    host: &Path,
    ca_pem: &str,
    caller: &CallerTrust,
) -> io::Result<Trust> {
    let ours = certificate::parse_pem(ca_pem.as_bytes());
    if ours.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the worker's root is no PEM certificate"));
    }
    fs::create_dir(dir)?;
    readable(dir)?;

    let mut added = ours;
    added.extend(certificate::parse_pem(caller.roots.as_bytes()));
    let mut all = added.clone();
    for bundle in HOST_BUNDLES {
        if let Ok(bytes) = fs::read(host.join(bundle)) {
            all.extend(certificate::parse_pem(&bytes));
            break;
        }
    }
    let mut seen = HashSet::new();
    all.retain(|certificate| seen.insert(certificate.der.clone()));
    // What the caller's files share with the public roots adds nothing.
    let mut seen = HashSet::new();
    added.retain(|certificate| seen.insert(certificate.der.clone()));

    let material = Material { bundle: dir.join("bundle.pem"), java: dir.join("cacerts"), added: &added };
    write(&material.bundle, certificate::to_pem(&all).as_bytes())?;
    write(&dir.join("ca.pem"), certificate::to_pem(&added).as_bytes())?;
    write(&material.java, &java::key_store(&all)?)?;
    let wgetrc = format!("{}\nca_certificate={}\n", caller.wgetrc, shown_at.join("bundle.pem").display());
    write(&dir.join("wgetrc"), wgetrc.as_bytes())?;

    let mut trust =
        Trust { dir: dir.to_owned(), binds: Vec::new(), environment: Vec::new(), java_store_bound: false };
    trust.copy_stores(host, &material)?;
    let certs = dir.join("certs");
    if !certs.exists() {
        fs::create_dir(&certs)?;
        readable(&certs)?;
        material.add_hashed(&certs)?;
        fs::hard_link(&material.bundle, certs.join("ca-certificates.crt"))?;
    }
    trust.environment = variables(shown_at, trust.java_store_bound);
    Ok(trust)
}

impl Trust {
    fn copy_stores(&mut self, host: &Path, material: &Material<'_>) -> io::Result<()> {
        let mut taken = HashSet::new();
        for (index, store) in HOST_STORES.iter().enumerate() {
            // One distribution's store may be a link to another's place: bind each real place once.
            let Ok(real) = fs::canonicalize(host.join(store)) else { continue };
            if !real.is_dir() || !taken.insert(real.clone()) {
                continue;
            }
            let copy =
                if index == 0 { self.dir.join("certs") } else { self.dir.join(format!("store{index}")) };
            self.java_store_bound |= material.copy_tree(&real, &copy, 0)?;
            self.binds.push(Bind { from: copy, to: Path::new("/").join(store) });
        }
        for (index, settings) in browser::SETTINGS.iter().enumerate() {
            let Ok(real) = fs::canonicalize(host.join(settings)) else { continue };
            if real.is_dir() && taken.insert(real.clone()) {
                let copy = self.dir.join(format!("browser{index}"));
                material.copy_tree(&real, &copy, 1)?;
                browser::add_policy(&copy, material.added)?;
                self.binds.push(Bind { from: copy, to: Path::new("/").join(settings) });
            }
        }
        for file in HOST_FILES {
            if fs::symlink_metadata(host.join(file)).is_ok_and(|metadata| metadata.is_file()) {
                self.binds.push(Bind { from: material.bundle.clone(), to: Path::new("/").join(file) });
            }
        }
        Ok(())
    }
}

/// What goes into each copy of a store.
struct Material<'a> {
    bundle: PathBuf,
    java: PathBuf,
    added: &'a [Certificate],
}

impl Material<'_> {
    /// Copies a store, with our bundle in the place of its bundles; says whether there was a Java store.
    fn copy_tree(&self, from: &Path, to: &Path, depth: u32) -> io::Result<bool> {
        /// The deepest known store has three levels; more would be a loop.
        const MAX_DEPTH: u32 = 6;
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!("{} is nested too deep for a trust store", from.display())));
        }
        fs::create_dir(to)?;
        readable(to)?;
        let mut java = false;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                java |= self.copy_tree(&source, &target, depth + 1)?;
            } else if BUNDLE_NAMES.contains(&name) {
                fs::hard_link(&self.bundle, &target)?;
            } else if JAVA_NAMES.contains(&name) {
                fs::hard_link(&self.java, &target)?;
                java = true;
            } else if kind.is_symlink() {
                symlink(fs::read_link(&source)?, &target)?;
            } else if kind.is_file() {
                fs::copy(&source, &target)?;
            }
        }
        // OpenSSL looks only where names are hashes; a store's own directory gets ours in any case.
        if depth == 0 || has_hashes(to)? {
            self.add_hashed(to)?;
        }
        Ok(java)
    }

    /// Adds our certificates under the names by which OpenSSL looks for them.
    fn add_hashed(&self, dir: &Path) -> io::Result<()> {
        for (index, certificate) in self.added.iter().enumerate() {
            let name = if index == 0 { "enforcer.pem".to_owned() } else { format!("enforcer-{index}.pem") };
            let file = dir.join(&name);
            write(&file, certificate::to_pem(std::slice::from_ref(certificate)).as_bytes())?;
            let Some(hash) = certificate.subject_hash() else { continue };
            for number in 0..=u8::MAX {
                match symlink(&name, dir.join(format!("{hash:08x}.{number}"))) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    other => {
                        other?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Does the directory hold names such as `4f316efb.0`?
fn has_hashes(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if let Some((hash, number)) = name.split_once('.')
            && hash.len() == 8
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
            && number.bytes().all(|b| b.is_ascii_digit())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Names and values, for an agent that sees the directory at `shown_at`.
pub(crate) fn variables(shown_at: &Path, java_store_bound: bool) -> Vec<(String, String)> {
    let at = |name: &str| shown_at.join(name).display().to_string();
    let mut list: Vec<(String, String)> = Vec::new();
    list.extend(BUNDLE_VARIABLES.iter().map(|name| (name.to_string(), at("bundle.pem"))));
    list.extend(ADDING_VARIABLES.iter().map(|name| (name.to_string(), at("ca.pem"))));
    list.push(("SSL_CERT_DIR".into(), at("certs")));
    list.push(("WGETRC".into(), at("wgetrc")));
    for (name, value) in
        [("UV_SYSTEM_CERTS", "1"), ("NODE_USE_SYSTEM_CA", "1"), ("DENO_TLS_CA_STORE", "system,mozilla")]
    {
        list.push((name.into(), value.into()));
    }
    // The variable makes every JVM print a line, so only where no store of the host could be replaced.
    if !java_store_bound {
        let options = format!(
            "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword={}",
            at("cacerts"),
            java::PASSWORD
        );
        list.push(("JAVA_TOOL_OPTIONS".into(), options));
    }
    list
}

/// Puts the session's variables over the caller's; a list of JVM options is kept and added to.
pub(crate) fn merge(environment: &mut BTreeMap<OsString, OsString>, name: String, value: String) {
    let value = match environment.get(OsStr::new(&name)) {
        Some(theirs) if name == "JAVA_TOOL_OPTIONS" && !theirs.is_empty() => {
            let mut both = theirs.clone();
            both.push(" ");
            both.push(value);
            both
        }
        _ => value.into(),
    };
    environment.insert(name.into(), value);
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

fn readable(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

impl CallerTrust {
    /// Reads what the caller's own variables name, with the caller's rights.
    pub fn from_environment(environment: &[(Text, Text)]) -> Self {
        caller::read(environment)
    }
}

#[cfg(test)]
mod tests;
