//! Policies in parts: what other files add, whose line an error cites, and what may not be included.

mod golden;

use std::collections::BTreeMap;
use std::path::Path;

use enforcer_policy::{Compiled, Decision, Library, Moment, PolicySet, Report, Request, Source};

type Files<'a> = &'a [(&'a str, &'a str)];

/// The first file is the policy.
fn compile(files: Files<'_>) -> Result<Compiled, Report> {
    let all: BTreeMap<String, &str> =
        files.iter().map(|(name, text)| (format!("etc/{name}"), *text)).collect();
    let (name, text) = files[0];
    let sources = [Source { name: format!("etc/{name}"), text: text.to_owned() }];
    let library: Library = Library::load::<()>(&sources, |path| {
        assert!(path.starts_with("etc/") && !path.contains(".."), "asked for {path}");
        Ok(all.get(path).map(|text| (*text).to_owned()))
    })
    .expect("nothing fails to be read");
    PolicySet::compile_with(&sources, &library)
}

fn told(compiled: &Compiled, method: &str, url: &str) -> String {
    let request = Request::parse(method, url).expect("it is a request");
    match compiled.set.agent("bot").expect("it is loaded").decide(&request, Moment::ANY) {
        Decision::Allow { rule, .. } => format!("allow {} {}", rule.name, rule.place),
        Decision::Deny { rule: Some(rule) } => format!("deny {} {}", rule.name, rule.place),
        Decision::Deny { rule: None } => "deny".to_owned(),
        Decision::Needs(_) => "needs".to_owned(),
    }
}

fn refused(files: Files<'_>) -> Vec<String> {
    let report = compile(files).expect_err("it is refused");
    let told = |f: &enforcer_policy::Finding| format!("{}:{}:{} {}", f.file, f.line, f.column, f.message);
    report.findings.iter().filter(|finding| finding.error).map(told).collect()
}

const BASE: &str = "\
version: 1
include: shared/more.yaml
deny:
  - { name: no-delete, methods: DELETE }
allow:
  - { name: read, host: a.example, methods: GET }
";
const MORE: &str = "version: 1\nallow:\n  - { name: more, host: b.example }\n";

#[test]
fn rules_of_included_files_come_after_and_keep_their_places() {
    let bot = "version: 1\nagent: bot\ninclude: [shared/base.yaml, shared/more.yaml]\nallow:\n  - { name: own, host: a.example, paths: /x }\n";
    let compiled =
        compile(&[("bot.yaml", bot), ("shared/base.yaml", BASE), ("shared/more.yaml", MORE)]).unwrap();
    assert!(compiled.warnings.findings.is_empty(), "{}", compiled.warnings);
    for (method, url, expected) in [
        ("GET", "https://a.example/x", "allow own etc/bot.yaml:5"),
        ("GET", "https://a.example/y", "allow read etc/shared/base.yaml:6"),
        ("DELETE", "https://a.example/x", "deny no-delete etc/shared/base.yaml:4"),
        ("GET", "https://b.example/", "allow more etc/shared/more.yaml:3"),
        ("GET", "https://c.example/", "deny"),
    ] {
        assert_eq!(told(&compiled, method, url), expected, "{method} {url}");
    }
}

#[test]
fn an_error_cites_the_file_it_is_in() {
    let bot =
        "version: 1\nagent: bot\ninclude: shared/base.yaml\nallow:\n  - { name: read, host: a.example }\n";
    let bad = BASE.replace("methods: GET", "metods: GET");
    let alone = "version: 1\nagent: bot\ninclude: shared/base.yaml\n";
    let found = refused(&[("bot.yaml", alone), ("shared/base.yaml", &bad), ("shared/more.yaml", MORE)]);
    assert_eq!(found, ["etc/shared/base.yaml:6:36 unknown field `metods` in a rule"]);
    // What two files say that does not go together shows both.
    let report =
        compile(&[("bot.yaml", bot), ("shared/base.yaml", BASE), ("shared/more.yaml", MORE)]).unwrap_err();
    let text = report.to_string();
    assert!(text.contains("--> etc/shared/base.yaml:6:13") && text.contains("etc/bot.yaml:5"), "{text}");
    // Not YAML at all.
    let found = refused(&[("bot.yaml", bot), ("shared/base.yaml", "a: [1\n")]);
    assert_eq!(found, ["etc/shared/base.yaml:1:4 a `[` is never closed"]);
}

