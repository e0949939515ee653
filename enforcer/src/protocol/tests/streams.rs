//! Answers and bodies that flow: nothing is kept until it is whole.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::{World, text};

#[tokio::test]
async fn events_arrive_one_by_one() {
    let world = World::new().await;
    for path in ["/open/events", "/token/events"] {
        let mut agent = world.h1("one", "api.test").await;
        let mut body = agent.send_request(world.request("GET", path, "")).await.unwrap().into_body();
        let mut times = Vec::new();
        while let Some(frame) = body.frame().await {
            assert!(frame.unwrap().into_data().unwrap().starts_with(b"data: "));
            times.push(Instant::now());
        }
        assert_eq!(times.len(), 3, "{path}");
        assert!(times[1] - times[0] > Duration::from_millis(200), "{path}: {times:?}");
    }
}

#[tokio::test]
async fn grpc_keeps_its_trailers() {
    let world = World::new().await;
    let mut agent = world.h2("one", "api.test").await;
    let mut request = world.request2("POST", "/open/grpc", "\0\0\0\0\0");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let response = agent.send_request(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(world.seen()[0].header("te"), Some("trailers"));
    // A refusal speaks gRPC too.
    let mut request = world.request2("POST", "/nowhere", "");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let response = agent.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["grpc-status"].to_str().unwrap()), (200, "7"));
}

#[tokio::test]
async fn large_answers_arrive_whole_in_both_versions() {
    let world = World::new().await;
    let whole = "0123456789abcdef".repeat(64 * 1024);
    for path in ["/open/big", "/token/big"] {
        let mut agent = world.h1("one", "api.test").await;
        assert!(text(agent.send_request(world.request("GET", path, "")).await.unwrap()).await == whole);
        let mut agent = world.h2("one", "api.test").await;
        assert!(text(agent.send_request(world.request2("GET", path, "")).await.unwrap()).await == whole);
    }
    let bytes: Vec<_> =
        world.receipts(4).await.iter().map(|r| r.outcome.as_ref().unwrap().response_bytes).collect();
    assert_eq!(bytes, [1 << 20; 4]);
}

#[tokio::test]
async fn large_uploads_arrive_whole_and_are_counted() {
    let world = World::new().await;
    let whole = "fedcba9876543210".repeat(64 * 1024);
    let mut agent = world.h1("one", "api.test").await;
    assert_eq!(agent.send_request(world.request("POST", "/token/x", &whole)).await.unwrap().status(), 200);
    let mut agent = world.h2("one", "api.test").await;
    assert_eq!(agent.send_request(world.request2("POST", "/token/x", &whole)).await.unwrap().status(), 200);
    assert!(world.seen().iter().all(|seen| seen.body == whole.as_bytes()));
    assert_eq!(world.seen()[0].header("content-length"), Some("1048576"));
    assert!(world.receipts(2).await.iter().all(|r| r.outcome.as_ref().unwrap().request_bytes == 1 << 20));
}

#[tokio::test]
async fn an_agent_that_hangs_up_leaves_a_cancelled_record() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    let response = agent.send_request(world.request("GET", "/open/endless", "")).await.unwrap();
    drop((agent, response));
    let mut agent = world.h2("one", "api.test").await;
    let response = agent.send_request(world.request2("GET", "/open/endless", "")).await.unwrap();
    drop((agent, response));
    for receipt in world.receipts(2).await {
        let outcome = receipt.outcome.unwrap();
        assert_eq!((outcome.end.as_str(), outcome.status), ("cancelled", Some(200)));
    }
}

#[tokio::test]
async fn a_broken_upstream_is_told_and_never_asked_twice() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    let response = agent.send_request(world.request("POST", "/open/close", "once")).await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(super::world::json(response).await["code"], "upstream_failed");
    assert_eq!(world.seen().len(), 1);
    let response = agent.send_request(world.request("GET", "/open/cut", "")).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    let ends: Vec<_> = world.receipts(2).await.into_iter().map(|r| r.outcome.unwrap().end).collect();
    assert_eq!(ends, ["upstream_failed", "upstream_failed"]);
}

#[tokio::test]
async fn head_and_empty_answers_are_done_at_once() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    let response = agent.send_request(world.request("HEAD", "/open/big", "")).await.unwrap();
    assert_eq!(response.headers()["content-length"], "1048576");
    assert_eq!(text(response).await, "");
    assert_eq!(world.receipts(1).await[0].outcome.as_ref().unwrap().end, "done");
}

