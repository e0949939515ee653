use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Comparison, compare};
use crate::canon::Request;
use crate::learn::Seen;
use crate::policy::{Decision, PolicySet, Source};
use crate::window::Moment;

fn load(rules: &str) -> PolicySet {
    let text = format!(
        "version: 1\nagent: bot\ncredentials: {{ c: {{ bearer: {{ secret: s }} }}, d: {{ bearer: {{ secret: s }} }} }}\n{rules}"
    );
    PolicySet::compile(&[Source { name: "p.yaml".into(), text }]).unwrap_or_else(|e| panic!("{e}")).set
}

fn compared(old: &str, new: &str, seen: &[&str]) -> Comparison {
    let seen = seen
        .iter()
        .enumerate()
        .map(|(number, case)| {
            let (method, url) = case.split_once(' ').unwrap();
            Seen {
                id: format!("r_{number}"),
                at: 0,
                request: Request::parse(method, url).unwrap(),
                rule: None,
                credential: None,
                passed: true,
                sent: 0,
                count: 2,
            }
        })
        .collect();
    let seen = BTreeMap::from([("bot".to_owned(), seen)]);
    compare(&load(old), &load(new), &seen).pop().unwrap()
}

fn widened(old: &str, new: &str) -> Vec<(String, Option<String>)> {
    compared(old, new, &[]).widened.into_iter().map(|class| (class.what, class.example)).collect()
}

const READ: &str = "allow: [{ name: r, host: a.example, methods: [GET], paths: [\"/x/**\"] }]\n";

#[test]
fn the_same_policy_in_other_words_is_no_change() {
    let split = "allow:\n  - { name: p, host: a.example, methods: [GET], paths: [\"/x/**\"] }\n  - { name: q, host: a.example, methods: [GET], paths: [\"/x/y\"] }\n";
    let found = compared(READ, split, &["GET https://a.example/x/y", "GET https://b.example/"]);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(found.requests, 4);
    let merged = "allow: [{ name: r, host: [a.example, b.example], methods: [GET, POST] }]\n";
    let apart = "allow:\n  - { name: r, host: a.example, methods: [GET, POST] }\n  - { name: s, host: b.example, methods: POST }\n  - { name: t, host: b.example, methods: GET }\n";
    assert!(compared(merged, apart, &[]).is_empty() && compared(apart, merged, &[]).is_empty());
}

#[test]
fn checks_on_bodies_are_no_change_where_they_stay() {
    let rule = |check: &str| format!("allow: [{{ name: r, host: a.example, paths: /x, {check} }}]\n");
    for (check, other) in [
        ("graphql: { operations: [query] }", "graphql: { operations: [query, mutation] }"),
        ("git: { fetch: true }", "git: { push: { refs: \"refs/heads/a\" } }"),
        ("mcp: { tools: [{ name: a }] }", "mcp: { tools: [{ name: b }] }"),
        ("jsonrpc: { methods: [a] }", "jsonrpc: { methods: [b] }"),
    ] {
        assert!(compared(&rule(check), &rule(check), &[]).is_empty(), "{check}");
        assert!(!compared(&rule(check), &rule(other), &[]).is_empty(), "{check} and {other}");
        // Denied, the same words mean something else.
        let denied = format!("deny: [{{ name: d, host: a.example, {check} }}]\n");
        assert!(!widened(&denied, &format!("{denied}{}", rule(check))).is_empty(), "{check}");
    }
}

#[test]
fn what_widens_is_named_with_an_example() {
    for (new, what, example) in [
        (
            "allow: [{ name: r, host: a.example, methods: [GET, POST], paths: [\"/x/**\"] }]\n",
            "POST https://a.example/x/**",
            "POST https://a.example/x",
        ),
        (
            "allow: [{ name: r, host: a.example, methods: [GET] }]\n",
            "GET https://a.example/**",
            "GET https://a.example/",
        ),
        (
            "allow: [{ name: r, host: [a.example, b.example], methods: [GET], paths: [\"/x/**\"] }]\n",
            "GET https://b.example/x/**",
            "GET https://b.example/x",
        ),
        (
            "allow: [{ name: r, host: a.example, paths: [\"/x/**\"] }]\n",
            "* https://a.example/x/**",
            "POST https://a.example/x",
        ),
        (
            "allow: [{ name: r, host: a.example, methods: GET, paths: [\"/x/**\"] }, { name: s, host: a.example, port: 8443 }]\n",
            "* https://a.example:8443/**",
            "GET https://a.example:8443/",
        ),
        (
            "allow: [{ name: r, host: a.example, methods: GET, paths: [\"/x/**\", \"/*/z\"] }]\n",
            "GET https://a.example/*/z",
            "GET https://a.example/any/z",
        ),
        (
            "allow: [{ name: r, host: \"*.a.example\", methods: GET, paths: [\"/x/**\"] }]\n",
            "GET https://*.a.example/x/**",
            "GET https://any.a.example/x",
        ),
    ] {
        assert_eq!(widened(READ, new), [(what.to_owned(), Some(example.to_owned()))], "{new}");
    }
    assert_eq!(widened(READ, "deny: [{ name: d }]\nallow: [{ name: r, host: a.example }]\n"), []);
}

