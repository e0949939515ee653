//! What a connection of HTTP/1 holds once a large body has passed: buffers stay with it for as long as it is kept.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf};

use crate::protocol::http::serve;
use crate::proxy::stream::writes_to;
use crate::proxy::{BUFFER, pool};

const BODY: usize = 8 << 20;
/// So much comes at once that nothing but a bound keeps reads small.
const AT_ONCE: usize = 1 << 20;
/// A buffer that grows may grow to twice what was asked for.
const MOST: usize = 2 * BUFFER;

/// Notes the most that it was asked for.
struct Asked {
    io: DuplexStream,
    most: Arc<AtomicUsize>,
}

impl Asked {
    fn pair() -> (DuplexStream, Asked, Arc<AtomicUsize>) {
        let (peer, io) = tokio::io::duplex(AT_ONCE);
        let most = Arc::new(AtomicUsize::new(0));
        (peer, Asked { io, most: most.clone() }, most)
    }
}

impl AsyncRead for Asked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.most.fetch_max(buf.remaining(), Ordering::Relaxed);
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

writes_to!(Asked, io);

#[tokio::test]
async fn a_large_body_does_not_widen_an_agents_connection() {
    let (mut agent, io, most) = Asked::pair();
    let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), BODY);
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let serving = tokio::spawn(serve::builder().serve_connection(TokioIo::new(io), service));
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {BODY}\r\n\r\n");
    agent.write_all(&[head.into_bytes(), vec![b'x'; BODY]].concat()).await.unwrap();
    let mut answer = String::new();
    agent.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serving.await.unwrap().unwrap();
    let most = most.load(Ordering::Relaxed);
    assert!((BUFFER / 2..=MOST).contains(&most), "{most}");
}

#[tokio::test]
async fn a_large_answer_does_not_widen_a_servers_connection() {
    let (mut server, io, most) = Asked::pair();
    let (mut sender, connection) = pool::http1().handshake(TokioIo::new(io)).await.unwrap();
    let driving = tokio::spawn(connection);
    let answering = tokio::spawn(async move {
        server.read_u8().await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n");
        server.write_all(&[head.into_bytes(), vec![b'x'; BODY]].concat()).await.unwrap();
        server
    });
    let request = Request::get("/").header("host", "x").body(Empty::<Bytes>::new()).unwrap();
    let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes().len(), BODY);
    drop(sender);
    drop(answering.await.unwrap());
    driving.await.unwrap().unwrap();
    let most = most.load(Ordering::Relaxed);
    assert!((BUFFER / 2..=MOST).contains(&most), "{most}");
}
