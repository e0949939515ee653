use std::collections::BTreeMap;

use super::{Surroundings, audit};
use crate::catalog::Library;
use crate::policy::Source;

fn codes(policy: &str, around: &Surroundings) -> Vec<&'static str> {
    let text = format!("version: 1\nagent: bot\n{policy}");
    let report = audit(&[Source { name: "p.yaml".into(), text }], around).unwrap_or_else(|e| panic!("{e}"));
    report.findings.iter().map(|finding| finding.code).collect()
}

const CREDENTIAL: &str = "credentials: { c: { bearer: { secret: s } } }\n";

fn alone(rule: &str) -> Vec<&'static str> {
    codes(&format!("{CREDENTIAL}allow: [{{ name: r, {rule} }}]\n"), &Surroundings::default())
        .into_iter()
        .filter(|code| *code != "W032")
        .collect()
}

#[test]
fn rules_without_a_bound_are_named() {
    assert_eq!(alone("host: a.example, methods: GET"), ["W051"]);
    assert_eq!(alone("host: a.example, methods: GET, rate: 5/min"), [""; 0]);
    assert_eq!(alone("host: a.example, methods: GET, credential: c"), ["W050"]);
    let limited = "allow: [{ name: r, host: a.example }]\nlimits: { rate: 5/min }\n";
    assert_eq!(codes(limited, &Surroundings::default()), [""; 0]);
    let key = format!(
        "{CREDENTIAL}allow: [{{ name: r, host: a.example, methods: GET, credential: c }}]\nlimits: {{ rate: 5/min }}\n"
    );
    assert_eq!(codes(&key, &Surroundings::default()), ["W050"]);
}

#[test]
fn keys_that_reach_too_far_are_named() {
    assert_eq!(alone("host: a.example, credential: c, rate: 5/min"), ["W052"]);
    assert_eq!(alone("host: \"*.a.example\", methods: GET, credential: c, rate: 5/min"), ["W030"]);
    assert_eq!(alone("host: a.example, paths: /x, credential: c, rate: 5/min"), [""; 0]);
}

#[test]
fn rules_that_are_never_reached_are_named() {
    let rules = |first: &str| {
        let text = format!(
            "{first}  - {{ name: narrow, host: a.example, methods: GET, paths: /x/y, rate: 5/min }}\n"
        );
        codes(&text, &Surroundings::default())
    };
    for wide in [
        "host: a.example",
        "host: \"*.example\"",
        "host: a.example, paths: \"/x/**\"",
        "host: a.example, paths: \"/{n}/y\"",
    ] {
        assert_eq!(
            rules(&format!("allow:\n  - {{ name: wide, {wide}, rate: 5/min }}\n")),
            ["W031"],
            "{wide}"
        );
    }
    for other in [
        "host: b.example",
        "host: a.example, methods: POST",
        "host: a.example, paths: \"/x/*/z\"",
        "host: a.example, port: 8443",
    ] {
        assert_eq!(
            rules(&format!("allow:\n  - {{ name: other, {other}, rate: 5/min }}\n")),
            [""; 0],
            "{other}"
        );
    }
    assert_eq!(rules("deny: [{ name: no, paths: \"/x/**\" }]\nallow:\n"), ["W031"]);
}

fn bound_to(hosts: &[&str], rule: &str) -> Vec<&'static str> {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let around =
        Surroundings { bindings: Some(BTreeMap::from([("s".to_owned(), hosts)])), ..Surroundings::default() };
    let policy = format!(
        "{CREDENTIAL}allow: [{{ name: r, methods: GET, paths: /x, credential: c, rate: 5/min, {rule} }}]\n"
    );
    codes(&policy, &around).into_iter().filter(|code| code.starts_with("W05")).collect()
}

