use std::os::unix::fs::PermissionsExt;

use crate::cli::tests::{enforcer, file};

const UNTIDY: &str = "agent:  bot\nversion: 1\nallow:\n- host: api.example.com   # the host\n  name: read\n  methods: [ GET ]\n";
const TIDY: &str = "version: 1\nagent: bot\n\nallow:\n  - name: read\n    host: api.example.com  # the host\n    methods: [GET]\n";

#[test]
fn fmt_looks_or_writes_and_keeps_the_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "bot.yaml", UNTIDY);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let (code, text, _) = enforcer(&["policy", "fmt", "--check", &path]);
    assert_eq!((code, text), (3, format!("would change {path}\n1 file, 1 to change\n")));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), UNTIDY);
    let (code, text, _) = enforcer(&["policy", "fmt", &path]);
    assert_eq!((code, text), (0, format!("changed {path}\n1 file, 1 changed\n")));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), TIDY);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(enforcer(&["policy", "fmt", "--check", &path]).0, 0);
    // Nothing else is left in the folder, and what cannot be read is left alone.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let bad = file(folder.path(), "bad.yaml", "a: [");
    assert_eq!(enforcer(&["policy", "fmt", &bad]).0, 3);
    assert_eq!(std::fs::read_to_string(&bad).unwrap(), "a: [");
}

#[test]
fn the_schema_is_one_json_document() {
    let (code, text, _) = enforcer(&["policy", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 0);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["allow"]["items"]["properties"]["rate"].is_object());
    let (code, text, _) = enforcer(&["catalog", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 0);
    assert!(schema["properties"]["actions"]["additionalProperties"]["properties"]["kind"].is_object());
}

#[test]
fn show_finds_a_policy_by_its_agent_and_writes_out_what_it_comes_to() {
    let folder = tempfile::tempdir().unwrap();
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    let config = file(folder.path(), "enforcer.yaml", &format!("policy_dir: {}\n", policies.display()));
    let path = in_parts(&policies);
    let show = |what: &str, more: &[&str]| {
        enforcer(&[&["policy", "show", "--config", &config, what][..], more].concat())
    };
    assert_eq!(show("bot", &[]), (0, IN_PARTS.to_owned(), String::new()));
    assert_eq!(show(&path, &[]), show("bot", &[]));
    let (code, text, error) = show("bot", &["--effective"]);
    assert_eq!((code, error.as_str()), (0, ""), "{text}");
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words} is not in\n{text}"));
    // Services before what is included.
    assert!(at("name: no-delete") < at("name: shop/order") && at("name: shop/order") < at("name: read"));
    assert!(text.contains("shared/more.yaml:3") && text.contains("bot.yaml:5"), "{text}");
    let (code, _, error) = show("nobody", &[]);
    assert!(code == 1 && error.contains("nobody") && error.contains("enforcer agent"), "{error}");
}

const POLICY: &str = "version: 1\nagent: bot\nallow:\n  - name: read\n    host: api.example.com\n    methods: GET\n    paths: \"/items/**\"\n    rate: 5/min\n  - { name: spare, host: spare.example.com, rate: 5/min }\n";

