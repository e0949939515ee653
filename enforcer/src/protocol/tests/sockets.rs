//! WebSockets from an agent to a server: what passes byte for byte, and what ends them with which code.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use enforcer_vault::{Binding, Dangers, Secret};
use http::{Request, Response};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::answers::note;
use super::legs::h2_upstream;
use super::world::{SECRET, Seen, World};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// For what comes at once unless something is wrong.
const SOON: Duration = Duration::from_secs(30);

pub(super) type Io = TokioIo<Upgraded>;

/// The stage's server. It sends each message back, with the first byte it had; below `/raw/` it sends what the
/// message says as it stands, so that a test can play a hostile server. It notes every byte that it got.
pub(super) async fn serve(upgraded: OnUpgrade, path: String, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut io = TokioIo::new(upgraded.await.unwrap());
    let (mut got, mut at) = (Vec::new(), 0);
    loop {
        while let Some((first, payload, end)) = parse(&got[at..]) {
            at += end;
            let answer = if path.contains("/raw/") { payload } else { plain(first, &payload) };
            if io.write_all(&answer).await.is_err() {
                break;
            }
            if first == 0x88 {
                drop(io.shutdown().await);
            }
        }
        if !matches!(io.read_buf(&mut got).await, Ok(1..)) {
            break;
        }
    }
    note(&seen, 0, "SOCKET".into(), http::HeaderMap::new(), got.into());
}

/// One frame at the start of these bytes, the mask taken off: first byte, payload, length of the frame.
fn parse(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (len, mut at) = match second & 0x7f {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()) as usize, 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
        short => (short as usize, 2),
    };
    let mut key = [0; 4];
    if second & 0x80 != 0 {
        key.copy_from_slice(bytes.get(at..at + 4)?);
        at += 4;
    }
    let payload = bytes.get(at..at + len)?;
    Some((first, payload.iter().enumerate().map(|(n, byte)| byte ^ key[n % 4]).collect(), at + len))
}

fn head(first: u8, mask: u8, len: usize) -> Vec<u8> {
    match len {
        0..126 => vec![first, mask | len as u8],
        126..0x1_0000 => [&[first, mask | 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, mask | 127][..], &(len as u64).to_be_bytes()].concat(),
    }
}

/// A server's frame.
fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    [head(first, 0, payload.len()), payload.to_vec()].concat()
}

/// A client's.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let payload: Vec<u8> = payload.iter().enumerate().map(|(n, byte)| byte ^ KEY[n % 4]).collect();
    [head(first, 0x80, payload.len()), KEY.to_vec(), payload].concat()
}

pub(super) fn asking(world: &World, path: &str) -> Request<Full<Bytes>> {
    Request::get(path)
        .header("host", world.authority())
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-extensions", "permessage-deflate")
        .body(Full::default())
        .unwrap()
}

/// The same over HTTP/2 (RFC 8441).
fn connecting(world: &World, path: &str, protocol: &'static str) -> Request<Full<Bytes>> {
    Request::builder()
        .method("CONNECT")
        .uri(format!("https://{}{path}", world.authority()))
        .extension(hyper::ext::Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-extensions", "permessage-deflate")
        .body(Full::default())
        .unwrap()
}

/// An agent's end.
pub(super) struct Socket {
    pub(super) io: Io,
    got: Vec<u8>,
}

impl Socket {
    async fn over_http2(world: &World, path: &str) -> Self {
        let mut agent = world.h2("one", "api.test").await;
        let response = agent.send_request(connecting(world, path, "websocket")).await.unwrap();
        assert_eq!(response.status(), 200);
        for field in ["sec-websocket-accept", "connection", "upgrade"] {
            assert!(!response.headers().contains_key(field), "{field}");
        }
        Socket { io: TokioIo::new(hyper::upgrade::on(response).await.unwrap()), got: Vec::new() }
    }

    pub(super) async fn open(world: &World, path: &str) -> Self {
        let mut agent = world.h1("one", "api.test").await;
        let response = agent.send_request(asking(world, path)).await.unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        Socket { io: TokioIo::new(hyper::upgrade::on(response).await.unwrap()), got: Vec::new() }
    }

    pub(super) async fn send(&mut self, first: u8, payload: &[u8]) {
        self.raw(&masked(first, payload)).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// Has the server of `/raw/` send this.
    async fn server_says(&mut self, bytes: &[u8]) {
        self.send(0x82, bytes).await;
    }

    /// The next frame, which a server may not mask.
    pub(super) async fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some((first, payload, end)) = parse(&self.got) {
                assert_eq!(self.got[1] & 0x80, 0);
                self.got.drain(..end);
                return (first, payload);
            }
            let read = tokio::time::timeout(SOON, self.io.read_buf(&mut self.got)).await.expect("a frame");
            assert!(read.unwrap() > 0, "the socket ended: {:?}", self.got);
        }
    }

    /// The Close that ends it: its code and its text.
    async fn closed(&mut self) -> (u16, String) {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x88, "{}", String::from_utf8_lossy(&payload));
        let (code, text) = payload.split_first_chunk().unwrap();
        self.ended().await;
        (u16::from_be_bytes(*code), String::from_utf8(text.to_vec()).unwrap())
    }

    /// No more comes but the end.
    async fn ended(&mut self) {
        tokio::time::timeout(SOON, self.io.read_to_end(&mut self.got))
            .await
            .expect("the socket ends")
            .unwrap();
        assert_eq!(self.got, b"");
    }
}

