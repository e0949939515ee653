//! The resolver that one session sees: its sockets, its rate, its refusals on record.
//!
//! What is answered is `answer`'s. The sockets were opened inside the session's network namespace by
//! the keeper; nobody else can reach them, so whoever asks is the agent.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use enforcer_policy::PolicySet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::answer::{Answer, MAX_QUESTION, Refusal, answer, disabled, too_many};
use super::resolver::Resolver;
use crate::agent::Agent;
use crate::audit::{AuditLog, Intent, Outcome, RequestId, Verdict};
use crate::switches::Switches;

/// Questions an agent may ask per second, and at once. A build tool starting up asks a few dozen.
const RATE: f64 = 50.0;
const BURST: f64 = 100.0;
/// Questions of one session being answered at a time.
const MAX_AT_ONCE: usize = 64;
/// TCP connections of one session. A stub resolver uses one or two.
const MAX_CONNECTIONS: usize = 16;
/// A TCP connection that says nothing for this long is closed (RFC 7766 suggests seconds).
const IDLE: Duration = Duration::from_secs(10);
/// An answer that the client does not take within this is dropped.
const WRITE: Duration = Duration::from_secs(5);
/// Questions refused for the rate make one receipt in this time, with a count.
const FOLD: Duration = Duration::from_secs(1);

/// One session's sockets, opened in its namespace: port 53 on 127.0.0.1 and `::1`.
pub struct Sockets {
    pub udp: Vec<UdpSocket>,
    pub tcp: Vec<TcpListener>,
}

