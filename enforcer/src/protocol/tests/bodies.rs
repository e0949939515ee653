//! Bodies that are looked into: read whole or not at all, sent as they were read.

use std::time::Duration;

use bytes::Bytes;
use enforcer_policy::Name;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::{World, compile, json, policy, text};
use crate::proxy::BODIES;

fn sent(world: &World, path: &str, kind: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = world.request("POST", path, "").map(|_| Full::from(body.into()));
    if !kind.is_empty() {
        request.headers_mut().insert("content-type", kind.parse().unwrap());
    }
    request
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn what_was_judged_is_what_is_sent() {
    let world = World::new().await;
    // Odd but clear: blanks, escapes, a key order of its own.
    let body = " {\"z\" : 1,\n \"base\":\"m\\u0061in\", \"n\": 1.50e+1 }\r\n";
    let mut agent = world.h1("one", "api.test").await;
    let response = agent.send_request(sent(&world, "/judged/x", JSON, body)).await.unwrap();
    assert_eq!(response.status(), 200, "{}", text(response).await);
    let agent = world.h2("one", "api.test").await;
    let mut request = world.request2("POST", "/judged/y", body);
    request.headers_mut().insert("content-type", "application/json; charset=UTF-8".parse().unwrap());
    assert_eq!(agent.clone().send_request(request).await.unwrap().status(), 200);
    let mut agent = world.h1("one", "api.test").await;
    let form = sent(&world, "/judged/form", FORM, "amount=100&x=%20");
    assert_eq!(agent.send_request(form).await.unwrap().status(), 200);
    let seen = world.seen();
    assert_eq!((&seen[0].body[..], &seen[1].body[..]), (body.as_bytes(), body.as_bytes()));
    assert_eq!(&seen[2].body[..], b"amount=100&x=%20");
    let length = body.len().to_string();
    assert_eq!(seen[0].header("content-length"), Some(length.as_str()));
    let receipts = world.receipts(3).await;
    assert_eq!(receipts[0].outcome.as_ref().unwrap().request_bytes, body.len() as u64);
}

#[tokio::test]
async fn a_body_that_is_not_clear_is_refused_and_the_reason_says_how() {
    let world = World::new().await;
    let many = format!("{{\"base\":\"main\",\"x\":\"{}\"}}", "y".repeat(9 << 20));
    let deep = format!("{{\"base\":\"main\",\"x\":{}{}}}", "[".repeat(70), "]".repeat(70));
    let cases: [(&str, &str, Bytes, &str, &str, &str); 13] = [
        (
            "/judged/x",
            JSON,
            "{\"base\":\"gh-pages\"}".into(),
            "",
            "no_rule",
            "json `base` must be one of main, develop",
        ),
        (
            "/judged/x",
            JSON,
            "{\"base\":\"main\",\"base\":\"gh-pages\"}".into(),
            "",
            "body_unreadable",
            "twice",
        ),
        ("/judged/x", JSON, "{\"base\":\"main\",\"Base\":\"gh-pages\"}".into(), "", "no_rule", "base"),
        ("/judged/x", JSON, "{\"base\":".into(), "", "body_unreadable", "not JSON"),
        (
            "/judged/x",
            JSON,
            Bytes::from_static(b"{\"base\":\"main\",\"x\":\"\xff\"}"),
            "",
            "body_unreadable",
            "UTF-8",
        ),
        ("/judged/x", JSON, deep.into(), "", "body_unreadable", "64 deep"),
        ("/judged/x", JSON, many.into(), "", "too_large", "8388608"),
        ("/judged/x", "", "{\"base\":\"main\"}".into(), "", "body_unreadable", "no content-type"),
        ("/judged/x", "text/plain", "{\"base\":\"main\"}".into(), "", "body_unreadable", "text/plain"),
        (
            "/judged/x",
            "application/json; charset=utf-16",
            "{\"base\":\"main\"}".into(),
            "",
            "body_unreadable",
            "parameter",
        ),
        ("/judged/x", JSON, "{\"base\":\"main\"}".into(), "gzip", "body_unreadable", "compressed"),
        ("/judged/x", JSON, "".into(), "", "no_rule", "base"),
        ("/judged/form", FORM, "amount=100;amount=9".into(), "", "body_unreadable", "';'"),
    ];
    for (path, kind, body, coding, code, words) in cases {
        let mut agent = world.h1("one", "api.test").await;
        let mut request = sent(&world, path, kind, body);
        if !coding.is_empty() {
            request.headers_mut().insert("content-encoding", coding.parse().unwrap());
        }
        let answer = json(agent.send_request(request).await.unwrap()).await;
        assert_eq!(answer["code"], code, "{kind} {words}: {answer}");
        assert!(answer["reason"].as_str().unwrap().contains(words), "{words}: {answer}");
        assert!(!answer.to_string().contains("gh-pages"), "a refusal repeats no value: {answer}");
    }
    assert!(world.seen().is_empty(), "{:?}", world.seen());
}

#[tokio::test]
async fn a_deny_rule_looks_into_bodies_that_an_allow_rule_would_not() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    // The attack works where no rule looks.
    assert_eq!(
        agent.send_request(sent(&world, "/open/x", JSON, "{\"to\":\"evil\"}")).await.unwrap().status(),
        200
    );
    for (kind, body, code) in [
        (JSON, "{\"to\":\"evil\"}", "deny_rule"),
        (JSON, "{\"TO\":\"evil\"}", "deny_rule"),
        ("application/octet-stream", "{\"to\":\"evil\"}", "body_unreadable"),
    ] {
        let answer = json(agent.send_request(sent(&world, "/open/watched", kind, body)).await.unwrap()).await;
        assert_eq!(answer["code"], code, "{answer}");
    }
    assert_eq!(world.seen().len(), 1);
    assert_eq!(
        agent.send_request(sent(&world, "/open/watched", JSON, "{\"to\":\"a\"}")).await.unwrap().status(),
        200
    );
}

