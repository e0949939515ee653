//! Terminates TLS for hosts the policy can reach, then looks again at what is inside.
//!
//! What a rule passes through (`tls: passthrough`) is relayed as it came, by the server name in its
//! hello. Nothing falls back to that: a client that does not take our certificate gets no connection.

mod hello;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use enforcer_policy::{Endpoint, Host, Relay, Route, Scheme};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use crate::gate::{Asked, Code};
use crate::proxy::stream::writes_to;
use crate::proxy::wire::Wire;
use crate::proxy::{Alpn, Begins, Connection, Protocol, Serving, Stream, Terminated, sniff, tunnel};
use crate::tls::distrust::Sign;

/// For the whole handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// One TLS record holds at most 16 KiB (RFC 8446, 5.1); a ClientHello that needs more is refused.
const MAX_CLIENT_HELLO: usize = 16 * 1024 + 5;

pub struct Tls;

impl Protocol for Tls {
    fn name(&self) -> &'static str {
        "tls"
    }

    /// A handshake record of TLS 1.0 to 1.3 (all are written as version 3.x).
    fn begins(&self, first: &[u8]) -> Begins {
        match first {
            [0x16, 3, 0..=4, ..] => Begins::Yes,
            [] | [0x16] | [0x16, 3] => Begins::Unsure,
            _ => Begins::No,
        }
    }

    fn serve(&self, stream: Stream, connection: Connection) -> Serving {
        Box::pin(terminate(stream, connection))
    }
}

/// Why a handshake was not finished.
#[derive(Debug)]
struct Failed {
    code: Code,
    host: Option<String>,
    reason: String,
    /// The client does not take our certificate.
    distrusts: Option<Sign>,
}

async fn terminate(stream: Stream, mut connection: Connection) {
    match handshake(stream, &connection).await {
        Ok(Greeted::Terminated(stream, terminated)) => {
            connection.tls = Some(terminated);
            sniff::dispatch(Box::new(*stream), connection).await;
        }
        Ok(Greeted::PassedThrough(wire, hello, endpoint)) => {
            if let Err(refusal) = tunnel::carry(wire, hello, endpoint, &connection).await {
                tracing::debug!(%refusal.reason, "a connection was not passed through");
            }
        }
        Err(mut failed) => {
            if let (Some(sign), Some(host)) = (failed.distrusts, &failed.host)
                && let Some(finding) = connection.shared.distrust.found(&connection.caller, host, sign).await
            {
                failed.reason = finding.reason();
            }
            let destination = connection.destination.0;
            let asked = Asked {
                protocol: "https",
                host: Some(failed.host.unwrap_or_else(|| destination.ip().to_string())),
                port: Some(destination.port()),
                ..Asked::default()
            };
            connection.shared.gate.turn_away(&connection.caller, &asked, failed.code, failed.reason).await;
        }
    }
}

type Opened = tokio_rustls::server::TlsStream<Capped>;

/// What became of a hello.
enum Greeted {
    Terminated(Box<Opened>, Terminated),
    /// The socket, what was read of it, and where it leads.
    PassedThrough(Wire, Bytes, Endpoint),
}

async fn handshake(stream: Stream, connection: &Connection) -> Result<Greeted, Failed> {
    if connection.tls.is_some() {
        return Err(Failed {
            code: Code::BadRequest,
            host: None,
            distrusts: None,
            reason: "TLS inside TLS is not served".into(),
        });
    }
    let deadline = Instant::now() + HANDSHAKE;
    let late = || Failed {
        code: Code::BadRequest,
        host: None,
        distrusts: None,
        reason: "the handshake took over 10 s".into(),
    };
    let capped = Capped { io: stream, left: Some(MAX_CLIENT_HELLO), read: Vec::new() };
    let start = timeout_at(deadline, LazyConfigAcceptor::new(Acceptor::default(), capped))
        .await
        .map_err(|_elapsed| late())?
        .map_err(|error| Failed {
            code: Code::BadRequest,
            host: None,
            distrusts: None,
            reason: format!("the TLS ClientHello is not acceptable: {error}"),
        })?;
    let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    if let Some(host) = name.as_deref().and_then(|name| passed_through(name, connection)) {
        return pass_through(start.io, host, connection);
    }
    let (config, host) = match choose(name, connection).await {
        Ok(chosen) => chosen,
        Err(failed) => {
            // Answers `access_denied`, so that the client knows this was a decision.
            let refusing = connection.shared.servers.refusing();
            match timeout_at(deadline, start.into_stream(refusing)).await {
                Ok(Err(_refused)) => {}
                Ok(Ok(_stream)) => {
                    tracing::error!("a handshake without a certificate succeeded; it was closed")
                }
                Err(_elapsed) => tracing::debug!("a refused client did not take its alert"),
            }
            return Err(failed);
        }
    };
    connection.shared.distrust.meet(&connection.caller).await;
    let mut start = start;
    start.io.left = None;
    start.io.read = Vec::new();
    let name = host.to_string();
    match timeout_at(deadline, start.into_stream(config)).await {
        Ok(Ok(stream)) => {
            let alpn = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Some(Alpn::H2),
                Some(_) => Some(Alpn::Http11),
                None => None,
            };
            Ok(Greeted::Terminated(Box::new(stream), Terminated { host, alpn }))
        }
        Ok(Err(error)) => Err(ended(&error, name)),
        Err(_elapsed) => Err(Failed { host: Some(name), ..late() }),
    }
}

