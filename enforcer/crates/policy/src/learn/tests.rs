use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Seen, recorded, suggest, unused};
use crate::canon::Request;
use crate::catalog::Library;
use crate::policy::{AgentPolicy, Decision, PolicySet, Source};

fn seen(at: u64, method: &str, url: &str) -> Seen {
    let request = Request::parse(method, url).unwrap();
    Seen {
        id: format!("r_{at}"),
        at: at * 1_000_000,
        request,
        rule: None,
        credential: None,
        passed: true,
        sent: 0,
        count: 1,
    }
}

fn source(text: &str) -> Source {
    Source { name: "bot.yaml".into(), text: text.into() }
}

fn load(text: &str) -> std::sync::Arc<AgentPolicy> {
    let compiled = PolicySet::compile(&[source(text)]).unwrap_or_else(|e| panic!("{e}\n{text}"));
    compiled.set.agents().next().unwrap().clone()
}

fn allows(policy: &AgentPolicy, method: &str, url: &str) -> bool {
    matches!(
        policy.decide(&Request::parse(method, url).unwrap(), crate::window::Moment::ANY),
        Decision::Allow { .. }
    )
}

const CURRENT: &str = "\
version: 1
agent: bot
description: Does things
owner: \"@team\"   # who
credentials:
  # the key
  github: { bearer: { secret: github-token, env: GITHUB_TOKEN } }
deny:
  - { name: no-delete, methods: DELETE }   # never
# everything, for now
allow:
  - { name: all, host: api.widgets.example, credential: github }
