//! The control socket: who is at the other end, then routing by the table of commands.
//!
//! A peer inside a managed cgroup, or one that cannot be identified, is refused without a look
//! at what it says, whatever its user. The socket's mode lets in root and one group; the table says the rest.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, connect_info::Connected};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::serve::IncomingStream;
use enforcer_capture::peer::Peer;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::command::{Command, Who};
use super::error::{ErrorBody, Failure};
use super::{ControlState, agents, handlers, proofs, receipts};
use crate::agent::Agents;

/// The largest body is a secret (64 KiB).
const MAX_BODY: usize = 128 * 1024;
/// How long a refused peer may take to read why.
const PARTING: Duration = Duration::from_secs(1);

/// Answers commands until `shutdown`; then finishes those under way. `managed_root`: the full path of
/// the cgroup that all agents are below.
pub async fn serve(
    listener: UnixListener,
    managed_root: PathBuf,
    state: ControlState,
    shutdown: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let agents = Arc::clone(&state.agents);
    let listener = Door { listener: tokio::net::UnixListener::from_std(listener)?, managed_root, agents };
    let service = router(state, shutdown.clone()).into_make_service_with_connect_info::<Caller>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router(state: ControlState, shutdown: CancellationToken) -> Router {
    let routed = Command::ALL.iter().fold(Router::new(), |router, &command| {
        let guarded = route(command).route_layer(from_fn(move |peer: ConnectInfo<Caller>, request, next| {
            permitted(command, peer, request, next)
        }));
        router.route(command.path(), guarded)
    });
    routed
        .fallback(async || Failure::not_found("no such command").hint("is the daemon as new as this client?"))
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this command has another method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::Extension(receipts::Ending(shutdown)))
        .with_state(state)
}

fn route(command: Command) -> MethodRouter<ControlState> {
    let filter = match command.method() {
        Method::POST => MethodFilter::POST,
        Method::PUT => MethodFilter::PUT,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    };
    match command {
        Command::Status => on(filter, handlers::status),
        Command::Agents => on(filter, agents::list),
        Command::AgentDisable => on(filter, agents::disable),
        Command::AgentEnable => on(filter, agents::enable),
        Command::Policies => on(filter, handlers::policies),
        Command::PolicyReload => on(filter, handlers::policy_reload),
        Command::Explain => on(filter, handlers::explain),
        Command::Secrets => on(filter, handlers::secrets),
        Command::SecretShow => on(filter, handlers::secret_show),
        Command::SecretSet => on(filter, handlers::secret_set),
        Command::SecretRemove => on(filter, handlers::secret_remove),
        Command::Receipts => on(filter, receipts::list),
        Command::Receipt => on(filter, receipts::get),
        Command::ReceiptsFollow => on(filter, receipts::follow),
        Command::ReceiptsVerify => on(filter, receipts::verify),
        Command::ReceiptsExport => on(filter, receipts::export),
        Command::CaExport => on(filter, handlers::ca),
        Command::Distrust => on(filter, handlers::distrust),
        Command::Proved => on(filter, proofs::proved),
    }
}

async fn permitted(command: Command, peer: ConnectInfo<Caller>, request: Request, next: Next) -> Response {
    let ConnectInfo(Caller(peer)) = peer;
    if !command.who().includes(&peer) {
        warn!(?command, uid = peer.uid, pid = peer.pid, "command refused");
        let who = match command.who() {
            Who::Administrator => "only root may do this",
            Who::Operator => "you may not do this",
        };
        return Failure::new(StatusCode::FORBIDDEN, who).hint("run it with `sudo`").into_response();
    }
    if command.method() != Method::GET {
        info!(?command, uid = peer.uid, pid = peer.pid, "command");
    }
    next.run(request).await
}

/// Lets in identified peers that no agent started.
struct Door {
    listener: tokio::net::UnixListener,
    managed_root: PathBuf,
    agents: Arc<Agents>,
}

/// The peer of a connection that was let in.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Peer);

impl Door {
    fn check(&self, stream: tokio::net::UnixStream) -> (tokio::net::UnixStream, io::Result<Peer>) {
        let mut governed = self.agents.attached_cgroups();
        governed.push(self.managed_root.clone());
        let peer = Peer::of(stream.as_fd(), &governed);
        (stream, peer)
    }
}

impl axum::serve::Listener for Door {
    type Io = tokio::net::UnixStream;
    type Addr = Caller;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let accepted = self.listener.accept().await.map(|(stream, _)| self.check(stream));
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "control socket");
                    // Out of descriptors, most likely: give others time to close some.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let why = match peer {
                Ok(peer) if !peer.managed => return (stream, Caller(peer)),
                Ok(peer) => {
                    warn!(
                        uid = peer.uid,
                        pid = peer.pid,
                        "an agent's process reached the control socket; refused"
                    );
                    "processes of an agent may not use the control socket"
                }
                Err(error) => {
                    warn!(%error, "a peer of the control socket cannot be identified; refused");
                    "the calling process cannot be identified"
                }
            };
            tokio::spawn(refuse(stream, why));
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Connected<IncomingStream<'_, Door>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

/// Says no without looking at anything. What was sent is taken and thrown away: first, because HTTP
/// clients take an answer before their question for noise; and afterwards, because closing a unix
/// socket with unread bytes takes the answer away from them.
async fn refuse(mut stream: tokio::net::UnixStream, why: &str) {
    let body = ErrorBody { error: why.to_owned(), hint: None };
    let body = serde_json::to_string(&body).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let parting = async {
        let mut scrap = [0; 4096];
        if stream.read(&mut scrap).await? == 0 {
            return Ok(());
        }
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        while stream.read(&mut scrap).await? > 0 {}
        io::Result::Ok(())
    };
    match tokio::time::timeout(PARTING, parting).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a refused peer left early"),
        Err(_elapsed) => tracing::debug!("a refused peer did not hang up"),
    }
}
