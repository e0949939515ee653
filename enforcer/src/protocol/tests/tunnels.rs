//! Connections that are relayed unread: TLS passed through by its server name, raw TCP by its address.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use enforcer_policy::Name;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::world::{World, compile};
use crate::switches::Off;
use crate::tls::provider;

const SOON: Duration = Duration::from_secs(10);

fn with(world: &World, rules: &str, limits: &str) {
    let rules = rules.replace("HTTPS", &world.https.to_string());
    let text =
        format!("version: 1\nagent: one\n{rules}\n{limits}\ndns: {{ private_addresses: [127.0.0.1/32] }}\n");
    world.policies.send_replace(compile(&[text]));
}

const PINNED: &str = "allow:\n  - { name: pinned, host: other.test, port: HTTPS, tls: passthrough }\n  - { name: open, host: api.test, port: HTTPS }";

/// A client that trusts the server's own certificate and no other: it pins.
async fn pinning(world: &World, name: &str) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(world.certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = world.dial("one", world.https).await;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

#[tokio::test]
async fn a_pinning_client_gets_through_where_a_rule_says_so_and_nowhere_else() {
    let world = World::new().await;
    with(&world, PINNED, "");
    let mut stream = pinning(&world, "other.test").await.unwrap();
    stream
        .write_all(b"GET /secret/path HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    drop(stream);
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    let receipts = world.receipts(1).await;
    let (intent, outcome) = (&receipts[0].intent, receipts[0].outcome.as_ref().unwrap());
    assert_eq!(
        (intent.protocol.as_str(), intent.host.as_deref(), intent.path.as_deref()),
        ("tls", Some("other.test"), None)
    );
    assert_eq!((intent.rule.as_deref(), outcome.end.as_str()), (Some("pinned"), "done"));
    assert!(
        outcome.request_bytes > 300 && outcome.response_bytes > 300 && outcome.upstream.is_some(),
        "{outcome:?}"
    );

    // The other host is inspected, so this client does not like what it sees, and nothing falls back.
    let asked = world.seen().len();
    assert!(pinning(&world, "api.test").await.is_err());
    // Without the rule it does not get through to the first one either.
    with(&world, "allow:\n  - { name: open, host: other.test, port: HTTPS }", "");
    assert!(pinning(&world, "other.test").await.is_err());
    assert_eq!(world.seen().len(), asked);
}

/// A ClientHello for this name, with an extension of this kind behind it.
fn hello(name: &str, extra: u16) -> Vec<u8> {
    let n = u16::try_from(name.len()).unwrap();
    let mut extensions = [0u16.to_be_bytes(), (n + 5).to_be_bytes(), (n + 3).to_be_bytes()].concat();
    extensions.push(0);
    extensions.extend_from_slice(&n.to_be_bytes());
    extensions.extend_from_slice(name.as_bytes());
    // supported_versions: 1.3; signature_algorithms, supported_groups and key_share: the least that is read.
    extensions.extend_from_slice(&[0, 43, 0, 3, 2, 3, 4, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 29]);
    extensions.extend_from_slice(&[0, 51, 0, 38, 0, 36, 0, 29, 0, 32]);
    extensions.extend_from_slice(&[9; 32]);
    // An outer ECH in its form: suite, config, key, payload. Who knows no such extension does not mind.
    let outer = [&[0, 0, 1, 0, 1, 5, 0, 32][..], &[8; 32], &[0, 16], &[6; 16]].concat();
    extensions.extend_from_slice(&extra.to_be_bytes());
    extensions.extend_from_slice(&u16::try_from(outer.len()).unwrap().to_be_bytes());
    extensions.extend_from_slice(&outer);
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&extensions);
    let handshake = [&[1, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
    [&[22, 3, 1][..], &u16::try_from(handshake.len()).unwrap().to_be_bytes(), &handshake].concat()
}

/// The first bytes that come back.
async fn said(mut stream: TcpStream) -> Vec<u8> {
    let mut first = [0; 3];
    match tokio::time::timeout(SOON, stream.read_exact(&mut first)).await.expect("something happens") {
        Ok(_) => first.to_vec(),
        Err(_closed) => Vec::new(),
    }
}

#[tokio::test]
async fn a_hello_that_hides_a_second_name_is_not_passed_through() {
    let world = World::new().await;
    with(&world, PINNED, "");
    // An extension that nobody knows is fine: the server answers with a handshake record.
    let mut stream = world.dial("one", world.https).await;
    stream.write_all(&hello("other.test", 0xfafa)).await.unwrap();
    assert_eq!(said(stream).await, [22, 3, 3]);
    for hiding in [0xfe0d, 0xffce] {
        let mut stream = world.dial("one", world.https).await;
        stream.write_all(&hello("other.test", hiding)).await.unwrap();
        assert_ne!(said(stream).await.first(), Some(&22), "{hiding:x}");
    }
    let receipts = world.receipts(3).await;
    let refused: Vec<&str> = receipts
        .iter()
        .filter_map(|r| r.outcome.as_ref()?.error.as_deref())
        .filter(|e| e.contains("ECH"))
        .collect();
    assert_eq!(refused.len(), 2, "{receipts:#?}");
}

/// A server that speaks first, then says back what it hears, and a last word once it hears no more.
async fn database() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(b"+ready ").await.unwrap();
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
                drop(stream.write_all(b" bye").await);
            });
        }
    });
    port
}

fn raw(port: u16) -> String {
    format!("allow:\n  - {{ name: db, host: plain.test, protocol: tcp, port: {port} }}")
}

async fn at(world: &World, address: [u8; 4], port: u16) -> TcpStream {
    world.dial_to("one", SocketAddr::new(address.into(), port)).await
}

