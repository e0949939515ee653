//! The only code that says yes.
//!
//! [`Gate::admit`] judges one request: the agent's switch, policy (which may ask for the body), limits,
//! then the durable intent, in that order, and makes the one [`Permit`] it may be sent with;
//! [`Gate::admit_tunnel`] and [`Gate::admit_forward`] do the same for a connection that is relayed unread, to an upstream
//! or to a port of the host's. Every no is written down before it is told. A yes can be taken back: see [`lifeline`].

mod forward;
pub mod lifeline;
pub mod limit;
mod meters;
mod permit;
pub mod refusal;
mod trip;
mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use enforcer_policy::{
    AgentPolicy, Body, DNS_OVER_HTTPS, Decision, Mode, Moment, Observed, PolicySet, Reader, Request, Rule,
};
use tokio::sync::{mpsc, watch};

use crate::agent::Caller;
use crate::audit::{AuditLog, Intent, Outcome, RecordGuard, RequestId, Verdict};
use crate::switches::Switches;

use forward::Relays;
pub use forward::{Forwarded, Passage, Relayed};
use lifeline::{Cause, Lifeline, Lifelines};
use limit::places::{Place, Places};
use limit::{Limits, Meter};
pub use permit::{ForwardPermit, Permit};
pub use refusal::{Code, Refusal};
pub use trip::{Touched, Tripped, WAITING};
pub use tunnel::{Tunnel, TunnelPermit};

/// The reason of what passes only because it is observed.
const WOULD_DENY: &str = "would_deny";

/// How long a request waits for another of the agent's to end, where the policy bounds them.
const CROWDED: Duration = Duration::from_secs(5);

/// How long what is under way may outlast the window of its rule.
const LOOK: Duration = Duration::from_secs(1);

/// Judges requests.
pub struct Gate {
    policies: watch::Receiver<Arc<PolicySet>>,
    switches: Arc<Switches>,
    lifelines: Arc<Lifelines>,
    limits: Arc<Limits>,
    places: Places,
    audit: AuditLog,
    relays: Relays,
    tripped: Option<mpsc::Sender<Tripped>>,
}

/// What an admitted request gets: leave to go, the receipt to finish, and the policy it was judged by.
pub struct Admitted {
    pub permit: Permit,
    pub guard: RecordGuard,
    pub policy: Arc<AgentPolicy>,
    /// To be held until the request has ended; cut when the yes is taken back.
    pub lifeline: Lifeline,
    /// Among the agent's requests; to be held until the request has ended.
    pub place: Place,
    /// Asked before bytes are sent.
    pub upload: Meter,
    /// Asked before bytes of the answer are passed on.
    pub download: Meter,
}

/// Where the gate gets a request's body from when the policy has to see it.
pub trait BodySource: Send {
    /// Reads until the reader has seen enough, and keeps what was read to be sent.
    fn read(&mut self, reader: Reader) -> impl Future<Output = Result<Body, Unread>> + Send;
}

/// Why a body could not be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    pub code: Code,
    pub reason: String,
}

/// What could be read of a request that is refused before it can be judged.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `https`, `http`, `connect`
    pub protocol: &'static str,
    pub method: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<String>,
}

impl Asked {
    /// A connection on which no request has been read.
    pub fn connect(destination: SocketAddr) -> Self {
        Asked {
            protocol: "connect",
            host: Some(destination.ip().to_string()),
            port: Some(destination.port()),
            ..Asked::default()
        }
    }

    fn line(&self) -> Option<String> {
        let (method, host) = (self.method.as_ref()?, self.host.as_ref()?);
        Some(format!("{method} {}://{host}{}", self.protocol, self.path.as_deref().unwrap_or("/")))
    }
}

impl Gate {
    pub fn new(
        policies: watch::Receiver<Arc<PolicySet>>,
        switches: Arc<Switches>,
        lifelines: Arc<Lifelines>,
        limits: Arc<Limits>,
        audit: AuditLog,
    ) -> Self {
        Gate {
            policies,
            switches,
            lifelines,
            limits,
            places: Places::default(),
            audit,
            relays: Relays::default(),
            tripped: None,
        }
    }

    /// What is under way.
    pub fn lifelines(&self) -> &Arc<Lifelines> {
        &self.lifelines
    }

