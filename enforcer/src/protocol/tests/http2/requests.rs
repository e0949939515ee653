//! Requests that HTTP/2 can carry and HTTP/1 servers would read otherwise. None of them reaches the server.

use super::*;

enum Then {
    /// Not answered with 200, and nothing upstream.
    Refused,
    /// One clean request upstream.
    Passes,
}

use Then::{Passes, Refused};

/// Fields of a request without a body, and what becomes of them.
struct Case {
    what: String,
    fields: Vec<(String, String)>,
    then: Then,
}

fn cases(host: &str) -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |what: &str, fields: Vec<(&str, &str)>, then| {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        all.push(Case { what: what.to_owned(), fields, then });
    };
    let with = |more: (&'static str, &'static str)| [&head("GET", host, "/")[..], &[more]].concat();
    let replaced = |name: &'static str, value: &'static str| {
        let set = |(n, v)| if n == name { (n, value) } else { (n, v) };
        head("GET", host, "/").into_iter().map(set).collect::<Vec<_>>()
    };
    let without = |name: &'static str| {
        head("GET", host, "/").into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>()
    };
    add("a plain request", head("GET", host, "/"), Passes);
    add("a query", replaced(":path", "/a?b=c"), Passes);

    // The library cuts it off before anybody sees it (known-issues).
    add("a fragment", replaced(":path", "/a#b"), Passes);

    // Where it goes.
    add("host and :authority alike", [&head("GET", host, "/")[..], &[("host", host)]].concat(), Passes);
    add("another host beside :authority", with(("host", "other.test")), Refused);
    add("two hosts", [&head("GET", host, "/")[..], &[("host", host), ("host", host)]].concat(), Refused);
    add("host without :authority", [&without(":authority")[..], &[("host", host)]].concat(), Refused);
    add("neither", without(":authority"), Refused);
    for authority in [
        "",
        "other.test",
        "plain.test",
        "plain.test:1",
        "user@plain.test",
        "plain.test@other.test",
        "plain.test/x",
        "plain.test#x",
        "plain.test\\x",
        "plain.test, other.test",
        " plain.test",
        "[::1]",
        "127.0.0.1",
        "plain.test:",
        "plain.test:99999",
        "plain%2etest",
    ] {
        add(
            &format!("authority {authority:?}"),
            replaced(":authority", authority.to_owned().leak()),
            Refused,
        );
    }
    for scheme in ["https", "ftp", "HTTP", "", "http://x", "javascript"] {
        add(&format!("scheme {scheme:?}"), replaced(":scheme", scheme), Refused);
    }
    for path in [
        "*",
        "admin",
        "http://other.test/",
        "//other.test/",
        "/a b",
        "/a\tb",
        "/\r\nx: y",
        "/a\0",
        "/\u{fc}",
        "/../admin",
        "/a/..%2fadmin",
        "/%00",
        "/%zz",
        "\\admin",
        "?x",
    ] {
        add(&format!("path {path:?}"), replaced(":path", path), Refused);
    }
    // What is asked.
    for method in
        ["get", "GET ", "GET / HTTP/1.1\r\nx: y", "", "TRACE", "CONNECT", "DELETE", "REFUSED", "G\0T", "PRI"]
    {
        add(&format!("method {method:?}"), replaced(":method", method), Refused);
    }
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("te", "chunked"),
        ("te", "gzip"),
        ("connection", "x-api-key"),
        ("upgrade", "websocket"),
        ("content-length", "1"),
        ("content-length", "+0"),
        ("content-length", "0, 0"),
        ("x", "a\r\nb: c"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x\r\ny", "z"),
        ("x: y", "z"),
        (":x", "y"),
        (":protocol", "websocket"),
        ("X-Y", "z"),
    ] {
        add(&format!("field {name:?}: {value:?}"), with((name, value)), Refused);
    }
    add(
        "CONNECT for another protocol",
        vec![
            (":method", "CONNECT"),
            (":protocol", "connect-udp"),
            (":scheme", "http"),
            (":authority", host),
            (":path", "/"),
        ],
        Refused,
    );
    add(
        "CONNECT to a host and port",
        vec![(":method", "CONNECT"), (":authority", "other.test:443")],
        Refused,
    );
    let mut many = head("GET", host, "/");
    many.extend(std::iter::repeat_n(("x", "y"), 150));
    add("150 fields", many, Refused);
    let mut long = head("GET", host, "/");
    let value = "y".repeat(15 * 1024);
    long.extend([("x", value.as_str()), ("y", &value), ("z", &value)]);
    add("fields of 45 KiB", long, Refused);
    all
}

#[tokio::test]
async fn what_servers_would_read_otherwise_does_not_reach_them() {
    let world = World::new().await;
    let host = format!("plain.test:{}", world.http);
    let cases = cases(&host);
    assert!(cases.len() >= 49, "{}", cases.len());
    let mut wrong = Vec::new();
    for Case { what, fields, then } in &cases {
        let before = world.seen().len();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let block = block(&fields);
        let mut agent = Raw::new(&world, "one").await;
        // As many frames as it takes.
        let parts: Vec<&[u8]> = block.chunks(16 * 1024).collect();
        for (n, part) in parts.iter().enumerate() {
            let last = if n + 1 == parts.len() { END_HEADERS } else { 0 };
            let (kind, first) = if n == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
            agent.send(&frame(kind, first | last, 1, part)).await;
        }
        let frames = agent.until(|f| matches!(f.kind, HEADERS | RST_STREAM | GOAWAY)).await;
        let answered = frames.iter().flatten().any(Frame::is_ok);
        let seen = world.seen()[before..].to_vec();
        let good = match then {
            Passes => {
                answered
                    && matches!(&seen[..], [one] if one.header("host") == Some(host.as_str()) && !one.line.contains('#'))
            }
            Refused => !answered && seen.is_empty(),
        };
        if !good {
            wrong.push(format!("{what}: answered {answered}, the server saw {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
