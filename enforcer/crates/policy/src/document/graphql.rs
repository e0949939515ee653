//! `graphql` in a rule: which operations, which fields.

use super::fields;
use super::reader::{Fields, Reader};
use super::rule::Effect;
use super::values;
use crate::body::GraphqlKind;
use crate::matcher::{FieldPath, GraphqlCheck};
use crate::yaml::Entry;

pub(super) fn read(r: &mut Reader<'_>, entry: &Entry, effect: Effect) -> Option<GraphqlCheck> {
    let fields = r.section(entry, &fields::GRAPHQL)?;
    if effect == Effect::Deny {
        for name in ["deny_fields", "max_depth", "persisted"] {
            if let Some(entry) = fields.get(name) {
                let hint = "a deny rule blocks what it names: use `operations` and `fields`";
                r.error_with("E021", &entry.key_span, format!("`{name}` does nothing in a deny rule"), hint);
            }
        }
    }
    Some(GraphqlCheck {
        operations: fields.get("operations").map(|entry| kinds(r, entry)),
        fields: fields.get("fields").map(|entry| paths(r, entry)),
        deny_fields: fields.get("deny_fields").map(|entry| paths(r, entry)).unwrap_or_default(),
        max_depth: fields.get("max_depth").and_then(|entry| values::count(r, entry)),
        persisted: persisted(r, fields),
    })
}

fn kinds(r: &mut Reader<'_>, entry: &Entry) -> Vec<GraphqlKind> {
    let mut kinds = Vec::new();
    for text in r.one_or_list(entry) {
        match text.value.as_str() {
            "query" => kinds.push(GraphqlKind::Query),
            "mutation" => kinds.push(GraphqlKind::Mutation),
            "subscription" => kinds.push(GraphqlKind::Subscription),
            _ => r.error_with(
                "E001",
                &text.span,
                format!("`{}` is not a kind of operation", crate::canon::shown(&text.value)),
                "write query, mutation or subscription; names of operations are the client's choice and no ground to stand on",
            ),
        }
    }
    kinds
}

fn paths(r: &mut Reader<'_>, entry: &Entry) -> Vec<FieldPath> {
    let mut paths = Vec::new();
    for text in r.one_or_list(entry) {
        match FieldPath::parse(&text.value) {
            Ok(path) => paths.push(path),
            Err(why) => r.error("E001", &text.span, why),
        }
    }
    paths
}

fn persisted(r: &mut Reader<'_>, fields: Fields<'_>) -> Vec<String> {
    let texts = fields.get("persisted").map(|entry| r.one_or_list(entry)).unwrap_or_default();
    texts.into_iter().map(|text| text.value).collect()
}
