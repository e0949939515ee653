//! Names of actions: `pulls/create`, `createPullRequest` and `create_pull` become words with `-` between.

use std::collections::BTreeSet;

use super::read::Operation;
use crate::catalog::KINDS;

/// A number may follow.
const MOST: usize = 56;

/// The operation's own name in our alphabet, else its method and path. Each once.
pub(super) fn of(operation: &Operation, taken: &mut BTreeSet<String>) -> String {
    let own = operation.id.as_deref().map(words).filter(|words| !words.is_empty());
    let words = own
        .unwrap_or_else(|| words(&format!("{} {}", operation.method.to_ascii_lowercase(), operation.path)));
    let mut base = words.join("-");
    if !base.starts_with(|c: char| c.is_ascii_lowercase()) {
        base = format!("do-{base}");
    }
    if KINDS.iter().any(|(kind, _)| *kind == base) {
        base.push_str("-request");
    }
    let base: String = base.chars().take(MOST).collect();
    let base = base.trim_end_matches('-').to_owned();
    let mut name = base.clone();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

/// In lower case; a capital after a small letter begins a word.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small = false;
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && small) {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
        small = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}
