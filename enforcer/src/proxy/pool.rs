//! Open connections to one origin, for one agent with one credential.
//!
//! HTTP/1 connections wait in a list, HTTP/2 streams share one connection. Each pool has its own TLS
//! session cache: neither a connection nor a session ever serves a second identity.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::body::Outgoing;
use super::dial::{self, DialError};
use super::interim::{Early, Interim};
use super::opening::Opening;
use super::received::Received;
use super::stream::Io;
use super::streams::Streams;
use super::upstream::{Origin, UpstreamError};
use super::wire::Wire;
use super::{BUFFER, BoxError, REQUESTS};
use crate::dns::{Resolver, forbidden};
use crate::gate::lifeline::Lifeline;
use crate::tls::ClientTls;

/// Most servers close after 60 to 75 s; a connection kept longer is likely dead when used.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// Look-ups and handshakes of one agent at a time. The resolver has 256 seats for all agents together,
/// and hosts that do not answer hold them for seconds.
pub(super) const DIALS: usize = 64;
/// Connections of one agent to all origins that are kept for requests to come: as many as it may have under way. With fewer, a busy one would shake
/// hands anew for the rest.
const KEPT: usize = REQUESTS;
pub(super) const MAX_RESPONSE_HEAD: usize = 64 * 1024;

/// The connections to one origin.
pub(super) struct Pool {
    /// Never offers HTTP/2: for agents that speak HTTP/1 and for upgrades.
    http1: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
    state: Mutex<State>,
    pub(super) bounds: Arc<Bounds>,
    /// Held while the shared connection is opened, so that many first requests open one.
    opening: tokio::sync::Mutex<()>,
    /// Cut, it ends every connection, those in use included.
    lifeline: Lifeline,
}

/// Shared by all pools of one agent.
pub(super) struct Bounds {
    pub(super) dials: Arc<Semaphore>,
    kept: Arc<Semaphore>,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { dials: Arc::new(Semaphore::new(DIALS)), kept: Arc::new(Semaphore::new(KEPT)) }
    }
}

#[derive(Default)]
struct State {
    /// The one that came back last is at the end.
    idle: VecDeque<Waiting>,
    shared: Option<Shared>,
    /// The origin was offered HTTP/2 and chose HTTP/1.
    http1_only: bool,
}

struct Waiting {
    sender: http1::SendRequest<Outgoing>,
    address: SocketAddr,
    since: Instant,
    _kept: OwnedSemaphorePermit,
}

/// A connection of HTTP/2.
struct Shared {
    streams: Streams,
    address: SocketAddr,
    /// When a request was begun on it.
    used: Instant,
    _kept: OwnedSemaphorePermit,
}

/// A connection taken for one request.
pub(super) struct Taken {
    sender: Sender,
    pub(super) address: SocketAddr,
    /// It has been used before, so it may have died unnoticed.
    pub(super) reused: bool,
}

enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(Streams),
}

/// Keeps the pool, which can be cut, until the answer has been read to its end. Then an HTTP/1 connection goes back into it.
pub struct Lease {
    pool: Arc<Pool>,
    sender: Option<(http1::SendRequest<Outgoing>, SocketAddr)>,
}

impl Lease {
    pub fn give_back(self) {
        if let Some((sender, address)) = self.sender {
            self.pool.keep(sender, address);
        }
    }
}

impl Pool {
    pub(super) fn new(
        tls: &ClientTls,
        lifeline: Lifeline,
        bounds: Arc<Bounds>,
    ) -> Result<Self, UpstreamError> {
        let config = |alpn: &[&[u8]]| tls.config(alpn).map_err(UpstreamError::Settings);
        Ok(Pool {
            http1: config(&[b"http/1.1"])?,
            either: config(&[b"h2", b"http/1.1"])?,
            state: Mutex::default(),
            bounds,
            opening: tokio::sync::Mutex::default(),
            lifeline,
        })
    }

