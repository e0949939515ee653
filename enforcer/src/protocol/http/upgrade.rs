//! The handshake of a WebSocket, over HTTP/1 or HTTP/2, checked on both sides; its frames are `websocket`'s.
//!
//! Extensions are not offered upstream, so no compressed frame hides an echo. Any other upgrade is
//! ignored, as HTTP allows.

use std::sync::Arc;

use bytes::Bytes;
use h2::ext::Protocol;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body_util::{Empty, Full};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::answer::{Record, Reply};
use super::headers;
use super::watch::InFlight;
use super::websocket::Relay;
use super::websocket::frame::code;
use crate::proxy::Connection;
use crate::proxy::opening::Opening;
use crate::proxy::received::Received;
use crate::proxy::upstream::Carriage;
use crate::redact::{self, Needles};
use crate::secret::encode::base64_padded;

/// RFC 6455, 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A well-formed wish for a WebSocket.
pub struct Wanted {
    agent: Opening,
    over: Over,
    /// `Sec-WebSocket-Key`, for the server.
    key: String,
}

/// What the agent speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Http1,
    /// An extended CONNECT (RFC 8441), without key and accept.
    Http2,
}

/// Takes the wish out of the head; `None`: there is none, or none that is valid. What was an extended CONNECT
/// is a GET from here on, as over HTTP/1: rules, receipts and servers know it as that.
pub fn wanted(parts: &mut Parts, opening: Option<Opening>) -> Option<Wanted> {
    let headers = &parts.headers;
    let one = |name: header::HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
    };
    let version = one(header::SEC_WEBSOCKET_VERSION) == Some("13");
    let bare =
        !headers.contains_key(header::CONTENT_LENGTH) && !headers.contains_key(header::TRANSFER_ENCODING);
    if !(version && bare) {
        return None;
    }
    let (over, key) = match (parts.version, &parts.method) {
        (Version::HTTP_11, &Method::GET) => {
            let upgrades = one(header::UPGRADE).is_some_and(|to| to.trim().eq_ignore_ascii_case("websocket"));
            let connected = headers
                .get_all(header::CONNECTION)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .any(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade")));
            // 16 bytes in base64.
            let key = one(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24 && key.ends_with("=="));
            (Over::Http1, key.filter(|_| upgrades && connected)?.to_owned())
        }
        (Version::HTTP_2, &Method::CONNECT) => {
            let protocol = parts.extensions.get::<Protocol>()?;
            (Over::Http2, (protocol.as_str() == "websocket").then(fresh_key)??)
        }
        _ => return None,
    };
    let agent = opening?;
    parts.method = Method::GET;
    Some(Wanted { agent, over, key })
}

fn fresh_key() -> Option<String> {
    let mut key = [0; 16];
    SystemRandom::new().fill(&mut key).ok()?;
    Some(String::from_utf8_lossy(&base64_padded(&key)).into_owned())
}

pub(crate) fn accept_of(key: &str) -> String {
    let digest =
        ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    String::from_utf8_lossy(&base64_padded(digest.as_ref())).into_owned()
}

impl Wanted {
    /// By a server over HTTP/1.
    fn is_accepted(&self, headers: &HeaderMap) -> bool {
        let upgrade = headers.get(header::UPGRADE);
        let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT);
        upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
            && accept.is_some_and(|accept| accept.as_bytes() == accept_of(&self.key).as_bytes())
    }

    pub fn carriage(&self) -> Carriage {
        match self.over {
            Over::Http1 => Carriage::Upgrade,
            Over::Http2 => Carriage::Connect,
        }
    }

    /// Into the cleaned head; the other fields of the handshake have stayed in it.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Ok(key) = HeaderValue::try_from(&self.key) {
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
        headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        upgrades(headers);
    }
}

fn upgrades(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// What serves the WebSocket once it is open.
pub struct Open {
    pub connection: Arc<Connection>,
    pub relay: Relay,
}

/// Checks the server's half of the handshake and starts the relay. The answer is for the agent.
#[allow(clippy::result_large_err, reason = "the error hands the record back to be finished; it is rare")]
pub fn accept(
    wanted: Wanted,
    response: &Response<Received>,
    upstream: Opening,
    needles: Arc<Needles>,
    open: Open,
    record: Record,
    in_flight: InFlight,
) -> Result<Response<Reply>, (Record, InFlight, String)> {
    let headers = response.headers();
    // A stream is open with its answer; RFC 8441 has no key.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !wanted.is_accepted(headers) {
        let why = "the server's WebSocket handshake does not match the request";
        return Err((record, in_flight, why.into()));
    }
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err((record, in_flight, "the server uses WebSocket extensions it was not offered".into()));
    }
    let mut answer = Response::new(());
    *answer.headers_mut() = response.headers().clone();
    headers::clean_response(answer.headers_mut());
    let (mut head, ()) = answer.into_parts();
    if let Err(error) = redact::scrub(&mut head, Empty::<Bytes>::new(), needles, None) {
        return Err((record, in_flight, error.to_string()));
    }
    let (until_answered, until_ended) = match wanted.over {
        Over::Http1 => {
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            upgrades(&mut head.headers);
            in_flight.opens();
            (Some(in_flight), None)
        }
        Over::Http2 => {
            head.status = StatusCode::OK;
            head.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            // A stream like others: its connection is in use, and it has a place among the agent's requests.
            (None, Some(in_flight))
        }
    };
    tokio::spawn(async move {
        run(wanted.agent, upstream, open, record).await;
        drop(until_ended);
    });
    Ok(Response::from_parts(head, Reply::Text(Full::default(), until_answered)))
}

async fn run(agent: Opening, upstream: Opening, open: Open, mut record: Record) {
    let Open { connection, mut relay } = open;
    let upgraded = async { tokio::try_join!(agent.opened(), upstream.opened()) };
    let (mut agent, mut upstream) = match connection.ended.run_until_cancelled(upgraded).await {
        Some(Ok(both)) => both,
        Some(Err(error)) => {
            return record.finish("upstream_failed", Some(format!("the upgrade failed: {error}")));
        }
        None => return record.finish("cancelled", None),
    };
    let cutoff = record.cutoff();
    let (end, error, farewell) = tokio::select! {
        relayed = relay.run(&mut agent, &mut upstream) => match relayed {
            Ok(()) => ("done", None, None),
            Err(stopped) => (stopped.end(), Some(stopped.to_string()), Some(stopped.code())),
        },
        cause = cutoff.happens() => ("cut", Some(cause.text()), None),
        // The session is gone, or the connection was cut.
        () = connection.ended.cancelled() => ("cancelled", None, None),
        () = connection.shared.shutdown.cancelled() => {
            ("cancelled", Some("the enforcer is stopping".to_owned()), Some(code::GOING_AWAY))
        }
    };
    let (up, down) = relay.bytes();
    record.relayed(up, down);
    if let Some(code) = farewell {
        let reason = format!("enforcer: {}", error.as_deref().unwrap_or_default());
        tokio::select! {
            () = relay.close(agent, upstream, code, &reason) => {}
            _cause = cutoff.happens() => {}
            () = connection.ended.cancelled() => {}
        }
    }
    record.finish(end, error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_the_one_of_the_rfc() {
        // RFC 6455, 1.3.
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
