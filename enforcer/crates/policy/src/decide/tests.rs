use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::canon::{Host, Request, Scheme};
use crate::policy::{AgentPolicy, Decision, NameMatch, PolicySet, Source};
use crate::window::Moment;

pub(super) fn load(text: &str) -> AgentPolicy {
    let text = format!("version: 1\nagent: bot\n{text}");
    let compiled =
        PolicySet::compile(&[Source { name: "p.yaml".into(), text }]).unwrap_or_else(|e| panic!("{e}"));
    let mut agents = compiled.set.agents;
    std::sync::Arc::try_unwrap(agents.pop_first().unwrap().1).unwrap()
}

pub(super) fn told(policy: &AgentPolicy, request: &Request) -> String {
    match policy.decide(request, Moment::ANY) {
        Decision::Allow { rule, template } => format!("allow {} {template}", rule.name),
        Decision::Deny { rule: Some(rule) } => format!("deny {}", rule.name),
        Decision::Deny { rule: None } => "deny".to_owned(),
        Decision::Needs(wanted) => format!("needs {}", wanted.kinds()),
    }
}

fn check(policy: &AgentPolicy, request: &str, expected: &str) {
    let (method, url) = request.split_once(' ').unwrap();
    let request_parsed = Request::parse(method, url).unwrap();
    assert_eq!(told(policy, &request_parsed), expected, "{request}");
    assert_eq!(
        policy.explain(&request_parsed, Moment::ANY).allowed,
        expected.starts_with("allow"),
        "{request}"
    );
}

const POLICY: &str = r#"
deny:
  - { name: no-delete, host: api.github.com, methods: DELETE }
  - { name: no-hooks, host: "*.github.com", paths: "/repos/*/*/hooks/" }
  - { name: no-metadata, host: ["169.254.169.254", "fd00:ec2::254"] }
  - { name: no-secrets, paths: "/**/secrets" }
allow:
  - { name: narrow, host: api.github.com, methods: [GET, HEAD], paths: ["/repos/o/r", "/repos/o/r/**"] }
  - { name: wide, host: ["*.github.com", api.github.com], paths: "/**" }
  - { name: plain, host: mirror.example, protocol: http }
  - { name: odd-port, host: mirror.example, port: 8443 }
  - { name: address, host: ["10.0.0.1", "2001:db8::1"] }
  - { name: trap, host: "169.254.169.254", protocol: http }
"#;

#[test]
fn deny_beats_allow_and_the_first_allow_decides() {
    let policy = load(POLICY);
    check(&policy, "GET https://api.github.com/repos/o/r/pulls", "allow narrow /repos/o/r/**");
    check(&policy, "GET https://api.github.com/repos/o/r", "allow narrow /repos/o/r");
    check(&policy, "POST https://api.github.com/repos/o/r", "allow wide /**");
    check(&policy, "DELETE https://api.github.com/repos/o/r", "deny no-delete");
    check(&policy, "DELETE https://uploads.github.com/x", "allow wide /**");
    check(&policy, "GET https://github.com/", "deny");
    check(&policy, "GET https://evilgithub.com/", "deny");
    check(&policy, "GET http://169.254.169.254/latest", "deny no-metadata");
    check(&policy, "GET http://api.github.com/a/secrets", "deny no-secrets");
    check(&policy, "GET https://elsewhere.example/secrets", "deny no-secrets");
}

#[test]
fn scheme_and_port_are_part_of_an_allow_rule() {
    let policy = load(POLICY);
    check(&policy, "GET http://api.github.com/", "deny");
    check(&policy, "GET https://api.github.com:8443/", "deny");
    check(&policy, "GET http://mirror.example/a", "allow plain /**");
    check(&policy, "GET http://mirror.example:8080/a", "deny");
    check(&policy, "GET https://mirror.example/a", "deny");
    check(&policy, "GET https://mirror.example:8443/a", "allow odd-port /**");
    check(&policy, "GET https://10.0.0.1/", "allow address /**");
    check(&policy, "GET https://[2001:db8::1]/", "allow address /**");
    check(&policy, "GET https://10.0.0.2/", "deny");
}

#[test]
fn in_deny_rules_a_final_slash_makes_no_difference() {
    let policy = load(POLICY);
    for path in ["/repos/a/b/hooks", "/repos/a/b/hooks/"] {
        check(&policy, &format!("GET https://api.github.com{path}"), "deny no-hooks");
    }
    check(&policy, "GET https://api.github.com/repos/o/r/secrets/", "deny no-secrets");
    check(&policy, "GET https://api.github.com/repos/o/r/%73ecrets", "deny no-secrets");
}