#[test]
fn encoded_slashes_widen() {
    let rule = |raw: &str| {
        format!("allow: [{{ name: r, host: a.example, methods: [GET], paths: [\"/x/*\"]{raw} }}]\n")
    };
    let (plain, raw) = (rule(""), rule(", raw_path: true"));
    let example = Some("GET https://a.example/x/any%2Fany".to_owned());
    assert_eq!(widened(&plain, &raw), [("GET https://a.example/x/*".to_owned(), example)]);
    assert!(widened(&raw, &plain).is_empty());
}

#[test]
fn a_deny_rule_that_goes_widens() {
    let denied = |deny: &str| format!("{deny}allow: [{{ name: r, host: a.example, paths: [\"/x/*/c\"] }}]\n");
    let free = denied("");
    assert_eq!(
        widened(&denied("deny: [{ name: d, paths: \"/x/b/**\" }]\n"), &free),
        [("* https://a.example/x/*/c".to_owned(), Some("GET https://a.example/x/b/c".to_owned()))]
    );
    assert_eq!(
        widened(&denied("deny: [{ name: d, methods: DELETE }]\n"), &free),
        [("* https://a.example/x/*/c".to_owned(), Some("DELETE https://a.example/x/any/c".to_owned()))]
    );
    // One that never touched an allowed request is not missed.
    assert_eq!(widened(&denied("deny: [{ name: d, host: b.example }]\n"), &free), []);
    assert_eq!(widened(&denied("deny: [{ name: d, paths: \"/y/**\" }]\n"), &free), []);
    // And one in wider words is the same.
    let narrow = denied("deny: [{ name: d, paths: \"/x/b/**\" }]\n");
    assert_eq!(widened(&narrow, &denied("deny: [{ name: e, paths: \"/x/**\" }]\n")), []);
}

#[test]
fn recorded_requests_that_change_are_counted() {
    let new = "allow: [{ name: r, host: a.example, methods: [POST], paths: [\"/x/**\"] }]\n";
    let found = compared(
        READ,
        new,
        &[
            "GET https://a.example/x/1",
            "POST https://a.example/x/1",
            "GET https://a.example/x/1",
            "GET https://b.example/",
        ],
    );
    let told: Vec<_> = found
        .recorded
        .iter()
        .map(|c| (c.request.as_str(), c.count, c.before.as_str(), c.after.as_str(), c.widens))
        .collect();
    assert_eq!(
        told,
        [
            ("GET https://a.example/x/1", 4, "allowed", "denied", false),
            ("POST https://a.example/x/1", 2, "denied", "allowed", true),
        ]
    );
    assert_eq!(found.recorded[0].receipt, "r_2");
    let with =
        |credential: &str| format!("allow: [{{ name: r, host: a.example, credential: {credential} }}]\n");
    let found = compared(&with("c"), &with("d"), &["GET https://a.example/"]);
    assert_eq!(
        (found.recorded[0].before.as_str(), found.recorded[0].after.as_str()),
        ("allowed with `c`", "allowed with `d`")
    );
}

#[test]
fn where_the_body_decides_no_verdict_is_made_up() {
    let looks = "allow: [{ name: r, host: a.example, methods: [GET, POST], paths: [\"/x/**\"], json: { a: { equals: b } } }]\n";
    let found = compared(READ, looks, &["GET https://a.example/x/1", "POST https://a.example/x/1"]);
    let told: Vec<_> =
        found.recorded.iter().map(|c| (c.before.as_str(), c.after.as_str(), c.widens)).collect();
    assert_eq!(told, [("allowed", "decided by its body", false), ("denied", "decided by its body", true)]);
    assert!(compared(looks, looks, &["GET https://a.example/x/1"]).is_empty());
    // A class that only bodies open is called possible.
    assert!(
        found.widened.iter().all(|class| class.example.is_none()) && !found.widened.is_empty(),
        "{found:?}"
    );
}

