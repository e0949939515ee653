//! From a host to an open, verified stream. Addresses come from our own resolver, and the very
//! address that is dialled is checked: an allowed name does not open the way to a special one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use enforcer_policy::Host;
use ipnet::IpNet;
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::wire::Wire;
use crate::dns::{ResolveError, Resolver, forbidden};

/// For all addresses of a host together.
const CONNECT: Duration = Duration::from_secs(10);
/// For one address while others wait.
const ATTEMPT: Duration = Duration::from_secs(3);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Of nothing being heard, before the kernel asks whether somebody is there.
const QUIET: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(10);
const RETRIES: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(
        "`{host}` leads to {address}, a special address ({why}); it is dialled only if the policy names it under `dns.private_addresses`"
    )]
    Special { host: String, address: IpAddr, why: &'static str },
    #[error("no connection to {host}:{port}: {error}")]
    Connect {
        host: String,
        port: u16,
        #[source]
        error: io::Error,
    },
    #[error("the certificate of `{host}` is not accepted: {}", wrong(.error))]
    Certificate { host: String, error: CertificateError },
    #[error("the TLS handshake with `{host}` failed: {error}")]
    Handshake {
        host: String,
        #[source]
        error: io::Error,
    },
}

/// An open stream without Nagle's delay, and the address it leads to.
pub async fn tcp(
    resolver: &Resolver,
    host: &Host,
    port: u16,
    private: &[IpNet],
) -> Result<(TcpStream, SocketAddr), DialError> {
    let found: Arc<[IpAddr]> = match host.ip() {
        Some(ip) => Arc::new([ip]),
        None => resolver.lookup(host).await?,
    };
    let mut refused = None;
    let mut addresses = Vec::with_capacity(found.len());
    for address in found.iter().copied() {
        match forbidden(address, private) {
            None => addresses.push(SocketAddr::new(address, port)),
            Some(why) => refused = Some((address, why)),
        }
    }
    let fail = |error| DialError::Connect { host: host.to_string(), port, error };
    let Some(last) = addresses.last().copied() else {
        return Err(match refused {
            Some((address, why)) => DialError::Special { host: host.to_string(), address, why },
            None => fail(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
        });
    };
    let deadline = Instant::now() + CONNECT;
    let mut failure = io::Error::from(io::ErrorKind::TimedOut);
    for address in addresses {
        let until = if address == last { deadline } else { deadline.min(Instant::now() + ATTEMPT) };
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                set_up(&stream).map_err(fail)?;
                return Ok((stream, address));
            }
            Ok(Err(error)) => failure = error,
            Err(_elapsed) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(fail(failure))
}

/// The very address, which is one of the host's.
pub async fn address(
    host: &Host,
    address: SocketAddr,
    private: &[IpNet],
) -> Result<(TcpStream, SocketAddr), DialError> {
    let host = host.to_string();
    if let Some(why) = forbidden(address.ip(), private) {
        return Err(DialError::Special { host, address: address.ip(), why });
    }
    let connected = timeout(CONNECT, TcpStream::connect(address)).await;
    let connected = connected.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
    match connected.and_then(|stream| set_up(&stream).map(|()| stream)) {
        Ok(stream) => Ok((stream, address)),
        Err(error) => Err(DialError::Connect { host, port: address.port(), error }),
    }
}

/// Without Nagle's delay, and found out within a minute when the other end is gone: what is relayed or streamed may be silent for longer.
fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let asking = TcpKeepalive::new().with_time(QUIET).with_interval(AGAIN).with_retries(RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&asking)
}

/// A verified handshake over it.
pub async fn tls(stream: Wire, host: &Host, config: Arc<ClientConfig>) -> Result<TlsStream<Wire>, DialError> {
    let fail = |error| DialError::Handshake { host: host.to_string(), error };
    let name = match (host.ip(), host.name()) {
        (Some(ip), _) => ServerName::IpAddress(ip.into()),
        (None, Some(name)) => ServerName::try_from(name.to_owned())
            .map_err(|error| fail(io::Error::new(io::ErrorKind::InvalidInput, error)))?,
        (None, None) => unreachable!("a host is a name or an address"),
    };
    match timeout(HANDSHAKE, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(error)) => {
                Err(DialError::Certificate { host: host.to_string(), error: error.clone() })
            }
            _ => Err(fail(error)),
        },
        Err(_elapsed) => Err(fail(io::ErrorKind::TimedOut.into())),
    }
}

/// In words where the library has only the name of its error.
fn wrong(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "no authority that this host trusts has issued it, or the server leaves its issuer's out".into()
        }
        CertificateError::BadSignature => "its signature does not fit its issuer's key or its own".into(),
        CertificateError::BadEncoding => "it is not a well-formed certificate".into(),
        CertificateError::Other(error) => format!("it breaks a rule of RFC 5280 ({error})"),
        error => error.to_string(),
    }
}
