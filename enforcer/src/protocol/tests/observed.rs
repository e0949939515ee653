//! `mode: observe`: what would be refused passes, and its receipt says that it would not.

use http_body_util::BodyExt as _;

use super::world::{World, compile, policy};

async fn status(world: &World, method: &str, path: &str) -> u16 {
    let mut agent = world.h1("one", "api.test").await;
    let response = agent.send_request(world.request(method, path, "")).await.unwrap();
    let status = response.status().as_u16();
    drop(response.into_body().collect().await);
    status
}

fn load(world: &World, change: impl Fn(&str) -> String) {
    world.policies.send_replace(compile(&[change(&policy("one", world.https, world.http))]));
}

#[tokio::test]
async fn what_would_be_refused_passes_and_is_on_record_and_deny_rules_may_still_hold() {
    let world = World::new().await;
    assert_eq!(status(&world, "GET", "/nowhere").await, 403, "enforced");
    assert_eq!(status(&world, "DELETE", "/open/x").await, 403, "enforced");

    load(&world, |text| text.replacen("agent: one", "agent: one\nmode: observe", 1));
    assert_eq!(status(&world, "GET", "/nowhere").await, 200);
    assert_eq!(status(&world, "DELETE", "/open/x").await, 200);
    for _ in 0..3 {
        assert_eq!(status(&world, "GET", "/few").await, 200, "two an hour");
    }
    // No rule, no credential.
    assert!(world.seen().iter().all(|seen| seen.header("authorization").is_none()));
    let receipts = world.receipts(7).await;
    let told: Vec<(&str, Option<&str>)> =
        receipts[2..].iter().map(|r| (r.intent.reason.as_str(), r.intent.rule.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("would_deny", None),
            ("would_deny", Some("no-delete")),
            ("allowed", Some("few")),
            ("allowed", Some("few")),
            ("would_deny", Some("few")),
        ]
    );

    load(&world, |text| {
        text.replacen("agent: one", "agent: one\nmode: observe", 1).replacen(
            "methods: DELETE",
            "methods: DELETE, mode: enforce",
            1,
        )
    });
    assert_eq!(status(&world, "DELETE", "/open/x").await, 403);
    // One rule observes, the policy does not.
    load(&world, |text| text.replacen("methods: DELETE", "methods: DELETE, mode: observe", 1));
    assert_eq!(status(&world, "DELETE", "/open/x").await, 403, "no rule allows it");
    assert_eq!(status(&world, "GET", "/nowhere").await, 403);
}

#[tokio::test]
async fn special_addresses_stay_shut() {
    let world = World::new().await;
    load(&world, |text| {
        text.replacen("agent: one", "agent: one\nmode: observe", 1)
            .replace("dns: { private_addresses: [127.0.0.1/32] }", "")
    });
    let mut agent = world.h1("one", "api.test").await;
    let refused = agent.send_request(world.request("GET", "/nowhere", "")).await.unwrap();
    assert_eq!(super::world::json(refused).await["code"], "special_address");
}
