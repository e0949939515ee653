//! Connections that are relayed unread: from the gate's leave to the receipt.
//!
//! TLS that is passed through comes from `protocol::tls`, which has read the server name; raw TCP is
//! told apart here, before a byte is read, because in many of its protocols the server speaks first.
//! The agent's address of a raw connection counts only as one that we resolved for a name of the policy.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use enforcer_policy::{Endpoint, Relay};
use tokio::io::AsyncWriteExt as _;

use super::Connection;
use super::relay::{Flow, RelayError, relay};
use super::upstream::UpstreamError;
use super::wire::Wire;
use crate::audit::Outcome;
use crate::gate::{Refusal, Tunnel};

/// Whom the agent dialled, if a raw rule names it: the name, and the very address.
pub(super) async fn raw(connection: &Connection) -> Option<Endpoint> {
    let shared = &connection.shared;
    let dialled = connection.destination.0;
    let policy = shared.gate.policy(&connection.caller)?;
    for host in policy.raw_hosts(dialled.port(), SystemTime::now().into()) {
        if shared.upstreams.leads_to(&host, dialled.ip()).await {
            let relay = Relay::Raw { address: dialled.ip() };
            return Some(Endpoint { relay, host, port: dialled.port() });
        }
    }
    None
}

/// Asks for leave and carries the connection to its end. `first`: what has been read of it already.
pub async fn carry(
    near: Wire,
    first: Bytes,
    endpoint: Endpoint,
    connection: &Connection,
) -> Result<(), Refusal> {
    let start = Instant::now();
    let shared = &connection.shared;
    let tunnel = match shared.gate.admit_tunnel(endpoint, &connection.caller).await {
        Ok(tunnel) => tunnel,
        Err(refusal) => {
            near.reset();
            return Err(refusal);
        }
    };
    let Tunnel { permit, guard, policy, lifeline, place, upload, download } = tunnel;
    let (up, down) = (Flow::metered(upload), Flow::metered(download));
    let cutoff = lifeline.cutoff();
    let mut address = None;
    let relaying = async {
        let far = shared.upstreams.open(&permit, policy.private_addresses(), lifeline.token()).await?;
        let (mut far, reached) = far;
        address = Some(reached);
        up.take(first.len() as u64)?;
        far.write_all(&first).await?;
        relay(&near, &far, &up, &down).await?;
        Ok(())
    };
    let (end, error) = tokio::select! {
        biased;
        cause = cutoff.happens() => ("cut", Some(cause.text())),
        // The connection was cut, or its session is gone.
        () = connection.ended.cancelled() => ("cancelled", None),
        () = shared.shutdown.cancelled() => ("cancelled", Some("the enforcer is stopping".to_owned())),
        ended = relaying => match ended {
            Ok(()) => ("done", None),
            Err(Failed::Open(error)) => ("upstream_failed", Some(error.to_string())),
            Err(Failed::Relay(RelayError::Io(error))) => ("done", Some(format!("the connection broke: {error}"))),
            Err(Failed::Relay(error)) => ("cut", Some(error.to_string())),
        },
    };
    if end != "done" {
        near.reset();
    }
    guard.finish(Outcome {
        end: end.into(),
        upstream: address.map(|address: SocketAddr| address.to_string()),
        request_bytes: up.bytes(),
        response_bytes: down.bytes(),
        total_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
        error,
        ..Outcome::default()
    });
    // Held until here: whoever waits for what was cut waits for both sockets.
    drop((near, place, lifeline));
    Ok(())
}

enum Failed {
    Open(UpstreamError),
    Relay(RelayError),
}

impl From<UpstreamError> for Failed {
    fn from(error: UpstreamError) -> Self {
        Failed::Open(error)
    }
}

impl From<RelayError> for Failed {
    fn from(error: RelayError) -> Self {
        Failed::Relay(error)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Failed::Relay(error.into())
    }
}
