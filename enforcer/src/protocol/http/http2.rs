//! Serves HTTP/2 on one connection, with every limit and timer set from the start. Frames and windows are the library's; what a
//! request becomes is [`exchange`]'s.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use tokio::sync::oneshot;

use super::answer::Reply;
use super::exchange::{Lent, exchange};
use super::serve::misnegotiated;
use super::strict::head::{MAX_HEAD, MAX_HEADERS};
use super::watch::{Activity, Watched};
use crate::gate::Code;
use crate::proxy::http2::{Duplex, KeepAlive, send};
use crate::proxy::opening::Opening;
use crate::proxy::received::Received;
use crate::proxy::{Alpn, Connection, Stream};

const MAX_STREAMS: u32 = 100;
/// Half of these halves the rate of large bodies.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// As for HTTP/1, but HTTP/2 counts 32 bytes more for each field (RFC 9113, 6.5.2).
const MAX_HEADER_LIST: u32 = (MAX_HEAD + 32 * MAX_HEADERS) as u32;
/// A peer that does not answer a ping is gone.
const PING: Duration = Duration::from_secs(30);
/// Streams reset before they were served (rapid reset, CVE-2023-44487).
const MAX_RESETS: usize = 20;
/// Of answers that wait for their stream's window.
const SEND_BUFFER: usize = 400 * 1024;

pub(super) async fn serve(stream: Stream, connection: Connection) {
    if let Some(asked) = misnegotiated(&connection, Alpn::H2) {
        let reason = "HTTP/2 on a connection that agreed on http/1.1".to_owned();
        connection.shared.gate.turn_away(&connection.caller, &asked, Code::BadRequest, reason).await;
        return;
    }
    let activity = Activity::default();
    let io = Watched::http2(stream, activity.clone());
    if let Err(error) = streams(io, activity, Arc::new(connection)).await {
        tracing::debug!(%error, "an agent's connection ended");
    }
}

async fn streams(io: Watched, activity: Activity, connection: Arc<Connection>) -> Result<(), h2::Error> {
    // The streams' tasks end with the connection, whatever ends it.
    let gone = connection.ended.child_token();
    let _end_streams = gone.clone().drop_guard();
    let mut serving = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(io)
        .await?;
    let mut peer = KeepAlive::new(serving.ping_pong(), PING);
    let mut stopping = pin!(connection.shared.shutdown.cancelled());
    let mut stops = false;
    loop {
        let accepted = poll_fn(|cx| {
            if !stops && stopping.as_mut().poll(cx).is_ready() {
                stops = true;
                serving.graceful_shutdown();
            }
            match peer.poll_gone(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => serving.poll_accept(cx),
            }
        });
        let Some(accepted) = accepted.await else { return Ok(()) };
        let (request, respond) = accepted?;
        let (gone, stream) = (gone.clone(), answer(request, respond, connection.clone(), activity.clone()));
        tokio::spawn(async move { gone.run_until_cancelled(stream).await });
    }
}

/// One stream to its end.
async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: Arc<Connection>,
    activity: Activity,
) {
    let in_flight = activity.begin();
    let (request, opens) = opened(request);
    let (opening, opens) = opens.unzip();
    let hints = Mutex::new(Vec::new());
    let early = |head| hints.lock().unwrap_or_else(|e| e.into_inner()).push(head);
    let response = {
        let lent = Lent { opening, early: &early };
        let mut exchange = pin!(exchange(request, connection, in_flight, lent));
        poll_fn(|cx| {
            let answered = exchange.as_mut().poll(cx);
            for hint in hints.lock().unwrap_or_else(|e| e.into_inner()).drain(..) {
                if let Err(error) = respond.send_informational(hint) {
                    tracing::debug!(%error, "an informational answer was not passed on");
                }
            }
            match answered {
                Poll::Ready(response) => Poll::Ready(Ok(response)),
                // The agent has lost interest: all of the request is dropped.
                Poll::Pending => Poll::Ready(Err(ready!(respond.poll_reset(cx)))),
            }
        })
        .await
    };
    let (head, body) = match response {
        Ok(response) => response.into_parts(),
        Err(reset) => return tracing::debug!(?reset, "an agent reset its stream"),
    };
    let head = dated(Response::from_parts(head, ()), &body);
    let opens = opens.filter(|_| head.status() == StatusCode::OK);
    let ends = opens.is_none() && body.is_end_stream();
    let stream = match respond.send_response(head, ends) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "an answer was not sent");
            return respond.send_reset(Reason::INTERNAL_ERROR);
        }
    };
    match opens {
        // Nobody waits for it any more where that fails.
        Some((told, receive)) => drop(told.send(Duplex::new(stream, receive))),
        None if ends => {}
        None => send(body, stream, Reason::INTERNAL_ERROR).await,
    }
}

/// Tells what opened a stream, and the half that the agent sends on.
type Opens = (oneshot::Sender<Duplex>, RecvStream);

/// A CONNECT has no body: its stream may become something else.
fn opened(request: Request<RecvStream>) -> (Request<Received>, Option<(Opening, Opens)>) {
    let (head, stream) = request.into_parts();
    if head.method == Method::CONNECT {
        let (told, open) = oneshot::channel();
        let opens = (Opening::Http2(open), (told, stream));
        return (Request::from_parts(head, Received::Nothing), Some(opens));
    }
    let body = Received::http2(&head.headers, stream);
    (Request::from_parts(head, body), None)
}

/// With the length, where it is known and there is one, and a date (RFC 9110, 6.6.1).
fn dated(mut head: Response<()>, body: &Reply) -> Response<()> {
    let headers = head.headers_mut();
    if !headers.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        headers.insert(header::DATE, date);
    }
    if !body.is_end_stream()
        && !headers.contains_key(header::CONTENT_LENGTH)
        && let Some(length) = body.size_hint().exact()
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    head
}
