//! Serves HTTP/1 on one connection, with every limit and timer set from the start.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1 as h1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::exchange::{Lent, exchange};
use super::strict::head::{MAX_HEAD, MAX_HEADERS};
use super::watch::{Activity, Watched};
use crate::gate::{Asked, Code};
use crate::proxy::opening::Opening;
use crate::proxy::received::Received;
use crate::proxy::{Alpn, BUFFER, Connection, Stream};

pub async fn http1(stream: Stream, connection: Connection) {
    if let Some(asked) = misnegotiated(&connection, Alpn::Http11) {
        let reason = "HTTP/1 on a connection that agreed on h2".to_owned();
        connection.shared.gate.turn_away(&connection.caller, &asked, Code::BadRequest, reason).await;
        return;
    }
    let activity = Activity::default();
    let io = TokioIo::new(Watched::http1(stream, activity.clone(), connection.tls.is_none()));
    let connection = Arc::new(connection);
    let service = service(connection.clone(), activity);
    let mut serving = pin!(builder().serve_connection(io, service).with_upgrades());
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = connection.shared.shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    note(ended, &connection).await;
}

/// How agents' connections are served.
pub(in crate::protocol) fn builder() -> h1::Builder {
    let mut builder = h1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `Watched` has the clock for heads; hyper's would count idle time as well.
        .header_read_timeout(None)
        .max_header_size(MAX_HEAD)
        .max_buf_size(BUFFER)
        .max_headers(MAX_HEADERS)
        .half_close(false)
        .keep_alive(true);
    builder
}

/// ALPN settled the protocol; anything else on the wire is meant for another reader.
pub(super) fn misnegotiated(connection: &Connection, spoken: Alpn) -> Option<Asked> {
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
    service_fn(move |mut request: Request<Incoming>| -> Answering {
        let (connection, activity, in_flight) = (connection.clone(), activity.clone(), activity.begin());
        Box::pin(async move {
            let opening = request.extensions_mut().remove::<OnUpgrade>().map(Opening::Http1);
            let early = |head: http::Response<()>| activity.hint(&head);
            let lent = Lent { opening, early: &early };
            let reply = exchange(request.map(Received::Http1), connection, in_flight, lent).await;
            activity.answers();
            Ok(reply)
        })
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
