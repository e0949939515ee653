//! A yes that is taken back: what is under way ends, at both ends, and its receipt says why.

use std::time::Duration;

use enforcer_policy::Name;
use enforcer_vault::{Binding, Dangers, Secret};
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::AsyncReadExt as _;

use super::sockets::{Io, Socket};
use super::world::{SECRET, World, compile, json, policy, text};
use crate::switches::Off;

/// Cutting takes a moment of the scheduler; this is for a machine that is busy compiling.
const SOON: Duration = Duration::from_secs(5);

fn off() -> Off {
    Off { at: 1, uid: 0, reason: None, frozen: false, quarantine: false }
}

/// As `enforcer agent disable one` does it.
async fn disable(world: &World) {
    world.switches.turn_off(&Name::parse("one").unwrap(), off());
    world.lifelines.cut_agent("one");
    assert!(world.lifelines.ended("one", SOON).await, "something of the agent is still there");
}

async fn broken(response: Response<Incoming>) {
    let ended = tokio::time::timeout(SOON, response.into_body().collect()).await;
    assert!(ended.expect("the stream ends").is_err(), "it must not look complete");
}

async fn ends(world: &World, count: usize) -> Vec<String> {
    let receipts = world.receipts(count).await;
    receipts
        .into_iter()
        .map(|r| r.outcome.unwrap())
        .map(|o| format!("{}: {}", o.end, o.error.unwrap_or_default()))
        .collect()
}

async fn websocket(world: &World, path: &str) -> Io {
    let mut socket = Socket::open(world, path).await;
    socket.send(0x81, b"hello").await;
    assert_eq!(socket.frame().await, (0x81, b"hello".to_vec()));
    socket.io
}

async fn gone(mut io: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    drop(tokio::time::timeout(SOON, io.read_to_end(&mut rest)).await.expect("the socket ends"));
    assert!(rest.is_empty());
}