    /// Where our own connections to the host's loopback come from.
    pub fn relays(&self) -> &Relays {
        &self.relays
    }

    /// The policy in force for this agent at this moment.
    pub fn policy(&self, caller: &Caller) -> Option<Arc<AgentPolicy>> {
        self.policies.borrow().agent(caller.agent.name.as_str()).cloned()
    }

    /// Yes, with all that follows from it, or no. The policy that says yes is the one in force after the
    /// body was read, where it is read at all.
    pub async fn admit(
        &self,
        request: Request,
        caller: &Caller,
        bodies: &mut impl BodySource,
    ) -> Result<Admitted, Refusal> {
        let id = RequestId::random();
        let mut request = Arc::new(request);
        let mut intent = intent(&id, caller, &request);
        // Before switch and policy are looked at: a change that comes later finds the request.
        let lifeline = self.lifelines.request(&caller.agent.name, &request);
        if self.switches.off(caller.agent.name.as_str()).is_some() {
            let reason = format!("agent `{}` has been disabled", caller.agent.name);
            return Err(self.refuse(intent, &request, No::because(Code::AgentDisabled, reason)).await);
        }
        let judged = match self.decide(&mut request, caller, bodies, &lifeline, &mut intent).await {
            Ok((policy, observed)) => {
                let judged = self.judge(&policy, &request, observed, &mut intent).await;
                judged.map(|judged| (policy, judged))
            }
            Err(no) => Err(no),
        };
        let (policy, Judged { rule, place, upload, download }) = match judged {
            Ok(judged) => judged,
            Err(no) => return Err(self.refuse(intent, &request, no).await),
        };
        let credential = match &rule.credential {
            None => None,
            Some(name) => match policy.credential(name.as_str()) {
                Some(spec) => Some(spec.clone()),
                // The compiler checks this; a rule that lost its credential must not go out bare.
                None => {
                    let no = No::because(
                        Code::CredentialUnavailable,
                        format!("credential `{name}` is not declared"),
                    );
                    return Err(self.refuse(intent, &request, no).await);
                }
            },
        };
        intent.credential = credential.as_ref().map(|c| c.name.to_string());
        lifeline.uses(credential.iter().map(|c| c.secret.to_string()).collect());
        match self.audit.begin(intent, policy.durability()).await {
            Ok(guard) => {
                let permit = Permit::new(request, rule, credential, caller.agent.clone());
                Ok(Admitted { permit, guard, policy, lifeline, place, upload, download })
            }
            Err(error) => {
                tracing::error!(%error, agent = %caller.agent.name, "no receipt, no request");
                Err(Refusal {
                    code: Code::ReceiptsUnavailable,
                    id,
                    agent: caller.agent.name.to_string(),
                    request: Some(line(&request)),
                    rule: None,
                    reason: "receipts cannot be written, so no request is sent".into(),
                    retry_after: None,
                    report: None,
                })
            }
        }
    }

    /// Cuts what new policies no longer allow, as long as there are new policies, and what is under way
    /// when the window of its rule closes.
    pub async fn follow_policies(&self) {
        let mut policies = self.policies.clone();
        loop {
            let timed = policies.borrow().agents().any(|policy| policy.is_timed());
            let cause = tokio::select! {
                changed = policies.changed() => match changed {
                    Ok(()) => Cause::PolicyChanged,
                    Err(_closed) => return,
                },
                () = tokio::time::sleep(LOOK), if timed => Cause::WindowClosed,
            };
            let set = policies.borrow_and_update().clone();
            let cut = self.lifelines.cut_disallowed(&set, SystemTime::now().into(), &cause);
            if cut > 0 {
                tracing::info!(
                    cut,
                    cause = cause.text(),
                    "what was under way and is no longer allowed was cut"
                );
            }
        }
    }

    /// Records and words a refusal that was made before there was a request to judge.
    pub async fn turn_away(&self, caller: &Caller, asked: &Asked, code: Code, reason: String) -> Refusal {
        let id = RequestId::random();
        let refusal = Refusal {
            code,
            agent: caller.agent.name.to_string(),
            request: asked.line(),
            rule: None,
            reason,
            retry_after: None,
            report: None,
            id: id.clone(),
        };
        let intent = Intent {
            protocol: asked.protocol.into(),
            method: asked.method.clone(),
            host: asked.host.clone(),
            port: asked.port,
            path: asked.path.clone(),
            reason: code.as_str().into(),
            ..blank(&id, caller)
        };
        self.record(intent, &refusal).await;
        refusal
    }

