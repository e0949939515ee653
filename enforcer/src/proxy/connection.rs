//! Whose connection is this, and where was it going? Only the kernel's record says.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::wire::{Wire, reset};
use super::{Connection, Shared, Slot, sniff, tunnel};
use crate::agent::{Agent, Caller};
use crate::gate::{Asked, Code};

/// Serves one accepted socket to its end.
pub(super) async fn serve(
    stream: TcpStream,
    agent: Arc<Agent>,
    shared: Arc<Shared>,
    ended: CancellationToken,
    slot: Slot,
) {
    // Tickets and first answers are small writes; Nagle would hold them for a delayed ACK, 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection was gone before it was served");
        return;
    }
    let origin = match shared.origins.take(stream.as_fd(), &agent) {
        Ok(origin) => origin,
        Err(error) => {
            let caller = Caller { uid: agent.uid, agent, pid: 0, comm: "".into() };
            let asked = Asked { protocol: "connect", ..Asked::default() };
            let reason = format!("the connection did not come through the kernel's redirect: {error}");
            shared.gate.turn_away(&caller, &asked, Code::BadRequest, reason).await;
            reset(&stream);
            return;
        }
    };
    let lifeline = shared.gate.lifelines().connection(&agent.name, &ended);
    let ended = lifeline.token().clone();
    let caller = Caller { agent, pid: origin.pid, uid: origin.uid, comm: origin.comm.into() };
    let connection =
        Connection { caller, destination: origin.dst, tls: None, shared, ended: ended.clone(), slot };
    let wire = Wire::downstream(stream, lifeline);
    let serving = async {
        match tunnel::raw(&connection).await {
            // Refused or not, the receipt is written.
            Some(endpoint) => drop(tunnel::carry(wire, Bytes::new(), endpoint, &connection).await),
            None => sniff::dispatch(Box::new(wire), connection).await,
        }
    };
    // Cut: everything of the connection is dropped here, the socket with it.
    if ended.run_until_cancelled(serving).await.is_none() {
        tracing::debug!("a connection was cut");
    }
}