/// As package registries and GitLab have them.
#[test]
fn an_encoded_slash_takes_a_rule_that_says_so() {
    let policy = load(
        r#"
deny:
  - { name: no-keys, host: git.example, paths: "/api/*/projects/*/deploy_keys/**" }
  - { name: no-admin, host: git.example, paths: "/admin/**" }
  - { name: no-secret-project, host: git.example, paths: "/api/v4/projects/group%2Fsecret/**" }
allow:
  - { name: plain, host: [npm.example, git.example], paths: ["/{name}", "/api/v4/version/**"] }
  - { name: scoped, host: npm.example, methods: GET, paths: ["/{scope}", "/{scope}/-/*"], raw_path: true }
  - { name: one, host: git.example, paths: "/api/v4/projects/group%2Fone/issues", raw_path: true }
  - { name: any, host: git.example, methods: GET, paths: "/api/v4/projects/{id}/**", raw_path: true }
  - { name: all, host: raw.example, raw_path: true }
  - { name: not, host: cooked.example, raw_path: false }
"#,
    );
    for (request, expected) in [
        ("GET https://npm.example/left-pad", "allow plain /{name}"),
        ("GET https://npm.example/@scope%2fname", "allow scoped /{scope}"),
        ("GET https://npm.example/@scope%2Fname", "allow scoped /{scope}"),
        ("GET https://npm.example/%40scope%2fname", "allow scoped /{scope}"),
        ("GET https://npm.example/@scope%2fname/-/name-1.0.0.tgz", "allow scoped /{scope}/-/*"),
        // Not by this rule, nor by one that does not say so.
        ("PUT https://npm.example/@scope%2fname", "deny"),
        ("GET https://npm.example/@scope/name", "deny"),
        ("GET https://git.example/api/v4/version%2fx", "deny"),
        ("GET https://git.example/a%2fb", "deny"),
        ("GET https://cooked.example/a%2fb", "deny"),
        ("GET https://raw.example/a%2fb/c", "allow all /**"),
        // A literal means the segment, with the slash in it.
        (
            "POST https://git.example/api/v4/projects/group%2fone/issues",
            "allow one /api/v4/projects/group%2Fone/issues",
        ),
        ("POST https://git.example/api/v4/projects/group/one/issues", "deny"),
        ("POST https://git.example/api/v4/projects/group%2Ftwo/issues", "deny"),
        ("GET https://git.example/api/v4/projects/group%2Ftwo/issues", "allow any /api/v4/projects/{id}/**"),
        ("GET https://git.example/api/v4/projects/7/issues", "allow any /api/v4/projects/{id}/**"),
        // Deny rules see the segment, and what a server sees that decodes first.
        ("GET https://git.example/api/v4/projects/a%2fb/deploy_keys", "deny no-keys"),
        ("GET https://git.example/api/v4/projects/a%2fdeploy_keys", "deny no-keys"),
        ("GET https://git.example/api/v4/projects/a%2fdeploy_keys%2f1", "deny no-keys"),
        ("GET https://git.example/api/v4%2fprojects/a/deploy_keys", "deny no-keys"),
        ("GET https://git.example/admin%2fusers", "deny no-admin"),
        ("GET https://git.example/api/v4/projects/group%2fsecret/issues", "deny no-secret-project"),
        ("GET https://git.example/api/v4/projects/group%2Fsecret/", "deny no-secret-project"),
        (
            "GET https://git.example/api/v4/projects/group%2Fsecret2/issues",
            "allow any /api/v4/projects/{id}/**",
        ),
    ] {
        check(&policy, request, expected);
    }
    let near = |request: &str| {
        let (method, url) = request.split_once(' ').unwrap();
        let request = Request::parse(method, url).unwrap();
        policy.explain(&request, Moment::ANY).hint.unwrap()
    };
    assert!(near("GET https://cooked.example/a%2fb").ends_with("would allow it if it said `raw_path: true`"));
    assert!(near("GET https://new.example/a%2fb").ends_with("paths: \"/a%2Fb\"\n    raw_path: true"));
    let request = Request::parse("GET", "https://cooked.example/a%2fb").unwrap();
    let (rule, lacks) = policy.nearly(&request, Moment::ANY).unwrap();
    assert_eq!((rule.name.as_str(), lacks.as_str()), ("not", "its path has an encoded slash"));
}

