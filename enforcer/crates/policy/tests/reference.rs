//! The compiled decision against a plain reading of the same policy, on random pairs of both.
//!
//! The evaluator below shares nothing with the crate but the words of `policies/README.md`. 5,000
//! pairs by default; `REFERENCE_PAIRS=1000000 cargo test -p enforcer-policy --release --test reference`
//! is the long run. `REFERENCE_SEED` repeats one, `REFERENCE_REQUESTS` says how many requests a policy is asked.

use std::fmt::Write as _;

use enforcer_policy::{Decision, Moment, PolicySet, Request, Source};

#[test]
fn the_compiled_decision_is_the_plain_one() {
    let number = |name: &str, default| std::env::var(name).ok().map_or(default, |n| n.parse().unwrap());
    let pairs: u64 = number("REFERENCE_PAIRS", 5_000);
    // Of one random policy.
    let requests: u64 = number("REFERENCE_REQUESTS", 50);
    let seed: u64 = number("REFERENCE_SEED", 0x5eed);
    let mut random = Random(seed | 1);
    let (mut asked, mut allowed, mut denied_by_rule) = (0, 0, 0);
    while asked < pairs {
        let policy = Policy::random(&mut random);
        let text = policy.yaml();
        let source = Source { name: "p.yaml".into(), text: text.clone() };
        let compiled = PolicySet::compile(&[source]).unwrap_or_else(|report| panic!("{report}\n{text}"));
        let agent = compiled.set.agent("bot").unwrap();
        for _ in 0..requests {
            let query = Query::random(&mut random, policy.crowd);
            let url = query.url();
            let request = Request::parse(query.method, &url).unwrap_or_else(|error| panic!("{error}: {url}"));
            let at =
                Moment::parse(&format!("2026-01-05T{:02}:{:02}:00Z", query.minute / 60, query.minute % 60))
                    .unwrap();
            let compiled = match agent.decide(&request, at) {
                Decision::Allow { rule, template } => format!("allow {} {}", rule.name, template.as_str()),
                Decision::Deny { rule: Some(rule) } => format!("deny {}", rule.name),
                Decision::Deny { rule: None } => "deny".to_owned(),
                Decision::Needs(_) => panic!("no rule here looks into a body"),
            };
            let plain = policy.decide(&query);
            assert_eq!(
                compiled, plain,
                "seed {seed}: {} {url} at minute {}\n{text}",
                query.method, query.minute
            );
            assert_eq!(agent.explain(&request, at).allowed, plain.starts_with("allow"), "{url}\n{text}");
            asked += 1;
            allowed += u64::from(plain.starts_with("allow"));
            denied_by_rule += u64::from(plain.starts_with("deny "));
        }
    }
    println!("{asked} pairs, {allowed} allowed, {denied_by_rule} denied by a rule");
    // A comparison of refusals with refusals would prove little.
    assert!(allowed > asked / 20 && denied_by_rule > asked / 20, "{allowed} and {denied_by_rule} of {asked}");
}

/// Writing into memory.
const FITS: &str = "a String takes every write";

struct Policy {
    deny: Vec<Rule>,
    allow: Vec<Rule>,
    /// where many rules are for few hosts
    crowd: Option<&'static [&'static str]>,
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
}

struct Query {
    protocol: &'static str,
    host: &'static str,
    port: u16,
    method: &'static str,
    path: String,
    minute: u16,
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
        let crowd: Option<&[&str]> = (random.below(4) == 0).then_some(&CROWD);
        let rules = |random: &mut Random, most, deny| {
            let patterns = crowd.unwrap_or(PATTERNS);
            (0..random.below(most)).map(|_| Rule::random(random, deny, patterns)).collect::<Vec<Rule>>()
        };
        let (denies, allows) = if crowd.is_some() { (9, 60) } else { (4, 7) };
        Policy { deny: rules(random, denies, true), allow: rules(random, allows, false), crowd }
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
                if !rule.methods.is_empty() {
                    writeln!(text, "    methods: {:?}", rule.methods).expect(FITS);
                }
                if !rule.paths.is_empty() {
                    writeln!(text, "    paths: {:?}", rule.paths).expect(FITS);
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
        for (number, rule) in self.deny.iter().enumerate() {
            let path_is_denied = rule.paths.is_empty()
                || rule.paths.iter().any(|template| stands_for(bare(template), bare(&query.path)));
            if rule.is_for(query, None) && path_is_denied {
                return format!("deny deny-{number}");
            }
        }
        for (number, rule) in self.allow.iter().enumerate() {
            if !rule.is_for(query, Some("https")) {
                continue;
            }
            if rule.paths.is_empty() {
                return format!("allow allow-{number} /**");
            }
            if let Some(template) = rule.paths.iter().find(|template| stands_for(template, &query.path)) {
                return format!("allow allow-{number} {template}");
            }
        }
        "deny".to_owned()
    }
}

impl Rule {
    fn random(random: &mut Random, deny: bool, patterns: &[&'static str]) -> Self {
        let some = |random: &mut Random, from: &[&'static str]| {
            let mut chosen: Vec<&str> = (0..1 + random.below(2)).map(|_| random.of(from)).collect();
            chosen.dedup();
            chosen
        };
        Rule {
            hosts: if deny && random.below(3) == 0 { Vec::new() } else { some(random, patterns) },
            protocol: (random.below(4) == 0).then(|| random.of(&["http", "https"])),
            port: (random.below(5) == 0).then(|| random.of(PORTS)),
            methods: if random.below(2) == 0 { Vec::new() } else { some(random, METHODS) },
            paths: (0..random.below(3)).map(|_| template(random)).collect(),
            hours: (random.below(6) == 0).then(|| {
                let from = random.below(24) as u16 * 60;
                (from, (from + 60 * (1 + random.below(23) as u16)) % (24 * 60))
            }),
        }
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
    fn random(random: &mut Random, crowd: Option<&[&'static str]>) -> Self {
        let mut path: String = (0..random.below(5)).map(|_| format!("/{}", random.of(SEGMENTS))).collect();
        if path.is_empty() || random.below(5) == 0 {
            path.push('/');
        }
        let protocol = random.of(&["https", "https", "https", "http"]);
        let own = if protocol == "http" { 80 } else { 443 };
        Query {
            protocol,
            host: random.of(crowd.map_or(HOSTS, |_| &HOSTS[..2])),
            port: if random.below(6) == 0 { random.of(PORTS) } else { own },
            method: random.of(METHODS),
            path,
            minute: random.below(24 * 60) as u16,
        }
    }

    fn url(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_owned() };
        format!("{}://{host}:{}{}", self.protocol, self.port, self.path)
    }
}

/// As clients send them; `%40` is the same as `@`.
const SEGMENTS: &[&str] = &["a", "b", "7", "A", "%40", "@", "ab"];

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

/// xorshift64*: repeatable, and good enough to choose from short lists.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }
}
