//! What a rule does to answers, as the agent gets them and as the receipt tells it.

use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;

use super::world::{SECRET, World, compile, policy, text};

/// The rule for `/token/**` with this `response`.
fn with(world: &World, response: &str) {
    let rule = "paths: \"/token/**\", credential: token }";
    let text = policy("one", world.https, world.http);
    assert!(text.contains(rule));
    let text =
        text.replace(rule, &format!("paths: \"/token/**\", credential: token, response: {response} }}"));
    world.policies.send_replace(compile(&[text]));
}

async fn get(world: &World, path: &str) -> Response<Incoming> {
    let mut agent = world.h1("one", "api.test").await;
    agent.send_request(world.request("GET", path, "")).await.unwrap()
}

async fn code(response: Response<Incoming>) -> (u16, serde_json::Value) {
    let status = response.status().as_u16();
    (status, super::world::json(response).await["code"].clone())
}

#[tokio::test]
async fn fields_go_and_the_secret_goes_with_them_and_both_are_counted() {
    let world = World::new().await;
    with(&world, "{ redact: [{ headers: x-user }] }");
    let before = text(get(&world, "/token/person").await).await;
    assert!(before.contains("ann@example.com"), "without the rule it comes through: {before}");

    with(&world, "{ redact: [{ fields: email, headers: x-user }], content_types: application/json }");
    let response = get(&world, "/token/person").await;
    assert!(!response.headers().contains_key("x-user") && !response.headers().contains_key("content-length"));
    let body = text(response).await;
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&value["name"], &value["email"]), (&json!("Ann"), &json!("[redacted]")));
    assert!(!body.contains(SECRET) && value["said"].as_str().unwrap().contains('*'), "{body}");
    let receipts = world.receipts(2).await;
    let outcome = receipts.last().unwrap().outcome.as_ref().unwrap();
    assert_eq!((outcome.redacted, outcome.scrubbed), (2, 1), "{outcome:?}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_or_may_not_come_is_refused_with_a_reason() {
    let world = World::new().await;
    with(&world, "{ redact: [{ fields: email }] }");
    assert_eq!(code(get(&world, "/token/events").await).await, (502, "response_unreadable".into()));
    with(&world, "{ content_types: [text/html, text/plain] }");
    assert_eq!(code(get(&world, "/token/person").await).await, (502, "response_type".into()));
    with(&world, "{ max_body: 1KiB }");
    assert_eq!(code(get(&world, "/token/big").await).await, (502, "response_too_large".into()));
    assert_eq!(get(&world, "/token/person").await.status(), 200);
}

#[tokio::test]
async fn an_answer_of_unknown_length_is_cut_where_it_grows_too_large() {
    let world = World::new().await;
    with(&world, "{ max_body: 12B }");
    let response = get(&world, "/token/events").await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err(), "a cut answer must not look whole");
    let outcome = world.receipts(1).await[0].outcome.clone().unwrap();
    assert!(outcome.error.as_ref().unwrap().contains("larger than the 12 bytes"), "{outcome:?}");
    assert!(outcome.response_bytes <= 12);
}