fn text_of(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn test_compares_updates_and_tells_in_four_formats() {
    let folder = tempfile::tempdir().unwrap();
    let policy = file(folder.path(), "bot.yaml", POLICY);
    let ask = |more: &[&str]| enforcer(&[&["policy", "test", policy.as_str()][..], more].concat());
    assert_eq!(ask(&[]), (0, format!("ok      {policy}: no cases, 0 of 2 rules reached\n"), String::new()));
    file(
        folder.path(),
        "bot.cases",
        "# good\nGET https://api.example.com/items/1\nPUT https://api.example.com/items/<1>\n",
    );
    let (code, text, _) = ask(&[]);
    assert_eq!(code, 3);
    assert!(text.contains("nothing was expected") && text.contains("+ allow  read /items/**"), "{text}");
    let (code, text, _) = ask(&["--update"]);
    assert_eq!(code, 0);
    assert!(text.starts_with("updated"), "{text}");
    let (code, text, _) = ask(&["--coverage"]);
    assert_eq!(code, 0);
    assert!(text.contains("2 cases, 1 of 2 rules reached\n  no case reaches spare"), "{text}");
    file(folder.path(), "bot.yaml", &POLICY.replace("/items/**", "/things/**"));
    let (code, text, _) = ask(&[]);
    assert_eq!(code, 3);
    assert!(
        text.contains(
            "bot.cases:2  GET https://api.example.com/items/1\n    - allow  read /items/**\n    + deny   -"
        ),
        "{text}"
    );
    let (code, text, _) = ask(&["--format", "tap"]);
    assert_eq!(code, 3);
    assert!(text.starts_with("TAP version 14\n1..3\nok 1 - ") && text.contains("\nnot ok 2 - "), "{text}");
    let (_, text, _) = ask(&["--format", "junit"]);
    assert!(text.contains("tests=\"3\" failures=\"1\"") && text.contains("&lt;1&gt;"), "{text}");
    let (_, text, _) = enforcer(&["--json", "policy", "test", &policy]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json[0]["cases"][0]["verdict"], "deny   -");
    file(folder.path(), "bot.yaml", "version: 1\n");
    let (code, text, _) = ask(&[]);
    assert!(code == 3 && text.contains("does not load") && text.contains("agent"), "{text}");
}

#[test]
fn audit_ends_with_3_where_something_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let wide =
        file(folder.path(), "bot.yaml", "version: 1\nagent: bot\nallow:\n  - { name: r, host: a.example }\n");
    let ask = |more: &[&str]| {
        enforcer(&[&["policy", "audit", "--socket", "/nonexistent/socket", wide.as_str()][..], more].concat())
    };
    let (code, text, _) = ask(&[]);
    assert_eq!(code, 3);
    assert!(text.contains("W051") && text.contains("not checked: where secrets may go"), "{text}");
    assert_eq!(ask(&["--allow", "W051"]).0, 0);
}

/// As `receipts export --format jsonl` writes them.
fn receipts(folder: &std::path::Path, requests: &[(&str, &str, &str)]) -> String {
    let lines: Vec<String> = requests
        .iter()
        .enumerate()
        .map(|(number, (method, host, path))| {
            serde_json::json!({
                "seq": number, "time": "2026-01-31T14:00:00.000000Z", "id": format!("r_{number:010}"), "agent": "bot",
                "session": "s", "cgroup": 1, "pid": 1, "uid": 1, "comm": "curl", "protocol": "https", "method": method,
                "host": host, "port": 443, "path": path, "template": null, "query_keys": [], "verdict": "allow",
                "rule": "read", "reason": "allowed", "policy": null, "credential": null, "outcome": null, "count": 1,
                "until": null, "hash": "",
            })
            .to_string()
        })
        .collect();
    file(folder, "receipts.jsonl", &lines.join("\n"))
}

const SINCE: &str = "2026-01-01T00:00:00Z";

