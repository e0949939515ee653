//! Answers that are not the answer yet (1xx): they come before it, cleaned, in each version on each side.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::ResponseFuture;
use http::{Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use super::legs::{asking, h2_agent, h2_upstream, ok, soon, tls_upstream};
use super::world::{SECRET, World};

/// In HTTP/1, with the credential in it and what leads past us.
fn hints() -> String {
    format!(
        "HTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nx-echo: Bearer {SECRET}\r\n\
         alt-svc: h3=\":443\"\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: 5\r\n\r\n"
    )
}

fn hint(status: u16) -> Response<()> {
    let head = Response::builder().status(status);
    let head = match status {
        103 => head
            .header("link", "</a.css>; rel=preload")
            .header("x-echo", format!("Bearer {SECRET}"))
            .header("alt-svc", "h3=\":443\"")
            .header("content-length", "5"),
        _ => head,
    };
    head.body(()).unwrap()
}

/// Answers each request in HTTP/1 with `before` at once, and with 200 when the test says so.
async fn http1(world: &mut World, before: String) -> Arc<Semaphore> {
    let go = Arc::new(Semaphore::new(0));
    let told = go.clone();
    let serve = move |mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>, _number| {
        let (before, go) = (before.clone(), told.clone());
        async move {
            let mut heard = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut heard).await {
                if heard.ends_with(b"\r\n\r\n") {
                    heard.clear();
                    stream.write_all(before.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                    go.acquire().await.unwrap().forget();
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    stream.write_all(answer).await.unwrap();
                }
            }
        }
    };
    tls_upstream(world, false, serve).await;
    go
}

/// The same in HTTP/2.
async fn http2(world: &mut World, before: &'static [u16]) -> Arc<Semaphore> {
    let go = Arc::new(Semaphore::new(0));
    let told = go.clone();
    h2_upstream(world, move |_request, mut respond| {
        let go = told.clone();
        async move {
            for status in before {
                respond.send_informational(hint(*status)).unwrap();
            }
            go.acquire().await.unwrap().forget();
            respond.send_response(ok(), true).unwrap();
        }
    })
    .await;
    go
}

async fn next_hint(answer: &mut ResponseFuture) -> Option<Response<()>> {
    soon(poll_fn(|cx| answer.poll_informational(cx))).await.map(Result::unwrap)
}

/// Up to and with the empty line.
async fn head(agent: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(agent.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn over_http1_they_come_first_and_clean() {
    let mut world = World::new().await;
    let go = http1(&mut world, hints()).await;
    let mut agent = world.tls("one", "api.test", &["http/1.1"]).await.unwrap();
    let ask = format!("GET /token/x HTTP/1.1\r\nhost: {}\r\n\r\n", world.authority());
    // Twice on one connection, and nothing is left over.
    for _ in 0..2 {
        agent.write_all(ask.as_bytes()).await.unwrap();
        assert_eq!(head(&mut agent).await, "HTTP/1.1 102 Processing\r\n\r\n");
        let masked = "*".repeat(SECRET.len());
        let expected = format!(
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nx-echo: Bearer {masked}\r\n\r\n"
        );
        assert_eq!(head(&mut agent).await, expected);
        // Only now is there an answer.
        go.add_permits(1);
        assert!(head(&mut agent).await.starts_with("HTTP/1.1 200 OK"));
        let mut body = [0; 2];
        soon(agent.read_exact(&mut body)).await.unwrap();
        assert_eq!(&body, b"ok");
    }
    // HTTP/1.0 has no word for them.
    go.add_permits(1);
    let old = ask.replace("HTTP/1.1", "HTTP/1.0");
    agent.write_all(old.as_bytes()).await.unwrap();
    assert!(head(&mut agent).await.starts_with("HTTP/1.0 200 OK"));
}

#[tokio::test]
async fn requests_sent_at_once_keep_theirs_apart() {
    let mut world = World::new().await;
    let go = http1(&mut world, hints()).await;
    let mut agent = world.tls("one", "api.test", &["http/1.1"]).await.unwrap();
    let ask = format!("GET /open/x HTTP/1.1\r\nhost: {}\r\n\r\n", world.authority());
    agent.write_all(ask.repeat(3).as_bytes()).await.unwrap();
    go.add_permits(3);
    for _ in 0..3 {
        for status in ["102", "103", "200"] {
            let head = head(&mut agent).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        }
        let mut body = [0; 2];
        soon(agent.read_exact(&mut body)).await.unwrap();
        assert_eq!(&body, b"ok");
    }
}

#[tokio::test]
async fn who_waits_for_100_gets_it_once() {
    let mut world = World::new().await;
    let go = http1(&mut world, format!("HTTP/1.1 100 Continue\r\n\r\n{}", hints())).await;
    go.add_permits(1);
    let mut agent = world.tls("one", "api.test", &["http/1.1"]).await.unwrap();
    // The server of this test takes the end of a head for the end of a request.
    let ask = format!(
        "POST /open/x HTTP/1.1\r\nhost: {}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
        world.authority()
    );
    agent.write_all(ask.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|status| status != "200") {
        let head = head(&mut agent).await;
        if head.contains(" 100 ") {
            agent.write_all(b"\r\n\r\n").await.unwrap();
        }
        seen.push(head.split(" ").nth(1).unwrap_or_default().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["100", "102", "103", "200"]);
}

#[tokio::test]
async fn over_http2_they_come_first_and_clean_whatever_the_server_speaks() {
    for h2 in [true, false] {
        let mut world = World::new().await;
        let go = match h2 {
            true => http2(&mut world, &[100, 102, 103]).await,
            false => http1(&mut world, hints()).await,
        };
        let mut agent = h2_agent(&world).await;
        let (mut answer, _stream) = agent.send_request(asking(&world, "GET", "/token/x"), true).unwrap();
        assert_eq!(next_hint(&mut answer).await.expect("102").status(), 102, "{h2}");
        let early = next_hint(&mut answer).await.expect("103");
        assert_eq!(early.status(), StatusCode::EARLY_HINTS);
        let names: Vec<_> = early.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["link", "x-echo"], "{h2}");
        assert_eq!(early.headers()["x-echo"], format!("Bearer {}", "*".repeat(SECRET.len())));
        go.add_permits(1);
        assert_eq!(soon(answer).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_flood_of_them_ends_the_request() {
    let mut world = World::new().await;
    let go = http2(&mut world, &[103; 9]).await;
    go.add_permits(1);
    let mut agent = h2_agent(&world).await;
    let (answer, _stream) = agent.send_request(asking(&world, "GET", "/open/x"), true).unwrap();
    let mut answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), 502);
    let text: Bytes = super::legs::piece(answer.body_mut()).await;
    assert!(String::from_utf8_lossy(&text).contains("more than 8 informational"), "{text:?}");
}