    /// What the policy says of the request, after a look at its body if that is what it takes.
    async fn decide(
        &self,
        request: &mut Arc<Request>,
        caller: &Caller,
        bodies: &mut impl BodySource,
        lifeline: &Lifeline,
        intent: &mut Intent,
    ) -> Result<(Arc<AgentPolicy>, Observed), No> {
        let (policy, wanted) = match self.ask(request, caller, intent)? {
            (policy, Observed { decision: Decision::Needs(wanted), .. }) => (policy, wanted),
            decided => return Ok(decided),
        };
        lifeline.reads();
        let reader = wanted.reader(&request.headers, policy.max_body());
        let body = match lifeline.cutoff().unless(bodies.read(reader)).await {
            Ok(read) => read.map_err(|unread| No::because(unread.code, unread.reason))?,
            Err(cause) => return Err(No::because(Code::Withdrawn, cause.told())),
        };
        *request = Arc::new(Request { body, ..Request::clone(request) });
        lifeline.has_read(request.clone());
        self.ask(request, caller, intent)
    }

    /// The policy in force now, and what it says.
    fn ask(
        &self,
        request: &Request,
        caller: &Caller,
        intent: &mut Intent,
    ) -> Result<(Arc<AgentPolicy>, Observed), No> {
        let Some(policy) = self.policy(caller) else {
            return Err(No::because(Code::NoPolicy, format!("agent `{}` has no policy", caller.agent.name)));
        };
        intent.policy = Some(policy.revision().to_owned());
        let observed = policy.observe(request, SystemTime::now().into());
        Ok((policy, observed))
    }

    /// Obeys the decision, then the limits, in this order: the rule, a place among the agent's requests, its
    /// rates, and whether its byte budgets have anything left.
    async fn judge(
        &self,
        policy: &AgentPolicy,
        request: &Request,
        observed: Observed,
        intent: &mut Intent,
    ) -> Result<Judged, No> {
        intent.action = policy.action(request, &observed, Moment::from(SystemTime::now()));
        let Observed { decision, would_deny } = observed;
        let (rule, template) = match decision {
            Decision::Allow { rule, template } => (rule, template),
            Decision::Deny { rule: Some(rule) } => {
                intent.rule = Some(rule.name.to_string());
                let reason = match &rule.message {
                    Some(message) => format!("deny rule `{}` matches: {message}", rule.name),
                    None => format!("deny rule `{}` matches", rule.name),
                };
                return Err(No::because(Code::DenyRule, reason));
            }
            Decision::Deny { rule: None } => {
                let reason = match policy.nearly(request, Moment::from(SystemTime::now())) {
                    Some((rule, lacks)) => {
                        format!(
                            "no rule of the policy allows this request; for rule `{}`: {lacks}",
                            rule.name
                        )
                    }
                    None => "no rule of the policy allows this request".into(),
                };
                return Err(No::because(Code::NoRule, reason));
            }
            // Only of a body that was not read.
            Decision::Needs(_) => {
                let reason = "the body of this request has not been read".into();
                return Err(No::because(Code::BodyUnreadable, reason));
            }
        };
        match &would_deny {
            None => intent.rule = Some(rule.name.to_string()),
            Some(would) => {
                intent.rule = would.rule.as_ref().map(|rule| rule.name.to_string());
                intent.reason = WOULD_DENY.into();
            }
        }
        intent.template = Some(template.as_str().to_owned());
        if template.catches_dns(request) {
            return Err(No::because(Code::DnsOverHttps, DNS_OVER_HTTPS.to_owned()));
        }
        let place = self.place(policy).await?;
        match self.take(&meters::rates(policy, &rule, &template, request)?) {
            Err(no) if rule.mode == Mode::Observe => {
                tracing::info!(agent = %policy.name, rule = %rule.name, reason = no.reason, "observed, not refused");
                intent.reason = WOULD_DENY.into();
            }
            taken => taken?,
        }
        let (upload, download) = meters::budgets(&self.limits, policy, &request.host)?;
        [&upload, &download].into_iter().try_for_each(Meter::has_any).map_err(meters::not_taken)?;
        Ok(Judged { rule, place, upload, download })
    }

