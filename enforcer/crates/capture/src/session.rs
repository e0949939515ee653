//! A session on disk: what a restarted keeper needs to take a running agent up again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::backstop::Mark;
use crate::cgroup::Cgroup;
use crate::error::Doing;
use crate::identity::{Durability, write_whole};
use crate::message::Session;

/// One file in `run_dir/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) session: Session,
    pub(crate) cgroup: PathBuf,
    /// It was attached where it runs; detaching it takes this back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attached: Option<Changes>,
    /// Its nftables table, where `enforcer run` made the namespace and a table was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backstop: Option<Mark>,
    /// The agent's first process, for people; never trusted.
    pub(crate) pid: u32,
}

/// What `enforcer attach` did that does not go away with the cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// Sockets from before that could not be ended, in words for a person.
    pub(crate) open_sockets: Vec<String>,
    /// The unit of systemd's that was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
}

/// Where the parts of sessions lie.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) run_dir: PathBuf,
}

impl Paths {
    pub(crate) fn sessions(&self) -> PathBuf {
        self.run_dir.join("sessions")
    }
    pub(crate) fn pins(&self) -> PathBuf {
        self.run_dir.join("netns")
    }
    pub(crate) fn trust(&self) -> PathBuf {
        self.run_dir.join("trust")
    }
    /// What the programs of units are to see, by the unit's name.
    pub(crate) fn units(&self) -> PathBuf {
        self.run_dir.join("units")
    }
    pub(crate) fn record(&self, session: &str) -> PathBuf {
        self.sessions().join(format!("{session}.json"))
    }
    pub(crate) fn pin(&self, session: &str) -> PathBuf {
        self.pins().join(session)
    }
}

/// A new session's name: the agent's and six random letters or digits.
pub(crate) fn new_id(agent: &str) -> Result<String, Error> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0u8; 6];
    random(&mut bytes).doing(|| "get random bytes from the kernel".into())?;
    let suffix: String = bytes.iter().map(|b| char::from(LETTERS[usize::from(b % 32)])).collect();
    Ok(format!("{agent}-{suffix}"))
}

/// Fills the buffer from the kernel's generator.
pub(crate) fn random(buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..)
        && !rest.is_empty()
    {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Record {
    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup { path: self.cgroup.clone(), id: self.session.cgroup_id }
    }

    pub(crate) fn save(&self, paths: &Paths) -> Result<(), Error> {
        let path = paths.record(&self.session.id);
        serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|bytes| write_whole(&path, Durability::UntilReboot, &bytes))
            .doing(|| format!("write {}", path.display()))
    }
}

/// A session's record, or its name and why it cannot be read.
pub(crate) type Loaded = Result<Record, (String, Error)>;

/// What an earlier keeper left.
pub(crate) fn load_all(paths: &Paths) -> Result<Vec<Loaded>, Error> {
    let dir = paths.sessions();
    let mut records = Vec::new();
    for entry in fs::read_dir(&dir).doing(|| format!("list {}", dir.display()))? {
        let path = entry.doing(|| format!("list {}", dir.display()))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        records.push(load(&path).map_err(|error| (name, error)));
    }
    Ok(records)
}

fn load(path: &Path) -> Result<Record, Error> {
    fs::read(path)
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from))
        .doing(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { run_dir: dir.path().to_owned() };
        fs::create_dir(paths.sessions()).unwrap();
        let id = new_id("bot").unwrap();
        assert!(id.starts_with("bot-") && id.len() == 10);
        let session = Session {
            id: id.clone(),
            agent: "bot".into(),
            cgroup_id: 7,
            netns_cookie: 8,
            uid: 61600,
            forwards: Vec::new(),
        };
        let record =
            Record { session, cgroup: "/sys/fs/cgroup/x".into(), pid: 9, attached: None, backstop: None };
        record.save(&paths).unwrap();
        fs::write(paths.record("broken"), "{").unwrap();
        let mut loaded = load_all(&paths).unwrap();
        loaded.sort_by_key(Result::is_err);
        assert_eq!(loaded[0].as_ref().unwrap(), &record);
        assert_eq!(loaded[1].as_ref().unwrap_err().0, "broken");
    }
}
