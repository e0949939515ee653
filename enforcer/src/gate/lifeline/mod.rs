//! What is under way and may have to end early: agents' connections, admitted requests, forwarded
//! connections, pools of upstream connections.
//!
//! Each holds a [`Lifeline`] that says what it depends on. When that goes away, the lifelines that
//! depend on it are cut. Whoever takes one takes it *before* asking for leave to go on: then a
//! withdrawal is either seen by the asking, or finds the lifeline. How a holder ends is its own matter.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use enforcer_policy::{AgentName, AgentPolicy, Decision, Endpoint, Moment, PolicySet, Request};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Why a lifeline was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    AgentDisabled,
    /// Replaced by another version, or removed.
    SecretChanged(String),
    PolicyChanged,
    WindowClosed,
}

impl Cause {
    /// For receipts and people.
    pub fn text(&self) -> String {
        match self {
            Cause::AgentDisabled => "the agent was disabled".into(),
            Cause::SecretChanged(name) => format!("secret `{name}` was replaced or removed"),
            Cause::PolicyChanged => "the policy no longer allows it".into(),
            Cause::WindowClosed => "the time at which its rule holds is over".into(),
        }
    }

    /// For the agent, which does not learn the names of secrets.
    pub fn told(&self) -> String {
        match self {
            Cause::SecretChanged(_) => "the credential of this request was replaced or removed".into(),
            Cause::AgentDisabled | Cause::PolicyChanged | Cause::WindowClosed => self.text(),
        }
    }
}

/// All lifelines.
#[derive(Debug, Default)]
pub struct Lifelines {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    lines: HashMap<u64, Arc<Line>>,
}

#[derive(Debug)]
struct Line {
    agent: AgentName,
    kind: Kind,
    secrets: Mutex<Vec<String>>,
    cut: CancellationToken,
    cause: OnceLock<Cause>,
    hook: Mutex<Hook>,
}

/// What is done when a line is cut.
#[derive(Default)]
struct Hook(Option<Box<dyn FnOnce() + Send>>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Hook" } else { "None" })
    }
}

#[derive(Debug)]
enum Kind {
    Connection,
    /// `websocket`: it is one, which not every rule allows.
    /// `reading`: its body is still being read, and it will be judged again after that.
    Request {
        request: Mutex<Arc<Request>>,
        reading: AtomicBool,
        websocket: AtomicBool,
    },
    Upstream,
    /// `loopback`: the port of the host's that the policy has to name; `None`: a port that the agent was started with.
    Forward {
        loopback: Option<u16>,
    },
    /// Relayed unread.
    Tunnel(Arc<Endpoint>),
}

/// Held by what is under way, for as long as it is.
#[derive(Debug)]
pub struct Lifeline {
    id: u64,
    line: Arc<Line>,
    all: Arc<Lifelines>,
}

/// Sees a lifeline being cut. Does not keep it.
#[derive(Clone, Debug)]
pub struct Cutoff(Arc<Line>);

impl Lifelines {
    /// For a connection of an agent; `session` ends it too.
    pub fn connection(self: &Arc<Self>, agent: &AgentName, session: &CancellationToken) -> Lifeline {
        self.line(agent, Kind::Connection, Vec::new(), session.child_token())
    }

    /// For a request that is about to be judged.
    pub fn request(self: &Arc<Self>, agent: &AgentName, request: &Arc<Request>) -> Lifeline {
        self.line(
            agent,
            Kind::Request {
                request: Mutex::new(request.clone()),
                reading: AtomicBool::new(false),
                websocket: AtomicBool::new(false),
            },
            Vec::new(),
            CancellationToken::new(),
        )
    }

    /// For a forwarded connection that is about to be judged; `session` ends it too.
    pub fn forward(
        self: &Arc<Self>,
        agent: &AgentName,
        loopback: Option<u16>,
        session: &CancellationToken,
    ) -> Lifeline {
        self.line(agent, Kind::Forward { loopback }, Vec::new(), session.child_token())
    }

