//! The JSON Schema and the reader agree: what loads is valid, what an editor marks does not load.

use std::path::Path;

use enforcer_policy::{PolicySet, Source, catalogue_schema, schema};
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};

fn validator() -> Validator {
    jsonschema::draft202012::options().build(&schema()).expect("the schema is one")
}

/// As an editor reads it.
fn document(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

fn loads(yaml: &str) -> bool {
    PolicySet::compile(&[Source { name: "p.yaml".into(), text: yaml.into() }]).is_ok()
}

#[test]
fn shipped_policies_are_valid() {
    let validator = validator();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../policies");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let policies: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    assert!(!policies.is_empty());
    for path in policies {
        let text = std::fs::read_to_string(&path).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&document(&text)).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
}

#[test]
fn shipped_catalogues_are_valid_and_slips_are_marked() {
    let validator = jsonschema::draft202012::options().build(&catalogue_schema()).expect("the schema is one");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../policies/services");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|e| e == "yaml")) {
        let catalogue = document(&std::fs::read_to_string(&path).unwrap());
        let errors: Vec<String> =
            validator.iter_errors(&catalogue).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        for (place, wrong) in
            [("kind", json!("raed")), ("requests", json!("get /a")), ("dangeros", json!("a"))]
        {
            let mut slipped = catalogue.clone();
            let actions = slipped["actions"].as_object_mut().unwrap();
            actions.values_mut().next().unwrap()[place] = wrong;
            assert!(!validator.is_valid(&slipped), "{}: {place}", path.display());
        }
    }
}

/// Each line is put into a policy that is fine without it.
fn policy_with(extra: &str) -> String {
    format!("version: 1\nagent: bot\n{extra}\n")
}

#[test]
fn the_editor_and_the_reader_say_the_same() {
    let validator = validator();
    let rule = |fields: &str| format!("allow: [{{ name: r, host: a.example, {fields} }}]");
    for (extra, good) in [
        (rule("rate: 5/hour"), true),
        (rule("rate: 5/hour burst 2"), true),
        (rule("rate: [10/s, 2000/hour]"), true),
        (rule("rate: 5 / hour"), false),
        (rule("rate: 5/fortnight"), false),
        (rule("max_body: 10MiB"), true),
        (rule("max_body: 10 MiB"), false),
        (rule("max_body: 10"), false),
        (rule("port: 8443"), true),
        (rule("port: \"8443\""), true),
        (rule("port: 0"), false),
        (rule("port: 65536"), false),
        (rule("methods: GET"), true),
        (rule("methods: [GET, POST]"), true),
        (rule("methods: get"), false),
        (rule("methods: []"), false),
        (rule("paths: \"/a/**\""), true),
        (rule("paths: a"), false),
        (rule("paths: \"/a?b\""), false),
        (rule("when: { days: mon-fri, hours: \"09:00-18:00\", timezone: Europe/Berlin }"), true),
        (rule("when: { until: 2026-12-31T18:00:00Z }"), true),
        (rule("when: { days: monday, timezone: UTC }"), false),
        (rule("paths: \"/{a}\", rate: \"5/hour per {a}\""), true),
        (rule("rate: 5/hour per a"), false),
        ("limits: { upload: [1MiB/day, 1KB/hour per host], concurrent: 32 }".into(), true),
        ("limits: { upload: 1MiB }".into(), false),
        ("limits: { concurrent: 0 }".into(), false),
        ("limits: { upload: 1MiB/day }\nallow: [{ name: r, host: \"*\" }]".into(), true),
        (rule("json: { a: { max_length: 5000 } }"), true),
        (rule("json: { a: { max_length: 0 } }"), false),
        (rule("graphql: { operations: query, max_depth: 1000 }"), true),
        (rule("raw_path: true"), true),
        (rule("raw_path: maybe"), false),
        ("deny: [{ name: d, raw_path: true }]".into(), false),
        (rule("websocket: true"), true),
        (rule("websocket: \"true\""), true),
        (rule("websocket: maybe"), false),
        (rule("protocol: http"), true),
        (rule("protocol: ftp"), false),
        (rule("metods: GET"), false),
        (rule("approve: { by: [a] }"), false),
        ("allow: [{ name: r }]".into(), false),
        ("allow: [{ host: a.example }]".into(), false),
        ("allow: []".into(), false),
        ("allow:".into(), false),
        ("allow: [{ name: R, host: a.example }]".into(), false),
        ("allow: [{ name: r, host: \"*.example.com\" }]".into(), true),
        ("allow: [{ name: r, host: \"::1\" }]".into(), true),
        ("allow: [{ name: r, host: [a.example, 10.0.0.1] }]".into(), true),
        ("allow: [{ name: r, host: \"https://a.example\" }]".into(), false),
        ("deny: [{ name: r }]".into(), true),
        ("deny: [{ name: r, credential: c }]".into(), false),
        ("deny: [{ host: a.example }]".into(), false),
        ("mode: enforce".into(), true),
        ("description: 42".into(), true),
        ("description: [a]".into(), false),
        ("credentials: { c: { bearer: { secret: s, env: TOKEN } } }".into(), true),
        ("credentials: { c: { bearer: { secret: { secret: s } } } }".into(), true),
        ("credentials: { c: { bearer: { env: TOKEN } } }".into(), false),
        ("credentials: { c: { bearer: { secret: s }, query: { name: k, secret: s } } }".into(), false),
        ("credentials: { C: { bearer: { secret: s } } }".into(), false),
        ("credentials: { c: { sigv4: { secret: s } } }".into(), false),
        (
            "credentials: { c: { placeholder: { env: T, secret: s, in: [path, { header: x-a }] } } }".into(),
            true,
        ),
        ("credentials: { c: { placeholder: { env: T, secret: s, in: [body] } } }".into(), false),
        ("dns: { private_addresses: 10.0.0.0/8, also: db.internal }".into(), true),
        ("audit: { durability: synced }".into(), true),
        ("audit: {}".into(), false),
        ("limits: { rate: 5/min, max_body: 1KiB }".into(), true),
        ("tests: [{ request: \"GET https://a.example/\", expect: deny }]".into(), true),
        ("tests: [{ request: \"GET https://a.example/\" }]".into(), false),
        ("tests: [{ request: a.example, expect: deny }]".into(), false),
    ] {
        let policy = policy_with(&extra);
        assert_eq!(validator.is_valid(&document(&policy)), good, "by the schema: {extra}");
        assert_eq!(loads(&policy), good, "by the reader: {extra}");
    }
    for missing in ["agent: bot\n", "version: 1\n", "version: 2\nagent: bot\n"] {
        assert!(!validator.is_valid(&document(missing)) && !loads(missing), "{missing}");
    }
}