#[tokio::test]
async fn rules_see_the_headers_that_are_sent() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    let mut request = world.request("GET", "/versioned", "");
    request.headers_mut().insert("x-version", "1".parse().unwrap());
    assert_eq!(agent.send_request(request.clone()).await.unwrap().status(), 200);
    // Named here it does not travel, so the rule must not count it.
    request.headers_mut().insert("connection", "x-version".parse().unwrap());
    assert_eq!(agent.send_request(request).await.unwrap().status(), 403);
    assert_eq!(world.seen().len(), 1);
}

/// The head and half of a body; then the rest, and the answer.
async fn in_halves(world: &World, path: &str, body: &str, meanwhile: impl AsyncFnOnce()) -> String {
    let mut stream = world.tls("one", "api.test", &["http/1.1"]).await.unwrap();
    let (first, second) = body.split_at(body.len() / 2);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{first}",
        world.authority(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    // Until it is being judged.
    while world.shared.caps.of(&Name::parse("one").unwrap()).bodies.available_permits() == BODIES {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    meanwhile().await;
    stream.write_all(second.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_policy_in_force_after_the_body_was_read_decides() {
    let world = World::new().await;
    let body = "{\"base\":\"develop\", \"x\": \"0123456789\"}";
    let changed = |from: &str, to: &str| {
        let text = policy("one", world.https, world.http);
        assert!(text.contains(from));
        compile(&[text.replace(from, to), policy("two", world.https, world.http)])
    };
    let answer = in_halves(&world, "/judged/x", body, async || ()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = in_halves(&world, "/judged/x", body, async || {
        drop(world.policies.send(changed("[main, develop]", "[main]")));
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("must be one of main"), "{answer}");
    // What the head alone now forbids is not waited for.
    drop(world.policies.send(changed("[main, develop]", "[main, develop]")));
    let answer = in_halves(&world, "/judged/x", body, async || {
        drop(world.policies.send(changed("paths: \"/judged/**\"", "paths: \"/elsewhere\"")));
        assert!(world.lifelines.ended("one", Duration::from_secs(5)).await);
    })
    .await;
    assert!(answer.contains("\"withdrawn\""), "{answer}");
    assert_eq!(world.seen().len(), 1);
    let permits = world.shared.caps.of(&Name::parse("one").unwrap()).bodies.available_permits();
    assert_eq!(permits, BODIES, "what was held is given back");
}

#[tokio::test]
async fn a_request_under_way_is_judged_by_a_new_policy_with_the_body_it_had() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    let change =
        |text: String| drop(world.policies.send(compile(&[text, policy("two", world.https, world.http)])));
    let own = policy("one", world.https, world.http);
    let response =
        agent.send_request(sent(&world, "/judged/endless", JSON, "{\"base\":\"develop\"}")).await.unwrap();
    let unread = world
        .h1("one", "api.test")
        .await
        .send_request(sent(&world, "/open/endless", JSON, "{}"))
        .await
        .unwrap();
    change(format!("{own}# the same\n"));
    assert!(world.receipts_so_far().await.iter().all(|receipt| receipt.outcome.is_none()), "nothing is cut");
    change(own.replace("[main, develop]", "[main]"));
    for response in [response] {
        assert!(
            tokio::time::timeout(Duration::from_secs(5), response.into_body().collect())
                .await
                .unwrap()
                .is_err()
        );
    }
    // Nobody kept this body: a rule that now asks for it cannot be obeyed, and unknown is no.
    change(own.replace("/open/watched", "/open/**"));
    assert!(
        tokio::time::timeout(Duration::from_secs(5), unread.into_body().collect()).await.unwrap().is_err()
    );
}
