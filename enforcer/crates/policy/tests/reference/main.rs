//! The compiled decision against a plain reading of the same policy, on random pairs of both.
//!
//! The evaluator shares nothing with the crate but the words of `policies/README.md`. 5,000 pairs by
//! default; `REFERENCE_PAIRS=1000000 cargo test -p enforcer-policy --release --test reference` is the long
//! run. `REFERENCE_SEED` repeats one, `REFERENCE_REQUESTS` says how many requests a policy is asked.

mod asks;
mod random;
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use asks::{Ask, Kind, Rest};
use enforcer_policy::{AgentPolicy, Decision, Moment, PolicySet, Request, Source};
use random::Random;

#[test]
fn the_compiled_decision_is_the_plain_one() {
    let mut run = Run::new();
    let mut counts = BTreeMap::<String, u64>::new();
    let mut allowed_by_a_look = 0;
    while run.asks() {
        let policy = Policy::random(&mut run.random);
        let compiled = policy.load();
        for _ in 0..run.requests {
            let query = Query::random(&mut run.random, policy.shape);
            let plain = policy.decide(&query);
            assert_eq!(
                told(&compiled, &query),
                plain,
                "seed {}: {} {} at minute {} {:?}\n{}",
                run.seed,
                query.method,
                query.url(),
                query.minute,
                query.rest,
                policy.yaml()
            );
            let word =
                if plain.starts_with("deny ") { "deny by rule" } else { plain.split(' ').next().unwrap() };
            *counts.entry(word.to_owned()).or_default() += 1;
            allowed_by_a_look += u64::from(word == "allow" && policy.shape == Shape::Looking);
        }
    }
    println!("{} pairs: {counts:?}, allowed where rules look into requests: {allowed_by_a_look}", run.asked);
    // A comparison of refusals with refusals would prove little.
    for word in ["allow", "deny", "deny by rule", "unreadable"] {
        assert!(counts.get(word).is_some_and(|count| *count > run.asked / 100), "{word}: {counts:?}");
    }
    assert!(allowed_by_a_look > run.asked / 50, "{allowed_by_a_look}");
}

/// Of what can be read: a rule that looks into bodies also refuses those that cannot, and takes that along.
#[test]
fn more_deny_rules_and_fewer_allow_rules_never_allow_more() {
    let mut run = Run::new();
    let (mut denied, mut became_denied) = (0_u64, 0_u64);
    while run.asks() {
        let mut policy = Policy::random(&mut run.random);
        let before = policy.load();
        let what = if run.random.once_in(2) || policy.allow.is_empty() {
            let patterns = policy.shape.patterns();
            policy.deny.push(Rule::random(&mut run.random, true, patterns, policy.shape));
            "one more deny rule"
        } else {
            let gone = run.random.below(policy.allow.len() as u64) as usize;
            policy.allow.remove(gone);
            "one allow rule less"
        };
        let after = policy.load();
        for _ in 0..run.requests {
            let query = Query::random(&mut run.random, policy.shape);
            let (before, after) = (told(&before, &query), told(&after, &query));
            if before.starts_with("deny") {
                denied += 1;
                assert!(
                    !after.starts_with("allow"),
                    "seed {}: {what}: {} {} {:?}\n{}",
                    run.seed,
                    query.method,
                    query.url(),
                    query.rest,
                    policy.yaml()
                );
            }
            became_denied += u64::from(before.starts_with("allow") && after.starts_with("deny"));
        }
    }
    println!("{} pairs: {denied} were denied, {became_denied} became so", run.asked);
    assert!(denied > run.asked / 10 && became_denied > 0);
}

/// How much is asked, and from where.
struct Run {
    random: Random,
    seed: u64,
    pairs: u64,
    /// of one random policy
    requests: u64,
    asked: u64,
}

impl Run {
    fn new() -> Self {
        let number =
            |name: &str, default| std::env::var(name).ok().map_or(default, |n| n.parse().expect("a number"));
        let seed = number("REFERENCE_SEED", 0x5eed);
        let (pairs, requests) = (number("REFERENCE_PAIRS", 5_000), number("REFERENCE_REQUESTS", 50));
        Run { random: Random::new(seed), seed, pairs, requests, asked: 0 }
    }

    /// Once more for another policy?
    fn asks(&mut self) -> bool {
        let more = self.asked < self.pairs;
        self.asked += if more { self.requests } else { 0 };
        more
    }
}

