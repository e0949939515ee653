//! What rules ask of the rest of a request, and requests that have a rest, both at random.
//!
//! Read as `policies/README.md` says it: an allow rule wants everything to be surely so, a deny rule is
//! content with one thing that may be.

use std::fmt::Write as _;

use crate::FITS;
use crate::random::Random;
use crate::tests::{Test, Value};

/// Of one rule.
#[derive(Debug)]
pub(crate) enum Ask {
    Query(&'static str, Test),
    Header(&'static str, Test),
    Json(&'static str, Test),
    Form(&'static str, Test),
    Graphql {
        operations: Vec<&'static str>,
        fields: Vec<&'static str>,
    },
    /// tools, with what their argument `k` has to be
    Mcp(&'static str, Option<Test>),
    Rpc(&'static str),
    Git {
        fetch: bool,
        push: Option<Push>,
    },
}

#[derive(Debug)]
pub(crate) struct Push {
    refs: Option<&'static str>,
    create: Option<bool>,
    delete: Option<bool>,
    force: Option<bool>,
}

/// The kinds of body, as content types tell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Form,
    Push,
}

#[derive(Debug)]
pub(crate) enum Body {
    Empty,
    Json(Value),
    Form(Vec<(&'static str, &'static str)>),
    /// kind and root fields of each operation
    Graphql(Vec<(&'static str, Vec<&'static str>)>),
    /// method, tool, and its argument `k`
    Messages(Vec<(&'static str, &'static str, Option<Value>)>),
    /// what is done to which ref
    Push(Vec<(&'static str, &'static str)>),
}

#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) query: Vec<(&'static str, &'static str)>,
    pub(crate) header: Vec<&'static str>,
    pub(crate) body: Body,
}

const PLACES: &[&str] = &["a", "o.b", "l[*]", "l[*].a"];
const TEXTS: &[&str] = &["x", "X", "y", "5", "9", "true", "", "x, y", "05", "xy"];
const FIELDS: &[&str] = &["viewer", "repository", "deleteRef"];
const OPERATIONS: &[&str] = &["query", "mutation"];
const REFS: &[&str] = &["refs/heads/bot/x", "refs/heads/main", "refs/heads/bot/a/b"];

impl Ask {
    pub(crate) fn random(random: &mut Random, deny: bool) -> Self {
        match random.below(8) {
            0 => Ask::Query("q", Test::random(random)),
            1 => Ask::Header("h", Test::random(random)),
            2 | 3 => Ask::Json(random.of(PLACES), Test::random(random)),
            4 => Ask::Form("a", Test::random(random)),
            5 => Ask::Graphql {
                operations: if random.once_in(2) { vec![] } else { vec![random.of(OPERATIONS)] },
                fields: vec![random.of(FIELDS), random.of(FIELDS)],
            },
            6 if random.once_in(2) => Ask::Rpc(random.of(&["net_*", "eth_call", "ping"])),
            6 => Ask::Mcp(random.of(&["get", "put"]), random.once_in(2).then(|| Test::random(random))),
            _ => {
                let flag = |random: &mut Random| random.once_in(2).then(|| random.once_in(2));
                let push = Push {
                    refs: (!deny || random.once_in(2))
                        .then(|| random.of(&["refs/heads/bot/*", "refs/heads/**"])),
                    create: flag(random),
                    delete: flag(random),
                    force: flag(random),
                };
                let all_unsaid = push.refs.is_none() && push.create.or(push.delete).or(push.force).is_none();
                let push = (!all_unsaid && !random.once_in(4)).then_some(push);
                Ask::Git { fetch: push.is_none() || random.once_in(2), push }
            }
        }
    }

    pub(crate) fn yaml(&self) -> String {
        match self {
            Ask::Query(name, test) => format!("query: {{ {name}: {} }}", test.yaml()),
            Ask::Header(name, test) => format!("headers: {{ {name}: {} }}", test.yaml()),
            Ask::Json(place, test) => format!("json: {{ \"{place}\": {} }}", test.yaml()),
            Ask::Form(name, test) => format!("form: {{ {name}: {} }}", test.yaml()),
            Ask::Graphql { operations, fields } => {
                let kinds = if operations.is_empty() {
                    String::new()
                } else {
                    format!("operations: {operations:?}, ")
                };
                format!("graphql: {{ {kinds}fields: {fields:?} }}")
            }
            Ask::Mcp(tool, None) => format!("mcp: {{ tools: [{{ name: {tool} }}] }}"),
            Ask::Mcp(tool, Some(test)) => {
                format!("mcp: {{ tools: [{{ name: {tool}, args: {{ k: {} }} }}] }}", test.yaml())
            }
            Ask::Rpc(method) => format!("jsonrpc: {{ methods: [{method:?}] }}"),
            Ask::Git { fetch, push } => {
                let mut parts = Vec::new();
                if *fetch {
                    parts.push("fetch: true".to_owned());
                }
                if let Some(push) = push {
                    let mut said = Vec::new();
                    said.extend(push.refs.map(|refs| format!("refs: [{refs:?}]")));
                    for (name, flag) in
                        [("create", push.create), ("delete", push.delete), ("force", push.force)]
                    {
                        said.extend(flag.map(|flag| format!("{name}: {flag}")));
                    }
                    parts.push(format!("push: {{ {} }}", said.join(", ")));
                }
                format!("git: {{ {} }}", parts.join(", "))
            }
        }
    }

    /// The kind of body it takes to tell. `None`: the head tells.
    pub(crate) fn needs(&self, method: &str, path: &str) -> Option<Kind> {
        match self {
            Ask::Query(..) | Ask::Header(..) => None,
            Ask::Json(..) | Ask::Graphql { .. } | Ask::Mcp(..) | Ask::Rpc(..) => Some(Kind::Json),
            Ask::Form(..) => Some(Kind::Form),
            Ask::Git { push, .. } => (push.is_some() && pushes(method, path)).then_some(Kind::Push),
        }
    }

    pub(crate) fn is_met(&self, method: &str, path: &str, rest: &Rest, deny: bool) -> bool {
        let untyped = |text: &str| Value::Untyped(text.to_owned());
        match (self, &rest.body) {
            (Ask::Query(name, test), _) => test.holds(&named(name, &rest.query), deny),
            (Ask::Header(_, test), _) => {
                test.holds(&rest.header.iter().map(|text| untyped(text)).collect::<Vec<_>>(), deny)
            }
            (Ask::Json(_, test) | Ask::Form(_, test), Body::Empty) => test.holds(&[], deny),
            (Ask::Json(place, test), body) => match body.json() {
                Some(json) => test.holds(&at(place, &json), deny),
                None => deny,
            },
            (Ask::Form(name, test), Body::Form(pairs)) => test.holds(&named(name, pairs), deny),
            (Ask::Form(..), _) => deny,
            (Ask::Graphql { .. }, Body::Empty) => false,
            (Ask::Graphql { operations, fields }, Body::Graphql(asked)) => {
                let kind = |kind: &&str| operations.is_empty() || operations.contains(kind);
                let named = |asked: &Vec<&str>, all| {
                    let mut asked = asked.iter().map(|field| fields.contains(field));
                    if all { asked.all(|named| named) } else { asked.any(|named| named) }
                };
                match deny {
                    false => asked.iter().all(|(own, asked)| kind(own) && named(asked, true)),
                    true => asked.iter().any(|(own, asked)| kind(own) && named(asked, false)),
                }
            }
            // Anything else is no query, or one that nobody can be sure of.
            (Ask::Graphql { .. }, _) => deny,
            (Ask::Mcp(..) | Ask::Rpc(_), Body::Empty) => {
                !deny && matches!(self, Ask::Mcp(..)) && matches!(method, "GET" | "DELETE")
            }
            (Ask::Mcp(tool, test), Body::Messages(messages)) => {
                each(messages, deny, |(method, called, k)| match *method {
                    "tools/call" => {
                        let values: Vec<Value> = k.iter().cloned().collect();
                        called == tool && test.as_ref().is_none_or(|test| test.holds(&values, deny))
                    }
                    method => !deny && method == "ping",
                })
            }
            (Ask::Rpc(own), Body::Messages(messages)) => {
                each(messages, deny, |(method, ..)| match own.strip_suffix('*') {
                    Some(begin) => method.starts_with(begin),
                    None => method == own,
                })
            }
            (Ask::Mcp(..) | Ask::Rpc(_), _) => deny,
            (Ask::Git { fetch, push }, body) => match (service(method, path, rest), push) {
                (None, _) => false,
                (Some("fetch"), _) => *fetch,
                (Some(_), None) => false,
                (Some("look"), Some(push)) => !deny || push.is_all(),
                (Some(_), Some(push)) => match body {
                    Body::Push(commands) => each(commands, deny, |(what, name)| push.takes(what, name, deny)),
                    _ => deny,
                },
            },
        }
    }
}

/// All messages of a batch for an allow rule, one for a deny rule.
fn each<T>(items: &[T], deny: bool, takes: impl Fn(&T) -> bool) -> bool {
    if deny { items.iter().any(takes) } else { items.iter().all(takes) }
}

impl Push {
    /// In a deny rule what is said is blocked, and everything where nothing is said.
    fn is_all(&self) -> bool {
        self.refs.is_none()
            && self.flag("create", true)
            && self.flag("delete", true)
            && self.flag("force", true)
            && self.flag("update", true)
    }

    fn flag(&self, what: &str, deny: bool) -> bool {
        let said = match what {
            "create" => self.create,
            "delete" => self.delete,
            "force" => self.force,
            _ => None,
        };
        let nothing_said = self.create.or(self.delete).or(self.force).is_none();
        said.unwrap_or(if deny { nothing_said } else { what == "update" })
    }

    fn takes(&self, what: &str, name: &str, deny: bool) -> bool {
        let named = match self.refs {
            None => true,
            Some("refs/heads/bot/*") => {
                name.strip_prefix("refs/heads/bot/").is_some_and(|rest| !rest.contains('/'))
            }
            Some(_) => name.starts_with("refs/heads/"),
        };
        named && self.flag(what, deny)
    }
}

fn pushes(method: &str, path: &str) -> bool {
    method == "POST" && path.strip_suffix('/').unwrap_or(path).ends_with("/git-receive-pack")
}

/// What a request is to a git server.
fn service(method: &str, path: &str, rest: &Rest) -> Option<&'static str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let asks = |name: &str| rest.query.contains(&("service", name));
    match method {
        "POST" if path.ends_with("/git-receive-pack") => Some("push"),
        "POST" if path.ends_with("/git-upload-pack") => Some("fetch"),
        "GET" | "HEAD" if path.ends_with("/info/refs") && asks("git-receive-pack") => Some("look"),
        "GET" | "HEAD" if path.ends_with("/info/refs") && asks("git-upload-pack") => Some("fetch"),
        _ => None,
    }
}

/// A name in another case, or with brackets behind it, is the same name to some servers.
fn named(name: &str, pairs: &[(&'static str, &'static str)]) -> Vec<Value> {
    let mut values = Vec::new();
    for (own, value) in pairs {
        if own == &name {
            values.push(Value::Untyped((*value).to_owned()));
        } else if own.trim_end_matches("[]").eq_ignore_ascii_case(name) {
            values.push(Value::Unclear);
        }
    }
    values
}

/// What stands at a place. Nothing below nothing; below anything of another shape, nobody knows what.
fn at(place: &str, json: &Value) -> Vec<Value> {
    fn under(key: &str, value: &Value) -> Vec<Value> {
        match value {
            Value::Map(entries) => {
                let alike: Vec<_> = entries.iter().filter(|(own, _)| own.eq_ignore_ascii_case(key)).collect();
                match alike[..] {
                    [] => vec![],
                    [(own, value)] if *own == key => vec![value.clone()],
                    _ => vec![Value::Unclear],
                }
            }
            Value::Null => vec![],
            _ => vec![Value::Unclear],
        }
    }
    fn each(value: &Value) -> Vec<Value> {
        match value {
            Value::List(items) => items.clone(),
            Value::Null => vec![],
            _ => vec![Value::Unclear],
        }
    }
    let mut values = vec![json.clone()];
    for step in place.split('.') {
        let (key, list) = step.strip_suffix("[*]").map_or((step, false), |key| (key, true));
        values = values.iter().flat_map(|value| under(key, value)).collect();
        if list {
            values = values.iter().flat_map(each).collect();
        }
    }
    values
}

impl Rest {
    pub(crate) fn random(random: &mut Random) -> Self {
        let some = |random: &mut Random, names: &[&'static str]| {
            (0..random.below(3)).map(|_| (random.of(names), random.of(TEXTS))).collect::<Vec<_>>()
        };
        let mut query = some(random, &["q", "q", "q", "Q", "q[]", "z"]);
        if random.once_in(3) {
            query.push(("service", random.of(&["git-receive-pack", "git-upload-pack", "x"])));
        }
        Rest {
            query,
            header: (0..random.below(3)).map(|_| random.of(TEXTS)).collect(),
            body: Body::random(random),
        }
    }

    /// As it stands behind the path.
    pub(crate) fn in_url(&self) -> String {
        let pairs: Vec<String> =
            self.query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }
}

fn escaped(text: &str) -> String {
    text.replace(',', "%2C").replace(' ', "%20")
}

impl Body {
    fn random(random: &mut Random) -> Self {
        match random.below(9) {
            0 => Body::Empty,
            1..4 => Body::Json(json(random, 0)),
            4 => Body::Form(
                (0..1 + random.below(3))
                    .map(|_| (random.of(&["a", "a", "A", "a[]", "b"]), random.of(TEXTS)))
                    .collect(),
            ),
            5 => Body::Graphql(
                (0..1 + random.below(2))
                    .map(|_| {
                        (random.of(OPERATIONS), (0..1 + random.below(2)).map(|_| random.of(FIELDS)).collect())
                    })
                    .collect(),
            ),
            6 => Body::Messages(
                (0..1 + random.below(3))
                    .map(|_| {
                        let method =
                            random.of(&["tools/call", "tools/call", "ping", "net_version", "eth_call"]);
                        (method, random.of(&["get", "put"]), random.once_in(2).then(|| scalar(random)))
                    })
                    .collect(),
            ),
            _ => {
                // A ref that is changed twice is none of git's.
                let mut commands: Vec<(&'static str, &'static str)> = Vec::new();
                for _ in 0..1 + random.below(3) {
                    let name = random.of(REFS);
                    if !commands.iter().any(|(_, own)| *own == name) {
                        commands.push((random.of(&["create", "delete", "force", "update"]), name));
                    }
                }
                Body::Push(commands)
            }
        }
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Body::Empty => None,
            Body::Json(_) | Body::Graphql(_) | Body::Messages(_) => Some(Kind::Json),
            Body::Form(_) => Some(Kind::Form),
            Body::Push(_) => Some(Kind::Push),
        }
    }

    /// Whatever it is meant for, it is JSON, too.
    fn json(&self) -> Option<Value> {
        match self {
            Body::Json(value) => Some(value.clone()),
            // None of the places in rules is in these.
            Body::Graphql(_) => Some(Value::Map(vec![])),
            Body::Messages(messages) if messages.len() == 1 => Some(Value::Map(vec![])),
            Body::Messages(messages) => Some(Value::List(vec![Value::Map(vec![]); messages.len()])),
            Body::Empty | Body::Form(_) | Body::Push(_) => None,
        }
    }

    pub(crate) fn content_type(&self) -> &'static str {
        match self.kind() {
            None | Some(Kind::Json) => "application/json",
            Some(Kind::Form) => "application/x-www-form-urlencoded",
            Some(Kind::Push) => "application/x-git-receive-pack-request",
        }
    }

    pub(crate) fn bytes(&self) -> String {
        match self {
            Body::Empty => String::new(),
            Body::Json(value) => printed(value),
            Body::Form(pairs) => {
                let pairs: Vec<String> =
                    pairs.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
                pairs.join("&")
            }
            Body::Graphql(operations) => {
                let mut text = String::new();
                for (number, (kind, fields)) in operations.iter().enumerate() {
                    write!(text, "{kind} O{number} {{ {} }} ", fields.join(" ")).expect(FITS);
                }
                format!("{{\"query\":{text:?}}}")
            }
            Body::Messages(messages) => {
                let texts: Vec<String> = messages
                    .iter()
                    .map(|(method, tool, k)| {
                        let k = k.as_ref().map(|k| format!("\"k\":{}", printed(k))).unwrap_or_default();
                        format!(
                            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"{tool}","arguments":{{{k}}}}}}}"#
                        )
                    })
                    .collect();
                if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(",")) }
            }
            Body::Push(commands) => {
                let (zero, one, two) = ("0".repeat(40), "1".repeat(40), "2".repeat(40));
                let mut text = String::new();
                for (what, name) in commands {
                    let (old, new) = match *what {
                        "create" => (&zero, &one),
                        "delete" => (&one, &zero),
                        // To itself: surely no step back. What is not proved is forced.
                        "update" => (&one, &one),
                        _ => (&one, &two),
                    };
                    let line = format!("{old} {new} {name}");
                    write!(text, "{:04x}{line}", line.len() + 4).expect(FITS);
                }
                text + "0000"
            }
        }
    }
}

