use proptest::prelude::*;

use super::{Host, Method, Request, Target, authority};

fn code<T: std::fmt::Debug>(result: Result<T, super::RequestError>) -> &'static str {
    result.map_or_else(|error| error.code, |value| panic!("accepted as {value:?}"))
}

#[test]
fn targets_that_have_one_reading_are_kept_or_spelt_canonically() {
    for (given, canonical) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/b/c", "/a/b/c"),
        ("/a?b=c", "/a?b=c"),
        ("/a?", "/a?"),
        ("/?", "/?"),
        ("/%61dmin/", "/admin/"),
        ("/%41%5a%30%2d%5F%7e", "/AZ0-_~"),
        ("/a%2eb", "/a.b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/%2ewell-known", "/.well-known"),
        ("/...a", "/...a"),
        ("/a..b", "/a..b"),
        ("/compare/main...next", "/compare/main...next"),
        ("/@scope/name", "/@scope/name"),
        ("/%40scope", "/%40scope"),
        ("/a%c3%a9", "/a%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/%20a", "/%20a"),
        ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
        ("/branches/fix%23123", "/branches/fix%23123"),
        ("/100%25", "/100%25"),
        ("/100%25-done", "/100%25-done"),
        ("/ADMIN", "/ADMIN"),
        ("/a?next=https%3a%2f%2fx", "/a?next=https%3A%2F%2Fx"),
        ("/a?next=/b//c/../d", "/a?next=/b//c/../d"),
        ("/a?x%5b%5d=1&y[]=2", "/a?x%5B%5D=1&y[]=2"),
        ("/a?b=%252f", "/a?b=%252f"),
        ("/a?b=c?d", "/a?b=c?d"),
        ("/a?b=%3B", "/a?b=%3B"),
        ("/a?text=one%0atwo", "/a?text=one%0Atwo"),
        ("/a?q={x}|y^z`", "/a?q={x}|y^z`"),
    ] {
        let target = Target::parse(given).unwrap_or_else(|error| panic!("{given}: {error}"));
        assert_eq!(target.as_str(), canonical);
        let (path, query) = canonical.split_once('?').map_or((canonical, None), |(p, q)| (p, Some(q)));
        assert_eq!((target.path(), target.query()), (path, query));
    }
}

/// One spelling is matched and recorded; what is sent keeps the case of the escape.
#[test]
fn an_encoded_slash_stays_where_it_is() {
    for (given, path, sent, decoded) in [
        ("/@scope%2fname", "/@scope%2Fname", "/@scope%2fname", "/@scope/name"),
        ("/%40scope%2Fname?a=%2fb", "/%40scope%2Fname", "/%40scope%2Fname?a=%2Fb", "/%40scope/name"),
        ("/a%2Fb%2fc/%64", "/a%2Fb%2Fc/d", "/a%2Fb%2fc/d", "/a/b/c/d"),
        ("/a%2fb/", "/a%2Fb/", "/a%2fb/", "/a/b/"),
    ] {
        let target = Target::parse(given).unwrap_or_else(|error| panic!("{given}: {error}"));
        assert_eq!((target.path(), target.as_str()), (path, sent));
        assert_eq!(target.decoded_slashes().as_deref(), Some(decoded));
    }
    let plain = Target::parse("/a/b?c=%2f").unwrap();
    assert!(!plain.has_encoded_slash() && plain.decoded_slashes().is_none());
}