/// Answers one session until `shutdown`.
pub async fn serve(
    sockets: Sockets,
    agent: Arc<Agent>,
    policies: watch::Receiver<Arc<PolicySet>>,
    switches: Arc<Switches>,
    resolver: Arc<Resolver>,
    audit: AuditLog,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let session = Arc::new(Session {
        agent,
        policies,
        switches,
        resolver,
        audit,
        bucket: Mutex::new(Bucket { tokens: BURST, at: Instant::now(), dropped: 0, reported: None }),
        slots: Arc::new(Semaphore::new(MAX_AT_ONCE)),
        connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    });
    let mut tasks = JoinSet::new();
    for socket in sockets.udp {
        socket.set_nonblocking(true)?;
        let socket = Arc::new(tokio::net::UdpSocket::from_std(socket)?);
        tasks.spawn(session.clone().datagrams(socket, shutdown.clone()));
    }
    for listener in sockets.tcp {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tasks.spawn(session.clone().connections(listener, shutdown.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            warn!(session = %session.agent.session, %error, "a resolver task of this session ended; its names no longer resolve");
        }
    }
    Ok(())
}

struct Session {
    agent: Arc<Agent>,
    policies: watch::Receiver<Arc<PolicySet>>,
    switches: Arc<Switches>,
    resolver: Arc<Resolver>,
    audit: AuditLog,
    bucket: Mutex<Bucket>,
    slots: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Session {
    async fn datagrams(self: Arc<Self>, socket: Arc<tokio::net::UdpSocket>, shutdown: CancellationToken) {
        // One byte more than allowed, so that a longer datagram shows as too long.
        let mut buffer = vec![0; MAX_QUESTION + 1];
        let mut tasks = JoinSet::new();
        loop {
            let received = tokio::select! {
                // First: what waits in the kernel's queue from then on is for the next worker.
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                received = socket.recv_from(&mut buffer) => received,
            };
            let (length, client) = match received {
                Ok(received) => received,
                Err(error) => {
                    // A datagram socket reports here that an earlier answer did not arrive.
                    debug!(session = %self.agent.session, %error, "resolver socket");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let question = buffer.get(..length).unwrap_or_default().to_vec();
            let slot = if self.admit().await { self.slots.clone().try_acquire_owned().ok() } else { None };
            let Some(slot) = slot else {
                if let Some(bytes) = too_many(&question) {
                    sent(socket.try_send_to(&bytes, client));
                }
                continue;
            };
            let (session, socket) = (self.clone(), socket.clone());
            tasks.spawn(async move {
                if let Some(bytes) = session.answer(&question).await.as_ref().and_then(Answer::datagram) {
                    sent(socket.send_to(&bytes, client).await);
                }
                drop(slot);
            });
        }
        // What was taken out of the queue is nobody else's: who asked would wait for seconds before asking again.
        while tasks.join_next().await.is_some() {}
    }

    async fn connections(self: Arc<Self>, listener: tokio::net::TcpListener, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(_) = tasks.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    // Over the bound: dropping the stream closes it.
                    if let Ok(slot) = self.connections.clone().try_acquire_owned() {
                        let session = self.clone();
                        tasks.spawn(async move {
                            if let Err(error) = session.connection(stream).await {
                                debug!(session = %session.agent.session, %error, "resolver connection");
                            }
                            drop(slot);
                        });
                    }
                }
                Err(error) => {
                    debug!(session = %self.agent.session, %error, "resolver listener");
                    // Out of descriptors, most likely: give others time to close some.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// One TCP connection: question by question, each with a deadline.
    async fn connection(&self, mut stream: tokio::net::TcpStream) -> io::Result<()> {
        loop {
            let question = tokio::time::timeout(IDLE, async {
                let length = usize::from(stream.read_u16().await?);
                if length > MAX_QUESTION {
                    return Err(io::Error::other("the question is too long"));
                }
                let mut question = vec![0; length];
                stream.read_exact(&mut question).await?;
                Ok(question)
            })
            .await??;
            let bytes = if self.admit().await {
                self.answer(&question).await.as_ref().and_then(Answer::stream)
            } else {
                too_many(&question)
            };
            let Some(bytes) = bytes else { return Ok(()) };
            let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            tokio::time::timeout(WRITE, stream.write_all(&framed)).await??;
        }
    }

    async fn answer(&self, question: &[u8]) -> Option<Answer> {
        let policies = self.policies.borrow().clone();
        let policy = policies.agent(self.agent.name.as_str()).cloned();
        let answer = match self.switches.off(self.agent.name.as_str()) {
            Some(_off) => disabled(question)?,
            None => answer(question, policy.as_deref(), &self.resolver).await?,
        };
        if let Some(refusal) = &answer.refusal {
            let revision = policy.map(|p| p.revision().to_owned());
            self.record(refusal, revision).await;
        }
        Some(answer)
    }

    /// Takes a token, or puts the refusal on record.
    async fn admit(&self) -> bool {
        // A panic cannot leave the bucket half changed in a way that grants more.
        let (rate, burst) = self.rate();
        let taken = self.bucket.lock().unwrap_or_else(|e| e.into_inner()).take(Instant::now(), rate, burst);
        match taken {
            Taken::Yes => true,
            Taken::No { report: 0 } => false,
            Taken::No { report } => {
                let sentence =
                    format!("{report} questions were refused: more than {rate} a second are too many");
                let refusal = Refusal { reason: "rate_limited", name: None, kind: None, sentence };
                self.record(&refusal, None).await;
                false
            }
        }
    }

    /// Questions a second, and at once.
    fn rate(&self) -> (f64, f64) {
        let policies = self.policies.borrow();
        match policies.agent(self.agent.name.as_str()).and_then(|policy| policy.dns_rate()) {
            Some(rate) => (f64::from(rate.count) / rate.period.as_secs_f64(), f64::from(rate.burst)),
            None => (RATE, BURST),
        }
    }

    async fn record(&self, refusal: &Refusal, policy: Option<String>) {
        let agent = &self.agent;
        let intent = Intent {
            id: RequestId::random(),
            agent: agent.name.to_string(),
            session: agent.session.to_string(),
            cgroup: agent.cgroup.0,
            // A datagram does not say which process sent it.
            pid: 0,
            uid: agent.uid,
            comm: String::new(),
            protocol: "dns".to_owned(),
            method: refusal.kind.clone(),
            host: refusal.name.clone(),
            port: Some(53),
            path: None,
            template: None,
            action: None,
            query_keys: Vec::new(),
            verdict: Verdict::Deny,
            rule: None,
            reason: refusal.reason.to_owned(),
            policy,
            credential: None,
        };
        debug!(agent = %agent.name, reason = refusal.reason, "name refused");
        let outcome = Outcome {
            end: "refused".to_owned(),
            error: Some(refusal.sentence.clone()),
            ..Outcome::default()
        };
        if let Err(error) = self.audit.refused(intent, outcome).await {
            // The refusal stands; the log itself says that it cannot write.
            warn!(agent = %agent.name, error = &error as &dyn std::error::Error, "a refused name is not on record");
        }
    }
}

/// A client that is gone does not get its answer; nobody else misses it.
fn sent(result: io::Result<usize>) {
    if let Err(error) = result {
        debug!(%error, "an answer could not be sent");
    }
}

/// Pure: callers pass `now`.
struct Bucket {
    tokens: f64,
    at: Instant,
    dropped: u64,
    reported: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Yes,
    /// `report`: this many refusals are to be put on record now.
    No {
        report: u64,
    },
}

impl Bucket {
    fn take(&mut self, now: Instant, rate: f64, burst: f64) -> Taken {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * rate).min(burst);
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Taken::Yes;
        }
        self.dropped += 1;
        if self.reported.is_some_and(|at| now.saturating_duration_since(at) < FOLD) {
            return Taken::No { report: 0 };
        }
        self.reported = Some(now);
        Taken::No { report: std::mem::take(&mut self.dropped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_and_refusals_fold() {
        let start = Instant::now();
        let mut bucket = Bucket { tokens: BURST, at: start, dropped: 0, reported: None };
        let passed = (0..150).filter(|_| bucket.take(start, RATE, BURST) == Taken::Yes).count();
        assert_eq!(passed, 100);
        // The first refusal was reported at once, the other 49 wait for the next report.
        assert_eq!(bucket.dropped, 49);
        let later = start + Duration::from_secs(1);
        let passed = (0..60).filter(|_| bucket.take(later, RATE, BURST) == Taken::Yes).count();
        assert_eq!(passed, 50);
        assert_eq!(bucket.dropped, 9);
        assert_eq!(bucket.reported, Some(later));
    }
}