/// As the gate goes about it: on the head, then with the body, if that is wanted and can be read.
fn told(policy: &AgentPolicy, query: &Query) -> String {
    let url = query.url();
    let mut request = Request::parse(query.method, &url).unwrap_or_else(|error| panic!("{error}: {url}"));
    request.headers.push("content-type", query.rest.body.content_type().as_bytes());
    query.rest.header.iter().for_each(|value| request.headers.push("h", value.as_bytes()));
    let at = Moment::parse(&format!("2026-01-05T{:02}:{:02}:00Z", query.minute / 60, query.minute % 60))
        .expect("a moment");
    if let Decision::Needs(wanted) = policy.decide(&request, at) {
        match wanted.reader(&request.headers, None).look(query.rest.body.bytes().as_bytes(), true) {
            Ok(body) => request.body = body.expect("there is an answer at the end"),
            Err(_) => return "unreadable".to_owned(),
        }
    }
    let told = match policy.decide(&request, at) {
        Decision::Allow { rule, template } => format!("allow {} {}", rule.name, template.as_str()),
        Decision::Deny { rule: Some(rule) } => format!("deny {}", rule.name),
        Decision::Deny { rule: None } => "deny".to_owned(),
        Decision::Needs(_) => panic!("its body was read"),
    };
    assert_eq!(policy.explain(&request, at).allowed, told.starts_with("allow"), "{url}");
    told
}

/// Writing into memory.
const FITS: &str = "a String takes every write";

struct Policy {
    deny: Vec<Rule>,
    allow: Vec<Rule>,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Few rules, by host, port, method, path and time.
    Plain,
    /// Many rules for two hosts, whose templates overlap.
    Crowded,
    /// Few rules for two hosts, which look into requests.
    Looking,
}

impl Shape {
    fn patterns(self) -> &'static [&'static str] {
        match self {
            Shape::Plain => PATTERNS,
            Shape::Crowded | Shape::Looking => &CROWD,
        }
    }
}

/// Absent fields are `None` or empty, as in the file.
struct Rule {
    hosts: Vec<&'static str>,
    protocol: Option<&'static str>,
    port: Option<u16>,
    methods: Vec<&'static str>,
    paths: Vec<String>,
    /// minutes of the day, in UTC
    hours: Option<(u16, u16)>,
    /// written instead of methods and paths
    grpc: bool,
    ask: Option<Ask>,
}

struct Query {
    protocol: &'static str,
    host: &'static str,
    port: u16,
    method: &'static str,
    path: String,
    minute: u16,
    rest: Rest,
}

const PATTERNS: &[&str] = &[
    "a.x.example",
    "b.x.example",
    "x.example",
    "*.x.example",
    "*.example",
    "10.0.0.1",
    "2001:db8::1",
    "*.a.x.example",
];
/// Templates then overlap in many ways.
const CROWD: [&str; 2] = ["a.x.example", "*.x.example"];
const HOSTS: &[&str] = &[
    "a.x.example",
    "b.x.example",
    "x.example",
    "c.a.x.example",
    "ax.example",
    "example",
    "10.0.0.1",
    "2001:db8::1",
];
const METHODS: &[&str] = &["GET", "HEAD", "POST", "DELETE"];
const PORTS: &[u16] = &[80, 443, 8443];

impl Policy {
    fn random(random: &mut Random) -> Self {
        let shape = random.of(&[Shape::Plain, Shape::Plain, Shape::Crowded, Shape::Looking, Shape::Looking]);
        let rules = |random: &mut Random, most, deny| {
            (0..random.below(most))
                .map(|_| Rule::random(random, deny, shape.patterns(), shape))
                .collect::<Vec<Rule>>()
        };
        let (denies, allows) = if shape == Shape::Crowded { (9, 60) } else { (4, 7) };
        Policy { deny: rules(random, denies, true), allow: rules(random, allows, false), shape }
    }

    fn load(&self) -> Arc<AgentPolicy> {
        let text = self.yaml();
        let source = Source { name: "p.yaml".into(), text: text.clone() };
        let compiled = PolicySet::compile(&[source]).unwrap_or_else(|report| panic!("{report}\n{text}"));
        compiled.set.agent("bot").expect("it is there").clone()
    }

