//! The enforcer's stack at its smallest: one thread of tokio, hyper and rustls, a leaf for each name, four rules with a token bucket, a
//! header put in, a pool. No product: the bar that the daemon must stay near.
//!
//! `mini LISTEN UPSTREAM ROOTS BEARER`: every name leads to the one upstream address.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Instant;

use anyhow::{Context as _, Result};
use enforcer_peers::leaf::Leaves;
use enforcer_peers::{Bytes, roots};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

struct Mini {
    upstream: SocketAddr,
    connector: TlsConnector,
    bearer: HeaderValue,
    bucket: Mutex<(f64, Instant)>,
    /// By name; the one that came back last goes first.
    idle: Mutex<HashMap<String, Vec<SendRequest<Incoming>>>>,
}

/// Method, path and verdict; the first that fits decides, and nothing else is let through.
const RULES: [(Option<Method>, &str, bool); 4] = [
    (Some(Method::DELETE), "/", false),
    (None, "/admin/", false),
    (Some(Method::PATCH), "/", false),
    (None, "/", true),
];
/// More than any load asks, per second and at once: the bucket is there to be asked.
const RATE: f64 = 1e6;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, authority, bearer] =
        words.try_into().ok().context("mini LISTEN UPSTREAM ROOTS BEARER")?;
    let client = ClientConfig::builder().with_root_certificates(roots(&authority)?).with_no_client_auth();
    let mut server =
        ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(Leaves::new()?));
    server.ticketer = rustls::crypto::ring::Ticketer::new()?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mini = Arc::new(Mini {
        upstream: upstream.parse()?,
        connector: TlsConnector::from(Arc::new(client)),
        bearer: HeaderValue::try_from(format!("Bearer {bearer}"))?,
        bucket: Mutex::new((RATE, Instant::now())),
        idle: Mutex::default(),
    });
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(server)), TcpListener::bind(&listen).await?);
    loop {
        let (socket, _) = listener.accept().await?;
        let (mini, acceptor) = (mini.clone(), acceptor.clone());
        // What ends badly ends alone; the generator counts it.
        tokio::spawn(async move { serve(mini, acceptor, socket).await.ok() });
    }
}

async fn serve(mini: Arc<Mini>, acceptor: TlsAcceptor, socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let tls = acceptor.accept(socket).await?;
    let name = tls.get_ref().1.server_name().context("no server name")?.to_owned();
    let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let (mini, name) = (mini.clone(), name.clone());
        async move {
            Ok::<_, std::convert::Infallible>(
                mini.answer(name, request).await.unwrap_or_else(|_| plain(StatusCode::BAD_GATEWAY)),
            )
        }
    });
    if h2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(256);
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
        builder.serve_connection(TokioIo::new(tls), service).await?;
    } else {
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tls), service).await?;
    }
    Ok(())
}

impl Mini {
    async fn answer(
        self: &Arc<Self>,
        name: String,
        mut request: Request<Incoming>,
    ) -> Result<Response<Pooled>> {
        let path = request.uri().path();
        let fits = |rule: &&(Option<Method>, &str, bool)| {
            rule.0.as_ref().is_none_or(|method| method == request.method()) && path.starts_with(rule.1)
        };
        if !RULES.iter().find(fits).is_some_and(|rule| rule.2) || !self.take() {
            return Ok(plain(StatusCode::FORBIDDEN));
        }
        request.headers_mut().insert(AUTHORIZATION, self.bearer.clone());
        if let Some(authority) = request.uri().authority() {
            let host = HeaderValue::try_from(authority.as_str())?;
            request.headers_mut().insert(HOST, host);
            *request.uri_mut() = Uri::builder()
                .path_and_query(request.uri().path_and_query().context("no path")?.clone())
                .build()?;
        }
        *request.version_mut() = Version::HTTP_11;
        let mut sender = self.sender(&name).await?;
        let response = sender.send_request(request).await?;
        let back = Some((self.clone(), name, sender));
        Ok(response.map(|body| Pooled { body: Some(body), back }))
    }

    fn take(&self) -> bool {
        let (mut bucket, now) = (lock(&self.bucket), Instant::now());
        let filled = bucket.0 + now.duration_since(bucket.1).as_secs_f64() * RATE;
        *bucket = (filled.min(RATE) - 1.0, now);
        bucket.0 >= 0.0
    }

    async fn sender(&self, name: &str) -> Result<SendRequest<Incoming>> {
        loop {
            let waiting = lock(&self.idle).get_mut(name).and_then(Vec::pop);
            let Some(mut sender) = waiting else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let socket = TcpStream::connect(self.upstream).await?;
        socket.set_nodelay(true)?;
        let tls = self.connector.connect(ServerName::try_from(name.to_owned())?, socket).await?;
        let (sender, connection) = handshake(TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// A body whose end gives the connection that it came on back.
struct Pooled {
    body: Option<Incoming>,
    back: Option<(Arc<Mini>, String, SendRequest<Incoming>)>,
}

impl Body for Pooled {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        drop(self.body.take());
        if let Some((mini, name, sender)) = self.back.take().filter(|(_, _, sender)| !sender.is_closed()) {
            lock(&mini.idle).entry(name).or_default().push(sender);
        }
    }
}

fn plain(status: StatusCode) -> Response<Pooled> {
    let mut response = Response::new(Pooled { body: None, back: None });
    *response.status_mut() = status;
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}
