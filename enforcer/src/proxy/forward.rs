//! Connections relayed unread: from an agent to the host's loopback, from the host to a published port.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::listener::PAUSE;
use super::relay::{Flow, RelayError, relay};
use super::wire::{Wire, reset};
use crate::agent::{Agent, Caller};
use crate::audit::Outcome;
use crate::gate::{ForwardPermit, Forwarded, Passage, Relayed};

/// The other end is on this machine.
const CONNECT: Duration = Duration::from_secs(5);

/// A port to forward, and what is listened on for it.
#[derive(Debug)]
pub enum Door {
    /// On the agent's loopback, for the same port of the host's.
    Loopback { port: u16, listeners: Vec<TcpListener> },
    /// On the host, for this port of the agent's loopback.
    Published { port: u16, listener: TcpListener },
}

/// Makes the unconnected TCP sockets that the worker, confined as it is, cannot make.
pub trait Sockets: Send + Sync {
    /// Inside of the session's network namespace. Of IPv6, with IPv4 as mapped addresses.
    fn inside(&self, agent: &Agent) -> Socket<'_>;
    /// Bound to this loopback address of the host's.
    fn on_host(&self, loopback: IpAddr) -> Socket<'_>;
}

/// A socket, or why there is none.
pub type Socket<'a> = Pin<Box<dyn Future<Output = Result<OwnedFd, String>> + Send + 'a>>;

/// Serves one door of a session until the daemon stops. Dropping the future ends all of its connections.
pub async fn serve(door: Door, agent: Arc<Agent>, shared: Arc<Shared>, sockets: Arc<dyn Sockets>) {
    let ended = CancellationToken::new();
    let _end_spawned = ended.clone().drop_guard();
    let house = House { agent, shared, sockets, ended };
    match door {
        Door::Loopback { port, listeners } => {
            let mut accepting = JoinSet::new();
            for listener in listeners {
                accepting.spawn(accept(listener, house.clone(), move |_peer| Passage::Loopback { port }));
            }
            while accepting.join_next().await.is_some() {}
        }
        Door::Published { port, listener } => {
            accept(listener, house, move |peer| Passage::Published { peer, port }).await;
        }
    }
}

/// What every connection of a door needs.
#[derive(Clone)]
struct House {
    agent: Arc<Agent>,
    shared: Arc<Shared>,
    sockets: Arc<dyn Sockets>,
    ended: CancellationToken,
}

async fn accept(listener: TcpListener, house: House, passage: impl Fn(SocketAddr) -> Passage) {
    let cap = house.shared.caps.of(&house.agent.name);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // First: what waits in the kernel's queue from then on is for the next worker.
            biased;
            () = house.shared.shutdown.cancelled() => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, session = %house.agent.session, "cannot accept a connection to be forwarded");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // They count as the agent's other connections do: each takes two descriptors.
        let slot = tokio::select! {
            () = house.shared.shutdown.cancelled() => return,
            slot = cap.connections.clone().acquire_owned() => slot.expect("the cap is never closed"),
        };
        let (house, passage) = (house.clone(), passage(peer));
        connections.spawn(async move {
            forward(stream, passage, house).await;
            drop(slot);
        });
    }
}

/// One connection to its end.
async fn forward(stream: TcpStream, passage: Passage, house: House) {
    let start = Instant::now();
    let House { agent, shared, sockets, ended } = house;
    // Who connected is not known: the kernel keeps no record of what stays on an agent's loopback.
    let caller = Caller { uid: agent.uid, agent: agent.clone(), pid: 0, comm: "".into() };
    let Ok(Forwarded { permit, guard, lifeline }) = shared.gate.admit_forward(passage, &caller, &ended).await
    else {
        return reset(&stream);
    };
    let (cutoff, token) = (lifeline.cutoff(), lifeline.token().clone());
    let (to, from) = (Flow::default(), Flow::default());
    let near = Wire::downstream(stream, lifeline);
    let relaying = async {
        let (far, _known) = match connect(permit, &agent, &shared, sockets.as_ref()).await {
            Ok(connected) => connected,
            Err(why) => {
                near.reset();
                return Err(Failed::Connect(why));
            }
        };
        let far = Wire::upstream(far, token.clone());
        // Half of a stream must not look like all of it: both are reset.
        relay(&near, &far, &to, &from).await.inspect_err(|_error| token.cancel()).map_err(Failed::Relay)
    };
    let (end, error) = tokio::select! {
        biased;
        cause = cutoff.happens() => ("cut", Some(cause.text())),
        // The session is gone.
        () = token.cancelled() => ("cancelled", None),
        () = shared.shutdown.cancelled() => ("cancelled", Some("the enforcer is stopping".to_owned())),
        relayed = relaying => match relayed {
            Ok(()) => ("done", None),
            Err(Failed::Connect(why)) => ("upstream_failed", Some(why)),
            Err(Failed::Relay(RelayError::Io(error))) => ("done", Some(format!("the connection broke: {error}"))),
            Err(Failed::Relay(error)) => ("cut", Some(error.to_string())),
        },
    };
    guard.finish(Outcome {
        end: end.into(),
        request_bytes: to.bytes(),
        response_bytes: from.bytes(),
        total_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
        error,
        ..Outcome::default()
    });
}

enum Failed {
    Connect(String),
    Relay(RelayError),
}

/// To the service, by the permit alone. First by IPv4, then by IPv6: a server may listen on either. Our end of a connection
/// to the host is known as ours before it can arrive anywhere, and as long as it lasts.
async fn connect<'a>(
    permit: ForwardPermit,
    agent: &Agent,
    shared: &'a Shared,
    sockets: &dyn Sockets,
) -> Result<(TcpStream, Option<Relayed<'a>>), String> {
    let mut failure = String::new();
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let connecting = async {
            let (socket, to, known) = match permit.passage() {
                Passage::Loopback { port } => {
                    let socket = sockets.on_host(address).await.map_err(io::Error::other)?;
                    let socket = TcpSocket::from_std_stream(socket.into());
                    let known = shared.gate.relays().add(socket.local_addr()?);
                    (socket, SocketAddr::new(address, port), Some(known))
                }
                Passage::Published { port, .. } => {
                    let socket = sockets.inside(agent).await.map_err(io::Error::other)?;
                    (TcpSocket::from_std_stream(socket.into()), SocketAddr::new(mapped(address), port), None)
                }
            };
            let stream = socket.connect(to).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>((stream, known))
        };
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => failure = error.to_string(),
            Err(_elapsed) => failure = format!("no answer within {} s", CONNECT.as_secs()),
        }
    }
    let whose = match permit.passage() {
        Passage::Loopback { port } => format!("port {port} of the host's loopback"),
        Passage::Published { port, .. } => format!("the agent's port {port}"),
    };
    Err(format!("no connection to {whose}: {failure}"))
}

fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(v6) => v6.into(),
    }
}
