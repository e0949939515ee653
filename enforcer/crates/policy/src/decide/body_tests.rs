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
        ("1", "deny forced"),
        ("false", "allow all /**"),
        ("\"false\"", "allow all /**"),
    ] {
        check(&policy, "DELETE https://api.test/x", &format!("{{\"force\":{force}}}"), expected);
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

const CHECKS: &[&str] = &[
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
            let bodies = keys.iter().filter(|key| matches!(**key, "json" | "form")).count();
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
