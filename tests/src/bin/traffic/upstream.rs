//! The server: writes down what reaches it, answers what the id asks for, and now and then resets, delays or fails.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use enforcer_tests::soak::content::{self, ANSWER_TO, Digest, Digesting, EVENTS, PORT, TUNNEL_PORT};
use enforcer_tests::soak::history::{By, Event, Writer};
use enforcer_tests::world::{base64, plan};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::body::Pieces;
use crate::frames;

/// Nobody waits longer for the next byte.
const SILENCE: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(40);

/// What becomes of a request, of a thousand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    /// 503.
    Unavailable,
    /// The connection is reset when the head has been read, before or after the body.
    ResetUnread,
    ResetUnanswered,
    /// In the middle of the answer.
    ResetMidway,
    /// A moment after the answer, just when the connection is used again.
    ResetIdle,
    Slow,
}

const FATES: &[(Fate, u64)] = &[
    (Fate::Unavailable, 10),
    (Fate::ResetUnread, 5),
    (Fate::ResetUnanswered, 5),
    (Fate::ResetMidway, 8),
    (Fate::ResetIdle, 25),
    (Fate::Slow, 10),
];

struct Server {
    history: Writer,
    /// One secret a line, with its number before it.
    accepted: PathBuf,
    known: Mutex<HashMap<String, u64>>,
    rolled: AtomicU64,
}

pub(crate) async fn serve(pki: &Path, dir: &Path) -> Result<()> {
    let server = Arc::new(Server {
        history: Writer::create(&dir.join("upstream"))?,
        accepted: dir.join("accepted"),
        known: Mutex::default(),
        rolled: AtomicU64::new(0),
    });
    let acceptor = TlsAcceptor::from(Arc::new(tls(pki)?));
    let addresses: [IpAddr; 2] = [plan::SHOP_V4.into(), plan::SHOP_V6.into()];
    for address in addresses {
        let (https, tunnel) = (listen(address, PORT).await?, listen(address, TUNNEL_PORT).await?);
        let (secure, plain, acceptor) = (server.clone(), server.clone(), acceptor.clone());
        tokio::spawn(each(https, move |stream| connection(secure.clone(), acceptor.clone(), stream)));
        tokio::spawn(each(tunnel, move |stream| tunnelled(plain.clone(), stream)));
    }
    {
        use std::io::Write;
        let mut out = io::stdout();
        out.write_all(b"ready\n").and_then(|()| out.flush()).context("tell that it listens")?;
    }
    pending().await
}

async fn listen(address: IpAddr, port: u16) -> Result<TcpListener> {
    let at = SocketAddr::new(address, port);
    TcpListener::bind(at).await.with_context(|| format!("listen on {at}"))
}

async fn each<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _from)) => drop(tokio::spawn(serve(stream))),
            // Out of descriptors: those in use end.
            Err(_full) => tokio::time::sleep(PACE).await,
        }
    }
}