/// What the server got, once the socket has ended.
async fn got(world: &World) -> Vec<u8> {
    world.asked("SOCKET").await;
    world.seen().pop().unwrap().body.to_vec()
}

async fn end(world: &World) -> (String, String) {
    let outcome = world.receipts(1).await.pop().unwrap().outcome.unwrap();
    assert_eq!(outcome.status, Some(101));
    (outcome.end, outcome.error.unwrap_or_default())
}

#[tokio::test]
async fn a_websocket_lives_longer_than_a_request_head_may_take() {
    let world = World::new().await;
    let mut socket = Socket::open(&world, "/socket/websocket").await;
    socket.send(0x81, b"before").await;
    assert_eq!(socket.frame().await, (0x81, b"before".to_vec()));
    // Bytes outside of a request would be a head, which has 10 s.
    tokio::time::sleep(Duration::from_secs(11)).await;
    socket.send(0x81, b"after").await;
    assert_eq!(socket.frame().await, (0x81, b"after".to_vec()));
}

#[tokio::test]
async fn messages_of_every_form_pass_as_they_are() {
    let world = World::new().await;
    let mut socket = Socket::open(&world, "/socket/websocket").await;
    let large: Vec<u8> = (0..300_000).map(|n| (n % 251) as u8).collect();
    let frames: &[(u8, &[u8])] = &[
        (0x81, b"hello"),
        (0x82, b""),
        (0x02, b"first part, "),
        (0x89, b"a ping between"),
        (0x00, &large[..200]),
        (0x80, b"last part"),
        (0x8a, b"unasked pong"),
        (0x82, &large),
    ];
    let mut sent = Vec::new();
    for (first, payload) in frames {
        socket.send(*first, payload).await;
        sent.extend(masked(*first, payload));
        assert_eq!(socket.frame().await, (*first, payload.to_vec()));
    }
    // A head and a payload that come byte by byte.
    for byte in masked(0x81, b"slowly") {
        socket.raw(&[byte]).await;
        sent.push(byte);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(socket.frame().await, (0x81, b"slowly".to_vec()));
    socket.send(0x88, b"\x03\xe8bye").await;
    sent.extend(masked(0x88, b"\x03\xe8bye"));
    assert_eq!(socket.closed().await, (1000, "bye".into()));
    drop(socket);
    assert_eq!(got(&world).await, sent);
    assert_eq!(world.seen()[0].header("sec-websocket-extensions"), None);
    let outcome = world.receipts(1).await[0].outcome.clone().unwrap();
    assert_eq!((outcome.end.as_str(), outcome.request_bytes), ("done", sent.len() as u64));
    assert!(outcome.response_bytes > 300_000);
}

#[tokio::test]
async fn only_a_rule_that_says_so_opens_one() {
    let world = World::new().await;
    for (path, status) in [("/open/websocket", 403), ("/token/websocket", 403), ("/socket/websocket", 101)] {
        let mut agent = world.h1("one", "api.test").await;
        assert_eq!(agent.send_request(asking(&world, path)).await.unwrap().status(), status, "{path}");
    }
    assert_eq!(world.seen().len(), 1);
    let receipts = world.receipts(3).await;
    assert!(receipts[0].outcome.as_ref().unwrap().error.as_ref().unwrap().contains("websocket"));
}

#[tokio::test]
async fn one_counts_as_a_connection_until_it_ends() {
    let world = World::new().await;
    assert_eq!(world.slots("one"), 0, "a listener without a connection holds no slot");
    let mut socket = Socket::open(&world, "/socket/websocket").await;
    socket.send(0x81, b"hello").await;
    socket.frame().await;
    assert_eq!(world.slots("one"), 1);
    drop(socket);
    world.receipts(1).await;
    for _ in 0..1000 {
        if world.slots("one") == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the slot is not given back");
}

#[tokio::test]
async fn frames_that_are_none_end_it_with_the_code_for_it() {
    // What an agent sends → code, word of its reason. The server gets nothing of it.
    let agents: &[(&[u8], u16, &str)] = &[
        (b"\x81\x05Hello", 1002, "not masked"),
        (b"\xc1\x80KEYS", 1002, "reserved bit"),
        (b"\x83\x80KEYS", 1002, "opcode"),
        (b"\x80\x80KEYS", 1002, "has not begun"),
        (b"\x09\x80KEYS", 1002, "fragmented"),
        (b"\x89\xfe\x00\x7eKEYS", 1002, "125"),
        (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffKEYS", 1002, "highest bit"),
        (b"GET / HTTP/1.1\r\n\r\n", 1002, "reserved bit"),
        // FF; half a character; one of two halves of one of UTF-16.
        (b"\x81\x81KEYS\xb4", 1007, "a text message is not UTF-8"),
        (b"\x81\x81KEYS\x88", 1007, "a text message is not UTF-8"),
        (b"\x81\x83KEYS\xa6\xe5\xd9", 1007, "a text message is not UTF-8"),
    ];
    for (bytes, code, part) in agents {
        let world = World::new().await;
        let mut socket = Socket::open(&world, "/socket/websocket").await;
        socket.send(0x81, b"before").await;
        assert_eq!(socket.frame().await, (0x81, b"before".to_vec()));
        socket.raw(bytes).await;
        let (told, why) = socket.closed().await;
        assert_eq!(told, *code, "{why}");
        assert!(why.starts_with("enforcer: the agent: ") && why.contains(part), "{why}");
        drop(socket);
        let (end, error) = end(&world).await;
        assert!(end == "refused" && error.contains(part), "{end}: {error}");
        let got = got(&world).await;
        assert!(got.starts_with(&masked(0x81, b"before")));
        // A masked Close of ours, without a text.
        let (first, payload, _) = parse(&got[masked(0x81, b"before").len()..]).unwrap();
        assert_eq!((first, payload), (0x88, code.to_be_bytes().to_vec()));
    }
    let servers: &[(&[u8], u16, &str)] = &[
        (b"\x81\x85KEYSHello", 1002, "is masked"),
        (b"\xc1\x00", 1002, "reserved bit"),
        (b"\x83\x00", 1002, "opcode"),
        (b"\x00\x00", 1002, "has not begun"),
        (b"\x88\x01x", 1002, "half a close code"),
        (b"\x88\x03\x03\xe8\xff", 1007, "UTF-8"),
        (b"\x81\x02a\xff", 1007, "a text message is not UTF-8"),
        (b"\x81\x02a\xc3", 1007, "a text message is not UTF-8"),
    ];
    for (bytes, code, part) in servers {
        let world = World::new().await;
        let mut socket = Socket::open(&world, "/socket/raw/websocket").await;
        socket.server_says(&plain(0x81, b"before")).await;
        assert_eq!(socket.frame().await, (0x81, b"before".to_vec()));
        socket.server_says(bytes).await;
        let (told, why) = socket.closed().await;
        assert_eq!(told, *code, "{why}");
        assert!(why.starts_with("enforcer: the server: ") && why.contains(part), "{why}");
        drop(socket);
        let (end, error) = end(&world).await;
        assert!(end == "upstream_failed" && error.contains(part), "{end}: {error}");
    }
}

#[tokio::test]
async fn a_text_may_be_cut_inside_of_a_character_and_other_messages_say_what_they_like() {
    let world = World::new().await;
    let mut socket = Socket::open(&world, "/socket/websocket").await;
    for (first, payload) in [
        (0x82, &b"\xff\xfe"[..]),
        (0x89, b"\xff"),
        (0x01, b"gr\xc3"),
        (0x00, b""),
        (0x80, b"\xbcn"),
        (0x81, b""),
        (0x02, b"\xf0"),
        (0x80, b"\x9f"),
        (0x81, "\u{1f980}".as_bytes()),
    ] {
        socket.send(first, payload).await;
        assert_eq!(socket.frame().await, (first, payload.to_vec()));
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_it_before_it_is_sent() {
    let world = World::new().await;
    // A limit on bodies is one on messages. Without the rule's limit the same message passes.
    for (path, passes) in [("/socket/websocket", true), ("/small/socket/websocket", false)] {
        let mut socket = Socket::open(&world, path).await;
        for _ in 0..2 {
            socket.send(0x01, &[b'x'; 1000]).await;
            assert_eq!(socket.frame().await.1.len(), 1000);
            socket.send(0x80, &[b'x'; 24]).await;
            assert_eq!(socket.frame().await.1.len(), 24);
        }
        socket.send(0x01, &[b'x'; 1000]).await;
        assert_eq!(socket.frame().await.1.len(), 1000);
        socket.send(0x80, &[b'x'; 25]).await;
        if passes {
            assert_eq!(socket.frame().await.1.len(), 25);
        } else {
            assert_eq!(
                socket.closed().await,
                (
                    1009,
                    "enforcer: the agent: a message is larger than the 1024 bytes the policy allows".into()
                )
            );
        }
    }
    let mut socket = Socket::open(&world, "/small/socket/raw/websocket").await;
    for part in plain(0x82, &[b'y'; 2048]).chunks(1000) {
        socket.server_says(part).await;
    }
    assert_eq!(socket.frame().await.1.len(), 2048);
    socket.server_says(&head(0x82, 0, 2049)).await;
    assert_eq!(socket.closed().await.0, 1009);
}

#[tokio::test]
async fn a_credential_does_not_come_back_however_it_is_framed() {
    let (one, two) = SECRET.split_at(17);
    let frames = |parts: &[(u8, &str)]| -> Vec<u8> {
        parts.iter().flat_map(|(first, text)| plain(*first, text.as_bytes())).collect()
    };
    let bytewise: Vec<u8> = SECRET.bytes().flat_map(|byte| plain(0x00, &[byte])).collect();
    let table: &[(&str, Vec<u8>)] = &[
        ("whole", frames(&[(0x81, &format!("it is {SECRET}, see?"))])),
        ("over two frames", frames(&[(0x01, one), (0x80, two)])),
        ("over two messages", frames(&[(0x81, one), (0x81, two)])),
        ("around a ping", frames(&[(0x01, one), (0x89, "ping"), (0x80, two)])),
        ("byte by byte", [frames(&[(0x01, "")]), bytewise].concat()),
        ("in a ping", frames(&[(0x89, SECRET)])),
        ("in a close", frames(&[(0x88, &format!("\u{3}{}", "\u{e8}"))])),
        ("in base64", frames(&[(0x81, "c2stbGl2ZS00ZjlhOGI3YzZkNWU0ZjNhMmIxYzBkOWU4ZjdhNmI1Yw==")])),
    ];
    for (how, bytes) in table {
        let bytes = match *how {
            "in a close" => plain(0x88, &[b"\x03\xe8", SECRET.as_bytes()].concat()),
            _ => bytes.clone(),
        };
        for found in [false, true] {
            let world = World::new().await;
            let path = if found { "/token/socket/raw/websocket" } else { "/socket/raw/websocket" };
            if !found {
                // Bound to another host, these are bytes like others here.
                let hosts =
                    Binding::parse(&format!("https://other.test:{}", world.https), Dangers::default());
                let value = Secret::new(SECRET.into()).unwrap();
                world.secrets.set("token".into(), vec![hosts.unwrap()], value).await.unwrap();
            }
            let mut socket = Socket::open(&world, path).await;
            let cut = bytes.len() / 2;
            for part in [&bytes[..cut], &bytes[cut..]] {
                socket.server_says(part).await;
            }
            if !found {
                // The server hangs up.
                socket.send(0x88, b"").await;
            }
            let mut all = Vec::new();
            tokio::time::timeout(SOON, socket.io.read_to_end(&mut all)).await.unwrap().unwrap();
            if found {
                // Not the whole of it, in whatever frames.
                let (mut payloads, mut at) = (Vec::new(), 0);
                while let Some((first, payload, end)) = parse(&all[at..]) {
                    at += end;
                    if first != 0x89 {
                        payloads.extend(payload);
                    }
                }
                drop(socket);
                let text = String::from_utf8_lossy(&payloads);
                assert!(
                    !text.contains(SECRET)
                        && !text.contains("c2stbGl2ZS00ZjlhOGI3YzZkNWU0ZjNhMmIxYzBkOWU4ZjdhNmI1"),
                    "{how}: {text}"
                );
                let (end, error) = end(&world).await;
                assert!(
                    end == "upstream_failed" && error.contains("sent back the credential"),
                    "{how}: {end}, {error}"
                );
            } else {
                assert!(all.starts_with(&bytes), "{how}");
            }
        }
    }
}

#[tokio::test]
async fn the_beginning_of_a_credential_is_held_for_a_moment_only() {
    let world = World::new().await;
    let mut socket = Socket::open(&world, "/token/socket/websocket").await;
    for text in ["it starts with sk-live-4f9a", "and s", "goes on otherwise"] {
        socket.send(0x81, text.as_bytes()).await;
        assert_eq!(socket.frame().await, (0x81, text.as_bytes().to_vec()));
    }
}

#[tokio::test]
async fn placeholders_and_decoys_do_not_leave_in_messages() {
    let world = World::new().await;
    let text = super::world::policy("one", world.https, world.http);
    let text = format!("{text}decoys: [{{ name: trap, env: TRAP }}]\ntripwire: alert\n");
    world.policies.send_replace(super::world::compile(&[text]));
    let policy = world.policies.borrow().agent("one").unwrap().clone();
    let environment = world.shared.placeholders.environment(&policy);
    let value = |name: &str| environment.iter().find(|(env, _)| env == name).unwrap().1.clone();
    for (name, part) in [("TOKEN", "placeholder"), ("TRAP", "decoy")] {
        let value = value(name);
        let (one, two) = value.split_at(value.len() / 2);
        let table = [
            masked(0x81, format!("use {value} please").as_bytes()),
            [masked(0x01, one.as_bytes()), masked(0x89, b"ping"), masked(0x80, two.as_bytes())].concat(),
            masked(0x89, value.as_bytes()),
        ];
        for bytes in table {
            let mut socket = Socket::open(&world, "/socket/websocket").await;
            let before = world.seen().len();
            socket.raw(&bytes).await;
            let (code, why) = loop {
                let (first, payload) = socket.frame().await;
                if first == 0x88 {
                    break (
                        u16::from_be_bytes([payload[0], payload[1]]),
                        String::from_utf8_lossy(&payload[2..]).into_owned(),
                    );
                }
            };
            assert_eq!(code, 1008);
            assert!(why.contains(part), "{why}");
            drop(socket);
            for _ in 0..1000 {
                if world.seen().len() > before {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let seen = world.seen().pop().unwrap().body;
            let (mut text, mut at) = (Vec::new(), 0);
            while let Some((_, payload, end)) = parse(&seen[at..]) {
                at += end;
                text.extend(payload);
            }
            assert!(!String::from_utf8_lossy(&text).replace("ping", "").contains(&value), "{text:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_ends_without_a_close_ends_it_for_the_agent() {
    let world = World::new().await;
    let mut socket = Socket::open(&world, "/socket/raw/websocket").await;
    socket.server_says(b"\x81\x05Hel").await;
    // Ends the server's side in the middle of a frame.
    socket.send(0x88, b"").await;
    let mut all = Vec::new();
    tokio::time::timeout(SOON, socket.io.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, b"\x81\x05Hel");
}

#[tokio::test]
async fn a_budget_for_bytes_ends_it_with_a_code_that_says_when() {
    let world = World::new().await;
    let text = super::world::policy("one", world.https, world.http);
    world.policies.send_replace(super::world::compile(&[format!("{text}limits: {{ upload: 2KiB/hour }}\n")]));
    let mut socket = Socket::open(&world, "/socket/websocket").await;
    socket.send(0x81, &[b'x'; 500]).await;
    assert_eq!(socket.frame().await.1.len(), 500);
    socket.send(0x81, &[b'x'; 1500]).await;
    let (code, why) = socket.closed().await;
    assert!(code == 1013 && why.contains("used up"), "{code} {why}");
}

#[tokio::test]
async fn when_the_enforcer_stops_it_says_so() {
    let world = World::new().await;
    let mut socket = Socket::open(&world, "/socket/websocket").await;
    socket.send(0x81, b"hello").await;
    socket.frame().await;
    world.shutdown.cancel();
    assert_eq!(socket.closed().await, (1001, "enforcer: the enforcer is stopping".into()));
}

#[tokio::test]
async fn over_http2_it_is_the_same_to_rules_receipts_and_servers() {
    let world = World::new().await;
    let mut agent = world.h2("one", "api.test").await;
    for (path, protocol, status) in [
        ("/open/websocket", "websocket", 403),
        ("/nowhere/websocket", "websocket", 403),
        ("/socket/websocket", "connect-udp", 400),
        ("/socket/websocket", "", 400),
    ] {
        let response = agent.send_request(connecting(&world, path, protocol)).await.unwrap();
        assert_eq!(response.status(), status, "{path} {protocol}");
    }
    let mut plain = connecting(&world, "/socket/websocket", "websocket");
    plain.headers_mut().remove("sec-websocket-version");
    assert_eq!(agent.send_request(plain).await.unwrap().status(), 400);
    assert!(world.seen().is_empty());

    let mut socket = Socket::over_http2(&world, "/socket/websocket").await;
    let large = vec![b'x'; 300_000];
    for (first, payload) in [(0x81, &b"hello"[..]), (0x89, b"ping"), (0x82, &large)] {
        socket.send(first, payload).await;
        assert_eq!(socket.frame().await, (first, payload.to_vec()));
    }
    let seen = world.seen().remove(0);
    assert_eq!(seen.line, "GET /socket/websocket HTTP/1.1");
    assert_eq!((seen.header("upgrade"), seen.header("sec-websocket-extensions")), (Some("websocket"), None));
    socket.send(0x88, b"\x03\xe8bye").await;
    assert_eq!(socket.closed().await, (1000, "bye".into()));
    let receipts = world.receipts(6).await;
    let last = receipts.last().unwrap();
    assert_eq!(last.intent.method.as_deref(), Some("GET"));
    assert_eq!(last.outcome.as_ref().unwrap().end, "done");
}

#[tokio::test]
async fn over_http2_its_frames_are_looked_at_as_well() {
    let world = World::new().await;
    let mut socket = Socket::over_http2(&world, "/socket/websocket").await;
    socket.raw(b"\x81\x05Hello").await;
    let (code, why) = socket.closed().await;
    assert!(code == 1002 && why.contains("not masked"), "{code} {why}");
    let mut socket = Socket::over_http2(&world, "/token/socket/raw/websocket").await;
    let (one, two) = SECRET.split_at(17);
    for half in [one, two] {
        socket.server_says(&plain(0x81, half.as_bytes())).await;
    }
    let (first, payload) = socket.frame().await;
    if first == 0x81 {
        assert_eq!(payload, SECRET.as_bytes()[..17]);
        assert_eq!(socket.closed().await.0, 1008);
    } else {
        assert_eq!((first, &payload[..2]), (0x88, &1008u16.to_be_bytes()[..]));
    }
}

#[tokio::test]
async fn over_http2_many_have_a_bound_and_end_with_their_connection() {
    let world = World::new().await;
    let mut agent = world.h2("one", "api.test").await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let response =
            agent.send_request(connecting(&world, "/socket/websocket", "websocket")).await.unwrap();
        sockets.push(hyper::upgrade::on(response).await.unwrap());
    }
    let places =
        || world.shared.caps.of(&enforcer_policy::Name::parse("one").unwrap()).requests.available_permits();
    // Each has a place among the agent's requests for as long as it is open.
    assert_eq!(places(), crate::proxy::REQUESTS - 3);
    drop(sockets);
    drop(agent);
    world.receipts(3).await;
    for _ in 0..1000 {
        if places() == crate::proxy::REQUESTS {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the places are not given back");
}

/// A server that opens WebSockets on streams of HTTP/2, and says what it was asked.
async fn on_streams(world: &mut World) -> (Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let connections = h2_upstream(world, move |request, mut respond| {
        let noted = noted.clone();
        async move {
            let protocol = request.extensions().get::<h2::ext::Protocol>().map(|p| p.as_str().to_owned());
            let names = [
                "sec-websocket-version",
                "sec-websocket-key",
                "sec-websocket-extensions",
                "upgrade",
                "connection",
            ]
            .map(|name| request.headers().get(name).map_or("", |value| value.to_str().unwrap()));
            let line = format!("{} {} {protocol:?} {names:?}", request.method(), request.uri().path());
            noted.lock().unwrap().push(line);
            if protocol.is_none() || request.uri().path().ends_with("/not/websocket") {
                let answer = Response::builder().status(if protocol.is_none() { 200 } else { 403 });
                respond.send_response(answer.body(()).unwrap(), true).unwrap();
                return;
            }
            let (mut body, mut stream) =
                (request.into_body(), respond.send_response(Response::new(()), false).unwrap());
            let mut got = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                got.extend_from_slice(&data);
                while let Some((first, payload, end)) = parse(&got) {
                    got.drain(..end);
                    stream.send_data(plain(first, &payload).into(), first == 0x88).unwrap();
                }
            }
        }
    })
    .await;
    (connections, asked)
}

#[tokio::test]
async fn over_http2_they_are_streams_of_the_server_as_well_where_it_takes_them() {
    let mut world = World::new().await;
    let (connections, asked) = on_streams(&mut world).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(Socket::over_http2(&world, "/socket/websocket").await);
    }
    let large: Vec<u8> = (0..300_000).map(|n| (n % 251) as u8).collect();
    for socket in &mut sockets {
        for payload in [&b"hello"[..], &large] {
            socket.send(0x82, payload).await;
            assert_eq!(socket.frame().await, (0x82, payload.to_vec()));
        }
    }
    // Other requests share the connection with them.
    let mut agent = world.h2("one", "api.test").await;
    assert_eq!(agent.send_request(world.request2("GET", "/open/x", "")).await.unwrap().status(), 200);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    for mut socket in sockets {
        socket.send(0x88, b"\x03\xe8bye").await;
        assert_eq!(socket.closed().await, (1000, "bye".into()));
    }
    let no = agent.send_request(connecting(&world, "/socket/not/websocket", "websocket")).await.unwrap();
    assert_eq!(no.status(), 403);
    let asked = asked.lock().unwrap().clone();
    let one = "CONNECT /socket/websocket Some(\"websocket\") [\"13\", \"\", \"\", \"\", \"\"]";
    assert_eq!(asked[..3], [one; 3]);
    let mut ends: Vec<_> =
        world.receipts(5).await.into_iter().map(|receipt| receipt.outcome.unwrap()).collect();
    ends.retain(|outcome| outcome.request_bytes > 0);
    assert_eq!(ends.len(), 3);
    assert!(ends.iter().all(|outcome| outcome.end == "done" && outcome.response_bytes > 300_000), "{ends:?}");
}

#[tokio::test]
async fn on_a_stream_they_are_held_to_the_same() {
    let mut world = World::new().await;
    on_streams(&mut world).await;
    // The server sends back what it hears.
    let mut socket = Socket::over_http2(&world, "/token/socket/websocket").await;
    socket.send(0x81, SECRET.as_bytes()).await;
    assert_eq!(socket.closed().await.0, 1008);
    let mut socket = Socket::over_http2(&world, "/small/socket/websocket").await;
    socket.send(0x82, &[b'x'; 1025]).await;
    assert_eq!(socket.closed().await.0, 1009);
    // An agent that is gone leaves nothing open.
    let mut socket = Socket::over_http2(&world, "/socket/websocket").await;
    socket.send(0x81, b"hello").await;
    socket.frame().await;
    drop(socket);
    let ends: Vec<_> =
        world.receipts(3).await.into_iter().map(|receipt| receipt.outcome.unwrap().end).collect();
    assert_eq!(ends, ["upstream_failed", "refused", "cancelled"]);
}
