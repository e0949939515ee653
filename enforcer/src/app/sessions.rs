//! What the keeper asks about sessions: may it start, serve it, it has ended.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use enforcer_capture::forward::Forward;
use enforcer_capture::message::{self, ToKeeper};
use enforcer_policy::{AgentPolicy, Container, Name, Unselected, User, Workload};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::agent::{Agent, Agents, CgroupId, NetnsCookie, SessionId};
use crate::audit::AuditLog;
use crate::dns::{self, Resolver};
use crate::policies::Policies;
use crate::proxy::forward::{self, Door, Sockets};
use crate::proxy::{self, Shared};
use crate::shutdown::Shutdown;
use crate::switches::Switches;

pub(super) struct Sessions {
    pub(super) agents: Arc<Agents>,
    pub(super) policies: Policies,
    pub(super) switches: Arc<Switches>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) audit: AuditLog,
    pub(super) shared: Arc<Shared>,
    pub(super) sockets: Arc<dyn Sockets>,
    pub(super) ca_pem: Arc<str>,
    pub(super) shutdown: Shutdown,
    /// By session id.
    pub(super) running: HashMap<String, Running>,
}

/// The keeper's facts, for the policies.
fn known(workload: message::Workload) -> Workload {
    let message::Workload { run, cgroup, users, container } = workload;
    let container =
        container.map(|message::Container { image, name, labels }| Container { image, name, labels });
    let users = users.into_iter().map(|message::User { uid, name }| User { uid, name }).collect();
    Workload { run, cgroup, users, container }
}

/// A session's tasks, as far as they are to be ended.
pub(super) struct Running {
    agent: Arc<Agent>,
    ended: CancellationToken,
    /// Those in the namespaces of an attached session; they end with it, too.
    elsewhere: HashMap<NetnsCookie, CancellationToken>,
}

impl Sessions {
    /// A launch is refused for an agent without a policy: it could reach nothing, and the person mistyped.
    pub(super) fn prepare(&self, seq: u64, named: Option<&str>, workload: message::Workload) -> ToKeeper {
        let policies = self.policies.current();
        let workload = known(workload);
        let policy = match policies.choose(named, &workload) {
            Ok(Some(policy)) => policy,
            Ok(None) => {
                let agent = named.unwrap_or_default();
                let known: Vec<&str> = policies.agents().map(|policy| policy.name.as_str()).collect();
                return ToKeeper::Refused {
                    seq,
                    message: format!("no policy in force names agent `{agent}`"),
                    hint: Some(self.unknown_agent_hint(agent, &known)),
                };
            }
            Err(Unselected { message, hint }) => return ToKeeper::Refused { seq, message, hint: Some(hint) },
        };
        let agent = policy.name.as_str();
        if let Some(off) = self.switches.off(agent) {
            let (message, hint) = off.sentence(agent);
            return ToKeeper::Refused { seq, message, hint: Some(hint) };
        }
        info!(agent, %workload, "prepared");
        ToKeeper::Prepared {
            seq,
            agent: agent.to_owned(),
            environment: self.shared.placeholders.environment(policy),
            ca_pem: self.ca_pem.to_string(),
            guide: guide(policy),
            loopback: policy.loopback().to_vec(),
            unix: policy.unix().to_vec(),
        }
    }

    /// Serves the session on the keeper's listeners. Descriptors as `message::ToWorker::Govern` lists them.
    pub(super) fn govern(
        &mut self,
        seq: u64,
        session: message::Session,
        descriptors: Vec<OwnedFd>,
    ) -> ToKeeper {
        match self.serve(&session, descriptors) {
            // Served all the same: once the agent is on again, only the kernel has to be told.
            Ok(()) => match self.switches.off(&session.agent) {
                None => ToKeeper::Done { seq },
                Some(off) => {
                    let (message, hint) = off.sentence(&session.agent);
                    ToKeeper::Disabled { seq, freeze: off.frozen, message, hint: Some(hint) }
                }
            },
            Err(error) => ToKeeper::Refused {
                seq,
                message: format!("cannot serve session {}: {error:#}", session.id),
                hint: None,
            },
        }
    }

