//! What a GraphQL request asks for: which operations, and which fields by their path from the root.
//!
//! Fragments are put where they are spread, aliases are looked through, `@skip` and `@include` are taken
//! for not there: what is judged is everything the request could select. Every operation of a document
//! counts, whichever of them `operationName` names.

mod parse;

use super::json::{Entry, Json};
use parse::{Document, Selection};

/// Bounds what fragments that spread fragments can unfold to.
const MAX_FIELDS: usize = 5_000;
const MAX_TEXT: usize = 512 * 1024;
const MAX_DEPTH: usize = 64;

/// What is asked for by one request, a batch included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Graphql {
    pub(crate) operations: Vec<Operation>,
    /// Queries that only the server has: by hash or id.
    pub(crate) persisted: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    /// Of every field that selects nothing further, the names from the root.
    pub(crate) leaves: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Query,
    Mutation,
    Subscription,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Query => "query",
            Kind::Mutation => "mutation",
            Kind::Subscription => "subscription",
        }
    }
}

/// Names under which servers take the id of a query that they have.
const IDS: &[&str] = &["id", "documentId", "doc_id", "queryId", "query_id", "hash"];

impl Graphql {
    pub(crate) fn in_json(body: &Json) -> Result<Self, String> {
        let mut all = Graphql::default();
        match body {
            Json::List(items) if !items.is_empty() => {
                items.iter().try_for_each(|item| all.add(item))?;
            }
            body => all.add(body)?,
        }
        Ok(all)
    }

    /// Of a GET, from the decoded pairs of its query. `None`: there is nothing of GraphQL in it.
    pub(crate) fn in_pairs<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Option<Self>, String> {
        let mut entries: Vec<(Box<str>, Json)> = Vec::new();
        for (name, value) in pairs {
            let known =
                ["query", "extensions", "operationName", "variables"].contains(&name) || IDS.contains(&name);
            if !known {
                continue;
            }
            if entries.iter().any(|(own, _)| **own == *name) {
                return Err(format!("`{name}` comes twice"));
            }
            let value = match name {
                "extensions" | "variables" => Json::parse(value.as_bytes())?,
                _ => Json::Text(value.into()),
            };
            entries.push((name.into(), value));
        }
        if entries.is_empty() { Ok(None) } else { Graphql::in_json(&Json::Map(entries)).map(Some) }
    }

    fn add(&mut self, item: &Json) -> Result<(), String> {
        let Json::Map(_) = item else { return Err("it is no object".into()) };
        let get = |json: &'_ Json, key: &str| match json.get(key) {
            Entry::Missing | Entry::One(Json::Null) => Ok(None),
            Entry::One(value) => Ok(Some(value.clone())),
            Entry::Unclear => Err(format!("`{key}` is there in two spellings")),
        };
        let text =
            |value: Json, key: &str| value.text().map(str::to_owned).ok_or(format!("`{key}` is no text"));
        let query = get(item, "query")?.map(|value| text(value, "query")).transpose()?;
        let mut persisted = Vec::new();
        for key in IDS {
            if let Some(value) = get(item, key)? {
                persisted.push(text(value, key)?);
            }
        }
        if let Some(extensions) = get(item, "extensions")?
            && let Some(stored) = get(&extensions, "persistedQuery")?
        {
            match get(&stored, "sha256Hash")? {
                Some(hash) => persisted.push(text(hash, "sha256Hash")?),
                None => return Err("`persistedQuery` has no hash".into()),
            }
        }
        match &query {
            None if persisted.is_empty() => return Err("there is no `query`".into()),
            None => {}
            Some(query) => {
                self.operations.extend(operations(&parse::parse(query)?)?);
                // A hash beside the text it is of adds nothing.
                let own = ring::digest::digest(&ring::digest::SHA256, query.as_bytes());
                let own: String = own.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                persisted.retain(|hash| !hash.eq_ignore_ascii_case(&own));
            }
        }
        self.persisted.extend(persisted);
        Ok(())
    }

    /// For receipts: kinds and fields at the root.
    pub(crate) fn summary(&self) -> String {
        let mut parts = Vec::new();
        for operation in &self.operations {
            let mut roots: Vec<&str> =
                operation.leaves.iter().filter_map(|leaf| Some(leaf.first()?.as_str())).collect();
            roots.dedup();
            roots.truncate(8);
            parts.push(format!("{} {}", operation.kind.word(), roots.join(" ")));
        }
        if !self.persisted.is_empty() {
            parts.push("persisted query".to_owned());
        }
        parts.join(", ")
    }
}

fn operations(document: &Document) -> Result<Vec<Operation>, String> {
    let mut text = 0;
    document
        .operations
        .iter()
        .map(|operation| {
            let mut unfolding =
                Unfolding { document, open: Vec::new(), leaves: Vec::new(), steps: 0, text: &mut text };
            unfolding.unfold(&operation.selections, &mut Vec::new())?;
            Ok(Operation { kind: operation.kind, leaves: unfolding.leaves })
        })
        .collect()
}

struct Unfolding<'d> {
    document: &'d Document,
    /// fragments that are being unfolded
    open: Vec<&'d str>,
    leaves: Vec<Vec<String>>,
    steps: usize,
    text: &'d mut usize,
}