/// Whatever stands round it: only what could be a segment on either side.
#[test]
fn a_raw_path_opens_no_other_trick() {
    let policy = load("allow: [{ name: all, host: a.example, raw_path: true }]");
    check(&policy, "GET https://a.example/ok%2Fname", "allow all /**");
    for hostile in [
        "/ok%2f..%2fadmin",
        "/ok%2F..",
        "/ok/..%2fadmin",
        "/%2e%2e%2fadmin",
        "/ok%2f%2fadmin",
        "/%2fadmin",
        "/ok%2f",
        "/ok%252fadmin",
        "/ok%25%32%66admin",
        "/ok%5cadmin",
        "/ok%2f%5c..%5cadmin",
        "/ok\\admin",
        "/ok%c0%afadmin",
        "/ok%ef%bc%8fadmin",
        "/ok%2f;x",
        "/ok%3b%2fx",
        "/ok%2f%00",
        "/ok%2fx%00",
        "/ok%2f.%2fx",
        "/ok%2f%2e",
        "/ok%2fx.",
        "/ok%2fx%20",
        "/ok%20%2fx",
        "/ok%2f%3fx",
        "/ok%2fx#y",
        "/ok%2f%u002e",
        "/ok%u2215x",
        "/ok//x%2fy",
        "/ok%2f/x",
    ] {
        assert!(Request::parse("GET", &format!("https://a.example{hostile}")).is_err(), "{hostile}");
    }
}

#[test]
fn a_rule_outside_its_window_is_not_there() {
    let policy = load(
        r#"
deny:
  - { name: night, host: api.example.com, when: { hours: "22:00-06:00", timezone: UTC } }
allow:
  - { name: sprint, host: api.example.com, methods: POST, when: { until: "2026-01-10", timezone: UTC } }
  - { name: office, host: api.example.com, when: { days: mon-fri, hours: ["08:00-12:00", "13:00-23:00"], timezone: UTC } }
"#,
    );
    assert!(policy.is_timed());
    let post = Request::parse("POST", "https://api.example.com/x").unwrap();
    for (at, expected) in [
        ("2026-01-05T10:00:00Z", "allow sprint"),
        ("2026-01-10T23:59:59Z", "deny night"),
        ("2026-01-10T21:00:00Z", "allow sprint"),
        ("2026-01-11T10:00:00Z", "deny"),
        ("2026-01-12T10:00:00Z", "allow office"),
        ("2026-01-12T12:30:00Z", "deny"),
        ("2026-01-12T22:30:00Z", "deny night"),
    ] {
        let at = Moment::parse(at).unwrap();
        let verdict = match policy.decide(&post, at) {
            Decision::Allow { rule, .. } => format!("allow {}", rule.name),
            Decision::Deny { rule } => {
                format!("deny{}", rule.map_or(String::new(), |rule| format!(" {}", rule.name)))
            }
            Decision::Needs(_) => panic!("no rule looks into bodies"),
        };
        assert_eq!(verdict, expected, "{at:?}");
        assert_eq!(policy.explain(&post, at).allowed, expected.starts_with("allow"));
        assert_eq!(
            policy.reaches(Scheme::Https, &post.host, 443, at),
            expected.starts_with("allow"),
            "{at:?}"
        );
    }
    let closed = policy.explain(&post, Moment::parse("2026-01-11T10:00:00Z").unwrap());
    assert!(
        closed.steps.iter().any(|step| step.contains("it holds until 2026-01-11T00:00:00Z")),
        "{closed:?}"
    );
    assert!(closed.hint.as_ref().unwrap().contains("if its `when` were open now"), "{closed:?}");
}

