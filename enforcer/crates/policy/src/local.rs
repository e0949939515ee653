//! What of the host itself an agent may reach: ports of its loopback, unix sockets by path.
//!
//! No rules: a stream that is relayed as it is has no method and no path to judge.

use std::path::PathBuf;

use crate::canon::Host;
use crate::policy::AgentPolicy;

/// Absent fields are empty: nothing of the host is reachable.
#[derive(Debug, Default)]
pub(crate) struct Local {
    pub(crate) loopback: Vec<u16>,
    pub(crate) unix: Vec<PathBuf>,
}

impl AgentPolicy {
    /// Instead of a rule for it; `None`: the host is not the loopback.
    pub(crate) fn loopback_advice(&self, host: &Host, port: u16) -> Option<String> {
        let loopback = host.ip().is_some_and(|ip| ip.is_loopback()) || host.name() == Some("localhost");
        loopback.then(|| {
            if self.local.loopback.contains(&port) {
                format!("no rule is needed: `loopback` has port {port}, so the agent's connections to it go to the host's, unread")
            } else {
                format!("inside an agent {host} is the agent's own, where its own servers need no rule; `loopback: [{port}]` makes port {port} the host's")
            }
        })
    }

    /// `loopback`: TCP ports of the host's loopback that the agent reaches at the same port of its own.
    pub fn loopback(&self) -> &[u16] {
        &self.local.loopback
    }

    /// `unix`: absolute paths of sockets of the host.
    pub fn unix(&self) -> &[PathBuf] {
        &self.local.unix
    }
}
