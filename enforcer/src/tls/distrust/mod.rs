//! Clients that do not trust us: which process, for which host, and what would help.
//!
//! A client says so by an alert in its handshake. Some say nothing and close the connection once they have seen the certificate
//! (Node): of those it is noted while nothing of the process has ever come after a handshake. Kept in memory,
//! for `enforcer trust doctor`; the receipts of alerts stay.

mod remedy;

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use enforcer_capture::message::Process;
use rustls::AlertDescription;
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::agent::{Caller, CgroupId};

/// More kinds of trouble than a person reads. The oldest goes first.
const MOST: usize = 128;
/// Processes that are remembered at a time; beyond it all are met again.
const PROCESSES: usize = 4096;
/// A number that is used again is another process after this at the latest.
const MET_FOR: Duration = Duration::from_secs(60);
/// The keeper answers in less than a millisecond; a process may hold up who reads it.
const LOOK: Duration = Duration::from_secs(2);
/// So long a new process waits for our certificate, at most.
const PATIENCE: Duration = Duration::from_millis(100);

/// Who can look at an agent's processes. The keeper in life.
pub trait Processes: Send + Sync {
    fn look(&self, session: &str, pid: u32) -> Looking<'_>;
}

/// The future of [`Processes::look`]; the error is for people.
pub type Looking<'a> = Pin<Box<dyn Future<Output = Result<Process, String>> + Send + 'a>>;

/// How a client showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    UnknownCa,
    BadCertificate,
    CertificateUnknown,
    UnsupportedCertificate,
    /// It closed the connection when it had seen our certificate, and has never said anything after a handshake.
    Left,
}

impl Sign {
    /// `None`: the alert is about something else.
    pub fn of(alert: AlertDescription) -> Option<Self> {
        match alert {
            AlertDescription::UnknownCA => Some(Sign::UnknownCa),
            AlertDescription::BadCertificate => Some(Sign::BadCertificate),
            AlertDescription::CertificateUnknown => Some(Sign::CertificateUnknown),
            AlertDescription::UnsupportedCertificate => Some(Sign::UnsupportedCertificate),
            _ => None,
        }
    }
}

/// One program of one agent that does not trust us for one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub agent: String,
    pub session: String,
    /// Of the last time, as are session and sign.
    pub pid: u32,
    pub uid: u32,
    /// Set by the agent: to show, not to decide by.
    pub comm: String,
    /// What it runs; `None`: it had ended before anybody could look.
    pub exe: Option<String>,
    /// What kind of client that is, as far as we know it.
    pub kind: &'static str,
    pub host: String,
    pub sign: Sign,
    pub fix: String,
    pub times: u64,
    /// Unix time in seconds.
    pub last: u64,
}

/// A process as it was when it first connected.
struct Met {
    at: Instant,
    /// Empty until a look succeeded.
    process: Arc<OnceCell<Process>>,
    /// Something came from it after a handshake.
    trusts: bool,
}

/// All that was found.
pub struct Distrust {
    processes: Arc<dyn Processes>,
    met: Mutex<HashMap<(CgroupId, u32), Met>>,
    found: Mutex<Vec<Finding>>,
}

impl Distrust {
    pub fn new(processes: Arc<dyn Processes>) -> Self {
        Distrust { processes, met: Mutex::default(), found: Mutex::default() }
    }