tests:
  - { request: \"GET https://api.widgets.example/zen\", expect: allow, by: all }
";

fn day() -> Vec<Seen> {
    let mut day: Vec<Seen> = (1..=40u64)
        .map(|n| {
            let mut one = seen(n * 60, "GET", &format!("https://api.widgets.example/repos/o/r/issues/{n}"));
            one.credential = Some("github".into());
            one
        })
        .collect();
    for n in 1..=3 {
        let mut one =
            seen(n * 900, "POST", &format!("https://api.widgets.example/repos/o/r/issues/{n}/comments"));
        (one.credential, one.sent) = (Some("github".into()), 700);
        day.push(one);
    }
    day.push(seen(5000, "GET", "https://docs.example.com/guide/"));
    day.push(seen(5001, "DELETE", "https://api.widgets.example/repos/o/r"));
    day.push(Seen { passed: false, ..seen(5002, "GET", "https://evil.example/") });
    day
}

#[test]
fn a_suggestion_reads_as_a_policy_people_write() {
    let suggestion =
        suggest("bot", Some(&source(CURRENT)), &Library::default(), &day()).unwrap_or_else(|e| panic!("{e}"));
    let expected = "\
version: 1
agent: bot
description: Does things
owner: \"@team\"   # who

credentials:
  # the key
  github: { bearer: { secret: github-token, env: GITHUB_TOKEN } }

deny:
  - { name: no-delete, methods: DELETE }   # never

allow:
  # 40 requests to 40 paths
  - name: read-api-widgets-example
    host: api.widgets.example
    methods: [GET]
    paths: [\"/repos/o/r/issues/{issue}\"]
    credential: github
    rate: 100/hour burst 5
  # 3 requests to 3 paths
  - name: post-api-widgets-example
    host: api.widgets.example
    methods: [POST]
    paths: [\"/repos/o/r/issues/{issue}/comments\"]
    credential: github
    rate: 5/hour
    max_body: 4KiB
  # 1 request to 1 path
  - name: read-docs-example-com
    host: docs.example.com
    methods: [GET]
    paths: [\"/guide/\"]
    rate: 2/hour

limits: { rate: 100/hour burst 5 }
";
    assert_eq!(suggestion.text, expected);
    assert_eq!(suggestion.covered, 44);
    assert_eq!(
        suggestion.left_out,
        [
            (
                "DELETE https://api.widgets.example/repos/o/r".to_owned(),
                "your deny rule `no-delete` refuses it".to_owned()
            ),
            ("GET https://evil.example/".to_owned(), "it was refused".to_owned()),
        ]
    );
}

#[test]
fn a_suggestion_allows_what_was_seen_and_not_what_is_near() {
    let suggestion =
        suggest("bot", Some(&source(CURRENT)), &Library::default(), &day()).unwrap_or_else(|e| panic!("{e}"));
    let policy = load(&suggestion.text);
    for one in day().iter().filter(|one| one.passed && one.request.method.as_str() != "DELETE") {
        assert!(
            matches!(policy.decide(&one.request, one.moment()), Decision::Allow { .. }),
            "{:?}",
            one.request
        );
    }
    for (method, url) in [
        ("GET", "https://api.widgets.example/"),
        ("GET", "https://api.widgets.example/repos/o/r"),
        ("GET", "https://api.widgets.example/repos/o/other/issues/1"),
        ("GET", "https://api.widgets.example/repos/p/r/issues/1"),
        ("GET", "https://api.widgets.example/repos/o/r/issues"),
        ("GET", "https://api.widgets.example/repos/o/r/issues/1/comments"),
        ("POST", "https://api.widgets.example/repos/o/r/issues/1"),
        ("PUT", "https://api.widgets.example/repos/o/r/issues/1"),
        ("HEAD", "https://api.widgets.example/repos/o/r/issues/1"),
        ("GET", "http://api.widgets.example/repos/o/r/issues/1"),
        ("GET", "https://api.widgets.example:8443/repos/o/r/issues/1"),
        ("GET", "https://github.com/repos/o/r/issues/1"),
        ("GET", "https://docs.example.com/guide"),
        ("GET", "https://docs.example.com/guide/x"),
    ] {
        assert!(!allows(&policy, method, url), "{method} {url}\n{}", suggestion.text);
    }
}

#[test]
fn paths_with_encoded_slashes_get_rules_that_take_them() {
    let day: Vec<Seen> =
        ["one", "two"].map(|name| seen(1, "GET", &format!("https://npm.example/@scope%2f{name}"))).into();
    let suggestion = suggest("bot", None, &Library::default(), &day).unwrap();
    assert!(
        suggestion.text.contains("raw_path: true") && suggestion.left_out.is_empty(),
        "{}",
        suggestion.text
    );
    let policy = load(&suggestion.text);
    assert!(allows(&policy, "GET", "https://npm.example/@scope%2Fone"));
    assert!(!allows(&policy, "GET", "https://npm.example/@scope/one"));
}

#[test]
fn without_a_policy_there_is_one_afterwards_and_without_receipts_nothing_is_allowed() {
    let suggestion =
        suggest("new", None, &Library::default(), &[seen(1, "GET", "http://[2001:db8::1]:8080/a*b")])
            .unwrap();
    let policy = load(&suggestion.text);
    assert!(allows(&policy, "GET", "http://[2001:db8::1]:8080/a*b"), "{}", suggestion.text);
    assert!(!allows(&policy, "GET", "http://[2001:db8::1]:8080/axb"));
    let nothing = suggest("new", None, &Library::default(), &[]).unwrap();
    assert_eq!(nothing.text, "version: 1\nagent: new\n");
}

#[test]
fn receipts_that_are_no_requests_are_told_apart() {
    assert!(recorded("https", "a.example", 443, "GET", "/x").is_ok());
    for (scheme, host, method, path) in [
        ("dns", "a.example", "GET", "/"),
        ("connect", "a.example", "GET", "/"),
        ("https", "a..example", "GET", "/"),
        ("https", "a.example", "get", "/"),
        ("https", "a.example", "GET", "/../x"),
    ] {
        assert!(recorded(scheme, host, 443, method, path).is_err(), "{scheme} {host} {method} {path}");
    }
}

const WIDE: &str = "\
version: 1
agent: bot
credentials:
  github: { bearer: { secret: github-token } }
  spare: { bearer: { secret: spare-token } }   # in case
allow:
  # reads
  - name: read
    host: [api.widgets.example, \"*.example.com\", old.example.org]
    methods: [GET, HEAD, POST]
    credential: github
  # long ago
  - name: legacy
    host: legacy.example.net
    credential: spare
  - { name: one, host: one.example, methods: GET }
tests:
  - { request: \"GET https://api.widgets.example/x\", expect: allow }
  - { request: \"GET https://legacy.example.net/x\", expect: allow, by: legacy }
";

#[test]
fn what_nobody_used_is_named_and_can_be_taken_out() {
    let receipts = [
        seen(1, "GET", "https://api.widgets.example/x"),
        seen(2, "POST", "https://a.example.com/x"),
        seen(3, "GET", "https://one.example/"),
        seen(4, "GET", "https://nowhere.example/"),
    ];
    let found = unused(&source(WIDE), &Library::default(), &receipts).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(found.rules, ["legacy"]);
    assert_eq!(found.methods, [("read".to_owned(), "HEAD".to_owned())]);
    assert_eq!(found.hosts, [("read".to_owned(), "old.example.org".to_owned())]);
    assert_eq!(found.credentials, ["spare"]);
    assert_eq!(found.requests, 4);
    let expected = "\
version: 1
agent: bot

credentials:
  github: { bearer: { secret: github-token } }

allow:
  # reads
  - name: read
    host: [api.widgets.example, \"*.example.com\"]
    methods: [GET, POST]
    credential: github
  - { name: one, host: one.example, methods: GET }

tests:
  - { request: \"GET https://api.widgets.example/x\", expect: allow }
";
    assert_eq!(found.tightened.as_deref(), Some(expected));
    // Nothing that was used is gone.
    let (before, after) = (load(WIDE), load(expected));
    for one in &receipts {
        let allowed = |policy: &AgentPolicy| {
            matches!(policy.decide(&one.request, one.moment()), Decision::Allow { .. })
        };
        assert_eq!(allowed(&before), allowed(&after));
    }
    let again = unused(&source(expected), &Library::default(), &receipts).unwrap();
    assert_eq!(again.tightened, None, "{again:?}");
}

#[test]
fn a_policy_nobody_used_shrinks_to_nothing() {
    let found = unused(&source(WIDE), &Library::default(), &[]).unwrap();
    assert_eq!(found.rules, ["read", "legacy", "one"]);
    assert_eq!(found.tightened.as_deref(), Some("version: 1\nagent: bot\n"));
}

fn receipts() -> impl Strategy<Value = Vec<Seen>> {
    let segment = prop::sample::select(vec![
        "a", "b", "issues", "7", "8", "912", "0b1c2d3e", "f00dbab3", "x*y", "%40", "",
    ]);
    let path = prop::collection::vec(segment, 1..5);
    let host = prop::sample::select(vec!["a.example", "b.example", "10.0.0.1"]);
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "DELETE"]);
    let one =
        (path, host, method, any::<bool>(), 0u64..100_000).prop_map(|(path, host, method, http, at)| {
            let inner: Vec<&str> = path.iter().copied().filter(|s| !s.is_empty()).collect();
            let end = if path.last() == Some(&"") { "/" } else { "" };
            let scheme = if http { "http" } else { "https" };
            let slash = if inner.is_empty() && end == "/" { "" } else { "/" };
            seen(at, method, &format!("{scheme}://{host}{slash}{}{end}", inner.join("/")))
        });
    prop::collection::vec(one, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Both directions: all that was seen, and nothing on another host, scheme or family of methods, nor
    /// a path with a segment in a place where only one value was seen.
    #[test]
    fn a_suggestion_fits(receipts in receipts()) {
        let suggestion = suggest("bot", None, &Library::default(), &receipts).unwrap_or_else(|e| panic!("{e}"));
        prop_assert!(suggestion.left_out.is_empty(), "{:?}", suggestion.left_out);
        let policy = load(&suggestion.text);
        let mut known = BTreeSet::new();
        for one in &receipts {
            prop_assert!(matches!(policy.decide(&one.request, one.moment()), Decision::Allow { .. }), "{:?}\n{}", one.request, suggestion.text);
            let family = |method: &str| if method == "HEAD" { "GET".to_owned() } else { method.to_owned() };
            known.insert((one.request.scheme.as_str(), one.request.host.to_string(), family(one.request.method.as_str()), one.request.target.path().split('/').count()));
        }
        for scheme in ["http", "https"] {
            for host in ["a.example", "b.example", "10.0.0.1", "c.example", "x.a.example"] {
                for method in ["GET", "POST", "DELETE", "PUT"] {
                    for path in ["/zzz", "/a/zzz", "/issues/zzz/zzz", "/zzz/7", "/zzz/zzz/zzz/zzz/zzz/zzz"] {
                        let any_of_that_length = known.contains(&(scheme, host.to_owned(), method.to_owned(), path.split('/').count()));
                        let allowed = allows(&policy, method, &format!("{scheme}://{host}{path}"));
                        prop_assert!(!allowed || any_of_that_length, "{method} {scheme}://{host}{path}\n{}", suggestion.text);
                    }
                }
            }
        }
    }

    #[test]
    fn tightening_twice_changes_nothing_more(receipts in receipts()) {
        let text = "version: 1\nagent: bot\nallow:\n  - { name: r, host: [a.example, b.example], methods: [GET, HEAD, POST] }\n  - { name: s, host: \"10.0.0.1\", protocol: http }\n";
        let found = unused(&source(text), &Library::default(), &receipts).unwrap_or_else(|e| panic!("{e}"));
        if let Some(tight) = &found.tightened {
            let (before, after) = (load(text), load(tight));
            for one in &receipts {
                let allowed = |policy: &AgentPolicy| matches!(policy.decide(&one.request, one.moment()), Decision::Allow { .. });
                prop_assert_eq!(allowed(&before), allowed(&after));
            }
            prop_assert_eq!(&unused(&source(tight), &Library::default(), &receipts).unwrap().tightened, &None);
        }
    }
}

const WITH_SERVICES: &str = "\
version: 1
agent: bot
credentials:
  github: { bearer: { secret: github-token } }
services:
  github:
    credential: github
    allow: [read, create-pr, add-comment, merge-pr]
    deny: [delete-repo]
    rate: { merge-pr: 5/hour }
  slack: { allow: [post-message] }
";

fn github(at: u64, method: &str, path: &str) -> Seen {
    let one = seen(at, method, &format!("https://api.github.com{path}"));
    Seen { credential: Some("github".into()), ..one }
}

#[test]
fn a_suggestion_speaks_in_actions_where_they_fit() {
    let receipts = [
        github(1, "GET", "/repos/myorg/web/issues/7"),
        github(2, "GET", "/repos/myorg/web/issues/8/comments"),
        github(3, "POST", "/repos/myorg/web/issues/8/comments"),
        github(4, "GET", "/user"),
        // Only its body would tell which action it is.
        github(5, "POST", "/graphql"),
        // No catalogue knows it.
        github(6, "GET", "/feeds"),
        seen(7, "GET", "https://docs.example.com/a"),
    ];
    let library = Library::default();
    let suggestion =
        suggest("bot", Some(&source(WITH_SERVICES)), &library, &receipts).unwrap_or_else(|e| panic!("{e}"));
    let services = "\
services:
  github:
    deny: [delete-repo]
  # 1 request
  github-2:
    service: github
    credential: github
    allow: [whoami]
    rate: { whoami: 2/hour }
  # 3 requests
  github-3:
    service: github
    credential: github
    resources: [\"myorg/web\"]
    allow: [add-comment, read-issues]
    rate: { add-comment: 2/hour, read-issues: 3/hour }
";
    assert!(suggestion.text.contains(services), "{}", suggestion.text);
    assert!(suggestion.left_out.is_empty(), "{:?}", suggestion.left_out);
    let policy = load(&suggestion.text);
    for (method, path, allowed) in [
        ("GET", "/repos/myorg/web/issues/9", true),
        ("POST", "/graphql", true),
        ("GET", "/feeds", true),
        ("GET", "/repos/myorg/other/issues/9", false),
        ("PUT", "/repos/myorg/web/pulls/1/merge", false),
        ("GET", "/user/keys", false),
    ] {
        assert_eq!(
            allows(&policy, method, &format!("https://api.github.com{path}")),
            allowed,
            "{method} {path}"
        );
    }
    // What it suggests, it suggests again.
    let again = suggest("bot", Some(&source(&suggestion.text)), &library, &receipts).unwrap();
    assert_eq!(again.text, suggestion.text);
}

#[test]
fn a_suggestion_keeps_the_settings_that_say_where_a_service_is() {
    let text = "\
version: 1
agent: bot
services:
  github: { settings: { api: ghe.example.com, refs: [\"refs/heads/*\"] }, allow: [create-issue] }
";
    let receipts = [
        seen(1, "GET", "https://ghe.example.com/repos/myorg/web/issues/7"),
        seen(2, "GET", "https://api.github.com/repos/myorg/web/issues/7"),
    ];
    let suggestion = suggest("bot", Some(&source(text)), &Library::default(), &receipts).unwrap();
    let settings = "settings: { api: ghe.example.com, refs: [\"refs/heads/*\"] }";
    assert!(suggestion.text.contains(settings), "{}", suggestion.text);
    let policy = load(&suggestion.text);
    for host in ["ghe.example.com", "api.github.com"] {
        let allowed = |path: &str| allows(&policy, "GET", &format!("https://{host}{path}"));
        assert!(allowed("/repos/myorg/web/issues/9"), "{}", suggestion.text);
        assert!(!allowed("/repos/myorg/other/issues/9"), "{}", suggestion.text);
    }
}

#[test]
fn a_request_that_could_be_two_actions_stays_a_rule() {
    // `issues/comments` is also an issue called so.
    let receipts = [github(1, "GET", "/repos/myorg/web/issues/comments")];
    let suggestion = suggest("bot", None, &Library::default(), &receipts).unwrap_or_else(|e| panic!("{e}"));
    assert!(!suggestion.text.contains("services"), "{}", suggestion.text);
}

#[test]
fn actions_nobody_used_go_where_they_are_named() {
    let receipts = [
        github(1, "GET", "/repos/myorg/web/issues/7"),
        github(3, "POST", "/repos/myorg/web/issues/8/comments"),
    ];
    let found =
        unused(&source(WITH_SERVICES), &Library::default(), &receipts).unwrap_or_else(|e| panic!("{e}"));
    assert!(
        found.rules.contains(&"github/create-pr".to_owned())
            && found.rules.contains(&"github/read-prs".to_owned())
    );
    assert!(!found.rules.contains(&"github/read-issues".to_owned()));
    assert!(found.methods.is_empty() && found.hosts.is_empty(), "{found:?}");
    let tight = found.tightened.unwrap();
    assert!(tight.contains("    allow: [read, add-comment]\n    deny: [delete-repo]\n"), "{tight}");
    assert!(!tight.contains("slack") && !tight.contains("merge-pr"), "{tight}");
}
