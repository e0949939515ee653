//! Values as text that is read as the same value again.

use super::{Entry, Node, Value};

/// In double quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Without quotes where nobody could take it for something else.
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if starts_well && text.chars().all(plain) { text.to_owned() } else { quoted(text) }
}

/// On one line. What had quotes keeps them where they tell a text from a number.
pub(crate) fn flow(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Scalar(text) if node.quoted && is_typed(text) => quoted(text),
        Value::Scalar(text) if !node.quoted && is_plain(text) => text.clone(),
        Value::Scalar(text) => word(text),
        Value::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => mapping(entries),
    }
}

/// `{ a: 1, b: [x] }`; nothing for none.
pub(crate) fn mapping(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let fields: Vec<String> =
        entries.iter().map(|entry| format!("{}: {}", word(&entry.key), flow(&entry.value))).collect();
    format!("{{ {} }}", fields.join(", "))
}

/// Is it something else than a text, without quotes?
fn is_typed(text: &str) -> bool {
    let letter = text.starts_with(|c: char| c.is_ascii_alphabetic());
    !letter || ["true", "false", "null"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Plain as it was written: quotes would make a text of a number (`5`), and words such as `5/hour` need none.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '+');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain)
}
