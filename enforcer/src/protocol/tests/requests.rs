//! What is sent, what is refused, what is written down.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::{SECRET, World, json, text};
use crate::audit::Verdict;
use crate::proxy::pool::IDLE;

#[tokio::test]
async fn a_credential_goes_out_and_does_not_come_back() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    let mut request = world.request("GET", "/token/echo?q=1", "");
    request.headers_mut().insert("authorization", "Bearer of-the-agent".parse().unwrap());
    request.headers_mut().insert("x-forwarded-host", "evil.test".parse().unwrap());
    request.headers_mut().insert("range", "bytes=0-1".parse().unwrap());
    request.headers_mut().insert("accept-encoding", "gzip, dcb".parse().unwrap());
    let response = agent.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!format!("{:?}", response.headers()).contains(SECRET));
    assert!(!response.headers().contains_key("alt-svc"));
    let body = text(response).await;
    assert!(body.contains("you sent") && !body.contains(SECRET) && !body.contains("of-the-agent"), "{body}");

    let seen = &world.seen()[0];
    assert_eq!(seen.line, "GET /token/echo?q=1 HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    assert_eq!(seen.header("host"), Some(world.authority().as_str()));
    assert_eq!(seen.header("accept-encoding"), Some("gzip"));
    for gone in ["x-forwarded-host", "range", "connection", "content-length", "transfer-encoding"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }

    let receipts = world.receipts(1).await;
    let (intent, outcome) = (&receipts[0].intent, receipts[0].outcome.as_ref().unwrap());
    assert_eq!((intent.agent.as_str(), intent.verdict), ("one", Verdict::Allow));
    assert_eq!((intent.method.as_deref(), intent.host.as_deref()), (Some("GET"), Some("api.test")));
    assert_eq!((intent.path.as_deref(), intent.rule.as_deref()), (Some("/token/echo"), Some("with-token")));
    assert_eq!((intent.query_keys.as_slice(), intent.pid), (&["q".to_owned()][..], 4711));
    assert_eq!((outcome.end.as_str(), outcome.status), ("done", Some(200)));
    assert_eq!(outcome.response_bytes, body.len() as u64);
    assert!(outcome.scrubbed >= 2 && outcome.first_byte_us.is_some());
}

#[tokio::test]
async fn an_encoded_slash_goes_out_as_it_came_and_counts_as_what_it_is() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    let mut ask = async |path: &str| {
        agent.send_request(world.request("GET", path, "")).await.unwrap().status().as_u16()
    };
    assert_eq!(ask("/npm/@scope%2fname").await, 200);
    assert_eq!(ask("/npm/%40scope%2Fname").await, 200);
    // One name in three spellings, of which the rule takes two in an hour.
    assert_eq!(ask("/npm/@scope%2fname").await, 429);
    assert_eq!(ask("/npm/@scope%2fother").await, 200);
    assert_eq!(ask("/open/@scope%2fname").await, 403);
    let sent: Vec<String> = world.seen().into_iter().map(|seen| seen.line).collect();
    let line = |path: &str| format!("GET /npm/{path} HTTP/1.1");
    assert_eq!(sent, ["@scope%2fname", "%40scope%2Fname", "@scope%2fother"].map(line));

    let receipts = world.receipts(5).await;
    let path = |number: usize| receipts[number].intent.path.as_deref();
    assert_eq!((path(0), path(1)), (Some("/npm/@scope%2Fname"), Some("/npm/%40scope%2Fname")));
    let reason = receipts[4].outcome.as_ref().unwrap().error.as_deref().unwrap();
    assert!(reason.ends_with("for rule `open`: its path has an encoded slash"), "{reason}");
}

#[tokio::test]
async fn what_one_request_left_at_a_server_no_other_request_brings_back() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    assert_eq!(agent.send_request(world.request("GET", "/token/x", "")).await.unwrap().status(), 200);
    assert_eq!(world.seen()[0].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    // By a rule without a credential, by one with another credential, by the rule itself.
    for path in ["/open/stored", "/key/stored", "/token/stored"] {
        let mut request = world.request("GET", path, "");
        request.headers_mut().insert("range", "bytes=0-1".parse().unwrap());
        let response = agent.send_request(request).await.unwrap();
        assert_eq!(response.headers()["x-range"], "none", "{path}: two halves would pass unseen");
        let body = text(response).await;
        assert!(body.contains("Bearer ***") && !body.contains(SECRET), "{path}: {body}");
    }
    // A host that no secret may be sent to is left alone.
    let mut agent = world.h1("one", "other.test").await;
    let mut request = world.request("GET", "/x/stored", "");
    request.headers_mut().insert("host", format!("other.test:{}", world.https).parse().unwrap());
    request.headers_mut().insert("range", "bytes=0-1".parse().unwrap());
    let response = agent.send_request(request).await.unwrap();
    assert_eq!(response.headers()["x-range"], "bytes=0-1");
}