    /// What it opens ends at once; another pool has to take its place.
    pub(super) fn is_cut(&self) -> bool {
        self.lifeline.token().is_cancelled()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A connection that may carry the request: one at hand or a new one. Those at hand are checked
    /// against the policy again, which may have changed since they were opened.
    pub(super) async fn take(
        &self,
        origin: &Origin,
        resolver: &Resolver,
        private: &[IpNet],
        multiplex: bool,
    ) -> Result<Taken, UpstreamError> {
        if let Some(taken) = self.at_hand(private, multiplex) {
            return Ok(taken);
        }
        if !multiplex || self.state().http1_only {
            return self.open(origin, resolver, private, multiplex).await;
        }
        let _opening = self.opening.lock().await;
        match self.at_hand(private, multiplex) {
            Some(taken) => Ok(taken),
            None => self.open(origin, resolver, private, multiplex).await,
        }
    }

    /// A new HTTP/1 connection, for what will not give it back.
    pub(super) async fn fresh(
        &self,
        origin: &Origin,
        resolver: &Resolver,
        private: &[IpNet],
    ) -> Result<Taken, UpstreamError> {
        self.open(origin, resolver, private, false).await
    }

    /// A stream where the server opens WebSockets on streams, or else a new HTTP/1 connection.
    pub(super) async fn websocket(
        &self,
        origin: &Origin,
        resolver: &Resolver,
        private: &[IpNet],
    ) -> Result<Taken, UpstreamError> {
        let taken = self.take(origin, resolver, private, true).await?;
        match &taken.sender {
            Sender::Http2(streams) if streams.opens_websockets().await => return Ok(taken),
            Sender::Http2(_) => {}
            Sender::Http1(_) if !taken.reused => return Ok(taken),
            Sender::Http1(_) => taken.keep(self),
        }
        self.fresh(origin, resolver, private).await
    }

    fn at_hand(&self, private: &[IpNet], multiplex: bool) -> Option<Taken> {
        let mut state = self.state();
        let permitted = |address: &SocketAddr| forbidden(address.ip(), private).is_none();
        if multiplex && let Some(shared) = &mut state.shared {
            if !shared.streams.is_closed() && permitted(&shared.address) {
                shared.used = Instant::now();
                let (streams, address) = (shared.streams.clone(), shared.address);
                return Some(Taken { sender: Sender::Http2(streams), address, reused: true });
            }
            state.shared = None;
        }
        // From the end, so that one look is enough: the others wait for `sweep`.
        let mut at = state.idle.len();
        while at > 0 {
            at -= 1;
            let waiting = &state.idle[at];
            if waiting.sender.is_closed() {
                state.idle.remove(at);
            } else if waiting.since.elapsed() >= IDLE {
                // So are all before it.
                state.idle.drain(..=at);
                return None;
            } else if waiting.sender.is_ready() && permitted(&waiting.address) {
                let Waiting { sender, address, .. } = state.idle.remove(at)?;
                return Some(Taken { sender: Sender::Http1(sender), address, reused: true });
            }
        }
        None
    }

    async fn open(
        &self,
        origin: &Origin,
        resolver: &Resolver,
        private: &[IpNet],
        multiplex: bool,
    ) -> Result<Taken, UpstreamError> {
        let _dial = self.bounds.dials.acquire().await.expect("the semaphore is never closed");
        let (stream, address) = dial::tcp(resolver, &origin.host, origin.port, private).await?;
        let cut = self.lifeline.token();
        let stream = Wire::upstream(stream, cut.clone());
        let (io, h2): (Box<dyn Io>, bool) = match origin.scheme {
            enforcer_policy::Scheme::Http => (Box::new(stream), false),
            enforcer_policy::Scheme::Https => {
                let config = if multiplex { &self.either } else { &self.http1 };
                let stream = dial::tls(stream, &origin.host, config.clone()).await?;
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                (Box::new(stream), h2)
            }
        };
        let sender = if h2 {
            let streams =
                Streams::begin(io, cut.clone()).await.map_err(|error| UpstreamError::Begin(error.into()))?;
            self.share(&streams, address);
            Sender::Http2(streams)
        } else {
            let (sender, connection) = http1()
                .handshake(TokioIo::new(io))
                .await
                .map_err(|error| UpstreamError::Begin(error.into()))?;
            drive(connection.with_upgrades(), cut.clone());
            if multiplex {
                self.state().http1_only = true;
            }
            Sender::Http1(sender)
        };
        Ok(Taken { sender, address, reused: false })
    }

    fn keep(&self, sender: http1::SendRequest<Outgoing>, address: SocketAddr) {
        if sender.is_closed() {
            return;
        }
        let mut state = self.state();
        if let Some(_kept) = self.place(&mut state) {
            state.idle.push_back(Waiting { sender, address, since: Instant::now(), _kept });
        }
    }

    /// For requests to come. Without a place for it, it is of the one request alone that it was opened for.
    fn share(&self, streams: &Streams, address: SocketAddr) {
        let mut state = self.state();
        // The one before has ended, and its place is free.
        state.shared = None;
        state.shared = self.place(&mut state).map(|_kept| Shared {
            streams: streams.clone(),
            address,
            used: Instant::now(),
            _kept,
        });
    }

    /// Among the agent's connections that are kept.
    fn place(&self, state: &mut State) -> Option<OwnedSemaphorePermit> {
        let place = || self.bounds.kept.clone().try_acquire_owned().ok();
        place().or_else(|| {
            // The oldest gives its place up. If they are all with other origins, this one is not kept.
            drop(state.idle.pop_front());
            place()
        })
    }

    /// Drops what has waited too long at this moment. False: nothing is left, the pool may go.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let mut state = self.state();
        let waits = |since: Instant| now.saturating_duration_since(since) < IDLE;
        state.idle.retain(|waiting| !waiting.sender.is_closed() && waits(waiting.since));
        // Streams that are open on it come to their end: it ends after the last of them.
        state.shared.take_if(|shared| shared.streams.is_closed() || !waits(shared.used));
        !state.idle.is_empty() || state.shared.is_some()
    }
}

