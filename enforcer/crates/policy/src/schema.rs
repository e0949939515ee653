//! The language as JSON Schema (2020-12), for editors and for CI.
//!
//! Written from the tables the readers use, so a word cannot be in one and not in the other. It says
//! what the shape of a file can say; names that refer to nothing, and values that do not count, are
//! for `compile`. Words that would be refused as not enforced yet (E030) are not in it.

use serde_json::{Map, Value, json};

use crate::document::{CATALOGUE, Form, POLICY, Shape, Text};

/// The schema of a policy file. The same text at every call.
pub fn schema() -> Value {
    of_file(&POLICY, "enforcer policy", "What one agent may do. What no rule allows is refused.")
}

/// The schema of a catalogue, `services/NAME.yaml`.
pub fn catalogue_schema() -> Value {
    of_file(&CATALOGUE, "enforcer catalogue", "What the requests of one service are called.")
}

fn of_file(shape: &Shape, title: &str, about: &str) -> Value {
    let mut schema = object(shape);
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!(title));
    schema.insert("description".into(), json!(about));
    Value::Object(schema)
}

fn form(form: &Form) -> Map<String, Value> {
    match form {
        Form::Text(text) => map(self::text(text)),
        // YAML reads `42` and `true` as other types; for us, they are texts like any other.
        Form::Prose => map(json!({ "type": ["string", "number", "boolean"] })),
        Form::Words(words) => {
            map(json!({ "enum": words.iter().flat_map(|w| spellings(w)).collect::<Vec<_>>() }))
        }
        Form::Section(shape) => object(shape),
        Form::OneOf(shape) => {
            let mut object = object(shape);
            // Not `maxProperties`: while one types, editors count the half-written key.
            let each: Vec<Value> = shape.names().map(|name| json!({ "required": [name] })).collect();
            object.insert("oneOf".into(), json!(each));
            object
        }
        Form::List(items) => list(items),
        Form::OneOrList(items) => map(json!({ "anyOf": [self::form(items), list(items)] })),
        Form::Named(values) => map(json!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": crate::document::NAME.pattern },
            "additionalProperties": self::form(values),
        })),
        Form::Keyed(values) => map(json!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": self::form(values),
        })),
        Form::Scalar => map(json!({ "type": ["string", "number", "boolean", "null"] })),
        Form::Any => Map::new(),
        Form::Either(forms) => map(json!({ "anyOf": forms.iter().map(self::form).collect::<Vec<_>>() })),
    }
}

fn object(shape: &Shape) -> Map<String, Value> {
    let fields = shape.known.iter().filter(|field| !shape.not_here.contains(&field.name));
    let properties: Map<String, Value> = fields
        .map(|field| {
            let mut schema = form(field.form);
            schema.insert("description".into(), json!(field.about));
            (field.name.to_owned(), Value::Object(schema))
        })
        .collect();
    let mut object = map(json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "minProperties": 1,
    }));
    if !shape.needs.is_empty() {
        object.insert("required".into(), json!(shape.needs));
    }
    object
}

fn list(items: &Form) -> Map<String, Value> {
    map(json!({ "type": "array", "minItems": 1, "items": form(items) }))
}

fn text(text: &Text) -> Value {
    let mut written = json!({ "type": "string", "pattern": text.pattern, "examples": text.examples });
    if let Some(example) = text.examples.first() {
        // What editors say in the place of the pattern.
        written["patternErrorMessage"] = json!(format!("write for example `{example}`"));
    }
    match text.number {
        Some((least, most)) => {
            json!({ "anyOf": [written, { "type": "integer", "minimum": least, "maximum": most }] })
        }
        None => written,
    }
}

/// A word as YAML may read it: `1` is a number and `true` a boolean, unless quoted.
fn spellings(word: &str) -> Vec<Value> {
    let typed = word.parse::<u64>().map(Value::from).or_else(|_| word.parse::<bool>().map(Value::from));
    typed.into_iter().chain([json!(word)]).collect()
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
