use std::time::Duration;

use super::limits::parse_budget;
use super::values::{parse_network, parse_rate, parse_size};
use crate::policy::{Budget, CredentialKind, Durability, Place, PolicySet, Rate, Source};

#[test]
fn rates_as_people_write_them() {
    for (text, count, seconds, burst) in [
        ("5/hour", 5, 3600, 5),
        ("30/min burst 10", 30, 60, 10),
        ("1/s burst 10", 1, 1, 10),
        ("2/sec", 2, 1, 2),
        ("2/second", 2, 1, 2),
        ("2/minute", 2, 60, 2),
        ("2000/day", 2000, 86400, 2000),
        ("1000000/s", 1_000_000, 1, 1_000_000),
    ] {
        let rate = Rate { count, period: Duration::from_secs(seconds), burst, per: Vec::new() };
        assert_eq!(parse_rate(text), Ok(rate), "{text}");
    }
    for (text, per) in
        [("5/hour per {owner}", vec!["owner"]), ("30/min burst 3 per {owner}/{repo}", vec!["owner", "repo"])]
    {
        let rate = parse_rate(text).unwrap();
        assert_eq!(rate.per.iter().map(|name| &**name).collect::<Vec<_>>(), per, "{text}");
        assert_eq!(rate.to_string().replace("minute", "min"), text);
    }
    for bad in [
        "",
        "5",
        "/hour",
        "5/",
        "5/h",
        "5/hours",
        "5/Hour",
        "5 /hour",
        "5/ hour",
        " 5/hour",
        "+5/hour",
        "-5/hour",
        "0x5/hour",
        "5.5/hour",
        "1_000/hour",
        "0/s",
        "5/s burst 0",
        "5/s burst",
        "5/s burst x",
        "5/s burst -1",
        "5/s  burst 2",
        "5/s burst 1 burst 2",
        "1000001/s",
        "4294967296/day",
        "5/s burst 4294967296",
        "99999999999999999999999/s",
        "٥/hour",
        "unlimited",
        "5/hour per owner",
        "5/hour per {}",
        "5/hour per {a}/{a}",
        "5/hour per {a b}",
        "5/hour per {a}/{b}/{c}/{d}/{e}",
        "5/hour per {a} burst 3",
        "5/hour per {a} per {b}",
    ] {
        assert!(parse_rate(bad).is_err(), "{bad}");
    }
}