#[test]
fn what_observes_passes_and_what_enforces_holds() {
    let text = r#"
mode: observe
deny:
  - { name: soft, host: api.example.com, methods: DELETE }
  - { name: hard, host: api.example.com, paths: "/admin/**", mode: enforce }
  - { name: gone, host: gone.example.com, mode: enforce }
allow:
  - { name: read, host: api.example.com }
"#;
    let (observing, enforcing) = (load(text), load(&text.replacen("mode: observe", "mode: enforce", 1)));
    let told = |policy: &AgentPolicy, request: &str| {
        let (method, url) = request.split_once(' ').unwrap();
        let request = Request::parse(method, url).unwrap();
        let observed = policy.observe(&request, Moment::ANY);
        let would = observed
            .would_deny
            .map(|would| would.rule.map_or("none".to_owned(), |rule| rule.name.to_string()));
        let allowed = matches!(observed.decision, Decision::Allow { .. });
        assert_eq!(policy.explain(&request, Moment::ANY).allowed, allowed);
        assert!(!allowed || policy.reaches(request.scheme, &request.host, request.port, Moment::ANY));
        (allowed, would)
    };
    for (request, observed) in [
        ("GET https://api.example.com/x", (true, None)),
        ("DELETE https://api.example.com/x", (true, Some("soft"))),
        ("GET https://api.example.com/admin/x", (false, None)),
        ("DELETE https://api.example.com/admin/x", (false, None)),
        ("GET https://elsewhere.example/", (true, Some("none"))),
        ("GET http://elsewhere.example:8080/", (true, Some("none"))),
        ("GET https://gone.example.com/", (false, None)),
    ] {
        let (allowed, would) = told(&observing, request);
        assert_eq!((allowed, would.as_deref()), observed, "{request}");
        assert_eq!(
            told(&enforcing, request),
            (request == "GET https://api.example.com/x", None),
            "{request}"
        );
    }
    // A deny rule that holds and looks into bodies has them read, also where nothing allows the request.
    let looking = load(
        "mode: observe\ndeny:\n  - { name: hard, host: api.example.com, json: { drop: { exists: true } }, mode: enforce }\n",
    );
    let post = Request::parse("POST", "https://api.example.com/x").unwrap();
    assert!(matches!(looking.observe(&post, Moment::ANY).decision, Decision::Needs(_)));
    // Names get made-up answers: no question leaves because an agent asked.
    let resolves = |name: &str| observing.resolves(&Host::parse(name).unwrap());
    assert_eq!(resolves("elsewhere.example"), NameMatch::Wildcard);
    assert_eq!(
        (resolves("api.example.com"), resolves("gone.example.com")),
        (NameMatch::Exact, NameMatch::No)
    );
}

#[test]
fn every_name_or_none() {
    let rules = "allow: [{ name: a, host: a.example.com }]\ndeny: [{ name: g, host: gone.example.com }]\n";
    for (resolve, expected) in
        [("any", NameMatch::Exact), ("none", NameMatch::No), ("allowed", NameMatch::No)]
    {
        let policy = load(&format!("{rules}dns: {{ resolve: {resolve} }}"));
        let resolves = |name: &str| policy.resolves(&Host::parse(name).unwrap());
        assert_eq!(resolves("elsewhere.example"), expected, "{resolve}");
        assert_eq!(resolves("gone.example.com"), NameMatch::No, "{resolve}");
        assert_eq!(resolves("a.example.com") == NameMatch::Exact, resolve != "none");
    }
}

#[test]
fn names_resolve_only_if_a_rule_could_reach_them() {
    let policy = load(
        r#"
deny:
  - { name: gone, host: [gone.example.com, exact.example.net] }
  - { name: partly, host: partly.example.com, methods: POST }
allow:
  - { name: wild, host: ["*.example.com", exact.example.net, exact.example.com] }
dns: { also: [extra.example.org] }
"#,
    );
    for (name, expected) in [
        ("exact.example.com", NameMatch::Exact),
        ("EXACT.example.com", NameMatch::Exact),
        ("any.deep.example.com", NameMatch::Wildcard),
        ("partly.example.com", NameMatch::Wildcard),
        ("extra.example.org", NameMatch::Exact),
        ("gone.example.com", NameMatch::No),
        ("exact.example.net", NameMatch::No),
        ("example.com", NameMatch::No),
        ("notexample.com", NameMatch::No),
        ("other.test", NameMatch::No),
    ] {
        assert_eq!(policy.resolves(&Host::parse(name).unwrap()), expected, "{name}");
    }
    assert_eq!(policy.allowed_hosts(), ["*.example.com", "exact.example.com"]);
}

