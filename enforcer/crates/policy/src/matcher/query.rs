//! Checks on fields with a name: of the query, of the headers, of a form.

use super::check::{Check, Value};
use crate::body::{Body, Pair, is_named, query};
use crate::canon::Request;

/// A field and what it has to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) check: Check,
}

/// In the query. A `+` is a space to most servers and a `+` to others: both readings count.
pub(crate) fn in_query(field: &Field, request: &Request, wide: bool) -> bool {
    let pairs: Vec<Pair> = query(request.target.query().unwrap_or_default()).collect();
    in_pairs(field, &pairs, wide)
}

/// In the headers. Fields that repeat are values that repeat.
pub(crate) fn in_headers(field: &Field, request: &Request, wide: bool) -> bool {
    let value =
        |bytes| std::str::from_utf8(bytes).map_or(Value::Unclear, |text: &str| Value::Text(text.trim()));
    let values: Vec<Value<'_>> = request.headers.values(&field.name).map(value).collect();
    field.check.holds(&values, wide)
}

/// In the form that is the body.
pub(crate) fn in_form(field: &Field, request: &Request, wide: bool) -> bool {
    match &request.body {
        Body::Form(form) => in_pairs(field, &form.0, wide),
        Body::Empty => field.check.holds(&[], wide),
        Body::Unread | Body::Json(_) | Body::Push(_) => wide,
    }
}

fn in_pairs(field: &Field, pairs: &[Pair], wide: bool) -> bool {
    let mut values = Vec::new();
    for pair in pairs {
        match is_named(&pair.name, &field.name) {
            Some(true) => {
                values.push(Value::Text(&pair.value));
                values.extend(pair.kept_plus.as_deref().map(Value::Text));
            }
            Some(false) => {}
            None => values.push(Value::Unclear),
        }
    }
    field.check.holds(&values, wide)
}
