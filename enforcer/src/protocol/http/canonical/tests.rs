use super::*;

fn h1(lines: &[(&str, &str)], method: &str, target: &str) -> Parts {
    let mut builder = http::Request::builder().method(method).uri(target).version(Version::HTTP_11);
    for (name, value) in lines {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn h2(authority: &str, host: Option<&str>) -> Parts {
    let builder = http::Request::builder().uri(format!("https://{authority}/")).version(Version::HTTP_2);
    let builder = match host {
        Some(host) => builder.header("host", host),
        None => builder,
    };
    builder.body(()).unwrap().into_parts().0
}

fn tls(name: &str) -> Host {
    Host::parse(name).unwrap()
}

fn code(result: Result<Request, Unclear>) -> Result<String, Code> {
    result
        .map(|request| format!("{}:{}{}", request.host, request.port, request.target.as_str()))
        .map_err(|e| e.code)
}

#[test]
fn only_the_diagonal_of_server_name_and_host_passes() {
    let names = ["a.test", "b.test", "c.a.test"];
    for sni in names {
        for host in names {
            let (host1, host2) = (h1(&[("host", host)], "GET", "/"), h2(host, None));
            let sni_host = tls(sni);
            let arrived = Arrived { tls: Some(&sni_host), port: 443 };
            for parts in [host1, host2] {
                let expected = if sni == host { Ok(format!("{host}:443/")) } else { Err(Code::Misdirected) };
                assert_eq!(code(read(&parts, arrived)), expected, "{sni} {host}");
            }
        }
    }
}

#[test]
fn authority_and_host_must_be_the_same_in_http2() {
    let names = ["a.test", "b.test", "a.test:444"];
    let sni = tls("a.test");
    let arrived = Arrived { tls: Some(&sni), port: 443 };
    for authority in names {
        for host in names {
            let expected = match (authority, host) {
                ("a.test", "a.test") => Ok("a.test:443/".to_owned()),
                ("b.test", "b.test") | ("a.test:444", "a.test:444") => Err(Code::Misdirected),
                _ => Err(Code::BadRequest),
            };
            assert_eq!(code(read(&h2(authority, Some(host)), arrived)), expected, "{authority} {host}");
        }
    }
    let mut two = h2("a.test", Some("a.test"));
    two.headers.append("host", "a.test".parse().unwrap());
    assert_eq!(code(read(&two, arrived)), Err(Code::BadRequest));
}

#[test]
fn in_the_clear_the_dialled_port_counts() {
    let arrived = Arrived { tls: None, port: 8080 };
    let table = [
        ("a.test:8080", Ok("a.test:8080/x".to_owned())),
        ("A.TEST:8080", Ok("a.test:8080/x".to_owned())),
        ("a.test", Err(Code::Misdirected)),
        ("a.test:80", Err(Code::Misdirected)),
        ("a.test:08080", Err(Code::BadRequest)),
        ("a.test:", Err(Code::BadRequest)),
        ("a.test:0", Err(Code::BadRequest)),
        ("a.test:99999", Err(Code::BadRequest)),
        ("a.test:8080:8080", Err(Code::BadRequest)),
        ("user@a.test:8080", Err(Code::BadRequest)),
        ("a.test/evil:8080", Err(Code::BadRequest)),
        ("a.test, b.test", Err(Code::BadRequest)),
        ("[::1]:8080x", Err(Code::BadRequest)),
        ("", Err(Code::BadRequest)),
    ];
    for (host, expected) in table {
        assert_eq!(code(read(&h1(&[("host", host)], "GET", "/x"), arrived)), expected, "{host}");
    }
}

#[test]
fn http1_needs_exactly_one_host() {
    let arrived = Arrived { tls: None, port: 80 };
    assert_eq!(code(read(&h1(&[], "GET", "/"), arrived)), Err(Code::BadRequest));
    let twice = h1(&[("host", "a.test"), ("host", "a.test")], "GET", "/");
    assert_eq!(code(read(&twice, arrived)), Err(Code::BadRequest));
}

#[test]
fn absolute_form_must_agree_with_host_and_scheme() {
    let arrived = Arrived { tls: None, port: 80 };
    let host = [("host", "a.test")];
    assert_eq!(code(read(&h1(&host, "GET", "http://a.test/p?q=1"), arrived)), Ok("a.test:80/p?q=1".into()));
    for target in
        ["http://b.test/", "https://a.test/", "ftp://a.test/", "http://u@a.test/", "http://a.test:81/"]
    {
        assert_eq!(code(read(&h1(&host, "GET", target), arrived)), Err(Code::BadRequest), "{target}");
    }
    assert_eq!(code(read(&h1(&[], "GET", "http://a.test/"), arrived)), Err(Code::BadRequest));
}

#[test]
fn body_lengths_with_two_readings_are_refused() {
    let arrived = Arrived { tls: None, port: 80 };
    let table: &[(&[(&str, &str)], bool)] = &[
        (&[("content-length", "5")], true),
        (&[("content-length", "0")], true),
        (&[("transfer-encoding", "chunked")], true),
        (&[("transfer-encoding", "Chunked")], true),
        (&[("content-length", "005")], false),
        (&[("content-length", "+5")], false),
        (&[("content-length", "9223372036854775808")], false),
        (&[("content-length", "5"), ("content-length", "5")], false),
        (&[("content-length", "5"), ("transfer-encoding", "chunked")], false),
        (&[("transfer-encoding", "chunked, chunked")], false),
        (&[("transfer-encoding", "gzip, chunked")], false),
        (&[("transfer-encoding", "identity")], false),
        (&[("transfer-encoding", ",chunked")], false),
        (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
    ];
    for (headers, fine) in table {
        let mut all = vec![("host", "a.test")];
        all.extend_from_slice(headers);
        assert_eq!(read(&h1(&all, "POST", "/"), arrived).is_ok(), *fine, "{headers:?}");
    }
}

#[test]
fn methods_that_tunnel_or_echo_are_never_requests() {
    let arrived = Arrived { tls: None, port: 80 };
    for method in ["TRACE", "TRACK", "get", "CONNECT"] {
        let mut parts = h1(&[("host", "a.test")], "GET", "/");
        parts.method = http::Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(code(read(&parts, arrived)), Err(Code::BadRequest), "{method}");
    }
    assert_eq!(code(read(&h1(&[("host", "a.test")], "OPTIONS", "*"), arrived)), Err(Code::BadRequest));
}

#[test]
fn long_targets_are_refused() {
    let arrived = Arrived { tls: None, port: 80 };
    let target = format!("/{}", "a".repeat(MAX_TARGET));
    assert_eq!(code(read(&h1(&[("host", "a.test")], "GET", &target), arrived)), Err(Code::BadRequest));
}