#[test]
fn endpoints_are_reached_only_by_rules_for_them() {
    let policy = load(POLICY);
    for (scheme, host, port, expected) in [
        (Scheme::Https, "api.github.com", 443, true),
        (Scheme::Http, "api.github.com", 80, false),
        (Scheme::Https, "api.github.com", 80, false),
        (Scheme::Https, "mirror.example", 8443, true),
        (Scheme::Http, "mirror.example", 80, true),
        (Scheme::Http, "169.254.169.254", 80, false),
        (Scheme::Https, "github.com", 443, false),
    ] {
        assert_eq!(
            policy.reaches(scheme, &Host::parse(host).unwrap(), port, Moment::ANY),
            expected,
            "{host}:{port}"
        );
    }
}

#[test]
fn no_rules_allow_nothing() {
    let policy = load("");
    check(&policy, "GET https://a.example.com/", "deny");
    assert!(policy.allowed_hosts().is_empty());
    assert!(PolicySet::empty().agent("bot").is_none());
}

#[test]
fn an_explanation_says_what_would_have_to_change() {
    let policy = load(POLICY);
    let hint = |method: &str, url: &str| {
        policy.explain(&Request::parse(method, url).unwrap(), Moment::ANY).hint.unwrap()
    };
    assert_eq!(
        hint("GET", "http://api.github.com/x"),
        "rule `wide` (p.yaml:11) would allow it if its `protocol` were http"
    );
    assert_eq!(
        hint("PUT", "https://new.example:8443/a/*"),
        "no allow rule is for host new.example; this one would do:\n  - name: NAME\n    host: new.example\n    port: 8443\n    methods: PUT\n    paths: \"/a/%2A\""
    );
    let denied = policy.explain(&Request::parse("DELETE", "https://api.github.com/x").unwrap(), Moment::ANY);
    assert_eq!((denied.rule.as_deref(), denied.place.as_deref()), (Some("no-delete"), Some("p.yaml:5")));
    assert_eq!(denied.steps, ["deny `no-delete` (p.yaml:5): matches, and so decides"]);
}

// Small alphabets, so that generated rules and requests meet often.
const HOSTS: &[&str] = &["a.x.test", "b.x.test", "x.test", "y.test", "10.0.0.1"];
const PATTERNS: &[&str] = &["a.x.test", "b.x.test", "x.test", "y.test", "10.0.0.1", "*.x.test", "*.test"];
const METHODS: &[&str] = &["GET", "POST", "DELETE"];
const PATHS: &[&str] = &["/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/%61/%40"];
const TEMPLATES: &[&str] = &["/**", "/", "/a", "/a/", "/a/*", "/a/**", "/*/b", "/**/c", "/a/@"];

#[derive(Clone, Debug)]
struct Draft {
    hosts: Vec<&'static str>,
    methods: Vec<&'static str>,
    paths: Vec<&'static str>,
    http: Option<bool>,
    port: Option<u16>,
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let draft = (
        prop::collection::vec(prop::sample::select(PATTERNS), 1..3),
        prop::collection::vec(prop::sample::select(METHODS), 0..3),
        prop::collection::vec(prop::sample::select(TEMPLATES), 0..3),
        prop::option::of(any::<bool>()),
        prop::option::of(prop::sample::select(&[80u16, 443][..])),
    )
        .prop_map(|(hosts, methods, paths, http, port)| Draft { hosts, methods, paths, http, port });
    prop::collection::vec(draft, 0..6)
}

fn requests() -> impl Strategy<Value = Request> {
    (
        prop::sample::select(HOSTS),
        prop::sample::select(METHODS),
        prop::sample::select(PATHS),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(host, method, path, http, other)| {
            let scheme = if http { "http" } else { "https" };
            let port = if http == other { 443 } else { 80 };
            Request::parse(method, &format!("{scheme}://{host}:{port}{path}")).unwrap()
        })
}

fn policy(deny: &[Draft], allow: &[Draft]) -> AgentPolicy {
    let mut text = String::new();
    for (section, drafts) in [("deny", deny), ("allow", allow)] {
        if drafts.is_empty() {
            continue;
        }
        text.push_str(&format!("{section}:\n"));
        for (number, draft) in drafts.iter().enumerate() {
            text.push_str(&format!("  - name: {section}-{number}\n    host: {:?}\n", draft.hosts));
            if !draft.methods.is_empty() {
                text.push_str(&format!("    methods: {:?}\n", draft.methods));
            }
            if !draft.paths.is_empty() {
                text.push_str(&format!("    paths: {:?}\n", draft.paths));
            }
            if let Some(http) = draft.http {
                text.push_str(if http { "    protocol: http\n" } else { "    protocol: https\n" });
            }
            if let Some(port) = draft.port {
                text.push_str(&format!("    port: {port}\n"));
            }
        }
    }
    load(&text)
}