#[test]
fn a_warning_in_an_included_file_is_told_once_for_two_policies() {
    let text = |agent: &str| format!("version: 1\nagent: {agent}\ninclude: part.yaml\n");
    let sources = [
        Source { name: "a.yaml".into(), text: text("a") },
        Source { name: "b.yaml".into(), text: text("b") },
    ];
    let part =
        "version: 1\nallow:\n  - { name: all, host: a.example }\n  - { name: never, host: a.example }\n";
    let library =
        Library::load::<()>(&sources, |path| Ok((path == "part.yaml").then(|| part.to_owned()))).unwrap();
    let compiled = PolicySet::compile_with(&sources, &library).unwrap();
    assert_eq!(compiled.warnings.findings.len(), 1, "{}", compiled.warnings);
    assert_eq!(compiled.set.agents().count(), 2);
}

#[test]
fn rounds_and_ways_out_are_refused() {
    let bot = |include: &str| format!("version: 1\nagent: bot\ninclude: {include}\n");
    let part = |include: &str| format!("version: 1\ninclude: {include}\n");
    let found = refused(&[("bot.yaml", &bot("bot.yaml"))]);
    assert_eq!(found, ["etc/bot.yaml:3:10 this file includes itself: etc/bot.yaml → etc/bot.yaml"]);
    let found =
        refused(&[("bot.yaml", &bot("a.yaml")), ("a.yaml", &part("b.yaml")), ("b.yaml", &part("a.yaml"))]);
    assert_eq!(
        found,
        ["etc/b.yaml:2:10 this file includes itself: etc/bot.yaml → etc/a.yaml → etc/b.yaml → etc/a.yaml"]
    );
    for path in [
        "../x.yaml",
        "/etc/x.yaml",
        "a/../x.yaml",
        ".x.yaml",
        "a/.b/x.yaml",
        "x.txt",
        "a//x.yaml",
        "./x.yaml",
    ] {
        let found = refused(&[("bot.yaml", &bot(path)), ("x.yaml", MORE)]);
        assert_eq!(found.len(), 1, "{path}");
        assert!(found[0].starts_with("etc/bot.yaml:3:10 `"), "{found:?}");
    }
    let agent = "version: 1\nagent: other\nlimits: { rate: 1/s }\n";
    let found = refused(&[("bot.yaml", &bot("a.yaml")), ("a.yaml", agent)]);
    assert_eq!(
        found,
        [
            "etc/a.yaml:2:1 `agent` is an agent's own, and this file is included",
            "etc/a.yaml:3:1 `limits` is an agent's own, and this file is included"
        ]
    );
}

#[test]
fn the_revision_is_of_everything_a_policy_is_made_of() {
    let revision = |files: Files<'_>| {
        let compiled = compile(files).unwrap_or_else(|report| panic!("{report}"));
        compiled.set.agent("bot").unwrap().revision().to_owned()
    };
    let bot = "version: 1\nagent: bot\ninclude: part.yaml\n";
    let one = revision(&[("bot.yaml", bot), ("part.yaml", MORE)]);
    let other = revision(&[("bot.yaml", bot), ("part.yaml", &MORE.replace("b.example", "c.example"))]);
    assert_ne!(one, other);
    let service = "version: 1\nagent: bot\nservices: { mine: { allow: [read] } }\n";
    let mine = "version: 1\nservice: mine\nhosts: { api: api.example.com }\nactions:\n  get: { kind: read, about: Get., requests: GET /x }\n";
    let one = revision(&[("bot.yaml", service), ("services/mine.yaml", mine)]);
    let other = revision(&[("bot.yaml", service), ("services/mine.yaml", &mine.replace("/x", "/y"))]);
    assert_ne!(one, other);
}

