//! Refusals made in the kernel become receipts like all others.

use std::sync::Arc;

use enforcer_capture::events::{Events, Refused};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::agent::{Agent, Agents, CgroupId};
use crate::audit::{AuditLog, Intent, Outcome, RequestId, Verdict};
use crate::shutdown::Shutdown;

/// `SOCK_DGRAM`.
const DATAGRAM: u32 = 2;
/// Refusals read and not yet recorded. More wait in the ring buffer, which counts what it loses.
const QUEUE: usize = 256;

/// Records refusals until shutdown. The ring buffer is watched by a thread, which ends with the process.
pub(super) fn spawn(events: Events, agents: Arc<Agents>, audit: AuditLog, shutdown: &Shutdown) {
    let (sender, mut refusals) = mpsc::channel(QUEUE);
    std::thread::spawn(move || watch(events, &sender));
    let token = shutdown.token();
    shutdown.spawn(async move {
        loop {
            let refused: Refused = tokio::select! {
                () = token.cancelled() => return,
                refused = refusals.recv() => match refused {
                    Some(refused) => refused,
                    None => return error!("refusals made in the kernel are no longer recorded"),
                },
            };
            if is_ranking(&refused) {
                continue;
            }
            let agent = agents.by_cgroup(CgroupId(refused.cgroup_id));
            if let Err(error) = audit.refused(intent(&refused, agent.as_deref()), outcome(&refused)).await {
                // The refusal stands without its receipt; there is nothing left to close.
                warn!(%error, hook = refused.hook, reason = refused.reason, "a refusal in the kernel has no receipt");
            }
        }
    });
}

/// Resolver libraries connect datagram sockets to rank addresses (RFC 6724, section 5), some at every look-up. Connecting
/// one sends nothing; what is sent is refused by other hooks, and recorded.
fn is_ranking(refused: &Refused) -> bool {
    refused.sock_type == DATAGRAM && refused.hook.starts_with("connect")
}

fn watch(mut events: Events, sender: &mpsc::Sender<Refused>) {
    loop {
        match poll(&mut [PollFd::new(&events, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return error!(%error, "the kernel's refusals cannot be read any more"),
        }
        while let Some(refused) = events.next() {
            if sender.blocking_send(refused).is_err() {
                return;
            }
        }
    }
}

fn intent(refused: &Refused, agent: Option<&Agent>) -> Intent {
    Intent {
        id: RequestId::random(),
        agent: agent.map_or_else(|| "?".to_owned(), |agent| agent.name.to_string()),
        session: agent.map_or_else(|| "?".to_owned(), |agent| agent.session.to_string()),
        cgroup: refused.cgroup_id,
        pid: refused.pid,
        uid: refused.uid,
        comm: refused.comm.clone(),
        protocol: "kernel".to_owned(),
        method: Some(refused.hook.to_owned()),
        host: refused.address.map(|address| address.ip().to_string()),
        port: refused.address.map(|address| address.port()),
        path: None,
        template: None,
        action: None,
        query_keys: Vec::new(),
        verdict: Verdict::Deny,
        rule: None,
        reason: refused.reason.to_owned(),
        policy: None,
        credential: None,
    }
}

fn outcome(refused: &Refused) -> Outcome {
    Outcome {
        end: "refused".to_owned(),
        error: Some(format!(
            "socket of family {}, type {}, protocol {}",
            refused.family, refused.sock_type, refused.protocol
        )),
        ..Outcome::default()
    }
}
