//! One connection to a peer: TCP, CONNECT where the peer wants it, TLS, HTTP/1.1 or HTTP/2.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, ensure};
use enforcer_peers::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::spec::Spec;

/// The configuration of one load.
pub(crate) fn connector(spec: &Spec) -> TlsConnector {
    let mut config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![if spec.h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    if !spec.resume {
        config.resumption = Resumption::disabled();
    }
    TlsConnector::from(Arc::new(config))
}

pub(crate) struct Client {
    sender: Sender,
    pub(crate) resumed: bool,
}

#[derive(Clone)]
struct Shared(http2::SendRequest<Payload>);

enum Sender {
    H1(http1::SendRequest<Payload>),
    H2(Shared),
}

impl Client {
    pub(crate) async fn connect(spec: &Spec, connector: &TlsConnector, name: &str) -> Result<Self> {
        let mut socket = TcpStream::connect(spec.address).await.context("connect")?;
        socket.set_nodelay(true)?;
        if let Some(authority) = &spec.connect {
            ask_proxy(&mut socket, &authority.replace("{name}", name)).await?;
        }
        let tls = connector.connect(ServerName::try_from(name.to_owned())?, socket).await.context("TLS")?;
        let session = tls.get_ref().1;
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        ensure!(!spec.h2 || session.alpn_protocol() == Some(b"h2"), "no HTTP/2 is offered");
        let io = TokioIo::new(tls);
        let sender = if spec.h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new());
            builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
            let (sender, connection) = builder.handshake(io).await.context("HTTP/2")?;
            tokio::spawn(connection);
            Sender::H2(Shared(sender))
        } else {
            let (sender, connection) = http1::handshake(io).await.context("HTTP/1.1")?;
            tokio::spawn(connection);
            Sender::H1(sender)
        };
        Ok(Client { sender, resumed })
    }

    /// Another handle of the connection. HTTP/1.1 has one.
    pub(crate) fn shared(&self) -> Option<Client> {
        match &self.sender {
            Sender::H1(_) => None,
            Sender::H2(sender) => Some(Client { sender: Sender::H2(sender.clone()), resumed: self.resumed }),
        }
    }

    pub(crate) async fn send(&mut self, request: Request<Payload>) -> Result<Response<Incoming>> {
        Ok(match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::H2(sender) => {
                sender.0.ready().await?;
                sender.0.send_request(request).await?
            }
        })
    }

    /// Asks and reads the answer to its end: its status and the length of its body.
    pub(crate) async fn ask(&mut self, request: Request<Payload>) -> Result<(u16, u64)> {
        let response = self.send(request).await?;
        let status = response.status().as_u16();
        Ok((status, drain(response.into_body()).await?))
    }
}

pub(crate) async fn drain(mut body: Incoming) -> Result<u64> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

/// A request as the protocol writes it. `upload`: a PUT of so many bytes.
pub(crate) fn request(spec: &Spec, name: &str, upload: u64) -> Result<Request<Payload>> {
    let authority = format!("{name}:{}", spec.port);
    let request = Request::builder().method(if upload > 0 { Method::PUT } else { Method::GET });
    let request = if spec.h2 {
        request.uri(format!("https://{authority}{}", spec.path))
    } else {
        request.uri(&spec.path).header("host", authority)
    };
    Ok(request.header("user-agent", "load").header("accept", "*/*").body(Payload { left: upload })?)
}

async fn ask_proxy(socket: &mut TcpStream, authority: &str) -> Result<()> {
    socket.write_all(format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    // Byte by byte: what follows is TLS's.
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 4096, "an endless answer to CONNECT");
        head.push(socket.read_u8().await.context("CONNECT")?);
    }
    let text = String::from_utf8_lossy(&head);
    ensure!(text.split(' ').nth(1) == Some("200"), "CONNECT was answered with {text}");
    Ok(())
}

/// Zeros.
pub(crate) struct Payload {
    left: u64,
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let piece = ZEROS.get(..usize::try_from(self.left).unwrap_or(usize::MAX)).unwrap_or(&ZEROS);
        self.left -= piece.len() as u64;
        let frame = (!piece.is_empty()).then(|| Ok(Frame::data(Bytes::from_static(piece))));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