/// Every pattern of the schema, found by walking it.
fn patterns(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            found.extend(map.get("pattern").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| patterns(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| patterns(item, found)),
        _ => {}
    }
}

#[test]
fn patterns_are_anchored_and_take_their_examples() {
    fn walk(schema: &Value) {
        if let Value::Object(map) = schema {
            if let (Some(pattern), Some(examples)) = (map.get("pattern"), map.get("examples")) {
                let own = jsonschema::validator_for(&json!({ "pattern": pattern })).unwrap();
                for example in examples.as_array().unwrap() {
                    assert!(own.is_valid(example), "{pattern} refuses its example {example}");
                }
            }
            map.values().for_each(walk);
        } else if let Value::Array(items) = schema {
            items.iter().for_each(walk);
        }
    }
    walk(&schema());
    let mut found = Vec::new();
    patterns(&schema(), &mut found);
    assert!(found.len() > 10);
    for pattern in found {
        assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{pattern}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// An editor must not mark what loads.
    #[test]
    fn what_loads_is_valid(
        field in prop::sample::select(vec!["rate", "max_body", "port", "methods", "paths", "host", "credential", "name"]),
        value in "[A-Za-z0-9/*.:{}_-]{1,12}|[0-9]{1,6}/(s|min|hour|day)( burst [0-9]{1,3})?|[0-9]{1,5}(B|KiB|MiB)|/[a-z*{}/]{0,9}",
    ) {
        let value = Value::from(value);
        let mut rule = json!({ "name": "r", "host": "a.example" });
        rule[field] = value;
        let document = json!({ "version": 1, "agent": "bot", "allow": [rule] });
        // JSON is YAML.
        if loads(&document.to_string()) {
            prop_assert!(validator().is_valid(&document), "{document}");
        }
    }
}
