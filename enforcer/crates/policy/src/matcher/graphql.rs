//! Checks on GraphQL: kinds of operations, fields by their path, depth.

use std::fmt;

use crate::body::{Body, Graphql, GraphqlKind, GraphqlOperation, query};
use crate::canon::Request;

/// In an allow rule all operations have to be within all of it. In a deny rule one operation of these
/// kinds with one of these fields is enough.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GraphqlCheck {
    /// `None`: any
    pub(crate) operations: Option<Vec<GraphqlKind>>,
    /// `None`: any
    pub(crate) fields: Option<Vec<FieldPath>>,
    pub(crate) deny_fields: Vec<FieldPath>,
    pub(crate) max_depth: Option<u64>,
    /// Queries that the server keeps, by hash or id, which nobody can look into.
    pub(crate) persisted: Vec<String>,
}

/// `repository.issues`, `*` for any one field, `**` for any number. It stands for the field and all below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldPath {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Name(Box<str>),
    One,
    Many,
}

impl FieldPath {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let malformed = || {
            format!(
                "`{}` is not a field; write for example `createIssue` or `repository.issues.*`",
                crate::canon::shown(text)
            )
        };
        let part = |part: &str| match part {
            "*" => Ok(Part::One),
            "**" => Ok(Part::Many),
            name => {
                let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                    && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                if good { Ok(Part::Name(name.into())) } else { Err(malformed()) }
            }
        };
        let parts = text.split('.').map(part).collect::<Result<Vec<Part>, String>>()?;
        // Matching goes back at each of them.
        if parts.len() > 16 || parts.iter().filter(|part| **part == Part::Many).count() > 2 {
            return Err(format!("`{text}` is too long, or has more than two `**`"));
        }
        Ok(FieldPath { text: text.into(), parts })
    }

    /// Is this field, or one above it, what the path stands for?
    fn begins(&self, leaf: &[String]) -> bool {
        begins(&self.parts, leaf)
    }

    /// Is it a way to this field, or below it?
    fn passes(&self, way: &[String]) -> bool {
        passes(&self.parts, way)
    }

    /// As a deny rule reads it: wherever in the query the field stands.
    fn within(&self, leaf: &[String]) -> bool {
        (0..leaf.len()).any(|start| leaf.get(start..).is_some_and(|rest| self.begins(rest)))
    }
}

fn begins(parts: &[Part], leaf: &[String]) -> bool {
    let Some((part, rest)) = parts.split_first() else { return true };
    match (part, leaf.split_first()) {
        (Part::Many, _) => {
            (0..=leaf.len()).any(|skip| leaf.get(skip..).is_some_and(|leaf| begins(rest, leaf)))
        }
        (Part::One, Some((_, below))) => begins(rest, below),
        (Part::Name(own), Some((name, below))) => **own == **name && begins(rest, below),
        (Part::One | Part::Name(_), None) => false,
    }
}

fn passes(parts: &[Part], way: &[String]) -> bool {
    match (parts.split_first(), way.split_first()) {
        (_, None) | (None, _) | (Some((Part::Many, _)), _) => true,
        (Some((Part::One, rest)), Some((_, below))) => passes(rest, below),
        (Some((Part::Name(own), rest)), Some((name, below))) => **own == **name && passes(rest, below),
    }
}

impl GraphqlCheck {
    pub(crate) fn holds(&self, request: &Request, wide: bool) -> bool {
        match asked(request) {
            Asked::Nothing => false,
            Asked::Unclear(_) => wide,
            Asked::For(graphql) if wide => {
                graphql.persisted.iter().any(|id| !self.persisted.contains(id))
                    || graphql.operations.iter().any(|operation| self.blocks(operation))
            }
            Asked::For(graphql) => self.lacking(&graphql).is_none(),
        }
    }

    fn blocks(&self, operation: &GraphqlOperation) -> bool {
        let names = |fields: &Vec<FieldPath>| {
            operation.leaves.iter().any(|leaf| fields.iter().any(|field| field.within(leaf)))
        };
        self.operations.as_ref().is_none_or(|kinds| kinds.contains(&operation.kind))
            && self.fields.as_ref().is_none_or(names)
    }

    /// What a request lacks, for an allow rule. Names of fields are the query's, values never.
    pub(crate) fn lacks(&self, request: &Request) -> String {
        match asked(request) {
            Asked::Nothing => "graphql: it is no GraphQL request".into(),
            Asked::Unclear(why) => format!("graphql: the query is unclear: {why}"),
            Asked::For(graphql) => format!("graphql: {}", self.lacking(&graphql).unwrap_or_default()),
        }
    }

    fn lacking(&self, graphql: &Graphql) -> Option<String> {
        if graphql.persisted.iter().any(|id| !self.persisted.contains(id)) {
            return Some("it names a persisted query, which cannot be looked into; send its text".into());
        }
        graphql.operations.iter().find_map(|operation| {
            let kind = operation.kind;
            if self.operations.as_ref().is_some_and(|kinds| !kinds.contains(&kind)) {
                return Some(format!("no {} may be sent", kind.word()));
            }
            operation.leaves.iter().find_map(|leaf| {
                let shown = crate::canon::shown(&leaf.join("."));
                // Says only what type a thing has; but the thing itself is asked for, and a mutation is done.
                let is_meta = |fields: &[FieldPath]| match leaf.split_last() {
                    Some((name, way)) if name == "__typename" => {
                        way.is_empty() || fields.iter().any(|field| field.passes(way))
                    }
                    Some(_) | None => false,
                };
                if self.deny_fields.iter().any(|field| field.within(leaf)) {
                    return Some(format!("field `{shown}` may not be selected"));
                }
                if let Some(fields) = &self.fields
                    && !is_meta(fields)
                    && !fields.iter().any(|field| field.begins(leaf))
                {
                    let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
                    return Some(format!("field `{shown}` is not among {}", fields.join(", ")));
                }
                let depth = u64::try_from(leaf.len()).unwrap_or(u64::MAX);
                let most = self.max_depth.filter(|most| depth > *most)?;
                Some(format!("field `{shown}` is deeper than {most}"))
            })
        })
    }
}

enum Asked {
    Nothing,
    Unclear(String),
    For(Graphql),
}

/// What the request asks for: a POST in its body, a GET in its query, never both.
fn asked(request: &Request) -> Asked {
    let pairs: Vec<_> = query(request.target.query().unwrap_or_default()).collect();
    let in_query = Graphql::in_pairs(pairs.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())));
    let in_query = match in_query {
        Ok(asked) => asked,
        Err(why) => return Asked::Unclear(why),
    };
    match (&request.body, in_query) {
        (Body::Json(body), None) => match Graphql::in_json(&body.0) {
            Ok(graphql) => Asked::For(graphql),
            Err(why) => Asked::Unclear(why),
        },
        (Body::Json(_), Some(_)) => {
            Asked::Unclear("a query stands in the URL and another in the body".into())
        }
        (Body::Empty, Some(graphql)) => Asked::For(graphql),
        (Body::Empty, None) => Asked::Nothing,
        (Body::Unread | Body::Form(_) | Body::Push(_), _) => {
            Asked::Unclear(format!("it is {}, not JSON", request.body.kind()))
        }
    }
}

/// For receipts.
pub(crate) fn summary(request: &Request) -> Option<String> {
    match asked(request) {
        Asked::For(graphql) => Some(graphql.summary()),
        Asked::Nothing | Asked::Unclear(_) => None,
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
