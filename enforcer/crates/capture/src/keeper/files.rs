//! What is made for the programs of a session: trust, look-ups of names and the guide as files, and the variables that name them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Keeper;
use crate::Error;
use crate::error::Doing;
use crate::etc;
use crate::identity::Identity;
use crate::launch::CallerTrust;
use crate::trust::{self, Bind, Trust};

/// The agent sees all of the directory where [`crate::session::Paths::trust`] is, and each of `binds` at its place.
pub(super) struct Files {
    pub(super) trust: Trust,
    pub(super) binds: Vec<Bind>,
}

/// Makes them in `dir`, which is new. `identity`: of an agent that is to have a name in `/etc`.
pub(super) fn make(
    keeper: &Keeper,
    dir: &Path,
    ca_pem: &str,
    guide: &str,
    caller: &CallerTrust,
    identity: Option<&Identity>,
) -> Result<Files, Error> {
    let doing = || format!("make the session's files in {}", dir.display());
    let trust = trust::build(dir, &keeper.paths.trust(), Path::new("/"), ca_pem, caller).doing(doing)?;
    let mut binds = trust.binds.clone();
    binds.extend(etc::build(dir, identity).doing(doing)?);
    let guide_file = dir.join("guide.md");
    fs::write(&guide_file, guide)
        .and_then(|()| fs::set_permissions(&guide_file, fs::Permissions::from_mode(0o644)))
        .doing(doing)?;
    Ok(Files { trust, binds })
}

/// What makes programs trust us, then the worker's placeholders, then who they are.
pub(super) fn variables(
    keeper: &Keeper,
    files: &Files,
    placeholders: Vec<(String, String)>,
    agent: &str,
    session: &str,
) -> impl Iterator<Item = (String, String)> {
    let guide = keeper.paths.trust().join("guide.md").display().to_string();
    let who = [
        ("ENFORCER_AGENT", agent.to_owned()),
        ("ENFORCER_SESSION", session.to_owned()),
        ("ENFORCER_GUIDE", guide),
    ];
    let who = who.map(|(name, value)| (name.to_owned(), value));
    files.trust.environment.clone().into_iter().chain(placeholders).chain(who)
}