#[tokio::test]
async fn http2_carries_requests_one_by_one_judged_each() {
    let world = World::new().await;
    let agent = world.h2("one", "api.test").await;
    let mut running = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (mut agent, method) = (agent.clone(), if n % 2 == 0 { "POST" } else { "DELETE" });
        let request = world.request2(method, "/open/x", &"y".repeat(n * 1000));
        running.spawn(async move { (method, agent.send_request(request).await.unwrap().status().as_u16()) });
    }
    while let Some(done) = running.join_next().await {
        let (method, status) = done.unwrap();
        assert_eq!(status, if method == "POST" { 200 } else { 403 });
    }
    let seen = world.seen();
    assert_eq!(seen.len(), 10);
    assert!(seen.iter().all(|seen| seen.line.starts_with("POST https://api.test")));
    let connections: std::collections::HashSet<_> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections.len(), 1, "streams share one upstream connection");
    assert_eq!(seen.iter().map(|seen| seen.body.len()).max(), Some(18_000));
    assert_eq!(world.receipts(20).await.iter().filter(|r| r.intent.verdict == Verdict::Deny).count(), 10);
}

#[tokio::test]
async fn a_connection_of_http2_is_kept_for_a_minute_without_requests() {
    let world = World::new().await;
    let (mut agent, upstreams) = (world.h2("one", "api.test").await, &world.shared.upstreams);
    let later = || Instant::now() + IDLE;
    for n in 0..2 {
        assert_eq!(agent.send_request(world.request2("GET", "/open/x", "")).await.unwrap().status(), 200);
        assert_eq!(upstreams.left_at(Instant::now()), 1);
        assert_eq!(world.seen()[n].connection, world.seen()[0].connection);
    }
    // What is open on it goes on, and the pool stays, by which it can be cut.
    let open = agent.send_request(world.request2("GET", "/open/endless", "")).await.unwrap();
    assert_eq!(upstreams.left_at(later()), 1);
    assert_eq!(agent.send_request(world.request2("GET", "/open/x", "")).await.unwrap().status(), 200);
    let (first, last) = (world.seen()[0].connection, world.seen()[3].connection);
    assert!(world.seen()[2].connection == first && last != first, "{:?}", world.seen());
    let mut open = open.into_body();
    assert_eq!(open.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    drop(open);
    for _ in 0..1000 {
        if upstreams.left_at(later()) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("its pool is kept for ever");
}

#[tokio::test]
async fn refusals_say_which_rule_and_what_to_do() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    let response = agent.send_request(world.request("DELETE", "/open/x?secret=1", "")).await.unwrap();
    assert_eq!(response.status(), 403);
    let id = response.headers()["x-enforcer-request-id"].to_str().unwrap().to_owned();
    let body = json(response).await;
    assert_eq!(body["error"], "blocked_by_policy");
    assert_eq!(body["request"], format!("DELETE https://{}/open/x", world.authority()));
    assert_eq!((&body["rule"], &body["agent"]), (&"no-delete".into(), &"one".into()));
    assert_eq!(body["request_id"], id.as_str());
    assert!(body["reason"].as_str().unwrap().contains("Nothing is deleted."));

    // The connection lives on, and the next request is judged by itself.
    let response = agent.send_request(world.request("GET", "/nowhere", "")).await.unwrap();
    assert_eq!(json(response).await["code"], "no_rule");
    assert_eq!(agent.send_request(world.request("GET", "/open/x", "")).await.unwrap().status(), 200);
    let receipts = world.receipts(3).await;
    assert_eq!(receipts[0].intent.id.0.as_ref(), id);
    assert_eq!(receipts[0].intent.reason, "deny_rule");
    assert_eq!(receipts[1].intent.reason, "no_rule");
    assert_eq!(world.seen().len(), 1);
}

#[tokio::test]
async fn a_rate_is_spent_and_says_when_to_come_back() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    for _ in 0..2 {
        assert_eq!(agent.send_request(world.request("GET", "/few", "")).await.unwrap().status(), 200);
    }
    let response = agent.send_request(world.request("GET", "/few", "")).await.unwrap();
    assert_eq!(response.status(), 429);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1790..=1800).contains(&wait), "{wait}");
    assert_eq!(json(response).await["code"], "rate_limited");
    // Another agent has its own.
    let mut other = world.h1("two", "api.test").await;
    assert_eq!(other.send_request(world.request("GET", "/few", "")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn fronting_is_misdirected_in_both_versions() {
    let world = World::new().await;
    let mut request = world.request("GET", "/x", "");
    request.headers_mut().insert("host", format!("other.test:{}", world.https).parse().unwrap());
    let response = world.h1("one", "api.test").await.send_request(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers()["connection"].to_str().unwrap()),
        (421, "close")
    );
    let request =
        Request::get(format!("https://other.test:{}/x", world.https)).body(Full::<Bytes>::default()).unwrap();
    let response = world.h2("one", "api.test").await.send_request(request).await.unwrap();
    assert_eq!(response.status(), 421);
    assert!(world.seen().is_empty());
    assert!(world.receipts(2).await.iter().all(|receipt| receipt.intent.reason == "misdirected"));
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_before_or_while_they_flow() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    assert_eq!(agent.send_request(world.request("POST", "/small", "fits")).await.unwrap().status(), 200);
    let response = agent.send_request(world.request("POST", "/small", &"x".repeat(2000))).await.unwrap();
    assert_eq!(response.status(), 413);
    // Without a length the size shows only as it flows.
    let mut raw = world.tls("one", "api.test", &["http/1.1"]).await.unwrap();
    let head =
        format!("POST /small HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n", world.authority());
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    raw.write_all(format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    raw.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    assert!(world.seen().iter().all(|seen| seen.body.len() <= 1024));
    assert_eq!(world.receipts(3).await[1].outcome.as_ref().unwrap().status, Some(413));
}

#[tokio::test]
async fn the_placeholder_may_not_travel_in_a_body() {
    let world = World::new().await;
    let placeholder = crate::credential::Placeholders::new(&[9; 32]).of("one", "token");
    let mut agent = world.h1("one", "api.test").await;
    let body = format!("look: {placeholder}");
    let response = agent.send_request(world.request("POST", "/open/gist", &body)).await.unwrap();
    assert_eq!(response.status(), 403);
    assert_eq!(json(response).await["code"], "placeholder_misplaced");
    assert!(world.seen().iter().all(|seen| !String::from_utf8_lossy(&seen.body).contains(&placeholder)));
}

#[tokio::test]
async fn plain_http_is_judged_by_the_port_that_was_dialled() {
    let world = World::new().await;
    let stream = world.dial("one", world.http).await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut agent, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    for (host, status) in [(format!("plain.test:{}", world.http), 200), ("plain.test".into(), 421)] {
        let request = Request::get("/x").header("host", host).body(Full::<Bytes>::default()).unwrap();
        assert_eq!(agent.send_request(request).await.unwrap().status(), status);
    }
    assert_eq!(world.seen().len(), 1);
}

#[tokio::test]
async fn special_addresses_and_bad_certificates_are_refused_with_a_reason() {
    let world = World::new().await;
    // `plain.test` has no certificate of the upstream's; over TLS its rule does not match at all.
    let error = world.tls("one", "plain.test", &["http/1.1"]).await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    let receipts = world.receipts(1).await;
    assert_eq!(
        (receipts[0].intent.reason.as_str(), receipts[0].intent.host.as_deref()),
        ("no_rule", Some("plain.test"))
    );
    // Without the policy's word, loopback is special.
    let text = super::world::policy("one", world.https, world.http).replace("127.0.0.1/32", "10.9.9.9/32");
    world.policies.send(super::world::compile(&[text])).unwrap();
    let mut agent = world.h1("one", "api.test").await;
    let response = agent.send_request(world.request("GET", "/open/x", "")).await.unwrap();
    assert_eq!(response.status(), 403);
    assert_eq!(json(response).await["code"], "special_address");
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn a_policy_change_counts_from_the_next_request() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    assert_eq!(agent.send_request(world.request("GET", "/open/x", "")).await.unwrap().status(), 200);
    world.policies.send(std::sync::Arc::new(enforcer_policy::PolicySet::empty())).unwrap();
    let response = agent.send_request(world.request("GET", "/open/x", "")).await.unwrap();
    assert_eq!(json(response).await["code"], "no_policy");
}
