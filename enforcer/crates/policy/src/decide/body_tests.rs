//! Decisions that look into requests.

use proptest::prelude::*;

use super::tests::{load, told};
use crate::body::Body;
use crate::canon::{Headers, Request};
use crate::policy::{AgentPolicy, Decision};
use crate::window::Moment;

fn request(line: &str, body: &str) -> Request {
    let (method, url) = line.split_once(' ').unwrap();
    let mut request = Request::parse(method, url).unwrap();
    request.body = match body {
        "" => Body::Empty,
        "?" => Body::Unread,
        json if json.starts_with(['{', '[']) => Body::json(json).unwrap(),
        form => Body::form(form).unwrap(),
    };
    request
}

fn check(policy: &AgentPolicy, line: &str, body: &str, expected: &str) {
    let request = request(line, body);
    assert_eq!(told(policy, &request), expected, "{line} {body}");
    assert_eq!(policy.explain(&request, Moment::ANY).allowed, expected.starts_with("allow"), "{line} {body}");
}

const PULLS: &str = "POST https://api.test/pulls";

#[test]
fn a_json_body_meets_every_check_or_the_rule_is_not_for_it() {
    let policy = load(
        r#"
allow:
  - name: open
    host: api.test
    methods: POST
    json:
      base: { in: [main, develop] }
      title: { max_length: 5 }
      head.repo: { glob: "bot/*" }
      count: { min: 1, max: 5000 }
      draft: { equals: true }
      "labels[*].name": { matches: "[a-z]+" }
      secret: { exists: false }
"#,
    );
    let good = r#"{"base":"main","title":"Tidy","head":{"repo":"bot/x"},"count":5,"draft":true,"labels":[{"name":"a"},{"name":"b"}]}"#;
    check(&policy, PULLS, "?", "needs JSON");
    check(&policy, PULLS, good, "allow open /**");
    for (from, to) in [
        (r#""base":"main""#, r#""base":"gh-pages""#),
        (r#""base":"main""#, r#""base":["main"]"#),
        (r#""base":"main""#, r#""base":null"#),
        (r#""base":"main""#, r#""bas":"main""#),
        // Go, .NET and others take the last of these.
        (r#""base":"main""#, r#""base":"main","Base":"gh-pages""#),
        (r#""base":"main""#, "\"base\":\"main\",\"ba\u{17f}e\":\"gh-pages\""),
        (r#""Tidy""#, r#""Tidy it""#),
        (r#""bot/x""#, r#""human/x""#),
        (r#""bot/x""#, r#""bot/x, human/y""#),
        (r#"{"repo":"bot/x"}"#, r#"[{"repo":"bot/x"}]"#),
        (r#""count":5"#, r#""count":5000.0000000000000000001"#),
        (r#""count":5"#, r#""count":0"#),
        (r#""count":5"#, r#""count":"5""#),
        (r#""count":5"#, r#""count":1e999"#),
        (r#""draft":true"#, r#""draft":"true""#),
        (r#""draft":true"#, r#""draft":1"#),
        (r#"{"name":"b"}"#, r#"{"name":"B"}"#),
        (r#"{"name":"b"}"#, r#"{"name":"b\n"}"#),
        (r#"{"name":"b"}"#, r#"{"name":5}"#),
        (r#"[{"name":"a"},{"name":"b"}]"#, "[]"),
        (r#"[{"name":"a"},{"name":"b"}]"#, r#"{"name":"a"}"#),
        (r#""draft":true"#, r#""draft":true,"secret":1"#),
        (r#""draft":true"#, r#""draft":true,"secret":null"#),
        (r#""draft":true"#, r#""draft":true,"SECRET":1"#),
    ] {
        assert!(good.contains(from), "{from}");
        check(&policy, PULLS, &good.replace(from, to), "deny");
    }
    for other in ["", "base=main", "[]", "{}"] {
        check(&policy, PULLS, other, "deny");
    }
    check(&policy, "GET https://api.test/pulls", "?", "deny");
}

#[test]
fn a_deny_rule_takes_doubt_for_yes() {
    let policy = load(
        r#"
deny:
  - { name: evil, host: api.test, json: { to: { glob: "*@evil.test" } } }
  - { name: large, host: api.test, methods: PUT, json: { amount: { min: 1000 } } }
  - { name: not-main, host: api.test, methods: PATCH, json: { base: { not_in: [main] } } }
  - { name: forced, host: api.test, methods: DELETE, json: { force: { equals: true } } }
allow: [{ name: all, host: api.test }]
"#,
    );
    let to = |value: &str| format!("{{\"to\":{value}}}");
    check(&policy, PULLS, "?", "needs JSON");
    for evil in [r#""a@evil.test""#, r#""ok@ok.test, a@evil.test""#, r#"["a@evil.test"]"#, r#"{"x":1}"#] {
        check(&policy, PULLS, &to(evil), "deny evil");
    }
    check(&policy, PULLS, r#"{"TO":"ok@ok.test"}"#, "deny evil");
    for fine in [&to(r#""ok@ok.test""#), r#"{"cc":1}"#, "[]", ""] {
        check(&policy, PULLS, fine, if fine == "[]" { "deny evil" } else { "allow all /**" });
    }
    // A form is nothing the rule can look into.
    check(&policy, PULLS, "to=a@evil.test".replace('@', "%40").as_str(), "deny evil");
    for (amount, expected) in
        [("999", "allow all /**"), ("1000", "deny large"), ("\"5\"", "deny large"), ("null", "deny large")]
    {
        check(&policy, "PUT https://api.test/x", &format!("{{\"amount\":{amount}}}"), expected);
    }
    for (body, expected) in [
        (r#"{"base":"main"}"#, "allow all /**"),
        (r#"{"base":"x"}"#, "deny not-main"),
        ("{}", "deny not-main"),
        ("", "deny not-main"),
    ] {
        check(&policy, "PATCH https://api.test/x", body, expected);
    }
    for (force, expected) in [
        ("true", "deny forced"),
        ("\"yes\"", "deny forced"),
        ("\"true\"", "deny forced"),
        ("1", "deny forced"),
        ("false", "allow all /**"),
        ("\"false\"", "allow all /**"),
    ] {
        check(&policy, "DELETE https://api.test/x", &format!("{{\"force\":{force}}}"), expected);
    }
}

#[test]
fn a_text_that_says_true_is_not_surely_something_else() {
    let policy = load("allow: [{ name: r, host: api.test, json: { admin: { not_in: [true] } } }]");
    for (admin, expected) in [("false", "allow r /**"), ("true", "deny"), ("\"true\"", "deny"), ("1", "deny")]
    {
        check(&policy, PULLS, &format!("{{\"admin\":{admin}}}"), expected);
    }
}

#[test]
fn queries_forms_and_headers_hold_for_every_repetition() {
    let policy = load(
        r#"
deny:
  - { name: no-listing, host: s3.test, query: { list-type: { exists: true } } }
allow:
  - { name: bucket, host: s3.test }
  - { name: page, host: api.test, methods: GET, query: { per_page: { max: 100 }, q: { equals: "a b" } } }
  - { name: refund, host: api.test, methods: POST, form: { amount: { max: 5000 } } }
  - { name: version, host: api.test, methods: PUT, headers: { X-Api-Version: { in: ["1", "2"] } } }
"#,
    );
    for (query, expected) in [
        ("per_page=100&q=a%20b", "allow page /**"),
        ("per_page=100&q=a+b", "deny"), // `a+b` to a server that does not read `+` as a space
        ("per_page=101&q=a%20b", "deny"),
        ("per_page=1&per_page=1000&q=a%20b", "deny"),
        ("per_page=1&per_page[]=1000&q=a%20b", "deny"),
        ("per_page=1&per.page=1000&q=a%20b", "deny"),
        ("per_page=1&Per_Page=1000&q=a%20b", "deny"),
        ("per_page=1e1&q=a%20b", "deny"),
        ("per%5Fpage=5&q=a%20b", "allow page /**"),
        ("q=a%20b", "deny"),
    ] {
        check(&policy, &format!("GET https://api.test/x?{query}"), "", expected);
    }
    for (query, expected) in [
        ("prefix=a", "allow bucket /**"),
        ("list-type", "deny no-listing"),
        ("a=1&LIST-TYPE=2", "deny no-listing"),
        ("list%2Dtype=2", "deny no-listing"),
    ] {
        check(&policy, &format!("GET https://s3.test/?{query}"), "", expected);
    }
    for (form, expected) in [
        ("?", "needs a form"),
        ("amount=5000", "allow refund /**"),
        ("amount=5001", "deny"),
        ("amount=1&amount=9999", "deny"),
        ("amount=1&amount%5B%5D=9999", "deny"),
        ("charge=x", "deny"),
        ("", "deny"),
        ("{\"amount\":1}", "deny"),
    ] {
        check(&policy, "POST https://api.test/refunds", form, expected);
    }
    for (headers, expected) in [
        (&[("x-api-version", "2")][..], "allow version /**"),
        (&[("x-api-version", "2"), ("x-api-version", "3")], "deny"),
        (&[("x-api-version", "2"), ("x_api_version", "3")], "deny"),
        (&[("x-api-version", "2, 3")], "deny"),
        (&[], "deny"),
    ] {
        let mut request = request("PUT https://api.test/x", "");
        let mut fields = Headers::default();
        headers.iter().for_each(|(name, value)| fields.push(name, value.as_bytes()));
        request.headers = fields;
        assert_eq!(told(&policy, &request), expected, "{headers:?}");
    }
}

#[test]
fn a_deny_rule_on_bodies_makes_every_body_on_its_way_be_read() {
    let policy = load(
        r#"
deny:
  - { name: head, host: api.test, paths: "/never" }
  - { name: body, host: api.test, paths: "/some/**", json: { a: { equals: 1 } } }
allow:
  - { name: form, host: api.test, paths: "/some/form", form: { a: { equals: 1 } } }
  - { name: any, host: api.test, paths: ["/some/**", "/other", "/never"] }
  - { name: late, host: api.test, paths: "/other", json: { a: { equals: 1 } } }
"#,
    );
    let post = |path: &str| format!("POST https://api.test{path}");
    check(&policy, &post("/never"), "?", "deny head");
    check(&policy, &post("/some/x"), "?", "needs JSON");
    check(&policy, &post("/some/form"), "?", "needs JSON or a form");
    // Nothing allows it, or the first rule that does asks for nothing: the body is left alone.
    check(&policy, &post("/elsewhere"), "?", "deny");
    check(&policy, &post("/other"), "?", "allow any /**".replace("/**", "/other").as_str());
    check(&policy, &post("/some/x"), r#"{"a":1}"#, "deny body");
    check(&policy, &post("/some/x"), r#"{"a":2}"#, "allow any /some/**");
}

/// A field that selects nothing but the name of its type is asked for all the same, and a mutation done.
#[test]
fn a_typename_below_opens_no_field() {
    let policy = load(
        "allow:\n  - { name: r, host: api.test, graphql: { fields: [createIssue, \"repository.*.nodes\"] } }\n",
    );
    for (query, expected) in [
        ("mutation { createIssue { __typename } }", "allow r /**"),
        ("mutation { deleteIssue { __typename } }", "deny"),
        ("mutation { x: deleteIssue(id: 1) { ... { __typename } } }", "deny"),
        ("{ __typename }", "allow r /**"),
        ("{ repository { __typename issues { __typename nodes { __typename } } } }", "allow r /**"),
        ("{ repository { issues { total { __typename } } } }", "deny"),
    ] {
        check(&policy, "POST https://api.test/graphql", &format!("{{\"query\":{query:?}}}"), expected);
    }
}

#[test]
fn graphql_is_judged_by_what_it_could_select() {
    let policy = load(
        r#"
deny:
  - { name: no-admin, host: api.test, paths: "/graphql", graphql: { operations: [mutation], fields: [deleteRepository] } }
allow:
  - { name: read, host: api.test, paths: "/graphql", graphql: { operations: [query], fields: [viewer, "repository.*.nodes"], deny_fields: [email], max_depth: 4, persisted: [abc] } }
  - { name: all, host: api.test, methods: POST, paths: "/graphql", graphql: { operations: [query, mutation] } }
"#,
    );
    let post = "POST https://api.test/graphql";
    let query = |text: &str| format!("{{\"query\":{text:?}}}");
    check(&policy, post, "?", "needs JSON");
    for (text, expected) in [
        ("{ viewer { login __typename } __typename }", "allow read /graphql"),
        ("{ repository { issues { nodes { id } } } }", "allow read /graphql"),
        ("{ repository { issues { total } } }", "allow all /graphql"),
        ("{ viewer { a: email } }", "allow all /graphql"),
        ("{ viewer { a { b { c { d } } } } }", "allow all /graphql"),
        ("mutation { x: deleteRepository { ok } }", "deny no-admin"),
        ("mutation { ...F } fragment F on M { ... { deleteRepository { ok } } }", "deny no-admin"),
        ("query A { viewer { id } } mutation B { deleteRepository { ok } }", "deny no-admin"),
        ("mutation { create { ok } }", "allow all /graphql"),
        ("subscription { x }", "deny"),
        ("{ ", "deny no-admin"),
    ] {
        check(&policy, post, &query(text), expected);
    }
    check(&policy, post, r#"{"documentId":"abc"}"#, "deny no-admin");
    check(
        &policy,
        post,
        r#"[{"query":"{viewer{id}}"},{"query":"mutation{deleteRepository{ok}}"}]"#,
        "deny no-admin",
    );
    check(&policy, "GET https://api.test/graphql?query=%7Bviewer%7Bid%7D%7D", "", "allow read /graphql");
    check(
        &policy,
        "GET https://api.test/graphql?query=mutation%7BdeleteRepository%7Bok%7D%7D",
        "",
        "deny no-admin",
    );
    check(&policy, "GET https://api.test/graphql", "", "deny");
    check(
        &policy,
        "POST https://api.test/graphql?query=%7Bviewer%7Bid%7D%7D",
        &query("{viewer{id}}"),
        "deny no-admin",
    );
}

#[test]
fn git_is_judged_by_service_and_by_ref() {
    let policy = load(
        r#"
deny:
  - { name: no-deleting, host: git.test, git: { push: { delete: true } } }
  - { name: none-here, host: git.test, paths: "/frozen.git/**", git: { push: true } }
allow:
  - { name: bot, host: git.test, paths: "/a.git/**", git: { fetch: true, push: { refs: ["refs/heads/bot/*"], create: true } } }
  - { name: any, host: git.test, paths: ["/b.git/**", "/frozen.git/**"] }
"#,
    );
    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";
    const NONE: &str = "0000000000000000000000000000000000000000";
    let push = |target: &str, commands: &[(&str, &str, &str)]| {
        let mut request = request(&format!("POST https://git.test{target}"), "?");
        request.headers.push("content-type", b"application/x-git-receive-pack-request");
        let Decision::Needs(wanted) = policy.decide(&request, Moment::ANY) else {
            return told(&policy, &request);
        };
        let lines: String = commands
            .iter()
            .map(|(old, new, name)| format!("{old} {new} {name}"))
            .map(|line| format!("{:04x}{line}", line.len() + 4))
            .collect();
        let bytes = format!("{lines}0000");
        let mut reader = wanted.reader(&request.headers, None);
        request.body = reader.look(bytes.as_bytes(), true).unwrap().unwrap();
        told(&policy, &request)
    };
    check(
        &policy,
        "GET https://git.test/a.git/info/refs?service=git-upload-pack",
        "?",
        "allow bot /a.git/**",
    );
    check(
        &policy,
        "GET https://git.test/a.git/info/refs?service=git-receive-pack",
        "?",
        "allow bot /a.git/**",
    );
    check(&policy, "GET https://git.test/a.git/info/refs", "?", "deny");
    check(&policy, "GET https://git.test/a.git/objects/info/packs", "?", "deny");
    check(&policy, "POST https://git.test/a.git/git-upload-pack", "?", "allow bot /a.git/**");
    check(
        &policy,
        "GET https://git.test/frozen.git/info/refs?x=1&service=git-receive-pack",
        "?",
        "deny none-here",
    );
    let create = (NONE, NEW, "refs/heads/bot/x");
    assert_eq!(push("/a.git/git-receive-pack", &[create]), "allow bot /a.git/**");
    assert_eq!(push("/a.git/git-receive-pack", &[]), "allow bot /a.git/**");
    for (command, expected) in [
        ((NONE, NEW, "refs/heads/main"), "deny"),
        ((NONE, NEW, "refs/heads/bot/x/y"), "deny"),
        ((OLD, NEW, "refs/heads/bot/y"), "deny"),
        ((OLD, NONE, "refs/heads/bot/y"), "deny no-deleting"),
    ] {
        assert_eq!(push("/a.git/git-receive-pack", &[create, command]), expected, "{command:?}");
    }
    // What a server ignores must not hide a push from a deny rule.
    for target in ["/b.git/git-receive-pack", "/b.git/git-receive-pack?x=1", "/b.git/git-receive-pack/"] {
        assert_eq!(push(target, &[create]), "allow any /b.git/**", "{target}");
        assert_eq!(push(target, &[(OLD, NONE, "refs/heads/x")]), "deny no-deleting", "{target}");
    }
    assert_eq!(push("/frozen.git/git-receive-pack", &[create]), "deny none-here");
}

#[test]
fn rpc_is_judged_message_by_message() {
    let policy = load(
        r#"
deny:
  - { name: no-purge, host: mcp.test, mcp: { tools: [{ name: "purge_**" }] } }
allow:
  - name: mcp
    host: mcp.test
    methods: [GET, POST, DELETE]
    mcp: { tools: [{ name: list_issues }, { name: comment, args: { issue: { glob: "WEB-*" } } }], methods: ["resources/*"] }
  - { name: rpc, host: rpc.test, jsonrpc: { methods: [eth_call, "net_*"], params: { "[*]": { max_length: 4 } } } }
  - { name: greeter, host: grpc.test, grpc: { service: [pkg.v1.Greeter, pkg.v1.Health], method: [Hello, Check] } }
"#,
    );
    let post = "POST https://mcp.test/mcp";
    let call =
        |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    let method = |name: &str| format!(r#"{{"jsonrpc":"2.0","method":"{name}"}}"#);
    for (body, expected) in [
        (method("initialize"), "allow mcp /**"),
        (method("tools/list"), "allow mcp /**"),
        (method("resources/read"), "allow mcp /**"),
        (method("sampling/createMessage"), "deny"),
        (call(r#"{"name":"list_issues"}"#), "allow mcp /**"),
        (call(r#"{"name":"comment","arguments":{"issue":"WEB-1","text":"x"}}"#), "allow mcp /**"),
        (call(r#"{"name":"comment","arguments":{"issue":"HR-1"}}"#), "deny"),
        (call(r#"{"name":"comment","arguments":{"issue":"WEB-1","Issue":"HR-1"}}"#), "deny"),
        (call(r#"{"name":"comment"}"#), "deny"),
        (call(r#"{"name":"delete"}"#), "deny"),
        // Servers in Go would read the second.
        (call(r#"{"name":"list_issues","Name":"delete"}"#), "deny no-purge"),
        (call(r#"{"name":"purge_all"}"#), "deny no-purge"),
        (format!("[{},{}]", method("ping"), call(r#"{"name":"list_issues"}"#)), "allow mcp /**"),
        (format!("[{},{}]", method("ping"), call(r#"{"name":"delete"}"#)), "deny"),
        (format!("[{},{}]", method("ping"), call(r#"{"name":"purge_x"}"#)), "deny no-purge"),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(), "allow mcp /**"),
        (r#"{"jsonrpc":"2.0","id":1,"result":{"x":1}}"#.into(), "deny"),
        (r#"{"id":1,"method":"ping"}"#.into(), "deny no-purge"),
        ("[]".into(), "deny no-purge"),
    ] {
        check(&policy, post, &body, expected);
    }
    check(&policy, "GET https://mcp.test/mcp", "", "allow mcp /**");
    check(&policy, post, "", "deny");
    for (body, expected) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_call","params":["0x1","lat"]}"#, "allow rpc /**"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"net_version","params":["12345"]}"#, "deny"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_sendTransaction","params":["1"]}"#, "deny"),
    ] {
        check(&policy, "POST https://rpc.test/", body, expected);
    }
    check(&policy, "POST https://grpc.test/pkg.v1.Greeter/Hello", "?", "allow greeter /pkg.v1.Greeter/Hello");
    check(&policy, "POST https://grpc.test/pkg.v1.Greeter/Bye", "?", "deny");
    check(
        &policy,
        "POST https://grpc.test/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "?",
        "deny",
    );
}

const CHECKS: &[&str] = &[
    "graphql: { operations: [query] }",
    "graphql: { fields: [a] }",
    "mcp: { tools: [{ name: x }] }",
    "jsonrpc: { methods: [\"x*\"] }",
    "json: { a: { equals: x } }",
    "json: { a: { in: [x, y] }, b: { exists: true } }",
    "json: { a: { not_in: [x] } }",
    "json: { a: { max: 5 } }",
    "json: { \"l[*]\": { glob: \"x*\" } }",
    "json: { a: { exists: false } }",
    "form: { a: { equals: x } }",
    "form: { a: { max: 5 } }",
    "query: { q: { equals: x } }",
    "query: { q: { exists: false } }",
    "headers: { h: { glob: \"x*\" } }",
    "methods: POST",
    "methods: GET",
    "paths: \"/a\"",
];
const BODIES: &[&str] = &[
    "",
    "{}",
    r#"{"a":"x"}"#,
    r#"{"a":"x","b":1}"#,
    r#"{"a":"y","b":null}"#,
    r#"{"A":"x"}"#,
    r#"{"a":5}"#,
    r#"{"a":"5"}"#,
    r#"{"a":["x"]}"#,
    r#"{"l":["x","xy"]}"#,
    r#"{"l":["x","y"]}"#,
    r#"{"l":"x, y"}"#,
    "[]",
    r#"{"query":"{a}"}"#,
    r#"{"query":"mutation{a b}"}"#,
    r#"{"jsonrpc":"2.0","method":"xy","params":{"a":"x"}}"#,
    r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x"},"a":"x"}"#,
    "a=x",
    "a=4",
    "a=x&a=9",
    "b=1",
];

fn drafts() -> impl Strategy<Value = Vec<Vec<&'static str>>> {
    // Keys of one rule differ, as YAML wants it.
    let rule =
        prop::collection::vec(prop::sample::select(CHECKS), 0..3).prop_filter("one of each", |checks| {
            let keys: Vec<&str> = checks.iter().map(|check| check.split(':').next().unwrap()).collect();
            let bodies = keys
                .iter()
                .filter(|key| matches!(**key, "json" | "form" | "graphql" | "mcp" | "jsonrpc"))
                .count();
            keys.iter().enumerate().all(|(n, key)| !keys[..n].contains(key)) && bodies < 2
        });
    prop::collection::vec(rule, 0..4)
}

fn policy(deny: &[Vec<&str>], allow: &[Vec<&str>]) -> AgentPolicy {
    let mut text = String::new();
    for (section, rules) in [("deny", deny), ("allow", allow)] {
        if !rules.is_empty() {
            text.push_str(&format!("{section}:\n"));
        }
        for (number, checks) in rules.iter().enumerate() {
            text.push_str(&format!("  - name: {section}-{number}\n    host: api.test\n"));
            checks.iter().for_each(|check| text.push_str(&format!("    {check}\n")));
        }
    }
    load(&text)
}

fn requests() -> impl Strategy<Value = Request> {
    let choices = (
        prop::sample::select(&["GET", "POST"][..]),
        prop::sample::select(&["/a", "/b", "/a?q=x", "/a?q=x&q=y", "/a?Q=x"][..]),
        prop::sample::select(&["", "x", "xy", "y"][..]),
        prop::sample::select(BODIES),
    );
    choices.prop_map(|(method, target, header, body)| {
        let mut request = request(&format!("{method} https://api.test{target}"), body);
        if !header.is_empty() {
            request.headers.push("h", header.as_bytes());
        }
        request
    })
}

fn denied(policy: &AgentPolicy, request: &Request) -> bool {
    match policy.decide(request, Moment::ANY) {
        Decision::Allow { .. } => false,
        Decision::Deny { .. } => true,
        Decision::Needs(_) => panic!("its body was read"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn another_deny_rule_never_allows_more(deny in drafts(), allow in drafts(), more in drafts(), request in requests()) {
        let before = policy(&deny, &allow);
        if denied(&before, &request) {
            prop_assert!(denied(&policy(&[deny, more].concat(), &allow), &request));
        }
    }

    #[test]
    fn one_allow_rule_less_never_allows_more(deny in drafts(), allow in drafts(), gone in any::<prop::sample::Index>(), request in requests()) {
        prop_assume!(!allow.is_empty());
        let mut fewer = allow.clone();
        fewer.remove(gone.index(allow.len()));
        if denied(&policy(&deny, &allow), &request) {
            prop_assert!(denied(&policy(&deny, &fewer), &request));
        }
    }

    /// What is decided on the head stands, whatever the body turns out to be.
    #[test]
    fn a_body_changes_nothing_that_was_decided_without_it(deny in drafts(), allow in drafts(), request in requests()) {
        let policy = policy(&deny, &allow);
        let unread = Request { body: Body::Unread, ..request.clone() };
        match policy.decide(&unread, Moment::ANY) {
            Decision::Needs(_) => {}
            // Of several deny rules that match another one may be named.
            Decision::Deny { .. } => prop_assert!(denied(&policy, &request)),
            Decision::Allow { .. } => prop_assert_eq!(told(&policy, &unread), told(&policy, &request)),
        }
        prop_assert_eq!(policy.explain(&request, Moment::ANY).allowed, !denied(&policy, &request));
    }

    /// W031 says that a rule is never reached; then taking it away changes nothing.
    #[test]
    fn rules_said_to_be_unreachable_are(deny in drafts(), allow in drafts(), request in requests()) {
        let policy = policy(&deny, &allow);
        for number in policy.denies..policy.rules.len() {
            let covered = (0..number).any(|first| policy.conditions[first].covers(&policy.conditions[number]));
            if let (true, Decision::Allow { rule, .. }) = (covered, policy.decide(&request, Moment::ANY)) {
                prop_assert_ne!(&rule.name, &policy.rules[number].name);
            }
        }
    }
}
