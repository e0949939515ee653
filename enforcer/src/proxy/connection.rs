//! Whose connection is this, and where was it going? Only the kernel's record says.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Connection, Shared, Slot, sniff};
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
    let caller = Caller { agent, pid: origin.pid, uid: origin.uid, comm: origin.comm.into() };
    let connection = Connection { caller, destination: origin.dst, tls: None, shared, ended, slot };
    sniff::dispatch(Box::new(stream), connection).await;
}

/// Closes with a reset, so that the agent sees a refusal and not an empty answer.
fn reset(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "the refused connection closes without a reset");
    }
}
