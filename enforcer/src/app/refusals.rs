//! Refusals made in the kernel become receipts like all others.

use std::sync::Arc;

use anyhow::Context as _;
use enforcer_capture::events::{Events, Refused};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{error, warn};

use crate::agent::{Agent, Agents, CgroupId};
use crate::audit::{AuditLog, Intent, Outcome, RequestId, Verdict};
use crate::shutdown::Shutdown;

/// Reads the ring buffer until shutdown.
pub(super) fn spawn(events: Events, agents: Arc<Agents>, audit: AuditLog, shutdown: &Shutdown) -> anyhow::Result<()> {
    let mut events = AsyncFd::with_interest(events, Interest::READABLE).context("cannot watch the kernel's refusals")?;
    let token = shutdown.token();
    shutdown.spawn(async move {
        loop {
            let mut ready = tokio::select! {
                () = token.cancelled() => return,
                ready = events.readable_mut() => match ready {
                    Ok(ready) => ready,
                    Err(error) => return error!(%error, "the kernel's refusals cannot be read any more"),
                },
            };
            while let Some(refused) = ready.get_inner_mut().next() {
                let agent = agents.by_cgroup(CgroupId(refused.cgroup_id));
                if let Err(error) = audit.refused(intent(&refused, agent.as_deref()), outcome(&refused)).await {
                    // The refusal stands without its receipt; there is nothing left to close.
                    warn!(%error, hook = refused.hook, reason = refused.reason, "a refusal in the kernel has no receipt");
                }
            }
            ready.clear_ready();
        }
    });
    Ok(())
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