impl<'d> Unfolding<'d> {
    fn unfold(&mut self, selections: &'d [Selection], path: &mut Vec<String>) -> Result<(), String> {
        for selection in selections {
            self.steps += 1;
            if self.steps > MAX_FIELDS || path.len() > MAX_DEPTH || self.open.len() > MAX_DEPTH {
                return Err("its fragments unfold to too much".into());
            }
            match selection {
                Selection::Field(name, below) => {
                    path.push(name.clone());
                    if below.is_empty() {
                        *self.text += path.iter().map(String::len).sum::<usize>();
                        if *self.text > MAX_TEXT {
                            return Err("it selects too much".into());
                        }
                        self.leaves.push(path.clone());
                    } else {
                        self.unfold(below, path)?;
                    }
                    path.pop();
                }
                Selection::Inline(below) => self.unfold(below, path)?,
                Selection::Spread(name) => {
                    let fragment = self.document.fragments.iter().find(|(own, _)| own == name);
                    let Some((name, below)) = fragment else { return Err("a fragment is missing".into()) };
                    if self.open.contains(&name.as_str()) {
                        return Err("a fragment spreads itself".into());
                    }
                    self.open.push(name);
                    self.unfold(below, path)?;
                    self.open.pop();
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Graphql, Json, parse};

    fn read(query: &str) -> Result<String, String> {
        let body = Json::Map(vec![("query".into(), Json::Text(query.into()))]);
        let asked = Graphql::in_json(&body)?;
        let told = asked.operations.iter().map(|operation| {
            let leaves: Vec<String> = operation.leaves.iter().map(|leaf| leaf.join(".")).collect();
            format!("{} {}", operation.kind.word(), leaves.join(" "))
        });
        Ok(told.collect::<Vec<_>>().join(" | "))
    }

    #[test]
    fn everything_that_could_be_selected_is_seen() {
        for (query, expected) in [
            ("{ a }", "query a"),
            (
                "query Q($x: [Int!]! = [1] @d) @e(a: {b: $x}) { a(b: \"}\", c: \"\"\"}{ \\\"\"\" \"\"\") { b, c } d }",
                "query a.b a.c d",
            ),
            ("mutation { fine: deleteAll { ok } }", "mutation deleteAll.ok"),
            ("{ a } #}\nmutation M { b }", "query a | mutation b"),
            ("{ a } # x\rmutation M { b }", "query a | mutation b"),
            (
                "{ ...F a @skip(if: true) } fragment F on Q { b { ...G } } fragment G on B { c ... on D @x { e } ... { f } }",
                "query b.c b.e b.f a",
            ),
            ("subscription { a(x: -1.5e3, y: $z, w: ENUM, v: [], u: {}) }", "subscription a"),
            ("{ a(s: \"\") { b(s: \"\\\"\\u00e9\") } }", "query a.b"),
        ] {
            assert_eq!(read(query).as_deref(), Ok(expected), "{query}");
        }
        for query in [
            "",
            "# { a }",
            "{",
            "{}",
            "{ a",
            "{ a { } }",
            "a",
            "query",
            "{ a } }",
            "{ ...F }",
            "{ ...F } fragment F on Q { ...F }",
            "type A { a: B }",
            "{ a } extend type Q { x: Y }",
            "\u{feff}{ a }",
            "{ é }",
            "{ a(b: \"x\ny\") }",
            "{ a(b: \"\\x\") }",
            "{ .. a }",
            "{ a } # \u{2028} mutation { b }",
            "fragment F on Q { a }",
            "{ a } fragment F on Q { a } fragment F on Q { b }",
            "{ a(b: \"\"\"x) }",
            "{ a(b: \"\"\" \\\" \"\"\") }",
        ] {
            assert!(read(query).is_err(), "{query}");
        }
        let deep = format!("{}a{}", "{ a ".repeat(40), "}".repeat(40));
        assert!(read(&deep).is_err());
        let bomb: String =
            (0..30).map(|n| format!("fragment F{n} on Q {{ ...F{m} ...F{m} }} ", m = n + 1)).collect();
        assert!(read(&format!("{{ ...F0 }} {bomb} fragment F30 on Q {{ a }}")).is_err());
    }

    #[test]
    fn queries_that_only_the_server_knows_are_named() {
        let read = |body: &str| Graphql::in_json(&Json::parse(body.as_bytes()).unwrap());
        let hash = "6be29da2ae5aa4b2c0d9a0be4d4a5f9a"; // of nothing here
        let asked = read(&format!(
            "{{\"extensions\":{{\"persistedQuery\":{{\"version\":1,\"sha256Hash\":\"{hash}\"}}}}}}"
        ))
        .unwrap();
        assert_eq!(asked.persisted, [hash]);
        let own = ring::digest::digest(&ring::digest::SHA256, b"{a}");
        let own: String = own.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let with = |hash: &str| {
            format!(
                "{{\"query\":\"{{a}}\",\"extensions\":{{\"persistedQuery\":{{\"sha256Hash\":\"{hash}\"}}}}}}"
            )
        };
        assert!(read(&with(&own)).unwrap().persisted.is_empty());
        assert_eq!(read(&with(hash)).unwrap().persisted, [hash]);
        assert_eq!(read("{\"query\":\"{a}\",\"documentId\":\"x\"}").unwrap().persisted, ["x"]);
        assert_eq!(read("[{\"query\":\"{a}\"},{\"query\":\"mutation{b}\"}]").unwrap().operations.len(), 2);
        for bad in
            ["{}", "[]", "[1]", "{\"query\":1}", "{\"query\":\"{a}\",\"Query\":\"mutation{b}\"}", "\"{a}\""]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(pieces in prop::collection::vec(prop::sample::select(&[
            "{", "}", "(", ")", "a", ":", "$", "...", "on", "fragment ", "query ", "\"", "\\", "\"\"\"", "#", "\n", "1", "@", "[", "]", "=", "!", "é",
        ][..]), 0..24)) {
            drop(parse::parse(&pieces.concat()));
        }
    }
}
