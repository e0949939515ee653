//! What every endpoint takes, with the rest of what h2spec asks of one: its generic section, and what of the others `must` has no row for.

use std::sync::Arc;

use super::must::Must::{Answer, EndConnection, EndStream, Live};
use super::must::{Case, Must, PROTOCOL_ERROR, WHOLE, all_hold, headers, setting, window};
use super::*;

const PRIORITIZED: u8 = 0x20;

fn cases(host: &str) -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |section, what, parts: &[Vec<u8>], must: Must| {
        all.push(Case { section, what, bytes: parts.concat(), must });
    };
    let ask = |stream| headers(WHOLE, stream, &get(host, "/"));
    let open = |stream| headers(END_HEADERS, stream, &post(host, &[]));
    let silent = |stream| headers(WHOLE, stream, &get(host, "/silence"));
    let priority = |stream, payload: &[u8; 5]| frame(PRIORITY, 0, stream, payload);
    let reset = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    let data = |flags, payload: &[u8]| frame(DATA, flags, 1, payload);

    // Frames in each state of a stream that takes them.
    add(
        "5.1",
        "PRIORITY on a stream that is half closed",
        &[silent(1), priority(1, &[0, 0, 0, 0, 9]), ask(3)],
        Live,
    );
    add("5.1", "WINDOW_UPDATE on a stream that is half closed", &[silent(1), window(1, 100), ask(3)], Live);
    add("5.1", "RST_STREAM on a stream that is half closed", &[silent(1), reset(1), ask(3)], Live);
    add(
        "5.1",
        "PRIORITY on a stream that is closed",
        &[silent(1), reset(1), priority(1, &[0, 0, 0, 0, 9])],
        Live,
    );
    add("6.1", "DATA in one frame", &[open(1), data(END_STREAM, b"x")], Answer);
    add("6.1", "DATA in several", &[open(1), data(0, b"x"), data(0, b""), data(END_STREAM, b"y")], Answer);
    add(
        "6.3",
        "the lowest weight",
        &[open(1), priority(1, &[0, 0, 0, 0, 0]), data(END_STREAM, b"x")],
        Answer,
    );
    add("6.3", "the highest", &[open(1), priority(1, &[0, 0, 0, 0, 255]), data(END_STREAM, b"x")], Answer);
    add(
        "6.3",
        "behind another stream",
        &[open(1), priority(3, &[0, 0, 0, 1, 9]), data(END_STREAM, b"x")],
        Answer,
    );
    add(
        "6.3",
        "behind it alone",
        &[open(1), priority(3, &[0x80, 0, 0, 1, 9]), data(END_STREAM, b"x")],
        Answer,
    );
    add("6.3", "on a stream that begins later", &[priority(1, &[0, 0, 0, 0, 9]), ask(1)], Answer);
    add(
        "6.5",
        "settings, and all of them",
        &[
            setting(1, 4096),
            setting(2, 0),
            setting(3, 10),
            setting(4, 65535),
            setting(5, 16384),
            setting(6, 1000),
            ask(1),
        ],
        Answer,
    );
    add("6.9", "a larger window for the connection", &[window(0, 1), ask(1)], Answer);
    add("6.9", "a larger window for a stream", &[open(1), window(1, 1), data(END_STREAM, b"x")], Answer);
    add(
        "7",
        "a GOAWAY with an unknown code",
        &[ask(1), frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff])],
        Answer,
    );
    add("8.1", "POST", &[headers(WHOLE, 1, &post(host, &[("content-length", "0")]))], Answer);
    add(
        "5.4.1",
        "a PING that is none ends it with GOAWAY",
        &[frame(PING, 0, 3, b"pingping")],
        EndConnection(&[PROTOCOL_ERROR]),
    );
    // RFC 7540, 5.3.1; RFC 9113 has no priorities, and lets both be.
    add(
        "5.3.1",
        "HEADERS behind its own stream",
        &[headers(WHOLE | PRIORITIZED, 1, &[&[0, 0, 0, 1, 9][..], &get(host, "/")].concat())],
        EndStream(&[PROTOCOL_ERROR]),
    );
    add(
        "5.3.1",
        "PRIORITY behind its own stream",
        &[open(1), priority(1, &[0, 0, 0, 1, 9])],
        EndStream(&[PROTOCOL_ERROR]),
    );

    // Every form that a field may have.
    let coded = |bytes: &[u8]| headers(WHOLE, 1, &[get(host, "/"), bytes.to_vec()].concat());
    for (section, what, bytes) in [
        ("7541, 6.1", "of the static table", &b"\x90"[..]),
        ("7541, 6.1", "of the dynamic table", b"\x40\x01x\x01y\xbe"),
        ("7541, 6.2.1", "with indexing, its name indexed", b"\x7a\x01x"),
        ("7541, 6.2.1", "with indexing, its name new", b"\x40\x01x\x01y"),
        ("7541, 6.2.2", "without indexing, its name indexed", b"\x0f\x2b\x01x"),
        ("7541, 6.2.2", "without indexing, its name new", b"\x00\x01x\x01y"),
        ("7541, 6.2.3", "never indexed, its name indexed", b"\x1f\x2b\x01x"),
        ("7541, 6.2.3", "never indexed, its name new", b"\x10\x01x\x01y"),
        ("7541, 5.2", "in Huffman's code", b"\x00\x01x\x83\x49\x50\x9f"),
    ] {
        add(section, what, &[coded(bytes)], Answer);
    }
    for (what, size) in [("a smaller table", &b"\x20"[..]), ("two sizes for the table", b"\x20\x3f\xe1\x1f")]
    {
        add("7541, 6.3", what, &[headers(WHOLE, 1, &[size.to_vec(), get(host, "/")].concat())], Answer);
    }
    all
}

#[tokio::test]
async fn what_an_endpoint_must_take_it_takes() {
    let world = Arc::new(World::new().await);
    let cases = cases(&format!("plain.test:{}", world.http));
    all_hold(world, cases).await;
}