#[test]
fn the_vault_has_its_own_list_of_hosts() {
    assert_eq!(bound_to(&["a.example"], "host: a.example"), [""; 0]);
    assert_eq!(bound_to(&["a.example"], "host: b.example"), ["W053"]);
    assert_eq!(bound_to(&["a.example"], "host: [a.example, b.example]"), ["W053"]);
    assert_eq!(bound_to(&["a.example"], "host: a.example, port: 8443"), ["W053"]);
    assert_eq!(bound_to(&["https://a.example:8443"], "host: a.example, port: 8443"), [""; 0]);
    assert_eq!(bound_to(&["*.a.example"], "host: x.a.example"), [""; 0]);
    assert_eq!(bound_to(&["*.a.example"], "host: \"*.a.example\""), [""; 0]);
    assert_eq!(bound_to(&["x.a.example"], "host: \"*.a.example\""), ["W053"]);
    assert_eq!(bound_to(&["http://a.example"], "host: a.example, protocol: http"), [""; 0]);
    assert_eq!(bound_to(&["a.example"], "host: a.example, protocol: http"), ["W053"]);
    assert_eq!(bound_to(&["2001:db8::1"], "host: \"2001:db8::1\""), [""; 0]);
    assert_eq!(bound_to(&["[2001:db8::1]:8443"], "host: \"2001:db8::1\", port: 8443"), [""; 0]);
    assert_eq!(bound_to(&["what is this"], "host: a.example"), ["W053"]);
    let empty = Surroundings { bindings: Some(BTreeMap::new()), ..Surroundings::default() };
    let policy = format!(
        "{CREDENTIAL}allow: [{{ name: r, host: a.example, methods: GET, credential: c, rate: 1/s }}]\n"
    );
    assert_eq!(codes(&policy, &empty), ["W054"]);
}

#[test]
fn dangerous_endpoints_are_found_by_overlap() {
    // The policy speaks of a catalogue of its own folder.
    let catalogue = "version: 1\nservice: keys\nhosts: { api: api.example.com }\nactions:\n  \
        mint: { kind: admin, about: Mint., mints_credentials: makes new credentials, requests: \"POST /keys/{id}/tokens\" }\n  \
        read: { kind: read, about: Read., requests: \"GET /keys\" }\n".replace("read: { kind", "list: { kind");
    let source = Source { name: "p.yaml".into(), text: "services: { keys: { allow: list } }".into() };
    let read = |path: &str| Ok::<_, ()>((path == "services/keys.yaml").then(|| catalogue.clone()));
    let library = Library::load(&[source], read).unwrap();
    let around = Surroundings { library, ..Surroundings::default() };
    let found = |rules: &str| {
        let codes = codes(
            &format!("{rules}\nservices: {{ keys: {{ allow: list }} }}\nlimits: {{ rate: 5/min }}\n"),
            &around,
        );
        codes.into_iter().filter(|code| *code == "W055").count()
    };
    for (rule, expected) in [
        ("host: api.example.com", 1),
        ("host: \"*.example.com\"", 1),
        ("host: other.example.com", 0),
        ("host: api.example.com, methods: GET", 0),
        ("host: api.example.com, methods: [GET, POST]", 1),
        ("host: api.example.com, paths: \"/keys/**\"", 1),
        ("host: api.example.com, paths: \"/**/tokens\"", 1),
        ("host: api.example.com, paths: \"/keys/7/tokens\"", 1),
        ("host: api.example.com, paths: \"/keys/*\"", 0),
        ("host: api.example.com, port: 8443", 0),
    ] {
        assert_eq!(found(&format!("allow: [{{ name: r, {rule} }}]")), expected, "{rule}");
    }
    assert_eq!(
        found("deny: [{ name: d, paths: \"/keys/**\" }]\nallow: [{ name: r, host: api.example.com }]"),
        0
    );
}

#[test]
fn what_does_not_load_is_not_audited() {
    let text = "version: 1\nagent: bot\nalow: []\n";
    assert!(audit(&[Source { name: "p.yaml".into(), text: text.into() }], &Surroundings::default()).is_err());
}

fn told(policy: &str) -> Vec<String> {
    let text = format!("version: 1\nagent: bot\nlimits: {{ rate: 5/min }}\n{policy}");
    let report = audit(&[Source { name: "p.yaml".into(), text }], &Surroundings::default());
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    let found = report.findings.iter().filter(|finding| matches!(finding.code, "W055" | "W056"));
    found.map(|f| format!("{} {}:{} {}", f.code, f.file, f.line, f.message)).collect()
}