#[test]
fn receipts_become_a_policy_and_show_what_is_unused() {
    let folder = tempfile::tempdir().unwrap();
    let policy = file(folder.path(), "bot.yaml", POLICY);
    let receipts = receipts(
        folder.path(),
        &[("GET", "api.example.com", "/items/1"), ("GET", "api.example.com", "/items/2")],
    );
    let with = |verb: &str, more: &[&str]| {
        let base = ["policy", verb, "bot", "--policy", &policy, "--receipts", &receipts, "--since", SINCE];
        enforcer(&[&base[..], more].concat())
    };
    let (code, text, error) = with("suggest", &[]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(text.contains("paths: [\"/items/{item}\"]") && !text.contains("spare"), "{text}");
    let path = folder.path().join("suggested.yaml");
    let (code, text, _) = with("suggest", &["-o", path.to_str().unwrap()]);
    assert!(code == 0 && text.starts_with("wrote "), "{text}");
    assert_eq!(enforcer(&["policy", "check", path.to_str().unwrap()]).0, 0);
    assert_eq!(with("suggest", &["-o", path.to_str().unwrap()]).0, 1, "a file is never written over");
    let (code, text, _) = with("unused", &[]);
    assert!(code == 0 && text.contains("  rule        spare\n"), "{text}");
    let tight = folder.path().join("tight.yaml");
    assert_eq!(with("unused", &["-o", tight.to_str().unwrap()]).0, 0);
    assert!(!text_of(&tight).contains("spare"));
    let (code, text, _) = enforcer(&[
        "policy",
        "diff",
        &policy,
        tight.to_str().unwrap(),
        "--receipts",
        &receipts,
        "--since",
        SINCE,
    ]);
    assert!(
        code == 0
            && text.contains("narrower * https://spare.example.com/** by `spare`")
            && !text.contains("wider"),
        "{text}"
    );
    let (_, text, _) = enforcer(&["policy", "diff", &policy, &policy, "--no-receipts"]);
    assert_eq!(text, "nothing changes\n");
}

#[test]
fn apply_refuses_surprises_writes_whole_files_and_keeps_what_was() {
    let folder = tempfile::tempdir().unwrap();
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    let config = file(folder.path(), "enforcer.yaml", &format!("policy_dir: {}\n", policies.display()));
    let receipts = receipts(folder.path(), &[("GET", "api.example.com", "/items/1")]);
    let new = file(folder.path(), "new.yaml", POLICY);
    let apply = |more: &[&str]| {
        let base = [
            "policy",
            "apply",
            "--config",
            &config,
            "--socket",
            "/nonexistent/socket",
            &new,
            "--receipts",
            &receipts,
            "--since",
            SINCE,
        ];
        enforcer(&[&base[..], more].concat())
    };
    let installed = policies.join("bot.yaml");
    // A new agent: what was recorded of it would be allowed from now on, which is a change.
    let (code, text, _) = apply(&[]);
    assert!(
        code == 3 && text.contains("was denied, will be allowed") && text.contains("not applied"),
        "{text}"
    );
    assert!(!installed.exists());
    let (code, text, _) = apply(&["--force"]);
    assert!(code == 0 && text.contains("applied\nthe daemon is not running"), "{text}");
    assert_eq!(text_of(&installed), POLICY);
    assert_eq!(std::fs::metadata(&installed).unwrap().permissions().mode() & 0o777, 0o644);
    // The same again changes nothing.
    let (code, text, _) = apply(&[]);
    assert!(code == 0 && text.starts_with("nothing changes\napplied"), "{text}");
    // A policy that would refuse what was done.
    file(folder.path(), "new.yaml", &POLICY.replace("/items/**", "/things/**"));
    let (code, text, _) = apply(&["--dry-run"]);
    assert!(code == 0 && text.contains("was allowed, will be denied") && text.contains("wider"), "{text}");
    let (code, text, _) = apply(&[]);
    assert!(code == 3 && text.contains("1 recorded request would change"), "{text}");
    assert_eq!(text_of(&installed), POLICY);
    assert_eq!(apply(&["--force"]).0, 0);
    assert!(text_of(&installed).contains("/things/**"));
    let history: Vec<_> =
        std::fs::read_dir(policies.join(".history/bot")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(history.len(), 2, "{history:?}");
    assert!(history.iter().all(|path| text_of(path) == POLICY));
    // What does not load goes nowhere.
    file(folder.path(), "new.yaml", "version: 1\nagent: bot\nalow: []\n");
    assert_eq!(apply(&["--force"]).0, 3);
    assert!(text_of(&installed).contains("/things/**"));
}

/// A policy in parts, with actions of a catalogue of its own.
const IN_PARTS: &str =
    "version: 1\nagent: bot\ninclude: shared/base.yaml\nservices:\n  shop: { allow: [order] }\n";
const BASE: &str = "version: 1\ninclude: shared/more.yaml\nallow:\n  - name: read\n    host: api.example.com\n    paths: \"/items/**\"\n    methods: GET\n    rate: 5/min\n";
const MORE: &str = "version: 1\ndeny:\n  - { name: no-delete, methods: DELETE }\n";
const SHOP: &str = "version: 1\nservice: shop\nabout: A shop.\ndocs: https://shop.example/docs\nhosts: { api: shop.example.com }\nactions:\n  order: { kind: write, about: Order something., requests: POST /orders }\n  cancel: { kind: delete, about: Cancel an order., requests: \"POST /orders/{order}/cancel\" }\n";

fn in_parts(folder: &std::path::Path) -> String {
    for inner in ["shared", "services"] {
        std::fs::create_dir_all(folder.join(inner)).unwrap();
    }
    file(folder, "shared/base.yaml", BASE);
    file(folder, "shared/more.yaml", MORE);
    file(folder, "services/shop.yaml", SHOP);
    file(folder, "bot.yaml", IN_PARTS)
}

#[test]
fn apply_carries_what_a_policy_refers_to() {
    let folder = tempfile::tempdir().unwrap();
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    let config = file(folder.path(), "enforcer.yaml", &format!("policy_dir: {}\n", policies.display()));
    let draft = folder.path().join("draft");
    std::fs::create_dir(&draft).unwrap();
    let new = in_parts(&draft);
    let receipts = receipts(folder.path(), &[("GET", "api.example.com", "/items/1")]);
    let apply = |more: &[&str]| {
        let base = ["policy", "apply", "--config", &config, "--socket", "/nonexistent/socket", &new];
        enforcer(&[&base[..], &["--receipts", &receipts, "--since", SINCE], more].concat())
    };
    let (code, text, error) = apply(&["--force"]);
    assert_eq!((code, error.as_str()), (0, ""), "{text}");
    for (name, text) in [
        ("bot.yaml", IN_PARTS),
        ("shared/base.yaml", BASE),
        ("shared/more.yaml", MORE),
        ("services/shop.yaml", SHOP),
    ] {
        assert_eq!(text_of(&policies.join(name)), text, "{name}");
    }
    let installed = policies.join("bot.yaml");
    let (code, text, _) = enforcer(&["policy", "check", installed.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    // Only a part changes: its requests are judged, and what was there is kept where it was.
    file(&draft, "shared/base.yaml", &BASE.replace("/items/**", "/things/**"));
    let (code, text, _) = apply(&[]);
    assert!(
        code == 3 && text.contains("was allowed, will be denied") && text.contains("not applied"),
        "{text}"
    );
    assert_eq!(text_of(&policies.join("shared/base.yaml")), BASE);
    assert_eq!(apply(&["--force"]).0, 0);
    assert!(text_of(&policies.join("shared/base.yaml")).contains("/things/**"));
    let kept = policies.join(".history/shared/base");
    let kept: Vec<_> =
        std::fs::read_dir(kept).unwrap().map(|entry| text_of(&entry.unwrap().path())).collect();
    assert_eq!(kept, [BASE]);
    // A part that is missing is an error at the line that names it, and nothing is written.
    std::fs::remove_file(draft.join("shared/more.yaml")).unwrap();
    let (code, text, error) = apply(&["--force"]);
    assert!(
        code == 3 && error.contains("base.yaml:2:") && error.contains("shared/more.yaml"),
        "{text}{error}"
    );
    assert!(text_of(&policies.join("shared/base.yaml")).contains("/things/**"));
}

#[test]
fn diff_tells_actions_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let old = in_parts(&old);
    let new = {
        in_parts(&new);
        file(&new, "bot.yaml", &IN_PARTS.replace("[order]", "[cancel]"))
    };
    let receipts = receipts(
        folder.path(),
        &[("POST", "shop.example.com", "/orders"), ("GET", "api.example.com", "/items/1")],
    );
    let (code, text, error) =
        enforcer(&["policy", "diff", &old, &new, "--receipts", &receipts, "--since", SINCE]);
    assert_eq!((code, error.as_str()), (0, ""), "{text}");
    for told in [
        "POST https://shop.example.com/orders",
        "was allowed, will be denied",
        "wider POST https://shop.example.com/orders/{order}/cancel by `shop/cancel`",
        "narrower POST https://shop.example.com/orders by `shop/order`",
    ] {
        assert!(text.contains(told), "{told} is not in\n{text}");
    }
    assert!(!text.contains("/items/"), "{text}");
}

#[test]
fn fmt_lays_services_out_and_changes_no_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let untidy = "agent: bot\nservices: # what it does\n   github: {allow: [ read,create-pr ], credential: gh,\n     rate: {create-pr: 5/hour}, resources: [a/b]}\nversion: 1\ncredentials: {gh: {bearer: {secret: t}}}\nuse: [github-clone: {repos: [a/b]}]\n";
    let path = file(folder.path(), "bot.yaml", untidy);
    let before = file(folder.path(), "before.yaml", untidy);
    let (code, text, error) = enforcer(&["policy", "fmt", &path]);
    assert_eq!((code, error.as_str()), (0, ""), "{text}");
    let tidy = text_of(std::path::Path::new(&path));
    assert_eq!(
        tidy,
        "version: 1\nagent: bot\ncredentials: { gh: { bearer: { secret: t } } }\n\nservices:  # what it does\n  github: { credential: gh, resources: [a/b], allow: [read, create-pr], rate: { create-pr: 5/hour } }\n\nuse: [{ github-clone: { repos: [a/b] } }]\n"
    );
    assert_eq!(enforcer(&["policy", "fmt", "--check", &path]).0, 0);
    let (_, text, _) = enforcer(&["policy", "diff", &before, &path, "--no-receipts"]);
    assert_eq!(text, "nothing changes\n");
}