#[test]
fn obligations_of_a_rule_that_stays_are_compared() {
    let with = |more: &str| format!("allow: [{{ name: r, host: a.example{more} }}]\n");
    let found = compared(&with(", rate: 5/min"), &with(", rate: 50/min, max_body: 1KiB"), &[]);
    assert_eq!(
        found.obligations,
        [
            "rule `r`: no longer at most 5/minute for this rule",
            "rule `r`: now at most 50/minute for this rule",
            "rule `r`: now a body of at most 1024 bytes",
        ]
    );
    assert!(found.widened.is_empty() && found.narrowed.is_empty());
}

#[test]
fn an_agent_that_comes_or_goes_is_compared_with_nothing() {
    let (some, none) = (load(READ), PolicySet::empty());
    let found = &compare(&none, &some, &BTreeMap::new())[0];
    assert_eq!((found.widened.len(), found.narrowed.len()), (1, 0));
    let found = &compare(&some, &none, &BTreeMap::new())[0];
    assert_eq!((found.widened.len(), found.narrowed.len()), (0, 1));
}

/// The paths in between are neither the deny rule's own nor the allow rule's.
#[test]
fn a_deny_rule_that_reaches_less_far_is_seen_through_a_template_of_any_depth() {
    let allow = "allow:\n  - { name: all, host: a.example, paths: \"/**/c\" }\n";
    let deny =
        |paths: &str| format!("deny:\n  - {{ name: no, host: a.example, paths: \"{paths}\" }}\n{allow}");
    let found = compared(&deny("/a/**"), &deny("/a/*"), &[]);
    let examples: Vec<_> = found.widened.iter().map(|class| class.example.as_deref()).collect();
    assert_eq!(examples, [Some("GET https://a.example/a/any/c")], "{found:?}");
}

fn rules() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec!["a.example", "b.example", "\"*.example\""]);
    let methods =
        prop::sample::select(vec!["", ", methods: GET", ", methods: [GET, POST]", ", methods: DELETE"]);
    let paths = prop::sample::select(vec![
        "",
        ", paths: /a",
        ", paths: \"/a/*\"",
        ", paths: \"/a/**\"",
        ", paths: [\"/*/b\", \"/**/c\"]",
    ]);
    let rule =
        (host, methods, paths).prop_map(|(host, methods, paths)| format!("host: {host}{methods}{paths}"));
    (prop::collection::vec(rule.clone(), 0..3), prop::collection::vec(rule, 0..4)).prop_map(
        |(deny, allow)| {
            let mut text = String::new();
            for (section, rules) in [("deny", deny), ("allow", allow)] {
                if !rules.is_empty() {
                    text.push_str(&format!("{section}:\n"));
                }
                for (number, rule) in rules.iter().enumerate() {
                    text.push_str(&format!("  - {{ name: {section}-{number}, {rule} }}\n"));
                }
            }
            text
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where a request is newly allowed, some class says so; and every example is one.
    #[test]
    fn nothing_widens_unseen(old in rules(), new in rules()) {
        let found = compared(&old, &new, &[]);
        let (old_set, new_set) = (load(&old), load(&new));
        let allowed = |set: &PolicySet, request: &Request| {
            set.agent("bot").is_some_and(|policy| matches!(policy.decide(request, Moment::ANY), Decision::Allow { .. }))
        };
        for class in &found.widened {
            if let Some(example) = &class.example {
                let (method, url) = example.split_once(' ').unwrap();
                let request = Request::parse(method, url).unwrap();
                prop_assert!(!allowed(&old_set, &request) && allowed(&new_set, &request), "{class:?}");
            }
        }
        if found.widened.is_empty() {
            for method in ["GET", "POST", "DELETE", "PUT"] {
                for host in ["a.example", "b.example", "c.example"] {
                    for path in ["/", "/a", "/a/x", "/a/b", "/x/b", "/x/y/c", "/a/c", "/a/b/c"] {
                        let request = Request::parse(method, &format!("https://{host}{path}")).unwrap();
                        prop_assert!(allowed(&old_set, &request) || !allowed(&new_set, &request), "{method} {host}{path}\n{old}\n{new}");
                    }
                }
            }
        }
    }
}