fn tls(pki: &Path) -> Result<rustls::ServerConfig> {
    let chain = CertificateDer::pem_file_iter(pki.join("server.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(pki.join("server.key"))?;
    let config = rustls::ServerConfig::builder_with_provider(crate::provider())
        .with_safe_default_protocol_versions()?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves until the end, or until somebody asks for a reset.
async fn resettable(socket: Option<std::os::fd::OwnedFd>, reset: &Notify, serving: impl Future<Output = ()>) {
    tokio::select! {
        () = serving => {}
        () = reset.notified() => {
            // The last descriptor that closes then sends RST.
            if let Some(socket) = &socket {
                let _closed_already = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
            }
        }
    }
}

async fn connection(server: Arc<Server>, acceptor: TlsAcceptor, stream: TcpStream) {
    let socket = stream.as_fd().try_clone_to_owned().ok();
    let reset = Arc::new(Notify::new());
    let told = reset.clone();
    let serving = async move {
        let Ok(Ok(stream)) = tokio::time::timeout(SILENCE, acceptor.accept(stream)).await else { return };
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let service = service_fn(move |request| answer(server.clone(), told.clone(), request));
        let io = TokioIo::new(stream);
        // However it ends: the histories tell.
        let _ended = if http2 {
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .serve_connection(io, service)
                .await
        } else {
            let http1 = http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service);
            http1.with_upgrades().await
        };
    };
    resettable(socket, &reset, serving).await;
}

async fn answer(
    server: Arc<Server>,
    reset: Arc<Notify>,
    mut request: Request<Incoming>,
) -> Result<Response<Pieces>, io::Error> {
    let path = request.uri().path().to_owned();
    let Some((kind, id, size)) = content::named(&path) else {
        let mut nowhere = Response::new(Pieces::default());
        *nowhere.status_mut() = StatusCode::NOT_FOUND;
        return Ok(nowhere);
    };
    let credential = server.credential(request.headers().get(header::AUTHORIZATION));
    server.history.write(id, Event::Head { method: request.method().to_string(), credential })?;
    let fate = server.fate();
    if fate == Fate::ResetUnread {
        return gone(&reset).await;
    }
    if kind == "websocket" && fate != Fate::Unavailable {
        return websocket(server, id.to_owned(), fate, request);
    }
    let mut digesting = Digesting::default();
    while let Some(frame) = request.body_mut().frame().await {
        if let Some(data) = frame.map_err(io::Error::other)?.data_ref() {
            digesting.add(data);
        }
    }
    // What a WebSocket would have sent comes after its handshake.
    if kind != "websocket" {
        server.history.write(id, Event::Body { digest: digesting.end() })?;
    }
    match fate {
        Fate::ResetUnanswered => return gone(&reset).await,
        Fate::Slow => tokio::time::sleep(Duration::from_millis(200 + 40 * server.roll(30))).await,
        _ => {}
    }
    let events = || (0..EVENTS).map(|number| content::event(id, number).into_bytes());
    let (status, bytes) = match (fate, kind) {
        (Fate::Unavailable, _) => (StatusCode::SERVICE_UNAVAILABLE, content::bytes(&format!("no-{id}"), 100)),
        (_, "events") => (StatusCode::OK, events().flatten().collect()),
        _ => (StatusCode::OK, content::bytes(id, size)),
    };
    let digest = Digest::of(&bytes);
    server.history.write(id, Event::Answered { status: status.as_u16(), by: By::Upstream, digest })?;
    let body = match kind {
        "events" if status == StatusCode::OK => Pieces::paced(events(), PACE),
        _ => Pieces::new(bytes).unsized_if(server.roll(2) == 0),
    };
    let body = match fate {
        Fate::ResetMidway => body.stops_midway(reset),
        Fate::ResetIdle => body.then(server.soon(reset)),
        _ => body,
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(ANSWER_TO, named(id)?);
    if kind == "events" {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    }
    Ok(response)
}

fn named(id: &str) -> io::Result<HeaderValue> {
    HeaderValue::from_str(id).map_err(io::Error::other)
}

async fn gone<T>(reset: &Notify) -> T {
    reset.notify_one();
    pending().await
}

fn websocket(
    server: Arc<Server>,
    id: String,
    fate: Fate,
    mut request: Request<Incoming>,
) -> Result<Response<Pieces>, io::Error> {
    let mut response = Response::new(Pieces::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    let proof = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let proof = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &proof);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, named(&base64(proof.as_ref()))?);
    headers.insert(ANSWER_TO, named(&id)?);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        // However it ends: the histories tell.
        let _ended = tokio::time::timeout(SILENCE, echo(&server, &id, fate, TokioIo::new(upgraded))).await;
    });
    Ok(response)
}

