//! One connection of an agent's, as its programs would open it: by name, with the roots that its environment names.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use enforcer_tests::soak::content::PORT;
use enforcer_tests::world::plan;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::body::Pieces;

/// Longer than the injector tries.
const LIMIT: Duration = Duration::from_secs(45);

/// Opens connections.
pub(crate) struct Dialler {
    http1: TlsConnector,
    http2: TlsConnector,
    /// Where the names lead, for who has no name server of ours.
    at: Option<IpAddr>,
}

/// An open connection; it ends when this is dropped.
pub(crate) struct Client {
    pub(crate) sender: Sender,
    driver: AbortHandle,
}

#[derive(Debug)]
pub(crate) enum Sender {
    Http1(http1::SendRequest<Pieces>),
    Http2(http2::SendRequest<Pieces>),
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Dialler {
    pub(crate) fn new(at: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for certificate in found.certs {
            roots.add(certificate)?;
        }
        ensure!(!roots.is_empty(), "no roots: {:?}", found.errors);
        let roots = Arc::new(roots);
        let connector = |alpn: &[u8]| -> Result<TlsConnector> {
            let config = ClientConfig::builder_with_provider(crate::provider());
            let config = config.with_safe_default_protocol_versions()?.with_root_certificates(roots.clone());
            let mut config = config.with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            Ok(TlsConnector::from(Arc::new(config)))
        };
        let at = if at == "-" { None } else { Some(at.parse().context("an address")?) };
        Ok(Dialler { http1: connector(b"http/1.1")?, http2: connector(b"h2")?, at })
    }

    pub(crate) async fn tcp(&self, port: u16) -> Result<TcpStream> {
        let dialling = async {
            match self.at {
                Some(at) => TcpStream::connect((at, port)).await,
                None => TcpStream::connect((plan::SHOP, port)).await,
            }
        };
        Ok(tokio::time::timeout(LIMIT, dialling).await??)
    }

    pub(crate) async fn open(&self, http2: bool) -> Result<Client> {
        tokio::time::timeout(LIMIT, self.handshake(http2)).await?
    }

    async fn handshake(&self, http2: bool) -> Result<Client> {
        let stream = self.tcp(PORT).await?;
        let connector = if http2 { &self.http2 } else { &self.http1 };
        let io = TokioIo::new(connector.connect(ServerName::try_from(plan::SHOP)?, stream).await?);
        // How a connection ends is told to its requests.
        let (sender, driver) = if http2 {
            let builder = http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).clone();
            let (sender, connection) = builder.handshake(io).await?;
            let driver = tokio::spawn(async { drop(connection.await) });
            (Sender::Http2(sender), driver)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            let driver = tokio::spawn(async { drop(connection.with_upgrades().await) });
            (Sender::Http1(sender), driver)
        };
        Ok(Client { sender, driver: driver.abort_handle() })
    }
}

impl Sender {
    /// Whether another request may be sent, as far as is known.
    pub(crate) async fn ready(&mut self) -> bool {
        match self {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Of its own for a stream of HTTP/2; HTTP/1 has one for all.
    pub(crate) fn another(&self) -> Option<Self> {
        match self {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Sender::Http2(sender.clone())),
        }
    }

    pub(crate) async fn send(
        &mut self,
        request: http::request::Builder,
        path: &str,
        body: Pieces,
    ) -> Result<Response<Incoming>> {
        match self {
            Sender::Http1(sender) => {
                let request = request.uri(path).header(http::header::HOST, plan::SHOP);
                Ok(sender.send_request(request.body(body)?).await?)
            }
            Sender::Http2(sender) => {
                let request: Request<Pieces> =
                    request.uri(format!("https://{}{path}", plan::SHOP)).body(body)?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}