async fn greeted(stream: &mut TcpStream) -> bool {
    let mut greeting = [0; 7];
    let read = tokio::time::timeout(SOON, stream.read_exact(&mut greeting)).await;
    matches!(read, Ok(Ok(_))) && &greeting == b"+ready "
}

#[tokio::test]
async fn a_server_that_speaks_first_is_reached_by_the_address_that_we_gave_out() {
    let world = World::new().await;
    let port = database().await;
    with(&world, &raw(port), "");
    let mut stream = at(&world, [127, 0, 0, 1], port).await;
    assert!(greeted(&mut stream).await);
    // More than any pipe or buffer holds, in both directions at once; then a half-closed connection.
    let sent: Vec<u8> = (0..6_000_000u32).map(|n| n as u8).collect();
    let (mut from, mut to) = stream.into_split();
    let writing = tokio::spawn({
        let sent = sent.clone();
        async move {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
            to
        }
    });
    let mut back = Vec::new();
    tokio::time::timeout(SOON, from.read_to_end(&mut back)).await.unwrap().unwrap();
    drop(writing.await.unwrap());
    assert!(back.strip_suffix(b" bye").is_some_and(|back| back == sent), "{} bytes came back", back.len());
    let receipts = world.receipts(1).await;
    let (intent, outcome) = (&receipts[0].intent, receipts[0].outcome.as_ref().unwrap());
    assert_eq!((intent.protocol.as_str(), intent.host.as_deref()), ("tcp", Some("plain.test")));
    assert_eq!((outcome.request_bytes, outcome.response_bytes), (6_000_000, 6_000_000 + 11));
    assert_eq!(outcome.upstream.as_deref(), Some(format!("127.0.0.1:{port}").as_str()));

    // Another address than one of the name's, and another port, lead nowhere.
    for (address, port) in [([203, 0, 113, 9], port), ([127, 0, 0, 1], world.http)] {
        let mut stream = at(&world, address, port).await;
        stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.unwrap();
        assert!(!greeted(&mut stream).await, "{address:?}:{port}");
    }
}

#[tokio::test]
async fn a_server_may_end_its_half_and_read_on() {
    let world = World::new().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"+ready ").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        heard
    });
    with(&world, &raw(port), "");
    let mut stream = at(&world, [127, 0, 0, 1], port).await;
    assert!(greeted(&mut stream).await);
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    for word in ["one ", "two ", "three"] {
        stream.write_all(word.as_bytes()).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, server).await.unwrap().unwrap(), "one two three");
    assert_eq!(world.receipts(1).await[0].outcome.as_ref().unwrap().end, "done");
}

#[tokio::test]
async fn a_relay_ends_when_its_rule_goes_or_the_agent_is_switched_off() {
    let world = World::new().await;
    let port = database().await;
    for how in ["policy", "switch"] {
        with(&world, &raw(port), "");
        let mut stream = at(&world, [127, 0, 0, 1], port).await;
        assert!(greeted(&mut stream).await);
        if how == "policy" {
            with(&world, "allow:\n  - { name: open, host: api.test, port: HTTPS }", "");
        } else {
            let off = Off { at: 1, uid: 0, reason: None, frozen: false, quarantine: false };
            world.switches.turn_off(&Name::parse("one").unwrap(), off);
            world.lifelines.cut_agent("one");
        }
        let mut rest = Vec::new();
        drop(tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.expect("the socket ends"));
    }
    let ends: Vec<String> = world
        .receipts(2)
        .await
        .into_iter()
        .filter_map(|receipt| receipt.outcome)
        .map(|outcome| format!("{}: {}", outcome.end, outcome.error.unwrap_or_default()))
        .collect();
    assert_eq!(ends, ["cut: the policy no longer allows it", "cut: the agent was disabled"]);
    // Switched off, it is not let in at all.
    let mut stream = at(&world, [127, 0, 0, 1], port).await;
    assert!(!greeted(&mut stream).await);
}

#[tokio::test]
async fn budgets_and_rates_hold_for_what_nobody_reads() {
    let world = World::new().await;
    let port = database().await;
    let rule = raw(port).replace(" }", ", rate: 2/hour }");
    with(&world, &rule, "limits: { upload: 100KB/day }");
    let mut stream = at(&world, [127, 0, 0, 1], port).await;
    assert!(greeted(&mut stream).await);
    drop(stream.write_all(&vec![b'x'; 4_000_000]).await);
    let mut back = Vec::new();
    drop(tokio::time::timeout(SOON, stream.read_to_end(&mut back)).await.expect("it is cut"));
    let receipts = world.receipts(1).await;
    let outcome = receipts[0].outcome.as_ref().unwrap();
    assert!(outcome.end == "cut" && outcome.request_bytes <= 100_000, "{outcome:?}");

    with(&world, &rule, "");
    assert!(greeted(&mut at(&world, [127, 0, 0, 1], port).await).await);
    assert!(!greeted(&mut at(&world, [127, 0, 0, 1], port).await).await, "the third of two an hour");
}

#[tokio::test]
async fn a_name_does_not_lead_a_raw_connection_to_a_special_address() {
    let world = World::new().await;
    let port = database().await;
    let text = format!("version: 1\nagent: one\n{}\n", raw(port));
    world.policies.send_replace(compile(&[text]));
    assert!(!greeted(&mut at(&world, [127, 0, 0, 1], port).await).await);
    let outcome = world.receipts(1).await[0].outcome.clone().unwrap();
    assert!(outcome.error.as_ref().unwrap().contains("special address"), "{outcome:?}");
}