    /// For a connection that is about to be relayed unread.
    pub fn tunnel(self: &Arc<Self>, agent: &AgentName, endpoint: &Arc<Endpoint>) -> Lifeline {
        self.line(agent, Kind::Tunnel(endpoint.clone()), Vec::new(), CancellationToken::new())
    }

    /// For connections to an upstream that carry these secrets.
    pub fn upstream(self: &Arc<Self>, agent: &AgentName, secrets: Vec<String>) -> Lifeline {
        self.line(agent, Kind::Upstream, secrets, CancellationToken::new())
    }

    fn line(
        self: &Arc<Self>,
        agent: &AgentName,
        kind: Kind,
        secrets: Vec<String>,
        cut: CancellationToken,
    ) -> Lifeline {
        let agent = agent.clone();
        let (secrets, cause, hook) = (Mutex::new(secrets), OnceLock::new(), Mutex::default());
        let line = Arc::new(Line { agent, kind, secrets, cut, cause, hook });
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.lines.insert(id, line.clone());
        Lifeline { id, line, all: self.clone() }
    }

    /// Everything of this agent. Returns how many were cut.
    pub fn cut_agent(&self, agent: &str) -> usize {
        self.cut(&Cause::AgentDisabled, |line| line.agent.as_str() == agent)
    }

    /// Everything that uses a version of this secret.
    pub fn cut_secret(&self, name: &str) -> usize {
        let uses = |line: &Line| line.secrets().iter().any(|secret| secret == name);
        self.cut(&Cause::SecretChanged(name.to_owned()), uses)
    }

    /// Every request that these policies do not allow at this moment as it was sent, every forward that they do not name,
    /// and every connection that they do not let through unread.
    pub fn cut_disallowed(&self, policies: &PolicySet, at: Moment, cause: &Cause) -> usize {
        self.cut(cause, |line| match &line.kind {
            Kind::Connection | Kind::Upstream => false,
            Kind::Forward { loopback } => !policies
                .agent(line.agent.as_str())
                .is_some_and(|policy| loopback.is_none_or(|port| policy.loopback().contains(&port))),
            Kind::Tunnel(endpoint) => {
                let policy = policies.agent(line.agent.as_str());
                policy.is_none_or(|policy| policy.relays(endpoint, at).is_none())
            }
            Kind::Request { request, reading, websocket } => {
                let (websocket, reading) = (websocket.load(Ordering::SeqCst), reading.load(Ordering::SeqCst));
                let request = request.lock().unwrap_or_else(|e| e.into_inner()).clone();
                let allows = |policy| allows(policy, &request, at, (reading, websocket), &line.secrets());
                !policies.agent(line.agent.as_str()).is_some_and(|policy| allows(policy))
            }
        })
    }

    fn cut(&self, cause: &Cause, depends: impl Fn(&Line) -> bool) -> usize {
        // Judged outside of the lock: requests come and go meanwhile, and new ones know what is new.
        let mut lines: Vec<Arc<Line>> = self.state().lines.values().cloned().collect();
        lines.retain(|line| !line.cut.is_cancelled() && depends(line));
        // All know why before the first one ends: a request must not take the end of its connection
        // for the cause of its own. The first cause stands.
        for line in &lines {
            line.cause.get_or_init(|| cause.clone());
        }
        for line in &lines {
            line.cut.cancel();
            line.run_hook();
        }
        lines.len()
    }