fn denied(policy: &AgentPolicy, request: &Request) -> bool {
    matches!(policy.decide(request, Moment::ANY), Decision::Deny { .. })
}

/// The language read aloud, with none of the code under test: every rule, one after the other.
fn reference(deny: &[Draft], allow: &[Draft], request: &Request) -> String {
    let host = request.host.to_string();
    let hosted = |draft: &Draft| {
        draft.hosts.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(suffix) => host.ends_with(suffix),
            None => host == *pattern,
        })
    };
    let method = |draft: &Draft| draft.methods.is_empty() || draft.methods.contains(&request.method.as_str());
    let http = request.scheme == Scheme::Http;
    for (number, draft) in deny.iter().enumerate() {
        let path =
            draft.paths.is_empty() || draft.paths.iter().any(|t| paths(t, true).contains(&bare(request)));
        let endpoint =
            draft.http.is_none_or(|own| own == http) && draft.port.is_none_or(|own| own == request.port);
        if hosted(draft) && method(draft) && path && endpoint {
            return format!("deny deny-{number}");
        }
    }
    for (number, draft) in allow.iter().enumerate() {
        let own_http = draft.http.unwrap_or(false);
        let port = draft.port.unwrap_or(if own_http { 80 } else { 443 });
        let whole = ["/**"];
        let templates = if draft.paths.is_empty() { &whole[..] } else { &draft.paths };
        let template = templates.iter().find(|t| paths(t, false).contains(request.target.path()));
        if let Some(template) = template
            && hosted(draft)
            && method(draft)
            && own_http == http
            && port == request.port
        {
            return format!("allow allow-{number} {template}");
        }
    }
    "deny".to_owned()
}

fn bare(request: &Request) -> &str {
    match request.target.path() {
        "/" => "/",
        path => path.trim_end_matches('/'),
    }
}

/// Which of `PATHS` (as sent) a template stands for, written out by hand.
fn paths(template: &str, deny: bool) -> BTreeSet<&'static str> {
    let list: &[&str] = match template {
        "/**" => &["/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/a/%40"],
        "/" => &["/"],
        "/a" => &["/a"],
        "/a/" if deny => &["/a"],
        "/a/" => &["/a/"],
        "/a/*" => &["/a/b", "/a/%40"],
        "/a/**" => &["/a", "/a/", "/a/b", "/a/b/c", "/a/%40"],
        "/*/b" => &["/a/b"],
        "/**/c" => &["/a/b/c"],
        "/a/@" => &["/a/%40"],
        other => panic!("{other}"),
    };
    list.iter().copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_decides_as_reading_every_rule_would(deny in drafts(), allow in drafts(), request in requests()) {
        let policy = policy(&deny, &allow);
        prop_assert_eq!(told(&policy, &request), reference(&deny, &allow, &request));
        prop_assert_eq!(policy.explain(&request, Moment::ANY).allowed, !denied(&policy, &request));
    }

    #[test]
    fn another_deny_rule_never_allows_more(deny in drafts(), allow in drafts(), more in drafts(), request in requests()) {
        let before = policy(&deny, &allow);
        let after = policy(&[deny, more].concat(), &allow);
        if denied(&before, &request) {
            prop_assert!(denied(&after, &request));
        }
    }

    #[test]
    fn one_allow_rule_less_never_allows_more(deny in drafts(), allow in drafts(), gone in any::<prop::sample::Index>(), request in requests()) {
        prop_assume!(!allow.is_empty());
        let before = policy(&deny, &allow);
        let mut fewer = allow.clone();
        fewer.remove(gone.index(allow.len()));
        if denied(&before, &request) {
            prop_assert!(denied(&policy(&deny, &fewer), &request));
        }
    }

    /// DNS and TLS ask before the request is seen; they must never refuse what would be allowed.
    #[test]
    fn what_is_allowed_is_also_reached_and_resolved(deny in drafts(), allow in drafts(), request in requests()) {
        let policy = policy(&deny, &allow);
        if !denied(&policy, &request) {
            prop_assert!(policy.reaches(request.scheme, &request.host, request.port, Moment::ANY));
            prop_assert_ne!(policy.resolves(&request.host), NameMatch::No);
        }
    }
}
