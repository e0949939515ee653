//! Whom an agent runs as: a number of its own, kept for good, or a user of this host. Never root.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::error::Doing;
use crate::sys;

/// What a launch changes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// For `USER` and `LOGNAME`.
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    /// The agent's own number, shared with nobody; not a user of this host.
    pub(crate) own: bool,
}

/// Names become paths, so they are checked here too, whoever has checked them before.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.len() <= 63;
    if plain {
        return Ok(());
    }
    Err(Error::refused(
        format!("`{}` is not an agent's name", name.escape_debug()),
        "names are lower-case letters, digits and `-`, start with a letter and have at most 63 characters",
    ))
}

/// The agent's own identity: always the same number, never one that another agent had. Makes its home.
pub(crate) fn own(state_dir: &Path, range: &RangeInclusive<u32>, agent: &str) -> Result<Identity, Error> {
    let id = allocated(&state_dir.join("ids.json"), range, agent)?;
    let home = state_dir.join("agents").join(agent);
    match DirBuilder::new().mode(0o700).create(&home) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).doing(|| format!("make the home directory {}", home.display()));
        }
        _ => {}
    }
    let kind = fs::symlink_metadata(&home).doing(|| format!("look at {}", home.display()))?;
    if !kind.is_dir() {
        return Err(Error::refused(
            format!("the home {} is not a directory", home.display()),
            "move it away; the next launch makes a new one",
        ));
    }
    std::os::unix::fs::chown(&home, Some(id), Some(id))
        .and_then(|()| fs::set_permissions(&home, fs::Permissions::from_mode(0o700)))
        .doing(|| format!("give {} to the agent", home.display()))?;
    Ok(Identity { uid: id, gid: id, name: agent.to_owned(), home, own: true })
}

/// A user of this host, for `--user`. Only root may choose another user than itself.
pub(crate) fn of_user(name: &str, caller: u32) -> Result<Identity, Error> {
    let user = sys::user(name).doing(|| format!("look up the user `{}`", name.escape_debug()))?;
    let Some(user) = user else {
        return Err(Error::refused(
            format!("there is no user `{}` on this host", name.escape_debug()),
            "leave `--user` out: the agent then gets an id of its own",
        ));
    };
    if user.uid == 0 || user.gid == 0 {
        return Err(Error::refused(
            "an agent never runs as root: root could take its own cage apart",
            "leave `--user` out, or name an ordinary user",
        ));
    }
    if caller != 0 && caller != user.uid {
        return Err(Error::refused(
            format!("only root may start an agent as another user (`{name}`)"),
            "leave `--user` out, name yourself, or ask an administrator to start it",
        ));
    }
    Ok(Identity { uid: user.uid, gid: user.gid, name: user.name, home: user.home, own: false })
}

fn allocated(path: &Path, range: &RangeInclusive<u32>, agent: &str) -> Result<u32, Error> {
    let mut ids: BTreeMap<String, u32> = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Error::refused(
                format!("{} is damaged: {error}", path.display()),
                "restore it from a backup; a new one could give an agent the files of another",
            )
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(error).doing(|| format!("read {}", path.display())),
    };
    if let Some(id) = ids.get(agent) {
        if range.contains(id) {
            return Ok(*id);
        }
        return Err(Error::refused(
            format!("`{agent}` has the id {id}, which is outside of `ids.agents` now"),
            "put the range back, or remove the agent's line from ids.json and give its files to a new id",
        ));
    }
    let used: HashSet<u32> = ids.values().copied().collect();
    let free = range.clone().find(|id| *id != 0 && !used.contains(id));
    let Some(id) = free else {
        return Err(Error::refused(
            format!("no id is left in {}-{} for `{agent}`", range.start(), range.end()),
            "widen `ids.agents` in the configuration",
        ));
    };
    ids.insert(agent.to_owned(), id);
    // Given for good, so it must survive a power cut.
    write_whole(
        path,
        Durability::Synced,
        &serde_json::to_vec_pretty(&ids).map_err(io::Error::from).doing(|| "write ids".into())?,
    )
    .doing(|| format!("write {}", path.display()))?;
    Ok(id)
}

/// Whether a file must be there after the machine went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    Synced,
    UntilReboot,
}

/// Replaces a file at once, or not at all; readable by us alone.
pub(crate) fn write_whole(path: &Path, durability: Durability, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    if durability == Durability::Synced {
        file.sync_data()?;
    }
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_and_never_shared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids.json");
        let range = 61600..=61601;
        assert_eq!(allocated(&path, &range, "one").unwrap(), 61600);
        assert_eq!(allocated(&path, &range, "two").unwrap(), 61601);
        assert_eq!(allocated(&path, &range, "one").unwrap(), 61600);
        assert!(allocated(&path, &range, "three").unwrap_err().to_string().contains("no id is left"));
        assert!(allocated(&path, &(7..=9), "one").is_err());
        fs::write(&path, "{").unwrap();
        assert!(allocated(&path, &range, "one").unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn nobody_becomes_root_or_somebody_else() {
        assert!(of_user("root", 0).is_err());
        assert!(of_user("no-such-user-here", 0).is_err());
        assert!(of_user("nobody", 12345).unwrap_err().to_string().contains("only root"));
        assert_eq!(of_user("nobody", 0).unwrap().name, "nobody");
    }

    #[test]
    fn names_are_no_paths() {
        check_name("github-bot2").unwrap();
        for name in ["", ".", "..", "a/b", "A", "a_b", "-a", "9a", "a\n", &"a".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
