//! One HTTP/2 connection to an origin, which requests share.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use tokio_util::sync::CancellationToken;

use super::body::Outgoing;
use super::http2::{Duplex, Sending};
use super::interim::{Early, Interim};
use super::opening::Opening;
use super::pool::{MAX_RESPONSE_HEAD, Unanswered};
use super::received::Received;
use super::stream::Io;

/// As on the agent's side: windows smaller than this halve the bulk rate.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// For a server to send its settings, which are the first that it sends.
const SETTINGS: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Streams {
    sender: SendRequest<Bytes>,
    /// `None`: the server's settings are known.
    unsettled: Arc<tokio::sync::Mutex<Option<PingPong>>>,
}

impl Streams {
    /// The connection lives until nobody holds it any more, or it is cut. Whether its server is there is TCP's to find out: a server may
    /// take pings on a stream that is quiet for abuse, as gRPC's do.
    pub(super) async fn begin(io: Box<dyn Io>, cut: CancellationToken) -> Result<Self, h2::Error> {
        let (sender, mut connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_RESPONSE_HEAD as u32)
            .enable_push(false)
            .handshake(io)
            .await?;
        let unsettled = Arc::new(tokio::sync::Mutex::new(connection.ping_pong()));
        tokio::spawn(async move {
            if let Some(Err(error)) = cut.run_until_cancelled(connection).await {
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
        Ok(Streams { sender, unsettled })
    }

    /// No request can be begun on it: it has ended, or its server has said that it will (GOAWAY).
    pub(super) fn is_closed(&self) -> bool {
        let ready = self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Err(_)))
    }

    /// Does the server open WebSockets on streams (RFC 8441)? Its settings say, which come before the answer to a ping.
    pub(super) async fn opens_websockets(&self) -> bool {
        let mut unsettled = self.unsettled.lock().await;
        if let Some(pings) = unsettled.as_mut() {
            let answered = async {
                // It fails where one is under way, whose answer does as well.
                drop(pings.send_ping(Ping::opaque()));
                poll_fn(|cx| pings.poll_pong(cx)).await
            };
            match tokio::time::timeout(SETTINGS, answered).await {
                Ok(Ok(_pong)) => *unsettled = None,
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// Sends, and waits for the head of the answer. The request has an absolute target.
    pub(super) async fn send(
        self,
        request: Request<Outgoing>,
        early: &mut Early<'_>,
    ) -> Result<(Response<Received>, Option<Opening>), Unanswered> {
        let unsent = |request, error: h2::Error| Unanswered::Unsent(Box::new(request), error.into());
        let mut sender = match self.sender.ready().await {
            Ok(sender) => sender,
            Err(error) => return Err(unsent(request, error)),
        };
        let (mut head, body) = request.into_parts();
        head.version = Version::HTTP_2;
        let opens = head.method == Method::CONNECT;
        let ends = body.is_end_stream() && !opens;
        length(&mut head.headers, &head.method, &body);
        let (mut answer, stream) = sender
            .send_request(Request::from_parts(head, ()), ends)
            .map_err(|error| Unanswered::Broken(error.into()))?;
        let (sending, stream) = match (ends, opens) {
            (false, true) => (None, Some(stream)),
            (true, _) => (None, None),
            (false, false) => (Sending::begin(body, stream).await, None),
        };
        let response = answered(&mut answer, early).await?;
        let (head, received) = response.into_parts();
        match stream {
            Some(stream) if head.status == StatusCode::OK => {
                let opening = Opening::Open(Duplex::new(stream, received));
                Ok((Response::from_parts(head, Received::Nothing), Some(opening)))
            }
            _ => {
                let body = Received::answer(&head.headers, received, sending);
                Ok((Response::from_parts(head, body), None))
            }
        }
    }
}

/// A body of known length says so, as it does in HTTP/1.
fn length(headers: &mut HeaderMap, method: &Method, body: &Outgoing) {
    let bodiless = matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT);
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0 || !bodiless) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

async fn answered(
    answer: &mut ResponseFuture,
    early: &mut Early<'_>,
) -> Result<Response<h2::RecvStream>, Unanswered> {
    let interim = Interim::default();
    let broken = |error: h2::Error| Unanswered::Broken(error.into());
    while let Some(head) = poll_fn(|cx| answer.poll_informational(cx)).await {
        let head = head.map_err(broken)?;
        interim.add(head.status(), head.headers());
        interim.pass(early)?;
    }
    answer.await.map_err(broken)
}