    fn yaml(&self) -> String {
        let mut text = String::from("version: 1\nagent: bot\n");
        for (section, rules) in [("deny", &self.deny), ("allow", &self.allow)] {
            if !rules.is_empty() {
                writeln!(text, "{section}:").expect(FITS);
            }
            for (number, rule) in rules.iter().enumerate() {
                writeln!(text, "  - name: {section}-{number}").expect(FITS);
                if !rule.hosts.is_empty() {
                    writeln!(text, "    host: {:?}", rule.hosts).expect(FITS);
                }
                if let Some(protocol) = rule.protocol {
                    writeln!(text, "    protocol: {protocol}").expect(FITS);
                }
                if let Some(port) = rule.port {
                    writeln!(text, "    port: {port}").expect(FITS);
                }
                if rule.grpc {
                    text.push_str("    grpc: { service: g.S, method: A }\n");
                } else if !rule.methods.is_empty() {
                    writeln!(text, "    methods: {:?}", rule.methods).expect(FITS);
                }
                if !rule.paths.is_empty() && !rule.grpc {
                    writeln!(text, "    paths: {:?}", rule.paths).expect(FITS);
                }
                if let Some(ask) = &rule.ask {
                    writeln!(text, "    {}", ask.yaml()).expect(FITS);
                }
                if let Some((from, to)) = rule.hours {
                    let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
                    writeln!(text, "    when: {{ hours: \"{}-{}\", timezone: UTC }}", clock(from), clock(to))
                        .expect(FITS);
                }
            }
        }
        text
    }

    /// The language read aloud.
    fn decide(&self, query: &Query) -> String {
        let denies: Vec<(usize, &Rule)> =
            self.deny.iter().enumerate().filter(|(_, rule)| rule.denies_head(query)).collect();
        let allows: Vec<(usize, &Rule, &str)> = self
            .allow
            .iter()
            .enumerate()
            .filter_map(|(number, rule)| Some((number, rule, rule.allows_head(query)?)))
            .collect();
        if let Some((number, _)) = denies.iter().find(|(_, rule)| rule.on_head(query, true) == Some(true)) {
            return format!("deny deny-{number}");
        }
        let mut kinds: Vec<Kind> = Vec::new();
        let mut candidates = 0;
        for (_, rule, _) in &allows {
            match rule.on_head(query, false) {
                Some(false) => continue,
                Some(true) => candidates += 1,
                None => {
                    candidates += 1;
                    kinds.extend(rule.needs(query));
                    continue;
                }
            }
            break;
        }
        if candidates == 0 {
            return "deny".to_owned();
        }
        let looking = denies.iter().filter(|(_, rule)| rule.on_head(query, true).is_none());
        kinds.extend(looking.filter_map(|(_, rule)| rule.needs(query)));
        if !kinds.is_empty() && query.rest.body.kind().is_some_and(|kind| !kinds.contains(&kind)) {
            return "unreadable".to_owned();
        }
        if let Some((number, _)) = denies.iter().find(|(_, rule)| rule.is_met(query, true)) {
            return format!("deny deny-{number}");
        }
        match allows.iter().find(|(_, rule, _)| rule.is_met(query, false)) {
            Some((number, _, template)) => format!("allow allow-{number} {template}"),
            None => "deny".to_owned(),
        }
    }
}