#[tokio::test]
async fn what_a_new_policy_forbids_stops_while_it_runs() {
    let world = World::new().await;
    let mut answers = Vec::new();
    for version in [1, 2] {
        let response = if version == 1 {
            world.h1("one", "api.test").await.send_request(world.request("GET", "/open/endless", "")).await
        } else {
            world.h2("one", "api.test").await.send_request(world.request2("GET", "/open/endless", "")).await
        };
        answers.push(response.unwrap().into_body());
    }
    // An upload that goes on.
    let mut upload = world.tls("one", "api.test", &["http/1.1"]).await.unwrap();
    let head =
        format!("POST /open/x HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n", world.authority());
    upload.write_all(format!("{head}5\r\nhello\r\n").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;

    // One that still allows them cuts nothing.
    let mut same = super::world::policy("one", world.https, world.http);
    same.push_str("limits: { rate: 1000/hour }\n");
    world.policies.send(super::world::compile(&[same.clone()])).unwrap();
    upload.write_all(b"5\r\nhello\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.receipts_so_far().await.iter().all(|receipt| receipt.outcome.is_none()));

    world.policies.send(super::world::compile(&[same.replace("/open/**", "/closed/**")])).unwrap();
    for body in answers {
        let ended = tokio::time::timeout(Duration::from_secs(5), body.collect());
        assert!(ended.await.expect("the answer ends").is_err());
    }
    let mut answer = vec![0; 12];
    upload.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 403");
    for receipt in world.receipts(3).await {
        let outcome = receipt.outcome.unwrap();
        assert_eq!(outcome.end, "cut");
        assert!(outcome.error.unwrap().contains("no longer allows"));
    }
}

#[tokio::test]
async fn trailers_of_a_request_go_nowhere() {
    let world = World::new().await;
    let io = hyper_util::rt::TokioIo::new(world.tls("one", "api.test", &["h2"]).await.unwrap());
    let (mut agent, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let trailers = http::HeaderMap::from_iter([("x-api-key".parse().unwrap(), "mine".parse().unwrap())]);
    let body = Full::new(Bytes::from_static(b"body")).with_trailers(std::future::ready(Some(Ok(trailers))));
    let request = world.request2("POST", "/token/trailers", "").map(|_| body);
    let (mut head, body) = request.into_parts();
    head.headers.insert("content-type", "application/grpc".parse().unwrap());
    let response = agent.send_request(Request::from_parts(head, body)).await.unwrap();
    assert_eq!(text(response).await, "None");
    assert_eq!(&world.seen()[0].body[..], b"body");
}

#[tokio::test]
async fn large_uploads_in_chunks_arrive_whole() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::new().await;
    let agent = world.tls("one", "api.test", &["http/1.1"]).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(agent);
    let head = format!(
        "POST /token/x HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        world.authority()
    );
    // As curl cuts them.
    let chunk = [b"fff4\r\n".as_slice(), &[b'x'; 0xfff4], b"\r\n"].concat();
    let sending = async move {
        writing.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..256 {
            writing.write_all(&chunk).await.unwrap();
        }
        writing.write_all(b"0\r\n\r\n").await.unwrap();
        writing
    };
    let mut answer = [0; 15];
    let (_writing, read) = tokio::join!(sending, reading.read_exact(&mut answer));
    read.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert_eq!(world.seen()[0].body.len(), 256 * 0xfff4);
}

/// Behind the body, and what a reader might take for the head does not pass.
#[tokio::test]
async fn trailers_of_answers_pass_in_each_version() {
    use super::legs::{asking, h2_agent, h2_upstream, ok, soon, tls_upstream};
    let secret = super::world::SECRET;
    let mut world = World::new().await;
    tls_upstream(&mut world, false, move |mut stream, _number| async move {
        let mut heard = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut heard).await {
            if heard.ends_with(b"\r\n\r\n") {
                let asked = String::from_utf8(std::mem::take(&mut heard)).unwrap();
                let te = asked.contains("te: trailers\r\n") && asked.contains("connection: te\r\n");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ntrailer: x-sum, set-cookie\r\ntransfer-encoding: chunked\r\n\r\n\
                     2\r\nok\r\n0\r\nx-sum: {te} {secret}\r\nset-cookie: a=b\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let masked = "*".repeat(secret.len());
    let mut agent = world.tls("one", "api.test", &["http/1.1"]).await.unwrap();
    let ask = format!(
        "GET /token/x HTTP/1.1\r\nhost: {}\r\nte: trailers\r\nconnection: te, close\r\n\r\n",
        world.authority()
    );
    agent.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    drop(soon(agent.read_to_string(&mut answer)).await);
    assert!(answer.contains("trailer: x-sum\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("0\r\nx-sum: true {masked}\r\n\r\n")), "{answer}");

    for h2 in [false, true] {
        if h2 {
            h2_upstream(&mut world, move |_request, mut respond| async move {
                let mut stream = respond.send_response(ok(), false).unwrap();
                stream.send_data(Bytes::from_static(b"ok"), false).unwrap();
                let fields = [("x-sum", format!("true {secret}")), ("set-cookie", "a=b".into())];
                let fields = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
                stream.send_trailers(http::HeaderMap::from_iter(fields)).unwrap();
            })
            .await;
        }
        let mut agent = h2_agent(&world).await;
        let mut ask = asking(&world, "GET", "/token/x");
        ask.headers_mut().insert("te", "trailers".parse().unwrap());
        let (answer, _stream) = agent.send_request(ask, true).unwrap();
        let mut body = soon(answer).await.unwrap().into_body();
        while let Some(data) = soon(body.data()).await {
            let length = data.unwrap().len();
            body.flow_control().release_capacity(length).unwrap();
        }
        let trailers = soon(body.trailers()).await.unwrap().expect("trailers");
        assert_eq!(trailers.len(), 1, "{trailers:?}");
        assert_eq!(trailers["x-sum"], format!("true {masked}"));
    }
}
