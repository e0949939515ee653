//! Both ends of HTTP/2 by hand: what the library of the stage's own server and clients does not show.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::world::World;

/// For what comes at once unless something is wrong.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// Listens for TLS in place of the stage's server; each connection is the caller's, with its number.
pub(super) async fn tls_upstream<F, S>(world: &mut World, h2: bool, serve: S) -> Arc<AtomicUsize>
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TlsStream<TcpStream>, usize) -> F + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.moves_to(listener.local_addr().unwrap().port()).await;
    let mut config = (*world.server_tls).clone();
    config.alpn_protocols = vec![if h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let tls = TlsAcceptor::from(Arc::new(config));
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let (tls, serve) = (tls.clone(), serve.clone());
            tokio::spawn(async move {
                if let Ok(stream) = tls.accept(stream).await {
                    serve(stream, number).await;
                }
            });
        }
    });
    connections
}

/// A server of HTTP/2 that serves each stream so.
pub(super) async fn h2_upstream<F, S>(world: &mut World, serve: S) -> Arc<AtomicUsize>
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
{
    tls_upstream(world, true, move |stream, _number| {
        let serve = serve.clone();
        async move {
            let mut connection = h2::server::Builder::new()
                .enable_connect_protocol()
                .handshake::<_, Bytes>(stream)
                .await
                .unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(serve(request, respond));
            }
        }
    })
    .await
}

/// An agent of HTTP/2.
pub(super) async fn h2_agent(world: &World) -> SendRequest<Bytes> {
    let stream = world.tls("one", "api.test", &["h2"]).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

pub(super) fn asking(world: &World, method: &str, path: &str) -> Request<()> {
    let uri = format!("https://{}{path}", world.authority());
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

/// The next piece of a body.
pub(super) async fn piece(body: &mut RecvStream) -> Bytes {
    let data = soon(body.data()).await.expect("more of the body").unwrap();
    body.flow_control().release_capacity(data.len()).unwrap();
    data
}

pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it comes soon")
}

/// Waits until the peer has reset the stream, and says with which code.
pub(super) async fn reset(stream: &mut SendStream<Bytes>) -> h2::Reason {
    soon(std::future::poll_fn(|cx| stream.poll_reset(cx))).await.unwrap()
}

pub(super) fn ok() -> Response<()> {
    Response::new(())
}