    async fn place(&self, policy: &AgentPolicy) -> Result<Place, No> {
        let bound = policy.concurrent();
        self.places.take(&policy.name, bound, CROWDED).await.ok_or_else(|| {
            let reason = format!(
                "the agent's limits: {} requests are under way and none ended within {} s",
                bound.unwrap_or_default(),
                CROWDED.as_secs()
            );
            No { retry_after: Some(CROWDED), ..No::because(Code::RateLimited, reason) }
        })
    }

    fn take(&self, counters: &[limit::Counter]) -> Result<(), No> {
        self.limits.take(counters, 1).map_err(meters::not_taken)
    }

    async fn refuse(&self, mut intent: Intent, request: &Request, no: No) -> Refusal {
        intent.reason = no.code.as_str().into();
        let told = format!("{} (enforcer why {})", no.reason, intent.id);
        let report = enforcer_policy::git_report(request, &told);
        let refusal = Refusal {
            code: no.code,
            id: intent.id.clone(),
            agent: intent.agent.clone(),
            request: Some(line(request)),
            rule: intent.rule.clone(),
            reason: no.reason,
            report,
            retry_after: no.retry_after,
        };
        intent.verdict = Verdict::Deny;
        self.record(intent, &refusal).await;
        refusal
    }

    /// Written before it is told: an agent must not learn of a refusal earlier than the log.
    async fn record(&self, intent: Intent, refusal: &Refusal) {
        let outcome = Outcome {
            end: "refused".into(),
            status: Some(refusal.code.status().as_u16()),
            error: Some(refusal.reason.clone()),
            ..Outcome::default()
        };
        tracing::info!(agent = %refusal.agent, id = %refusal.id, code = refusal.code.as_str(), reason = %refusal.reason, "refused");
        if let Err(error) = self.audit.refused(intent, outcome).await {
            // The answer is no either way.
            tracing::error!(%error, id = %refusal.id, "a refusal could not be written down");
        }
    }
}

/// What follows from a yes.
struct Judged {
    rule: Arc<Rule>,
    place: Place,
    upload: Meter,
    download: Meter,
}

/// A no that has not been worded yet.
struct No {
    code: Code,
    reason: String,
    retry_after: Option<Duration>,
}

impl No {
    fn because(code: Code, reason: String) -> Self {
        No { code, reason, retry_after: None }
    }
}

fn blank(id: &RequestId, caller: &Caller) -> Intent {
    Intent {
        id: id.clone(),
        agent: caller.agent.name.to_string(),
        session: caller.agent.session.to_string(),
        cgroup: caller.agent.cgroup.0,
        pid: caller.pid,
        uid: caller.uid,
        comm: caller.comm.to_string(),
        protocol: String::new(),
        method: None,
        host: None,
        port: None,
        path: None,
        template: None,
        action: None,
        query_keys: Vec::new(),
        verdict: Verdict::Deny,
        rule: None,
        reason: String::new(),
        policy: None,
        credential: None,
    }
}

fn intent(id: &RequestId, caller: &Caller, request: &Request) -> Intent {
    Intent {
        protocol: request.scheme.as_str().into(),
        method: Some(request.method.as_str().into()),
        host: Some(request.host.to_string()),
        port: Some(request.port),
        path: Some(request.target.path().into()),
        query_keys: query_keys(request.target.query()),
        verdict: Verdict::Allow,
        reason: "allowed".into(),
        ..blank(id, caller)
    }
}

/// `METHOD scheme://host[:port]/path`, without the query: values in it are nobody's business in a log.
pub fn line(request: &Request) -> String {
    let Request { scheme, host, port, method, target, .. } = request;
    let port = if *port == scheme.default_port() { String::new() } else { format!(":{port}") };
    let host = if host.ip().is_some_and(|ip| ip.is_ipv6()) { format!("[{host}]") } else { host.to_string() };
    format!("{} {}://{host}{port}{}", method.as_str(), scheme.as_str(), target.path())
}

fn query_keys(query: Option<&str>) -> Vec<String> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').map_or(pair, |(key, _)| key).to_owned()).collect()
}