fn scalar(random: &mut Random) -> Value {
    match random.below(6) {
        0 => Value::Null,
        1 => Value::Bool(random.once_in(2)),
        2 => Value::Number(random.of(&[5, 7, -1])),
        _ => Value::Text(random.of(TEXTS)),
    }
}

fn json(random: &mut Random, depth: u64) -> Value {
    match random.below(6) {
        _ if depth > 2 => scalar(random),
        0 => Value::List((0..random.below(3)).map(|_| json(random, depth + 1)).collect()),
        1 if depth > 0 => scalar(random),
        _ => {
            let mut entries: Vec<(&'static str, Value)> = Vec::new();
            for _ in 0..random.below(5) {
                let key = random.of(&["a", "o", "b", "l", "A", "L"]);
                if !entries.iter().any(|(own, _)| *own == key) {
                    let list = key == "l" && random.once_in(2);
                    let value = match list {
                        true => Value::List((0..random.below(3)).map(|_| json(random, depth + 1)).collect()),
                        false => json(random, depth + 1),
                    };
                    entries.push((key, value));
                }
            }
            Value::Map(entries)
        }
    }
}

fn printed(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(",");
    match value {
        Value::Null => "null".into(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::List(items) => format!("[{}]", list(items.iter().map(printed).collect())),
        Value::Map(entries) => {
            format!(
                "{{{}}}",
                list(entries.iter().map(|(key, value)| format!("{key:?}:{}", printed(value))).collect())
            )
        }
        Value::Untyped(_) | Value::Unclear => unreachable!("bodies are not made of these"),
    }
}