#[test]
fn what_catalogues_warn_of_is_told_with_its_line() {
    assert_eq!(
        told(
            "allow:\n  - name: r\n    host: api.github.com\n    methods: DELETE\n    paths: \"/repos/myorg/web\"\n"
        ),
        [
            "W055 p.yaml:5 rule `r` allows `github/delete-repo` (DELETE api.github.com/repos/{owner}/{repo}), which deletes a repository with all that is in it"
        ]
    );
    assert_eq!(
        told("services:\n  github:\n    allow: [read, delete-repo, mint-token]\n"),
        [
            "W056 p.yaml:6 `github/delete-repo` is allowed, which deletes a repository with all that is in it",
            "W056 p.yaml:6 `github/mint-token` is allowed, which makes a token (credentials)"
        ]
    );
    let graphql = |what: &str| {
        told(&format!("allow: [{{ name: r, host: api.github.com, paths: /graphql, methods: POST{what} }}]\n"))
    };
    assert_eq!(graphql("").len(), 1);
    assert_eq!(graphql(", graphql: { operations: [query] }"), [""; 0]);
    assert_eq!(graphql(", graphql: { operations: [mutation], fields: [addComment] }"), [""; 0]);
    assert_eq!(graphql(", graphql: { operations: [mutation] }").len(), 1);
    let git = |what: &str| {
        told(&format!("allow: [{{ name: r, host: github.com, paths: \"/a/b.git/**\", git: {what} }}]\n"))
    };
    assert_eq!(git("{ fetch: true }"), [""; 0]);
    assert_eq!(git("{ push: { refs: \"refs/heads/a\", create: true } }"), [""; 0]);
    assert_eq!(git("{ push: { refs: \"refs/heads/a\", force: true } }").len(), 1);
    let denied = told(
        "deny: [{ name: d, host: api.github.com, methods: DELETE }]\nallow: [{ name: r, host: api.github.com, paths: \"/repos/a/b\" }]\n",
    );
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert!(denied[0].contains("change-settings"));
    let by_action = told(
        "services: { github: { deny: [delete-repo, change-settings] } }\nallow: [{ name: r, host: api.github.com, paths: \"/repos/a/b\" }]\n",
    );
    assert_eq!(by_action, [""; 0]);
    let whole = told("allow: [{ name: r, host: api.github.com }]\n");
    assert_eq!(whole.len(), 9, "{whole:?}");
    assert!(whole.iter().any(|line| line.contains("more actions that catalogues warn of")));
    assert!(whole[0].ends_with("(credentials)"), "what makes credentials comes first: {whole:?}");
}

#[test]
fn raw_rules_are_read_either_way_unless_the_service_reads_one() {
    let rule = |host: &str, path: &str, raw: &str| {
        told(&format!(
            "allow: [{{ name: r, host: {host}, methods: [POST, DELETE], paths: \"{path}\"{raw} }}]\n"
        ))
    };
    let raw = ", raw_path: true";
    // GitLab's ids hold encoded slashes, so it takes none for a slash.
    assert_eq!(rule("gitlab.com", "/api/v4/projects/*/access_tokens", raw).len(), 1);
    assert_eq!(rule("gitlab.com", "/api/v4/projects/g%2Fp/access_tokens", raw).len(), 1);
    assert_eq!(rule("gitlab.com", "/api/v4/projects/{id}/issues", raw), [""; 0]);
    // Of others nobody knows: what fills one segment may be several.
    assert_eq!(rule("api.github.com", "/orgs/*", "").len(), 1);
    let wide = rule("api.github.com", "/orgs/*", raw);
    assert!(wide.iter().any(|line| line.contains("/orgs/{org}/")), "{wide:?}");
    assert!(rule("api.github.com", "/repos/a%2Fb", raw)[0].contains("delete-repo"));
}

#[test]
fn settings_say_where_an_action_is() {
    let elsewhere = "services: { github: { settings: { api: ghe.example }, deny: [delete-repo] } }\n";
    let rule = |host: &str, path: &str| {
        let rule = format!("allow: [{{ name: r, host: {host}, methods: [DELETE, POST], paths: {path} }}]\n");
        let of = |line: &String| line.contains("delete-repo") || line.contains("add-member");
        told(&(elsewhere.to_owned() + &rule)).into_iter().filter(of).count()
    };
    assert_eq!(rule("ghe.example", "/repos/a/b"), 0, "it is denied there");
    assert_eq!(rule("api.github.com", "/repos/a/b"), 1, "and not here");
}
