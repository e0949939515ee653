//! A proxy made of hudsucker, as its own examples are: `hudsucker LISTEN UPSTREAM ROOTS BEARER`. Every name leads to the one address.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::hyper::Request;
use hudsucker::hyper::header::{AUTHORIZATION, HeaderValue};
use hudsucker::rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use hudsucker::rustls::pki_types::CertificateDer;
use hudsucker::rustls::pki_types::pem::PemObject;
use hudsucker::rustls::{ClientConfig, RootCertStore, crypto::ring};
use hudsucker::{Body, HttpContext, HttpHandler, Proxy, RequestOrResponse};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

#[derive(Clone)]
struct Inject(HeaderValue);

impl HttpHandler for Inject {
    async fn handle_request(&mut self, _: &HttpContext, mut request: Request<Body>) -> RequestOrResponse {
        request.headers_mut().insert(AUTHORIZATION, self.0.clone());
        request.into()
    }
}

#[derive(Clone)]
struct There(SocketAddr);

impl Service<Name> for There {
    type Response = std::iter::Once<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(std::iter::once(self.0)))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, authority, bearer] =
        words.try_into().ok().context("hudsucker LISTEN UPSTREAM ROOTS BEARER")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&authority)? {
        roots.add(certificate?)?;
    }
    let provider = ring::default_provider();
    let config = ClientConfig::builder_with_provider(provider.clone().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connector = HttpConnector::new_with_resolver(There(upstream.parse()?));
    connector.enforce_http(false);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .wrap_connector(connector);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(params, KeyPair::generate()?);
    let proxy = Proxy::builder()
        .with_addr(listen.parse()?)
        .with_ca(RcgenAuthority::new(issuer, 1_000, provider))
        .with_http_connector(connector)
        .with_http_handler(Inject(HeaderValue::try_from(format!("Bearer {bearer}"))?))
        .build()?;
    Ok(proxy.start().await?)
}