/// Sends every text back, until one of the sides has had enough.
async fn echo(
    server: &Server,
    id: &str,
    fate: Fate,
    mut stream: TokioIo<hyper::upgrade::Upgraded>,
) -> io::Result<()> {
    let (mut digesting, mut texts) = (Digesting::default(), 0);
    loop {
        let (kind, payload) = frames::read(&mut stream, false).await?;
        if kind == frames::CLOSE {
            if texts < content::TEXTS {
                return Ok(());
            }
            let digest = digesting.end();
            server.history.write(id, Event::Body { digest })?;
            server.history.write(id, Event::Answered { status: 101, by: By::Upstream, digest })?;
            return frames::write(&mut stream, frames::CLOSE, &frames::NORMAL, false).await;
        }
        digesting.add(&payload);
        texts += 1;
        if texts == content::TEXTS / 2 && matches!(fate, Fate::ResetMidway | Fate::ResetUnanswered) {
            // The connection is this task's own by now: without a Close it breaks off.
            return Ok(());
        }
        frames::write(&mut stream, kind, &payload, false).await?;
    }
}

/// What is relayed unread: a line with the id and the size, that many bytes, and an answer of the same size.
async fn tunnelled(server: Arc<Server>, stream: TcpStream) {
    let socket = stream.as_fd().try_clone_to_owned().ok();
    let reset = Notify::new();
    let serving = async {
        // However it ends: the histories tell.
        let _ended = tokio::time::timeout(SILENCE, relayed(&server, &reset, stream)).await;
    };
    resettable(socket, &reset, serving).await;
}

async fn relayed(server: &Server, reset: &Notify, stream: TcpStream) -> io::Result<()> {
    let (mut stream, mut line) = (BufReader::new(stream), String::new());
    stream.read_line(&mut line).await?;
    let (id, size) = line.trim_end().split_once(' ').ok_or_else(|| io::Error::other("no id"))?;
    let mut body = vec![0; size.parse().map_err(io::Error::other)?];
    server.history.write(id, Event::Head { method: "TUNNEL".to_owned(), credential: None })?;
    let fate = server.fate();
    if fate == Fate::ResetUnread {
        return gone(reset).await;
    }
    stream.read_exact(&mut body).await?;
    server.history.write(id, Event::Body { digest: Digest::of(&body) })?;
    if fate == Fate::ResetUnanswered {
        return gone(reset).await;
    }
    let bytes = content::bytes(id, body.len());
    let (status, digest) = (StatusCode::OK.as_u16(), Digest::of(&bytes));
    server.history.write(id, Event::Answered { status, by: By::Upstream, digest })?;
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    stream.write_all(half).await?;
    if fate == Fate::ResetMidway {
        return gone(reset).await;
    }
    stream.write_all(rest).await?;
    stream.shutdown().await
}

impl Server {
    /// The number of the secret, if it is one that was ever accepted.
    fn credential(&self, authorization: Option<&HeaderValue>) -> Option<u64> {
        let value = authorization?.to_str().ok()?.strip_prefix("Bearer ")?;
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        if !known.contains_key(value) {
            let text = std::fs::read_to_string(&self.accepted).unwrap_or_default();
            let numbered = text.lines().filter_map(|line| line.split_once(' '));
            known.extend(numbered.filter_map(|(n, value)| Some((value.to_owned(), n.parse().ok()?))));
        }
        known.get(value).copied()
    }

    /// Evenly one of the numbers below `bound`; the same ones in each run.
    fn roll(&self, bound: u64) -> u64 {
        content::mix(self.rolled.fetch_add(1, Ordering::Relaxed)) % bound
    }

    fn fate(&self) -> Fate {
        let mut roll = self.roll(1000);
        for (fate, share) in FATES {
            match roll.checked_sub(*share) {
                Some(left) => roll = left,
                None => return *fate,
            }
        }
        Fate::Well
    }

    /// What is told of the end of an answer, and tells on in a moment.
    fn soon(&self, reset: Arc<Notify>) -> Arc<Notify> {
        let (finished, wait) = (Arc::new(Notify::new()), Duration::from_micros(self.roll(6000)));
        let told = finished.clone();
        tokio::spawn(async move {
            told.notified().await;
            tokio::time::sleep(wait).await;
            reset.notify_one();
        });
        finished
    }
}