impl Rule {
    fn random(random: &mut Random, deny: bool, patterns: &[&'static str], shape: Shape) -> Self {
        let some = |random: &mut Random, from: &[&'static str]| {
            let mut chosen: Vec<&str> = (0..1 + random.below(2)).map(|_| random.of(from)).collect();
            chosen.dedup();
            chosen
        };
        let looking = shape == Shape::Looking;
        let grpc = looking && random.once_in(8);
        let (methods, paths) = match grpc {
            true => (vec!["POST"], vec!["/g.S/A".to_owned()]),
            false => (
                if looking || random.once_in(2) { Vec::new() } else { some(random, METHODS) },
                (0..random.below(if looking { 2 } else { 3 })).map(|_| template(random)).collect(),
            ),
        };
        Rule {
            hosts: if deny && random.once_in(3) { Vec::new() } else { some(random, patterns) },
            protocol: (!looking && random.once_in(4)).then(|| random.of(&["http", "https"])),
            port: random.once_in(5).then(|| random.of(PORTS)),
            methods,
            paths,
            hours: random.once_in(6).then(|| {
                let from = random.below(24) as u16 * 60;
                (from, (from + 60 * (1 + random.below(23) as u16)) % (24 * 60))
            }),
            grpc,
            ask: (looking && !grpc && !random.once_in(3)).then(|| Ask::random(random, deny)),
        }
    }

    fn denies_head(&self, query: &Query) -> bool {
        let path = self.paths.is_empty()
            || self.paths.iter().any(|template| stands_for(bare(template), bare(&query.path)));
        self.is_for(query, None) && path
    }

    /// By this template.
    fn allows_head(&self, query: &Query) -> Option<&str> {
        if !self.is_for(query, Some("https")) {
            return None;
        }
        if self.paths.is_empty() {
            return Some("/**");
        }
        self.paths.iter().find(|template| stands_for(template, &query.path)).map(String::as_str)
    }

    fn needs(&self, query: &Query) -> Option<Kind> {
        self.ask.as_ref().and_then(|ask| ask.needs(query.method, &query.path))
    }

    /// What the rule makes of the request before its body is read. `None`: that depends.
    fn on_head(&self, query: &Query, deny: bool) -> Option<bool> {
        self.needs(query).is_none().then(|| self.is_met(query, deny))
    }

    fn is_met(&self, query: &Query, deny: bool) -> bool {
        self.ask.as_ref().is_none_or(|ask| ask.is_met(query.method, &query.path, &query.rest, deny))
    }

    /// All but the path. In `allow`, a rule that names no protocol is for https, and a rule that names no
    /// port for its protocol's own; in `deny`, for any.
    fn is_for(&self, query: &Query, default: Option<&str>) -> bool {
        let port = match (default, self.protocol.or(default)) {
            (None, _) | (Some(_), None) => self.port,
            (Some(_), Some(protocol)) => self.port.or(Some(if protocol == "http" { 80 } else { 443 })),
        };
        let protocol = self.protocol.or(default);
        let host = self.hosts.is_empty()
            || self.hosts.iter().any(|pattern| match pattern.strip_prefix("*.") {
                Some(base) => query.host.strip_suffix(base).is_some_and(|above| above.ends_with('.')),
                None => *pattern == query.host,
            });
        let open = self.hours.is_none_or(|(from, to)| {
            let minute = query.minute;
            if from < to { from <= minute && minute < to } else { from <= minute || minute < to }
        });
        host && open
            && protocol.is_none_or(|own| own == query.protocol)
            && port.is_none_or(|own| own == query.port)
            && (self.methods.is_empty() || self.methods.contains(&query.method))
    }
}

impl Query {
    fn random(random: &mut Random, shape: Shape) -> Self {
        let looking = shape == Shape::Looking;
        let mut path: String = (0..random.below(5)).map(|_| format!("/{}", random.of(SEGMENTS))).collect();
        if path.is_empty() || random.once_in(5) {
            path.push('/');
        }
        if looking && random.once_in(2) {
            path = random.of(&SERVICES).to_owned();
        }
        let protocol = random.of(&["https", "https", "https", "http"]);
        let own = if protocol == "http" { 80 } else { 443 };
        Query {
            protocol: if looking { "https" } else { protocol },
            host: random.of(if shape == Shape::Plain { HOSTS } else { &HOSTS[..2] }),
            port: if random.once_in(6) {
                random.of(PORTS)
            } else if looking {
                443
            } else {
                own
            },
            method: if looking { random.of(&["POST", "POST", "POST", "GET"]) } else { random.of(METHODS) },
            path,
            minute: random.below(24 * 60) as u16,
            rest: Rest::random(random),
        }
    }

    fn url(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_owned() };
        format!("{}://{host}:{}{}{}", self.protocol, self.port, self.path, self.rest.in_url())
    }
}

/// As clients send them; `%40` is the same as `@`.
const SEGMENTS: &[&str] = &["a", "b", "7", "A", "%40", "@", "ab"];

const SERVICES: [&str; 5] = [
    "/r.git/git-receive-pack",
    "/r.git/git-receive-pack",
    "/r.git/info/refs",
    "/r.git/git-upload-pack",
    "/g.S/A",
];

fn template(random: &mut Random) -> String {
    let mut names = 0;
    let mut text = String::new();
    for _ in 0..random.below(4) {
        match random.below(8) {
            0 => text.push_str("/*"),
            1 => text.push_str("/**"),
            2 => {
                names += 1;
                write!(text, "/{{n{names}}}").expect(FITS);
            }
            _ => write!(text, "/{}", random.of(&["a", "b", "7", "@", "%40"])).expect(FITS),
        }
    }
    if text.is_empty() || random.below(8) == 0 {
        text.push('/');
    }
    text
}

/// In deny rules a final slash makes no difference.
fn bare(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter,
        _ => path,
    }
}

fn stands_for(template: &str, path: &str) -> bool {
    fn list(text: &str) -> Vec<String> {
        text.split('/').skip(1).map(|segment| segment.replace("%40", "@")).collect()
    }
    fn walk(template: &[String], path: &[String]) -> bool {
        let Some((first, rest)) = template.split_first() else { return path.is_empty() };
        match first.as_str() {
            "**" => walk(rest, path) || !path.is_empty() && walk(template, &path[1..]),
            one if one == "*" || one.starts_with('{') => {
                path.first().is_some_and(|given| !given.is_empty()) && walk(rest, &path[1..])
            }
            literal => path.first().is_some_and(|given| given == literal) && walk(rest, &path[1..]),
        }
    }
    walk(&list(template), &list(path))
}