#[test]
fn sizes_and_networks_are_exact() {
    for (text, size) in
        [("0B", 0), ("10B", 10), ("1KiB", 1024), ("10MiB", 10 << 20), ("1GiB", 1 << 30), ("5MB", 5_000_000)]
    {
        assert_eq!(parse_size(text), Ok(size), "{text}");
    }
    for bad in [
        "",
        "10",
        "MiB",
        "-1B",
        "1 MiB",
        "1mib",
        "1.5MiB",
        "1TiB",
        "18446744073709551615B",
        "99999999999999999999B",
    ] {
        assert!(parse_size(bad).is_err(), "{bad}");
    }
    for good in ["10.1.0.0/16", "127.0.0.1", "127.0.0.1/32", "fd00::/8", "fc00::/7", "::1", "10.0.0.0/8"] {
        assert!(parse_network(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "10.1.0.1/16",
        "0.0.0.0/0",
        "0.0.0.0/7",
        "::/0",
        "::ffff:0:0/96",
        "10.0.0.0/33",
        "10/8",
        "localhost",
        "10.0.0.0/-1",
    ] {
        assert!(parse_network(bad).is_err(), "{bad}");
    }
}

#[test]
fn byte_budgets_as_people_write_them() {
    for (text, bytes, seconds, per_host) in [
        ("200MiB/day", 200 << 20, 86400, false),
        ("5MB/hour per host", 5_000_000, 3600, true),
        ("1B/s", 1, 1, false),
    ] {
        let budget = Budget { bytes, period: Duration::from_secs(seconds), per_host };
        assert_eq!(parse_budget(text), Ok(budget), "{text}");
    }
    for bad in [
        "",
        "200MiB",
        "/day",
        "200/day",
        "0B/day",
        "1MiB/week",
        "1MiB/day per agent",
        "1 MiB/day",
        "9999999999GiB/s",
    ] {
        assert!(parse_budget(bad).is_err(), "{bad}");
    }
}

#[test]
fn every_field_of_the_language_arrives() {
    let text = r#"
version: 1
agent: bot
description: Does things
owner: "@team"
mode: enforce
credentials:
  a: { bearer: { secret: sa, env: A_TOKEN } }
  b: { header: { name: X-Api-Key, secret: { secret: sb } } }
  c: { basic: { username: x-access-token, secret: sc } }
  d: { query: { name: key, secret: sd } }
  e: { placeholder: { env: E, secret: se, in: [path, { header: Authorization }, { query: key }], required: true } }
  f: { header: { name: authorization, format: "token {}", secret: sf } }
allow:
  - { name: ra, host: a.example.com, credential: a, rate: [10/s, "2000/hour burst 5"], max_body: 10MiB }
  - { name: rb, host: b.example.com, credential: b }
  - { name: rc, host: c.example.com, credential: c }
  - { name: rd, host: d.example.com, credential: d }
  - { name: re, host: e.example.com, credential: e }
  - { name: rf, host: f.example.com, credential: f, message: hello }
limits: { rate: 1200/hour, max_body: 1GiB, concurrent: 32, upload: [200MiB/day, 20MiB/hour per host], download: 1GiB/day }
dns: { resolve: allowed, private_addresses: [10.1.0.0/16, "::1"], also: [x.example.com] }
audit: { durability: synced }
tests:
  - { request: "GET https://a.example.com/", expect: allow, by: ra }
"#;
    let compile = |text: &str| PolicySet::compile(&[Source { name: "p.yaml".into(), text: text.into() }]);
    let compiled = compile(text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(compiled.warnings.to_string(), "");
    let policy = compiled.set.agent("bot").unwrap();
    assert_eq!((policy.description(), policy.owner()), (Some("Does things"), Some("@team")));
    assert_eq!(policy.durability(), Durability::Synced);
    let kind = |name: &str| policy.credential(name).unwrap().kind.clone();
    assert_eq!(kind("a"), CredentialKind::Bearer);
    assert_eq!(kind("b"), CredentialKind::Header { name: "x-api-key".into(), format: "{}".into() });
    assert_eq!(kind("c"), CredentialKind::Basic { username: "x-access-token".into() });
    assert_eq!(kind("d"), CredentialKind::Query { name: "key".into() });
    let places = vec![Place::Path, Place::Header("authorization".into()), Place::Query("key".into())];
    assert_eq!(kind("e"), CredentialKind::Placeholder { places, required: true });
    assert_eq!(kind("f"), CredentialKind::Header { name: "authorization".into(), format: "token {}".into() });
    assert_eq!(policy.credential("b").unwrap().secret.as_str(), "sb");
    assert_eq!(policy.credential("a").unwrap().env.as_deref(), Some("A_TOKEN"));
    let rule = &policy.rules()[0];
    assert_eq!((rule.rates.len(), rule.rates[1].burst, rule.max_body), (2, 5, Some(10 << 20)));
    assert_eq!((rule.place.as_str(), policy.rules()[5].message.as_deref()), ("p.yaml:15", Some("hello")));
    assert_eq!((policy.rates()[0].count, policy.max_body()), (1200, Some(1 << 30)));
    assert_eq!((policy.upload().len(), policy.upload()[1].per_host, policy.download().len()), (2, true, 1));
    assert_eq!(policy.concurrent(), Some(32));
    assert_eq!(policy.private_addresses().len(), 2);
    let changed = compile(&format!("{text}\n")).unwrap().set;
    assert_eq!(policy.revision().len(), 64);
    assert_ne!(changed.agent("bot").unwrap().revision(), policy.revision());
    assert_eq!(
        compile("version: 1\nagent: bot\n").unwrap().set.agent("bot").unwrap().durability(),
        Durability::Written
    );
}

#[test]
fn one_bad_file_keeps_all_from_loading() {
    let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
    let good = source("a.yaml", "version: 1\nagent: a\n");
    let bad = source("b.yaml", "version: 1\nagent: b\nallow: []\n");
    assert_eq!(PolicySet::compile(std::slice::from_ref(&good)).unwrap().set.agents().count(), 1);
    assert!(PolicySet::compile(&[good, bad]).unwrap_err().has_errors());
    assert_eq!(PolicySet::compile(&[]).unwrap().set.agents().count(), 0);
    let large = source("c.yaml", &format!("version: 1\nagent: c\n# {}\n", "x".repeat(1024 * 1024)));
    assert_eq!(
        PolicySet::compile(&[large]).unwrap_err().to_string(),
        "error[E001]: c.yaml: the file is larger than 1 MiB\n"
    );
}

proptest::proptest! {
    /// Whatever stands in a file, loading it ends in a policy or a report that can be printed.
    #[test]
    fn no_file_panics(lines in proptest::collection::vec(
        proptest::sample::select(&[
            "version: 1", "agent: bot", "allow:", "deny:", "  - name: a", "    host: a.example.com", "    host: \"*.x.y\"", "    paths: \"/a/**\"",
            "    methods: [GET, é]", "credentials:", "  a: { bearer: { secret: b } }", "    credential: a", "tests:", "  - request: \"GET https://a/\"",
            "    expect: allow", "limits: { rate: 5/s }", "  - {}", "    ü: ü", "- x", "\t", "  - *x", "audit: &a", "dns: { also: [a, [b]] }",
        ][..]), 0..14))
    {
        match PolicySet::compile(&[Source { name: "p".into(), text: lines.join("\n") }]) {
            Ok(compiled) => drop(compiled.warnings.render(true)),
            Err(report) => drop(report.render(true)),
        }
    }
}