#[test]
fn targets_that_servers_read_differently_are_refused() {
    for (given, expected) in [
        ("", "target_form"),
        ("*", "target_form"),
        ("a", "target_form"),
        ("?a", "target_form"),
        ("https://h/a", "target_form"),
        ("\\a", "target_form"),
        ("/a#b", "target_fragment"),
        ("/a?b#c", "target_fragment"),
        ("/#", "target_fragment"),
        ("/.", "target_dot_segment"),
        ("/..", "target_dot_segment"),
        ("/./a", "target_dot_segment"),
        ("/../a", "target_dot_segment"),
        ("/ok/../admin", "target_dot_segment"),
        ("/ok/./admin", "target_dot_segment"),
        ("/ok/..", "target_dot_segment"),
        ("/ok/%2e%2e/admin", "target_dot_segment"),
        ("/ok/%2E%2E/admin", "target_dot_segment"),
        ("/ok/.%2e/admin", "target_dot_segment"),
        ("/ok/%2e./admin", "target_dot_segment"),
        ("/ok/%2e/admin", "target_dot_segment"),
        ("//", "target_empty_segment"),
        ("//admin", "target_empty_segment"),
        ("/ok//admin", "target_empty_segment"),
        ("/ok//", "target_empty_segment"),
        ("///", "target_empty_segment"),
        ("//evil.example/a", "target_empty_segment"),
        ("/ok//../../admin", "target_dot_segment"),
        ("/%2f", "target_encoded_slash"),
        ("/%2Fadmin", "target_encoded_slash"),
        ("/ok%2f", "target_encoded_slash"),
        ("/ok%2F/", "target_encoded_slash"),
        ("/ok%2f/admin", "target_encoded_slash"),
        ("/ok/%2Fadmin", "target_encoded_slash"),
        ("/ok%2f%2Fadmin", "target_encoded_slash"),
        ("/ok/..%2fadmin", "target_dot_segment"),
        ("/ok%2f..%2fadmin", "target_dot_segment"),
        ("/ok%2F.%2fadmin", "target_dot_segment"),
        ("/ok%2f..", "target_dot_segment"),
        ("/ok/%2e%2e%2fadmin", "target_dot_segment"),
        ("/ok%2f%2e%2e/admin", "target_dot_segment"),
        ("/ok.%2fadmin", "target_trailing"),
        ("/ok%20%2Fadmin", "target_trailing"),
        ("/ok%2fadmin.", "target_trailing"),
        ("/ok%2fadmin;x", "target_parameter"),
        ("/ok%2f%5cadmin", "target_backslash"),
        ("/ok%2fadmin%00", "target_control"),
        ("/ok%2f/%2e", "target_dot_segment"),
        ("/%25%32%66admin", "target_double_encoding"),
        ("/ok%5cadmin", "target_backslash"),
        ("/ok%5Cadmin", "target_backslash"),
        ("/ok\\admin", "target_backslash"),
        ("/ok/..\\admin", "target_backslash"),
        ("/a?b=\\", "target_backslash"),
        ("/ok;x=1", "target_parameter"),
        ("/ok/..;/admin", "target_parameter"),
        ("/ok/;/../../admin", "target_parameter"),
        ("/;/admin", "target_parameter"),
        ("/ok%3b", "target_parameter"),
        ("/ok/..%3B/admin", "target_parameter"),
        ("/a?b=1;key=2", "target_parameter"),
        ("/ok/.%252e/admin", "target_double_encoding"),
        ("/%252e%252e/admin", "target_double_encoding"),
        ("/ok%252fadmin", "target_double_encoding"),
        ("/%2561dmin", "target_double_encoding"),
        ("/%25%36%31dmin", "target_double_encoding"),
        ("/%25%32%65", "target_double_encoding"),
        ("/admin.", "target_trailing"),
        ("/admin./x", "target_trailing"),
        ("/...", "target_trailing"),
        ("/admin%2e", "target_trailing"),
        ("/admin%20", "target_trailing"),
        ("/admin%20/x", "target_trailing"),
        ("/admin%3Fx", "target_encoded_question"),
        ("/admin%3fx", "target_encoded_question"),
        ("/a b", "target_control"),
        ("/a\tb", "target_control"),
        ("/a\r\nHost: evil", "target_control"),
        ("/a\0", "target_control"),
        ("/a\u{7f}", "target_control"),
        ("/a%00", "target_control"),
        ("/a%00.html", "target_control"),
        ("/a%0a", "target_control"),
        ("/a%0d%0aSet-Cookie:x", "target_control"),
        ("/a%09", "target_control"),
        ("/a%7f", "target_control"),
        ("/a%C2%85", "target_control"),
        ("/a?b=%00", "target_control"),
        ("/a?b= c", "target_control"),
        ("/é", "target_not_ascii"),
        ("/a?é", "target_not_ascii"),
        ("/ok/\u{ff0e}\u{ff0e}/admin", "target_not_ascii"),
        ("/ok/%ef%bc%8e%ef%bc%8e/admin", "target_lookalike"),
        ("/ok%ef%bc%8fadmin", "target_lookalike"),
        ("/ok%e2%88%95admin", "target_lookalike"),
        ("/%e2%80%a5/admin", "target_lookalike"),
        ("/%c0%ae%c0%ae/admin", "target_utf8"),
        ("/ok%c0%afadmin", "target_utf8"),
        ("/%e0%80%af", "target_utf8"),
        ("/%ff", "target_utf8"),
        ("/%c3", "target_utf8"),
        ("/%ed%a0%80", "target_utf8"),
        ("/a?b=%ff", "target_utf8"),
        ("/%", "target_escape"),
        ("/%a", "target_escape"),
        ("/%zz", "target_escape"),
        ("/%2", "target_escape"),
        ("/%u002e", "target_escape"),
        ("/%+1", "target_escape"),
        ("/a?b=%", "target_escape"),
        ("/a?b=%g0", "target_escape"),
        ("/a<b>", "target_character"),
        ("/a\"b", "target_character"),
        ("/a{b}", "target_character"),
        ("/a|b", "target_character"),
        ("/a[b]", "target_character"),
        ("/a^b", "target_character"),
        ("/a`b", "target_character"),
        ("/a?b=<c>", "target_character"),
        ("/a?b=\"", "target_character"),
    ] {
        assert_eq!(code(Target::parse(given)), expected, "{given:?}");
    }
    assert_eq!(code(Target::parse(&format!("/{}", "a".repeat(8192)))), "target_too_long");
    assert!(Target::parse(&format!("/{}", "a".repeat(8191))).is_ok());
}

