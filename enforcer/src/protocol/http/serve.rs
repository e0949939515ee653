//! Serves HTTP on one connection, with every limit and timer set from the start.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1 as h1, http2 as h2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use super::exchange::exchange;
use super::watch::{Activity, Watched};
use crate::gate::{Asked, Code};
use crate::proxy::{Alpn, Connection, Stream};

/// `strict` counts them in HTTP/1; `canonical` in both.
pub(super) const MAX_HEADERS: usize = 100;
pub(super) const MAX_HEAD: usize = 32 * 1024;
const MAX_STREAMS: u32 = 100;
/// Half of these halves the rate of large bodies.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The same for HTTP/2, which counts 32 bytes more for each field (RFC 9113, 6.5.2).
const MAX_HEADER_LIST: u32 = (MAX_HEAD + 32 * MAX_HEADERS) as u32;
/// An HTTP/2 peer that does not answer a ping is gone.
const PING: Duration = Duration::from_secs(30);
/// Streams reset before they were served (rapid reset, CVE-2023-44487).
const MAX_RESETS: usize = 20;

pub async fn http1(stream: Stream, connection: Connection) {
    if let Some(asked) = misnegotiated(&connection, Alpn::Http11) {
        let reason = "HTTP/1 on a connection that agreed on h2".to_owned();
        connection.shared.gate.turn_away(&connection.caller, &asked, Code::BadRequest, reason).await;
        return;
    }
    let activity = Activity::default();
    let io = TokioIo::new(Watched::http1(stream, activity.clone()));
    let connection = Arc::new(connection);
    let service = service(connection.clone(), activity);
    let mut builder = h1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `Watched` has the clock for heads; hyper's would count idle time as well.
        .header_read_timeout(None)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .half_close(false)
        .keep_alive(true);
    let mut serving = pin!(builder.serve_connection(io, service).with_upgrades());
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = connection.shared.shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    note(ended, &connection).await;
}

pub async fn http2(stream: Stream, connection: Connection) {
    if let Some(asked) = misnegotiated(&connection, Alpn::H2) {
        let reason = "HTTP/2 on a connection that agreed on http/1.1".to_owned();
        connection.shared.gate.turn_away(&connection.caller, &asked, Code::BadRequest, reason).await;
        return;
    }
    let activity = Activity::default();
    let io = TokioIo::new(Watched::http2(stream, activity.clone()));
    let connection = Arc::new(connection);
    // The streams' tasks end with the connection, whatever ends it.
    let gone = connection.ended.child_token();
    let _end_streams = gone.clone().drop_guard();
    let service = service(connection.clone(), activity);
    let mut builder = h2::Builder::new(Streams(gone));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .enable_connect_protocol()
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let mut serving = pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = connection.shared.shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    note(ended, &connection).await;
}

/// ALPN settled the protocol; anything else on the wire is meant for another reader.
fn misnegotiated(connection: &Connection, spoken: Alpn) -> Option<Asked> {
    let agreed = connection.tls.as_ref()?.alpn?;
    (agreed != spoken).then(|| Asked::connect(connection.destination.0))
}

type Answering =
    std::pin::Pin<Box<dyn Future<Output = Result<http::Response<super::answer::Reply>, Infallible>> + Send>>;

fn service(
    connection: Arc<Connection>,
    activity: Activity,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = http::Response<super::answer::Reply>,
    Error = Infallible,
    Future = Answering,
> {
    service_fn(move |request| -> Answering {
        let (connection, in_flight) = (connection.clone(), activity.begin());
        Box::pin(async move { Ok(exchange(request, connection, in_flight).await) })
    })
}

/// What hyper refused by itself (and answered with 400 or 431) is recorded here.
async fn note(ended: Result<(), hyper::Error>, connection: &Connection) {
    let Err(error) = ended else { return };
    if !error.is_parse() {
        tracing::debug!(%error, "an agent's connection ended");
        return;
    }
    let code = if error.is_parse_too_large() { Code::HeadersTooLarge } else { Code::BadRequest };
    let reason = format!("the request is not well-formed HTTP: {error}");
    connection.shared.gate.turn_away(&connection.caller, &unread(connection), code, reason).await;
}

/// A request of which nothing could be read.
pub(super) fn unread(connection: &Connection) -> Asked {
    match &connection.tls {
        None => Asked { protocol: "http", ..Asked::connect(connection.destination.0) },
        Some(tls) => Asked {
            protocol: "https",
            host: Some(tls.host.to_string()),
            ..Asked::connect(connection.destination.0)
        },
    }
}

/// Runs HTTP/2 streams until their connection is gone.
#[derive(Clone)]
struct Streams(CancellationToken);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let gone = self.0.clone();
        tokio::spawn(async move { gone.run_until_cancelled(stream).await });
    }
}