    /// A process begins a handshake. One that nobody knows is looked at before it sees our certificate, because it may end
    /// right after that.
    pub async fn meet(&self, caller: &Caller) {
        let key = (caller.agent.cgroup, caller.pid);
        let process = Arc::new(OnceCell::new());
        {
            let mut met = self.met();
            if met.get(&key).is_some_and(|met| met.at.elapsed() < MET_FOR) {
                return;
            }
            if met.len() >= PROCESSES {
                met.clear();
            }
            met.insert(key, Met { at: Instant::now(), process: Arc::clone(&process), trusts: false });
        }
        let looking = look(Arc::clone(&self.processes), caller.agent.session.0.clone(), caller.pid);
        let looking = tokio::spawn(async move { process.get_or_try_init(|| looking).await.is_ok() });
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            tracing::debug!(pid = caller.pid, "a process is served before it was looked at");
        }
    }

    /// It went on after a handshake.
    pub fn trusts(&self, caller: &Caller) {
        if let Some(met) = self.met().get_mut(&(caller.agent.cgroup, caller.pid)) {
            met.trusts = true;
        }
    }

    /// Notes it, and says in the log what would help. `None`: it only left, and has gone on after another handshake, as a browser
    /// does with connections that it turns out not to need.
    pub async fn found(&self, caller: &Caller, host: &str, sign: Sign) -> Option<Finding> {
        let key = (caller.agent.cgroup, caller.pid);
        if sign == Sign::Left && self.met().get(&key).is_some_and(|met| met.trusts) {
            return None;
        }
        let cell = self.met().get(&key).map(|met| Arc::clone(&met.process)).unwrap_or_default();
        let looking = look(Arc::clone(&self.processes), caller.agent.session.0.clone(), caller.pid);
        let process = cell.get_or_try_init(|| looking).await.ok().cloned();
        let (kind, fix) = remedy::remedy(process.as_ref(), &caller.comm, host);
        let exe = process.map(|process| process.exe.display().to_string());
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut finding = Finding {
            agent: caller.agent.name.to_string(),
            session: caller.agent.session.to_string(),
            pid: caller.pid,
            uid: caller.uid,
            comm: caller.comm.to_string(),
            exe,
            kind,
            host: host.to_owned(),
            sign,
            fix,
            times: 1,
            last: since.as_secs(),
        };
        let mut found = self.findings();
        if let Some(before) = found.iter().position(|before| before.is_like(&finding)) {
            finding.times += found.remove(before).times;
        } else if found.len() >= MOST {
            found.remove(0);
        }
        found.push(finding.clone());
        drop(found);
        let (agent, program, fix) = (&finding.agent, finding.program(), &finding.fix);
        tracing::warn!(
            agent,
            program,
            host,
            ?sign,
            fix,
            "a client does not trust the enforcer's certificate"
        );
        Some(finding)
    }

    /// The latest last.
    pub fn all(&self) -> Vec<Finding> {
        self.findings().clone()
    }

    fn met(&self) -> MutexGuard<'_, HashMap<(CgroupId, u32), Met>> {
        // Each use is a call or two on the map: a panic cannot leave it half changed.
        self.met.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn findings(&self) -> MutexGuard<'_, Vec<Finding>> {
        // As above.
        self.found.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Finding {
    /// The program, by what is best known of it: `node (/usr/bin/node, pid 4711)`.
    fn program(&self) -> String {
        match &self.exe {
            Some(exe) => {
                let name = Path::new(exe).file_name().unwrap_or_default().to_string_lossy().into_owned();
                format!("{name} ({exe}, pid {})", self.pid)
            }
            None => format!("{} (pid {}, which has ended)", self.comm, self.pid),
        }
    }

    /// For receipts.
    pub fn reason(&self) -> String {
        let (program, host, fix) = (self.program(), &self.host, &self.fix);
        match self.sign {
            Sign::Left => format!(
                "{program} closed the connection when it had seen the enforcer's certificate for {host}; if it does not trust that: {fix}"
            ),
            _ => format!("{program} does not trust the enforcer's certificate for {host}: {fix}"),
        }
    }

    fn is_like(&self, other: &Finding) -> bool {
        let program = |finding: &Finding| finding.exe.clone().unwrap_or_else(|| finding.comm.clone());
        (&self.agent, &self.host, &self.fix) == (&other.agent, &other.host, &other.fix)
            && program(self) == program(other)
    }
}

async fn look(processes: Arc<dyn Processes>, session: Arc<str>, pid: u32) -> Result<Process, String> {
    let looked = tokio::time::timeout(LOOK, processes.look(&session, pid)).await;
    let looked = looked.unwrap_or_else(|_elapsed| Err(format!("no answer within {} s", LOOK.as_secs())));
    if let Err(why) = &looked {
        tracing::debug!(pid, why, "an agent's process could not be looked at");
    }
    looked
}

#[cfg(test)]
pub(crate) mod tests;
