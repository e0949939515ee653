//! Accepts the connections of one session.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Session, Shared, Slot, connection};
use crate::agent::Agent;
use crate::shutdown::DRAIN;

/// After an accept that failed for want of descriptors or memory.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Serves a session until the daemon drains. Dropping the future ends every connection of the
/// session at once: do that when its cgroup is gone.
pub async fn serve_session(session: Session, shared: Arc<Shared>) {
    let Session { agent, listeners } = session;
    let ended = CancellationToken::new();
    let _end_spawned = ended.clone().drop_guard();
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, agent.clone(), shared.clone(), ended.clone()));
    }
    while let Some(done) = accepting.join_next().await {
        if let Err(error) = done {
            tracing::error!(%error, session = %agent.session, "an accept loop ended unexpectedly");
        }
    }
}

async fn accept(listener: TcpListener, agent: Arc<Agent>, shared: Arc<Shared>, ended: CancellationToken) {
    let cap = shared.caps.of(&agent.name);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // First: what waits in the kernel's queue from then on is for the next worker.
            biased;
            () = shared.shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                tracing::warn!(%error, session = %agent.session, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Over the cap one accepted connection waits here and the others in the kernel's queue. A slot
        // taken before there is a connection would be lost to the agent's other sessions.
        let slot = tokio::select! {
            // First: what was accepted is served.
            biased;
            slot = cap.connections.clone().acquire_owned() => slot.expect("the cap is never closed"),
            () = shared.shutdown.cancelled() => break,
        };
        let slot = Slot { cap: cap.clone(), _connection: Arc::new(slot) };
        let (agent, shared, ended) = (agent.clone(), shared.clone(), ended.clone());
        connections.spawn(connection::serve(stream, agent, shared, ended, slot));
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, finished).await.is_err() {
        tracing::warn!(session = %agent.session, "requests still running at the end of the drain were cut");
    }
}
