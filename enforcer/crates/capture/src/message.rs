//! What keeper and worker say to each other, over one unix stream socket: length-prefixed JSON with
//! descriptors beside it ([`Channel`]).

use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::channel::Channel;

/// A request from the keeper, or the keeper's word; `seq` pairs an answer.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// First message. Descriptors: vault key file, control listener, RECORDS map, EVENTS map.
    Start { config: String, backstop: Backstop },
    /// May this agent be launched, and with what? Answer: `ToKeeper::Prepared` or `Refused`.
    Prepare { seq: u64, agent: String, session: String },
    /// Serve this session. Descriptors in order: injector tcp4, tcp6, resolver udp4, udp6, tcp4, tcp6. Answer: `Done`,
    /// `Disabled` or `Refused`; the kernel lets the session connect only after `Done`.
    Govern { seq: u64, session: Session },
    /// Answer to `ToKeeper::Switch`. `error`: what did not work, in words for a person.
    Switched { seq: u64, error: Option<String> },
    /// The session's cgroup is empty and gone.
    Ended { session: String },
    /// Read the policies again (SIGHUP). Answer: `Done` or `Refused`.
    Reload { seq: u64 },
    /// Finish what is running, cut it after this time, then exit.
    Drain { patience: Duration },
}

/// The line that is held a second time in each session's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backstop {
    Nftables,
    /// `nft` was not installed when the daemon started.
    Absent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub id: String,
    pub agent: String,
    pub cgroup_id: u64,
    pub netns_cookie: u64,
    pub uid: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    /// The worker serves; the keeper tells systemd.
    Ready,
    /// `environment`: placeholders and the like; `ca_pem`: our root; `guide`: text for `$ENFORCER_GUIDE`.
    Prepared {
        seq: u64,
        environment: Vec<(String, String)>,
        ca_pem: String,
        guide: String,
    },
    Done {
        seq: u64,
    },
    Refused {
        seq: u64,
        message: String,
        hint: Option<String>,
    },
    /// The session would be served, but its agent is off: the kernel denies it everything.
    Disabled {
        seq: u64,
        freeze: bool,
        message: String,
        hint: Option<String>,
    },
    /// A request of the worker's: shut all sessions of this agent in, or let them connect again. `seq` is the
    /// worker's own. Answer: `ToWorker::Switched`.
    Switch {
        seq: u64,
        agent: String,
        to: Switch,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Switch {
    On,
    /// `freeze`: its processes do not run either, until it is on again.
    Off {
        freeze: bool,
    },
}

/// A message with the descriptors that came beside it.
#[derive(Debug)]
pub struct Received<M> {
    pub message: M,
    pub descriptors: Vec<OwnedFd>,
}
