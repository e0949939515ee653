//! Rates by value, byte budgets and places, as an agent meets them.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use super::world::{World, compile, json, policy};

/// The stage's policy with these lines below it.
fn with(world: &World, rules: &str, limits: &str) {
    let (head, dns) = policy("one", world.https, world.http)
        .split_once("dns:")
        .map(|(head, dns)| (head.to_owned(), dns.to_owned()))
        .unwrap();
    let rules = rules.replace("HTTPS", &world.https.to_string());
    world.policies.send_replace(compile(&[format!("{head}{rules}\nlimits: {limits}\ndns:{dns}")]));
}

async fn get(world: &World, path: &str) -> Response<Incoming> {
    let mut agent = world.h1("one", "api.test").await;
    agent.send_request(world.request("GET", path, "")).await.unwrap()
}

async fn post(world: &World, path: &str, bytes: usize) -> (u16, Value) {
    let mut agent = world.h1("one", "api.test").await;
    let response = agent.send_request(world.request("POST", path, &"x".repeat(bytes))).await.unwrap();
    let status = response.status().as_u16();
    (status, if status == 200 { Value::Null } else { json(response).await })
}

#[tokio::test]
async fn each_value_of_the_path_has_a_rate_of_its_own() {
    let world = World::new().await;
    let rule = r#"  - { name: each, host: api.test, port: HTTPS, methods: GET, paths: "/items/{owner}/{item}", rate: "2/hour per {owner}" }"#;
    with(&world, rule, "{ rate: 100/min }");
    for owner in ["ann", "bob"] {
        for item in [1, 2] {
            assert_eq!(get(&world, &format!("/items/{owner}/{item}")).await.status(), 200);
        }
        // Another spelling is the same value.
        let spelt = owner.replace('n', "%6E").replace('b', "%62");
        assert_ne!(get(&world, &format!("/items/{spelt}/3")).await.status(), 200, "{spelt}");
        let refused = get(&world, &format!("/items/{owner}/3")).await;
        assert_eq!(refused.status(), 429);
        let body = json(refused).await;
        assert_eq!(body["code"], "rate_limited");
        let reason = body["reason"].as_str().unwrap();
        assert!(reason.contains("2/hour per {owner}") && reason.contains(owner), "{reason}");
    }
    assert_eq!(get(&world, "/items/eve/1").await.status(), 200);
}

#[tokio::test]
async fn what_is_sent_counts_and_beyond_the_budget_nothing_leaves() {
    let world = World::new().await;
    with(&world, "", "{ upload: 10KB/day }");
    assert_eq!(post(&world, "/open/a", 4000).await.0, 200);
    assert_eq!(post(&world, "/open/b", 4000).await.0, 200);
    let (status, body) = post(&world, "/open/c", 4000).await;
    assert_eq!((status, &body["code"]), (429, &"budget_spent".into()), "{body}");
    assert!(body["retry_after"].as_u64().unwrap() > 60, "{body}");
    assert!(body["reason"].as_str().unwrap().contains("10000 bytes/day sent"), "{body}");
    let (status, body) = post(&world, "/open/d", 20_000).await;
    assert_eq!((status, &body["code"]), (413, &"too_large".into()), "{body}");
    assert_eq!(world.seen().len(), 2, "what was refused did not leave");
    // A path is as good a place to carry things out as a body.
    let long = format!("/open/{}", "x".repeat(4000));
    assert_eq!(get(&world, &long).await.status(), 429);
}

#[tokio::test]
async fn what_is_received_counts_too_and_is_cut_with_a_reason() {
    let world = World::new().await;
    with(&world, "", "{ download: 100KB/day }");
    let big = get(&world, "/open/big").await;
    assert!(big.into_body().collect().await.is_err(), "a megabyte does not fit");
    let receipts = world.receipts(1).await;
    let outcome = receipts[0].outcome.as_ref().unwrap();
    // Used up, or less than the piece that came: that is for the sizes in which the server's bytes arrive.
    assert!(outcome.error.as_ref().unwrap().contains("100000 bytes/day received"), "{outcome:?}");
    assert!(outcome.response_bytes <= 100_000, "{outcome:?}");
}

#[tokio::test]
async fn one_request_too_many_waits_and_then_is_refused() {
    let world = World::new().await;
    with(&world, "", "{ concurrent: 1 }");
    let first = get(&world, "/open/endless").await;
    let begun = std::time::Instant::now();
    let refused = get(&world, "/open/x").await;
    assert_eq!(refused.status(), 429);
    assert!(begun.elapsed() > Duration::from_secs(4));
    assert!(json(refused).await["reason"].as_str().unwrap().contains("1 requests are under way"));
    drop(first);
    assert_eq!(get(&world, "/open/x").await.status(), 200);
}

#[tokio::test]
async fn any_host_goes_where_there_is_a_budget() {
    let world = World::new().await;
    let rule = r#"  - { name: anywhere, host: "*", port: HTTPS, methods: GET, paths: "/free/**" }"#;
    with(&world, rule, "{ upload: 10KB/day }");
    assert_eq!(get(&world, "/free/x").await.status(), 200);
}
