//! What the worker asks of the keeper: agents shut in at the kernel, or let out; sockets that it
//! cannot make; a look at an agent's process.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use enforcer_capture::message::{Channel, Process, SocketOf, Switch, ToKeeper};
use tokio::sync::oneshot;
use tracing::warn;

use crate::agent::Agent;
use crate::control::{Contained, Containment};
use crate::proxy::forward::{Socket, Sockets};
use crate::tls::distrust::{Looking, Processes};

/// The keeper answers in milliseconds; a launch under way may hold it up.
const ANSWER: Duration = Duration::from_secs(35);

pub(super) struct Keeper {
    channel: Arc<Channel>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

/// What came for a request, or words for a person.
type Answer = Result<Given, String>;

/// What the keeper gives.
pub(super) enum Given {
    Descriptors(Vec<OwnedFd>),
    Process(Process),
}

impl Keeper {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Keeper { channel, next: AtomicU64::new(1), waiting: Mutex::default() }
    }

    /// The answer has come.
    pub(super) fn answered(&self, seq: u64, answer: Result<Given, String>) {
        let asker = self.waiting().remove(&seq);
        if asker.is_none_or(|asker| asker.send(answer).is_err()) {
            warn!(seq, "the keeper answered what nobody waits for");
        }
    }

    async fn ask(&self, request: impl FnOnce(u64) -> ToKeeper) -> Answer {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting().insert(seq, sender);
        if let Err(error) = self.channel.send(&request(seq), &[]) {
            self.waiting().remove(&seq);
            return Err(format!("the keeper cannot be asked: {error}"));
        }
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_gone)) => Err("the keeper is gone".into()),
            Err(_elapsed) => {
                self.waiting().remove(&seq);
                Err(format!("the keeper did not answer within {} s", ANSWER.as_secs()))
            }
        }
    }

    async fn switch(&self, agent: String, to: Switch) -> Result<(), String> {
        self.ask(|seq| ToKeeper::Switch { seq, agent, to }).await.map(drop)
    }

    async fn socket(&self, of: SocketOf) -> Result<OwnedFd, String> {
        let given = self.ask(|seq| ToKeeper::Socket { seq, of }).await?;
        let Given::Descriptors(mut sockets) = given else { return Err("the keeper sent no socket".into()) };
        sockets.pop().ok_or_else(|| "the keeper sent no socket".to_owned())
    }

    async fn process(&self, session: String, pid: u32) -> Result<Process, String> {
        match self.ask(|seq| ToKeeper::Look { seq, session, pid }).await? {
            Given::Process(process) => Ok(process),
            Given::Descriptors(_) => Err("the keeper told of no process".into()),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        // Each use is one call on the map: a panic cannot leave it half changed.
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Containment for Keeper {
    fn shut_in(&self, agent: &str, freeze: bool) -> Contained<'_> {
        Box::pin(self.switch(agent.to_owned(), Switch::Off { freeze }))
    }

    fn let_out(&self, agent: &str) -> Contained<'_> {
        Box::pin(self.switch(agent.to_owned(), Switch::On))
    }
}

impl Processes for Keeper {
    fn look(&self, session: &str, pid: u32) -> Looking<'_> {
        Box::pin(self.process(session.to_owned(), pid))
    }
}

impl Sockets for Keeper {
    fn inside(&self, agent: &Agent) -> Socket<'_> {
        Box::pin(self.socket(SocketOf::Session(agent.session.to_string())))
    }

    fn on_host(&self, loopback: IpAddr) -> Socket<'_> {
        Box::pin(self.socket(SocketOf::Host(loopback)))
    }
}
