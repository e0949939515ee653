//! What keeper and worker say to each other, over one unix stream socket: length-prefixed JSON with
//! descriptors beside it ([`Channel`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::channel::Channel;
pub use crate::forward::Forward;

/// A request from the keeper, or the keeper's word; `seq` pairs an answer.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// First message. Descriptors: vault key file, control listener, RECORDS map, EVENTS map.
    Start { config: String, backstop: Backstop },
    /// May this be that agent, or else which agent is it, and what does it get? Answer: `ToKeeper::Prepared` or `Refused`.
    Prepare { seq: u64, agent: Option<String>, workload: Workload },
    /// Serve this session. Descriptors in order: injector tcp4, tcp6, resolver udp4, udp6, tcp4, tcp6, then those of the
    /// session's forwards ([`Forward::listeners`] each); none for an attached one, whose namespaces follow. Answer: `Done`,
    /// `Disabled` or `Refused`; the kernel lets it connect only after `Done`.
    Govern { seq: u64, session: Session },
    /// Serve an attached session in this network namespace, too. Descriptors as above; without the IPv6 ones, each second,
    /// where the namespace has no ::1. Answer: `Done` or `Refused`.
    Serve { seq: u64, session: String, netns_cookie: u64 },
    /// An attached session has left this network namespace.
    Left { session: String, netns_cookie: u64 },
    /// How an attached session stands now.
    Standing { session: String, attached: Attached },
    /// Answer to `ToKeeper::Switch`. `error`: what did not work, in words for a person.
    Switched { seq: u64, error: Option<String> },
    /// Answer to `ToKeeper::Socket`. Descriptor: the socket, where there is no error.
    Socket { seq: u64, error: Option<String> },
    /// Answer to `ToKeeper::Look`.
    Looked { seq: u64, process: Result<Process, String> },
    /// The session's cgroup is empty and gone.
    Ended { session: String },
    /// Read the policies again (SIGHUP). Answer: `Done` or `Refused`.
    Reload { seq: u64 },
    /// Finish what is running, cut it after this time, then exit.
    Drain { patience: Duration },
}

/// What is known of something that is to be an agent. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// `enforcer run` starts it.
    pub run: bool,
    /// From the root of the hierarchy: `/system.slice/worker.service`.
    pub cgroup: String,
    /// Everybody whom its processes run as.
    pub users: Vec<User>,
    pub container: Option<Container>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub name: Option<String>,
}

/// As its engine tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub image: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

/// The line that is held a second time in each session's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backstop {
    Nftables,
    /// `nft` was not installed when the daemon started.
    Absent,
}

/// What `enforcer attach` governs, as `enforcer status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Of the attached cgroup.
    pub cgroup: PathBuf,
    /// Why it is held less firmly than an agent that `enforcer run` started, in words for a person. None: as firmly.
    pub weak: Vec<String>,
    /// Why processes of it do not trust us, in words for a person. That makes it no weaker: they reach nothing over TLS.
    #[serde(default)]
    pub untrusted: Vec<String>,
    /// The network namespaces that it uses.
    pub namespaces: Vec<Namespace>,
}

/// A network namespace of an attached session, and which lines hold in it beside the programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub cookie: u64,
    /// Nobody but the session is in it.
    pub private: bool,
    /// Its table is there as it was loaded.
    pub nftables: bool,
    /// How often the table was found changed by somebody, and loaded again.
    pub reloads: u32,
    /// Names of its devices that the program for devices is attached to.
    pub devices: Vec<String>,
}

impl Attached {
    /// `strict` or `weak`.
    pub fn mode(&self) -> &'static str {
        if self.weak.is_empty() { "strict" } else { "weak" }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub id: String,
    pub agent: String,
    pub cgroup_id: u64,
    /// 0: an attached one, in any number of them.
    pub netns_cookie: u64,
    pub uid: u32,
    /// Empty in the records of keepers that knew none.
    #[serde(default)]
    pub forwards: Vec<Forward>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    /// The worker serves; the keeper tells systemd.
    Ready,
    /// `agent`: the one it is; `environment`: placeholders and the like; `ca_pem`: our root; `guide`: text for `$ENFORCER_GUIDE`; `loopback`: ports of
    /// the host's that the agent is to find on its own loopback; `unix`: sockets of the host's that it may connect to.
    Prepared {
        seq: u64,
        agent: String,
        environment: Vec<(String, String)>,
        ca_pem: String,
        guide: String,
        loopback: Vec<u16>,
        unix: Vec<PathBuf>,
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
    /// A request of the worker's: an unconnected TCP socket. Answer: `ToWorker::Socket`.
    Socket {
        seq: u64,
        of: SocketOf,
    },
    /// A request of the worker's: what does this process of the session run, and does it have our variables? Answer:
    /// `ToWorker::Looked`.
    Look {
        seq: u64,
        session: String,
        pid: u32,
    },
}

/// An agent's process, as far as it tells why it does not trust us. Names of programs and variables are the agent's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// What it runs.
    pub exe: PathBuf,
    /// Of the variables that make clients trust us, those that it does not have as we gave them: name and value.
    pub lacks: Vec<(String, String)>,
}

/// Sockets that the worker cannot make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketOf {
    /// Inside this session's network namespace. Of IPv6, with IPv4 as mapped addresses.
    Session(String),
    /// Bound to a free port of this loopback address of the host's, so that it can be known before it is used.
    Host(IpAddr),
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
