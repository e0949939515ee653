//! gRPC as its clients and servers use HTTP/2: both ways at once, trailers, cancellation, and connections that end gently.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response};
use tokio::sync::mpsc;

use super::legs::{asking, h2_agent, h2_upstream, ok, piece, reset, soon, tls_upstream};
use super::world::World;

/// A message in its frame: not compressed, its length, itself.
fn message(text: &str) -> Bytes {
    [&[0][..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat().into()
}

fn call(world: &World) -> Request<()> {
    let mut request = asking(world, "POST", "/open/pkg.Service/Method");
    for (name, value) in
        [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "5S"), ("x-meta", "data")]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

fn grpc(head: Response<()>) -> Response<()> {
    let (mut head, ()) = head.into_parts();
    head.headers.insert("content-type", "application/grpc".parse().unwrap());
    Response::from_parts(head, ())
}

fn status(code: &str) -> HeaderMap {
    HeaderMap::from_iter([
        ("grpc-status".parse().unwrap(), code.parse().unwrap()),
        ("grpc-message".parse().unwrap(), "said so".parse().unwrap()),
    ])
}

#[tokio::test]
async fn messages_go_both_ways_at_once_and_the_status_comes_last() {
    let mut world = World::new().await;
    h2_upstream(&mut world, |request, mut respond| async move {
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.headers()["grpc-timeout"], "5S");
        let mut body = request.into_body();
        let mut stream = respond.send_response(grpc(ok()), false).unwrap();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            stream.send_data(data, false).unwrap();
        }
        stream.send_trailers(status("0")).unwrap();
    })
    .await;
    let mut agent = h2_agent(&world).await;
    let (answer, mut stream) = agent.send_request(call(&world), false).unwrap();
    // The head comes before anything is sent.
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    let mut body = answer.into_body();
    for round in 0..5 {
        let said = message(&format!("round {round}"));
        stream.send_data(said.clone(), false).unwrap();
        assert_eq!(piece(&mut body).await, said);
    }
    stream.send_data(Bytes::new(), true).unwrap();
    assert!(soon(body.data()).await.is_none());
    let trailers = soon(body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["grpc-message"], "said so");
    let outcome = world.receipts(1).await.remove(0).outcome.unwrap();
    assert_eq!((outcome.end.as_str(), outcome.request_bytes), ("done", 5 * 12));
}