/// How connections of HTTP/1 are opened.
pub(crate) fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_header_size(MAX_RESPONSE_HEAD).max_buf_size(BUFFER);
    builder
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// It provably never began to be written.
    Unsent(Box<Request<Outgoing>>, BoxError),
    Broken(BoxError),
    /// There were too many that are not the answer yet.
    Flooded,
}

impl From<TrySendError<Request<Outgoing>>> for Unanswered {
    fn from(mut error: TrySendError<Request<Outgoing>>) -> Self {
        match error.take_message() {
            Some(request) => Unanswered::Unsent(Box::new(request), error.into_error().into()),
            None => Unanswered::Broken(error.into_error().into()),
        }
    }
}

/// The head of an answer, its body still to come.
pub(super) struct Answered {
    pub(super) response: Response<Received>,
    /// The server agreed to speak something else.
    pub(super) opening: Option<Opening>,
    pub(super) lease: Lease,
}

impl Taken {
    /// Back into the pool, unused.
    fn keep(self, pool: &Pool) {
        if let Sender::Http1(sender) = self.sender {
            pool.keep(sender, self.address);
        }
    }

    /// Sends, and waits for the head of the answer.
    pub(super) async fn send(
        self,
        pool: &Arc<Pool>,
        origin: &Origin,
        mut request: Request<Outgoing>,
        early: &mut Early<'_>,
    ) -> Result<Answered, Unanswered> {
        match self.sender {
            Sender::Http1(mut sender) => {
                let path = request.uri().path_and_query().cloned();
                *request.uri_mut() = path.map_or(Uri::from_static("/"), Uri::from);
                *request.version_mut() = Version::HTTP_11;
                request.headers_mut().insert(header::HOST, origin.authority.clone());
                // RFC 9110, 10.1.4.
                if request.headers().contains_key(header::TE)
                    && !request.headers().contains_key(header::CONNECTION)
                {
                    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("te"));
                }
                let interim = Arc::new(Interim::default());
                let adding = interim.clone();
                hyper::ext::on_informational(&mut request, move |head| {
                    adding.add(head.status(), head.headers());
                });
                let mut sending = pin!(sender.try_send_request(request));
                let mut response = loop {
                    tokio::select! {
                        biased;
                        () = interim.came.notified() => interim.pass(early)?,
                        response = sending.as_mut() => break response?,
                    }
                };
                interim.pass(early)?;
                let opening = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
                    .then(|| Opening::Http1(hyper::upgrade::on(&mut response)));
                let lease = Lease { pool: pool.clone(), sender: Some((sender, self.address)) };
                Ok(Answered { response: response.map(Received::Http1), opening, lease })
            }
            Sender::Http2(streams) => {
                *request.uri_mut() = origin.absolute(request.uri());
                request.headers_mut().remove(header::HOST);
                connects(&mut request);
                let (response, opening) = streams.send(request, early).await?;
                let lease = Lease { pool: pool.clone(), sender: None };
                Ok(Answered { response, opening, lease })
            }
        }
    }
}

/// The handshake of a WebSocket as a stream opens one (RFC 8441, 5). Of an agent's requests no other has `Upgrade` left.
fn connects(request: &mut Request<Outgoing>) {
    if request.headers_mut().remove(header::UPGRADE).is_some() {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        request.headers_mut().remove(header::CONNECTION);
        request.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
    }
}

/// Lets the client's half of hyper run until the pool or the peer lets go of it, or it is cut.
fn drive<F>(connection: F, cut: CancellationToken)
where
    F: Future<Output = Result<(), hyper::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        if let Some(Err(error)) = cut.run_until_cancelled(connection).await {
            tracing::debug!(%error, "an upstream connection ended");
        }
    });
}

impl From<DialError> for UpstreamError {
    fn from(error: DialError) -> Self {
        UpstreamError::Dial(error)
    }
}

impl Origin {
    /// `scheme://authority/path`, from which hyper writes HTTP/2's pseudo-headers.
    fn absolute(&self, path: &Uri) -> Uri {
        let mut parts = path.clone().into_parts();
        parts.scheme = Some(match self.scheme {
            enforcer_policy::Scheme::Http => http::uri::Scheme::HTTP,
            enforcer_policy::Scheme::Https => http::uri::Scheme::HTTPS,
        });
        parts.authority = authority(&self.authority);
        Uri::from_parts(parts).unwrap_or_else(|_error| path.clone())
    }
}

fn authority(value: &HeaderValue) -> Option<http::uri::Authority> {
    http::uri::Authority::try_from(value.as_bytes()).ok()
}
