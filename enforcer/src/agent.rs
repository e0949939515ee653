//! Who is calling: a session of an agent, known by its cgroup.
//!
//! Filled from the keeper's messages only. Nothing that an agent says changes it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, RwLock};

use enforcer_policy::AgentName;

/// The kernel's 64-bit id of a session's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(pub u64);

/// Cookie of a network namespace, unique until reboot (`SO_NETNS_COOKIE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetnsCookie(pub u64);

/// One launch of an agent: `github-bot-7f3k9q`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub Arc<str>);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A governed session.
#[derive(Debug)]
pub struct Agent {
    pub name: AgentName,
    pub session: SessionId,
    pub cgroup: CgroupId,
    pub netns: NetnsCookie,
    pub uid: u32,
}

/// The process behind one connection, as the kernel wrote it down when it called `connect`.
#[derive(Clone, Debug)]
pub struct Caller {
    pub agent: Arc<Agent>,
    pub pid: u32,
    pub uid: u32,
    pub comm: Arc<str>,
}

/// The sessions in force, by cgroup id.
#[derive(Debug, Default)]
pub struct Agents {
    by_cgroup: RwLock<HashMap<CgroupId, Arc<Agent>>>,
}

impl Agents {
    /// Adds a session; a second one with the same cgroup id replaces a dead one.
    pub fn insert(&self, agent: Arc<Agent>) {
        self.write().insert(agent.cgroup, agent);
    }

    /// Forgets a session that has ended.
    pub fn remove(&self, session: &str) -> Option<Arc<Agent>> {
        let mut agents = self.write();
        let cgroup = agents.values().find(|a| &*a.session.0 == session)?.cgroup;
        agents.remove(&cgroup)
    }

    /// The session of a cgroup.
    pub fn by_cgroup(&self, cgroup: CgroupId) -> Option<Arc<Agent>> {
        self.by_cgroup.read().unwrap_or_else(|e| e.into_inner()).get(&cgroup).cloned()
    }

    /// Every session, in no order.
    pub fn all(&self) -> Vec<Arc<Agent>> {
        self.by_cgroup.read().unwrap_or_else(|e| e.into_inner()).values().cloned().collect()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<CgroupId, Arc<Agent>>> {
        // A panic while holding the lock cannot leave the map half changed: every write is one call.
        self.by_cgroup.write().unwrap_or_else(|e| e.into_inner())
    }
}