    fn serve(&mut self, session: &message::Session, mut descriptors: Vec<OwnedFd>) -> anyhow::Result<()> {
        let forwarded: usize = session.forwards.iter().map(|forward| forward.listeners()).sum();
        let own = descriptors.len().checked_sub(forwarded);
        let own = own.ok_or_else(|| anyhow::anyhow!("{} listeners are too few", descriptors.len()))?;
        let doors = doors(&session.forwards, &mut descriptors.split_off(own).into_iter())?;
        let agent = Arc::new(Agent {
            name: Name::parse(&session.agent)?,
            session: SessionId(session.id.as_str().into()),
            cgroup: CgroupId(session.cgroup_id),
            netns: NetnsCookie(session.netns_cookie),
            uid: session.uid,
        });
        self.agents.insert(Arc::clone(&agent));
        let running = Running { agent, ended: CancellationToken::new(), elsewhere: HashMap::new() };
        // An attached session comes without; its namespaces follow.
        if !descriptors.is_empty() {
            self.listen(Arc::clone(&running.agent), descriptors, running.ended.clone())?;
        }
        for door in doors {
            let (agent, shared) = (Arc::clone(&running.agent), Arc::clone(&self.shared));
            let serving = forward::serve(door, agent, shared, Arc::clone(&self.sockets));
            self.shutdown.spawn(until(running.ended.clone(), serving));
        }
        if let Some(before) = self.running.insert(session.id.clone(), running) {
            before.ended.cancel();
        }
        info!(agent = session.agent, session = session.id, "session governed");
        Ok(())
    }

    /// Serves an attached session in one more network namespace.
    pub(super) fn serve_in(
        &mut self,
        seq: u64,
        session: &str,
        netns_cookie: u64,
        descriptors: Vec<OwnedFd>,
    ) -> ToKeeper {
        let served = match self.running.get_mut(session) {
            None => Err(anyhow::anyhow!("it is not known")),
            Some(running) => {
                let netns = NetnsCookie(netns_cookie);
                let left = running.ended.child_token();
                if let Some(before) = running.elsewhere.insert(netns, left.clone()) {
                    before.cancel();
                }
                let Agent { name, session, cgroup, netns: _, uid } = &*running.agent;
                let agent =
                    Agent { name: name.clone(), session: session.clone(), cgroup: *cgroup, netns, uid: *uid };
                self.listen(Arc::new(agent), descriptors, left)
            }
        };
        match served {
            Ok(()) => ToKeeper::Done { seq },
            Err(error) => ToKeeper::Refused {
                seq,
                message: format!("cannot serve session {session}: {error:#}"),
                hint: None,
            },
        }
    }

    /// The session has left a network namespace.
    pub(super) fn left(&mut self, session: &str, netns_cookie: u64) {
        let running = self.running.get_mut(session);
        if let Some(left) = running.and_then(|running| running.elsewhere.remove(&NetnsCookie(netns_cookie))) {
            left.cancel();
        }
    }

    fn listen(
        &self,
        agent: Arc<Agent>,
        descriptors: Vec<OwnedFd>,
        ended: CancellationToken,
    ) -> anyhow::Result<()> {
        // Injector, resolver over UDP, resolver over TCP; each over IPv4, and IPv6 where the namespace has it.
        let each = descriptors.len() / 3;
        anyhow::ensure!(
            descriptors.len().is_multiple_of(3) && (1..=2).contains(&each),
            "{} listeners came instead of 3 or 6",
            descriptors.len()
        );
        let mut descriptors = descriptors.into_iter();
        let listeners = descriptors.by_ref().take(each).map(tcp).collect::<Result<Vec<_>, _>>()?;
        let udp = descriptors.by_ref().take(each).map(Into::into).collect();
        let sockets = dns::Sockets { udp, tcp: descriptors.map(Into::into).collect() };

        let names = dns::serve(
            sockets,
            Arc::clone(&agent),
            self.policies.watch(),
            Arc::clone(&self.switches),
            Arc::clone(&self.resolver),
            self.audit.clone(),
            self.shutdown.token(),
        );
        let id = agent.session.clone();
        let traffic = proxy::serve_session(proxy::Session { agent, listeners }, Arc::clone(&self.shared));
        self.shutdown.spawn(until(ended.clone(), async move {
            if let Err(error) = names.await {
                error!(%error, session = %id, "the session's resolver has failed; its names do not resolve any more");
            }
        }));
        self.shutdown.spawn(until(ended, traffic));
        Ok(())
    }