#[test]
fn a_folder_has_catalogues_and_presets_of_its_own() {
    let own = "\
version: 1
service: github
extends: github
hosts: { api: api.ghe.example }
actions:
  create-pr: { kind: write, about: Open a pull request., requests: \"POST /api/v3/repos/{owner}/{repo}/pulls\" }
  ping: { kind: read, about: Ping., requests: GET /ping }
";
    let preset = "\
version: 1
preset: reading
about: Reading.
settings:
  repos: { about: the repositories, example: a/b }
  more: { about: another host, optional: true }
services:
  reading: { service: github, resources: \"${repos}\", allow: [get-repo] }
allow:
  - { name: reading-more, host: [docs.example.com, \"${more}\"], methods: GET }
";
    let bot = "version: 1\nagent: bot\nservices:\n  github: { allow: [create-pr, ping] }\nuse:\n  - reading: { repos: [o/r, o/s] }\n";
    let compiled =
        compile(&[("bot.yaml", bot), ("services/github.yaml", own), ("presets/reading.yaml", preset)])
            .unwrap();
    for (method, url, expected) in [
        ("POST", "https://api.ghe.example/api/v3/repos/o/r/pulls", "allow github/create-pr etc/bot.yaml:4"),
        ("POST", "https://api.ghe.example/repos/o/r/pulls", "deny"),
        ("POST", "https://api.github.com/repos/o/r/pulls", "deny"),
        ("GET", "https://api.ghe.example/ping", "allow github/ping etc/bot.yaml:4"),
        ("GET", "https://api.ghe.example/repos/o/s", "allow reading/get-repo etc/bot.yaml:6"),
        ("GET", "https://api.ghe.example/repos/o/t", "deny"),
        ("GET", "https://docs.example.com/", "allow reading-more etc/bot.yaml:6"),
    ] {
        assert_eq!(told(&compiled, method, url), expected, "{method} {url}");
    }
    // What is wrong with a catalogue is told in its own file.
    let bad = own.replace("GET /ping", "GET nowhere /ping").replace("kind: read", "kind: reed");
    let found =
        refused(&[("bot.yaml", bot), ("services/github.yaml", &bad), ("presets/reading.yaml", preset)]);
    assert!(found.iter().all(|line| line.starts_with("etc/services/github.yaml:7:")), "{found:?}");
    let misnamed = own.replace("service: github", "service: gitlab");
    let found =
        refused(&[("bot.yaml", bot), ("services/github.yaml", &misnamed), ("presets/reading.yaml", preset)]);
    assert_eq!(
        found,
        ["etc/services/github.yaml:2:10 the catalogue of `gitlab` stands in a file called `github.yaml`"]
    );
}

#[test]
fn actions_are_scoped_to_resources_and_named_in_receipts() {
    let bot = "\
version: 1
agent: bot
credentials:
  github: { bearer: { secret: t } }
services:
  github:
    credential: github
    resources: [myorg/web, \"other/*\"]
    settings: { refs: [\"refs/heads/bot/*\"] }
    allow: [create-pr, clone, push, read, delete-ref]
    deny: [read-hooks]
    rate: { create-pr: 5/hour }
";
    let compiled = compile(&[("bot.yaml", bot)]).unwrap_or_else(|report| panic!("{report}"));
    assert!(compiled.warnings.findings.is_empty(), "{}", compiled.warnings);
    let policy = compiled.set.agent("bot").unwrap();
    for (method, url, rule, action) in [
        (
            "POST",
            "https://api.github.com/repos/myorg/web/pulls",
            "allow github/create-pr etc/bot.yaml:10",
            Some("github/create-pr myorg/web"),
        ),
        (
            "POST",
            "https://api.github.com/repos/other/any/pulls",
            "allow github/create-pr etc/bot.yaml:10",
            Some("github/create-pr other/any"),
        ),
        ("POST", "https://api.github.com/repos/myorg/api/pulls", "deny", Some("github/create-pr myorg/api")),
        (
            "GET",
            "https://api.github.com/repos/myorg/web/issues/7",
            "allow github/read-issues etc/bot.yaml:10",
            Some("github/read-issues myorg/web"),
        ),
        ("DELETE", "https://api.github.com/repos/myorg/web", "deny", Some("github/delete-repo myorg/web")),
        (
            "GET",
            "https://api.github.com/repos/a/b/hooks",
            "deny github/read-hooks etc/bot.yaml:11",
            Some("github/read-hooks a/b"),
        ),
        (
            "GET",
            "https://api.github.com/repos/myorg/web/secret-scanning/alerts",
            "deny",
            Some("github/read-leaked-secrets myorg/web"),
        ),
        (
            "GET",
            "https://github.com/myorg/web.git/info/refs?service=git-upload-pack",
            "allow github/clone etc/bot.yaml:10",
            Some("github/clone myorg/web.git (fetch)"),
        ),
        (
            "GET",
            "https://github.com/myorg/web/info/refs?service=git-receive-pack",
            "allow github/push etc/bot.yaml:10",
            Some("github/push myorg/web (push)"),
        ),
        (
            "GET",
            "https://github.com/myorg/api.git/info/refs?service=git-upload-pack",
            "deny",
            Some("github/clone myorg/api.git"),
        ),
        ("GET", "https://api.github.com/search/code", "deny", Some("github/search")),
        ("GET", "https://api.github.com/unknown", "deny", None),
    ] {
        assert_eq!(told(&compiled, method, url), rule, "{method} {url}");
        let request = Request::parse(method, url).unwrap();
        let observed = policy.observe(&request, Moment::ANY);
        let action_told = policy.action(&request, &observed, Moment::ANY);
        assert_eq!(action_told.as_deref(), action, "{method} {url}");
    }
    let rates: Vec<(&str, usize)> = policy
        .rules()
        .iter()
        .filter(|rule| !rule.rates.is_empty())
        .map(|r| (r.name.as_str(), r.rates.len()))
        .collect();
    assert_eq!(rates, [("github/create-pr", 1)]);
}

#[test]
fn settings_are_judged_also_where_no_action_needs_them() {
    let bot = |setting: &str| {
        format!(
            "version: 1\nagent: bot\nservices:\n  github:\n    settings: {{ {setting} }}\n    allow: [create-pr]\n"
        )
    };
    let told = |setting: &str| match compile(&[("bot.yaml", &bot(setting))]) {
        Ok(_) => Vec::new(),
        Err(_) => refused(&[("bot.yaml", &bot(setting))]),
    };
    assert_eq!(told("uploads: ghe.example"), [""; 0]);
    let found = told("uploads: \"https://ghe.example\"");
    assert!(found.len() == 1 && found[0].starts_with("etc/bot.yaml:5:26 "), "{found:?}");
    let found = told("api: \"https://ghe.example\"");
    assert!(found.len() == 1 && found[0].starts_with("etc/bot.yaml:5:22 "), "{found:?}");
}

#[test]
fn a_resource_is_told_by_every_path_of_an_action() {
    let bot = "version: 1\nagent: bot\nservices: { jira: { settings: { site: a.example }, resources: [WEB-7], allow: [read] } }\n";
    let compiled = compile(&[("bot.yaml", bot)]).unwrap_or_else(|report| panic!("{report}"));
    let policy = compiled.set.agent("bot").unwrap();
    for (version, key) in [("3", "WEB-7"), ("2", "WEB-7"), ("2", "WEB-8")] {
        let url = format!("https://a.example/rest/api/{version}/issue/{key}");
        let request = Request::parse("GET", &url).unwrap();
        let action = policy.action(&request, &policy.observe(&request, Moment::ANY), Moment::ANY);
        assert_eq!(action, Some(format!("jira/read-issue {key}")), "{url}");
    }
}

#[test]
fn what_is_in_force_is_written_out_in_the_order_in_which_it_is_asked() {
    let bot = "\
version: 1
agent: bot
include: shared/more.yaml
credentials: { c: { bearer: { secret: t } } }
services:
  notion: { credential: c, allow: [read-users, comment], deny: [delete-block], rate: { comment: 5/hour } }
allow:
  - { name: own, host: a.example, json: { n: { equals: 5 }, t: { equals: \"5\" } } }
";
    let sources = [Source { name: "etc/bot.yaml".into(), text: bot.into() }];
    let file = |path: &str| Ok((path == "etc/shared/more.yaml").then(|| MORE.to_owned()));
    let library = Library::load::<()>(&sources, file).expect("nothing fails to be read");
    let text = enforcer_policy::effective(&sources[0], &library).unwrap_or_else(|report| panic!("{report}"));
    golden::check(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/effective.yaml").as_path(), &text);
    // What does not load has nothing in force.
    let broken = Source { name: "etc/bot.yaml".into(), text: bot.replace("own,", "own, hosts: b,") };
    assert!(enforcer_policy::effective(&broken, &library).is_err());
}

#[test]
fn an_action_that_is_named_and_left_out_is_an_error() {
    let bot = |more: &str| {
        format!(
            "version: 1\nagent: bot\nservices:\n  oci:\n    settings: {{ registry: r.example{more} }}\n    allow: [pull, get-token]\n"
        )
    };
    let found = refused(&[("bot.yaml", &bot(""))]);
    assert_eq!(
        found,
        [
            "etc/bot.yaml:6:19 `get-token` needs the setting `auth` (the host that gives tokens, where the registry has one)"
        ]
    );
    assert!(compile(&[("bot.yaml", &bot(", auth: auth.example"))]).is_ok());
    // A kind means what can be had.
    assert!(compile(&[("bot.yaml", &bot("").replace("[pull, get-token]", "[read, write]"))]).is_ok());
}