    /// Waits until every connection and request of this agent that was cut has ended, so long at most.
    /// False: some has not.
    pub async fn ended(&self, agent: &str, patience: Duration) -> bool {
        let all = async {
            loop {
                let ended = self.ended.notified();
                tokio::pin!(ended);
                // From here on: an end between the look and the wait is not missed.
                ended.as_mut().enable();
                let left = |line: &Arc<Line>| {
                    // A pool outlives its connections.
                    !matches!(line.kind, Kind::Upstream)
                        && line.cause.get().is_some()
                        && line.agent.as_str() == agent
                };
                if !self.state().lines.values().any(left) {
                    return;
                }
                ended.await;
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each use is one call on the map: a panic cannot leave it half changed.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Allowed, and by a rule that brings the secrets which the request carries. A body that nobody kept
/// cannot be judged any more, and unknown is no.
fn allows(
    policy: &AgentPolicy,
    request: &Request,
    at: Moment,
    (reading, websocket): (bool, bool),
    secrets: &[String],
) -> bool {
    let rule = match policy.observe(request, at).decision {
        Decision::Allow { rule, .. } => rule,
        Decision::Needs(_) => return reading,
        Decision::Deny { .. } => return false,
    };
    if websocket && !rule.websocket {
        return false;
    }
    let credential = rule.credential.as_ref().and_then(|name| policy.credential(name.as_str()));
    secrets.iter().all(|secret| credential.is_some_and(|spec| spec.secret.as_str() == secret))
}

impl Line {
    fn run_hook(&self) {
        let hook = self.hook.lock().unwrap_or_else(|e| e.into_inner()).0.take();
        if let Some(hook) = hook {
            hook();
        }
    }

    fn secrets(&self) -> MutexGuard<'_, Vec<String>> {
        self.secrets.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Lifeline {
    /// From now on it depends on these secrets. To be said before they are fetched.
    pub fn uses(&self, secrets: Vec<String>) {
        *self.line.secrets() = secrets;
    }

    /// Its body is about to be read.
    pub fn reads(&self) {
        if let Kind::Request { reading, .. } = &self.line.kind {
            reading.store(true, Ordering::SeqCst);
        }
    }

    /// The request with its body. To be said before the policy that judges it is looked up.
    pub fn has_read(&self, with_body: Arc<Request>) {
        if let Kind::Request { request, reading, .. } = &self.line.kind {
            *request.lock().unwrap_or_else(|e| e.into_inner()) = with_body;
            reading.store(false, Ordering::SeqCst);
        }
    }

    /// From now on it depends on a rule that allows WebSockets.
    pub fn opens_websocket(&self) {
        if let Kind::Request { websocket, .. } = &self.line.kind {
            websocket.store(true, Ordering::SeqCst);
        }
    }

    /// Cancelled when it is cut (or, for a connection, when its session ends).
    pub fn token(&self) -> &CancellationToken {
        &self.line.cut
    }

    pub fn cutoff(&self) -> Cutoff {
        Cutoff(self.line.clone())
    }

    /// Set once it was cut.
    pub fn cause(&self) -> Option<&Cause> {
        self.line.cause.get()
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.all.state().lines.remove(&self.id);
        if self.line.cause.get().is_some() {
            self.all.ended.notify_waiters();
        }
    }
}

impl Cutoff {
    /// Does this once it is cut, on the thread of whoever cuts it; at once if it has been. The last one said counts.
    pub fn when_cut(&self, hook: impl FnOnce() + Send + 'static) {
        self.0.hook.lock().unwrap_or_else(|e| e.into_inner()).0 = Some(Box::new(hook));
        // Cancelled after its hook was looked for, or before: one of the two finds it.
        if self.0.cause.get().is_some() && self.0.cut.is_cancelled() {
            self.0.run_hook();
        }
    }

    /// Returns when the lifeline was cut.
    pub async fn happens(&self) -> Cause {
        self.0.cut.cancelled().await;
        match self.0.cause.get() {
            Some(cause) => cause.clone(),
            // The session of a connection has ended; whoever waits here goes with it.
            None => std::future::pending().await,
        }
    }

    /// Does the work unless the lifeline is cut before it is done.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Result<T, Cause> {
        tokio::select! {
            biased;
            cause = self.happens() => Err(cause),
            done = work => Ok(done),
        }
    }
}

#[cfg(test)]
mod tests;