    pub(super) fn ended(&mut self, session: &str) {
        if let Some(running) = self.running.remove(session) {
            running.ended.cancel();
        }
        match self.agents.remove(session) {
            Some(agent) => info!(agent = %agent.name, session, "session ended"),
            None => warn!(session, "a session ended that was not known"),
        }
    }

    pub(super) fn reload(&self, seq: u64) -> ToKeeper {
        match self.policies.reload() {
            Ok(_loaded) => ToKeeper::Done { seq },
            Err(error) => ToKeeper::Refused { seq, message: error.to_string(), hint: error.hint() },
        }
    }

    fn unknown_agent_hint(&self, agent: &str, known: &[&str]) -> String {
        let directory = self.policies.last().directory;
        if known.is_empty() {
            return format!(
                "write {}/{agent}.yaml, check it with `enforcer policy check`, then `enforcer reload`",
                directory.display()
            );
        }
        format!("agents with a policy: {}", known.join(", "))
    }
}

/// Pairs each forward with its listeners.
fn doors(forwards: &[Forward], descriptors: &mut impl Iterator<Item = OwnedFd>) -> anyhow::Result<Vec<Door>> {
    let mut doors = Vec::with_capacity(forwards.len());
    for forward in forwards {
        let mut listeners: Vec<_> =
            descriptors.by_ref().take(forward.listeners()).map(tcp).collect::<Result<_, _>>()?;
        anyhow::ensure!(listeners.len() == forward.listeners(), "a listener of {forward:?} is missing");
        doors.push(match (forward, listeners.pop()) {
            (Forward::Published(publish), Some(listener)) => Door::Published { port: publish.port, listener },
            (Forward::Loopback(port), last) => {
                listeners.extend(last);
                Door::Loopback { port: *port, listeners }
            }
            (Forward::Published(_), None) => anyhow::bail!("a listener of {forward:?} is missing"),
        });
    }
    anyhow::ensure!(descriptors.next().is_none(), "more listeners came than there are forwards");
    Ok(doors)
}

/// What the agent is told up front, so that it need not learn by failing.
fn guide(policy: &AgentPolicy) -> String {
    let mut text = format!(
        "This process runs as agent `{}` under enforcer. All network traffic is judged by a policy.\n\
         Credentials are added on the way out: use the placeholders in the environment as they are.\n\
         A refusal (HTTP 403 or 429 with a JSON body) is a decision, not a fault: do not retry or look for a way round.\n\
         Hosts that some rule allows:\n",
        policy.name
    );
    for host in policy.allowed_hosts() {
        // Writing to a String cannot fail.
        writeln!(text, "  {host}").unwrap_or_default();
    }
    text.push_str("The loopback is this agent's own: its own servers are reached there without any rule.\n");
    for port in policy.loopback() {
        writeln!(text, "  port {port} of it is the host's").unwrap_or_default();
    }
    for path in policy.unix() {
        writeln!(text, "  the host's unix socket {} may be used", path.display()).unwrap_or_default();
    }
    text
}

fn tcp(listener: OwnedFd) -> std::io::Result<tokio::net::TcpListener> {
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Dropping the work cuts every connection of the session.
async fn until(ended: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = ended.cancelled() => {}
    }
}