#[tokio::test]
async fn one_call_and_one_that_fails_at_once() {
    let mut world = World::new().await;
    h2_upstream(&mut world, |request, mut respond| async move {
        let mut body = request.into_body();
        let said = piece(&mut body).await;
        if said == message("late") {
            // Nothing but a head: what gRPC calls trailers only.
            let (mut head, ()) = grpc(ok()).into_parts();
            head.headers.extend(status("4"));
            respond.send_response(Response::from_parts(head, ()), true).unwrap();
            return;
        }
        let mut stream = respond.send_response(grpc(ok()), false).unwrap();
        stream.send_data(said, false).unwrap();
        stream.send_trailers(status("0")).unwrap();
    })
    .await;
    let mut agent = h2_agent(&world).await;
    let (answer, mut stream) = agent.send_request(call(&world), false).unwrap();
    stream.send_data(message("hello"), true).unwrap();
    let mut body = soon(answer).await.unwrap().into_body();
    assert_eq!(piece(&mut body).await, message("hello"));
    assert_eq!(soon(body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");

    let (answer, mut stream) = agent.send_request(call(&world), false).unwrap();
    stream.send_data(message("late"), true).unwrap();
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4");
    assert!(answer.body().is_end_stream());
}

#[tokio::test]
async fn a_call_that_the_agent_cancels_is_cancelled_at_the_server() {
    let mut world = World::new().await;
    let (told, mut ended) = mpsc::unbounded_channel();
    h2_upstream(&mut world, move |request, mut respond| {
        let told = told.clone();
        async move {
            let mut body = request.into_body();
            let mut stream = respond.send_response(grpc(ok()), false).unwrap();
            stream.send_data(piece(&mut body).await, false).unwrap();
            let reason = reset(&mut stream).await;
            // Its request has not ended, it was broken off.
            let rest = soon(body.data()).await;
            told.send((reason, matches!(rest, Some(Err(_))))).unwrap();
        }
    })
    .await;
    let mut agent = h2_agent(&world).await;
    let (answer, mut stream) = agent.send_request(call(&world), false).unwrap();
    stream.send_data(message("hello"), false).unwrap();
    let mut body = soon(answer).await.unwrap().into_body();
    assert_eq!(piece(&mut body).await, message("hello"));
    stream.send_reset(Reason::CANCEL);
    assert_eq!(soon(ended.recv()).await.unwrap(), (Reason::CANCEL, true));
    assert_eq!(world.receipts(1).await[0].outcome.as_ref().unwrap().end, "cancelled");
    // The connection is as good as before.
    let (answer, mut stream) = agent.send_request(call(&world), false).unwrap();
    stream.send_data(message("again"), false).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_call_that_is_cancelled_before_its_answer_is_cancelled_at_the_server() {
    let mut world = World::new().await;
    let (told, mut heard) = mpsc::unbounded_channel();
    h2_upstream(&mut world, move |request, mut respond| {
        let told = told.clone();
        async move {
            let mut body = request.into_body();
            told.send(None).unwrap();
            let ended = soon(body.data()).await;
            let reason = soon(std::future::poll_fn(|cx| respond.poll_reset(cx))).await.unwrap();
            told.send(Some((reason, matches!(ended, Some(Err(_)))))).unwrap();
        }
    })
    .await;
    let mut agent = h2_agent(&world).await;
    let (_answer, mut stream) = agent.send_request(call(&world), false).unwrap();
    assert_eq!(soon(heard.recv()).await.unwrap(), None);
    stream.send_reset(Reason::CANCEL);
    assert_eq!(soon(heard.recv()).await.unwrap(), Some((Reason::CANCEL, true)));
}

#[tokio::test]
async fn what_a_server_resets_is_reset_for_the_agent_with_the_same_code() {
    for reason in [Reason::CANCEL, Reason::ENHANCE_YOUR_CALM, Reason::INTERNAL_ERROR] {
        let mut world = World::new().await;
        h2_upstream(&mut world, move |request, mut respond| async move {
            let mut stream = respond.send_response(grpc(ok()), false).unwrap();
            stream.send_data(message("half"), false).unwrap();
            // When the agent has read that.
            let mut body = request.into_body();
            piece(&mut body).await;
            stream.send_reset(reason);
        })
        .await;
        let mut agent = h2_agent(&world).await;
        let (answer, mut stream) = agent.send_request(call(&world), false).unwrap();
        let mut body = soon(answer).await.unwrap().into_body();
        assert_eq!(piece(&mut body).await, message("half"));
        stream.send_data(message("read"), false).unwrap();
        let error = soon(body.data()).await.expect("an error").unwrap_err();
        assert_eq!(error.reason(), Some(reason));
        assert_eq!(world.receipts(1).await[0].outcome.as_ref().unwrap().end, "upstream_failed");
    }
}

/// Half of a file must not arrive as a file.
#[tokio::test]
async fn an_upload_that_is_cancelled_does_not_arrive_as_a_whole_one() {
    for h2 in [true, false] {
        let mut world = World::new().await;
        let (told, mut heard) = mpsc::unbounded_channel();
        if h2 {
            h2_upstream(&mut world, move |request, _respond| {
                let told = told.clone();
                async move {
                    let mut body = request.into_body();
                    told.send(String::from_utf8_lossy(&piece(&mut body).await).into_owned()).unwrap();
                    let whole = matches!(soon(body.data()).await, None | Some(Ok(_)));
                    told.send(if whole { "whole" } else { "broken off" }.into()).unwrap();
                }
            })
            .await;
        } else {
            tls_upstream(&mut world, false, move |mut stream, _number| {
                use tokio::io::AsyncReadExt as _;
                let told = told.clone();
                async move {
                    let mut heard = Vec::new();
                    let mut began = false;
                    while let Ok(1..) = stream.read_buf(&mut heard).await {
                        if !began && heard.ends_with(b"half\r\n") {
                            began = true;
                            told.send("half".into()).unwrap();
                        }
                    }
                    let whole = heard.ends_with(b"0\r\n\r\n");
                    told.send(if whole { "whole" } else { "broken off" }.into()).unwrap();
                }
            })
            .await;
        }
        let mut agent = h2_agent(&world).await;
        let (_answer, mut stream) = agent.send_request(asking(&world, "POST", "/open/file"), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        assert_eq!(soon(heard.recv()).await.unwrap(), "half");
        stream.send_reset(Reason::CANCEL);
        assert_eq!(soon(heard.recv()).await.unwrap(), "broken off", "h2: {h2}");
    }
}

#[tokio::test]
async fn a_server_that_says_goodbye_finishes_what_runs_and_is_dialled_again() {
    let mut world = World::new().await;
    let (told, mut heard) = mpsc::unbounded_channel::<()>();
    let leave = std::sync::Arc::new(tokio::sync::Notify::new());
    let leaving = leave.clone();
    let connections = tls_upstream(&mut world, true, move |stream, number| {
        let (told, leaving) = (told.clone(), leaving.clone());
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut left = false;
            loop {
                tokio::select! {
                    accepted = connection.accept() => {
                        let Some(Ok((request, mut respond))) = accepted else { return };
                        tokio::spawn(async move {
                            let mut body = request.into_body();
                            let mut stream = respond.send_response(grpc(ok()), false).unwrap();
                            while let Some(Ok(data)) = body.data().await {
                                stream.send_data(data, false).unwrap();
                            }
                            stream.send_trailers(status("0")).unwrap();
                        });
                    }
                    () = leaving.notified(), if number == 0 && !left => {
                        left = true;
                        connection.graceful_shutdown();
                        told.send(()).unwrap();
                    }
                }
            }
        }
    })
    .await;
    let mut agent = h2_agent(&world).await;
    let (answer, mut stream) = agent.send_request(call(&world), false).unwrap();
    let mut body = soon(answer).await.unwrap().into_body();
    leave.notify_one();
    soon(heard.recv()).await.unwrap();
    // What runs goes on, and others are served all the time, at some point by a new connection.
    for round in 0.. {
        let said = message(&format!("{round}"));
        stream.send_data(said.clone(), false).unwrap();
        assert_eq!(piece(&mut body).await, said);
        let (answer, mut other) = agent.send_request(call(&world), false).unwrap();
        other.send_data(said.clone(), true).unwrap();
        let mut answered = soon(answer).await.unwrap().into_body();
        assert_eq!(piece(&mut answered).await, said);
        if connections.load(Ordering::SeqCst) == 2 {
            break;
        }
        assert!(round < 500, "it is not dialled again");
    }
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(soon(body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn when_we_stop_calls_that_run_are_finished() {
    let mut world = World::new().await;
    h2_upstream(&mut world, |request, mut respond| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(grpc(ok()), false).unwrap();
        while let Some(Ok(data)) = body.data().await {
            stream.send_data(data, false).unwrap();
        }
        stream.send_trailers(status("0")).unwrap();
    })
    .await;
    let stream = world.tls("one", "api.test", &["h2"]).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut agent = sender.ready().await.unwrap();
    let (answer, mut stream) = agent.send_request(call(&world), false).unwrap();
    let mut body = soon(answer).await.unwrap().into_body();
    world.shutdown.cancel();
    // Told, and nothing new is begun.
    while agent.clone().ready().await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    stream.send_data(message("last"), true).unwrap();
    assert_eq!(piece(&mut body).await, message("last"));
    assert_eq!(soon(body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
    drop((agent, stream, body));
    soon(connection).await.unwrap().unwrap();
}
