//! Requests that two readers might read differently. For each, the server gets exactly one clean
//! request, or none and the agent an answer that says why.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::world::{Seen, World};

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// One clean request upstream, answered.
    Passes,
    /// This status, and nothing upstream.
    Refused(u16),
    /// Nothing upstream as a whole request; the answer may be missing.
    BreaksOff,
}

struct Case {
    name: String,
    bytes: Vec<u8>,
    then: Then,
}

/// `HOST` stands for the host and port that the connection goes to.
fn cases() -> Vec<Case> {
    use Then::{BreaksOff, Passes, Refused};
    let mut all = Vec::new();
    let mut add = |name: String, bytes: Vec<u8>, then| all.push(Case { name, bytes, then });
    let head = |line: &str, fields: &str| format!("{line}\r\nhost: HOST\r\n{fields}\r\n").into_bytes();

    // The request line.
    for (line, then) in [
        ("GET / HTTP/1.1", Passes),
        ("HEAD / HTTP/1.1", Refused(403)),
        ("GET /a/b?c=d&c=e HTTP/1.1", Passes),
        ("GET http://HOST/a HTTP/1.1", Passes),
        ("GET https://HOST/a HTTP/1.1", Refused(400)),
        ("GET ftp://HOST/a HTTP/1.1", Refused(400)),
        ("GET http://other.test/a HTTP/1.1", Refused(400)),
        ("GET http://user@HOST/a HTTP/1.1", Refused(400)),
        ("GET http://HOST@other.test/a HTTP/1.1", Refused(400)),
        ("GET //other.test/a HTTP/1.1", Refused(400)),
        ("GET HOST HTTP/1.1", Refused(400)),
        ("GET * HTTP/1.1", Refused(400)),
        ("OPTIONS * HTTP/1.1", Refused(400)),
        ("CONNECT HOST HTTP/1.1", Refused(400)),
        ("CONNECT other.test:443 HTTP/1.1", Refused(400)),
        ("TRACE / HTTP/1.1", Refused(400)),
        ("TRACK / HTTP/1.1", Refused(400)),
        ("get / HTTP/1.1", Refused(400)),
        ("Get / HTTP/1.1", Refused(400)),
        ("REFUSED / HTTP/1.1", Refused(403)),
        ("DELETE / HTTP/1.1", Refused(403)),
        ("GET  / HTTP/1.1", Refused(400)),
        ("GET /  HTTP/1.1", Refused(400)),
        ("GET / HTTP/1.1 ", Refused(400)),
        ("GET /a b HTTP/1.1", Refused(400)),
        ("GET\t/\tHTTP/1.1", BreaksOff),
        ("GET / HTTP/1.10", Refused(400)),
        ("GET / HTTP/1.", Refused(400)),
        ("GET / HTTP/11", Refused(400)),
        ("GET / HTTP/0.9", Refused(400)),
        ("GET / HTTP/2.0", Refused(400)),
        ("GET / HTTP/3", Refused(400)),
        ("GET / HTPP/1.1", Refused(400)),
        ("GET /", Refused(400)),
        ("GET", BreaksOff),
        ("GET /#fragment HTTP/1.1", Refused(400)),
        ("GET /a#b?c HTTP/1.1", Refused(400)),
        ("GET /%zz HTTP/1.1", Refused(400)),
        ("GET /% HTTP/1.1", Refused(400)),
        ("GET /a%00b HTTP/1.1", Refused(400)),
        // Clear, and so the policy's: no rule of it says `raw_path: true`.
        ("GET /a%2fb HTTP/1.1", Refused(403)),
        ("GET /a%2f..%2fb HTTP/1.1", Refused(400)),
        ("GET /a%2f%2fb HTTP/1.1", Refused(400)),
        ("GET /a%252fb HTTP/1.1", Refused(400)),
        ("GET /a%5cb HTTP/1.1", Refused(400)),
        ("GET /a\\b HTTP/1.1", Refused(400)),
        ("GET /a/../b HTTP/1.1", Refused(400)),
        ("GET /a/%2e%2e/b HTTP/1.1", Refused(400)),
        ("GET /a/.%2e/b HTTP/1.1", Refused(400)),
        ("GET /a/./b HTTP/1.1", Refused(400)),
        ("GET /a//b HTTP/1.1", Refused(400)),
        ("GET /a;b/c HTTP/1.1", Refused(400)),
        ("GET /a..;/b HTTP/1.1", Refused(400)),
        ("GET /%252e%252e/ HTTP/1.1", Refused(400)),
        ("GET /%c0%ae HTTP/1.1", Refused(400)),
        ("GET /%61 HTTP/1.1", Passes),
    ] {
        add(format!("line {line:?}"), head(line, ""), then);
    }
    let long = format!("GET /{} HTTP/1.1", "a".repeat(8 * 1024));
    add("a target over 8 KiB".into(), head(&long, ""), Refused(400));
    let long = format!("{} / HTTP/1.1", "A".repeat(300));
    add("a method of 300 letters".into(), head(&long, ""), BreaksOff);

    // Hosts.
    for (fields, then) in [
        ("", Refused(400)),
        ("host: HOST\r\nhost: HOST\r\n", Refused(400)),
        ("host: HOST\r\nHost: other.test\r\n", Refused(400)),
        ("host: \r\n", Refused(400)),
        ("host: HOST, other.test\r\n", Refused(400)),
        ("host: user@HOST\r\n", Refused(400)),
        ("host: HOST/evil\r\n", Refused(400)),
        ("host: HOST\\evil\r\n", Refused(400)),
        ("host: HOST#evil\r\n", Refused(400)),
        ("host: HOST?evil\r\n", Refused(400)),
        ("host: HOST evil\r\n", Refused(400)),
        ("host: evil HOST\r\n", Refused(400)),
        ("host: [::1\r\n", Refused(400)),
        ("host: [plain.test]\r\n", Refused(400)),
        ("host: plain.test:80:80\r\n", Refused(400)),
        ("host: plain.test:\r\n", Refused(400)),
        ("host: plain.test:0\r\n", Refused(400)),
        ("host: plain.test:080\r\n", Refused(400)),
        ("host: plain.test:65536\r\n", Refused(400)),
        ("host: plain.test:http\r\n", Refused(400)),
        ("host: plain.test\r\n", Refused(421)),
        ("host: plain.test:1\r\n", Refused(421)),
        ("host: 0x7f.1\r\n", Refused(400)),
        ("host: 2130706433\r\n", Refused(400)),
        ("host: pl\u{e4}in.test\r\n", Refused(400)),
        ("host: PLAIN.TEST:PORT\r\n", Passes),
        ("host: plain.test.:PORT\r\n", Refused(400)),
        ("host: other.test:PORT\r\n", Refused(403)),
        ("x-host: other.test\r\nhost: HOST\r\n", Passes),
        ("h\u{f6}st: HOST\r\n", Refused(400)),
        ("host : HOST\r\n", Refused(400)),
        (" host: HOST\r\n", Refused(400)),
    ] {
        add(format!("host {fields:?}"), format!("GET / HTTP/1.1\r\n{fields}\r\n").into_bytes(), then);
    }
    add("HTTP/1.0 without a host".into(), b"GET / HTTP/1.0\r\n\r\n".to_vec(), Refused(400));

    // Framing. The body is one that most readings would make a second request of.
    let hidden = "GET /hidden HTTP/1.1\r\nhost: HOST\r\n\r\n";
    let n = hidden.len();
    for (fields, body, then) in [
        (format!("content-length: {n}\r\ntransfer-encoding: chunked\r\n"), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding: chunked\r\ncontent-length: 5\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("content-length: 0\r\ncontent-length: 5\r\n".into(), "", Refused(400)),
        ("content-length: 5\r\ncontent-length: 5\r\n".into(), "abcde", Refused(400)),
        ("content-length: 5, 5\r\n".into(), "abcde", Refused(400)),
        ("content-length: 5 5\r\n".into(), "abcde", Refused(400)),
        ("content-length: 005\r\n".into(), "abcde", Refused(400)),
        ("content-length: +5\r\n".into(), "abcde", Refused(400)),
        ("content-length: -5\r\n".into(), "", Refused(400)),
        ("content-length: 5.0\r\n".into(), "abcde", Refused(400)),
        ("content-length: 0x5\r\n".into(), "abcde", Refused(400)),
        ("content-length: 5;\r\n".into(), "abcde", Refused(400)),
        ("content-length: \r\n".into(), "", Refused(400)),
        ("content-length: 9223372036854775808\r\n".into(), "", Refused(400)),
        ("content-length: 99999999999999999999\r\n".into(), "", Refused(400)),
        ("content-length : 5\r\n".into(), "abcde", Refused(400)),
        ("content_length: 5\r\n".into(), "", Passes),
        ("content-length: 5\r\n".into(), "abcde", Passes),
        ("content-length: 0\r\n".into(), "", Passes),
        ("transfer-encoding: chunked\r\n".into(), "5\r\nabcde\r\n0\r\n\r\n", Passes),
        ("Transfer-Encoding: CHUNKED\r\n".into(), "5\r\nabcde\r\n0\r\n\r\n", Passes),
        ("transfer-encoding: chunked, chunked\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding: identity, chunked\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding: gzip, chunked\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding: ,chunked\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding: chunked,\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding: identity\r\n".into(), "", Refused(400)),
        ("transfer-encoding: xchunked\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding: \"chunked\"\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding: chunked;q=1\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding:\r\n chunked\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding : chunked\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer-encoding\t: chunked\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("transfer_encoding: chunked\r\n".into(), "", Passes),
        ("x: y\ntransfer-encoding: chunked\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("x: y\rtransfer-encoding: chunked\r\n".into(), "0\r\n\r\n", Refused(400)),
        ("expect: 100-continue\r\ncontent-length: 5\r\n".into(), "abcde", Passes),
        ("trailer: host\r\ntransfer-encoding: chunked\r\n".into(), "0\r\nhost: other.test\r\n\r\n", Passes),
    ] {
        add(format!("framing {fields:?}"), [head("POST / HTTP/1.1", &fields), body.into()].concat(), then);
    }
    for (body, then) in [
        ("5;ext=1\r\nabcde\r\n0\r\n\r\n", Passes),
        ("05\r\nabcde\r\n00\r\n\r\n", Passes),
        ("5\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("5\r\nabcde\n0\r\n\r\n", BreaksOff),
        ("5\r\nabcdef\r\n0\r\n\r\n", BreaksOff),
        ("6\r\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("0x5\r\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("+5\r\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("-5\r\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("5 \r\nabcde\r\n0\r\n\r\n", BreaksOff),
        (" 5\r\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("5\r\r\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("5;a\nb\r\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("g\r\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("\r\n", BreaksOff),
        ("10000000000000005\r\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("fffffffffffffffe\r\nabcde\r\n0\r\n\r\n", BreaksOff),
        ("5\r\nabcde\r\n0\r\nx\r\n\r\n", BreaksOff),
        ("5\r\nabcde\r\n0\r\n x: y\r\n\r\n", BreaksOff),
        ("5\r\nabcde\r\n0\r\nx: y\n\r\n", BreaksOff),
    ] {
        // The head is good and on its way when the body goes wrong.
        let line =
            if then == Passes { "POST / HTTP/1.1".to_owned() } else { format!("POST {BROKEN} HTTP/1.1") };
        let bytes = [head(&line, "transfer-encoding: chunked\r\n"), body.into()].concat();
        add(format!("chunks {body:?}"), bytes, then);
    }
    add(
        "chunks in HTTP/1.0".into(),
        [head("POST / HTTP/1.0", "transfer-encoding: chunked\r\n"), b"0\r\n\r\n".to_vec()].concat(),
        Refused(400),
    );

    // Every control character, in every place.
    for byte in (0..=b' ').chain([0x7f]) {
        let name = |place: &str| format!("byte {byte:#04x} {place}");
        let put = |before: &str, after: &str| [before.as_bytes(), &[byte], after.as_bytes()].concat();
        let tail = "HTTP/1.1\r\nhost: HOST\r\n";
        if !matches!(byte, b' ') {
            add(name("in the target"), put("GET /a", &format!("b {tail}\r\n")), BreaksOff);
        }
        add(name("in a name"), put(&format!("GET / {tail}x"), "y: z\r\n\r\n"), Refused(400));
        let inside = if matches!(byte, b' ' | b'\t') { Passes } else { Refused(400) };
        add(name("in a value"), put(&format!("GET / {tail}x: y"), "z\r\n\r\n"), inside);
    }
    add("a target beyond ASCII".into(), head("GET /\u{fc} HTTP/1.1", ""), Refused(400));
    add("an empty line first".into(), [b"\r\n".to_vec(), head("GET / HTTP/1.1", "")].concat(), BreaksOff);
    add("bare LF throughout".into(), b"GET / HTTP/1.1\nhost: HOST\n\n".to_vec(), Refused(400));
    add("a folded value".into(), head("GET / HTTP/1.1", "x: a\r\n b\r\n"), Refused(400));
    add("a line without colon".into(), head("GET / HTTP/1.1", "xyz\r\n"), Refused(400));
    add("a line that is a colon".into(), head("GET / HTTP/1.1", ": x\r\n"), Refused(400));
    add("150 fields".into(), head("GET / HTTP/1.1", &"x: y\r\n".repeat(150)), Refused(431));
    let field = format!("x: {}\r\n", "y".repeat(40 * 1024));
    add("a field of 40 KiB".into(), head("GET / HTTP/1.1", &field), Refused(431));

    // Fields that would make the next reader act on something else than was judged.
    for field in [
        "connection: close, authorization",
        "connection: x-a, host",
        "te: trailers, deflate",
        "upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__",
        "upgrade: TLS/1.0\r\nconnection: upgrade",
        "upgrade: websocket",
        "proxy-connection: keep-alive",
        "proxy-authorization: Basic eA==",
        "keep-alive: timeout=5",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: other.test",
        "x-forwarded-proto: https",
        "forwarded: host=other.test",
        "x-original-url: /admin",
        "x-rewrite-url: /admin",
        "x-http-method-override: DELETE",
        "x-http-method: DELETE",
        "x-method-override: DELETE",
        "x_http_method_override: DELETE",
        "x-real-ip: 127.0.0.1",
        "x-envoy-original-path: /admin",
        "via: 1.1 x",
    ] {
        add(format!("field {field:?}"), head("GET / HTTP/1.1", &format!("{field}\r\n")), Passes);
    }
    all
}

const BEHIND: &str = "/behind";
/// Begun upstream at most, never finished, and nothing behind it.
const BROKEN: &str = "/broken";

/// Fields that never go upstream as the agent wrote them.
const NEVER: &[&str] = &[
    "connection",
    "te",
    "upgrade",
    "http2-settings",
    "proxy-connection",
    "proxy-authorization",
    "keep-alive",
    "trailer",
    "expect",
    "forwarded",
    "via",
    "content_length",
    "transfer_encoding",
];

#[tokio::test]
async fn what_is_ambiguous_is_refused_and_never_forwarded() {
    let cases = cases();
    assert!(cases.len() >= 200, "{}", cases.len());
    let mut wrong = Vec::new();
    let world = World::new().await;
    let host = format!("plain.test:{}", world.http);
    // Behind each case a request that nobody may take for a part of it.
    let behind = format!("GET {BEHIND} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    for case in &cases {
        let before = world.seen().len();
        let bytes = String::from_utf8_lossy(&case.bytes).into_owned();
        let bytes = bytes.replace("HOST", &host).replace("PORT", &world.http.to_string());
        let mut agent = world.dial("one", world.http).await;
        agent.write_all(format!("{bytes}{behind}").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let reading = agent.read_to_end(&mut answer);
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), reading).await;
        if read.is_err() {
            wrong.push(format!("{}: not closed", case.name));
        }
        let seen = world.seen()[before..].to_vec();
        if let Err(why) = judge(case.then, &String::from_utf8_lossy(&answer), &seen, &host) {
            wrong.push(format!("{}: {why}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn judge(then: Then, answer: &str, seen: &[Seen], host: &str) -> Result<(), String> {
    let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(answer);
    let status = answer.get(9..12).and_then(|digits| digits.parse::<u16>().ok());
    let lines: Vec<&str> =
        seen.iter().map(|seen| seen.line.as_str()).filter(|line| !line.contains(BROKEN)).collect();
    let told = || format!("answered {status:?}, the server saw {lines:?}: {answer}");
    for seen in seen {
        clean(seen, host)?;
    }
    let behind = format!("GET {BEHIND} HTTP/1.1");
    let good = match (then, lines.as_slice()) {
        (Then::Passes, [_, last]) => status == Some(200) && *last == behind,
        (Then::Passes, [_]) => status == Some(200) && answer.contains("connection: close"),
        // A policy's no leaves the connection as it is; what was misread once is not read on.
        (Then::Refused(403), [last]) => status == Some(403) && *last == behind,
        (Then::Refused(wanted), []) => status == Some(wanted) && answer.contains("\"reason\""),
        (Then::BreaksOff, []) => status.is_none_or(|status| status >= 400),
        (Then::Passes | Then::Refused(_) | Then::BreaksOff, _) => false,
    };
    if good { Ok(()) } else { Err(told()) }
}

/// One host, one framing, nothing that speaks of another request.
fn clean(seen: &Seen, host: &str) -> Result<(), String> {
    let hosts: Vec<_> = seen.headers.get_all("host").iter().collect();
    if hosts.len() != 1 || hosts[0].as_bytes() != host.as_bytes() {
        return Err(format!("hosts {hosts:?}"));
    }
    let framing = ["content-length", "transfer-encoding"];
    if framing.iter().map(|name| seen.headers.get_all(*name).iter().count()).sum::<usize>() > 1 {
        return Err(format!("framed twice: {:?}", seen.headers));
    }
    let stray = seen.headers.keys().find(|name| {
        NEVER.contains(&name.as_str())
            || ["x-forwarded", "x-original", "x-rewrite", "x-http-method", "x-method", "x_http", "x-envoy"]
                .iter()
                .any(|start| name.as_str().starts_with(start))
    });
    match stray {
        Some(name) => Err(format!("`{name}` went upstream")),
        None => Ok(()),
    }
}
