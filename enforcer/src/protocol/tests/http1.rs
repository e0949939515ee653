//! HTTP/1 as old, eager and misguided clients speak it.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::World;

/// Sends the bytes on a connection in the clear, and reads to its end.
async fn ask(world: &World, bytes: &str) -> String {
    let mut agent = world.dial("one", world.http).await;
    let bytes = bytes.replace("HOST", &format!("plain.test:{}", world.http));
    agent.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    agent.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Up to and with the empty line.
async fn head(agent: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(agent.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn who_takes_us_for_a_proxy_is_told_that_there_is_none() {
    let world = World::new().await;
    for bytes in [
        "CONNECT api.test:443 HTTP/1.1\r\nhost: api.test:443\r\nconnection: close\r\n\r\n",
        "GET http://plain.test/ HTTP/1.1\r\nhost: plain.test\r\nconnection: close\r\n\r\n",
    ] {
        let answer = ask(&world, bytes).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert!(answer.contains("unset HTTP_PROXY"), "{answer}");
    }
    assert!(world.seen().is_empty());
}

#[tokio::test]
async fn an_old_client_gets_its_answer_up_to_the_end_of_the_connection() {
    let world = World::new().await;
    let answer = ask(&world, "GET /events HTTP/1.0\r\nhost: HOST\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200") && !head.contains("transfer-encoding"), "{head}");
    assert_eq!(body, "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    assert_eq!(world.seen()[0].line, "GET /events HTTP/1.1");
    // Kept where it asks for that, as far as the length is known.
    let kept = "GET /a HTTP/1.0\r\nhost: HOST\r\nconnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\nhost: HOST\r\n\r\n";
    assert_eq!(ask(&world, kept).await.matches("200 OK").count(), 2);
}

#[tokio::test]
async fn requests_sent_at_once_are_judged_one_by_one_and_answered_in_order() {
    let world = World::new().await;
    let many = "GET /one HTTP/1.1\r\nhost: HOST\r\n\r\n\
                POST /two HTTP/1.1\r\nhost: HOST\r\ncontent-length: 4\r\n\r\nbody\
                DELETE /three HTTP/1.1\r\nhost: HOST\r\n\r\n\
                GET /events HTTP/1.1\r\nhost: HOST\r\n\r\n\
                GET /five HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n";
    let answer = ask(&world, many).await;
    let statuses: Vec<&str> = answer.matches("HTTP/1.1 200").chain(answer.matches("HTTP/1.1 403")).collect();
    assert_eq!(statuses.len(), 5, "{answer}");
    let at = |text: &str| answer.find(text).unwrap_or_else(|| panic!("{text}: {answer}"));
    assert!(at("HTTP/1.1 403") < at("data: 1") && at("data: 3") < answer.rfind("HTTP/1.1 200").unwrap());
    let lines: Vec<String> = world.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines,
        ["GET /one HTTP/1.1", "POST /two HTTP/1.1", "GET /events HTTP/1.1", "GET /five HTTP/1.1"]
    );
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on_only_if_it_may() {
    let world = World::new().await;
    let asking = |method: &str| {
        let host = format!("plain.test:{}", world.http);
        format!("{method} /x HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
    };
    let mut agent = world.dial("one", world.http).await;
    agent.write_all(asking("DELETE").as_bytes()).await.unwrap();
    assert!(head(&mut agent).await.starts_with("HTTP/1.1 403"), "before a byte of the body");
    assert!(world.seen().is_empty());

    let mut agent = world.dial("one", world.http).await;
    agent.write_all(asking("POST").as_bytes()).await.unwrap();
    assert_eq!(head(&mut agent).await, "HTTP/1.1 100 Continue\r\n\r\n");
    agent.write_all(b"body").await.unwrap();
    assert!(head(&mut agent).await.starts_with("HTTP/1.1 200"));
    let seen = world.seen().remove(0);
    assert_eq!((&seen.body[..], seen.header("expect")), (&b"body"[..], None));
}

#[tokio::test]
async fn who_has_said_all_and_shuts_its_side_still_gets_its_answers() {
    let world = World::new().await;
    let ask = |path: &str, authority: &str| format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    let plain = format!("plain.test:{}", world.http);
    // One that takes its time, and several at once.
    for (path, answers) in [("/events", 1), ("/x", 3)] {
        let mut agent = world.dial("one", world.http).await;
        agent.write_all(ask(path, &plain).repeat(answers).as_bytes()).await.unwrap();
        agent.shutdown().await.unwrap();
        let mut answer = String::new();
        agent.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), answers, "{answer}");
        assert!(path != "/events" || answer.contains("data: 3"), "{answer}");
    }
    assert!(world.receipts(4).await.iter().all(|r| r.outcome.as_ref().unwrap().end == "done"));
    // Between requests it is the end.
    let mut agent = world.dial("one", world.http).await;
    agent.write_all(ask("/x", &plain).as_bytes()).await.unwrap();
    head(&mut agent).await;
    agent.shutdown().await.unwrap();
    let mut rest = Vec::new();
    agent.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"ok");
}

#[tokio::test]
async fn half_of_a_request_and_an_end_is_no_request() {
    let world = World::new().await;
    let host = format!("plain.test:{}", world.http);
    let mut agent = world.dial("one", world.http).await;
    let half = format!("POST /silence HTTP/1.1\r\nhost: {host}\r\ncontent-length: 9\r\n\r\nhalf");
    agent.write_all(half.as_bytes()).await.unwrap();
    agent.shutdown().await.unwrap();
    let mut answer = String::new();
    agent.read_to_string(&mut answer).await.unwrap();
    assert!(!answer.contains("200"), "{answer}");
    assert!(world.seen().is_empty());
}
