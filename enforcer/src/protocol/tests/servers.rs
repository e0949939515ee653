//! Servers that answer in ways two readers might read differently, or without end. The agent gets one clean
//! answer, or is told; and what a server put behind an answer is never the answer to another request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::world::{World, compile, policy};

/// What the agent gets of it.
#[derive(Clone, Debug, PartialEq)]
enum Then {
    Whole(u16, &'static str),
    /// A head, and a body that does not look whole.
    Cut,
    /// 502, and a reason.
    Told,
}

struct Case {
    name: &'static str,
    answer: Vec<u8>,
    /// The server closes behind it.
    closes: bool,
    then: Then,
}

fn cases() -> Vec<Case> {
    use Then::{Cut, Told, Whole};
    let mut all = Vec::new();
    let mut add = |name, answer: &[u8], closes, then| {
        all.push(Case { name, answer: answer.to_vec(), closes, then });
    };
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let behind = |head: &str| format!("{head}{evil}").into_bytes();

    add("plain", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false, Whole(200, "ok"));
    add(
        "chunked",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        false,
        Whole(200, "ok"),
    );
    add("until the end", b"HTTP/1.1 200 OK\r\n\r\nok", true, Whole(200, "ok"));
    add("HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nok", true, Whole(200, "ok"));
    add("no reason", b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", false, Whole(200, "ok"));

    // Framing.
    add(
        "both lengths",
        &behind("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        false,
        Told,
    );
    add(
        "both lengths, the other way",
        &behind("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"),
        false,
        Told,
    );
    add(
        "two lengths",
        &behind("HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 42\r\n\r\n"),
        false,
        Told,
    );
    add(
        "the same length twice",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        false,
        Whole(200, "ok"),
    );
    add(
        "a list of lengths",
        &behind("HTTP/1.1 200 OK\r\ncontent-length: 0, 0\r\n\r\n"),
        false,
        Whole(200, ""),
    );
    add("a signed length", &behind("HTTP/1.1 200 OK\r\ncontent-length: +0\r\n\r\n"), false, Told);
    add("a negative length", &behind("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"), false, Told);
    add(
        "a length too large",
        &behind("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n"),
        false,
        Told,
    );
    add("an empty length", &behind("HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n"), false, Told);
    add("a hexadecimal length", &behind("HTTP/1.1 200 OK\r\ncontent-length: 0x2\r\n\r\n"), false, Told);
    add(
        "chunked twice",
        &behind("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        false,
        Told,
    );
    add(
        "another coding",
        &behind("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        false,
        Told,
    );
    add("identity", &behind("HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n"), true, Told);
    add(
        "chunked in HTTP/1.0",
        &behind("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        true,
        Told,
    );
    add(
        "a coding with a vertical tab",
        &behind("HTTP/1.1 200 OK\r\ntransfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
        true,
        Told,
    );
    add("a space before the colon", &behind("HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n"), false, Told);
    add("shorter than it said", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok", true, Cut);
    add(
        "longer than it said",
        &behind("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        false,
        Whole(200, "ok"),
    );
    add("chunks that end early", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok", true, Cut);
    add(
        "chunks without an end",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        true,
        Cut,
    );
    add(
        "a chunk longer than it said",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n",
        false,
        Cut,
    );
    add(
        "a chunk of no number",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\nok\r\n0\r\n\r\n",
        false,
        Cut,
    );
    add(
        "a chunk of a huge number",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nok\r\n",
        true,
        Cut,
    );
    add(
        "a chunk line ending in LF",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
        false,
        Cut,
    );
    add(
        "trailers",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nset-cookie: a=b\r\n\r\n",
        false,
        Whole(200, "ok"),
    );

    // Statuses without a body, and with one.
    add(
        "204 with a body",
        &behind("HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\n"),
        false,
        Whole(204, ""),
    );
    add("204 and more", &behind("HTTP/1.1 204 No Content\r\n\r\n"), false, Whole(204, ""));
    add(
        "304 and more",
        &behind("HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\n"),
        false,
        Whole(304, ""),
    );
    add(
        "101 that nobody asked for",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        false,
        Told,
    );
    add(
        "a flood of 1xx",
        "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(1000).as_bytes(),
        false,
        Told,
    );
    add("a few 1xx", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false, Whole(200, "ok"));

    // Heads.
    add("nothing", b"", true, Told);
    add("half a head", b"HTTP/1.1 200 OK\r\ncontent-le", true, Told);
    add("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n", true, Told);
    add("HTTP/0.9", b"<html>hello</html>", true, Told);
    add("HTTP/2 on HTTP/1", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d", true, Told);
    add("HTTP/3.0", b"HTTP/3.0 200 OK\r\ncontent-length: 2\r\n\r\nok", true, Told);
    add("a status of two digits", b"HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\nok", true, Told);
    add("a status of four digits", b"HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok", true, Told);
    add("status 099", b"HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok", true, Told);
    add("a space too many", b"HTTP/1.1  200 OK\r\ncontent-length: 2\r\n\r\nok", true, Told);
    add("bare LF", b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", true, Whole(200, "ok"));
    add("bare CR", b"HTTP/1.1 200 OK\r\nx: a\rb: c\r\ncontent-length: 2\r\n\r\nok", true, Told);
    add("a NUL", b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok", true, Told);
    add("a folded line", b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok", true, Told);
    add("no colon", b"HTTP/1.1 200 OK\r\nx\r\ncontent-length: 2\r\n\r\nok", true, Told);
    add("no name", b"HTTP/1.1 200 OK\r\n: x\r\ncontent-length: 2\r\n\r\nok", true, Told);
    add("a space in a name", b"HTTP/1.1 200 OK\r\na b: x\r\ncontent-length: 2\r\n\r\nok", true, Told);
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nok", "x: y\r\n".repeat(5000));
    add("5,000 fields", many.as_bytes(), true, Told);
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 2\r\n\r\nok", "y".repeat(1 << 20));
    add("a field of 1 MiB", large.as_bytes(), true, Told);
    all
}

/// Answers the first request of each connection with `answer`, the ones after it with `next`.
async fn server(answer: Vec<u8>, closes: bool) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, connections) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            let answer = if first { answer.clone() } else { NEXT.to_vec() };
            tokio::spawn(serve(stream, answer, first && closes));
        }
    });
    (port, connections)
}

const NEXT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext";

async fn serve(mut stream: TcpStream, mut answer: Vec<u8>, closes: bool) -> std::io::Result<()> {
    let (mut heard, mut bytes) = (Vec::new(), [0; 4096]);
    while let n @ 1.. = stream.read(&mut bytes).await? {
        heard.extend_from_slice(&bytes[..n]);
        if heard.ends_with(b"\r\n\r\n") {
            heard.clear();
            stream.write_all(&answer).await?;
            if closes {
                return stream.shutdown().await;
            }
            answer = NEXT.to_vec();
        }
    }
    Ok(())
}

async fn get(world: &World) -> Result<(u16, Result<String, String>), String> {
    let stream = world.dial("one", world.http).await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = http::Request::get("/").header("host", format!("plain.test:{}", world.http));
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let framed =
        ["content-length", "transfer-encoding"].map(|name| response.headers().get_all(name).iter().count());
    if framed.iter().sum::<usize>() > 1 {
        return Err(format!("framed twice: {:?}", response.headers()));
    }
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(|error| error.to_string());
    Ok((status, body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())))
}

#[tokio::test]
async fn a_hostile_answer_is_clean_or_refused_and_answers_no_other_request() {
    let mut world = World::new().await;
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        let (port, _connections) = server(case.answer.clone(), case.closes).await;
        world.http = port;
        world.policies.send_replace(compile(&[policy("one", world.https, port)]));
        let first = tokio::time::timeout(Duration::from_secs(30), get(&world)).await;
        let good = match (&case.then, &first) {
            (Then::Whole(status, body), Ok(Ok((got, Ok(text))))) => got == status && text == body,
            (Then::Cut, Ok(Ok((200, Err(_))) | Err(_))) => true,
            (Then::Told, Ok(Ok((502, Ok(text))))) => text.contains("\"reason\""),
            _ => false,
        };
        if !good {
            wrong.push(format!("{}: wanted {:?}: {first:?}", case.name, case.then));
        }
        let next = tokio::time::timeout(Duration::from_secs(30), get(&world)).await;
        if !matches!(&next, Ok(Ok((200, Ok(text)))) if text == "next") {
            wrong.push(format!("behind {}: {next:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
