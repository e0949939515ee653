//! Which agents are switched off, by whom and why. Survives restarts.
//!
//! Asked by everything that serves an agent; changed by `control` only, one change at a time. Cutting
//! what is under way and shutting agents in at the kernel is not here.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use enforcer_policy::AgentName;
use serde::{Deserialize, Serialize};

const FILE: &str = "disabled.json";

/// One agent that is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Off {
    /// Seconds since 1970.
    pub at: u64,
    /// Who gave the command.
    pub uid: u32,
    pub reason: Option<String>,
    /// Its processes do not run either.
    pub frozen: bool,
    /// A tripwire was touched; `uid` is of nobody then.
    #[serde(default)]
    pub quarantine: bool,
}

impl Off {
    /// For people, and what they can do about it.
    pub fn sentence(&self, agent: &str) -> (String, String) {
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let off = match self.quarantine {
            true => format!("agent `{agent}` is in quarantine{reason}"),
            false => format!("agent `{agent}` was disabled by user {}{reason}", self.uid),
        };
        (off, format!("`enforcer agent enable {agent}` switches it on again"))
    }
}

/// The agents that are off.
#[derive(Debug)]
pub struct Switches {
    path: PathBuf,
    off: RwLock<BTreeMap<String, Arc<Off>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error("cannot read which agents are disabled from {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// Taking it for empty would switch agents on that a person switched off.
    #[error(
        "{} does not say which agents are disabled: {error}; remove it if none are", path.display()
    )]
    Damaged { path: PathBuf, error: serde_json::Error },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
}

impl Switches {
    /// From the file in the worker's directory; no file: all agents are on.
    pub fn open(directory: &Path) -> Result<Self, SwitchError> {
        let path = directory.join(FILE);
        let off = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| SwitchError::Damaged { path: path.clone(), error })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(SwitchError::Read { path, error }),
        };
        Ok(Switches { path, off: RwLock::new(off) })
    }

    /// `None`: the agent is on.
    pub fn off(&self, agent: &str) -> Option<Arc<Off>> {
        self.off.read().unwrap_or_else(|e| e.into_inner()).get(agent).cloned()
    }

    /// Every agent that is off, by name.
    pub fn all(&self) -> BTreeMap<String, Arc<Off>> {
        self.off.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// In force for everything that is asked after this returned. [`Switches::save`] makes it last.
    pub fn turn_off(&self, agent: &AgentName, off: Off) {
        self.write().insert(agent.to_string(), Arc::new(off));
    }

    /// What was said about it while it was off.
    pub fn turn_on(&self, agent: &AgentName) -> Option<Arc<Off>> {
        self.write().remove(agent.as_str())
    }

    /// Writes down what is in force. Blocks on the disk.
    pub fn save(&self) -> Result<(), SwitchError> {
        let mut text =
            serde_json::to_vec_pretty(&self.all()).expect("names, numbers and texts always serialise");
        text.push(b'\n');
        replace(&self.path, &text).map_err(|error| SwitchError::Write { path: self.path.clone(), error })
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Off>>> {
        // Each use is one call on the map: a panic cannot leave it half changed.
        self.off.write().unwrap_or_else(|e| e.into_inner())
    }
}

/// All of it or nothing, also when the power goes.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(directory) => fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(frozen: bool) -> Off {
        Off { at: 1_700_000_000, uid: 0, reason: Some("it went wild".into()), frozen, quarantine: frozen }
    }

    #[test]
    fn what_was_switched_off_stays_off_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let bot = AgentName::parse("bot").unwrap();
        let switches = Switches::open(folder.path()).unwrap();
        assert!(switches.off("bot").is_none());
        switches.turn_off(&bot, off(true));
        switches.save().unwrap();
        let again = Switches::open(folder.path()).unwrap();
        assert_eq!(again.off("bot").as_deref(), Some(&off(true)));
        assert!(again.off("bo").is_none());
        again.turn_on(&bot).unwrap();
        again.save().unwrap();
        assert!(Switches::open(folder.path()).unwrap().all().is_empty());
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_all_on() {
        let folder = tempfile::tempdir().unwrap();
        for text in
            ["", "{", "[]", r#"{"bot": true}"#, r#"{"bot": {"at": 1, "uid": 0, "frozen": false, "x": 1}}"#]
        {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert!(Switches::open(folder.path()).is_err(), "{text}");
        }
    }
}
