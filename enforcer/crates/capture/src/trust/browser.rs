//! Chromium and Chrome: they read no system store and no variable, but policies of the host's administrator.

use std::fs;
use std::io;
use std::path::Path;

use super::certificate::Certificate;
use super::{readable, write};

/// Settings of browsers, as Debian and Google install them.
pub(super) const SETTINGS: [&str; 2] = ["etc/chromium", "etc/opt/chrome"];

/// Puts a policy into the copy of such a directory: these roots are trusted, too.
pub(super) fn add_policy(settings: &Path, added: &[Certificate]) -> io::Result<()> {
    let managed = settings.join("policies/managed");
    for directory in [managed.parent().unwrap_or(settings), &managed] {
        if !directory.exists() {
            fs::create_dir(directory)?;
            readable(directory)?;
        }
    }
    let roots: Vec<String> = added.iter().map(Certificate::base64).collect();
    let policy = serde_json::json!({ "CACertificates": roots });
    write(&managed.join("enforcer.json"), format!("{policy:#}\n").as_bytes())
}