#[test]
fn hosts_have_one_spelling() {
    for (given, canonical) in [
        ("api.github.com", "api.github.com"),
        ("API.GitHub.COM", "api.github.com"),
        ("localhost", "localhost"),
        ("a-b.c-d", "a-b.c-d"),
        ("1.example", "1.example"),
        ("4chan.org", "4chan.org"),
        ("1.2.3.4.nip.io", "1.2.3.4.nip.io"),
        ("r3---sn-abc.example.com", "r3---sn-abc.example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("example.xn--p1ai", "example.xn--p1ai"),
        ("0xfoo", "0xfoo"),
        ("127.0.0.1", "127.0.0.1"),
        ("255.255.255.255", "255.255.255.255"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[FD00:EC2::254]", "fd00:ec2::254"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        assert_eq!(Host::parse(given).unwrap_or_else(|e| panic!("{given}: {e}")).to_string(), canonical);
    }
}

#[test]
fn hosts_that_resolvers_read_differently_are_refused() {
    for (given, expected) in [
        ("", "host_empty"),
        (".", "host_trailing_dot"),
        ("github.com.", "host_trailing_dot"),
        ("github.com..", "host_trailing_dot"),
        (".github.com", "host_malformed"),
        ("a..b", "host_malformed"),
        ("-a.com", "host_malformed"),
        ("a-.com", "host_malformed"),
        ("a_b.com", "host_malformed"),
        ("a b.com", "host_malformed"),
        (" github.com", "host_malformed"),
        ("github.com ", "host_malformed"),
        ("github.com\t", "host_malformed"),
        ("github.com\n", "host_malformed"),
        ("evil\0.github.com", "host_malformed"),
        ("a,b", "host_malformed"),
        ("a@evil.com", "host_malformed"),
        ("a/evil.com", "host_malformed"),
        ("a\\evil.com", "host_malformed"),
        ("a#evil.com", "host_malformed"),
        ("a?evil.com", "host_malformed"),
        ("%61.com", "host_malformed"),
        ("*.example.com", "host_malformed"),
        ("a;b.com", "host_malformed"),
        ("a|b", "host_malformed"),
        ("[", "host_malformed"),
        ("[]", "host_malformed"),
        ("[::1", "host_malformed"),
        ("::1]", "host_malformed"),
        ("[127.0.0.1]", "host_malformed"),
        ("[::1%eth0]", "host_malformed"),
        ("fe80::1%25eth0", "host_malformed"),
        (":::", "host_malformed"),
        ("12345::", "host_malformed"),
        ("v1.fe80::a", "host_malformed"),
        ("github.com:443", "host_malformed"),
        ("::ffff:127.0.0.1", "host_mapped"),
        ("[::ffff:7f00:1]", "host_mapped"),
        ("127.1", "host_numeric"),
        ("127.0.1", "host_numeric"),
        ("0x7f.1", "host_numeric"),
        ("0x7f000001", "host_numeric"),
        ("0X7F000001", "host_numeric"),
        ("0x", "host_numeric"),
        ("a.0x", "host_numeric"),
        ("2130706433", "host_numeric"),
        ("017700000001", "host_numeric"),
        ("0177.0.0.1", "host_numeric"),
        ("127.0.0.01", "host_numeric"),
        ("127.0.0.1.5", "host_numeric"),
        ("256.0.0.1", "host_numeric"),
        ("1.2.3.4.", "host_trailing_dot"),
        ("0", "host_numeric"),
        ("example.123", "host_numeric"),
        ("0x7f.0x0.0x0.0x1", "host_numeric"),
        ("gith\u{fc}b.com", "host_not_ascii"),
        ("\u{ff47}ithub.com", "host_not_ascii"),
        ("\u{2460}\u{2461}\u{2466}.0.0.1", "host_not_ascii"),
        ("github\u{3002}com", "host_not_ascii"),
        ("git\u{ad}hub.com", "host_not_ascii"),
        ("xn--example-.com", "host_malformed"),
        ("xn--.com", "host_malformed"),
        ("xn--abc-.com", "host_malformed"),
        ("xn--99999999.com", "host_malformed"),
    ] {
        assert_eq!(code(Host::parse(given)), expected, "{given:?}");
    }
    assert!(Host::parse(&format!("{}.com", "a".repeat(63))).is_ok());
    assert_eq!(code(Host::parse(&format!("{}.com", "a".repeat(64)))), "host_too_long");
    assert_eq!(code(Host::parse(&vec!["abcdefg"; 33].join("."))), "host_too_long");
}

#[test]
fn mapped_addresses_from_sockets_become_the_addresses_they_hide() {
    let host = Host::from_ip("::ffff:10.0.0.1".parse().unwrap());
    assert_eq!(host, Host::parse("10.0.0.1").unwrap());
}

#[test]
fn methods_are_upper_case_tokens() {
    for good in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "QUERY"]
    {
        assert_eq!(Method::parse(good).unwrap().as_str(), good);
    }
    for (bad, expected) in [
        ("", "method_malformed"),
        ("get", "method_malformed"),
        ("Get", "method_malformed"),
        ("GET ", "method_malformed"),
        ("GET\r\n", "method_malformed"),
        ("G_T", "method_malformed"),
        ("-GET", "method_malformed"),
        ("GÉT", "method_malformed"),
        ("TRACE", "method_forbidden"),
        ("TRACK", "method_forbidden"),
        ("CONNECT", "method_forbidden"),
        ("PRI", "method_forbidden"),
    ] {
        assert_eq!(code(Method::parse(bad)), expected, "{bad:?}");
    }
    assert_eq!(code(Method::parse(&"A".repeat(300))), "method_malformed");
}

#[test]
fn authorities_are_a_host_and_perhaps_a_port() {
    for (given, host, port) in [
        ("a.com", "a.com", None),
        ("a.com:8443", "a.com", Some(8443)),
        ("127.0.0.1:1", "127.0.0.1", Some(1)),
        ("[::1]", "::1", None),
        ("[::1]:65535", "::1", Some(65535)),
    ] {
        let (parsed, parsed_port) = authority(given).unwrap();
        assert_eq!((parsed.to_string().as_str(), parsed_port), (host, port));
    }
    for (bad, expected) in [
        ("", "host_empty"),
        (":443", "host_empty"),
        ("a.com:", "port_malformed"),
        ("a.com:0", "port_malformed"),
        ("a.com:0443", "port_malformed"),
        ("a.com:+443", "port_malformed"),
        ("a.com: 443", "port_malformed"),
        ("a.com:65536", "port_malformed"),
        ("a.com:http", "port_malformed"),
        ("a.com:443:443", "host_malformed"),
        ("::1", "host_malformed"),
        ("::1:443", "host_malformed"),
        ("[::1]443", "host_malformed"),
        ("[::1]:", "port_malformed"),
        ("[::1", "host_malformed"),
        ("user@a.com", "host_userinfo"),
        ("user:pass@a.com", "host_userinfo"),
        ("a.com@evil.com", "host_userinfo"),
    ] {
        assert_eq!(code(authority(bad)), expected, "{bad:?}");
    }
}

#[test]
fn urls_as_typed_by_people() {
    let request = Request::parse("GET", "https://API.github.com/user?x=1").unwrap();
    assert_eq!(request.host.to_string(), "api.github.com");
    assert_eq!((request.port, request.target.as_str()), (443, "/user?x=1"));
    assert_eq!(Request::parse("GET", "http://a.com").unwrap().target.as_str(), "/");
    assert_eq!(Request::parse("GET", "https://[::1]:8443/a").unwrap().port, 8443);
    for (url, expected) in [
        ("a.com/x", "url_scheme"),
        ("HTTPS://a.com/", "url_scheme"),
        ("ftp://a.com/", "url_scheme"),
        ("https:/a.com", "url_scheme"),
        ("https://", "host_empty"),
        ("https:///etc", "host_empty"),
        ("https://a.com?x", "target_form"),
        ("https://a.com#x", "target_form"),
        ("https://a.com\\@evil.com/", "host_userinfo"),
        ("https://a.com\\evil.com/", "host_malformed"),
        ("https://a.com /", "host_malformed"),
        ("https://user@a.com/", "host_userinfo"),
    ] {
        assert_eq!(code(Request::parse("GET", url)), expected, "{url}");
    }
}

#[test]
fn hosts_print_as_they_stand_in_a_header() {
    let v6 = Host::parse("::1").unwrap();
    assert_eq!(v6.authority(super::Scheme::Https, 443), "[::1]");
    assert_eq!(v6.authority(super::Scheme::Https, 8443), "[::1]:8443");
    assert_eq!(Host::parse("a.com").unwrap().authority(super::Scheme::Http, 443), "a.com:443");
}

proptest! {
    /// What was accepted is accepted again, unchanged: nothing downstream can shift its meaning.
    #[test]
    fn canonical_is_a_fixed_point(text in "/[a-z%0-9A-F./?&=;@-]{0,40}") {
        if let Ok(target) = Target::parse(&text) {
            prop_assert_eq!(&Target::parse(target.as_str()).unwrap(), &target);
            let plain = |path: &str| !path.contains("//") && !path.split('/').any(|s| s == ".." || s == ".");
            prop_assert!(plain(target.path()) && target.decoded_slashes().is_none_or(|path| plain(&path)));
        }
    }

    #[test]
    fn hosts_are_a_fixed_point(text in "[a-zA-Z0-9.:x-]{0,30}") {
        if let Ok(host) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(&host.to_string()).unwrap(), host);
        }
    }

    #[test]
    fn no_bytes_panic(text in any::<String>()) {
        drop((Target::parse(&text), Host::parse(&text), Method::parse(&text), authority(&text), Request::parse("GET", &text)));
    }
}
