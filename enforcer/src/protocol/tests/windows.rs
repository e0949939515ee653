//! A rule that holds at some times only, and what happens to a request when its time is over.

use std::time::Duration;

use enforcer_policy::Moment;
use http_body_util::BodyExt as _;

use super::world::{World, compile, json, policy};
use crate::audit::clock::Time;

/// The stage's policy with an end for the rule `open`.
fn until(world: &World, end: Time) -> String {
    let when = format!("\"/open/**\", when: {{ until: \"{end}\" }} }}");
    let text = policy("one", world.https, world.http).replacen("\"/open/**\" }", &when, 1);
    assert!(Moment::parse(&end.to_string()).is_some() && text.contains("until"));
    text
}

#[tokio::test]
async fn a_request_under_way_is_cut_when_its_window_closes_and_the_next_is_refused() {
    let world = World::new().await;
    let end = Time::from_micros(Time::now().micros() + 1_500_000);
    world.policies.send_replace(compile(&[until(&world, end)]));
    let mut agent = world.h1("one", "api.test").await;
    let under_way = agent.send_request(world.request("GET", "/open/endless", "")).await.unwrap();
    assert_eq!(under_way.status(), 200);
    let ended = tokio::time::timeout(Duration::from_secs(20), under_way.into_body().collect()).await;
    assert!(ended.expect("it is cut").is_err(), "it must not look complete");
    assert!(Time::now() >= end);

    let mut agent = world.h1("one", "api.test").await;
    let refused = agent.send_request(world.request("GET", "/open/x", "")).await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(json(refused).await["code"], "no_rule");
    let receipts = world.receipts(2).await;
    let first = receipts[0].outcome.as_ref().unwrap();
    assert_eq!(
        (first.end.as_str(), first.error.as_deref()),
        ("cut", Some("the time at which its rule holds is over"))
    );
}