#[tokio::test]
async fn disabling_an_agent_cuts_all_it_has_and_refuses_what_comes_and_leaves_others_alone() {
    let world = World::new().await;
    let mut h1 = world.h1("one", "api.test").await;
    let mut h2 = world.h2("one", "api.test").await;
    let mut other = world.h1("two", "api.test").await;
    let first = h1.send_request(world.request("GET", "/token/endless", "")).await.unwrap();
    let second = h2.send_request(world.request2("GET", "/open/endless", "")).await.unwrap();
    let socket = websocket(&world, "/socket/websocket").await;
    let silent = world.dial("one", world.https).await;
    let events = other.send_request(world.request("GET", "/open/events", "")).await.unwrap();

    disable(&world).await;
    broken(first).await;
    broken(second).await;
    gone(socket).await;
    gone(silent).await;
    let all = ends(&world, 3).await;
    let cut = all.iter().filter(|end| *end == "cut: the agent was disabled").count();
    assert_eq!(cut, 3, "{all:?}");
    assert_eq!(text(events).await, "data: 1\n\ndata: 2\n\ndata: 3\n\n");

    let asked = world.seen().len();
    let mut h1 = world.h1("one", "api.test").await;
    let refused = h1.send_request(world.request("GET", "/open/x", "")).await.unwrap();
    assert_eq!(refused.status(), 403);
    let body = json(refused).await;
    assert_eq!((&body["code"], &body["retry"]), (&"agent_disabled".into(), &false.into()));
    assert!(body["advice"].as_str().unwrap().contains("Only a person"), "{body}");
    assert_eq!(world.seen().len(), asked);

    world.switches.turn_on(&Name::parse("one").unwrap());
    assert_eq!(h1.send_request(world.request("GET", "/open/x", "")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_cut_as_well() {
    let world = World::new().await;
    let mut h1 = world.h1("one", "api.test").await;
    let mut h2 = world.h2("one", "api.test").await;
    let _unread = h1.send_request(world.request("GET", "/open/huge", "")).await.unwrap();
    let _unread = h2.send_request(world.request2("GET", "/open/huge", "")).await.unwrap();
    // All buffers on the way are full now.
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.policies.send_replace(compile(&[policy("two", world.https, world.http)]));
    let all = ends(&world, 2).await;
    assert!(all.iter().all(|end| end == "cut: the policy no longer allows it"), "{all:?}");
}

#[tokio::test]
async fn a_reload_cuts_what_it_no_longer_allows_and_nothing_else() {
    let world = World::new().await;
    let mut agent = world.h2("one", "api.test").await;
    let (mut again, mut third) = (agent.clone(), world.h1("one", "api.test").await);
    let cut = agent.send_request(world.request2("GET", "/open/endless", "")).await.unwrap();
    let kept = again.send_request(world.request2("GET", "/token/events", "")).await.unwrap();
    let slow = third.send_request(world.request("GET", "/open/endless", "")).await.unwrap();
    let socket = websocket(&world, "/socket/websocket").await;
    let texts = [
        policy("one", world.https, world.http)
            .replace("/open/", "/shut/")
            .replace("/socket/**\", websocket: true", "/socket/**\""),
        policy("two", world.https, world.http),
    ];
    world.policies.send_replace(compile(&texts));
    broken(cut).await;
    broken(slow).await;
    gone(socket).await;
    // On the very connection that carried the one that was cut.
    assert_eq!(text(kept).await, "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    let all = ends(&world, 4).await;
    assert_eq!(all.iter().filter(|end| *end == "cut: the policy no longer allows it").count(), 3, "{all:?}");
    assert_eq!(all.iter().filter(|end| *end == "done: ").count(), 1, "{all:?}");
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_is_told_that_its_leave_was_withdrawn() {
    let world = World::new().await;
    let mut agent = world.h1("one", "api.test").await;
    let waiting = tokio::spawn(agent.send_request(world.request("GET", "/token/silence", "")));
    world.asked("/token/silence").await;
    world.secrets.remove("token".into()).await.unwrap();
    assert_eq!(world.lifelines.cut_secret("token"), 2, "the request, and the connection it went out on");
    let response = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(response.status(), 403);
    let body = json(response).await;
    assert_eq!(body["code"], "withdrawn");
    assert!(!body.to_string().contains("`token`"), "names of secrets are not the agent's to know: {body}");
    assert_eq!(ends(&world, 1).await, ["cut: secret `token` was replaced or removed"]);
}

#[tokio::test]
async fn changing_a_secret_cuts_what_used_it_and_closes_its_connections() {
    let world = World::new().await;
    let mut h1 = world.h1("one", "api.test").await;
    let mut h2 = world.h2("two", "api.test").await;
    let mut other = world.h1("one", "api.test").await;
    // One connection waits in the pool, others are in use.
    assert_eq!(h1.send_request(world.request("GET", "/token/x", "")).await.unwrap().status(), 200);
    let before = world.seen()[0].connection;
    assert_eq!(h1.send_request(world.request("GET", "/token/x", "")).await.unwrap().status(), 200);
    assert_eq!(world.seen()[1].connection, before, "it is reused");
    let cut = h2.send_request(world.request2("GET", "/token/endless", "")).await.unwrap();
    let kept = other.send_request(world.request("GET", "/key/events", "")).await.unwrap();
    let socket = websocket(&world, "/token/socket/websocket").await;

    let hosts =
        vec![Binding::parse(&format!("https://api.test:{}", world.https), Dangers::default()).unwrap()];
    let next = SECRET.replace("live", "next");
    world.secrets.set("token".into(), hosts, Secret::new(next.clone().into_bytes()).unwrap()).await.unwrap();
    world.lifelines.cut_secret("token");
    broken(cut).await;
    gone(socket).await;
    assert_eq!(text(kept).await, "data: 1\n\ndata: 2\n\ndata: 3\n\n");

    let mut h1 = world.h1("one", "api.test").await;
    assert_eq!(h1.send_request(world.request("GET", "/token/x", "")).await.unwrap().status(), 200);
    let last = world.seen().pop().unwrap();
    assert_eq!(last.header("authorization"), Some(format!("Bearer {next}").as_str()));
    assert!(world.seen()[..world.seen().len() - 1].iter().all(|seen| seen.connection != last.connection));
    let all = ends(&world, 6).await;
    assert_eq!(all.iter().filter(|end| end.starts_with("cut: secret `token`")).count(), 2, "{all:?}");
}
