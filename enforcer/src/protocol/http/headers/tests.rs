use super::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

fn left(headers: &HeaderMap) -> Vec<String> {
    let mut left: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    left.sort();
    left
}

#[test]
fn hop_by_hop_headers_and_everything_connection_names_go() {
    let mut request = headers(&[
        ("connection", "close, X-Secret-Hop, Authorization"),
        ("Connection", "keep-alive , x-other"),
        ("x-secret-hop", "1"),
        ("x-other", "1"),
        ("authorization", "Bearer agent"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic x"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip, trailers"),
        ("trailer", "x-t"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("expect", "100-continue"),
        ("content-length", "5"),
        ("host", "a.test"),
        ("accept", "*/*"),
    ]);
    clean_request(&mut request);
    assert_eq!(left(&request), ["accept: */*"]);
}

#[test]
fn headers_that_speak_of_another_request_go_in_every_spelling() {
    for name in [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "X-Forwarded-Prefix",
        "forwarded",
        "x-original-url",
        "x-rewrite-url",
        "x-original-host",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x_forwarded_for",
        "x.forwarded.for",
        "x_original_url",
        "X_HTTP_Method_Override",
        "x-real-ip",
        "true-client-ip",
        "content_length",
        "transfer_encoding",
        "proxy_authorization",
        "via",
    ] {
        let mut request = headers(&[(name, "1"), ("x-fine", "1"), ("x_fine", "1")]);
        clean_request(&mut request);
        assert_eq!(left(&request), ["x-fine: 1", "x_fine: 1"], "{name}");
    }
}

#[test]
fn te_stays_where_it_asks_for_trailers_and_nothing_else() {
    for (te, stays) in [("trailers", true), ("Trailers", true), ("trailers, deflate", false), ("gzip", false)]
    {
        let mut asked = headers(&[("te", te), ("content-type", "text/plain")]);
        clean_request(&mut asked);
        let with: &[&str] = &["content-type: text/plain", "te: trailers"];
        assert_eq!(left(&asked), if stays { with } else { &with[..1] }, "{te}");
    }
}

#[test]
fn what_is_said_behind_a_body_cannot_be_taken_for_what_stands_before_it() {
    let mut trailers = headers(&[
        ("grpc-status", "0"),
        ("server-timing", "db;dur=5"),
        ("set-cookie", "a=b"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("location", "https://other.test/"),
        ("alt-svc", "h3"),
    ]);
    clean_trailers(&mut trailers);
    assert_eq!(left(&trailers), ["grpc-status: 0", "server-timing: db;dur=5"]);
    let said = headers(&[("trailer", "Server-Timing, set-cookie"), ("trailer", "x-checksum")]);
    assert_eq!(announced(&said).unwrap(), "server-timing, x-checksum");
    assert_eq!(announced(&headers(&[("trailer", "host")])), None);
    assert_eq!(announced(&headers(&[])), None);
}

#[test]
fn cookies_become_one_header() {
    let mut request = headers(&[("cookie", "a=1"), ("cookie", "b=2")]);
    clean_request(&mut request);
    assert_eq!(left(&request), ["cookie: a=1; b=2"]);
}

#[test]
fn with_a_credential_ranges_go_and_codings_shrink() {
    let table: &[(&[&str], &str)] = &[
        (&["gzip, deflate, br, zstd"], "gzip, deflate, br, zstd"),
        (&["gzip"], "gzip"),
        (&["x-gzip"], "gzip"),
        (&["compress, gzip;q=0.5"], "gzip"),
        (&["gzip;q=0, br"], "br"),
        (&["gzip; q=0.0"], "identity"),
        (&["*"], "gzip, deflate, br, zstd"),
        (&["identity"], "identity"),
        (&["dcb, dcz"], "identity"),
        (&["br", "gzip"], "gzip, br"),
        (&[], "identity"),
    ];
    for (asked, expected) in table {
        let mut request = headers(&[("range", "bytes=0-1"), ("if-range", "\"e\"")]);
        for value in *asked {
            request.append("accept-encoding", value.parse().unwrap());
        }
        clean_for_search(&mut request);
        assert_eq!(left(&request), [format!("accept-encoding: {expected}")], "{asked:?}");
    }
}

#[test]
fn answers_lose_what_leads_round_us() {
    let mut answer = headers(&[
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2,h2c"),
        ("alt-svc", "h3=\":443\""),
        ("nel", "{}"),
        ("report-to", "{}"),
        ("reporting-endpoints", "a=\"https://x\""),
        ("content-length", "3"),
        ("strict-transport-security", "max-age=1"),
    ]);
    clean_response(&mut answer);
    assert_eq!(left(&answer), ["content-length: 3", "strict-transport-security: max-age=1"]);
}

#[test]
fn answers_in_other_transfer_codings_are_known() {
    let framed = |codings: &[&str]| {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append("transfer-encoding", coding.parse().unwrap());
        }
        plainly_framed(&headers)
    };
    assert!(framed(&[]) && framed(&["chunked"]) && framed(&["Chunked"]));
    for other in [&["gzip, chunked"][..], &["gzip", "chunked"], &["identity"], &["chunked, chunked"]] {
        assert!(!framed(other), "{other:?}");
    }
}