/// The host, if a rule passes connections to it through.
fn passed_through(name: &str, connection: &Connection) -> Option<Host> {
    let host = Host::parse(name).ok()?;
    let policy = connection.shared.gate.policy(&connection.caller)?;
    let route = policy.route(&host, connection.destination.0.port(), SystemTime::now().into());
    matches!(route, Route::Passthrough).then_some(host)
}

/// Only by a name that every reader of the hello reads alike.
fn pass_through(capped: Capped, host: Host, connection: &Connection) -> Result<Greeted, Failed> {
    let no = |reason: &str| Failed {
        code: Code::BadRequest,
        host: Some(host.to_string()),
        distrusts: None,
        reason: format!("this connection to {host} cannot be passed through: {reason}"),
    };
    let Some(hello) = hello::read(&capped.read) else {
        return Err(no("its ClientHello is not in the plain form"));
    };
    if hello.hides {
        return Err(no("its ClientHello hides a server name (ECH); turn that off in the client"));
    }
    if hello.server_name.as_deref().and_then(|name| Host::parse(name).ok()).as_ref() != Some(&host) {
        return Err(no("its server name is read in two ways"));
    }
    let Capped { io, read, left: _ } = capped;
    let Some((rest, wire)) = io.into_wire() else {
        return Err(no("it does not come straight from a socket"));
    };
    let first = [read, rest.to_vec()].concat().into();
    let endpoint = Endpoint { relay: Relay::Passthrough, host, port: connection.destination.0.port() };
    Ok(Greeted::PassedThrough(wire, first, endpoint))
}

/// The configuration to finish with and the host it certifies, if the policy can reach that host.
async fn choose(
    sent: Option<String>,
    connection: &Connection,
) -> Result<(std::sync::Arc<rustls::ServerConfig>, Host), Failed> {
    let destination = connection.destination.0;
    let host = match &sent {
        Some(name) => Host::parse(name).map_err(|error| Failed {
            code: Code::BadRequest,
            host: None,
            distrusts: None,
            reason: format!("the TLS server name is not a host name: {error}"),
        })?,
        None => Host::from_ip(destination.ip()),
    };
    let no = |code, reason| Failed { code, host: Some(host.to_string()), distrusts: None, reason };
    let Some(policy) = connection.shared.gate.policy(&connection.caller) else {
        return Err(no(Code::NoPolicy, format!("agent `{}` has no policy", connection.caller.agent.name)));
    };
    if !policy.reaches(Scheme::Https, &host, destination.port(), SystemTime::now().into()) {
        let what = if sent.is_some() { "" } else { " (the client sent no server name)" };
        let reason = format!("no rule of the policy allows https://{host}:{}{what}", destination.port());
        return Err(no(Code::NoRule, reason));
    }
    let server = connection.shared.servers.agent(&policy, SystemTime::now()).await.map_err(|error| {
        tracing::error!(%error, agent = %connection.caller.agent.name, "no certificate for an agent");
        no(Code::CredentialUnavailable, "the enforcer cannot make a certificate for this host".into())
    })?;
    let config = match host.ip() {
        Some(address) => server.for_address(address),
        None => server.by_name(),
    };
    Ok((config, host))
}

/// Why a client ended the handshake.
fn ended(error: &io::Error, host: String) -> Failed {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let distrusts = match inner {
        Some(rustls::Error::AlertReceived(alert)) => Sign::of(*alert),
        // Without a word, after our certificate.
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            Some(Sign::Left)
        }
        _ => None,
    };
    let reason = match inner {
        Some(rustls::Error::NoApplicationProtocol) => {
            "the client offers neither h2 nor http/1.1 inside TLS".to_owned()
        }
        _ => format!("the TLS handshake for {host} failed: {error}"),
    };
    let said = distrusts.is_some_and(|sign| sign != Sign::Left);
    let code = if said { Code::ClientDistrust } else { Code::BadRequest };
    Failed { code, host: Some(host), reason, distrusts }
}

/// Lets no more than a ClientHello through until the cap is lifted.
struct Capped {
    io: Stream,
    left: Option<usize>,
    /// what was let through
    read: Vec<u8>,
}

impl AsyncRead for Capped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(left) = self.left else { return Pin::new(&mut self.io).poll_read(cx, buf) };
        if left == 0 {
            let error = io::Error::new(io::ErrorKind::InvalidData, "it is larger than 16 KiB");
            return Poll::Ready(Err(error));
        }
        let mut part = buf.take(left);
        let poll = Pin::new(&mut self.io).poll_read(cx, &mut part);
        let filled = part.filled().len();
        let initialized = part.initialized().len();
        debug_assert!(filled <= initialized);
        let start = buf.filled().len();
        buf.advance(filled);
        let arrived = buf.filled().get(start..).unwrap_or_default().to_vec();
        self.read.extend_from_slice(&arrived);
        self.left = Some(left - filled);
        poll
    }
}

writes_to!(Capped, io);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_handshake_records_begin_tls() {
        let table: &[(&[u8], Begins)] = &[
            (b"", Begins::Unsure),
            (b"\x16", Begins::Unsure),
            (b"\x16\x03", Begins::Unsure),
            (b"\x16\x03\x01\x02\x00", Begins::Yes),
            (b"\x16\x03\x03\x02\x00", Begins::Yes),
            (b"\x16\x02\x00", Begins::No),
            (b"\x17\x03\x03", Begins::No),
            (b"\x80\x2e\x01", Begins::No),
            (b"GET / HTTP/1.1", Begins::No),
        ];
        for (first, expected) in table {
            assert_eq!(Tls.begins(first), *expected, "{first:?}");
        }
    }
}
