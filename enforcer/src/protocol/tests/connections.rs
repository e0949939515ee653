//! Whose connection, to whom, and which are shared.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::{World, text};

#[tokio::test]
async fn upstream_connections_are_reused_but_never_across_agents_or_credentials() {
    let world = World::new().await;
    let mut owners: HashMap<usize, HashSet<String>> = HashMap::new();
    for round in 0..10 {
        for agent in ["one", "two"] {
            let mut h1 = world.h1(agent, "api.test").await;
            let mut h2 = world.h2(agent, "api.test").await;
            for path in ["/token/echo", "/key/echo", "/open/echo"] {
                let before = world.seen().len();
                assert!(
                    !text(h1.send_request(world.request("GET", path, "")).await.unwrap()).await.is_empty()
                );
                assert_eq!(h2.send_request(world.request2("GET", path, "")).await.unwrap().status(), 200);
                for seen in &world.seen()[before..] {
                    owners.entry(seen.connection).or_default().insert(format!("{agent}{path}"));
                }
            }
        }
        if round == 0 {
            assert!(owners.len() >= 6);
        }
    }
    assert!(owners.values().all(|owner| owner.len() == 1), "{owners:?}");
    // One HTTP/1 and one HTTP/2 connection for each of six identities.
    assert!(owners.len() <= 12, "{} connections", owners.len());
}

#[tokio::test]
async fn a_connection_the_kernel_did_not_redirect_is_reset_and_recorded() {
    let world = World::new().await;
    let mut stream = world.undeclared("one").await;
    let mut buffer = [0; 1];
    assert!(stream.read(&mut buffer).await.is_err());
    let receipts = world.receipts(1).await;
    assert_eq!(
        (receipts[0].intent.protocol.as_str(), receipts[0].intent.reason.as_str()),
        ("connect", "bad_request")
    );
}

#[tokio::test]
async fn what_is_not_tls_or_http_is_dropped_and_recorded() {
    let world = World::new().await;
    let mut stream = world.dial("one", world.https).await;
    stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.unwrap();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.is_empty());
    // And the same inside TLS.
    let mut stream = world.tls("one", "api.test", &[]).await.unwrap();
    stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.unwrap();
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.is_empty());
    let receipts = world.receipts(2).await;
    assert!(
        receipts.iter().all(|r| r
            .outcome
            .as_ref()
            .unwrap()
            .error
            .as_ref()
            .unwrap()
            .contains("neither TLS nor HTTP"))
    );
}

#[tokio::test]
async fn alpn_binds_what_is_spoken() {
    let world = World::new().await;
    let mut stream = world.tls("one", "api.test", &["h2"]).await.unwrap();
    let head = format!("GET /open/x HTTP/1.1\r\nhost: {}\r\n\r\n", world.authority());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.is_empty() && world.seen().is_empty());
    let error = world.tls("one", "api.test", &["ftp"]).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test]
