//! Who is calling: a session of an agent, known by its cgroup.
//!
//! Filled from the keeper's messages only. Nothing that an agent says changes it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use enforcer_capture::message::Attached;
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
    /// The one that its listeners are in. An attached session has one of these per namespace.
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
    /// How those stand that `enforcer attach` governs, by session.
    attached: RwLock<HashMap<String, Attached>>,
}

impl Agents {
    /// Adds a session; a second one with the same cgroup id replaces a dead one.
    pub fn insert(&self, agent: Arc<Agent>) {
        self.write().insert(agent.cgroup, agent);
    }

    /// The session runs where it was attached, like this.
    pub fn stands(&self, session: &str, attached: Attached) {
        self.attached.write().unwrap_or_else(|e| e.into_inner()).insert(session.to_owned(), attached);
    }

    /// How a session stands that was attached; `None`: it was started by `enforcer run`.
    pub fn attached(&self, session: &SessionId) -> Option<Attached> {
        self.attached.read().unwrap_or_else(|e| e.into_inner()).get(&*session.0).cloned()
    }

    /// Cgroups of all that was attached.
    pub fn attached_cgroups(&self) -> Vec<PathBuf> {
        let attached = self.attached.read().unwrap_or_else(|e| e.into_inner());
        attached.values().map(|attached| attached.cgroup.clone()).collect()
    }

    /// Forgets a session that has ended.
    pub fn remove(&self, session: &str) -> Option<Arc<Agent>> {
        self.attached.write().unwrap_or_else(|e| e.into_inner()).remove(session);
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