async fn malformed_http_is_answered_and_recorded() {
    let world = World::new().await;
    let host = world.authority();
    let long = format!("GET /open/x HTTP/1.1\r\nhost: {host}\r\nx-long: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET /open/x HTTP/1.1\r\nhost: {host}\r\n{}\r\n", "x-h: 1\r\n".repeat(120));
    let table = [
        ("GET /open/x HTTP/1.1\r\nhost : a\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        (format!("GET /open/x HTTP/1.1\r\nhost: {host}\r\nhost: {host}\r\n\r\n"), "HTTP/1.1 400"),
        (format!("GET /open/../x HTTP/1.1\r\nhost: {host}\r\n\r\n"), "HTTP/1.1 400"),
        (format!("TRACE /open/x HTTP/1.1\r\nhost: {host}\r\n\r\n"), "HTTP/1.1 400"),
        (format!("get /open/x HTTP/1.1\r\nhost: {host}\r\n\r\n"), "HTTP/1.1 400"),
        (
            format!(
                "POST /open/x HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
            ),
            "HTTP/1.1 400",
        ),
        (
            format!("POST /open/x HTTP/1.1\r\nhost: {host}\r\ncontent-length: 005\r\n\r\nhello"),
            "HTTP/1.1 400",
        ),
        (long, "HTTP/1.1 431"),
        (many, "HTTP/1.1 431"),
    ];
    for (n, (request, expected)) in table.iter().enumerate() {
        let mut stream = world.tls("one", "api.test", &["http/1.1"]).await.unwrap();
        drop(stream.write_all(request.as_bytes()).await);
        let mut answer = vec![0; 12];
        stream
            .read_exact(&mut answer)
            .await
            .unwrap_or_else(|e| panic!("{e}: {}", request.lines().next().unwrap_or_default()));
        assert_eq!(
            String::from_utf8_lossy(&answer),
            *expected,
            "{}",
            request.lines().next().unwrap_or_default()
        );
        drop(stream);
        world.receipts(n + 1).await;
    }
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn one_agent_has_so_many_requests_under_way_and_no_more() {
    let world = World::new().await;
    let cap = world.shared.caps.of(&enforcer_policy::Name::parse("one").unwrap());
    let places = |taken: usize| cap.requests.available_permits() == crate::proxy::REQUESTS - taken;
    let mut agent = world.h2("one", "api.test").await;
    let endless = agent.send_request(world.request2("GET", "/open/endless", "")).await.unwrap();
    assert!(places(1), "an answer keeps its place until it ends");
    let others = cap.requests.clone().acquire_many_owned(crate::proxy::REQUESTS as u32 - 1).await.unwrap();
    let response = agent.send_request(world.request2("GET", "/open/x", "")).await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(super::world::json(response).await["code"], "rate_limited");
    let mut neighbour = world.h2("two", "api.test").await;
    let response = neighbour.send_request(world.request2("GET", "/open/x", "")).await.unwrap();
    assert_eq!(response.status(), 200, "another agent has its own");
    drop(endless);
    let response = agent.send_request(world.request2("GET", "/open/x", "")).await.unwrap();
    assert_eq!(response.status(), 200);
    drop((others, response));
    for _ in 0..1000 {
        if places(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a place is not given back");
}

#[tokio::test]
async fn http2_heads_have_the_same_bounds() {
    let world = World::new().await;
    let mut agent = world.h2("one", "api.test").await;
    for (fields, size, status) in
        [(90, 10, 200), (101, 10, 431), (2000, 1, 431), (1, 15_000, 200), (1, 40_000, 431)]
    {
        let mut request = world.request2("GET", "/open/x", "");
        for n in 0..fields {
            let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
            request.headers_mut().insert(name, "v".repeat(size).parse().unwrap());
        }
        let status_seen = agent.send_request(request).await.unwrap().status();
        assert_eq!(status_seen.as_u16(), status, "{fields} fields of {size}");
    }
    assert_eq!(world.seen().len(), 2);
}

#[tokio::test]
async fn a_draining_daemon_finishes_what_runs_and_accepts_no_more() {
    let mut world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    let response = agent.send_request(world.request("GET", "/open/events", "")).await.unwrap();
    world.shutdown.cancel();
    assert_eq!(text(response).await, "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    for session in std::mem::take(&mut world.sessions) {
        tokio::time::timeout(Duration::from_secs(5), session).await.unwrap().unwrap();
    }
    assert_eq!(world.receipts(1).await[0].outcome.as_ref().unwrap().end, "done");
}

#[tokio::test]
async fn a_session_that_ends_takes_its_connections_with_it() {
    let mut world = World::new().await;
    let mut agent = world.h2("one", "api.test").await;
    let response = agent.send_request(world.request2("GET", "/open/endless", "")).await.unwrap();
    for session in std::mem::take(&mut world.sessions) {
        session.abort();
    }
    let ended =
        tokio::time::timeout(Duration::from_secs(5), http_body_util::BodyExt::collect(response.into_body()));
    assert!(ended.await.expect("the stream ends").is_err());
    assert_eq!(world.receipts(1).await[0].outcome.as_ref().unwrap().end, "cancelled");
}

/// Many clients look for an answer only when all of their body is sent. A socket that is closed before that is reset.
#[tokio::test]
async fn a_refusal_is_there_to_be_read_when_the_whole_body_has_been_sent() {
    let world = World::new().await;
    let host = world.authority();
    let body = vec![b'x'; 16 << 20];
    for (what, head, answer) in [
        ("a request no rule allows", format!("POST /nowhere HTTP/1.1\r\nhost: {host}\r\n"), "403"),
        ("a request that is none", format!("POST /a#b HTTP/1.1\r\nhost: {host}\r\n"), "400"),
        ("a body that is too large", format!("POST /small HTTP/1.1\r\nhost: {host}\r\n"), "413"),
    ] {
        let mut agent = world.tls("one", "api.test", &["http/1.1"]).await.unwrap();
        let head = format!("{head}content-length: {}\r\n\r\n", body.len());
        agent.write_all(head.as_bytes()).await.unwrap();
        agent.write_all(&body).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        agent.flush().await.unwrap();
        let mut text = Vec::new();
        agent.read_to_end(&mut text).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with(&format!("HTTP/1.1 {answer} ")) && text.contains("request_id"),
            "{what}: {text}"
        );
    }
}
